//! Packs: message bytes in objects that any number of nodes write and read.
//!
//! A group is one new pack, written under a number that nobody else has. Nothing is appended to a pack and nothing in
//! it changes; compaction writes new ones and removes old ones.

mod cache;
mod form;
mod source;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{StreamExt, TryStreamExt, stream};
use nightmail_core::Timestamp;
use parking_lot::Mutex;

use crate::builder::{PreparedBlob, Source, Stored};
use crate::heap::{INLINE_BYTES, READS_AT_ONCE, Record, Shared, blocking, count};
use crate::record::Header;
use crate::scan::Scan;
use crate::segment;
use crate::{
    HeapError, HeapKey, Location, PackError, PackInfo, PackStore, ScanSummary, ScannedRecord,
    SegmentInfo,
};
use cache::PackCache;
pub use form::{IndexEntry, pack_time};
use form::{IndexFault, Numbers, Trailer, encode_index};
pub(crate) use source::PackSource;

/// Numbers tried for one pack.
const NUMBERS_MAX: usize = 5;
/// So much of a pack's end is read to see its index.
const INDEX_READ_BYTES: u64 = 64 << 10;
/// Records that lie within so many bytes are copied with one read.
const SPAN_BYTES_MAX: u64 = 16 << 20;
/// So much is read at once while a pack is scanned.
const SCAN_READ_BYTES: u64 = 8 << 20;
/// Pieces in which spilled bytes are read to be put.
const PIECE_BYTES: u64 = 1 << 20;
/// Bodies up to this size are copied together; larger ones are put as they are.
const COPIED_BODY_BYTES: u64 = 64 << 10;

/// How a heap over packs works on its node.
#[derive(Clone, Debug)]
pub struct PackOptions {
    /// Where large blobs wait for their group, in files that are unlinked at once. Made if it is not there.
    pub spill_dir: PathBuf,
    /// Where packs are cached; of this node alone, and readable by its user alone. What other nodes remove from the
    /// store stays here until its place is needed. `None`: every read goes to the store.
    pub cache_dir: Option<PathBuf>,
    /// Bytes that the cache may take on its disk.
    pub cache_bytes: u64,
    /// A group of more stored bytes is put as several packs. One larger blob is a pack of its own; it is put from
    /// memory, so its stored size is what an append of it needs.
    pub pack_bytes_max: u64,
    /// A number that no other process which writes to the store now has; the lowest 20 bits count. It keeps packs of
    /// two nodes apart where the store does not refuse to write one over another. `None`: a random one, which is
    /// enough where it does.
    pub writer: Option<u32>,
}

impl PackOptions {
    /// The usual bounds, without a cache.
    pub fn new(spill_dir: impl Into<PathBuf>) -> Self {
        Self {
            spill_dir: spill_dir.into(),
            cache_dir: None,
            cache_bytes: 4 << 30,
            pack_bytes_max: 32 << 20,
            writer: None,
        }
    }
}

/// The packs of a store, as one node sees them.
pub(crate) struct Packs {
    shared: Arc<Shared>,
    store: Arc<dyn PackStore>,
    cache: Option<Arc<PackCache>>,
    numbers: Numbers,
    pack_bytes_max: u64,
    walk: Mutex<Walk>,
}

/// What walks through the listing counted: packs and bytes.
#[derive(Default)]
struct Walk {
    /// The pack counted last.
    up_to: Option<u64>,
    under_way: (u64, u64),
    last: (u64, u64),
}

impl Walk {
    /// Counts a page of the listing; one that was seen already is not counted again.
    fn count(&mut self, after: Option<u64>, page: &[PackInfo], is_last: bool) {
        if after.is_none() {
            (self.up_to, self.under_way) = (None, (0, 0));
        }
        let up_to = self.up_to;
        for pack in page.iter().filter(|info| up_to < Some(info.pack)) {
            self.under_way.0 += 1;
            self.under_way.1 += pack.bytes;
            self.up_to = Some(pack.pack);
        }
        if is_last {
            self.last = self.under_way;
        }
    }
}

/// A pack ready to be put.
struct Encoded {
    parts: Vec<Bytes>,
    locations: Vec<Location>,
    bytes: u64,
}

impl Packs {
    /// Over `store`, under `key`. Makes the spill directory; the store is not asked anything yet.
    pub fn open(
        store: Arc<dyn PackStore>,
        key: HeapKey,
        options: PackOptions,
    ) -> Result<(Arc<Shared>, Arc<Self>), HeapError> {
        std::fs::create_dir_all(&options.spill_dir)?;
        let shared = Arc::new(Shared::new(key, options.spill_dir));
        let cache = options
            .cache_dir
            .map(|dir| Arc::new(PackCache::open(&dir, options.cache_bytes)));
        let packs = Self {
            shared: Arc::clone(&shared),
            store,
            cache,
            numbers: Numbers::of(options.writer)?,
            pack_bytes_max: options.pack_bytes_max,
            walk: Mutex::default(),
        };
        Ok((shared, Arc::new(packs)))
    }

    /// Puts `records`, in order, as one pack or several.
    pub async fn append_group(&self, records: Vec<Record>) -> Result<Vec<Location>, HeapError> {
        let mut locations = Vec::with_capacity(records.len());
        for part in self.split(records) {
            let put = self.put_pack(Arc::new(part)).await;
            if put.is_err() {
                count(&self.shared.counters.failures, 1);
            }
            locations.extend(put?);
        }
        Ok(locations)
    }

    fn split(&self, records: Vec<Record>) -> Vec<Vec<Record>> {
        let mut parts: Vec<Vec<Record>> = Vec::new();
        let mut bytes = 0;
        for record in records {
            bytes += record.blob.stored_size();
            match parts.last_mut() {
                Some(part) if bytes <= self.pack_bytes_max => part.push(record),
                _ => {
                    bytes = record.blob.stored_size();
                    parts.push(vec![record]);
                }
            }
        }
        parts
    }

    async fn put_pack(&self, records: Arc<Vec<Record>>) -> Result<Vec<Location>, HeapError> {
        for _ in 0..NUMBERS_MAX {
            let pack = self.numbers.draw(now());
            let encoded = self.encode(pack, &records).await?;
            match self.put(pack, encoded.parts).await {
                Ok(()) => {
                    let counters = &self.shared.counters;
                    count(&counters.groups, 1);
                    count(&counters.records, records.len() as u64);
                    count(&counters.bytes_written, encoded.bytes);
                    count(&counters.syncs, 1);
                    return Ok(encoded.locations);
                }
                Err(PackError::Exists(_)) => tracing::debug!(pack, "pack number taken"),
                Err(error) => return Err(error.into()),
            }
        }
        Err(HeapError::Unavailable("every pack number was taken".into()))
    }

    /// Puts a pack and, at the same time, keeps it in the cache.
    async fn put(&self, pack: u64, parts: Vec<Bytes>) -> Result<(), PackError> {
        let Some(cache) = &self.cache else {
            return self.store.put(pack, parts).await;
        };
        let kept = {
            let (cache, parts) = (Arc::clone(cache), parts.clone());
            tokio::task::spawn_blocking(move || cache.write(pack, 0, &parts))
        };
        let (put, _) = tokio::join!(self.store.put(pack, parts), kept);
        if put.is_err() {
            cache.forget(pack);
        }
        put
    }

    async fn encode(&self, pack: u64, records: &Arc<Vec<Record>>) -> Result<Encoded, HeapError> {
        let tag = self.shared.key.segment_tag(pack);
        let bytes: u64 = records.iter().map(|record| record.blob.stored_size()).sum();
        if bytes <= INLINE_BYTES {
            return encode(pack, tag, records);
        }
        let records = Arc::clone(records);
        blocking(move || encode(pack, tag, &records)).await
    }

    /// At most `limit` packs with a number above `after`, in ascending order.
    pub async fn list(
        &self,
        after: Option<u64>,
        limit: usize,
    ) -> Result<Vec<SegmentInfo>, HeapError> {
        let page = self.store.list(after, limit).await?;
        self.walk.lock().count(after, &page, page.len() < limit);
        let info = |PackInfo { pack, bytes }| SegmentInfo {
            id: pack,
            bytes,
            sealed: true,
        };
        Ok(page.into_iter().map(info).collect())
    }

    /// Packs and their bytes, as the last whole walk through the listing counted them.
    pub fn extent(&self) -> (u64, u64) {
        self.walk.lock().last
    }

    /// What is in a pack, by its index.
    pub async fn index(&self, segment: &SegmentInfo) -> Result<Vec<IndexEntry>, HeapError> {
        let fault = |fault| match fault {
            IndexFault::WrongTag => HeapError::WrongKey {
                segment: segment.id,
            },
            IndexFault::Damaged(what) => corrupt(segment.id, 0, what),
        };
        let from = segment.bytes.saturating_sub(INDEX_READ_BYTES);
        let mut tail = self.read(segment.id, from..segment.bytes).await?;
        let trailer = Trailer::read(&tail, segment.bytes).map_err(fault)?;
        let index_bytes = trailer.index_bytes();
        if index_bytes > tail.len() as u64 {
            let from = segment.bytes - index_bytes;
            tail = self.read(segment.id, from..segment.bytes).await?;
        }
        let start = tail.len().checked_sub(index_bytes as usize);
        let index = start.and_then(|start| tail.get(start..));
        let index = index.ok_or_else(|| corrupt(segment.id, 0, "index length"))?;
        let tag = self.shared.key.segment_tag(segment.id);
        trailer.entries(index, segment.id, tag).map_err(fault)
    }

    /// The records at `from`, as they are stored. Their checksums are checked, since the originals may go.
    pub async fn copy_records(&self, from: Vec<Location>) -> Result<Vec<Record>, HeapError> {
        let runs: Vec<Vec<Location>> = runs(&from).map(<[Location]>::to_vec).collect();
        let copied = stream::iter(runs).map(|run| self.copy_run(run));
        let mut copied = std::pin::pin!(copied.buffered(READS_AT_ONCE));
        let mut copies = Vec::with_capacity(from.len());
        while let Some(run) = copied.try_next().await? {
            copies.extend(run);
        }
        Ok(copies)
    }

    /// Copies records of one pack with one read.
    async fn copy_run(&self, run: Vec<Location>) -> Result<Vec<Record>, HeapError> {
        let Some(pack) = run.first().map(|first| first.segment) else {
            return Ok(Vec::new());
        };
        let span = span(&run);
        let bytes = self.read(pack, span.clone()).await?;
        let shared = Arc::clone(&self.shared);
        let copy = move || {
            run.iter()
                .map(|at| copy_record(&shared, at, &bytes, span.start))
                .collect()
        };
        blocking(copy).await
    }

    /// Every record of a pack whose header is whole, whatever its index says.
    pub async fn scan(&self, pack: u64) -> Result<(Vec<ScannedRecord>, ScanSummary), HeapError> {
        let file = Arc::new(tempfile::tempfile_in(&self.shared.spill_dir)?);
        let mut len = 0;
        loop {
            let bytes = self.read(pack, len..len + SCAN_READ_BYTES).await?;
            if bytes.is_empty() {
                break;
            }
            let at = len;
            len += bytes.len() as u64;
            let file = Arc::clone(&file);
            blocking(move || {
                use std::os::unix::fs::FileExt;
                Ok(file.write_all_at(&bytes, at)?)
            })
            .await?;
        }
        let tag = self.shared.key.segment_tag(pack);
        blocking(move || {
            let scan = Scan {
                file: &file,
                segment: pack,
                tag,
                to: len,
                check_chunks: false,
            };
            let mut records = Vec::new();
            let summary = scan.run(|record| records.push(record))?;
            Ok((records, summary))
        })
        .await
    }

    /// Removes a pack.
    pub async fn remove(&self, pack: u64) -> Result<(), HeapError> {
        self.store.delete(pack).await?;
        if let Some(cache) = &self.cache {
            cache.forget(pack);
        }
        Ok(())
    }

    /// Reads from the store, past the cache.
    async fn read(&self, pack: u64, range: std::ops::Range<u64>) -> Result<Bytes, HeapError> {
        Ok(self.store.read(pack, range).await?)
    }
}

/// The wall clock.
fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn corrupt(segment: u64, offset: u64, what: &'static str) -> HeapError {
    HeapError::Corrupt {
        segment,
        offset,
        what,
    }
}

/// The bytes of a pack with `records`; blocks while spilled bytes are read.
fn encode(pack: u64, tag: [u8; 8], records: &[Record]) -> Result<Encoded, HeapError> {
    let mut writer = PartsWriter {
        parts: Vec::new(),
        buffer: segment::header(pack, tag),
        written: 0,
    };
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        entries.push(writer.record(pack, tag, record)?);
    }
    let records_end = writer.end();
    encode_index(&entries, tag, records_end, &mut writer.buffer);
    writer.flush();
    Ok(Encoded {
        bytes: writer.end(),
        parts: writer.parts,
        locations: entries.iter().map(|entry| entry.location).collect(),
    })
}

/// Gathers a pack in parts; what is in memory already and large is not copied.
struct PartsWriter {
    parts: Vec<Bytes>,
    buffer: Vec<u8>,
    /// Bytes in `parts`.
    written: u64,
}

impl PartsWriter {
    fn end(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    fn record(
        &mut self,
        pack: u64,
        tag: [u8; 8],
        record: &Record,
    ) -> Result<IndexEntry, HeapError> {
        let offset = self.end();
        let header = Header {
            blob: record.blob.id(),
            created: record.created,
            envelope: record.envelope.clone(),
            table: record.blob.table().clone(),
        };
        let lengths = header.encode(tag, &mut self.buffer)?;
        let stored = record.blob.stored();
        let piece_bytes = match stored.source {
            Source::Memory(_) => lengths.body,
            Source::File(..) => PIECE_BYTES,
        };
        let mut start = 0;
        while start < lengths.body {
            let len = (lengths.body - start).min(piece_bytes);
            self.push(stored.read(start, len as usize)?);
            start += len;
        }
        Ok(IndexEntry {
            blob: header.blob,
            location: Location {
                segment: pack,
                offset,
                length: lengths.total(),
                header: lengths.header,
                size: header.table.size,
            },
            created: record.created,
        })
    }

    fn push(&mut self, bytes: Bytes) {
        if bytes.len() as u64 <= COPIED_BODY_BYTES {
            self.buffer.extend_from_slice(&bytes);
            return;
        }
        self.flush();
        self.written += bytes.len() as u64;
        self.parts.push(bytes);
    }

    fn flush(&mut self) {
        if !self.buffer.is_empty() {
            self.written += self.buffer.len() as u64;
            self.parts.push(std::mem::take(&mut self.buffer).into());
        }
    }
}

/// Splits locations into runs that are worth one read each: of one pack, in order, hardly anything between them.
fn runs(locations: &[Location]) -> impl Iterator<Item = &[Location]> {
    let mut from = 0;
    let mut used = 0;
    locations.chunk_by(move |last, next| {
        if last.segment != next.segment || next.offset < last.offset {
            (from, used) = (0, 0);
            return false;
        }
        if used == 0 {
            (from, used) = (last.offset, last.length);
        }
        let together = next.offset.saturating_add(next.length) - from;
        used += next.length;
        let joined = together <= SPAN_BYTES_MAX && together <= used.saturating_mul(2);
        if !joined {
            (from, used) = (0, 0);
        }
        joined
    })
}

/// From the first byte of a run to its last.
fn span(run: &[Location]) -> std::ops::Range<u64> {
    let end = |at: &Location| at.offset.saturating_add(at.length);
    let from = run.iter().map(|at| at.offset).min().unwrap_or_default();
    from..run.iter().map(end).max().unwrap_or_default()
}

/// The record at `at` from `bytes`, which begin at `start` of its pack.
fn copy_record(
    shared: &Arc<Shared>,
    at: &Location,
    bytes: &Bytes,
    start: u64,
) -> Result<Record, HeapError> {
    let fault = |what| corrupt(at.segment, at.offset, what);
    let from = (at.offset - start) as usize;
    let to = from.saturating_add(at.length as usize);
    if to > bytes.len() {
        return Err(fault("record ends early"));
    }
    let record = bytes.slice(from..to);
    let tag = shared.key.segment_tag(at.segment);
    let header = Header::decode_at(&record, tag, at).map_err(fault)?;
    let body = record.slice(at.header as usize..);
    for chunk in &header.table.chunks {
        let end = (chunk.start + u64::from(chunk.len)) as usize;
        let stored = body.get(chunk.start as usize..end);
        if stored.map(crc32fast::hash) != Some(chunk.crc) {
            return Err(fault("chunk checksum"));
        }
    }
    let stored = Stored {
        source: Source::Memory(body),
        place: (at.segment, at.offset),
    };
    Ok(Record {
        blob: PreparedBlob::new(Arc::clone(shared), header.blob, header.table, stored),
        envelope: header.envelope,
        created: header.created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(segment: u64, offset: u64, length: u64) -> Location {
        Location {
            segment,
            offset,
            length,
            header: 90,
            size: length,
        }
    }

    #[test]
    fn neighbours_are_read_together_and_others_apart() {
        let locations = [
            at(1, 24, 100),
            at(1, 124, 100),
            at(1, 300, 100),
            at(1, 9_000, 100),
            at(1, 9_150, 50),
            at(2, 24, 20 << 20),
            at(2, (20 << 20) + 24, 10),
            at(2, 24, 10),
        ];
        let lengths: Vec<_> = runs(&locations).map(<[Location]>::len).collect();
        assert_eq!(lengths, [3, 2, 1, 1, 1]);
        assert_eq!(span(&locations[..3]), 24..400);
        assert_eq!(runs(&[]).count(), 0);
    }
}
