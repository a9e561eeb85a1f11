//! The log of events, as those who note and those who ask hold it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nightmail_commit::{CommitFailure, Committer};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::block::{Draft, octets};
use crate::error::JournalError;
use crate::event::Event;
use crate::key::{BlockId, millis};
use crate::options::JournalOptions;
use crate::writer::Writer;

/// The log of events. Cheap to clone; what has been noted is written after the last clone is dropped.
#[derive(Clone, Default)]
pub struct Journal {
    pub(crate) inner: Option<Arc<Inner>>,
}

pub(crate) struct Inner {
    waiting: Arc<Waiting>,
    requests: mpsc::UnboundedSender<Request>,
    pub(crate) committer: Committer,
    pub(crate) retention: Duration,
    /// Blocks closed before, in milliseconds since the epoch, have been looked at for joining.
    pub(crate) merged_to: AtomicU64,
}

/// Somebody waits until everything noted so far is written.
pub(crate) type Request = oneshot::Sender<Result<(), CommitFailure>>;

/// Events that have not been written.
pub(crate) struct Waiting {
    state: Mutex<State>,
    /// There is a block to write, or a draft that will have to be written after a while.
    pub(crate) wake: Notify,
    options: JournalOptions,
    writer: u64,
}

#[derive(Default)]
struct State {
    draft: Draft,
    /// When the first event of the draft was noted.
    begun: Option<Instant>,
    closed: VecDeque<Closed>,
    /// Octets of the events in all of these, and in what the writer has taken and not written.
    octets: usize,
    number: u32,
    dropped: u64,
}

/// A block that takes no more events.
pub(crate) struct Closed {
    pub(crate) id: BlockId,
    pub(crate) draft: Draft,
}

impl Journal {
    /// Starts the log of the store behind `committer`, on the current tokio runtime.
    pub fn start(committer: Committer, options: JournalOptions) -> Self {
        let (requests, incoming) = mpsc::unbounded_channel();
        let retention = options.retention;
        let waiting = Arc::new(Waiting::new(options));
        let writer = Writer {
            waiting: Arc::clone(&waiting),
            requests: incoming,
            committer: committer.clone(),
        };
        tokio::spawn(writer.run());
        Self {
            inner: Some(Arc::new(Inner {
                waiting,
                requests,
                committer,
                retention,
                merged_to: AtomicU64::new(0),
            })),
        }
    }

    /// A log that keeps nothing and finds nothing.
    pub const fn off() -> Self {
        Self { inner: None }
    }

    /// Whether what is noted is kept. Where it is not, there is no need to put events together.
    pub fn is_on(&self) -> bool {
        self.inner
            .as_ref()
            .is_some_and(|inner| !inner.retention.is_zero())
    }

    /// Notes an event. Never waits and never fails: what does not fit into memory is counted as
    /// `nightmail_journal_dropped_total`.
    pub fn note(&self, event: Event) {
        if let Some(inner) = &self.inner
            && self.is_on()
        {
            inner.waiting.note(&event);
        }
    }

    /// Writes everything noted so far; it is in the store when this returns, and synced soon after.
    ///
    /// # Errors
    /// The store cannot be written; what was noted stays in memory and is tried again.
    pub async fn flush(&self) -> Result<(), JournalError> {
        let Some(inner) = &self.inner else {
            return Ok(());
        };
        let (request, written) = oneshot::channel();
        let sent = inner.requests.send(request);
        sent.map_err(|_| CommitFailure::Stopped)?;
        let answer = written.await.map_err(|_| CommitFailure::Stopped)?;
        Ok(answer?)
    }
}

impl Inner {
    /// Events of a full block.
    pub(crate) fn block_events(&self) -> usize {
        self.waiting.options.block_events
    }

    /// A name for a block made of others, closed then.
    pub(crate) fn next_id(&self, closed: u64) -> BlockId {
        let mut state = self.waiting.state.lock();
        self.waiting.next_id(&mut state, closed)
    }
}

impl Waiting {
    fn new(options: JournalOptions) -> Self {
        Self {
            state: Mutex::default(),
            wake: Notify::new(),
            writer: writer_id(&options.node),
            options,
        }
    }

    fn note(&self, event: &Event) {
        let size = octets(event);
        let mut state = self.state.lock();
        if state.octets + size > self.options.memory_max {
            state.dropped += 1;
            return;
        }
        state.octets += size;
        state.draft.push(event, size);
        let is_first = state.begun.is_none();
        if is_first {
            state.begun = Some(Instant::now());
        }
        let is_full = state.draft.events() as usize >= self.options.block_events;
        if is_full {
            self.close_draft(&mut state);
        }
        drop(state);
        if is_first || is_full {
            self.wake.notify_one();
        }
    }

    fn close_draft(&self, state: &mut State) {
        state.begun = None;
        let draft = std::mem::take(&mut state.draft);
        if draft.events() == 0 {
            return;
        }
        let id = self.next_id(state, millis(nightmail_commit::now()));
        state.closed.push_back(Closed { id, draft });
    }

    /// A name that no other block has or will have.
    fn next_id(&self, state: &mut State, closed: u64) -> BlockId {
        let number = state.number;
        state.number = number.wrapping_add(1);
        BlockId {
            closed,
            writer: self.writer,
            number,
        }
    }

    /// Closes the draft, whatever there is of it.
    pub(crate) fn close(&self) {
        self.close_draft(&mut self.state.lock());
    }

    /// When the draft has to be closed, if there is anything in it.
    pub(crate) fn due(&self) -> Option<Instant> {
        let begun = self.state.lock().begun;
        begun.map(|begun| begun + self.options.flush_every)
    }

    /// The oldest closed block.
    pub(crate) fn take(&self) -> Option<Closed> {
        self.state.lock().closed.pop_front()
    }

    /// Memory is free again.
    pub(crate) fn release(&self, octets: usize) {
        let mut state = self.state.lock();
        state.octets = state.octets.saturating_sub(octets);
    }

    /// How many events did not fit since this was last asked.
    pub(crate) fn take_dropped(&self) -> u64 {
        std::mem::take(&mut self.state.lock().dropped)
    }
}

/// A number that no other process uses, nor this one when it is started again.
fn writer_id(node: &str) -> u64 {
    let started = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let process = std::process::id();
    // Several may be started in one process and one moment by tests: each has a place of its own.
    static STARTED: AtomicU64 = AtomicU64::new(0);
    let count = STARTED.fetch_add(1, Ordering::Relaxed);
    let seed = format!("{node}\0{process}\0{}\0{count}", started.as_nanos());
    xxh3_64(seed.as_bytes())
}
