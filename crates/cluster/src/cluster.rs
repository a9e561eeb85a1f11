//! A node's place in the cluster, from joining to leaving.

use std::sync::Arc;

use nightmail_core::Timestamp;
use nightmail_engine::{Batch, Check, CommitError, Durability, Engine, EngineError, Value};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Duration;

use crate::error::ClusterError;
use crate::fence::FencedEngine;
use crate::lease::{Leases, Table};
use crate::member::Member;
use crate::name::{NodeName, Roles};
use crate::rows::{BeatRow, DrainRow, Epoch, Holder, LeaseRow, NodeRow, Session, Standing};
use crate::view::{View, read_node};

/// Times joining or leaving is tried again because a row changed meanwhile.
const TRIES_MAX: usize = 10;
/// The shortest lease, in heartbeats.
const LEASE_HEARTBEATS_MIN: u32 = 3;

/// What a node says of itself when it joins.
#[derive(Clone, Debug)]
pub struct ClusterOptions {
    /// Its name.
    pub name: NodeName,
    /// What it does. Shards of the queue go to nodes that deliver, periodic jobs to those with the admin role.
    pub roles: Roles,
    /// Where it can be reached; for the operator.
    pub addresses: String,
    /// The program's version; for the operator.
    pub version: String,
    /// How often it says that it is alive.
    pub heartbeat: Duration,
    /// How long it may be silent before others fence it; at least three heartbeats.
    pub lease: Duration,
}

impl ClusterOptions {
    /// A node with a heartbeat of 2 s and a lease of 6 s.
    pub fn new(name: NodeName, roles: Roles) -> Self {
        Self {
            name,
            roles,
            addresses: String::new(),
            version: String::new(),
            heartbeat: Duration::from_secs(2),
            lease: Duration::from_secs(6),
        }
    }
}

/// Whether the process still is the node that it joined as.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Place {
    Member,
    Replaced,
    Left,
}

/// What the membership task and the owner of the cluster share.
pub(crate) struct Shared {
    pub options: ClusterOptions,
    /// The engine without the fence.
    pub engine: Arc<dyn Engine>,
    pub fenced: Arc<FencedEngine>,
    pub table: Arc<Table>,
    /// Something happened that the membership looks into at once.
    pub wake: Arc<Notify>,
    pub place: watch::Sender<Place>,
    pub draining: watch::Sender<bool>,
}

impl Shared {
    pub fn name(&self) -> &NodeName {
        &self.options.name
    }
}

/// A node's place in the cluster. Dropped without [`Cluster::leave`] it is gone as after a crash: others take its work
/// over when its lease has run out.
pub struct Cluster {
    engine: Arc<dyn Engine>,
    leases: Leases,
    member: Option<Joined>,
}

struct Joined {
    shared: Arc<Shared>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Cluster {
    /// A single machine: no rows, no fence, no task; every lease is held for ever.
    pub const fn single(engine: Arc<dyn Engine>) -> Self {
        Self {
            engine,
            leases: Leases::everything(),
            member: None,
        }
    }

    /// Joins the cluster that shares `engine`, on the current tokio runtime, and keeps the membership up until dropped.
    ///
    /// A session that the name had before is over at once, so that a node that was killed need not wait for its lease.
    /// A process that still runs under that session learns it by its next commit or heartbeat, does nothing more, and
    /// says so by [`Cluster::replaced`]; it does not join again, so that two machines given one name by mistake do not
    /// throw each other out for ever.
    ///
    /// Fails when the store does not answer.
    pub async fn join(
        engine: Arc<dyn Engine>,
        mut options: ClusterOptions,
    ) -> Result<Self, ClusterError> {
        options.lease = options.lease.max(options.heartbeat * LEASE_HEARTBEATS_MIN);
        let session = new_session()?;
        let row = enter_first(engine.as_ref(), &options, session).await?;
        tracing::info!(node = %options.name, %session, epoch = %row.epoch, "joined the cluster");
        let wake = Arc::new(Notify::new());
        let fence = fence_of(&options.name, &row);
        let table = Arc::new(Table::new(Arc::clone(&wake)));
        let fenced = FencedEngine::new(Arc::clone(&engine), fence, Arc::clone(&wake));
        let fenced = Arc::new(fenced);
        let shared = Arc::new(Shared {
            fenced: Arc::clone(&fenced),
            options,
            engine,
            table: Arc::clone(&table),
            wake,
            place: watch::Sender::new(Place::Member),
            draining: watch::Sender::new(false),
        });
        let task = tokio::spawn(Member::new(Arc::clone(&shared), row).run());
        Ok(Self {
            engine: fenced,
            leases: Leases::of(table),
            member: Some(Joined {
                shared,
                task: Mutex::new(Some(task)),
            }),
        })
    }

    /// The engine for everything this node does: its commits fail once the node is fenced, replaced or has left, and
    /// succeed again when it has joined anew.
    pub fn engine(&self) -> Arc<dyn Engine> {
        Arc::clone(&self.engine)
    }

    /// Who this node is now; `None` on a single machine.
    pub(crate) fn holder(&self) -> Option<Holder> {
        let shared = &self.member.as_ref()?.shared;
        let fence = shared.fenced.fence();
        let row = NodeRow::decode(fence.expected.as_deref()?).ok()?;
        Some(Holder {
            name: shared.name().clone(),
            session: row.session,
        })
    }

    /// The leases of this node.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Whether this node still has its place, as the store says: while it has not, whatever it commits fails, and it
    /// may be about to join again.
    ///
    /// Fails when the store does not answer.
    pub async fn is_current(&self) -> Result<bool, EngineError> {
        let Some(member) = &self.member else {
            return Ok(true);
        };
        let fence = member.shared.fenced.fence();
        let rows = self
            .engine
            .get_many(std::slice::from_ref(&fence.key))
            .await?;
        Ok(rows.first() == Some(&fence.expected))
    }

    /// Returns when an operator wants this node emptied. Cancel-safe.
    pub async fn drain_requested(&self) {
        if let Some(member) = &self.member {
            let mut draining = member.shared.draining.subscribe();
            if draining.wait_for(|draining| *draining).await.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Returns when another process has joined under this node's name: this one can do nothing more and should end.
    /// Cancel-safe.
    pub async fn replaced(&self) {
        if let Some(member) = &self.member {
            let mut place = member.shared.place.subscribe();
            let replaced = place.wait_for(|place| *place == Place::Replaced).await;
            if replaced.is_ok() {
                return;
            }
        }
        std::future::pending().await
    }

    /// Gives every lease back and takes the node out of the cluster, so that others go on with its work without
    /// waiting. What this node commits from now on fails: call it last, when everything has been committed.
    ///
    /// Fails when the store does not answer; the others then wait for the lease. Does nothing on a single machine, or
    /// when the node has no place any more.
    pub async fn leave(&self) -> Result<(), ClusterError> {
        let Some(member) = &self.member else {
            return Ok(());
        };
        let task = member.task.lock().take();
        if let Some(task) = task {
            task.abort();
            // It ends by being aborted, or has ended because the node was replaced.
            let _ = task.await;
        }
        member.shared.table.lose_all();
        leave(&member.shared).await
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        if let Some(task) = self.task.get_mut().take() {
            task.abort();
        }
    }
}

/// A session that no process has had.
pub(crate) fn new_session() -> Result<Session, ClusterError> {
    let raw = getrandom::u64().map_err(|error| ClusterError::Random(error.to_string()))?;
    Ok(Session::new(raw))
}

/// What the commits of a session check.
pub(crate) fn fence_of(name: &NodeName, row: &NodeRow) -> Check {
    Check {
        key: NodeRow::key(name),
        expected: Some(row.encode().into()),
    }
}

/// Writes the node's row over `seen`, and its first heartbeat, for a new session.
pub(crate) async fn enter(
    engine: &dyn Engine,
    options: &ClusterOptions,
    session: Session,
    seen: Option<Value>,
    keep_drain: bool,
) -> Result<NodeRow, CommitError> {
    let now: Timestamp = nightmail_commit::now();
    // A row that does not read is replaced: its session is over in any case.
    let before = seen.as_deref().and_then(|row| NodeRow::decode(row).ok());
    let row = NodeRow {
        session,
        epoch: before.map_or(Epoch::default(), |row| row.epoch).next(),
        standing: Standing::Live,
        started: now,
        version: options.version.clone(),
        addresses: options.addresses.clone(),
        roles: options.roles.clone(),
    };
    let beat = BeatRow {
        session,
        count: 0,
        at: now,
    };
    let name = &options.name;
    let mut batch = Batch::new();
    batch.check(NodeRow::key(name), seen);
    batch.put(NodeRow::key(name), row.encode());
    batch.put(BeatRow::key(name), beat.encode());
    if !keep_drain {
        batch.delete(DrainRow::key(name));
    }
    engine.commit(batch, Durability::Synced).await?;
    Ok(row)
}

async fn enter_first(
    engine: &dyn Engine,
    options: &ClusterOptions,
    session: Session,
) -> Result<NodeRow, ClusterError> {
    for _ in 0..TRIES_MAX {
        let (seen, _) = read_node(engine, &options.name).await?;
        match enter(engine, options, session, seen, false).await {
            Ok(row) => return Ok(row),
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Engine(error)) => return Err(error.into()),
        }
    }
    Err(ClusterError::Contended(options.name.clone()))
}

async fn leave(shared: &Shared) -> Result<(), ClusterError> {
    for _ in 0..TRIES_MAX {
        let view = View::read(shared.engine.as_ref()).await?;
        let fence = shared.fenced.fence();
        let own = view.nodes.get(shared.name());
        let Some(own) = own.filter(|own| Some(&own.bytes) == fence.expected.as_ref()) else {
            return Ok(());
        };
        let batch = leaving(&view, shared.name(), &own.row, &fence);
        match shared.engine.commit(batch, Durability::Synced).await {
            Ok(()) => {
                shared.place.send_replace(Place::Left);
                tracing::info!(node = %shared.name(), "left the cluster");
                return Ok(());
            }
            Err(CommitError::Conflict { .. }) => {}
            Err(CommitError::Engine(error)) => return Err(error.into()),
        }
    }
    Err(ClusterError::Contended(shared.name().clone()))
}

/// What takes a node out of the cluster and frees its leases.
fn leaving(view: &View, name: &NodeName, own: &NodeRow, fence: &Check) -> Batch {
    let mut batch = Batch::new();
    batch.check(fence.key.clone(), fence.expected.clone());
    batch.put(NodeRow::key(name), own.ended(Standing::Left).encode());
    batch.delete(BeatRow::key(name));
    batch.delete(DrainRow::key(name));
    let holder = Holder {
        name: name.clone(),
        session: own.session,
    };
    for (lease, read) in view.leases_of(&holder) {
        batch.check(LeaseRow::key(lease), Some(read.bytes.clone()));
        batch.put(LeaseRow::key(lease), read.row.freed().encode());
    }
    batch
}
