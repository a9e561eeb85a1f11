//! The stage that runs the intents of a group and commits their rows.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use nightmail_core::Timestamp;
use nightmail_engine::{Batch, Check, CommitError, Durability, Engine, RowKey, Write};
use nightmail_heap::Heap;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::blob::BlobRow;
use crate::committer::CommitLimits;
use crate::event::{EventHub, Topic};
use crate::gather::{AppendedBytes, Group, Room, append_missing};
use crate::intent::{CommitFailure, NewBlob};
use crate::job::{Job, Ran};
use crate::tx::{GroupRows, NeedKind, Tx};

/// Commits groups one after the other.
pub(crate) struct Commit {
    pub engine: Arc<dyn Engine>,
    pub heap: Heap,
    pub events: EventHub,
    pub limits: CommitLimits,
    /// Groups whose bytes are stored.
    pub ready: mpsc::Receiver<Group>,
    /// Jobs without bytes.
    pub direct: mpsc::Receiver<Box<dyn Job>>,
    /// Whether jobs without bytes found no room beside the last group, so that they come first now.
    pub passed_over: bool,
    /// When writes that were not synced must be.
    pub sync_due: Option<Instant>,
}

impl Commit {
    pub async fn run(mut self) {
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
            return self.arrived().await.map(Some);
        };
        match tokio::time::timeout_at(due, self.arrived()).await {
            Ok(group) => group.map(Some),
            Err(_) => {
                self.sync().await;
                Some(None)
            }
        }
    }

    /// Waits for a group with bytes or for jobs without, and puts together what there is; `None` after the last.
    async fn arrived(&mut self) -> Option<Group> {
        let passed_over = std::mem::take(&mut self.passed_over);
        if passed_over && let Ok(job) = self.direct.try_recv() {
            return Some(self.fill(vec![job], AppendedBytes::none()).0);
        }
        tokio::select! {
            biased;
            Some(Group { mut jobs, mut bytes }) = self.ready.recv() => {
                // Those that became ready while the last group was committed go together.
                while jobs.len() < self.limits.group_intents_max
                    && let Ok(more) = self.ready.try_recv()
                {
                    jobs.extend(more.jobs);
                    bytes.join(more.bytes);
                }
                let (group, full) = self.fill(jobs, bytes);
                self.passed_over = full;
                Some(group)
            }
            Some(job) = self.direct.recv() => {
                Some(self.fill(vec![job], AppendedBytes::none()).0)
            }
            else => None,
        }
    }

    /// Adds jobs without bytes as far as the bounds of a group allow; true when they allow no more.
    fn fill(&mut self, mut jobs: Vec<Box<dyn Job>>, bytes: AppendedBytes) -> (Group, bool) {
        let mut room = Room::new(&self.limits);
        for job in &jobs {
            room.take(job.as_ref());
        }
        while !room.is_full()
            && let Ok(job) = self.direct.try_recv()
        {
            room.take(job.as_ref());
            jobs.push(job);
        }
        (Group { jobs, bytes }, room.is_full())
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
        group.jobs.retain(|job| job.take());
        if group.jobs.is_empty() {
            return;
        }
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
        group.bytes.forget_old(self.limits.appended_age_max);
        let mut topics = Vec::new();
        let mut durability = Durability::Soon;
        let Group { jobs, bytes } = group;
        for job in jobs.iter_mut().filter(|job| !job.has_failed()) {
            let ran = self.run_job(job.as_mut(), &mut rows, bytes, now, &mut topics);
            if ran.await? && job.durability() == Durability::Synced {
                durability = Durability::Synced;
            }
        }
        if rows.is_unchanged() {
            return Ok(None);
        }
        let GroupRows {
            mut base,
            overlay,
            added: mut writes,
            touched,
        } = rows;
        let checks = touched
            .into_iter()
            .filter_map(|key| base.remove(&key).map(|expected| Check { key, expected }))
            .collect();
        let others = overlay.into_iter();
        writes.extend(others.map(|(key, value)| Write { key, value }));
        Ok(Some(RanGroup {
            batch: Batch { checks, writes },
            topics,
            durability,
        }))
    }

    /// Runs one job until it has every row it needs. True when it wrote something. A job that cannot be run fails
    /// alone; an error is the engine's, and the whole group's.
    async fn run_job(
        &self,
        job: &mut dyn Job,
        rows: &mut GroupRows,
        bytes: &mut AppendedBytes,
        now: Timestamp,
        topics: &mut Vec<Topic>,
    ) -> Result<bool, CommitFailure> {
        rows.show_added();
        for _ in 0..self.limits.loads_max {
            let blobs = job.blobs().to_vec();
            let mut tx = Tx::new(rows, &blobs, &bytes.locations, now);
            let ran = job.run(&mut tx);
            let Tx {
                writes,
                added,
                touched,
                topics: published,
                ..
            } = tx;
            match ran {
                Ran::Refused => return Ok(false),
                Ran::Done => {
                    let wrote = !writes.is_empty() || !added.is_empty();
                    rows.touched.extend(touched);
                    rows.take_in(writes, added);
                    topics.extend(published);
                    return Ok(wrote);
                }
                Ran::Need(NeedKind::Row(key)) => self.load(rows, vec![key]).await?,
                Ran::Need(NeedKind::Bytes) => {
                    if let Err(failure) = self.append_again(blobs, rows, bytes).await {
                        job.fail(failure);
                        return Ok(false);
                    }
                }
                Ran::Broken => {
                    job.fail(CommitFailure::Unavailable("a change panicked".into()));
                    return Ok(false);
                }
            }
        }
        let what = "an intent asked for too many rows";
        tracing::error!(rows = self.limits.loads_max, what);
        job.fail(CommitFailure::Unavailable(what.into()));
        Ok(false)
    }

    /// Appends the bytes of a job whose blobs have been reclaimed, or whose places are too old, since it was gathered.
    async fn append_again(
        &self,
        blobs: Vec<NewBlob>,
        rows: &mut GroupRows,
        bytes: &mut AppendedBytes,
    ) -> Result<(), CommitFailure> {
        let again: HashMap<_, _> = blobs.into_iter().map(|new| (new.blob.id(), new)).collect();
        // A row that an earlier job builds on is checked as that job saw it.
        for key in again.keys().map(|blob| BlobRow::key(*blob)) {
            if !rows.touched.contains(&key) {
                rows.base.remove(&key);
            }
        }
        let unasked = self.limits.unasked_bytes_max;
        append_missing(&self.engine, &self.heap, again, unasked, bytes).await
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
