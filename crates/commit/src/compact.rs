//! Compaction: giving the space of reclaimed blobs back to the file system.
//!
//! A sealed segment of which little is still live is read record by record; live records are appended again and their
//! rows pointed at the new place, each under the condition that the row still names the old one. Then the segment
//! goes. A crash in between leaves some records twice; the copy that no row names is dead and goes with its segment.
//!
//! **Invariant:** a segment whose newest record is younger than the grace period is not touched: its rows may still
//! be on their way.

use std::collections::HashMap;

use nightmail_core::Timestamp;
use nightmail_engine::{Batch, Check, CommitError, Durability, Value, Write};
use nightmail_heap::{Location, ScannedRecord, SegmentInfo};

use crate::blob::BlobRow;
use crate::committer::Committer;
use crate::intent::CommitFailure;
use crate::reclaim::get_blob_row;

/// Plain bytes moved in one group.
const GROUP_BYTES: u64 = 8 << 20;

/// Rewrites segments that hold little.
pub struct Compactor {
    committer: Committer,
    grace_millis: i64,
    /// Compact when less than this part of a segment is live, in percent.
    live_percent_max: u64,
    /// Segments as last counted.
    counted: HashMap<u64, Counted>,
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactionReport {
    /// Segments counted.
    pub examined: u64,
    /// Segments removed.
    pub removed: u64,
    /// Records moved.
    pub moved: u64,
    /// Bytes of the segments removed, less the bytes moved.
    pub reclaimed_bytes: u64,
}

#[derive(Clone, Copy)]
struct Counted {
    bytes: u64,
    live_bytes: u64,
}

struct Census {
    live: Vec<ScannedRecord>,
    live_bytes: u64,
    newest: Timestamp,
}

impl Compactor {
    /// A compactor over the store of `committer`.
    pub fn new(committer: Committer, grace_millis: i64, live_percent_max: u64) -> Self {
        Self {
            committer,
            grace_millis,
            live_percent_max,
            counted: HashMap::new(),
        }
    }

    /// Forgets what is known of the segments, so that the next run counts them again.
    pub fn recount(&mut self) {
        self.counted.clear();
    }

    /// Counts up to `segments_max` sealed segments that have not been counted and compacts those that pay.
    pub async fn run_once(
        &mut self,
        now: Timestamp,
        segments_max: usize,
    ) -> Result<CompactionReport, CommitFailure> {
        let mut report = CompactionReport::default();
        let candidates = self.candidates(segments_max).await?;
        for segment in candidates {
            let census = self.census(segment.id).await?;
            report.examined += 1;
            if census.newest.plus_millis(self.grace_millis) > now {
                continue;
            }
            let counted = Counted {
                bytes: segment.bytes,
                live_bytes: census.live_bytes,
            };
            self.counted.insert(segment.id, counted);
            if census.live_bytes * 100 < segment.bytes * self.live_percent_max {
                let moved = self.rewrite(segment.id, census.live).await?;
                report.moved += moved.records;
                self.counted.remove(&segment.id);
                report.removed += 1;
                report.reclaimed_bytes += segment.bytes.saturating_sub(moved.bytes);
            }
        }
        metrics::counter!("nightmail_heap_octets_reclaimed_total")
            .increment(report.reclaimed_bytes);
        metrics::gauge!("nightmail_heap_octets_reclaimable").set(self.reclaimable() as f64);
        Ok(report)
    }

    /// Bytes of the segments counted that no row names.
    pub fn reclaimable(&self) -> u64 {
        let dead = |counted: &Counted| counted.bytes.saturating_sub(counted.live_bytes);
        self.counted.values().map(dead).sum()
    }

    /// The first sealed segments that have not been counted.
    async fn candidates(&self, segments_max: usize) -> Result<Vec<SegmentInfo>, CommitFailure> {
        let segments = self.committer.heap().segments(None, usize::MAX).await?;
        let newest = segments.iter().map(|segment| segment.id).max();
        Ok(segments
            .into_iter()
            .filter(|segment| {
                segment.sealed
                    && Some(segment.id) != newest
                    && !self.counted.contains_key(&segment.id)
            })
            .take(segments_max)
            .collect())
    }

    /// Which records of a segment rows still name.
    async fn census(&self, segment: u64) -> Result<Census, CommitFailure> {
        let (records, _) = self.committer.heap().scan_segment(segment).await?;
        let mut census = Census {
            live: Vec::new(),
            live_bytes: 0,
            newest: Timestamp::default(),
        };
        for page in records.chunks(1000) {
            let keys: Vec<_> = page
                .iter()
                .map(|record| BlobRow::key(record.blob))
                .collect();
            let rows = self.committer.engine().get_many(&keys).await?;
            for (record, row) in page.iter().zip(rows) {
                census.newest = census.newest.max(record.created);
                if names(row.as_ref(), &record.location)? {
                    census.live_bytes += record.location.length;
                    census.live.push(record.clone());
                }
            }
        }
        Ok(census)
    }

    async fn rewrite(
        &self,
        segment: u64,
        live: Vec<ScannedRecord>,
    ) -> Result<Moved, CommitFailure> {
        let mut moved = Moved::default();
        let mut group = Vec::new();
        let mut bytes = 0;
        for record in live {
            bytes += record.size;
            group.push(record);
            if bytes >= GROUP_BYTES {
                moved += self.move_group(std::mem::take(&mut group)).await?;
                bytes = 0;
            }
        }
        moved += self.move_group(group).await?;
        self.committer.engine().sync().await?;
        self.committer.heap().remove_segment(segment).await?;
        Ok(moved)
    }

    async fn move_group(&self, group: Vec<ScannedRecord>) -> Result<Moved, CommitFailure> {
        if group.is_empty() {
            return Ok(Moved::default());
        }
        let heap = self.committer.heap();
        let old: Vec<Location> = group.iter().map(|record| record.location).collect();
        let mut copies = heap.copy_records(old).await?;
        for copy in &mut copies {
            // No row names it yet: the grace period keeps other compactions off it.
            copy.created = copy.created.max(crate::now());
        }
        let new = heap.append_group(copies).await?;
        let mut moved = Moved::default();
        for (record, location) in group.into_iter().zip(new) {
            moved.bytes += location.length;
            moved.records += 1;
            self.repoint(&record, location).await?;
        }
        Ok(moved)
    }

    /// Points a blob's row at its new place, unless the blob has gone or moved meanwhile.
    async fn repoint(
        &self,
        record: &ScannedRecord,
        location: Location,
    ) -> Result<(), CommitFailure> {
        let engine = self.committer.engine();
        loop {
            let Some((value, row)) = get_blob_row(engine.as_ref(), record.blob).await? else {
                return Ok(());
            };
            if row.location != record.location {
                return Ok(());
            }
            let key = BlobRow::key(record.blob);
            let moved = BlobRow { location, ..row };
            let batch = Batch {
                checks: vec![Check {
                    key: key.clone(),
                    expected: Some(value),
                }],
                writes: vec![Write {
                    key,
                    value: Some(moved.encode().into()),
                }],
            };
            match engine.commit(batch, Durability::Soon).await {
                Ok(()) => return Ok(()),
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Engine(error)) => return Err(error.into()),
            }
        }
    }
}

#[derive(Clone, Copy, Default)]
struct Moved {
    records: u64,
    bytes: u64,
}

impl std::ops::AddAssign for Moved {
    fn add_assign(&mut self, other: Self) {
        self.records += other.records;
        self.bytes += other.bytes;
    }
}

/// Whether a blob row names this place.
fn names(row: Option<&Value>, location: &Location) -> Result<bool, CommitFailure> {
    Ok(match row {
        Some(row) => BlobRow::decode(row)?.location == *location,
        None => false,
    })
}
