//! The task that writes blocks.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::{CommitFailure, Committer, Intent, SubmitError};
use nightmail_engine::{RowKey, Value};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use crate::block::rows;
use crate::journal::{Closed, Request, Waiting};

/// Blocks written in one commit.
const BLOCKS_MAX: usize = 8;
/// How long it waits when the store could not be written.
const RETRY_AFTER: Duration = Duration::from_secs(1);

pub(crate) struct Writer {
    pub(crate) waiting: Arc<Waiting>,
    pub(crate) requests: mpsc::UnboundedReceiver<Request>,
    pub(crate) committer: Committer,
}

/// A block ready to be written: its rows, its events, and what they take in memory.
struct Ready {
    rows: [(RowKey, Value); 2],
    events: u32,
    octets: usize,
}

impl Writer {
    /// Runs until the last [`crate::Journal`] is dropped.
    pub(crate) async fn run(mut self) {
        // What could not be written yet.
        let mut ready = VecDeque::new();
        let mut due = None;
        loop {
            let mut asked = None;
            let mut ended = false;
            tokio::select! {
                biased;
                request = self.requests.recv() => {
                    ended = request.is_none();
                    asked = request;
                    self.waiting.close();
                }
                () = until(due) => self.waiting.close(),
                () = self.waiting.wake.notified() => {}
            }
            let written = self.write(&mut ready).await;
            due = match &written {
                Ok(()) => self.waiting.due(),
                Err(_) => Some(Instant::now() + RETRY_AFTER),
            };
            self.publish_dropped();
            if let Err(error) = &written {
                warn!(%error, "the log of events could not be written");
            }
            if let Some(asked) = asked {
                // Whoever asked may have gone.
                let _ = asked.send(written);
            }
            if ended {
                return;
            }
        }
    }

    /// Writes every closed block.
    async fn write(&self, ready: &mut VecDeque<Ready>) -> Result<(), CommitFailure> {
        loop {
            while ready.len() < BLOCKS_MAX
                && let Some(closed) = self.waiting.take()
            {
                ready.extend(self.prepare(closed));
            }
            if ready.is_empty() {
                return Ok(());
            }
            let count = ready.len();
            self.put(ready).await?;
            for block in ready.drain(..count) {
                self.waiting.release(block.octets);
                metrics::counter!("nightmail_journal_events_total")
                    .increment(u64::from(block.events));
                let stored: usize = block.rows.iter().map(|(_, value)| value.len()).sum();
                metrics::counter!("nightmail_journal_octets_total").increment(stored as u64);
            }
        }
    }

    async fn put(&self, ready: &VecDeque<Ready>) -> Result<(), CommitFailure> {
        let rows: Vec<_> = ready.iter().flat_map(|block| block.rows.clone()).collect();
        let intent = Intent::<(), Infallible>::soon(move |tx| {
            for (key, value) in &rows {
                tx.put(key.clone(), value.clone());
            }
            Ok(())
        });
        match self.committer.submit(intent).await {
            Ok(()) => Ok(()),
            Err(SubmitError::Store(failure)) => Err(failure),
            Err(SubmitError::Refused(never)) => match never {},
        }
    }

    /// A block that cannot be packed is dropped: it would not be possible later either.
    fn prepare(&self, closed: Closed) -> Option<Ready> {
        let (events, octets) = (closed.draft.events(), closed.draft.octets());
        match rows(closed.id, closed.draft) {
            Ok(rows) => Some(Ready {
                rows,
                events,
                octets,
            }),
            Err(error) => {
                error!(%error, events, "a block of the log of events could not be packed");
                self.waiting.release(octets);
                count_dropped(u64::from(events));
                None
            }
        }
    }

    fn publish_dropped(&self) {
        let dropped = self.waiting.take_dropped();
        if dropped > 0 {
            warn!(events = dropped, "the log of events did not keep up");
            count_dropped(dropped);
        }
    }
}

fn count_dropped(events: u64) {
    metrics::counter!("nightmail_journal_dropped_total").increment(events);
}

/// Waits for that moment; for ever where there is none.
async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due).await,
        None => std::future::pending().await,
    }
}
