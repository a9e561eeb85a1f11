//! The message heap: message bytes in append-only segment files of one machine, or in packs that many nodes share.
//!
//! Owns the bytes of messages and nothing else: which blob lies where is kept by the caller, as a
//! [`Location`] in a row. A message is taken in by a [`BlobBuilder`], appended with others of its group by
//! [`Heap::append_group`] (one sync, or one object, for all of them), and read by range.
//!
//! **Invariant:** a record is never changed in place, and a segment's number is never used again.
//!
//! A heap has one of two backends:
//!
//! * *Segments*, one process on one machine: a directory holds `heap.key`, `heap.lock` and one `*.seg` file per
//!   segment: a header (`NMHEAPS1`, number, tag), then records. See [`record`] for their form.
//! * *Packs*, any number of nodes over a [`PackStore`] (an object store, a directory they share, the database): every
//!   group is a new pack of records of the same form with an index at its end, and its number is a [`Location`]'s
//!   segment. A node may keep a bounded cache of packs on its own disk.

mod blob;
mod builder;
mod chunk;
mod error;
mod heap;
mod key;
mod pack_store;
mod packs;
pub mod record;
mod scan;
mod segment;
mod segments;
mod writer;

pub use blob::BlobReader;
pub use builder::{BlobBuilder, PreparedBlob};
pub use error::HeapError;
pub use heap::{Heap, HeapOptions, HeapStats, Record};
pub use key::HeapKey;
#[cfg(any(test, feature = "conformance"))]
pub use pack_store::conformance;
pub use pack_store::{
    BoxFuture, DirectoryPacks, MemoryPacks, ObjectPacks, ObjectsError, ObjectsOptions, PackError,
    PackInfo, PackStore,
};
pub use packs::{IndexEntry, PackOptions, pack_time};
pub use record::Location;
pub use scan::{ScanSummary, ScannedRecord};
pub use segment::SegmentInfo;
