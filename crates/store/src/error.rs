//! What the store refuses, and why it could not answer.

use nightmail_commit::{Abort, CommitFailure, LinkError, SubmitError};
use nightmail_core::codec::RowError;
use nightmail_engine::EngineError;
use nightmail_heap::HeapError;
use thiserror::Error;

/// Why a change or a question was not carried out.
#[derive(Debug, Error, Clone)]
pub enum StoreError {
    /// The account has no such mailbox.
    #[error("no such mailbox")]
    NoSuchMailbox,
    /// The account does not exist in the store.
    #[error("no such account")]
    NoSuchAccount,
    /// A mailbox of that name exists.
    #[error("a mailbox of that name exists")]
    AlreadyExists,
    /// The mailbox has inferior names and can only be emptied, or is INBOX.
    #[error("this mailbox cannot be deleted")]
    CannotDelete,
    /// The new name lies below the old one.
    #[error("a mailbox cannot be moved below itself")]
    CannotRename,
    /// The change would take the account over its quota.
    #[error("the account is over its quota")]
    OverQuota,
    /// The account has as many mailboxes or keywords as it may have.
    #[error("the account has reached its limit of {0}")]
    Limit(&'static str),
    /// The mailbox has used its last UID.
    #[error("the mailbox has run out of UIDs")]
    UidsExhausted,
    /// A row does not read as what its space holds.
    #[error("the store holds a damaged row: {0}")]
    Damaged(#[from] RowError),
    /// Message bytes are missing.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// The engine or the heap failed.
    #[error(transparent)]
    Failed(#[from] CommitFailure),
}

impl StoreError {
    /// Whether this is local trouble that may pass: the peer is to try again.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Link(_) | Self::Failed(_))
    }
}

impl From<EngineError> for StoreError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<HeapError> for StoreError {
    fn from(error: HeapError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SubmitError<StoreError>> for StoreError {
    fn from(error: SubmitError<StoreError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Failed(failure),
        }
    }
}

impl From<StoreError> for Abort<StoreError> {
    fn from(error: StoreError) -> Self {
        Self::Refused(error)
    }
}
