//! What the queue refuses, and why it could not answer.

use nightmail_commit::{Abort, CommitFailure, LinkError, SubmitError};
use nightmail_core::codec::RowError;
use nightmail_engine::EngineError;
use thiserror::Error;

/// Why a change or a question was not carried out.
#[derive(Debug, Error, Clone)]
pub enum QueueError {
    /// The message is not in the queue (any more).
    #[error("no such message in the queue")]
    NoSuchMessage,
    /// A message without recipients, or one recipient named that it does not have.
    #[error("no such recipient")]
    NoSuchRecipient,
    /// The recipient has been delivered to or given up already: read the message again.
    #[error("the recipient has been retired already")]
    AlreadyRetired,
    /// The lease of the message's shard is held by another node, or was taken anew: somebody else works on the message.
    #[error("the message is another node's to work on")]
    LeaseLost,
    /// The id is in use: an id was not taken from [`crate::QueueIds`].
    #[error("the queue id is in use")]
    IdInUse,
    /// A row does not read as what its space holds.
    #[error("the queue holds a damaged row: {0}")]
    Damaged(#[from] RowError),
    /// Message bytes are missing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The engine or the heap failed.
    #[error(transparent)]
    Failed(#[from] CommitFailure),
}

impl From<EngineError> for QueueError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SubmitError<QueueError>> for QueueError {
    fn from(error: SubmitError<QueueError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Failed(failure),
        }
    }
}

impl From<QueueError> for Abort<QueueError> {
    fn from(error: QueueError) -> Self {
        Self::Refused(error)
    }
}
