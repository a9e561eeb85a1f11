//! What an operator sees of the nodes and may do to them, from any node or from the command line.

use nightmail_core::Timestamp;
use nightmail_engine::{Batch, CommitError, Durability, Engine};

use crate::error::ClusterError;
use crate::lease::LeaseName;
use crate::name::{NodeName, Roles};
use crate::rows::{BeatRow, DrainRow, Epoch, Holder, NodeRow, Session, Standing};
use crate::view::{View, read_node};

/// Times a change is tried again because the row changed meanwhile.
const TRIES_MAX: usize = 10;

/// What a node is doing, as far as its rows say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NodeState {
    /// It may commit. It may also have died within the last lease.
    Live,
    /// It is live and takes no new leases.
    Draining,
    /// It went in good order.
    Left,
    /// It was silent for too long and has been shut out.
    Fenced,
}

impl NodeState {
    /// The word for it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Draining => "draining",
            Self::Left => "left",
            Self::Fenced => "fenced",
        }
    }
}

/// A node and what is known of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NodeStatus {
    /// Its name.
    pub name: NodeName,
    /// What it is doing.
    pub state: NodeState,
    /// What it is there for.
    pub roles: Roles,
    /// Its session, the last one where it has gone.
    pub session: Session,
    /// How often its session has begun or ended.
    pub epoch: Epoch,
    /// The leases it holds.
    pub leases: Vec<LeaseName>,
    /// The program's version, as it says.
    pub version: String,
    /// Where it can be reached, as it says.
    pub addresses: String,
    /// When its session began, by its own clock.
    pub started: Timestamp,
    /// Its last heartbeat, by its own clock; `None` once it has gone.
    pub last_beat: Option<Timestamp>,
}

/// Every node that has joined and was not forgotten, by name.
///
/// Fails when the store does not answer.
pub async fn nodes(engine: &dyn Engine) -> Result<Vec<NodeStatus>, ClusterError> {
    let view = View::read(engine).await?;
    let status = |name: &NodeName, row: &NodeRow| NodeStatus {
        name: name.clone(),
        state: match row.standing {
            Standing::Live if view.draining.contains(name) => NodeState::Draining,
            Standing::Live => NodeState::Live,
            Standing::Left => NodeState::Left,
            Standing::Fenced => NodeState::Fenced,
        },
        roles: row.roles.clone(),
        session: row.session,
        epoch: row.epoch,
        leases: leases(&view, name, row),
        version: row.version.clone(),
        addresses: row.addresses.clone(),
        started: row.started,
        last_beat: view.beats.get(name).map(|beat| beat.row.at),
    };
    Ok(view
        .nodes
        .iter()
        .map(|(name, node)| status(name, &node.row))
        .collect())
}

fn leases(view: &View, name: &NodeName, row: &NodeRow) -> Vec<LeaseName> {
    let holder = Holder {
        name: name.clone(),
        session: row.session,
    };
    let held = view.leases_of(&holder).map(|(lease, _)| lease);
    held.filter(|_| row.is_live()).collect()
}

/// Asks a node to give back its leases and take no more. It notices at its next heartbeat; a process that joins under
/// the name later starts without the request.
///
/// Fails with [`ClusterError::NoSuchNode`] when no live node has the name.
pub async fn request_drain(engine: &dyn Engine, name: &NodeName) -> Result<(), ClusterError> {
    for _ in 0..TRIES_MAX {
        let (row, _) = read_node(engine, name).await?;
        let live = row
            .as_deref()
            .is_some_and(|row| NodeRow::decode(row).is_ok_and(|row| row.is_live()));
        if !live {
            return Err(ClusterError::NoSuchNode(name.clone()));
        }
        let mut batch = Batch::new();
        batch.check(NodeRow::key(name), row);
        batch.put(DrainRow::key(name), DrainRow::encode());
        if commit(engine, batch).await? {
            return Ok(());
        }
    }
    Err(ClusterError::Contended(name.clone()))
}

/// Removes what is kept of a node that has gone.
///
/// Fails with [`ClusterError::Live`] when it has not, and [`ClusterError::NoSuchNode`].
pub async fn forget(engine: &dyn Engine, name: &NodeName) -> Result<(), ClusterError> {
    for _ in 0..TRIES_MAX {
        let (row, _) = read_node(engine, name).await?;
        let row = row.ok_or_else(|| ClusterError::NoSuchNode(name.clone()))?;
        // A row that does not read may be a newer program's live node.
        if NodeRow::decode(&row).map_or(true, |row| row.is_live()) {
            return Err(ClusterError::Live(name.clone()));
        }
        let mut batch = Batch::new();
        batch.check(NodeRow::key(name), Some(row));
        for key in [NodeRow::key(name), BeatRow::key(name), DrainRow::key(name)] {
            batch.delete(key);
        }
        if commit(engine, batch).await? {
            return Ok(());
        }
    }
    Err(ClusterError::Contended(name.clone()))
}

/// Commits; false when a row changed meanwhile.
async fn commit(engine: &dyn Engine, batch: Batch) -> Result<bool, ClusterError> {
    match engine.commit(batch, Durability::Synced).await {
        Ok(()) => Ok(true),
        Err(CommitError::Conflict { .. }) => Ok(false),
        Err(CommitError::Engine(error)) => Err(error.into()),
    }
}
