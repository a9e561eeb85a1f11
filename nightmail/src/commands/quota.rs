//! `nightmail quota`.

use clap::{Args, Subcommand};
use nightmail_admin::{AdminRequest, AdminResponse};

use crate::error::CommandError;
use crate::operator::Operator;
use crate::size::Bound;

#[derive(Debug, Subcommand)]
pub(crate) enum QuotaCommand {
    /// Show an account's quota and what it uses.
    Show {
        /// The account.
        account: String,
    },
    /// Set an account's quota; what is not given stays.
    Set(SetArgs),
}

#[derive(Debug, Args)]
pub(crate) struct SetArgs {
    /// The account.
    account: String,
    /// Bytes it may keep, such as 5G, or none.
    #[arg(long, value_name = "SIZE", required_unless_present_any = ["messages", "mailboxes"])]
    bytes: Option<Bound>,
    /// Messages it may keep, or none.
    #[arg(long, value_name = "COUNT")]
    messages: Option<Bound>,
    /// Mailboxes it may have, or none.
    #[arg(long, value_name = "COUNT")]
    mailboxes: Option<Bound>,
}

/// Sets the bounds given beside those in force.
pub(crate) async fn set(
    operator: &mut Operator,
    args: SetArgs,
) -> Result<AdminResponse, CommandError> {
    let SetArgs {
        account,
        bytes,
        messages,
        mailboxes,
    } = args;
    let shown = operator
        .ask(AdminRequest::QuotaShow {
            account: account.clone(),
        })
        .await?;
    let AdminResponse::Quota(view) = shown else {
        return Ok(shown);
    };
    let mut quota = view.quota;
    if let Some(bytes) = bytes {
        quota.bytes = bytes.0;
    }
    if let Some(messages) = messages {
        quota.messages = messages.0;
    }
    if let Some(mailboxes) = mailboxes {
        quota.mailboxes = mailboxes.0;
    }
    operator
        .ask(AdminRequest::QuotaSet { account, quota })
        .await
}
