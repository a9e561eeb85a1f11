//! The heap itself: opening, appending, reading, and taking segments away.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use nightmail_core::Timestamp;

use crate::blob::{BlobReader, LocalReader};
use crate::builder::PreparedBlob;
use crate::chunk::Coders;
use crate::packs::{PackSource, Packs};
use crate::segments::Segments;
use crate::writer::Writer;
use crate::{
    HeapError, HeapKey, IndexEntry, Location, PackOptions, PackStore, ScanSummary, ScannedRecord,
    SegmentInfo,
};

/// Reads of packs that are under way at the same time for one caller.
pub(crate) const READS_AT_ONCE: usize = 8;

/// Blobs up to this size are read and unpacked without leaving the task; larger ones on a blocking thread.
pub(crate) const INLINE_BYTES: u64 = 64 << 10;

/// How a heap of segments is kept.
#[derive(Clone, Debug)]
pub struct HeapOptions {
    /// The key of blob ids; `None`: the one kept in the directory, made when there is none.
    pub key: Option<HeapKey>,
    /// A segment of at least this many bytes takes no further group.
    pub segment_bytes: u64,
    /// Segment files kept open for reading.
    pub open_files_max: usize,
}

impl Default for HeapOptions {
    fn default() -> Self {
        Self {
            key: None,
            segment_bytes: 64 << 20,
            open_files_max: 64,
        }
    }
}

/// One message to be appended.
#[derive(Clone, Debug)]
pub struct Record {
    /// Its bytes.
    pub blob: PreparedBlob,
    /// What it is accepted with, for the day the index is lost.
    pub envelope: Bytes,
    /// When it is accepted.
    pub created: Timestamp,
}

/// Counters since the heap was opened, which only grow, and its extent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct HeapStats {
    /// Groups appended.
    pub groups: u64,
    /// Records appended.
    pub records: u64,
    /// Bytes appended, headers included.
    pub bytes_written: u64,
    /// Times a segment was forced to stable storage, or packs put.
    pub syncs: u64,
    /// Groups that failed.
    pub failures: u64,
    /// Blobs opened for reading.
    pub reads: u64,
    /// Segments there are; packs, as the last walk of the compactor through all of them counted.
    pub segments: u64,
    /// Bytes of all segments.
    pub segment_bytes: u64,
}

/// A message heap. Cloning shares it.
#[derive(Clone)]
pub struct Heap {
    pub(crate) shared: Arc<Shared>,
    backend: Backend,
}

#[derive(Clone)]
enum Backend {
    Segments(Arc<Segments>, Writer),
    Packs(Arc<Packs>),
}

/// What a heap, its builders and its readers share.
pub(crate) struct Shared {
    pub key: HeapKey,
    pub coders: Coders,
    /// Where large blobs wait for their group.
    pub spill_dir: PathBuf,
    pub counters: Counters,
}

#[derive(Default)]
pub(crate) struct Counters {
    pub groups: AtomicU64,
    pub records: AtomicU64,
    pub bytes_written: AtomicU64,
    pub syncs: AtomicU64,
    pub failures: AtomicU64,
    pub reads: AtomicU64,
}

impl Shared {
    pub fn new(key: HeapKey, spill_dir: PathBuf) -> Self {
        Self {
            key,
            coders: Coders::default(),
            spill_dir,
            counters: Counters::default(),
        }
    }
}

impl Heap {
    /// Opens the heap of segments in `dir`, making the directory if it is not there.
    ///
    /// What a crash left behind the last whole record is cut off: no group that was answered reaches there.
    /// Fails with [`HeapError::Locked`] while another process has the heap open, and with
    /// [`HeapError::WrongKey`] under a key that is not the heap's.
    pub fn open(dir: impl AsRef<Path>, options: HeapOptions) -> Result<Self, HeapError> {
        let (shared, segments) = Segments::open(dir.as_ref(), options)?;
        let writer = Writer::start(Arc::clone(&segments))?;
        Ok(Self {
            shared,
            backend: Backend::Segments(segments, writer),
        })
    }

    /// Opens the heap of the packs in `store`, which any number of nodes use under one and the same `key`.
    ///
    /// The store is not asked anything yet. Fails when the spill directory cannot be made.
    pub fn open_packs(
        store: Arc<dyn PackStore>,
        key: HeapKey,
        options: PackOptions,
    ) -> Result<Self, HeapError> {
        let (shared, packs) = Packs::open(store, key, options)?;
        Ok(Self {
            shared,
            backend: Backend::Packs(packs),
        })
    }

    /// Appends `records` in order, one sync or one object for all, and returns where each lies.
    ///
    /// When it returns `Ok` they are on stable storage. After an error nothing of the group is kept, as far as
    /// this process sees; a crash right then, or a store that did not answer, may leave some of its records, to which
    /// no row refers. Over segments, dropping the future does not take the group back.
    pub async fn append_group(&self, records: Vec<Record>) -> Result<Vec<Location>, HeapError> {
        match &self.backend {
            Backend::Segments(_, writer) => writer.append(records).await,
            Backend::Packs(packs) => Box::pin(packs.append_group(records)).await,
        }
    }

    /// The plain bytes of `range`, cut to what there is. Reads and unpacks only the chunks it touches.
    ///
    /// Fails with [`HeapError::Gone`] when the segment was removed (look the location up again), with
    /// [`HeapError::Corrupt`] when a checksum does not hold, and with [`HeapError::Unavailable`] when the store of
    /// packs does not answer.
    pub async fn read(&self, location: &Location, range: Range<u64>) -> Result<Bytes, HeapError> {
        self.reader(location, range).await?.read_to_end().await
    }

    /// Reads whole blobs, each as [`Heap::read`] does, in one go. The caller bounds the sum of their sizes.
    pub async fn read_many(&self, locations: Vec<Location>) -> Vec<Result<Bytes, HeapError>> {
        match &self.backend {
            Backend::Segments(segments, _) => self.read_segments(segments, locations).await,
            Backend::Packs(_) => {
                let read = |at: Location| async move { self.read(&at, 0..u64::MAX).await };
                let reads = stream::iter(locations).map(read).buffered(READS_AT_ONCE);
                Box::pin(reads.collect()).await
            }
        }
    }

    /// Reads without leaving the task what is little together, the rest on one blocking thread.
    async fn read_segments(
        &self,
        segments: &Arc<Segments>,
        locations: Vec<Location>,
    ) -> Vec<Result<Bytes, HeapError>> {
        let octets: u64 = locations.iter().map(|location| location.size).sum();
        let count = locations.len();
        let (shared, segments) = (Arc::clone(&self.shared), Arc::clone(segments));
        let read =
            move |at: &Location| open_reader(&shared, &segments, at, 0..u64::MAX)?.read_now();
        if octets <= INLINE_BYTES {
            return locations.iter().map(read).collect();
        }
        let done = blocking(move || Ok(locations.iter().map(read).collect())).await;
        done.unwrap_or_else(|error| vec![Err(error); count])
    }

    /// Reads the plain bytes of `range`, cut to what there is, chunk by chunk. Fails as [`Heap::read`] does.
    pub async fn reader(
        &self,
        location: &Location,
        range: Range<u64>,
    ) -> Result<BlobReader, HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => {
                let reader = open_reader(&self.shared, segments, location, range)?;
                Ok(BlobReader::local(reader))
            }
            Backend::Packs(packs) => {
                count(&self.shared.counters.reads, 1);
                let source = PackSource::new(Arc::clone(packs), *location);
                Box::pin(BlobReader::over_pack(source, range)).await
            }
        }
    }

    /// The records at `from`, to be appended again as they are stored: how compaction moves them.
    ///
    /// They stay readable although their segment is removed. Records of packs are held in memory, and their checksums
    /// are checked; the caller bounds their sum. Fails as [`Heap::read`] does.
    pub async fn copy_records(&self, from: Vec<Location>) -> Result<Vec<Record>, HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => {
                let segments = Arc::clone(segments);
                let copy = move || from.iter().map(|from| segments.copy_record(from)).collect();
                blocking(copy).await
            }
            Backend::Packs(packs) => Box::pin(packs.copy_records(from)).await,
        }
    }

    /// At most `limit` segments with a number above `after`, oldest first.
    pub async fn segments(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<SegmentInfo>, HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => Ok(segments.list(after, limit)),
            Backend::Packs(packs) => Box::pin(packs.list(after, limit)).await,
        }
    }

    /// What is in a segment: of a pack by its index, of a segment file by its records' headers.
    ///
    /// A pack whose index does not read is [`HeapError::Corrupt`]; [`Heap::scan_segment`] finds its records.
    pub async fn index(&self, segment: &SegmentInfo) -> Result<Vec<IndexEntry>, HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => {
                let (segments, id) = (Arc::clone(segments), segment.id);
                let (records, _) = blocking(move || segments.scan(id)).await?;
                let entry = |record: ScannedRecord| IndexEntry {
                    blob: record.blob,
                    location: record.location,
                    created: record.created,
                };
                Ok(records.into_iter().map(entry).collect())
            }
            Backend::Packs(packs) => Box::pin(packs.index(segment)).await,
        }
    }

    /// Every record of `segment` whose header is whole, oldest first, past damage if there is any.
    ///
    /// Chunks are not read: [`Heap::read`] finds out whether they are whole.
    pub async fn scan_segment(
        &self,
        segment: u64,
    ) -> Result<(Vec<ScannedRecord>, ScanSummary), HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => {
                let segments = Arc::clone(segments);
                blocking(move || segments.scan(segment)).await
            }
            Backend::Packs(packs) => Box::pin(packs.scan(segment)).await,
        }
    }

    /// Removes a segment that no location names any more.
    ///
    /// Refuses the newest segment file, so that no number is ever used twice. A crash may bring the file back; then
    /// it is as it was, and can be removed again.
    pub async fn remove_segment(&self, segment: u64) -> Result<(), HeapError> {
        match &self.backend {
            Backend::Segments(segments, _) => {
                let segments = Arc::clone(segments);
                blocking(move || segments.remove(segment)).await
            }
            Backend::Packs(packs) => Box::pin(packs.remove(segment)).await,
        }
    }

    /// Whether the segments are packs.
    pub fn is_packed(&self) -> bool {
        matches!(self.backend, Backend::Packs(_))
    }

    /// The counters and the extent.
    pub fn stats(&self) -> HeapStats {
        let counters = &self.shared.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let (segments, segment_bytes) = match &self.backend {
            Backend::Segments(segments, _) => segments.extent(),
            Backend::Packs(packs) => packs.extent(),
        };
        HeapStats {
            groups: get(&counters.groups),
            records: get(&counters.records),
            bytes_written: get(&counters.bytes_written),
            syncs: get(&counters.syncs),
            failures: get(&counters.failures),
            reads: get(&counters.reads),
            segments,
            segment_bytes,
        }
    }
}

fn open_reader(
    shared: &Arc<Shared>,
    segments: &Segments,
    location: &Location,
    range: Range<u64>,
) -> Result<LocalReader, HeapError> {
    let (header, stored) = segments.open_record(location)?;
    count(&shared.counters.reads, 1);
    Ok(LocalReader::new(
        Arc::clone(shared),
        header.table,
        stored,
        range,
    ))
}

pub(crate) fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

/// Runs `work` on a blocking thread of the runtime.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, HeapError> + Send + 'static,
) -> Result<T, HeapError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => Err(HeapError::Io(error.to_string())),
    }
}
