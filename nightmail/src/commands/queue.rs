//! `nightmail queue`.

use clap::Subcommand;
use nightmail_admin::AdminRequest;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List messages waiting to be sent elsewhere, and those that are held back.
    List,
    /// Show such a message and what became of its recipients.
    Show {
        /// Its id.
        id: String,
    },
    /// Try a message again now; let it go where it is held back.
    Retry {
        /// Its id.
        #[arg(required_unless_present = "all")]
        id: Option<String>,
        /// Every message but those that are held back.
        #[arg(long, conflicts_with = "id")]
        all: bool,
    },
    /// Take a message out of the queue. Nobody is told.
    Remove {
        /// Its id.
        id: String,
    },
}

impl QueueCommand {
    pub(crate) fn request(self) -> AdminRequest {
        match self {
            Self::List => AdminRequest::QueueList {
                after: None,
                limit: None,
            },
            Self::Show { id } => AdminRequest::QueueShow { id },
            Self::Retry { id, .. } => AdminRequest::QueueRetry { id },
            Self::Remove { id } => AdminRequest::QueueRemove { id },
        }
    }
}
