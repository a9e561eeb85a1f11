//! The membership as it stands: every row of it, read in one state.

use std::collections::{BTreeMap, BTreeSet};

use nightmail_engine::{Engine, EngineError, KeyRange, Order, Space, Value};

use crate::lease::LeaseName;
use crate::name::{NodeName, Role};
use crate::rows::{BeatRow, DrainRow, Holder, Kind, LeaseRow, NodeRow, PREFIX};

/// A row and the bytes it was read from, for checks.
pub(crate) struct Read<T> {
    pub row: T,
    pub bytes: Value,
}

/// What was read.
#[derive(Default)]
pub(crate) struct View {
    pub nodes: BTreeMap<NodeName, Read<NodeRow>>,
    pub beats: BTreeMap<NodeName, Read<BeatRow>>,
    pub draining: BTreeSet<NodeName>,
    pub leases: BTreeMap<LeaseName, Read<LeaseRow>>,
    /// Nodes and leases whose rows do not read (a newer program's, or damaged): they are left alone.
    unreadable_nodes: BTreeSet<NodeName>,
    unreadable_leases: BTreeSet<LeaseName>,
}

impl View {
    /// Reads the membership.
    pub async fn read(engine: &dyn Engine) -> Result<Self, EngineError> {
        let range = KeyRange::prefix(PREFIX);
        let rows = engine
            .scan(Space::Meta, range, Order::Ascending, usize::MAX)
            .await?;
        let mut view = Self::default();
        for (key, value) in rows {
            if let Some(kind) = Kind::of(&key) {
                view.enter(kind, value);
            }
        }
        Ok(view)
    }

    fn enter(&mut self, kind: Kind, bytes: Value) {
        match kind {
            Kind::Node(name) => match NodeRow::decode(&bytes) {
                Ok(row) => drop(self.nodes.insert(name, Read { row, bytes })),
                Err(_) => drop(self.unreadable_nodes.insert(name)),
            },
            Kind::Beat(name) => {
                if let Ok(row) = BeatRow::decode(&bytes) {
                    self.beats.insert(name, Read { row, bytes });
                }
            }
            Kind::Drain(name) => drop(self.draining.insert(name)),
            Kind::Lease(name) => match LeaseRow::decode(&bytes) {
                Ok(row) => drop(self.leases.insert(name, Read { row, bytes })),
                Err(_) => drop(self.unreadable_leases.insert(name)),
            },
        }
    }

    /// Whether the session of `holder` may still commit, or may for all that can be read.
    pub fn is_current(&self, holder: &Holder) -> bool {
        match self.nodes.get(&holder.name) {
            Some(node) => node.row.is_live() && node.row.session == holder.session,
            None => self.unreadable_nodes.contains(&holder.name),
        }
    }

    /// Whether a lease row can be read, or is not there yet.
    pub fn is_readable(&self, lease: LeaseName) -> bool {
        !self.unreadable_leases.contains(&lease)
    }

    /// The live nodes that are not to be emptied, of one role or of any.
    pub fn at_work(&self, role: Option<Role>) -> Vec<NodeName> {
        self.live()
            .filter(|(name, _)| !self.draining.contains(*name))
            .filter(|(_, node)| role.is_none_or(|role| node.row.roles.contains(&role)))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// The nodes whose sessions may commit.
    pub fn live(&self) -> impl Iterator<Item = (&NodeName, &Read<NodeRow>)> {
        self.nodes.iter().filter(|(_, node)| node.row.is_live())
    }

    /// The leases given to a session, and their rows.
    pub fn leases_of<'a>(
        &'a self,
        holder: &'a Holder,
    ) -> impl Iterator<Item = (LeaseName, &'a Read<LeaseRow>)> {
        self.leases
            .iter()
            .filter(move |(_, lease)| lease.row.holder.as_ref() == Some(holder))
            .map(|(name, lease)| (*name, lease))
    }
}

/// Reads one node's row, and whether an operator wants it emptied.
pub(crate) async fn read_node(
    engine: &dyn Engine,
    name: &NodeName,
) -> Result<(Option<Value>, bool), EngineError> {
    let keys = [NodeRow::key(name), DrainRow::key(name)];
    let mut rows = engine.get_many(&keys).await?.into_iter();
    let node = rows.next().flatten();
    Ok((node, rows.next().flatten().is_some()))
}
