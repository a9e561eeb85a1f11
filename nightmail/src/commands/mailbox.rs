//! `nightmail mailbox`.

use clap::Subcommand;
use nightmail_admin::{AdminRequest, UniqueIdLine};

use super::services::CountOrOff;

/// What a file says of unique ids.
#[derive(Clone, Debug)]
pub(crate) struct UniqueIdFile(Vec<UniqueIdLine>);

impl UniqueIdFile {
    fn read(path: &str) -> Result<Self, String> {
        let text = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
        let lines = text.lines().map(str::trim).zip(1..);
        let lines = lines.filter(|(line, _)| !line.is_empty() && !line.starts_with('#'));
        let parse = |(line, number): (&str, u32)| {
            let parts = line.split_once(char::is_whitespace);
            let (id, message) = parts.ok_or(format!("line {number} names no message"))?;
            Ok(UniqueIdLine {
                id: id.to_owned(),
                message: message.trim().to_owned(),
            })
        };
        lines.map(parse).collect::<Result<_, _>>().map(Self)
    }
}

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
    /// Show how long a mailbox keeps its messages, or change it.
    Retention {
        /// The account.
        account: String,
        /// Its name.
        name: String,
        /// Days after which messages are removed, or `off`.
        #[arg(long)]
        days: Option<CountOrOff>,
        /// Messages that stay however old they are, the last ones, or `off`.
        #[arg(long)]
        keep: Option<CountOrOff>,
    },
    /// Bring deleted messages back.
    Undelete {
        /// The account.
        account: String,
        /// The mailbox they were in; all of them when absent.
        name: Option<String>,
        /// Only what was deleted from then on: 2h for two hours ago, 2026-11-22, or 2026-11-22T16:22:00Z.
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// The mailbox they come into; each where it was when absent.
        #[arg(long, value_name = "NAME")]
        into: Option<String>,
        /// List them and leave them deleted.
        #[arg(long)]
        list: bool,
    },
    /// Give messages in INBOX the unique ids that POP3 clients know from another server, so that they fetch nothing
    /// twice.
    ///
    /// Each line of the file names an id and, after a space, its message: the UID in INBOX here, or the Message-ID in
    /// angle brackets. Empty lines and lines that begin with # are passed over.
    ImportUniqueIds {
        /// The account.
        account: String,
        /// The file.
        #[arg(value_parser = UniqueIdFile::read)]
        file: UniqueIdFile,
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
            Self::ImportUniqueIds { account, file } => AdminRequest::UniqueIdImport {
                account,
                ids: file.0,
            },
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
            Self::Retention {
                account,
                name,
                days,
                keep,
            } => AdminRequest::MailboxRetention {
                account,
                name,
                days: days.map(|days| days.0),
                keep: keep.map(|keep| keep.0),
            },
            Self::Undelete {
                account,
                name,
                since,
                into,
                list,
            } => AdminRequest::MailboxUndelete {
                account,
                name,
                since,
                into,
                list,
            },
            Self::Status { account, name } => AdminRequest::MailboxStatus { account, name },
        }
    }
}
