//! Compaction: giving the space of reclaimed blobs back.
//!
//! The compactor walks through the segments, oldest first, and counts what rows still name in each. Of a segment in
//! which little is live, the live records are appended again and their rows pointed at the new place, each under the
//! condition that the row still names the old one. Then the segment goes. A crash in between leaves some records
//! twice; the copy that no row names is dead and goes with its segment.
//!
//! Packs are treated alike, and small ones are joined as well: what a busy hour writes in groups of a few messages ends
//! up in packs of a good size. A pack that no row names at all was written by a node that did not come to its commit;
//! it goes too.
//!
//! **Invariant:** a segment whose newest record is younger than the grace period is not touched: its rows may still
//! be on their way. Nor is a pack that is younger than twice [`CommitLimits::appended_age_max`], whatever the grace
//! period: until then a node may still name its records.
//!
//! [`CommitLimits::appended_age_max`]: crate::CommitLimits::appended_age_max

mod rewrite;

use std::collections::HashMap;

use futures_util::{StreamExt, stream};
use nightmail_core::Timestamp;
use nightmail_engine::Value;
use nightmail_heap::{HeapError, IndexEntry, Location, SegmentInfo, pack_time};

use crate::blob::BlobRow;
use crate::committer::Committer;
use crate::intent::CommitFailure;
use rewrite::Moving;

/// A pack of at least so many bytes is not joined with others; joined packs come to about four times as many.
const SMALL_PACK_BYTES: u64 = 4 << 20;
/// Small packs that are worth joining however little they hold.
const SMALL_PACKS_JOINED_MIN: usize = 16;
/// So many packs' worth of bytes is examined in the place of one segment, small packs counting as 64 KiB.
const PACK_BYTES_USUAL: u64 = 16 << 20;
const PACK_BYTES_COUNTED_MIN: u64 = 64 << 10;
/// Packs listed at once.
const PAGE: usize = 1000;
/// Packs whose contents are looked up at the same time.
const CENSUSES_AT_ONCE: usize = 8;
/// Rows looked up at once.
const ROWS_AT_ONCE: usize = 1000;

/// Rewrites segments that hold little.
pub struct Compactor {
    committer: Committer,
    grace_millis: i64,
    /// Compact when less than this part of a segment is live, in percent.
    live_percent_max: u64,
    /// Segments as last counted.
    counted: HashMap<u64, Counted>,
    /// The segment that the walk has come to.
    cursor: Option<u64>,
    /// The number of the walk.
    walk: u64,
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
    /// Whether the walk has come to the newest segment. The next run begins with the oldest again.
    pub complete: bool,
}

#[derive(Clone, Copy)]
struct Counted {
    bytes: u64,
    live_bytes: u64,
    /// The walk that last came by.
    walk: u64,
}

struct Census {
    segment: SegmentInfo,
    live: Vec<IndexEntry>,
    live_bytes: u64,
    newest: Timestamp,
}

/// What is to be done with a segment.
enum Verdict {
    /// Nothing: it is too young.
    Wait,
    /// Nothing: most of it is live.
    Keep,
    /// It is small: join it with others, if there are enough.
    Join,
    /// Little or nothing of it is live: move that and remove it.
    Empty,
}

impl Compactor {
    /// A compactor over the store of `committer`.
    pub fn new(committer: Committer, grace_millis: i64, live_percent_max: u64) -> Self {
        Self {
            committer,
            grace_millis,
            live_percent_max,
            counted: HashMap::new(),
            cursor: None,
            walk: 0,
        }
    }

    /// Forgets what was counted, so that segments are counted again as the walk comes by.
    pub fn recount(&mut self) {
        self.counted.clear();
    }

    /// Forgets what was counted and begins with the oldest segment.
    pub fn restart(&mut self) {
        self.counted.clear();
        self.cursor = None;
    }

    /// Counts up to `segments_max` sealed segments that have not been counted, of packs so many as come to about the
    /// same bytes, and compacts those that pay.
    pub async fn run_once(
        &mut self,
        now: Timestamp,
        segments_max: usize,
    ) -> Result<CompactionReport, CommitFailure> {
        let (candidates, complete) = self.candidates(now, segments_max).await?;
        let mut report = CompactionReport {
            complete,
            ..CompactionReport::default()
        };
        let packed = self.committer.heap().is_packed();
        let mut moving = Moving::default();
        let mut joining = Moving::default();
        for some in candidates.chunks(if packed { CENSUSES_AT_ONCE } else { 1 }) {
            for census in self.census_all(some).await? {
                report.examined += 1;
                match self.judge(&census, now) {
                    Verdict::Wait => {}
                    Verdict::Keep => self.note(&census),
                    Verdict::Join => joining.add(census),
                    Verdict::Empty => moving.add(census),
                }
                // A segment's file goes at once; what is left of several packs makes one.
                if !packed || moving.is_plenty() {
                    self.rewrite(std::mem::take(&mut moving), &mut report)
                        .await?;
                }
                if joining.is_plenty() {
                    self.rewrite(std::mem::take(&mut joining), &mut report)
                        .await?;
                }
            }
        }
        let pays = joining.live_bytes() >= SMALL_PACK_BYTES
            || joining.segments() >= SMALL_PACKS_JOINED_MIN
            || (moving.live_bytes() > 0 && !joining.is_empty());
        if pays {
            moving.append(std::mem::take(&mut joining));
        }
        self.rewrite(moving, &mut report).await?;
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

    /// The next sealed segments of the walk that have not been counted and may be old enough; true at its end.
    async fn candidates(
        &mut self,
        now: Timestamp,
        segments_max: usize,
    ) -> Result<(Vec<SegmentInfo>, bool), CommitFailure> {
        let heap = self.committer.heap().clone();
        let packed = heap.is_packed();
        let page_max = if packed { PAGE } else { usize::MAX };
        let mut room = (segments_max as u64).saturating_mul(PACK_BYTES_USUAL);
        let mut found = Vec::new();
        loop {
            let page = heap.segments(self.cursor, page_max).await?;
            let newest = page.last().map(|segment| segment.id);
            for &segment in &page {
                if room == 0 {
                    return Ok((found, false));
                }
                self.cursor = Some(segment.id);
                if let Some(counted) = self.counted.get_mut(&segment.id) {
                    counted.walk = self.walk;
                } else if packed && !self.is_old(pack_time(segment.id), now) {
                    // Those behind it are younger still.
                    return Ok((found, self.end_walk()));
                } else if packed || (segment.sealed && newest != Some(segment.id)) {
                    room = room.saturating_sub(match packed {
                        true => segment.bytes.max(PACK_BYTES_COUNTED_MIN),
                        false => PACK_BYTES_USUAL,
                    });
                    found.push(segment);
                }
            }
            if page.len() < page_max {
                return Ok((found, self.end_walk()));
            }
        }
    }

    /// Forgets segments that are no more; the next walk begins with the oldest.
    fn end_walk(&mut self) -> bool {
        let walk = self.walk;
        self.counted.retain(|_, counted| counted.walk == walk);
        self.walk += 1;
        self.cursor = None;
        true
    }

    fn is_old(&self, since: Timestamp, now: Timestamp) -> bool {
        let named_until = 2 * self.committer.limits().appended_age_max.as_millis();
        let grace = match self.committer.heap().is_packed() {
            true => i64::try_from(named_until)
                .unwrap_or(i64::MAX)
                .max(self.grace_millis),
            false => self.grace_millis,
        };
        since.plus_millis(grace) <= now
    }

    fn judge(&self, census: &Census, now: Timestamp) -> Verdict {
        let (bytes, live_bytes) = (census.segment.bytes, census.live_bytes);
        if !self.is_old(census.newest, now) {
            Verdict::Wait
        } else if live_bytes * 100 < bytes * self.live_percent_max {
            Verdict::Empty
        } else if self.committer.heap().is_packed() && bytes < SMALL_PACK_BYTES {
            Verdict::Join
        } else {
            Verdict::Keep
        }
    }

    fn note(&mut self, census: &Census) {
        let counted = Counted {
            bytes: census.segment.bytes,
            live_bytes: census.live_bytes,
            walk: self.walk,
        };
        self.counted.insert(census.segment.id, counted);
    }

    /// Counts several segments at once. One that is gone, or whose contents do not read, is left out.
    async fn census_all(&mut self, segments: &[SegmentInfo]) -> Result<Vec<Census>, CommitFailure> {
        let this = &*self;
        let censuses: Vec<_> = stream::iter(segments.to_vec())
            .map(|segment| async move { (segment, this.census(segment).await) })
            .buffered(CENSUSES_AT_ONCE)
            .collect()
            .await;
        let mut counted = Vec::with_capacity(censuses.len());
        for (segment, census) in censuses {
            match census {
                Ok(census) => counted.push(census),
                Err(CensusError::Heap(HeapError::Gone { .. })) => {}
                Err(CensusError::Heap(
                    error @ (HeapError::Corrupt { .. } | HeapError::WrongKey { .. }),
                )) => self.set_aside(&segment, &error),
                Err(CensusError::Heap(error)) => return Err(error.into()),
                Err(CensusError::Rows(failure)) => return Err(failure),
            }
        }
        Ok(counted)
    }

    /// Leaves a damaged segment as it is: what cannot be counted is never removed.
    fn set_aside(&mut self, segment: &SegmentInfo, error: &HeapError) {
        tracing::error!(segment = %format_args!("{:016x}", segment.id), %error, "segment left as it is");
        metrics::counter!("nightmail_heap_segments_set_aside_total").increment(1);
        let counted = Counted {
            bytes: segment.bytes,
            live_bytes: segment.bytes,
            walk: self.walk,
        };
        self.counted.insert(segment.id, counted);
    }

    /// Which records of a segment rows still name.
    async fn census(&self, segment: SegmentInfo) -> Result<Census, CensusError> {
        let entries = self.committer.heap().index(&segment).await?;
        let mut census = Census {
            segment,
            live: Vec::new(),
            live_bytes: 0,
            newest: Timestamp::default(),
        };
        for page in entries.chunks(ROWS_AT_ONCE) {
            let keys: Vec<_> = page.iter().map(|entry| BlobRow::key(entry.blob)).collect();
            let rows = self.committer.engine().get_many(&keys).await;
            for (entry, row) in page.iter().zip(rows.map_err(CommitFailure::from)?) {
                census.newest = census.newest.max(entry.created);
                if names(row.as_ref(), &entry.location)? {
                    census.live_bytes += entry.location.length;
                    census.live.push(*entry);
                }
            }
        }
        Ok(census)
    }
}

/// Why a segment could not be counted.
#[derive(Debug, thiserror::Error)]
enum CensusError {
    #[error(transparent)]
    Heap(#[from] HeapError),
    #[error(transparent)]
    Rows(#[from] CommitFailure),
}

/// Whether a blob row names this place.
fn names(row: Option<&Value>, location: &Location) -> Result<bool, CommitFailure> {
    Ok(match row {
        Some(row) => BlobRow::decode(row)?.location == *location,
        None => false,
    })
}
