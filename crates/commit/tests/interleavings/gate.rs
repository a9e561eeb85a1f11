//! An engine that stops before every look and every commit until a scheduler lets its actor go on.
//!
//! Each actor of a scene has an engine of its own over the same rows. An actor makes one call at a time, so that a
//! schedule is a list of actors: whose call came next.

use std::sync::Arc;
use std::time::Duration;

use nightmail_engine::{
    Batch, BoxFuture, CommitError, Durability, Engine, EngineError, EngineStats, Key, KeyRange,
    MemoryEngine, Order, RowKey, Space, Value,
};
use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};

/// How long an actor may run between two calls before the scene counts as stuck.
const STUCK: Duration = Duration::from_secs(60);

/// What a call looks at and what it changes.
#[derive(Clone, Debug, Default)]
pub struct Footprint {
    reads: Vec<RowKey>,
    ranges: Vec<(Space, KeyRange)>,
    writes: Vec<RowKey>,
}

impl Footprint {
    /// Whether the two calls leave the same rows and the same answers in either order.
    pub fn commutes_with(&self, other: &Self) -> bool {
        !self.disturbs(other) && !other.disturbs(self)
    }

    fn disturbs(&self, other: &Self) -> bool {
        self.writes.iter().any(|write| {
            let within = |(space, range): &(Space, KeyRange)| {
                // The list of condemned blobs is ordered by time, and times differ from run to run.
                *space == write.space
                    && (write.space == Space::Condemned || range.contains(&write.key))
            };
            other.reads.contains(write)
                || other.writes.contains(write)
                || other.ranges.iter().any(within)
        })
    }

    fn of_commit(batch: &Batch) -> Self {
        Self {
            reads: batch
                .checks
                .iter()
                .map(|check| timeless(&check.key))
                .collect(),
            ranges: Vec::new(),
            writes: batch
                .writes
                .iter()
                .map(|write| timeless(&write.key))
                .collect(),
        }
    }
}

/// A key without the time in it.
fn timeless(key: &RowKey) -> RowKey {
    match key.space {
        Space::Condemned => RowKey::new(key.space, key.key.get(8..).unwrap_or_default()),
        _ => key.clone(),
    }
}

enum Stand {
    Running,
    Waiting(Footprint, oneshot::Sender<()>),
    Done,
}

/// Where the actors of a scene stand.
pub struct Gate {
    stands: Mutex<Vec<Stand>>,
    moved: Notify,
}

impl Gate {
    pub fn new(actors: usize) -> Arc<Self> {
        Arc::new(Self {
            stands: Mutex::new((0..actors).map(|_| Stand::Running).collect()),
            moved: Notify::new(),
        })
    }

    /// The engine of one actor.
    pub fn engine(self: &Arc<Self>, actor: usize, rows: &Arc<MemoryEngine>) -> Arc<dyn Engine> {
        Arc::new(GateEngine {
            rows: Arc::clone(rows),
            gate: Arc::clone(self),
            actor,
        })
    }

    /// The actor makes no further call.
    pub fn done(&self, actor: usize) {
        self.stand(actor, Stand::Done);
    }

    /// Waits until every actor waits or is done; says which wait, and for what.
    pub async fn rest(&self) -> Vec<(usize, Footprint)> {
        let rested = async {
            loop {
                let moved = self.moved.notified();
                if let Some(waiting) = self.waiting() {
                    return waiting;
                }
                moved.await;
            }
        };
        tokio::time::timeout(STUCK, rested)
            .await
            .expect("every actor comes to its next call")
    }

    /// Lets an actor that waits make its call.
    pub fn release(&self, actor: usize) {
        let stand = std::mem::replace(&mut self.stands.lock()[actor], Stand::Running);
        let Stand::Waiting(_, go) = stand else {
            panic!("actor {actor} does not wait");
        };
        let _ = go.send(());
    }

    fn waiting(&self) -> Option<Vec<(usize, Footprint)>> {
        let stands = self.stands.lock();
        if stands.iter().any(|stand| matches!(stand, Stand::Running)) {
            return None;
        }
        let waiting = stands
            .iter()
            .enumerate()
            .filter_map(|(actor, stand)| match stand {
                Stand::Waiting(footprint, _) => Some((actor, footprint.clone())),
                Stand::Running | Stand::Done => None,
            });
        Some(waiting.collect())
    }

    async fn pass(&self, actor: usize, footprint: Footprint) {
        let (go, gone) = oneshot::channel();
        self.stand(actor, Stand::Waiting(footprint, go));
        // The scheduler goes away when it has seen enough; then nothing goes on.
        if gone.await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn stand(&self, actor: usize, stand: Stand) {
        let before = std::mem::replace(&mut self.stands.lock()[actor], stand);
        assert!(
            matches!(before, Stand::Running),
            "actor {actor} makes one call at a time"
        );
        self.moved.notify_one();
    }
}

struct GateEngine {
    rows: Arc<MemoryEngine>,
    gate: Arc<Gate>,
    actor: usize,
}

impl Engine for GateEngine {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move {
            if !keys.is_empty() {
                let footprint = Footprint {
                    reads: keys.iter().map(timeless).collect(),
                    ..Footprint::default()
                };
                self.gate.pass(self.actor, footprint).await;
            }
            self.rows.get_many(keys).await
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
            let footprint = Footprint {
                ranges: vec![(space, range.clone())],
                ..Footprint::default()
            };
            self.gate.pass(self.actor, footprint).await;
            self.rows.scan(space, range, order, limit).await
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            self.gate
                .pass(self.actor, Footprint::of_commit(&batch))
                .await;
            self.rows.commit(batch, durability).await
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        self.rows.sync()
    }

    fn stats(&self) -> EngineStats {
        self.rows.stats()
    }
}
