//! Moving what is live out of segments, and removing them.

use std::collections::{HashMap, HashSet};

use nightmail_engine::{Batch, CommitError, Durability};
use nightmail_heap::{HeapError, IndexEntry, Location};

use super::{Census, CompactionReport, Compactor};
use crate::blob::BlobRow;
use crate::gather::Since;
use crate::intent::CommitFailure;

/// Stored bytes moved in one group, and the live bytes of packs that make a new one.
const GROUP_BYTES: u64 = 16 << 20;
/// Rows pointed at their new places in one commit.
const ROWS_AT_ONCE: usize = 500;

/// Segments to be removed, and their live records.
#[derive(Default)]
pub(super) struct Moving {
    censuses: Vec<Census>,
}

impl Moving {
    pub fn add(&mut self, census: Census) {
        self.censuses.push(census);
    }

    pub fn append(&mut self, mut other: Self) {
        self.censuses.append(&mut other.censuses);
    }

    pub fn is_empty(&self) -> bool {
        self.censuses.is_empty()
    }

    pub fn segments(&self) -> usize {
        self.censuses.len()
    }

    pub fn live_bytes(&self) -> u64 {
        self.censuses.iter().map(|census| census.live_bytes).sum()
    }

    /// Whether there is enough for a pack of a good size.
    pub fn is_plenty(&self) -> bool {
        self.live_bytes() >= GROUP_BYTES
    }
}

/// A record and its copy.
type Move = (IndexEntry, Location);

impl Compactor {
    /// Moves the live records and removes their segments. Segments that turn out to be damaged stay.
    pub(super) async fn rewrite(
        &mut self,
        moving: Moving,
        report: &mut CompactionReport,
    ) -> Result<(), CommitFailure> {
        if moving.is_empty() {
            return Ok(());
        }
        let mut segments = Vec::with_capacity(moving.segments());
        let mut damaged = HashMap::new();
        let mut moved = Moved::default();
        let mut group = Vec::new();
        let mut bytes = 0;
        for census in moving.censuses {
            segments.push(census.segment);
            for entry in census.live {
                bytes += entry.location.length;
                group.push(entry);
                if bytes >= GROUP_BYTES {
                    let group = std::mem::take(&mut group);
                    moved += self.move_group(group, &mut damaged).await?;
                    bytes = 0;
                }
            }
        }
        moved += self.move_group(group, &mut damaged).await?;
        // Rows that name the new places are on stable storage before the old ones go.
        self.committer.engine().sync().await?;
        let mut removed_bytes = 0;
        for segment in segments {
            match damaged.remove(&segment.id) {
                Some(error) => self.set_aside(&segment, &error),
                None => {
                    self.remove(segment.id).await?;
                    report.removed += 1;
                    removed_bytes += segment.bytes;
                }
            }
        }
        report.moved += moved.records;
        report.reclaimed_bytes += removed_bytes.saturating_sub(moved.bytes);
        Ok(())
    }

    async fn remove(&mut self, segment: u64) -> Result<(), CommitFailure> {
        self.counted.remove(&segment);
        match self.committer.heap().remove_segment(segment).await {
            // Another node was here too.
            Err(HeapError::Gone { .. }) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Appends copies of a group's records and points their rows at them.
    async fn move_group(
        &self,
        mut group: Vec<IndexEntry>,
        damaged: &mut HashMap<u64, HeapError>,
    ) -> Result<Moved, CommitFailure> {
        let heap = self.committer.heap();
        let mut gone = HashSet::new();
        let mut copies = loop {
            group.retain(|entry| {
                let segment = entry.location.segment;
                !damaged.contains_key(&segment) && !gone.contains(&segment)
            });
            let places: Vec<_> = group.iter().map(|entry| entry.location).collect();
            match heap.copy_records(places).await {
                Ok(copies) => break copies,
                // Another node has moved its records already.
                Err(HeapError::Gone { segment }) if gone.insert(segment) => {}
                Err(error @ HeapError::Corrupt { segment, .. }) => {
                    if damaged.insert(segment, error.clone()).is_some() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error.into()),
            }
        };
        if copies.is_empty() {
            return Ok(Moved::default());
        }
        for copy in &mut copies {
            // No row names it yet: the grace period keeps other compactions off it.
            copy.created = copy.created.max(crate::now());
        }
        let since = Since::now();
        let places = heap.append_group(copies).await?;
        let moved = Moved {
            records: places.len() as u64,
            bytes: places.iter().map(|place| place.length).sum(),
        };
        let moves: Vec<Move> = group.into_iter().zip(places).collect();
        for some in moves.chunks(ROWS_AT_ONCE) {
            self.repoint(some.to_vec(), &since).await?;
        }
        Ok(moved)
    }

    /// Points blobs' rows at their new places, except those of blobs that have gone or moved meanwhile.
    async fn repoint(&self, moves: Vec<Move>, since: &Since) -> Result<(), CommitFailure> {
        let mut waiting = vec![moves];
        while let Some(mut moves) = waiting.pop() {
            if since.elapsed() >= self.committer.limits().appended_age_max {
                let why = "copies of messages have become too old to be named";
                return Err(CommitFailure::Unavailable(why.into()));
            }
            let batch = self.repointing(&mut moves).await?;
            if moves.is_empty() {
                continue;
            }
            match self
                .committer
                .engine()
                .commit(batch, Durability::Soon)
                .await
            {
                Ok(()) => {}
                // Somebody links one of them: the others need not wait for that.
                Err(CommitError::Conflict { .. }) => {
                    let later = moves.split_off(moves.len() / 2);
                    waiting.extend([moves, later].into_iter().filter(|moves| !moves.is_empty()));
                }
                Err(CommitError::Engine(error)) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// The batch for those of `moves` whose rows still name the old place; the others are taken out.
    async fn repointing(&self, moves: &mut Vec<Move>) -> Result<Batch, CommitFailure> {
        let keys: Vec<_> = moves
            .iter()
            .map(|(entry, _)| BlobRow::key(entry.blob))
            .collect();
        let rows = self.committer.engine().get_many(&keys).await?;
        let mut batch = Batch::new();
        let mut left = Vec::with_capacity(moves.len());
        for ((entry, place), (key, found)) in moves.drain(..).zip(keys.into_iter().zip(rows)) {
            let Some(found) = found else { continue };
            let row = BlobRow::decode(&found)?;
            if row.location != entry.location {
                continue;
            }
            let location = place;
            let moved = BlobRow { location, ..row };
            batch
                .check(key.clone(), Some(found))
                .put(key, moved.encode());
            left.push((entry, place));
        }
        *moves = left;
        Ok(batch)
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
