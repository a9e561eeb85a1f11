//! Reclaiming blobs that nothing refers to any more.
//!
//! A blob that lost a reference is listed. After the grace period a blob without links is *condemned*: a mark in its
//! row, so that whoever links it afterwards has to write that row. After another grace period a blob that is still
//! condemned and still without links loses its row. Each step is a commit whose check is the row as it was read, so a
//! delivery of the same bytes at any moment in between either conflicts with the step or takes the mark back.
//!
//! The bytes stay in their segment until compaction; a crash between steps leaves the blob on the list.

use std::sync::Arc;

use nightmail_core::codec::RowError;
use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{
    Batch, Check, CommitError, Durability, Engine, EngineError, KeyRange, Order, RowKey, Space,
    Value, Write,
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

enum Step {
    Keep,
    Condemn(BlobRow),
    Delete(BlobRow),
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
        let entry = condemned_key(since, blob);
        let row_key = BlobRow::key(blob);
        let found = self
            .engine
            .get_many(std::slice::from_ref(&row_key))
            .await?
            .pop()
            .flatten();
        let step = self.step(blob, found.as_ref()).await?;
        let mut batch = Batch {
            checks: vec![Check {
                key: row_key.clone(),
                expected: found,
            }],
            writes: vec![Write {
                key: entry,
                value: None,
            }],
        };
        let mut reclaimed_bytes = 0;
        let tally = match step {
            Step::Keep => &mut report.kept,
            Step::Condemn(mut row) => {
                row.condemned = true;
                batch.writes.push(Write {
                    key: row_key,
                    value: Some(row.encode().into()),
                });
                batch.writes.push(Write {
                    key: condemned_key(now, blob),
                    value: Some(PRESENT),
                });
                &mut report.condemned
            }
            Step::Delete(row) => {
                batch.writes.push(Write {
                    key: row_key,
                    value: None,
                });
                batch.writes.push(Write {
                    key: meta_key(blob),
                    value: None,
                });
                reclaimed_bytes = row.size;
                &mut report.reclaimed
            }
        };
        match self.engine.commit(batch, Durability::Soon).await {
            Ok(()) => {
                *tally += 1;
                report.reclaimed_bytes += reclaimed_bytes;
            }
            Err(CommitError::Conflict { .. }) => report.contended += 1,
            Err(CommitError::Engine(error)) => return Err(error.into()),
        }
        Ok(())
    }

    /// What is to be done with a blob. The links are scanned after its row was read.
    async fn step(&self, blob: BlobId, row: Option<&Value>) -> Result<Step, CommitFailure> {
        let Some(row) = row else {
            return Ok(Step::Keep);
        };
        let row = BlobRow::decode(row)?;
        if has_link(self.engine.as_ref(), blob).await? {
            return Ok(Step::Keep);
        }
        Ok(if row.condemned {
            Step::Delete(row)
        } else {
            Step::Condemn(row)
        })
    }
}

/// Whether anything refers to `blob`.
pub(crate) async fn has_link(engine: &dyn Engine, blob: BlobId) -> Result<bool, EngineError> {
    let links = engine
        .scan(
            Space::Link,
            KeyRange::prefix(blob.as_bytes()),
            Order::Ascending,
            1,
        )
        .await?;
    Ok(!links.is_empty())
}

/// Reads one row of the engine.
pub(crate) async fn get_blob_row(
    engine: &dyn Engine,
    blob: BlobId,
) -> Result<Option<(Value, BlobRow)>, CommitFailure> {
    let key: RowKey = BlobRow::key(blob);
    let Some(value) = engine.get_many(&[key]).await?.pop().flatten() else {
        return Ok(None);
    };
    let row = BlobRow::decode(&value).map_err(|error: RowError| CommitFailure::from(error))?;
    Ok(Some((value, row)))
}
