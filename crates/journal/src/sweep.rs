//! Removing what is older than events are kept.

use std::convert::Infallible;

use nightmail_commit::{Intent, SubmitError};
use nightmail_core::Timestamp;
use nightmail_engine::{Order, Space};

use crate::error::JournalError;
use crate::journal::Journal;
use crate::key::{BlockId, filters};

/// Blocks removed in one commit.
const BATCH: usize = 128;
/// Blocks removed in one sweep: more than the busiest minute writes.
const SWEEP_MAX: usize = 64 * BATCH;

impl Journal {
    /// Removes blocks that were written longer than [`retention`](crate::JournalOptions::retention) before `now`, the
    /// oldest first, a bounded number of them. Returns how many. Several nodes may do it at once.
    ///
    /// # Errors
    /// The store cannot be read or written; what was removed until then stays removed.
    pub async fn sweep(&self, now: Timestamp) -> Result<u64, JournalError> {
        let Some(inner) = &self.inner else {
            return Ok(0);
        };
        let kept = i64::try_from(inner.retention.as_millis()).unwrap_or(i64::MAX);
        let end = match kept {
            // What was written in this very millisecond goes too.
            0 => None,
            kept => Some(Timestamp::from_millis(now.millis().saturating_sub(kept))),
        };
        let engine = inner.committer.engine();
        let mut removed = 0;
        while removed < SWEEP_MAX {
            let range = filters(None, end);
            let old = engine.scan(Space::Journal, range, Order::Ascending, BATCH);
            let old = old.await?;
            let blocks: Vec<_> = old
                .iter()
                .filter_map(|(key, _)| BlockId::of_filter(key))
                .collect();
            if blocks.is_empty() {
                break;
            }
            removed += blocks.len();
            let is_last = old.len() < BATCH;
            let intent = Intent::<(), Infallible>::soon(move |tx| {
                for id in &blocks {
                    tx.delete(id.block());
                    tx.delete(id.filter());
                }
                Ok(())
            });
            match inner.committer.submit(intent).await {
                Ok(()) => {}
                Err(SubmitError::Store(failure)) => return Err(failure.into()),
                Err(SubmitError::Refused(never)) => match never {},
            }
            if is_last {
                break;
            }
        }
        Ok(removed as u64)
    }
}
