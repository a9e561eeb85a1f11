//! `nightmail mailbox`.

use clap::Subcommand;
use nightmail_admin::AdminRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum MailboxCommand {
    /// List an account's mailboxes.
    List {
        /// The account.
        account: String,
    },
    /// Create a mailbox, and those above it.
    Create {
        /// The account.
        account: String,
        /// Its name; levels are parted by `/`.
        name: String,
    },
    /// Rename a mailbox and those below it.
    Rename {
        /// The account.
        account: String,
        /// Its name.
        name: String,
        /// Its new name.
        to: String,
    },
    /// Delete a mailbox and its messages.
    Delete {
        /// The account.
        account: String,
        /// Its name.
        name: String,
    },
    /// Show who may do what with a mailbox, or change it.
    ///
    /// Rights are letters: l see, r read, s mark as read, w other flags, i put in, k make below, x delete or rename, t
    /// mark as deleted, e expunge, a give rights, p post.
    Acl {
        /// The account.
        account: String,
        /// Its name.
        name: String,
        /// Whose rights: an account, or `anyone` in the domain; after `-`, rights are taken away.
        #[arg(requires = "rights", allow_hyphen_values = true)]
        identifier: Option<String>,
        /// The rights it has from now on, or `+` or `-` and some; empty for none.
        #[arg(allow_hyphen_values = true)]
        rights: Option<String>,
    },
    /// Show a mailbox's counters.
    Status {
        /// The account.
        account: String,
        /// Its name.
        name: String,
    },
}

impl MailboxCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::List { account } => AdminRequest::MailboxList { account },
            Self::Create { account, name } => AdminRequest::MailboxCreate { account, name },
            Self::Rename { account, name, to } => AdminRequest::MailboxRename { account, name, to },
            Self::Delete { account, name } => AdminRequest::MailboxDelete { account, name },
            Self::Acl {
                account,
                name,
                identifier,
                rights,
            } => AdminRequest::MailboxAcl {
                account,
                name,
                identifier,
                rights,
            },
            Self::Status { account, name } => AdminRequest::MailboxStatus { account, name },
        }
    }
}
