//! Reclaiming blobs that nothing refers to any more.
//!
//! A blob that lost a reference is listed. After the grace period a blob without links is *condemned*: a mark in its
//! row, so that whoever links it afterwards has to write that row. After another grace period a blob that is still
//! condemned and still without links loses its row. Each step is a commit whose check is the row as it was read, so a
//! delivery of the same bytes at any moment in between either conflicts with the step or takes the mark back. A blob
//! with a link leaves the list under the check that the link is still there: whoever takes that away lists it again.
//!
//! The bytes stay in their segment until compaction; a crash between steps leaves the blob on the list.

use std::sync::Arc;

use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, EngineError, Key, KeyRange, Order, RowKey, Space, Value,
};

use crate::blob::{BlobRow, PRESENT, condemned_key, meta_key, parse_condemned_key};
use crate::intent::CommitFailure;

/// Bounds of one run.
#[derive(Clone, Debug)]
pub struct ReclaimOptions {
    /// How long a blob without references is kept, for each of the two steps.
    pub grace_millis: i64,
    /// Blobs looked at in one run.
    pub blobs_max: usize,
}

impl Default for ReclaimOptions {
    fn default() -> Self {
        Self {
            grace_millis: 10 * 60 * 1000,
            blobs_max: 10_000,
        }
    }
}

/// What one run did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReclaimReport {
    /// Listed blobs that turned out to be referenced.
    pub kept: u64,
    /// Blobs marked for deletion.
    pub condemned: u64,
    /// Blobs whose rows were deleted.
    pub reclaimed: u64,
    /// Plain bytes of the blobs reclaimed.
    pub reclaimed_bytes: u64,
    /// Steps given up because the blob changed meanwhile; they are tried again in the next run.
    pub contended: u64,
}

/// Runs the two steps over the list.
pub struct Reclaimer {
    engine: Arc<dyn Engine>,
    options: ReclaimOptions,
}

/// What is to be done with a listed blob.
enum Step {
    /// Nothing: it has no row.
    Gone,
    /// Nothing: there is this link.
    Keep(RowKey, Value),
    Condemn(BlobRow),
    Delete(BlobRow),
}

impl Step {
    /// The rows to write under the condition that the blob's row is as it was `found`. The blob leaves the list where
    /// it was `listed`.
    fn batch(
        &self,
        (since, blob): (Timestamp, BlobId),
        found: Option<Value>,
        now: Timestamp,
    ) -> Batch {
        let mut batch = Batch::new();
        batch
            .check(BlobRow::key(blob), found)
            .delete(condemned_key(since, blob));
        match self {
            Self::Gone => {}
            Self::Keep(link, value) => {
                batch.check(link.clone(), Some(value.clone()));
            }
            Self::Condemn(row) => {
                let marked = row.clone().with_mark_changed();
                batch
                    .put(BlobRow::key(blob), marked.encode())
                    .put(condemned_key(now, blob), PRESENT);
            }
            Self::Delete(_) => {
                batch.delete(BlobRow::key(blob)).delete(meta_key(blob));
            }
        }
        batch
    }
}

impl ReclaimReport {
    fn count(&mut self, step: &Step) {
        match step {
            Step::Gone | Step::Keep(..) => self.kept += 1,
            Step::Condemn(_) => self.condemned += 1,
            Step::Delete(row) => {
                self.reclaimed += 1;
                self.reclaimed_bytes += row.size;
            }
        }
    }
}

impl Reclaimer {
    /// A reclaimer over the rows of `engine`.
    pub fn new(engine: Arc<dyn Engine>, options: ReclaimOptions) -> Self {
        Self { engine, options }
    }

    /// Looks at the blobs whose grace period is over at `now`.
    pub async fn run_once(&self, now: Timestamp) -> Result<ReclaimReport, CommitFailure> {
        let due = now.plus_millis(-self.options.grace_millis);
        let range = KeyRange {
            from: Vec::new(),
            to: Some(condemned_key(due, BlobId::new([0; 32])).key),
        };
        let listed = self
            .engine
            .scan(
                Space::Condemned,
                range,
                Order::Ascending,
                self.options.blobs_max,
            )
            .await?;
        let mut report = ReclaimReport::default();
        for (key, _) in listed {
            if let Some((since, blob)) = parse_condemned_key(&key) {
                self.look_at(since, blob, now, &mut report).await?;
            }
        }
        metrics::counter!("nightmail_heap_blobs_reclaimed_total").increment(report.reclaimed);
        Ok(report)
    }

    async fn look_at(
        &self,
        since: Timestamp,
        blob: BlobId,
        now: Timestamp,
        report: &mut ReclaimReport,
    ) -> Result<(), CommitFailure> {
        let found = self
            .engine
            .get_many(&[BlobRow::key(blob)])
            .await?
            .pop()
            .flatten();
        let step = self.step(blob, found.as_ref()).await?;
        let batch = step.batch((since, blob), found, now);
        match self.engine.commit(batch, Durability::Soon).await {
            Ok(()) => report.count(&step),
            Err(CommitError::Conflict { .. }) => report.contended += 1,
            Err(CommitError::Engine(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// What is to be done with a blob. The links are scanned after its row was read.
    async fn step(&self, blob: BlobId, row: Option<&Value>) -> Result<Step, CommitFailure> {
        let Some(row) = row else {
            return Ok(Step::Gone);
        };
        let row = BlobRow::decode(row)?;
        if let Some((key, value)) = find_link(self.engine.as_ref(), blob).await? {
            let key = RowKey::new(Space::Link, key);
            return Ok(Step::Keep(key, value));
        }
        Ok(if row.is_condemned() {
            Step::Delete(row)
        } else {
            Step::Condemn(row)
        })
    }
}

/// A link to `blob`, where there is one.
async fn find_link(engine: &dyn Engine, blob: BlobId) -> Result<Option<(Key, Value)>, EngineError> {
    let range = KeyRange::prefix(blob.as_bytes());
    let mut links = engine.scan(Space::Link, range, Order::Ascending, 1).await?;
    Ok(links.pop())
}
