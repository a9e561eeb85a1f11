//! An intent on its way through the committer, without its types.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nightmail_engine::{Durability, RowKey};
use tokio::sync::oneshot;

use crate::intent::{Abort, Apply, CommitFailure, Intent, NewBlob, SubmitError};
use crate::tx::{NeedKind, Tx};

/// What a caller waits for.
pub(crate) type Answer<T, E> = Result<T, SubmitError<E>>;

/// Decides between a committer that takes a job and a caller who gives up waiting: whoever is first has it.
#[derive(Clone, Default)]
pub(crate) struct Claim(Arc<AtomicBool>);

impl Claim {
    /// True for the first who asks.
    pub fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }

    fn is_taken(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// An intent without its types.
pub(crate) trait Job: Send {
    fn reads(&self) -> &[RowKey];
    fn blobs(&self) -> &[NewBlob];
    fn durability(&self) -> Durability;
    /// Whether the caller has given up waiting, before the job was taken.
    fn is_abandoned(&self) -> bool;
    /// Takes the job, after which its caller waits for the answer; false when the caller has given up.
    fn take(&self) -> bool;
    /// Runs `apply` and keeps its result for [`Job::answer`].
    fn run(&mut self, tx: &mut Tx<'_>) -> Ran;
    /// Lets the job fail, whatever becomes of its group. It does not run again.
    fn fail(&mut self, failure: CommitFailure);
    fn has_failed(&self) -> bool;
    fn answer(self: Box<Self>, committed: Result<(), CommitFailure>);
}

/// What one run came to.
pub(crate) enum Ran {
    Done,
    Refused,
    Need(NeedKind),
    /// `apply` panicked.
    Broken,
}

/// An intent, its outcome so far, and who waits for it.
pub(crate) struct Pending<T, E> {
    intent: Intent<T, E>,
    claim: Claim,
    outcome: Option<Result<T, E>>,
    failure: Option<CommitFailure>,
    answer: oneshot::Sender<Answer<T, E>>,
}

impl<T, E> Pending<T, E> {
    pub fn new(intent: Intent<T, E>, claim: Claim) -> (Box<Self>, oneshot::Receiver<Answer<T, E>>) {
        let (answer, answered) = oneshot::channel();
        let pending = Self {
            intent,
            claim,
            outcome: None,
            failure: None,
            answer,
        };
        (Box::new(pending), answered)
    }
}

/// Runs `apply`; `None` when it panics, which the panic hook has reported.
fn guarded<T, E>(apply: &mut Apply<T, E>, tx: &mut Tx<'_>) -> Option<Result<T, Abort<E>>> {
    // Whatever the panic left behind is dropped: the writes of this run, and `apply`, which never runs again.
    catch_unwind(AssertUnwindSafe(|| apply(tx))).ok()
}

impl<T: Send, E: Send> Job for Pending<T, E> {
    fn reads(&self) -> &[RowKey] {
        &self.intent.reads
    }

    fn blobs(&self) -> &[NewBlob] {
        &self.intent.blobs
    }

    fn durability(&self) -> Durability {
        self.intent.durability
    }

    fn is_abandoned(&self) -> bool {
        self.claim.is_taken()
    }

    fn take(&self) -> bool {
        self.claim.take()
    }

    fn run(&mut self, tx: &mut Tx<'_>) -> Ran {
        match guarded(&mut self.intent.apply, tx) {
            Some(Ok(result)) => {
                self.outcome = Some(Ok(result));
                Ran::Done
            }
            Some(Err(Abort::Refused(refusal))) => {
                self.outcome = Some(Err(refusal));
                Ran::Refused
            }
            Some(Err(Abort::Need(need))) => Ran::Need(need.0),
            None => Ran::Broken,
        }
    }

    fn fail(&mut self, failure: CommitFailure) {
        self.failure = Some(failure);
    }

    fn has_failed(&self) -> bool {
        self.failure.is_some()
    }

    fn answer(self: Box<Self>, committed: Result<(), CommitFailure>) {
        let failure = self.failure.or(committed.err());
        let result = match (failure, self.outcome) {
            (Some(failure), _) => Err(SubmitError::Store(failure)),
            (None, Some(outcome)) => outcome.map_err(SubmitError::Refused),
            (None, None) => Err(SubmitError::Store(CommitFailure::Stopped)),
        };
        // The caller may have gone; the change stands all the same.
        let _ = self.answer.send(result);
    }
}
