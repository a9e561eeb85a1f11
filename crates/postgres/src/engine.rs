//! The engine over PostgreSQL.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use nightmail_engine::{
    Batch, BoxFuture, CommitError, Durability, Engine, EngineError, EngineStats, Key, KeyRange,
    Order, RowKey, Space, Value,
};
use nightmail_heap::HeapKey;
use tokio::time::timeout;

use crate::commit::Committer;
use crate::connect::PostgresOptions;
use crate::fault::Fault;
use crate::packs::PostgresPacks;
use crate::pool::Pool;
use crate::read::Scan;
use crate::schema::{self, SchemaError};
use crate::session::Session;
use crate::sql::Query;
use crate::together::Together;

/// An engine whose rows are in a PostgreSQL database. Any number of nodes may have it open.
///
/// A commit whose connection is lost is answered when the server has said what became of it, however long that takes.
/// [`CommitError::Engine`] means that the batch was not applied, unless the engine or the runtime ended meanwhile.
pub struct PostgresEngine {
    core: Arc<Core>,
    reads: Together,
    heap_key: HeapKey,
}

struct Core {
    pool: Arc<Pool>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    commits: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    syncs: AtomicU64,
    bytes_written: AtomicU64,
    /// Commits answered under [`Durability::Soon`], and how many of them a later synced commit has covered.
    soon: AtomicU64,
    covered: AtomicU64,
}

impl PostgresEngine {
    /// Opens the database that [`crate::init`] has made. Fails where there is none, or one of another version.
    pub async fn open(options: PostgresOptions) -> Result<Self, SchemaError> {
        let opened = schema::open(&options).await?;
        let pool = Pool::new(options);
        Ok(Self {
            heap_key: opened.heap_key,
            reads: Together::start(Arc::clone(&pool)),
            core: Arc::new(Core {
                pool,
                counts: Counts::default(),
            }),
        })
    }

    /// The secret that all nodes of the database share, for their heaps.
    pub const fn heap_key(&self) -> HeapKey {
        self.heap_key
    }

    /// Packs in the same database, over the same connections.
    pub fn packs(&self) -> PostgresPacks {
        PostgresPacks::new(Arc::clone(&self.core.pool))
    }

    /// Times that an answer of the server was waited for. A batch counts once.
    pub fn round_trips(&self) -> u64 {
        self.core.pool.round_trips.get()
    }
}

impl Drop for PostgresEngine {
    fn drop(&mut self) {
        self.core.pool.close();
    }
}

impl Engine for PostgresEngine {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move {
            if keys.is_empty() {
                return Ok(Vec::new());
            }
            self.reads.get_many(keys).await
        })
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>> {
        Box::pin(async move {
            if limit == 0 || range.is_empty() {
                return Ok(Vec::new());
            }
            let scan = Scan {
                space,
                range,
                order,
                limit,
            };
            self.core.pool.ask(&scan).await
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            // In a task of its own, so that a caller who goes away does not cut a transaction short.
            let task = tokio::spawn(async move { Box::pin(core.commit(&batch, durability)).await });
            task.await.unwrap_or_else(|_| Err(ended().into()))
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        let core = Arc::clone(&self.core);
        Box::pin(async move {
            let task = tokio::spawn(async move { Box::pin(core.sync()).await });
            task.await.unwrap_or_else(|_| Err(ended()))
        })
    }

    fn stats(&self) -> EngineStats {
        let counts = &self.core.counts;
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        EngineStats {
            commits: get(&counts.commits),
            conflicts: get(&counts.conflicts),
            failures: get(&counts.failures),
            syncs: get(&counts.syncs),
            bytes_written: get(&counts.bytes_written),
            reopens: self.core.pool.reconnects(),
        }
    }
}

impl Core {
    async fn commit(&self, batch: &Batch, durability: Durability) -> Result<(), CommitError> {
        let counts = &self.counts;
        let soon = counts.soon.load(Ordering::Acquire);
        let outcome = match (batch.is_empty(), durability) {
            (true, Durability::Soon) => return Ok(()),
            (true, Durability::Synced) => return Ok(self.sync().await?),
            (false, _) => {
                let committer = Committer {
                    pool: &self.pool,
                    batch,
                    durability,
                };
                committer.run().await
            }
        };
        let count = match &outcome {
            Ok(()) => {
                counts.committed(batch, durability, soon);
                &counts.commits
            }
            Err(CommitError::Conflict { .. }) => &counts.conflicts,
            Err(CommitError::Engine(_)) => &counts.failures,
        };
        count.fetch_add(1, Ordering::Relaxed);
        outcome
    }

    /// Makes a commit that reaches the disk, and with it, by the order of the log, all before it.
    async fn sync(&self) -> Result<(), EngineError> {
        let soon = self.counts.soon.load(Ordering::Acquire);
        if self.counts.covered.load(Ordering::Acquire) >= soon {
            return Ok(());
        }
        let mut synced = self.touch().await;
        if matches!(synced, Err(EngineError::Unavailable(_))) {
            // Once more: an idle connection may have been dead already.
            synced = self.touch().await;
        }
        match &synced {
            Ok(()) => self.counts.synced(soon),
            Err(_) => drop(self.counts.failures.fetch_add(1, Ordering::Relaxed)),
        }
        synced
    }

    async fn touch(&self) -> Result<(), EngineError> {
        let mut lease = self.pool.acquire().await?;
        let patience = self.pool.options.statement_timeout;
        let fault = match timeout(patience, touch(&mut lease.session)).await {
            Ok(Ok(())) => {
                lease.release();
                return Ok(());
            }
            Ok(Err(fault)) => fault,
            Err(_) => Fault::Lost("PostgreSQL does not answer in time".to_owned()),
        };
        if matches!(fault, Fault::Lost(_)) {
            self.pool.note_lost(&fault);
        }
        Err(fault.into())
    }
}

/// Fails with [`Fault::Again`] where the session's lane is gone: a transaction that writes nothing forces nothing.
async fn touch(session: &mut Session) -> Result<(), Fault> {
    let warnings = session.link.warnings();
    let lane: [u8; 16] = session.lane.0;
    let touched = session.execute(Query::Touch, &[&&lane[..]]).await?;
    if touched == 0 || session.link.warnings() != warnings {
        return Err(Fault::Again("the log was not forced".to_owned()));
    }
    Ok(())
}

impl Counts {
    fn committed(&self, batch: &Batch, durability: Durability, soon_before: u64) {
        self.bytes_written
            .fetch_add(batch.write_bytes(), Ordering::Relaxed);
        match durability {
            Durability::Soon => drop(self.soon.fetch_add(1, Ordering::AcqRel)),
            Durability::Synced => self.synced(soon_before),
        }
    }

    fn synced(&self, covered: u64) {
        self.syncs.fetch_add(1, Ordering::Relaxed);
        self.covered.fetch_max(covered, Ordering::AcqRel);
    }
}

fn ended() -> EngineError {
    EngineError::Unavailable("the program is ending".to_owned())
}
