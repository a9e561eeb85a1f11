//! What stops the channel here, as opposed to what a peer answers.

use nightmail_commit::{Abort, CommitFailure, LinkError, SubmitError};
use nightmail_core::codec::RowError;
use nightmail_engine::EngineError;
use nightmail_heap::HeapError;
use nightmail_queue::QueueError;
use thiserror::Error;

/// Why the channel could not do its work. None of it is a peer's fault.
#[derive(Debug, Error, Clone)]
pub enum DeliveryError {
    /// The queue refused or failed.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A report has nowhere to go: its addressee does not exist, or cannot take it now and will not later.
    #[error("the report cannot be delivered: {0}")]
    Unroutable(String),
    /// Message bytes are missing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The engine or the heap failed.
    #[error(transparent)]
    Failed(#[from] CommitFailure),
    /// TLS or the source of randomness could not be set up.
    #[error("the delivery channel cannot start: {0}")]
    Setup(String),
}

impl From<HeapError> for DeliveryError {
    fn from(error: HeapError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<EngineError> for DeliveryError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<RowError> for DeliveryError {
    fn from(error: RowError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SubmitError<DeliveryError>> for DeliveryError {
    fn from(error: SubmitError<DeliveryError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Failed(failure),
        }
    }
}

impl From<DeliveryError> for Abort<DeliveryError> {
    fn from(error: DeliveryError) -> Self {
        Self::Refused(error)
    }
}
