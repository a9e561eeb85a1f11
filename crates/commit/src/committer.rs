//! The committer of a node: gathers intents into groups, writes their bytes, commits their rows, answers.
//!
//! Two stages, one group in each at a time. *Gather* collects the intents with message bytes that arrived while the
//! previous group was being written, appends their new blobs to the heap and syncs them. *Commit* takes what has been
//! appended and the intents without bytes that arrived meanwhile, loads rows, runs each `apply` in order over an overlay
//! and commits once. Intents of which one was submitted after the other was answered keep that order; others have none.
//!
//! A crash before the heap's sync leaves a torn tail that is cut at open; between the two syncs it leaves records that
//! no row names, which compaction drops; after the commit it leaves everything.

use std::sync::Arc;
use std::time::Duration;

use nightmail_engine::Engine;
use nightmail_heap::Heap;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::event::EventHub;
use crate::gather::Gather;
use crate::intent::{CommitFailure, Intent, SubmitError};
use crate::job::{Claim, Job, Pending};
use crate::stage::Commit;
use crate::waiting::Waiting;

/// Bounds of the committer.
#[derive(Clone, Debug)]
pub struct CommitLimits {
    /// Intents in one group.
    pub group_intents_max: usize,
    /// Rows that the intents of one group declare; one intent may exceed it alone.
    pub group_rows_max: usize,
    /// Plain message bytes in one group; one message may exceed it alone.
    pub group_bytes_max: u64,
    /// Groups whose bytes may be appended while the rows of others are being committed; they are then committed as one.
    /// One suits a disk that both stages share, more a database that takes longer to answer than bytes to be stored.
    pub appended_groups_max: usize,
    /// Message bytes up to this size are appended without asking whether they are stored already: where the answer
    /// takes longer than the append, a second copy now and then, which compaction drops, costs less.
    pub unasked_bytes_max: u64,
    /// Intents waiting for a group; callers wait beyond it.
    pub waiting_max: usize,
    /// Times a group is run again after conflicts before its callers are told.
    pub conflict_reruns_max: usize,
    /// Rows an intent may turn out to need, one after the other.
    pub loads_max: usize,
    /// How long a write that need not be synced may stay unsynced.
    pub soon_sync_millis: u64,
    /// How long an intent may wait before it is run; then it is given up, and never runs.
    /// [`Duration::MAX`]: as long as it takes.
    pub wait_max: Duration,
    /// Message bytes that were appended longer ago are appended again rather than named by a row. Compaction leaves
    /// packs alone that are not twice as old.
    pub appended_age_max: Duration,
}

impl Default for CommitLimits {
    fn default() -> Self {
        Self {
            group_intents_max: 512,
            group_rows_max: 8192,
            group_bytes_max: 16 << 20,
            appended_groups_max: 1,
            unasked_bytes_max: 0,
            waiting_max: 4096,
            conflict_reruns_max: 1000,
            loads_max: 100_000,
            soon_sync_millis: 200,
            wait_max: Duration::from_secs(30),
            appended_age_max: Duration::from_secs(10 * 60),
        }
    }
}

/// Hands intents to the committer. Cheap to clone.
#[derive(Clone)]
pub struct Committer {
    /// To the gathering stage: intents with message bytes.
    jobs: mpsc::Sender<Box<dyn Job>>,
    /// To the committing stage: intents without.
    direct: mpsc::Sender<Box<dyn Job>>,
    limits: CommitLimits,
    engine: Arc<dyn Engine>,
    heap: Heap,
    events: EventHub,
    waiting: Waiting,
}

impl Committer {
    /// Starts the two stages on the current tokio runtime. They end when the last clone is dropped, after everything
    /// submitted has been answered and synced.
    pub fn start(engine: Arc<dyn Engine>, heap: Heap, limits: CommitLimits) -> Self {
        let (jobs, incoming) = mpsc::channel(limits.waiting_max);
        let (direct, undelayed) = mpsc::channel(limits.waiting_max);
        let (groups, ready) = mpsc::channel(limits.appended_groups_max.max(1));
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
            limits: limits.clone(),
            ready,
            direct: undelayed,
            passed_over: false,
            sync_due: None,
        };
        tokio::spawn(gather.run());
        tokio::spawn(commit.run());
        Self {
            jobs,
            direct,
            limits,
            engine,
            heap,
            events,
            waiting: Waiting::default(),
        }
    }

    /// Submits an intent and waits for its answer. Dropping the future does not take the intent back.
    ///
    /// An intent that is not run within [`CommitLimits::wait_max`] is answered [`CommitFailure::Unavailable`] and does
    /// not run later either.
    pub async fn submit<T, E>(&self, intent: Intent<T, E>) -> Result<T, SubmitError<E>>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let queue = match intent.blobs.is_empty() {
            true => &self.direct,
            false => &self.jobs,
        };
        let _place = self.waiting.enter(std::time::Instant::now());
        let claim = Claim::default();
        let (job, mut answered) = Pending::new(intent, claim.clone());
        let stopped = CommitFailure::Stopped;
        let Some(deadline) = Instant::now().checked_add(self.limits.wait_max) else {
            queue.send(job).await.map_err(|_| stopped.clone())?;
            return answered.await.map_err(|_| stopped)?;
        };
        match timeout_at(deadline, queue.send(job)).await {
            Ok(sent) => sent.map_err(|_| stopped.clone())?,
            Err(_) => return Err(self.gave_up().into()),
        }
        match timeout_at(deadline, &mut answered).await {
            Ok(answer) => answer.map_err(|_| stopped)?,
            Err(_) if claim.take() => Err(self.gave_up().into()),
            Err(_) => answered.await.map_err(|_| stopped)?,
        }
    }

    fn gave_up(&self) -> CommitFailure {
        metrics::counter!("nightmail_commit_waits_given_up_total").increment(1);
        let waited = self.limits.wait_max;
        CommitFailure::Unavailable(format!("the change had to wait for more than {waited:?}"))
    }

    /// For how long the oldest intent that is not answered yet has been waiting: what new work has to expect.
    pub fn oldest_wait(&self) -> Duration {
        self.waiting.oldest(std::time::Instant::now())
    }

    /// The bounds it works within.
    pub fn limits(&self) -> &CommitLimits {
        &self.limits
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
