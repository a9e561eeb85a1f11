//! The engine: an ordered key-value store with conditional batches.
//!
//! Owns what a row is (a key in a space and its value), how rows change (a [`Batch`]: all or nothing, under
//! checks) and when a change survives a power loss ([`Durability`]). Knows nothing of mail: what the bytes mean
//! is the store's business.
//!
//! **Invariant:** a commit that was answered `Ok` under [`Durability::Synced`] is on stable storage; one that
//! was answered `Conflict` left nothing behind.

mod batch;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod embedded;
mod error;
mod memory;
mod space;

use std::future::Future;
use std::pin::Pin;

pub use batch::{Batch, Check, Durability, Key, KeyRange, Order, RowKey, Value, Write};
pub use embedded::{EmbeddedEngine, EmbeddedOptions};
pub use error::{CommitError, EngineError};
pub use memory::MemoryEngine;
pub use space::Space;

/// A boxed future that borrows its engine, so that `dyn Engine` can be shared.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Counters since the engine was opened; they only grow.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct EngineStats {
    /// Batches committed.
    pub commits: u64,
    /// Batches refused because a check did not hold.
    pub conflicts: u64,
    /// Batches or syncs that failed for another reason.
    pub failures: u64,
    /// Times the log was forced to stable storage.
    pub syncs: u64,
    /// Bytes of keys and values in committed writes.
    pub bytes_written: u64,
    /// Times the engine was opened anew after its storage had failed.
    pub reopens: u64,
}

/// An ordered key-value store with conditional batches.
///
/// Every method may be called from any number of tasks at once. Reads see every commit that was answered
/// before they began; [`Engine::get_many`] and [`Engine::scan`] each see one state, never half a batch.
pub trait Engine: Send + Sync + 'static {
    /// The values of `keys`, in their order; `None` where there is no row.
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>>;

    /// At most `limit` rows of `space` whose keys lie in `range`, from its low end or its high end.
    ///
    /// Page by narrowing the range with [`KeyRange::beyond`].
    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>>;

    /// Applies `batch`, all or nothing, if every check holds.
    ///
    /// Under [`Durability::Synced`] the batch, and every batch committed before it, is on stable storage when
    /// this returns `Ok`. Under [`Durability::Soon`] it is visible at once and reaches the disk with the next
    /// synced batch or [`Engine::sync`]; a crash drops a tail of such batches, never one from the middle.
    ///
    /// After [`CommitError::Engine`] the outcome is unknown: the batch may or may not have been applied, whole.
    /// Dropping the future does not withdraw the batch.
    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>>;

    /// Forces every batch committed so far to stable storage.
    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>>;

    /// The counters.
    fn stats(&self) -> EngineStats;
}
