//! The message heap: message bytes in append-only segment files.
//!
//! Owns the bytes of messages and nothing else: which blob lies where is kept by the caller, as a
//! [`Location`] in a row. A message is taken in by a [`BlobBuilder`], appended with others of its group by
//! [`Heap::append_group`] (one sync for all of them), and read by range. All calls block; a caller on an async
//! runtime makes them from a blocking thread, except for small reads.
//!
//! **Invariant:** a record is never changed in place, and a segment's number is never used again.
//!
//! On disk, a directory holds `heap.key`, `heap.lock` and one `*.seg` file per segment: a header
//! (`NMHEAPS1`, number, tag), then records. See [`record`] for their form.

mod blob;
mod builder;
mod chunk;
mod error;
mod heap;
mod key;
mod pack_store;
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
pub use pack_store::{BoxFuture, PackError, PackInfo, PackStore};
pub use record::Location;
pub use scan::{ScanSummary, ScannedRecord};
pub use segment::SegmentInfo;
