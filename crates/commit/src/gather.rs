//! The stage that gathers intents with message bytes into groups and appends their bytes to the heap.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{Engine, RowKey};
use nightmail_heap::{Heap, Location, Record};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::blob::BlobRow;
use crate::committer::CommitLimits;
use crate::intent::{CommitFailure, NewBlob};
use crate::job::Job;

/// Jobs whose new bytes are on stable storage.
pub(crate) struct Group {
    pub jobs: Vec<Box<dyn Job>>,
    pub bytes: AppendedBytes,
}

/// A moment, by two clocks: one stands still while the machine sleeps, the other may be set back.
#[derive(Clone, Copy)]
pub(crate) struct Since {
    instant: Instant,
    time: Timestamp,
}

impl Since {
    pub fn now() -> Self {
        Self {
            instant: Instant::now(),
            time: crate::now(),
        }
    }

    /// How long ago it was, by the clock that says longer.
    pub fn elapsed(&self) -> Duration {
        let millis = crate::now().millis().saturating_sub(self.time.millis());
        let elapsed = Duration::from_millis(u64::try_from(millis).unwrap_or(0));
        elapsed.max(self.instant.elapsed())
    }
}

/// Where the new bytes of a group lie, and since when.
pub(crate) struct AppendedBytes {
    pub locations: HashMap<BlobId, Location>,
    since: Since,
}

impl AppendedBytes {
    /// None yet; what is added counts as appended now.
    pub fn none() -> Self {
        Self {
            locations: HashMap::new(),
            since: Since::now(),
        }
    }

    /// Takes in what was appended with another group.
    pub fn join(&mut self, other: Self) {
        if self.locations.is_empty() || self.since.elapsed() < other.since.elapsed() {
            self.since = other.since;
        }
        self.locations.extend(other.locations);
    }

    /// Forgets the places when they are older than `age_max`: what no row names may be swept away.
    pub fn forget_old(&mut self, age_max: Duration) {
        if !self.locations.is_empty() && self.since.elapsed() >= age_max {
            *self = Self::none();
        }
    }
}

/// The bounds of a group that is being made up.
pub(crate) struct Room {
    intents: usize,
    rows: usize,
    bytes: u64,
}

impl Room {
    pub fn new(limits: &CommitLimits) -> Self {
        Self {
            intents: limits.group_intents_max,
            rows: limits.group_rows_max,
            bytes: limits.group_bytes_max,
        }
    }

    /// Takes up the room of a job; the last one may take more than there is.
    pub fn take(&mut self, job: &dyn Job) {
        let bytes = job.blobs().iter().map(|blob| blob.blob.size()).sum();
        self.intents = self.intents.saturating_sub(1);
        self.rows = self.rows.saturating_sub(job.reads().len());
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    pub fn is_full(&self) -> bool {
        self.intents == 0 || self.rows == 0 || self.bytes == 0
    }
}

pub(crate) struct Gather {
    pub engine: Arc<dyn Engine>,
    pub heap: Heap,
    pub limits: CommitLimits,
    pub incoming: mpsc::Receiver<Box<dyn Job>>,
    pub groups: mpsc::Sender<Group>,
}

impl Gather {
    pub async fn run(mut self) {
        while let Some(first) = self.incoming.recv().await {
            // The place is taken first: what arrives while the stage ahead is busy joins this group.
            let Ok(place) = self.groups.clone().reserve_owned().await else {
                return;
            };
            let jobs = self.collect(first);
            if let Some(group) = self.append(jobs).await {
                place.send(group);
            }
        }
    }

    fn collect(&mut self, first: Box<dyn Job>) -> Vec<Box<dyn Job>> {
        let mut room = Room::new(&self.limits);
        let mut jobs = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            if !job.is_abandoned() {
                room.take(job.as_ref());
                jobs.push(job);
            }
            if room.is_full() {
                break;
            }
            next = self.incoming.try_recv().ok();
        }
        jobs
    }

    /// Appends the group's blobs that are not stored yet. Where they cannot be written the jobs are answered here.
    async fn append(&self, jobs: Vec<Box<dyn Job>>) -> Option<Group> {
        let mut fresh: HashMap<BlobId, NewBlob> = HashMap::new();
        for blob in jobs.iter().flat_map(|job| job.blobs()) {
            fresh.entry(blob.blob.id()).or_insert_with(|| blob.clone());
        }
        let mut bytes = AppendedBytes::none();
        let unasked = self.limits.unasked_bytes_max;
        match append_missing(&self.engine, &self.heap, fresh, unasked, &mut bytes).await {
            Ok(()) => (!jobs.is_empty()).then_some(Group { jobs, bytes }),
            Err(failure) => {
                tracing::error!(error = %failure, intents = jobs.len(), "message bytes could not be written");
                for job in jobs {
                    job.answer(Err(failure.clone()));
                }
                None
            }
        }
    }
}

/// Appends those of `fresh` that no row names, and adds their places to `bytes`. Rows are asked for those of more than
/// `unasked_bytes_max` only.
pub(crate) async fn append_missing(
    engine: &Arc<dyn Engine>,
    heap: &Heap,
    mut fresh: HashMap<BlobId, NewBlob>,
    unasked_bytes_max: u64,
    bytes: &mut AppendedBytes,
) -> Result<(), CommitFailure> {
    let asked = fresh
        .iter()
        .filter(|(_, new)| new.blob.size() > unasked_bytes_max);
    let ids: Vec<BlobId> = asked.map(|(id, _)| *id).collect();
    let keys: Vec<RowKey> = ids.iter().map(|id| BlobRow::key(*id)).collect();
    for (id, row) in ids.iter().zip(engine.get_many(&keys).await?) {
        if row.is_some() {
            fresh.remove(id);
        }
    }
    if fresh.is_empty() {
        return Ok(());
    }
    let created = crate::now();
    let ids: Vec<BlobId> = fresh.keys().copied().collect();
    let records: Vec<Record> = fresh
        .into_values()
        .map(|new| Record {
            blob: new.blob,
            envelope: new.envelope,
            created,
        })
        .collect();
    if bytes.locations.is_empty() {
        *bytes = AppendedBytes::none();
    }
    let locations = heap.append_group(records).await?;
    bytes.locations.extend(ids.into_iter().zip(locations));
    Ok(())
}
