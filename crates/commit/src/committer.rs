//! The committer of a node: gathers intents into groups, writes their bytes, commits their rows, answers.
//!
//! Two stages, one group in each at a time. *Gather* collects what arrived while the previous group was being
//! written, appends its new blobs to the heap and syncs them. *Commit* loads rows, runs each `apply` in order over
//! an overlay and commits once. A crash before the heap's sync leaves a torn tail that is cut at open; between the
//! two syncs it leaves records that no row names, which compaction drops; after the commit it leaves everything.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::BlobId;
use nightmail_engine::{Batch, Check, CommitError, Durability, Engine, RowKey, Write};
use nightmail_heap::{Heap, Location, Record};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::blob::BlobRow;
use crate::event::{EventHub, Topic};
use crate::intent::{Abort, Apply, CommitFailure, Intent, NewBlob, SubmitError};
use crate::tx::{GroupRows, NeedKind, Tx};

/// Bounds of the committer.
#[derive(Clone, Debug)]
pub struct CommitLimits {
    /// Intents in one group.
    pub group_intents_max: usize,
    /// Rows that the intents of one group declare; one intent may exceed it alone.
    pub group_rows_max: usize,
    /// Plain message bytes in one group; one message may exceed it alone.
    pub group_bytes_max: u64,
    /// Intents waiting for a group; callers wait beyond it.
    pub waiting_max: usize,
    /// Times a group is run again after conflicts before its callers are told.
    pub conflict_reruns_max: usize,
    /// Rows an intent may turn out to need, one after the other.
    pub loads_max: usize,
    /// How long a write that need not be synced may stay unsynced.
    pub soon_sync_millis: u64,
}

impl Default for CommitLimits {
    fn default() -> Self {
        Self {
            group_intents_max: 512,
            group_rows_max: 8192,
            group_bytes_max: 16 << 20,
            waiting_max: 4096,
            conflict_reruns_max: 1000,
            loads_max: 100_000,
            soon_sync_millis: 200,
        }
    }
}

/// Hands intents to the committer. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    jobs: mpsc::Sender<Box<dyn Job>>,
    engine: Arc<dyn Engine>,
    heap: Heap,
    events: EventHub,
}

impl Committer {
    /// Starts the two stages on the current tokio runtime. They end when the last clone is dropped, after everything
    /// submitted has been answered and synced.
    pub fn start(engine: Arc<dyn Engine>, heap: Heap, limits: CommitLimits) -> Self {
        let (jobs, incoming) = mpsc::channel(limits.waiting_max);
        let (groups, ready) = mpsc::channel(1);
        let events = EventHub::default();
        let gather = Gather {
            engine: Arc::clone(&engine),
            heap: heap.clone(),
            limits: limits.clone(),
            incoming,
            groups,
        };
        let commit = Commit {
            engine: Arc::clone(&engine),
            heap: heap.clone(),
            events: events.clone(),
            limits,
            ready,
            sync_due: None,
        };
        tokio::spawn(gather.run());
        tokio::spawn(commit.run());
        Self {
            jobs,
            engine,
            heap,
            events,
        }
    }

    /// Submits an intent and waits for its answer. Dropping the future does not take the intent back.
    pub async fn submit<T, E>(&self, intent: Intent<T, E>) -> Result<T, SubmitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let Intent {
            reads,
            blobs,
            durability,
            apply,
        } = intent;
        let job = Pending {
            reads,
            blobs,
            durability,
            apply,
            outcome: None,
            answer,
        };
        self.jobs
            .send(Box::new(job))
            .await
            .map_err(|_| CommitFailure::Stopped)?;
        answered
            .await
            .map_err(|_| SubmitError::Store(CommitFailure::Stopped))?
    }

    /// The engine, for reading.
    pub fn engine(&self) -> &Arc<dyn Engine> {
        &self.engine
    }

    /// The heap, for reading and for preparing blobs.
    pub fn heap(&self) -> &Heap {
        &self.heap
    }

    /// The events that follow commits.
    pub fn events(&self) -> &EventHub {
        &self.events
    }
}

/// An intent without its types.
trait Job: Send {
    fn reads(&self) -> &[RowKey];
    fn blobs(&self) -> &[NewBlob];
    fn durability(&self) -> Durability;
    /// Runs `apply` and keeps its result for [`Job::answer`].
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    fn answer(self: Box<Self>, committed: Result<(), CommitFailure>);
}

enum Ran {
    Done,
    Refused,
    Need(NeedKind),
}

struct Pending<T, E> {
    reads: Vec<RowKey>,
    blobs: Vec<NewBlob>,
    durability: Durability,
    apply: Apply<T, E>,
    outcome: Option<Result<T, E>>,
    answer: oneshot::Sender<Result<T, SubmitError<E>>>,
}

impl<T: Send, E: Send> Job for Pending<T, E> {
    fn reads(&self) -> &[RowKey] {
        &self.reads
    }

    fn blobs(&self) -> &[NewBlob] {
        &self.blobs
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        match (self.apply)(tx) {
            Ok(result) => {
                self.outcome = Some(Ok(result));
                Ran::Done
            }
            Err(Abort::Refused(refusal)) => {
                self.outcome = Some(Err(refusal));
                Ran::Refused
            }
            Err(Abort::Need(need)) => Ran::Need(need.0),
        }
    }

    fn answer(self: Box<Self>, committed: Result<(), CommitFailure>) {
        let result = match (committed, self.outcome) {
            (Err(failure), _) => Err(SubmitError::Store(failure)),
            (Ok(()), Some(outcome)) => outcome.map_err(SubmitError::Refused),
            (Ok(()), None) => Err(SubmitError::Store(CommitFailure::Stopped)),
        };
        // The caller may have gone; the change stands all the same.
        let _ = self.answer.send(result);
    }
}

/// Jobs whose new bytes are on stable storage.
struct Group {
    jobs: Vec<Box<dyn Job>>,
    locations: HashMap<BlobId, Location>,
}

struct Gather {
    engine: Arc<dyn Engine>,
    heap: Heap,
    limits: CommitLimits,
    incoming: mpsc::Receiver<Box<dyn Job>>,
    groups: mpsc::Sender<Group>,
}

impl Gather {
    async fn run(mut self) {
        while let Some(first) = self.incoming.recv().await {
            // The place is taken first: what arrives while the stage ahead is busy joins this group.
            let Ok(place) = self.groups.clone().reserve_owned().await else {
                return;
            };
            let jobs = self.collect(first);
            let (jobs, locations) = self.append(jobs).await;
            if !jobs.is_empty() {
                place.send(Group { jobs, locations });
            }
        }
    }

    fn collect(&mut self, first: Box<dyn Job>) -> Vec<Box<dyn Job>> {
        let mut bytes = plain_bytes(first.as_ref());
        let mut rows = first.reads().len();
        let mut jobs = vec![first];
        while jobs.len() < self.limits.group_intents_max
            && rows < self.limits.group_rows_max
            && bytes < self.limits.group_bytes_max
        {
            let Ok(job) = self.incoming.try_recv() else {
                break;
            };
            bytes += plain_bytes(job.as_ref());
            rows += job.reads().len();
            jobs.push(job);
        }
        jobs
    }

    /// Appends the group's blobs that are not stored yet. Jobs whose bytes cannot be written are answered here.
    async fn append(
        &self,
        jobs: Vec<Box<dyn Job>>,
    ) -> (Vec<Box<dyn Job>>, HashMap<BlobId, Location>) {
        let mut fresh: HashMap<BlobId, NewBlob> = HashMap::new();
        for blob in jobs.iter().flat_map(|job| job.blobs()) {
            fresh.entry(blob.blob.id()).or_insert_with(|| blob.clone());
        }
        if fresh.is_empty() {
            return (jobs, HashMap::new());
        }
        match append_missing(&self.engine, &self.heap, fresh).await {
            Ok(locations) => (jobs, locations),
            Err(failure) => {
                let (with_bytes, rest): (Vec<_>, Vec<_>) =
                    jobs.into_iter().partition(|job| !job.blobs().is_empty());
                for job in with_bytes {
                    job.answer(Err(failure.clone()));
                }
                (rest, HashMap::new())
            }
        }
    }
}

fn plain_bytes(job: &dyn Job) -> u64 {
    job.blobs().iter().map(|blob| blob.blob.size()).sum()
}

async fn append_missing(
    engine: &Arc<dyn Engine>,
    heap: &Heap,
    mut fresh: HashMap<BlobId, NewBlob>,
) -> Result<HashMap<BlobId, Location>, CommitFailure> {
    let ids: Vec<BlobId> = fresh.keys().copied().collect();
    let keys: Vec<RowKey> = ids.iter().map(|id| BlobRow::key(*id)).collect();
    for (id, row) in ids.iter().zip(engine.get_many(&keys).await?) {
        if row.is_some() {
            fresh.remove(id);
        }
    }
    if fresh.is_empty() {
        return Ok(HashMap::new());
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
    let locations = heap.append_group(records).await?;
    Ok(ids.into_iter().zip(locations).collect())
}

struct Commit {
    engine: Arc<dyn Engine>,
    heap: Heap,
    events: EventHub,
    limits: CommitLimits,
    ready: mpsc::Receiver<Group>,
    /// When writes that were not synced must be.
    sync_due: Option<Instant>,
}

impl Commit {
    async fn run(mut self) {
        while let Some(next) = self.next().await {
            if let Some(group) = next {
                self.commit(group).await;
            }
        }
        self.sync().await;
    }

    /// The next group; `Some(None)` after a sync that became due.
    async fn next(&mut self) -> Option<Option<Group>> {
        let Some(due) = self.sync_due else {
            return self.ready.recv().await.map(Some);
        };
        match tokio::time::timeout_at(due, self.ready.recv()).await {
            Ok(group) => group.map(Some),
            Err(_) => {
                self.sync().await;
                Some(None)
            }
        }
    }

    async fn sync(&mut self) {
        let Some(due) = self.sync_due.take() else {
            return;
        };
        if let Err(error) = self.engine.sync().await {
            tracing::error!(%error, "sync of deferred writes failed; it is tried again");
            self.sync_due =
                Some(due.max(Instant::now()) + Duration::from_millis(self.limits.soon_sync_millis));
        }
    }

    async fn commit(&mut self, mut group: Group) {
        let outcome = self.write(&mut group).await;
        metrics::histogram!("nightmail_commit_group_intents").record(group.jobs.len() as f64);
        let committed = match outcome {
            Ok(topics) => {
                self.events.publish(topics);
                Ok(())
            }
            Err(failure) => {
                tracing::error!(error = %failure, intents = group.jobs.len(), "a group could not be committed");
                Err(failure)
            }
        };
        for job in group.jobs {
            job.answer(committed.clone());
        }
    }

    /// Runs and commits a group until it goes through, and says whom to wake.
    async fn write(&mut self, group: &mut Group) -> Result<Vec<Topic>, CommitFailure> {
        for _ in 0..=self.limits.conflict_reruns_max {
            let Some(ready) = self.run_group(group).await? else {
                return Ok(Vec::new());
            };
            let RanGroup {
                batch,
                topics,
                durability,
            } = ready;
            match self.engine.commit(batch, durability).await {
                Ok(()) => {
                    self.note_durability(durability);
                    return Ok(topics);
                }
                Err(CommitError::Conflict { .. }) => {
                    metrics::counter!("nightmail_commit_conflicts_total").increment(1)
                }
                Err(CommitError::Engine(error)) => return Err(error.into()),
            }
        }
        Err(CommitFailure::Unavailable(
            "other nodes kept changing the same rows".into(),
        ))
    }

    fn note_durability(&mut self, durability: Durability) {
        self.sync_due = match durability {
            Durability::Synced => None,
            Durability::Soon => self.sync_due.or_else(|| {
                Some(Instant::now() + Duration::from_millis(self.limits.soon_sync_millis))
            }),
        };
    }

    /// Runs every job over one overlay. `None` when nothing is to be written.
    async fn run_group(&self, group: &mut Group) -> Result<Option<RanGroup>, CommitFailure> {
        let mut rows = GroupRows::default();
        self.load(&mut rows, declared_reads(&group.jobs)).await?;
        let now = crate::now();
        let mut topics = Vec::new();
        let mut durability = Durability::Soon;
        let Group { jobs, locations } = group;
        for job in jobs.iter_mut() {
            if self
                .run_job(job.as_mut(), &mut rows, locations, now, &mut topics)
                .await?
                && job.durability() == Durability::Synced
            {
                durability = Durability::Synced;
            }
        }
        if rows.overlay.is_empty() {
            return Ok(None);
        }
        let GroupRows {
            mut base,
            overlay,
            touched,
        } = rows;
        let checks = touched
            .into_iter()
            .filter_map(|key| base.remove(&key).map(|expected| Check { key, expected }))
            .collect();
        let writes = overlay
            .into_iter()
            .map(|(key, value)| Write { key, value })
            .collect();
        Ok(Some(RanGroup {
            batch: Batch { checks, writes },
            topics,
            durability,
        }))
    }

    /// Runs one job until it has every row it needs. True when it wrote something.
    async fn run_job(
        &self,
        job: &mut dyn Job,
        rows: &mut GroupRows,
        locations: &mut HashMap<BlobId, Location>,
        now: nightmail_core::Timestamp,
        topics: &mut Vec<Topic>,
    ) -> Result<bool, CommitFailure> {
        for _ in 0..self.limits.loads_max {
            let blobs = job.blobs().to_vec();
            let mut tx = Tx::new(rows, &blobs, locations, now);
            let ran = job.run(&mut tx);
            let Tx {
                writes,
                touched,
                topics: published,
                ..
            } = tx;
            match ran {
                Ran::Refused => return Ok(false),
                Ran::Done => {
                    let wrote = !writes.is_empty();
                    rows.touched.extend(touched);
                    rows.overlay.extend(writes);
                    topics.extend(published);
                    return Ok(wrote);
                }
                Ran::Need(NeedKind::Row(key)) => self.load(rows, vec![key]).await?,
                Ran::Need(NeedKind::Bytes) => {
                    let again: HashMap<_, _> =
                        blobs.into_iter().map(|new| (new.blob.id(), new)).collect();
                    // A row that an earlier job builds on is checked as that job saw it.
                    for key in again.keys().map(|blob| BlobRow::key(*blob)) {
                        if !rows.touched.contains(&key) {
                            rows.base.remove(&key);
                        }
                    }
                    locations.extend(append_missing(&self.engine, &self.heap, again).await?);
                }
            }
        }
        Err(CommitFailure::Unavailable(
            "an intent asked for too many rows".into(),
        ))
    }

    async fn load(&self, rows: &mut GroupRows, keys: Vec<RowKey>) -> Result<(), CommitFailure> {
        let values = self.engine.get_many(&keys).await?;
        rows.base.extend(keys.into_iter().zip(values));
        Ok(())
    }
}

struct RanGroup {
    batch: Batch,
    topics: Vec<Topic>,
    durability: Durability,
}

fn declared_reads(jobs: &[Box<dyn Job>]) -> Vec<RowKey> {
    let mut keys: Vec<RowKey> = jobs
        .iter()
        .flat_map(|job| {
            let blobs = job.blobs().iter().map(|new| BlobRow::key(new.blob.id()));
            job.reads().iter().cloned().chain(blobs).collect::<Vec<_>>()
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}
