//! Where packs are kept: an object store, a directory, or the database.
//!
//! A *pack* is an object that holds one group of records, written once and never changed. Its number is its name and
//! is never given to another pack.

#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
mod directory;
mod memory;
mod objects;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::ops::{Bound, Range};
use std::pin::Pin;

use bytes::Bytes;
use thiserror::Error;

pub use directory::DirectoryPacks;
pub use memory::MemoryPacks;
pub use objects::{ObjectPacks, ObjectsError, ObjectsOptions};

const SUFFIX: &str = ".pack";

/// A boxed future that borrows its store, so that `dyn PackStore` can be shared.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A pack as a listing shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PackInfo {
    /// Its number.
    pub pack: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// A pack store could not do what was asked. All of it is local trouble: a 4xx to a peer, never a 5xx.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum PackError {
    /// There is a pack of that number already; nothing was written.
    #[error("pack {0:016x} exists already")]
    Exists(u64),
    /// There is no such pack (any more).
    #[error("pack {0:016x} does not exist")]
    Missing(u64),
    /// No space is left.
    #[error("no space left for packs: {0}")]
    Full(String),
    /// The store does not answer now; it may later. A pack that was being written may be there or not.
    #[error("the pack store is not available: {0}")]
    Unavailable(String),
}

/// Keeps packs. Every method may be called from any number of tasks and nodes at once.
pub trait PackStore: Send + Sync + 'static {
    /// Writes a new pack: whole or not at all, and never over another.
    ///
    /// When this returns `Ok` the pack is on stable storage, or is so no later than any row committed afterwards.
    fn put<'a>(&'a self, pack: u64, bytes: Vec<Bytes>) -> BoxFuture<'a, Result<(), PackError>>;

    /// Reads `range`, cut to what there is.
    fn read<'a>(&'a self, pack: u64, range: Range<u64>) -> BoxFuture<'a, Result<Bytes, PackError>>;

    /// Removes a pack; it need not exist.
    fn delete<'a>(&'a self, pack: u64) -> BoxFuture<'a, Result<(), PackError>>;

    /// At most `limit` packs with a number above `after`, in ascending order.
    fn list<'a>(
        &'a self,
        after: Option<u64>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<PackInfo>, PackError>>;
}

/// The name of a pack's file or object.
fn pack_name(pack: u64) -> String {
    format!("{pack:016x}{SUFFIX}")
}

/// The number of the pack of that name.
fn pack_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    (digits.len() == 16)
        .then(|| u64::from_str_radix(digits, 16).ok())
        .flatten()
}

/// `range` cut to `bytes`; never backwards.
fn cut(range: &Range<u64>, bytes: u64) -> Range<u64> {
    let start = range.start.min(bytes);
    start..range.end.clamp(start, bytes)
}

fn numbers_above(after: Option<u64>) -> (Bound<u64>, Bound<u64>) {
    (
        after.map_or(Bound::Unbounded, Bound::Excluded),
        Bound::Unbounded,
    )
}
