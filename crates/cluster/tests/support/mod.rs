//! Nodes over one engine in memory, each behind a gate of its own.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::{Cluster, ClusterOptions, LeaseName, NodeName, Role, Roles};
use nightmail_engine::{
    Batch, BoxFuture, CommitError, Durability, Engine, EngineError, EngineStats, Key, KeyRange,
    MemoryEngine, Order, RowKey, Space, Value,
};
use tokio::sync::watch;

/// How a node reaches the engine.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    Open,
    /// Calls wait, as on a paused machine: what was prepared goes out when the gate opens.
    Held,
    /// Calls fail, as when the network is away.
    Broken,
}

/// One node's way to the engine.
pub struct Gated {
    inner: Arc<MemoryEngine>,
    gate: watch::Sender<Gate>,
}

impl Gated {
    pub fn new(inner: &Arc<MemoryEngine>) -> Arc<Self> {
        Arc::new(Self {
            inner: Arc::clone(inner),
            gate: watch::Sender::new(Gate::Open),
        })
    }

    pub fn set(&self, gate: Gate) {
        self.gate.send_replace(gate);
    }

    pub fn gate(&self) -> Gate {
        *self.gate.borrow()
    }

    async fn pass(&self) -> Result<(), EngineError> {
        let mut gate = self.gate.subscribe();
        let gate = gate.wait_for(|gate| *gate != Gate::Held).await;
        match *gate.unwrap() {
            Gate::Broken => Err(EngineError::Unavailable("the way is cut".to_owned())),
            _ => Ok(()),
        }
    }
}

impl Engine for Gated {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move {
            self.pass().await?;
            self.inner.get_many(keys).await
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
            self.pass().await?;
            self.inner.scan(space, range, order, limit).await
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            self.pass().await?;
            self.inner.commit(batch, durability).await
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.pass().await?;
            self.inner.sync().await
        })
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

/// A node.
pub struct Node {
    pub name: NodeName,
    pub way: Arc<Gated>,
    pub cluster: Cluster,
}

impl Node {
    pub async fn start(engine: &Arc<MemoryEngine>, name: &str) -> Self {
        Self::start_as(engine, name, &[Role::Delivery, Role::Admin]).await
    }

    pub async fn start_as(engine: &Arc<MemoryEngine>, name: &str, roles: &[Role]) -> Self {
        let roles = roles.iter().copied().collect::<Roles>();
        Self::join(engine, ClusterOptions::new(name.parse().unwrap(), roles)).await
    }

    pub async fn join(engine: &Arc<MemoryEngine>, options: ClusterOptions) -> Self {
        let way = Gated::new(engine);
        let name = options.name.clone();
        let cluster = Cluster::join(way.clone(), options).await.unwrap();
        Self { name, way, cluster }
    }

    pub fn held(&self) -> Vec<LeaseName> {
        self.cluster.leases().held()
    }

    pub fn holds(&self, lease: LeaseName) -> bool {
        self.held().contains(&lease)
    }
}

/// A row for tests.
pub fn row(name: &str) -> RowKey {
    RowKey::new(Space::Directory, name)
}

pub fn put(name: &str, value: &str) -> Batch {
    let mut batch = Batch::new();
    batch.put(row(name), Value::copy_from_slice(value.as_bytes()));
    batch
}

pub async fn get(engine: &dyn Engine, name: &str) -> Option<String> {
    let value = engine.get_many(&[row(name)]).await.unwrap().pop().unwrap();
    value.map(|value| String::from_utf8(value.to_vec()).unwrap())
}

/// Waits until `check` holds; fails after two minutes of the runtime's time.
pub async fn eventually(what: &str, mut check: impl FnMut() -> bool) {
    for _ in 0..2400 {
        if check() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

/// Whether these nodes hold every lease, each once.
pub fn share_all(nodes: &[&Node]) -> bool {
    let mut held: Vec<LeaseName> = nodes.iter().flat_map(|node| node.held()).collect();
    held.sort_unstable();
    held == LeaseName::all().collect::<Vec<_>>()
}
