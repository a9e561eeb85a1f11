//! The writer thread: groups waiting batches, checks them, writes them, and gets over failures.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::store::{Store, WriteError};
use super::{Core, redo_log};
use crate::{Batch, Check, CommitError, Durability, EngineError, RowKey, Value, Write};

/// Batches written together, and the bytes of writes at which a group takes no more.
const GROUP_BATCHES_MAX: usize = 256;
const GROUP_BYTES_MAX: u64 = 4 << 20;
/// Rows above which the order of a batch is found by numbers before keys are compared.
const BATCH_IS_LARGE: usize = 1024;
/// How long a failed store rests before it is tried again; callers are refused meanwhile.
const RETRY_AFTER: Duration = Duration::from_millis(500);
/// How long writes wait between looks at tables that are behind, and how long in all.
const BEHIND_POLL: Duration = Duration::from_millis(2);
const BEHIND_MAX: Duration = Duration::from_secs(30);

/// What the engine asks of its writer.
pub(super) enum Job {
    Commit {
        batch: Batch,
        durability: Durability,
        answer: CommitAnswer,
    },
    Sync {
        answer: oneshot::Sender<Result<(), EngineError>>,
    },
}

type CommitAnswer = oneshot::Sender<Result<(), CommitError>>;

/// The only one who writes to the store.
pub(super) struct Writer {
    core: Arc<Core>,
    /// Whether something written has not been synced.
    dirty: bool,
    trouble: Option<Trouble>,
}

/// A failure that is not got over yet.
struct Trouble {
    error: EngineError,
    retry_at: Instant,
}

/// Batches that are written together, and who waits for them.
#[derive(Default)]
struct Group {
    /// The writes of a first large batch, by their keys, each of which is there once.
    bulk: Vec<Write>,
    /// What each changed row will hold, over those.
    overlay: BTreeMap<RowKey, Option<Value>>,
    bytes: u64,
    synced: bool,
    commits: Vec<(CommitAnswer, Result<(), CommitError>)>,
    syncs: Vec<oneshot::Sender<Result<(), EngineError>>>,
}

impl Writer {
    pub fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            dirty: false,
            trouble: None,
        }
    }

    /// Works until every sender is gone and every job is answered.
    pub fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut waiting = vec![first];
            let mut bytes = 0;
            while waiting.len() < GROUP_BATCHES_MAX && bytes < GROUP_BYTES_MAX {
                let Ok(job) = jobs.try_recv() else { break };
                if let Job::Commit { batch, .. } = &job {
                    bytes += batch.write_bytes();
                }
                waiting.push(job);
            }
            self.serve(waiting);
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let ready = self.ready();
        let mut group = Group::default();
        for job in jobs {
            match job {
                Job::Sync { answer } => group.syncs.push(answer),
                Job::Commit {
                    batch,
                    durability,
                    answer,
                } => {
                    let checked = match &ready {
                        Ok(()) => self.check(&group, &batch),
                        Err(error) => Err(error.clone().into()),
                    };
                    if checked.is_ok() {
                        group.add(batch, durability);
                    }
                    group.commits.push((answer, checked));
                }
            }
        }
        let written = ready.and_then(|()| self.write(&group));
        self.answer(group, written);
    }

    /// Makes sure that the store takes writes, opening it anew after a failure.
    fn ready(&mut self) -> Result<(), EngineError> {
        if self.trouble.is_none() {
            match self.wait_for_tables() {
                Ok(()) => return Ok(()),
                Err(WriteError::Failed(error)) => return Err(error),
                Err(WriteError::Closed) => {}
            }
        }
        match &self.trouble {
            Some(trouble) if Instant::now() < trouble.retry_at => Err(trouble.error.clone()),
            _ => self.reopen(),
        }
    }

    /// Waits while tables are behind; `fjall` would block without end if they never caught up.
    fn wait_for_tables(&self) -> Result<(), WriteError> {
        let deadline = Instant::now() + BEHIND_MAX;
        while self.with_store(Store::is_behind)? {
            if Instant::now() > deadline {
                let error = EngineError::Unavailable("tables are far behind".to_owned());
                return Err(WriteError::Failed(error));
            }
            std::thread::sleep(BEHIND_POLL);
        }
        Ok(())
    }

    fn with_store<T>(
        &self,
        f: impl FnOnce(&Store) -> Result<T, WriteError>,
    ) -> Result<T, WriteError> {
        let store = self.core.store.read();
        store.as_ref().map_or(Err(WriteError::Closed), f)
    }

    /// Opens the store anew, if its directory takes writes again.
    ///
    /// Until it does, the old store stays for readers: it holds every batch that was answered.
    fn reopen(&mut self) -> Result<(), EngineError> {
        let dir = &self.core.dir;
        let outcome = redo_log::probe(dir).and_then(|()| {
            let mut slot = self.core.store.write();
            *slot = None;
            let rewritten = redo_log::rewrite(dir);
            *slot = Some(Store::open(dir, &self.core.options)?);
            rewritten
        });
        match &outcome {
            Ok(()) => {
                tracing::warn!("the engine takes writes again after a failure");
                count(&self.core.counters.reopens, 1);
                self.trouble = None;
                self.dirty = true;
            }
            Err(error) => self.note_trouble(error, Instant::now() + RETRY_AFTER),
        }
        outcome
    }

    fn note_trouble(&mut self, error: &EngineError, retry_at: Instant) {
        if self.trouble.is_none() {
            tracing::error!(%error, "the engine takes no writes");
        }
        self.trouble = Some(Trouble {
            error: error.clone(),
            retry_at,
        });
    }

    /// Compares what `batch` expects with the store and with what the group has changed before it.
    fn check(&self, group: &Group, batch: &Batch) -> Result<(), CommitError> {
        for Check { key, expected } in &batch.checks {
            let holds = match group.get(key) {
                Some(value) => value == expected,
                None => {
                    let stored = self.core.read(|store| store.get(key))?;
                    stored.as_deref() == expected.as_deref()
                }
            };
            if !holds {
                return Err(CommitError::Conflict { key: key.clone() });
            }
        }
        Ok(())
    }

    fn write(&mut self, group: &Group) -> Result<(), EngineError> {
        let synced = group.synced || !group.syncs.is_empty();
        let written = match group.is_empty() {
            true if synced && self.dirty => self.with_store(Store::sync),
            true => return Ok(()),
            false => self.with_store(|store| store.write(group.rows_max(), group.rows(), synced)),
        };
        match written {
            Ok(()) => {
                self.dirty = !synced;
                count(&self.core.counters.syncs, u64::from(synced));
                Ok(())
            }
            Err(WriteError::Closed) => {
                let error = EngineError::Unavailable("storage failed meanwhile".to_owned());
                self.note_trouble(&error, Instant::now());
                Err(error)
            }
            Err(WriteError::Failed(error)) => {
                self.note_trouble(&error, Instant::now());
                Err(error)
            }
        }
    }

    fn answer(&self, group: Group, written: Result<(), EngineError>) {
        let counters = &self.core.counters;
        if written.is_ok() {
            count(&counters.bytes_written, group.bytes);
        }
        for (answer, checked) in group.commits {
            let result = checked.and_then(|()| Ok(written.clone()?));
            let counter = match &result {
                Ok(()) => &counters.commits,
                Err(CommitError::Conflict { .. }) => &counters.conflicts,
                Err(CommitError::Engine(_)) => &counters.failures,
            };
            count(counter, 1);
            // Who has gone away does not want to know.
            drop(answer.send(result));
        }
        for answer in group.syncs {
            drop(answer.send(written.clone()));
        }
    }
}

impl Group {
    fn add(&mut self, batch: Batch, durability: Durability) {
        self.bytes += batch.write_bytes();
        self.synced |= durability == Durability::Synced;
        match self.is_empty() && batch.writes.len() > BATCH_IS_LARGE {
            true => self.bulk = in_order(batch.writes),
            false => {
                let rows = batch.writes.into_iter();
                self.overlay
                    .extend(rows.map(|write| (write.key, write.value)));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.bulk.is_empty() && self.overlay.is_empty()
    }

    /// What a row will hold, where the group changes it.
    fn get(&self, key: &RowKey) -> Option<&Option<Value>> {
        self.overlay.get(key).or_else(|| {
            let place = self.bulk.binary_search_by(|write| write.key.cmp(key));
            Some(&self.bulk.get(place.ok()?)?.value)
        })
    }

    fn rows_max(&self) -> usize {
        self.bulk.len() + self.overlay.len()
    }

    /// Each changed row once.
    fn rows(&self) -> impl Iterator<Item = (&RowKey, &Option<Value>)> {
        let alone = self.overlay.is_empty();
        self.bulk
            .iter()
            .filter(move |write| alone || !self.overlay.contains_key(&write.key))
            .map(|write| (&write.key, &write.value))
            .chain(&self.overlay)
    }
}

/// Writes by their keys, the last one for each row.
///
/// They are not put into a map: a copy of a large mailbox has hundreds of thousands, and what counts is how much memory
/// is touched for the first time.
fn in_order(mut writes: Vec<Write>) -> Vec<Write> {
    writes.sort_by_cached_key(|write| key_head(&write.key));
    if !writes.is_sorted_by(|a, b| a.key < b.key) {
        writes.sort_by(|a, b| a.key.cmp(&b.key));
        writes.dedup_by(|later, kept| {
            let same = later.key == kept.key;
            if same {
                std::mem::swap(later, kept);
            }
            same
        });
    }
    writes
}

/// The space and the beginning of a key as a number, by which keys are in order as far as it goes.
fn key_head(key: &RowKey) -> u128 {
    let mut head = [0; 16];
    let from = std::iter::once(key.space.number()).chain(key.key.iter().copied());
    head.iter_mut().zip(from).for_each(|(to, from)| *to = from);
    u128::from_be_bytes(head)
}

fn count(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]

    use super::*;
    use crate::Space;

    fn key(space: Space, number: u32) -> RowKey {
        RowKey::new(space, number.to_be_bytes())
    }

    fn value(text: &str) -> Option<Value> {
        Some(Value::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_group_that_begins_with_a_large_batch_says_what_each_row_will_hold() {
        let mut large = Batch::new();
        for number in (0..2000).rev() {
            large.put(key(Space::Message, number), "first");
            large.put(key(Space::Link, number), "first");
        }
        // Longer than what is compared at once.
        let long = |last: u8| RowKey::new(Space::Message, [vec![0; 40], vec![last]].concat());
        large.put(long(2), "long").put(long(1), "long");
        large.delete(key(Space::Message, 7));
        let mut small = Batch::new();
        small.put(key(Space::Link, 9), "second");
        small.put(key(Space::Mailbox, 1), "second");
        let mut group = Group::default();
        assert!(group.is_empty());
        group.add(large, Durability::Soon);
        group.add(small, Durability::Synced);
        assert!(group.synced && !group.is_empty());
        for (row, expected) in [
            (key(Space::Message, 6), Some(value("first"))),
            (key(Space::Message, 7), Some(None)),
            (key(Space::Link, 9), Some(value("second"))),
            (key(Space::Mailbox, 1), Some(value("second"))),
            (long(1), Some(value("long"))),
            (key(Space::Message, 2000), None),
        ] {
            assert_eq!(group.get(&row), expected.as_ref(), "{row:?}");
        }
        let mut rows: Vec<_> = group.rows().collect();
        assert_eq!(rows.len(), 4003);
        assert!(rows.len() <= group.rows_max());
        rows.sort();
        assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "each once");
        for (row, value) in rows {
            assert_eq!(group.get(row), Some(value));
        }
    }
}
