//! What can go wrong.

use nightmail_commit::CommitFailure;
use nightmail_core::codec::RowError;
use nightmail_engine::EngineError;
use thiserror::Error;

/// The log of events cannot be read or written. Never the fault of whoever asks.
#[derive(Debug, Error)]
pub enum JournalError {
    /// The rows cannot be read.
    #[error("the log of events cannot be read: {0}")]
    Read(#[from] EngineError),
    /// The rows cannot be written.
    #[error("the log of events cannot be written: {0}")]
    Write(#[from] CommitFailure),
}

/// Why a block does not read.
#[derive(Debug, Error)]
pub(crate) enum BlockError {
    /// A field of it does not.
    #[error(transparent)]
    Row(#[from] RowError),
    /// It does not unpack.
    #[error("it does not unpack: {0}")]
    Packed(#[from] std::io::Error),
}
