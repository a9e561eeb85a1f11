//! Joining small blocks: a server with little to do closes one each second, and would leave millions of rows.
//!
//! Blocks closed in the same [`WINDOW_MILLIS`] are joined once that is over, so that a block still says to within that
//! when its events happened.

use std::sync::atomic::Ordering;

use nightmail_commit::{Abort, Intent, SubmitError};
use nightmail_core::Timestamp;
use nightmail_engine::{Order, RowKey, Space, Value};
use tracing::error;

use crate::block::{Draft, Plain, octets, rows};
use crate::error::{BlockError, JournalError};
use crate::journal::{Inner, Journal};
use crate::key::{BlockId, filters};

/// Blocks closed in one of these are joined.
pub(crate) const WINDOW_MILLIS: u64 = 600_000;
/// A window is left alone for so long after its end: blocks may be on their way.
const SETTLED_MILLIS: i64 = 120_000;
/// A filter that is no longer than this belongs to a small block.
const SMALL_FILTER_OCTETS: usize = 1536;
/// Filters looked at in one step.
const PAGE: usize = 512;
/// Steps of one round.
const STEPS: usize = 16;
/// Blocks joined into one.
const JOINED_MAX: usize = 256;

/// Another node has joined or removed the same blocks.
struct Gone;

impl Journal {
    /// Joins small blocks that are older than `now` by some minutes, a bounded number of them, and goes on from there the
    /// next time. Returns how many are not there any more. Several nodes may do it at once.
    ///
    /// # Errors
    /// The store cannot be read or written; what was joined until then stays joined.
    pub async fn merge(&self, now: Timestamp) -> Result<u64, JournalError> {
        let Some(inner) = &self.inner else {
            return Ok(0);
        };
        let settled = u64::try_from(now.millis().saturating_sub(SETTLED_MILLIS)).unwrap_or(0);
        let end = settled - settled % WINDOW_MILLIS;
        let mut joined = 0;
        for _ in 0..STEPS {
            let from = inner.merged_to.load(Ordering::Relaxed);
            if from >= end {
                break;
            }
            let range = filters(Some(at(from)), Some(at(end)));
            let engine = inner.committer.engine();
            let page = engine.scan(Space::Journal, range, Order::Ascending, PAGE);
            let page = page.await?;
            for run in runs(&page) {
                joined += inner.join(&run).await?;
            }
            let last = page.last().and_then(|(key, _)| BlockId::of_filter(key));
            let next = match last {
                Some(last) if page.len() == PAGE => last.closed.max(from + 1),
                _ => end,
            };
            inner.merged_to.store(next, Ordering::Relaxed);
        }
        Ok(joined)
    }
}

fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// The small blocks among these, as they are to be joined: each run of one window.
fn runs(page: &[(Vec<u8>, Value)]) -> Vec<Vec<BlockId>> {
    let small = page
        .iter()
        .filter(|(_, filter)| filter.len() <= SMALL_FILTER_OCTETS)
        .filter_map(|(key, _)| BlockId::of_filter(key));
    let mut runs: Vec<Vec<BlockId>> = Vec::new();
    for id in small {
        let window = |id: &BlockId| id.closed / WINDOW_MILLIS;
        match runs.last_mut() {
            Some(run)
                if run.len() < JOINED_MAX
                    && run.last().is_some_and(|last| window(last) == window(&id)) =>
            {
                run.push(id);
            }
            _ => runs.push(vec![id]),
        }
    }
    runs.retain(|run| run.len() > 1);
    runs
}

/// What a run becomes: blocks to write, and those that are in them.
#[derive(Default)]
struct Joined {
    draft: Draft,
    inside: Vec<BlockId>,
}

impl Inner {
    async fn join(&self, run: &[BlockId]) -> Result<u64, JournalError> {
        let keys: Vec<RowKey> = run.iter().map(|id| id.block()).collect();
        let values = self.committer.engine().get_many(&keys).await?;
        let mut joined = Joined::default();
        let mut gone = 0;
        for (id, value) in run.iter().zip(values) {
            let Some(value) = value else { continue };
            match joined.add(*id, &value) {
                Ok(()) => {}
                Err(error) => {
                    error!(block = ?id, %error, "a block of the log of events is damaged and is passed over");
                    continue;
                }
            }
            if joined.draft.events() as usize >= self.block_events() {
                gone += self.replace(std::mem::take(&mut joined)).await?;
            }
        }
        gone += self.replace(joined).await?;
        Ok(gone)
    }

    /// Writes a block in place of those that are in it; not where one of them has gone meanwhile.
    async fn replace(&self, joined: Joined) -> Result<u64, JournalError> {
        let Joined { draft, inside } = joined;
        let Some(last) = inside.last().filter(|_| inside.len() > 1) else {
            return Ok(0);
        };
        let id = self.next_id(last.closed);
        let rows = match rows(id, draft) {
            Ok(rows) => rows,
            Err(error) => {
                error!(%error, "blocks of the log of events could not be joined");
                return Ok(0);
            }
        };
        let gone = inside.len() as u64 - 1;
        let reads: Vec<RowKey> = inside.iter().map(|id| id.filter()).collect();
        let intent = Intent::soon(move |tx| {
            for id in &inside {
                if tx.get(&id.filter())?.is_none() {
                    return Err(Abort::Refused(Gone));
                }
                tx.delete(id.block());
                tx.delete(id.filter());
            }
            for (key, value) in &rows {
                tx.put(key.clone(), value.clone());
            }
            Ok(())
        });
        match self.committer.submit(intent.reading(reads)).await {
            Ok(()) => Ok(gone),
            Err(SubmitError::Store(failure)) => Err(failure.into()),
            Err(SubmitError::Refused(Gone)) => Ok(0),
        }
    }
}

impl Joined {
    /// Adds the events of a block, all or none.
    fn add(&mut self, id: BlockId, stored: &[u8]) -> Result<(), BlockError> {
        let plain = Plain::unpack(stored)?;
        let mut all = Vec::new();
        let mut events = plain.events()?;
        while let Some(event) = events.next()? {
            all.push(event.to_event());
        }
        for event in &all {
            self.draft.push(event, octets(event));
        }
        self.inside.push(id);
        Ok(())
    }
}
