//! What a caller hands to the committer, and what comes back.

use bytes::Bytes;
use nightmail_core::codec::RowError;
use nightmail_engine::{Durability, RowKey};
use nightmail_heap::{HeapError, PreparedBlob};
use thiserror::Error;

use crate::tx::{Need, Tx};

/// Why `apply` did not finish.
#[derive(Debug)]
pub enum Abort<E> {
    /// It read a row that has not been loaded: load it and run again.
    Need(Need),
    /// The change is refused; nothing of it is written.
    Refused(E),
}

impl<E> Abort<E> {
    /// The same in another crate's error, so that intents compose.
    pub fn map<F>(self, refusal: impl FnOnce(E) -> F) -> Abort<F> {
        match self {
            Self::Need(need) => Abort::Need(need),
            Self::Refused(error) => Abort::Refused(refusal(error)),
        }
    }
}

impl<E> From<Need> for Abort<E> {
    fn from(need: Need) -> Self {
        Self::Need(need)
    }
}

/// The store could not carry out a change. Always local trouble, never the peer's fault.
#[derive(Debug, Error, Clone)]
pub enum CommitFailure {
    /// No space is left on the device.
    #[error("the store is out of space: {0}")]
    Full(String),
    /// The engine or the heap failed; whether the change was written is not known.
    #[error("the store is not available: {0}")]
    Unavailable(String),
    /// A row does not read as what its space holds.
    #[error("the store holds a damaged row: {0}")]
    Corrupt(String),
    /// The committer has been stopped.
    #[error("the store is shutting down")]
    Stopped,
}

impl From<HeapError> for CommitFailure {
    fn from(error: HeapError) -> Self {
        match error {
            HeapError::Full(_) => Self::Full(error.to_string()),
            HeapError::Corrupt { .. } => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<nightmail_engine::EngineError> for CommitFailure {
    fn from(error: nightmail_engine::EngineError) -> Self {
        match error {
            nightmail_engine::EngineError::Full(_) => Self::Full(error.to_string()),
            nightmail_engine::EngineError::Corrupt(_) => Self::Corrupt(error.to_string()),
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

impl From<RowError> for CommitFailure {
    fn from(error: RowError) -> Self {
        Self::Corrupt(error.to_string())
    }
}

/// What a submitted intent ended with when it did not succeed.
#[derive(Debug, Error)]
pub enum SubmitError<E> {
    /// `apply` refused.
    #[error("refused")]
    Refused(E),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] CommitFailure),
}

/// Message bytes that an intent brings along.
#[derive(Clone)]
pub struct NewBlob {
    /// The hashed and compressed bytes.
    pub blob: PreparedBlob,
    /// Who the message was accepted for; kept beside the bytes so that mail can be salvaged from the heap alone.
    pub envelope: Bytes,
    /// The encoded structure, kept as blob metadata.
    pub meta: Bytes,
}

/// The pure function of an intent: from rows read to rows written and a result. It may run more than once.
pub(crate) type Apply<T, E> = Box<dyn FnMut(&mut Tx<'_>) -> Result<T, Abort<E>> + Send>;

/// A change to the store.
pub struct Intent<T, E> {
    pub(crate) reads: Vec<RowKey>,
    pub(crate) blobs: Vec<NewBlob>,
    pub(crate) durability: Durability,
    pub(crate) apply: Apply<T, E>,
}

impl<T, E> Intent<T, E> {
    /// An intent that is answered after the sync. It reads no row that `reads` does not name before it runs;
    /// rows that turn out to be needed are loaded and it runs again.
    pub fn synced(apply: impl FnMut(&mut Tx<'_>) -> Result<T, Abort<E>> + Send + 'static) -> Self {
        Self {
            reads: Vec::new(),
            blobs: Vec::new(),
            durability: Durability::Synced,
            apply: Box::new(apply),
        }
    }

    /// An intent that is answered after the write and is on disk with the next synced group or 200 ms later.
    pub fn soon(apply: impl FnMut(&mut Tx<'_>) -> Result<T, Abort<E>> + Send + 'static) -> Self {
        Self {
            durability: Durability::Soon,
            ..Self::synced(apply)
        }
    }

    /// Names rows to load before `apply` first runs.
    #[must_use]
    pub fn reading(mut self, keys: impl IntoIterator<Item = RowKey>) -> Self {
        self.reads.extend(keys);
        self
    }

    /// Brings message bytes along; they are on stable storage before `apply` runs.
    #[must_use]
    pub fn with_blob(mut self, blob: NewBlob) -> Self {
        self.blobs.push(blob);
        self
    }
}
