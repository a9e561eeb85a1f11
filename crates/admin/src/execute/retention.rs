//! Requests about messages that go with time, and that come back.

use std::collections::HashMap;

use nightmail_core::{AccountId, MailboxId, Timestamp};
use nightmail_store::{FolderSettings, Quota};

use super::mailbox::parse_name;
use super::trace::parse_moment;
use super::{Answer, find_account};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::AdminResponse;
use crate::services::{DeletedView, RetentionView};

/// Carries such a request out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::MailboxRetention {
            account,
            name,
            days,
            keep,
        } => retention(context, &account, &name, (days, keep)).await,
        R::MailboxUndelete {
            account,
            name,
            since,
            into,
            list,
        } => {
            let account = find_account(context, &account).await?.id;
            let mailbox = match name {
                None => None,
                Some(name) => {
                    let entry = context.store.lookup(account, &parse_name(&name)?).await?;
                    Some(entry.mailbox)
                }
            };
            let now = nightmail_commit::now();
            let since = match since {
                None => Timestamp::from_millis(i64::MIN),
                Some(text) => parse_moment(&text, now)?,
            };
            match list {
                true => deleted(context, account, mailbox, since).await,
                false => undelete(context, account, mailbox, since, into).await,
            }
        }
        _ => Err(AdminError::failed("not a request about deleted messages")),
    }
}

/// Changes what is given, 0 for what is to be none, and shows what holds.
async fn retention(
    context: &AdminContext,
    account: &str,
    name: &str,
    (days, keep): (Option<u32>, Option<u32>),
) -> Answer {
    let account = find_account(context, account).await?.id;
    let name = parse_name(name)?;
    let mailbox = context.store.lookup(account, &name).await?.mailbox;
    let known = context.store.folder_settings(mailbox).await?;
    let set = |given: Option<u32>, known| match given {
        None => known,
        Some(given) => Some(given).filter(|given| *given > 0),
    };
    let settings = FolderSettings {
        expire_after_days: set(days, known.expire_after_days),
        keep_at_least: set(keep, known.keep_at_least),
    };
    if settings != known {
        context.store.set_folder_settings(mailbox, settings).await?;
    }
    Ok(AdminResponse::MailboxRetention(RetentionView {
        mailbox: name.to_string(),
        days: settings.expire_after_days,
        keep: settings.keep_at_least,
    }))
}

async fn names(
    context: &AdminContext,
    account: AccountId,
) -> Result<HashMap<MailboxId, String>, AdminError> {
    let listed = context.store.list(account).await?;
    let named = |listed: nightmail_store::Listed| (listed.entry.mailbox, listed.name.to_string());
    Ok(listed.into_iter().map(named).collect())
}

async fn deleted(
    context: &AdminContext,
    account: AccountId,
    mailbox: Option<MailboxId>,
    since: Timestamp,
) -> Answer {
    let names = names(context, account).await?;
    let found = context.store.deleted(account, mailbox, since).await?;
    let subjects = context.store.deleted_subjects(&found).await?;
    let items = found.into_iter().zip(subjects);
    let items = items.map(|(deleted, subject)| DeletedView {
        mailbox: names.get(&deleted.mailbox).cloned().unwrap_or_default(),
        uid: deleted.uid,
        at: Some(deleted.at.to_string()),
        subject: Some(subject),
        restored_to: None,
    });
    Ok(AdminResponse::Deleted {
        items: items.collect(),
    })
}

/// Brings messages back to where they were, and on into another folder where that is wanted.
async fn undelete(
    context: &AdminContext,
    account: AccountId,
    mailbox: Option<MailboxId>,
    since: Timestamp,
    into: Option<String>,
) -> Answer {
    let into = match into {
        None => None,
        Some(name) => {
            let entry = context.store.lookup(account, &parse_name(&name)?).await?;
            Some((entry.mailbox, name))
        }
    };
    let names = names(context, account).await?;
    let found = context.store.undelete(account, mailbox, since).await?;
    if let Some((target, _)) = &into {
        for of_one in found.chunk_by(|a, b| a.mailbox == b.mailbox) {
            let Some(first) = of_one.first().filter(|first| first.mailbox != *target) else {
                continue;
            };
            let mut uids: Vec<u32> = of_one.iter().map(|message| message.new_uid).collect();
            uids.sort_unstable();
            let none = Quota::default();
            let moved = context
                .store
                .move_messages(account, none, first.mailbox, *target, uids);
            moved.await?;
        }
    }
    let items = found.into_iter().map(|message| {
        let mailbox = names.get(&message.mailbox).cloned().unwrap_or_default();
        let target = into.as_ref().map(|(_, name)| name.clone());
        DeletedView {
            restored_to: Some(target.unwrap_or_else(|| mailbox.clone())),
            mailbox,
            uid: message.old_uid,
            at: None,
            subject: None,
        }
    });
    Ok(AdminResponse::Undeleted {
        items: items.collect(),
    })
}
