//! What can go wrong in the heap. All of it is local trouble: a 4xx to a peer, never a 5xx.

use std::io;

use thiserror::Error;

use crate::PackError;

/// The heap could not do what was asked.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum HeapError {
    /// No space is left. Nothing was kept of the group; the heap works again when there is space.
    #[error("no space left for message bytes: {0}")]
    Full(String),
    /// The segment is not there (any more): look the blob's location up again.
    #[error("heap segment {segment} is gone")]
    Gone {
        /// The segment's number.
        segment: u64,
    },
    /// What was read is not what was written.
    #[error("heap segment {segment} is damaged at {offset}: {what}")]
    Corrupt {
        /// The segment's number.
        segment: u64,
        /// Where the record begins, in bytes.
        offset: u64,
        /// What does not hold.
        what: &'static str,
    },
    /// Another process has the heap open.
    #[error("the heap is in use by another process: {0}")]
    Locked(String),
    /// A blob or envelope is larger than a record can hold.
    #[error("{what} is larger than {limit} bytes")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: u64,
    },
    /// The key is not the one the heap was made with.
    #[error("the heap key does not fit heap segment {segment}")]
    WrongKey {
        /// The segment's number.
        segment: u64,
    },
    /// The newest segment cannot be removed.
    #[error("heap segment {segment} is the newest and stays")]
    Newest {
        /// The segment's number.
        segment: u64,
    },
    /// The store of message bytes does not answer now; it may later. What was being written may be there or not.
    #[error("the store of message bytes is not available: {0}")]
    Unavailable(String),
    /// Any other failure to read or write.
    #[error("the heap failed: {0}")]
    Io(String),
}

impl From<io::Error> for HeapError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full(error.to_string()),
            _ => Self::Io(error.to_string()),
        }
    }
}

impl From<PackError> for HeapError {
    fn from(error: PackError) -> Self {
        match error {
            PackError::Missing(segment) => Self::Gone { segment },
            PackError::Full(what) => Self::Full(what),
            PackError::Unavailable(what) => Self::Unavailable(what),
            PackError::Exists(_) => Self::Io(error.to_string()),
        }
    }
}
