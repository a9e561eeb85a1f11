//! What can go wrong in an engine. All of it is local trouble: a 4xx to a peer, never a 5xx.

use std::io;

use thiserror::Error;

use crate::RowKey;

/// The engine could not do what was asked.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum EngineError {
    /// No space is left on the storage. The engine works again when there is.
    #[error("no space left for the store: {0}")]
    Full(String),
    /// The storage does not answer now; it may later.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// Another process has the storage open.
    #[error("the store is in use by another process: {0}")]
    Locked(String),
    /// What was read is not what was written.
    #[error("the store is damaged: {0}")]
    Corrupt(String),
    /// A key or value is longer than every engine takes; nothing was written.
    #[error("{what} of {bytes} bytes is longer than {limit}")]
    TooLarge {
        /// What is too long.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Any other failure to read or write.
    #[error("the store failed: {0}")]
    Io(String),
}

impl From<io::Error> for EngineError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

/// A batch was not committed, or it is not known whether it was.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum CommitError {
    /// The row `key` is not what the batch expected; nothing was written.
    #[error("a row of {} is not as expected", key.space)]
    Conflict {
        /// The first row whose check failed.
        key: RowKey,
    },
    /// The engine failed; the batch was applied whole or not at all.
    #[error(transparent)]
    Engine(#[from] EngineError),
}
