//! Why a recipient or a message is not accepted.

use nightmail_commit::{CommitFailure, LinkError, SubmitError};
use nightmail_directory::DirectoryError;
use nightmail_queue::QueueError;
use nightmail_store::StoreError;
use thiserror::Error;

/// Why a recipient is not accepted.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Nobody of that name in a domain of ours.
    #[error("no such user")]
    UnknownUser,
    /// Not a domain of ours, and the client may not relay.
    #[error("relaying is not allowed")]
    RelayDenied,
    /// The account takes no mail at present.
    #[error("the mailbox is disabled")]
    Disabled {
        /// Whether the sender is to try again.
        temporary: bool,
    },
    /// Aliases lead in a circle or to too many recipients.
    #[error("the address expands to a loop or to too many recipients")]
    Loop,
    /// The mailbox is full.
    #[error("the mailbox is full")]
    OverQuota {
        /// Whether the sender is to try again.
        temporary: bool,
    },
    /// The message is larger than the mailbox may ever hold.
    #[error("the message is larger than the mailbox may hold")]
    TooLarge,
}

/// The switch could not do its work. Always local trouble: the peer tries again.
#[derive(Debug, Error, Clone)]
pub enum SwitchError {
    /// The mailboxes failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The directory failed.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The queue failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The commit failed.
    #[error(transparent)]
    Failed(#[from] CommitFailure),
}

impl From<LinkError> for SwitchError {
    fn from(error: LinkError) -> Self {
        Self::Store(error.into())
    }
}

impl From<SubmitError<SwitchError>> for SwitchError {
    fn from(error: SubmitError<SwitchError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Failed(failure),
        }
    }
}

impl SwitchError {
    /// Whether the device has no space left.
    pub const fn is_full(&self) -> bool {
        matches!(
            self,
            Self::Failed(CommitFailure::Full(_))
                | Self::Store(StoreError::Failed(CommitFailure::Full(_)))
                | Self::Queue(QueueError::Failed(CommitFailure::Full(_)))
                | Self::Directory(DirectoryError::Failed(CommitFailure::Full(_)))
        )
    }
}
