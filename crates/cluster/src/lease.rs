//! Leases: what one node does for all, and the proof that it still may.
//!
//! A lease is a row that names its holder; its epoch rises with every change of holder. Work done under a lease carries
//! a [`LeaseGuard`], by which its commits check that row: this, not the clock, keeps two nodes apart. The clock only
//! keeps a node from starting work that would be refused: without a heartbeat of its own for the length of a lease it
//! holds nothing.
//!
//! A lease that is to move is *yielding*: no new work is begun under it, and it is given back when the last
//! [`LeaseHold`] is dropped.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use nightmail_commit::{Need, Tx};
use nightmail_engine::{Batch, RowKey, Value};
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use xxhash_rust::xxh3::xxh3_64;

use crate::rows::Epoch;

/// Parts of the outbound queue; each is one lease.
pub const QUEUE_SHARDS: u8 = 16;

/// One part of the outbound queue.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Shard(u8);

impl Shard {
    /// The shard that the message with this id belongs to. Ids that follow each other are spread evenly.
    pub fn of(id: u64) -> Self {
        Self((xxh3_64(&id.to_be_bytes()) % u64::from(QUEUE_SHARDS)) as u8)
    }

    /// Every shard.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..QUEUE_SHARDS).map(Self)
    }
}

/// What a lease is for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum LeaseName {
    /// Sending the messages of one shard of the queue.
    Queue(Shard),
    /// The periodic jobs: reclaiming, compaction.
    Maintenance,
}

impl LeaseName {
    /// Every lease.
    pub fn all() -> impl Iterator<Item = Self> {
        Shard::all().map(Self::Queue).chain([Self::Maintenance])
    }

    /// Reads what `Display` prints.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Self::all().find(|name| name.to_string() == text)
    }

    /// What sets this lease's ranking of the nodes apart from the others'.
    pub(crate) fn seed(self) -> u64 {
        match self {
            Self::Queue(shard) => u64::from(shard.0),
            Self::Maintenance => 1 << 32,
        }
    }
}

impl fmt::Display for LeaseName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Queue(shard) => write!(f, "queue/{}", shard.0),
            Self::Maintenance => f.write_str("job/maintenance"),
        }
    }
}

/// What a commit checks to be sure that the lease it was prepared under is still held. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct LeaseGuard(Option<Arc<Guarded>>);

#[derive(Debug)]
struct Guarded {
    row: RowKey,
    value: Value,
    epoch: Epoch,
}

impl LeaseGuard {
    /// The guard of what needs no lease: an operator's command, or work on a single machine. It always holds.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(crate) fn new(row: RowKey, value: Value, epoch: Epoch) -> Self {
        Self(Some(Arc::new(Guarded { row, value, epoch })))
    }

    /// The row that [`LeaseGuard::holds`] reads; `None` where it reads none.
    pub fn row(&self) -> Option<&RowKey> {
        self.0.as_ref().map(|guarded| &guarded.row)
    }

    /// The epoch it stands for; `None` where there is no lease.
    pub fn epoch(&self) -> Option<Epoch> {
        self.0.as_ref().map(|guarded| guarded.epoch)
    }

    /// Whether the lease is held under this epoch. What an intent writes after `true` is committed only if it still is
    /// at that moment.
    pub fn holds(&self, tx: &mut Tx<'_>) -> Result<bool, Need> {
        let Some(guarded) = &self.0 else {
            return Ok(true);
        };
        Ok(tx.get(&guarded.row)?.as_ref() == Some(&guarded.value))
    }

    /// Makes `batch` fail unless the lease is held under this epoch.
    pub fn check(&self, batch: &mut Batch) {
        if let Some(guarded) = &self.0 {
            batch.check(guarded.row.clone(), Some(guarded.value.clone()));
        }
    }

    pub(crate) fn is_value(&self, value: Option<&Value>) -> bool {
        self.0.as_ref().map(|guarded| &guarded.value) == value
    }
}

/// The leases of a node. Cheap to clone.
#[derive(Clone)]
pub struct Leases {
    /// `None` on a single machine: every lease is held for ever.
    table: Option<Arc<Table>>,
}

/// The leases held, shared between the membership and those who work under them.
pub(crate) struct Table {
    state: Mutex<State>,
    /// Counts the changes of the set.
    changes: watch::Sender<u64>,
    /// Told when a yielding lease is no longer in use.
    unused: Arc<Notify>,
}

#[derive(Default)]
struct State {
    held: BTreeMap<LeaseName, Held>,
    /// Until when the leases may be worked under without another heartbeat.
    valid_until: Option<Instant>,
}

struct Held {
    guard: LeaseGuard,
    uses: usize,
    yielding: bool,
}

impl State {
    fn is_valid(&self) -> bool {
        self.valid_until.is_some_and(|until| Instant::now() < until)
    }

    /// The lease under this epoch, however long ago its last heartbeat was.
    fn same(&mut self, name: LeaseName, epoch: Option<Epoch>) -> Option<&mut Held> {
        let held = self.held.get_mut(&name)?;
        (held.guard.epoch() == epoch).then_some(held)
    }
}

impl Leases {
    /// Every lease, for ever: a single machine.
    pub const fn everything() -> Self {
        Self { table: None }
    }

    pub(crate) const fn of(table: Arc<Table>) -> Self {
        Self { table: Some(table) }
    }

    /// Whether there is no other node.
    pub const fn is_single(&self) -> bool {
        self.table.is_none()
    }

    /// Begins work under a lease; `None` when it is not held, is to move, or this node has been without a heartbeat for
    /// too long.
    pub fn hold(&self, name: LeaseName) -> Option<LeaseHold> {
        let Some(table) = &self.table else {
            return Some(LeaseHold::none());
        };
        let mut state = table.state.lock();
        let valid = state.is_valid();
        let held = state
            .held
            .get_mut(&name)
            .filter(|held| valid && !held.yielding)?;
        held.uses += 1;
        let guard = held.guard.clone();
        Some(LeaseHold {
            guard,
            lease: Some((name, Arc::clone(table))),
        })
    }

    /// The leases under which work can be begun now.
    pub fn held(&self) -> Vec<LeaseName> {
        let Some(table) = &self.table else {
            return LeaseName::all().collect();
        };
        let state = table.state.lock();
        let valid = state.is_valid();
        let free = state
            .held
            .iter()
            .filter(|(_, held)| valid && !held.yielding);
        free.map(|(name, _)| *name).collect()
    }

    /// A number that rises when the set of leases changes.
    pub fn generation(&self) -> u64 {
        let table = self.table.as_ref();
        table.map_or(0, |table| *table.changes.borrow())
    }

    /// Listens for changes of the set, from now on.
    pub fn changes(&self) -> LeaseChanges {
        LeaseChanges(self.table.as_ref().map(|table| table.changes.subscribe()))
    }
}

/// Wakes its owner when the set of leases has changed.
pub struct LeaseChanges(Option<watch::Receiver<u64>>);

impl LeaseChanges {
    /// Waits until a lease was gained, lost, or is to move, since the last call. Cancel-safe. Never returns on a single
    /// machine.
    pub async fn changed(&mut self) {
        if let Some(changes) = &mut self.0
            && changes.changed().await.is_ok()
        {
            return;
        }
        std::future::pending().await
    }
}

/// Work under a lease. While one exists this node does not give the lease back by itself; it can be lost all the same.
pub struct LeaseHold {
    guard: LeaseGuard,
    lease: Option<(LeaseName, Arc<Table>)>,
}

impl LeaseHold {
    /// For what needs no lease; see [`LeaseGuard::none`].
    pub const fn none() -> Self {
        Self {
            guard: LeaseGuard::none(),
            lease: None,
        }
    }

    /// What commits of this work check.
    pub const fn guard(&self) -> &LeaseGuard {
        &self.guard
    }

    /// Whether more work may be begun under it: the lease is held, is not to move, and this node is alive.
    pub fn is_current(&self) -> bool {
        let Some((name, table)) = &self.lease else {
            return true;
        };
        let mut state = table.state.lock();
        let valid = state.is_valid();
        let held = state.same(*name, self.guard.epoch());
        held.is_some_and(|held| valid && !held.yielding)
    }
}

impl Clone for LeaseHold {
    fn clone(&self) -> Self {
        if let Some((name, table)) = &self.lease
            && let Some(held) = table.state.lock().same(*name, self.guard.epoch())
        {
            held.uses += 1;
        }
        Self {
            guard: self.guard.clone(),
            lease: self.lease.clone(),
        }
    }
}

impl Drop for LeaseHold {
    fn drop(&mut self) {
        let Some((name, table)) = &self.lease else {
            return;
        };
        if let Some(held) = table.state.lock().same(*name, self.guard.epoch()) {
            held.uses = held.uses.saturating_sub(1);
            if held.yielding && held.uses == 0 {
                table.unused.notify_one();
            }
        }
    }
}

impl Table {
    /// No lease is held. `unused` is told when a yielding lease is free to be given back.
    pub fn new(unused: Arc<Notify>) -> Self {
        Self {
            state: Mutex::default(),
            changes: watch::Sender::new(0),
            unused,
        }
    }

    /// What is held, whatever the clock says.
    pub fn guards(&self) -> Vec<(LeaseName, LeaseGuard)> {
        let state = self.state.lock();
        let guard = |(name, held): (&LeaseName, &Held)| (*name, held.guard.clone());
        state.held.iter().map(guard).collect()
    }

    /// A heartbeat was written: the leases may be worked under until `until`. Those that had lapsed before are lost.
    pub fn extend(&self, until: Instant) {
        let lapsed = {
            let mut state = self.state.lock();
            let lapsed = state.valid_until.is_some() && !state.is_valid();
            if !lapsed {
                state.valid_until = Some(until);
            }
            lapsed
        };
        if lapsed {
            self.lose_all();
            self.state.lock().valid_until = Some(until);
        }
    }

    /// Returns when the leases lapse for want of a heartbeat.
    pub async fn lapse(&self) {
        loop {
            let until = self.state.lock().valid_until;
            let Some(until) = until else {
                return std::future::pending().await;
            };
            if until <= Instant::now() {
                return;
            }
            tokio::time::sleep_until(until).await;
        }
    }

    /// Every lease is lost, until they are gained anew. Returns how many there were.
    pub fn lose_all(&self) -> usize {
        let lost = {
            let mut state = self.state.lock();
            state.valid_until = None;
            std::mem::take(&mut state.held).len()
        };
        if lost > 0 {
            self.note_change();
        }
        lost
    }

    /// One lease is lost.
    pub fn lose(&self, name: LeaseName) {
        let lost = self.state.lock().held.remove(&name);
        if lost.is_some() {
            self.note_change();
        }
    }

    /// These leases were acquired.
    pub fn gain(&self, gained: Vec<(LeaseName, LeaseGuard)>) {
        if gained.is_empty() {
            return;
        }
        let fresh = |(name, guard)| {
            let held = Held {
                guard,
                uses: 0,
                yielding: false,
            };
            (name, held)
        };
        let gained = gained.into_iter().map(fresh);
        self.state.lock().held.extend(gained);
        self.note_change();
    }

    /// The lease is to stay or to move.
    pub fn set_yielding(&self, name: LeaseName, yielding: bool) {
        let changed = {
            let mut state = self.state.lock();
            let held = state.held.get_mut(&name);
            held.is_some_and(|held| std::mem::replace(&mut held.yielding, yielding) != yielding)
        };
        if changed {
            self.note_change();
        }
    }

    /// Lets go of a yielding lease, unless it is in use. The caller gives its row back.
    pub fn let_go(&self, name: LeaseName) -> bool {
        let mut state = self.state.lock();
        let unused = state
            .held
            .get(&name)
            .is_some_and(|held| held.yielding && held.uses == 0);
        if unused {
            state.held.remove(&name);
        }
        unused
    }

    fn note_change(&self) {
        self.changes.send_modify(|count| *count += 1);
        metrics::gauge!("nightmail_cluster_leases_held").set(self.state.lock().held.len() as f64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_engine::Space;
    use std::time::Duration;

    const NAME: LeaseName = LeaseName::Maintenance;

    fn guard(epoch: u64) -> LeaseGuard {
        let value = Value::copy_from_slice(&epoch.to_be_bytes());
        LeaseGuard::new(RowKey::new(Space::Meta, "lease"), value, Epoch::new(epoch))
    }

    fn table() -> (Arc<Table>, Leases) {
        let table = Arc::new(Table::new(Arc::default()));
        table.extend(Instant::now() + Duration::from_secs(6));
        table.gain(vec![(NAME, guard(1))]);
        (Arc::clone(&table), Leases::of(table))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_lapses_without_a_heartbeat_and_stays_lost_after_the_next() {
        let (table, leases) = table();
        let hold = leases.hold(NAME).unwrap();
        tokio::time::advance(Duration::from_secs(5)).await;
        table.extend(Instant::now() + Duration::from_secs(6));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(hold.is_current() && leases.hold(NAME).is_some());
        tokio::time::advance(Duration::from_secs(2)).await;
        assert!(!hold.is_current() && leases.hold(NAME).is_none() && leases.held().is_empty());
        table.extend(Instant::now() + Duration::from_secs(6));
        assert!(!hold.is_current() && leases.hold(NAME).is_none());
        table.gain(vec![(NAME, guard(2))]);
        assert!(!hold.is_current() && leases.hold(NAME).is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_yielding_lease_begins_nothing_and_is_let_go_after_the_last_use() {
        let (table, leases) = table();
        let first = leases.hold(NAME).unwrap();
        let second = first.clone();
        table.set_yielding(NAME, true);
        assert!(leases.hold(NAME).is_none() && !first.is_current());
        drop(first);
        assert!(!table.let_go(NAME));
        drop(second);
        table.unused.notified().await;
        assert!(table.let_go(NAME));
    }

    #[tokio::test(start_paused = true)]
    async fn holds_of_an_earlier_epoch_do_not_count_as_uses_of_a_later() {
        let (table, leases) = table();
        let old = leases.hold(NAME).unwrap();
        table.lose_all();
        table.extend(Instant::now() + Duration::from_secs(6));
        table.gain(vec![(NAME, guard(2))]);
        let new = leases.hold(NAME).unwrap();
        drop(old.clone());
        drop(old);
        table.set_yielding(NAME, true);
        assert!(!table.let_go(NAME), "the new hold is still there");
        drop(new);
        assert!(table.let_go(NAME));
    }

    #[tokio::test(start_paused = true)]
    async fn every_change_of_the_set_wakes_and_counts() {
        let (table, leases) = table();
        let mut changes = leases.changes();
        let before = leases.generation();
        table.set_yielding(NAME, true);
        changes.changed().await;
        table.set_yielding(NAME, true);
        table.lose(NAME);
        changes.changed().await;
        assert_eq!(leases.generation(), before + 2);
    }

    #[tokio::test]
    async fn a_single_machine_holds_everything() {
        let leases = Leases::everything();
        assert_eq!(leases.held().len(), usize::from(QUEUE_SHARDS) + 1);
        let hold = leases.hold(NAME).unwrap();
        assert!(hold.is_current() && hold.guard().row().is_none());
    }

    #[test]
    fn neighbouring_ids_are_spread_over_all_shards() {
        let mut counts = BTreeMap::new();
        for id in 0..1600u64 {
            *counts.entry(Shard::of((7 << 20) + id)).or_insert(0) += 1;
        }
        assert_eq!(counts.len(), usize::from(QUEUE_SHARDS));
        assert!(counts.values().all(|count| (50..200).contains(count)));
    }
}
