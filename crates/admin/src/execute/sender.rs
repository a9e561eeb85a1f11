//! Requests about what accounts may send as.

use nightmail_directory::Sender;

use super::{Answer, find_account};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::AdminResponse;

/// Carries a request about what an account may send as out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::AccountSenderAdd { account, sender } => add(context, &account, &sender).await,
        R::AccountSenderRemove { account, sender } => remove(context, &account, &sender).await,
        R::AccountSenderList { account } => list(context, &account).await,
        _ => Err(AdminError::failed(
            "not a request about what an account may send as",
        )),
    }
}

async fn add(context: &AdminContext, account: &str, sender: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    context.directory.add_sender(id, parse(sender)?).await?;
    list(context, account).await
}

async fn remove(context: &AdminContext, account: &str, sender: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    context.directory.remove_sender(id, parse(sender)?).await?;
    list(context, account).await
}

async fn list(context: &AdminContext, account: &str) -> Answer {
    let id = find_account(context, account).await?.id;
    let senders = context.directory.senders(id).await?;
    Ok(AdminResponse::Senders {
        items: senders.iter().map(ToString::to_string).collect(),
    })
}

fn parse(text: &str) -> Result<Sender, AdminError> {
    Sender::parse(text).map_err(|error| {
        AdminError::usage(format!(
            "{text:?}: {error}; write it as user@domain, or @domain for all of its addresses"
        ))
    })
}
