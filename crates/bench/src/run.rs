//! The frame of a run: what is still to do, what has been counted, and when it ends.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::args::LoadArgs;
use crate::error::BenchError;
use crate::histogram::Histogram;
use crate::progress::Progress;
use crate::report::{Latency, Report};

/// How long after the deadline an operation under way may still end.
const GRACE: Duration = Duration::from_secs(10);
/// Failures in a row after which a connection gives up.
const FAILURES_IN_A_ROW_MAX: u32 = 10;
/// First pause after a failure; the next ones grow by it.
const PAUSE: Duration = Duration::from_millis(50);
/// Different error texts kept.
const ERROR_KINDS_MAX: usize = 16;

/// What has been counted so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    pub(crate) operations: u64,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
    pub(crate) failed: u64,
    pub(crate) latency: Histogram,
    pub(crate) replies: BTreeMap<u16, u64>,
    pub(crate) errors: BTreeMap<String, u64>,
    last: Option<Instant>,
}

/// One operation that went well.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Done {
    pub(crate) began: Instant,
    pub(crate) messages: u64,
    pub(crate) bytes: u64,
}

/// A run under way, shared by its connections.
pub(crate) struct Run {
    pub(crate) workload: String,
    pub(crate) limit: u64,
    pub(crate) started: Instant,
    deadline: Instant,
    /// When the first operation was claimed: logins before it are not part of the rate.
    first: OnceLock<Instant>,
    claimed: AtomicU64,
    tally: Mutex<Tally>,
}

impl Run {
    /// Starts the clock.
    pub(crate) fn start(workload: String, limit: u64, seconds: u64) -> Arc<Self> {
        let started = Instant::now();
        Arc::new(Self {
            workload,
            limit,
            started,
            deadline: started + Duration::from_secs(seconds),
            first: OnceLock::new(),
            claimed: AtomicU64::new(0),
            tally: Mutex::default(),
        })
    }

    /// The number, from 0, of the next operation, unless count or time is used up.
    pub(crate) fn claim(&self) -> Option<u64> {
        let now = Instant::now();
        if now >= self.deadline {
            return None;
        }
        self.first.get_or_init(|| now);
        let number = self.claimed.fetch_add(1, Ordering::Relaxed);
        (number < self.limit).then_some(number)
    }

    /// When the first operation began; the run's start while there is none.
    pub(crate) fn began(&self) -> Instant {
        self.first.get().copied().unwrap_or(self.started)
    }

    /// Whether operations are left to claim.
    pub(crate) fn open(&self) -> bool {
        self.claimed.load(Ordering::Relaxed) < self.limit && Instant::now() < self.deadline
    }

    /// Waits for the deadline.
    pub(crate) async fn ended(&self) {
        sleep_until(self.deadline).await;
    }

    /// Counts an operation that ends now.
    pub(crate) fn done(&self, done: Done) {
        let now = Instant::now();
        let mut tally = self.tally.lock();
        tally.operations += 1;
        tally.messages += done.messages;
        tally.bytes += done.bytes;
        tally.latency.record(now - done.began);
        tally.last = Some(now);
    }

    /// Counts the reply code that decided an operation's fate.
    pub(crate) fn replied(&self, code: u16) {
        *self.tally.lock().replies.entry(code).or_default() += 1;
    }

    /// Counts an operation that the server refused.
    pub(crate) fn refused(&self) {
        self.tally.lock().failed += 1;
    }

    /// Counts a failure and what it was.
    pub(crate) fn failed(&self, error: &BenchError) {
        let text = error.to_string();
        let mut tally = self.tally.lock();
        tally.failed += 1;
        if tally.errors.len() < ERROR_KINDS_MAX || tally.errors.contains_key(&text) {
            *tally.errors.entry(text).or_default() += 1;
        }
    }

    /// Operations, messages, bytes and failures so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64, u64) {
        let tally = self.tally.lock();
        (tally.operations, tally.messages, tally.bytes, tally.failed)
    }

    /// Waits until every connection's task has ended, at most a while beyond the deadline.
    pub(crate) async fn finish(self: &Arc<Self>, tasks: JoinSet<()>, quiet: bool) {
        let progress = Progress::show(Arc::clone(self), quiet);
        self.join(tasks, GRACE).await;
        progress.stop().await;
    }

    async fn join(&self, mut tasks: JoinSet<()>, grace: Duration) {
        let all = async {
            while let Some(ended) = tasks.join_next().await {
                if let Err(error) = ended {
                    self.failed(&BenchError::Unexpected(error.to_string()));
                }
            }
        };
        if timeout_at(self.deadline + grace, all).await.is_err() {
            let late = "no answer when the run ended".to_owned();
            self.failed(&BenchError::Unexpected(late));
        }
    }

    /// The figures, from the first operation's start to the last operation's end.
    pub(crate) fn report(&self, target: &str, load: &LoadArgs) -> Report {
        let tally = self.tally.lock().clone();
        let ended = tally.last.unwrap_or_else(Instant::now);
        let seconds = (ended - self.began()).as_secs_f64().max(1e-6);
        let rate = |count: u64| count as f64 / seconds;
        Report {
            workload: self.workload.clone(),
            target: target.to_owned(),
            connections: load.connections,
            users: load.users,
            seconds,
            operations: tally.operations,
            operations_per_second: rate(tally.operations),
            messages: tally.messages,
            messages_per_second: rate(tally.messages),
            bytes: tally.bytes,
            bytes_per_second: rate(tally.bytes),
            failed: tally.failed,
            latency: Latency::of(&tally.latency),
            replies: tally.replies,
            errors: tally.errors,
            ..Report::default()
        }
    }
}

/// How often a connection may fail in a row before it gives up.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    failures: u32,
}

impl Patience {
    /// Counts how a session ended; pauses after a failure. False when there have been too many in a row.
    pub(crate) async fn lasts(&mut self, run: &Run, session: Result<(), BenchError>) -> bool {
        match session {
            Ok(()) => self.failures = 0,
            Err(error) => {
                run.failed(&error);
                self.failures += 1;
                sleep(PAUSE * self.failures).await;
            }
        }
        self.failures < FAILURES_IN_A_ROW_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_claimed_than_the_limit() {
        let run = Run::start("test".into(), 2, 60);
        assert_eq!((run.claim(), run.claim()), (Some(0), Some(1)));
        assert_eq!(run.claim(), None);
        assert!(!run.open());
    }

    #[test]
    fn nothing_is_claimed_after_the_deadline() {
        let run = Run::start("test".into(), 10, 0);
        assert_eq!(run.claim(), None);
        assert!(!run.open());
    }

    #[tokio::test]
    async fn an_operation_that_never_ends_does_not_hold_the_run() {
        let run = Run::start("test".into(), 10, 0);
        let mut tasks = JoinSet::new();
        tasks.spawn(std::future::pending());
        run.join(tasks, Duration::from_millis(10)).await;
        assert_eq!(run.counts().3, 1);
    }

    #[test]
    fn error_texts_are_bounded_but_all_failures_are_counted() {
        let run = Run::start("test".into(), 10, 60);
        for n in 0..100 {
            run.failed(&BenchError::Unexpected(n.to_string()));
        }
        let tally = run.tally.lock();
        assert_eq!((tally.failed, tally.errors.len()), (100, ERROR_KINDS_MAX));
    }
}
