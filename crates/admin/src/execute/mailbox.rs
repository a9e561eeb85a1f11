//! Requests about an account's mailboxes.

use nightmail_store::{Grantee, MailboxEntry, MailboxName, MailboxState, Rights, RightsChange};

use super::{Answer, find_account, retention};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AclEntryView, AdminResponse, MailboxView};

/// Every account of the owner's domain.
const ANYONE: &str = "anyone";

/// Carries a request about mailboxes out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::MailboxList { account } => list(context, &account).await,
        R::MailboxCreate { account, name } => create(context, &account, &name).await,
        R::MailboxRename { account, name, to } => rename(context, &account, &name, &to).await,
        R::MailboxDelete { account, name } => delete(context, &account, &name).await,
        R::MailboxAcl {
            account,
            name,
            identifier,
            rights,
        } => acl(context, &account, &name, identifier, rights).await,
        R::MailboxStatus { account, name } => status(context, &account, &name).await,
        R::MailboxRetention { .. } | R::MailboxUndelete { .. } => {
            retention::execute(context, request).await
        }
        _ => Err(AdminError::failed("not a request about a mailbox")),
    }
}

pub(super) fn parse_name(text: &str) -> Result<MailboxName, AdminError> {
    MailboxName::parse(text).map_err(|error| AdminError::usage(format!("{text:?}: {error}")))
}

async fn list(context: &AdminContext, account: &str) -> Answer {
    let account = find_account(context, account).await?.id;
    let mut items = Vec::new();
    for listed in context.store.list(account).await? {
        let state = context.store.state(listed.entry.mailbox).await?;
        let acl = context.store.acl(listed.entry.mailbox).await?;
        items.push(MailboxView {
            shared_with: acl.entries().len(),
            ..view(&listed.name, &listed.entry, &state)
        });
    }
    Ok(AdminResponse::Mailboxes { items })
}

async fn create(context: &AdminContext, account: &str, name: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    context
        .store
        .create_mailbox(id, parse_name(name)?, None)
        .await?;
    status(context, account, name).await
}

async fn rename(context: &AdminContext, account: &str, name: &str, to: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    context
        .store
        .rename_mailbox(id, parse_name(name)?, parse_name(to)?)
        .await?;
    status(context, account, to).await
}

async fn delete(context: &AdminContext, account: &str, name: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    context.store.delete_mailbox(id, parse_name(name)?).await?;
    Ok(AdminResponse::Done)
}

async fn status(context: &AdminContext, account: &str, name: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    let name = parse_name(name)?;
    let entry = context.store.lookup(id, &name).await?;
    let state = context.store.state(entry.mailbox).await?;
    let acl = context.store.acl(entry.mailbox).await?;
    Ok(AdminResponse::Mailbox(MailboxView {
        shared_with: acl.entries().len(),
        ..view(&name, &entry, &state)
    }))
}

/// Changes an entry where one is named, and shows them all.
async fn acl(
    context: &AdminContext,
    account: &str,
    name: &str,
    identifier: Option<String>,
    rights: Option<String>,
) -> Answer {
    let owner = find_account(context, account).await?;
    let mailbox = context.store.lookup(owner.id, &parse_name(name)?).await?;
    let mailbox = mailbox.mailbox;
    if let Some(identifier) = identifier {
        let change = rights_change(&rights.unwrap_or_default())?;
        let (negative, identifier) = match identifier.strip_prefix('-') {
            Some(identifier) => (true, identifier),
            None => (false, identifier.as_str()),
        };
        let grantee = match identifier == ANYONE {
            true => Grantee::Anyone,
            false => Grantee::Account(find_account(context, identifier).await?.id),
        };
        if grantee == Grantee::Account(owner.id) {
            return Err(AdminError::refused("the owner has every right"));
        }
        let domain = owner.address.domain().as_str();
        context
            .store
            .set_acl(mailbox, domain, grantee, negative, change)
            .await?;
    }
    let mut items = vec![AclEntryView {
        identifier: owner.address.to_string(),
        rights: Rights::ALL.to_string(),
    }];
    for entry in context.store.acl(mailbox).await?.entries() {
        let name = match entry.grantee {
            Grantee::Anyone => Some(ANYONE.to_owned()),
            Grantee::Account(id) => {
                let record = context.directory.account(id).await?;
                record.map(|record| record.address.to_string())
            }
        };
        let mark = if entry.negative { "-" } else { "" };
        items.extend(name.map(|name| AclEntryView {
            identifier: format!("{mark}{name}"),
            rights: entry.rights.to_string(),
        }));
    }
    Ok(AdminResponse::MailboxAcl { items })
}

fn rights_change(text: &str) -> Result<RightsChange, AdminError> {
    let (change, letters): (fn(Rights) -> RightsChange, &str) =
        match (text.strip_prefix('+'), text.strip_prefix('-')) {
            (Some(letters), _) => (RightsChange::Add, letters),
            (_, Some(letters)) => (RightsChange::Remove, letters),
            _ => (RightsChange::Set, text),
        };
    let rights = Rights::parse(letters)
        .map_err(|error| AdminError::usage(format!("{error}; the rights are {}", Rights::ALL)))?;
    Ok(change(rights))
}

fn view(name: &MailboxName, entry: &MailboxEntry, state: &MailboxState) -> MailboxView {
    MailboxView {
        name: name.to_string(),
        id: entry.mailbox.to_string(),
        special_use: entry
            .special_use
            .map(|special_use| special_use.attribute().to_owned()),
        messages: state.exists,
        unseen: state.unseen,
        deleted: state.deleted,
        bytes: state.bytes,
        uid_validity: state.uid_validity.get(),
        uid_next: state.uid_next,
        highest_modseq: state.highest_modseq.get(),
        shared_with: 0,
    }
}
