//! Requests about an account's mailboxes.

use nightmail_store::{MailboxEntry, MailboxName, MailboxState};

use super::{Answer, find_account};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, MailboxView};

/// Carries a request about mailboxes out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::MailboxList { account } => list(context, &account).await,
        R::MailboxCreate { account, name } => create(context, &account, &name).await,
        R::MailboxRename { account, name, to } => rename(context, &account, &name, &to).await,
        R::MailboxDelete { account, name } => delete(context, &account, &name).await,
        R::MailboxStatus { account, name } => status(context, &account, &name).await,
        _ => Err(AdminError::failed("not a request about a mailbox")),
    }
}

fn parse_name(text: &str) -> Result<MailboxName, AdminError> {
    MailboxName::parse(text).map_err(|error| AdminError::usage(format!("{text:?}: {error}")))
}

async fn list(context: &AdminContext, account: &str) -> Answer {
    let account = find_account(context, account).await?.id;
    let mut items = Vec::new();
    for listed in context.store.list(account).await? {
        let state = context.store.state(listed.entry.mailbox).await?;
        items.push(view(&listed.name, &listed.entry, &state));
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
    Ok(AdminResponse::Mailbox(view(&name, &entry, &state)))
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
    }
}
