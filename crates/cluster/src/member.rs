//! The membership task: at every heartbeat it says that the node is alive, looks at the others, fences those that are
//! silent, and takes and gives back leases.
//!
//! What it commits for the node itself checks the node's own row, so that a fenced node takes nothing and fences
//! nobody. An answer that was lost is healed by the next look: a lease row that names this session without the lease
//! being held is acquired again, under a new epoch.

use std::collections::BTreeMap;
use std::sync::Arc;

use nightmail_engine::{Batch, Check, CommitError, Durability, EngineError, Value};
use tokio::time::{Instant, MissedTickBehavior};

use crate::assign::wanted;
use crate::cluster::{Place, Shared, enter, fence_of, new_session};
use crate::lease::{LeaseGuard, LeaseName};
use crate::name::NodeName;
use crate::rows::{BeatRow, Holder, LeaseRow, NodeRow, Session, Standing};
use crate::silence::Silence;
use crate::view::{View, read_node};

/// Times the leases are worked out anew in one turn because another node was quicker.
const SETTLE_ROUNDS_MAX: usize = 5;
/// Two looks further apart than so many heartbeats do not prove that anybody was silent in between.
const PAUSE_HEARTBEATS_MAX: u32 = 2;

/// What became of a commit that checks the node's own row.
enum Outcome {
    Done,
    /// Another row changed meanwhile.
    Conflict,
    /// The node's own row changed.
    Fenced,
}

/// The task's state.
pub(crate) struct Member {
    shared: Arc<Shared>,
    row: NodeRow,
    beats: u64,
    silence: Silence,
    /// The session of a join whose answer was lost: the row may hold it.
    joining: Option<Session>,
    /// Whether the store did not answer the last time.
    away: bool,
}

impl Member {
    /// The membership of a node that has joined by `row`.
    pub fn new(shared: Arc<Shared>, row: NodeRow) -> Self {
        let pause_max = shared.options.heartbeat * PAUSE_HEARTBEATS_MAX;
        Self {
            shared,
            row,
            beats: 0,
            silence: Silence::new(pause_max),
            joining: None,
            away: false,
        }
    }

    /// Keeps the membership up until the node is replaced.
    pub async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let mut ticks = tokio::time::interval(shared.options.heartbeat);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while *shared.place.borrow() == Place::Member {
            tokio::select! {
                _ = ticks.tick() => {}
                () = shared.wake.notified() => {}
            }
            let outcome = self.turn_or_lapse().await;
            self.note_outcome(outcome);
        }
    }

    /// One turn. Should the store keep it waiting for the length of a lease, the leases are lost meanwhile.
    async fn turn_or_lapse(&mut self) -> Result<(), EngineError> {
        let shared = Arc::clone(&self.shared);
        let mut turn = Box::pin(self.turn());
        loop {
            tokio::select! {
                biased;
                outcome = &mut turn => return outcome,
                () = shared.table.lapse() => lose_all(&shared, "no heartbeat could be written in time"),
            }
        }
    }

    fn note_outcome(&mut self, outcome: Result<(), EngineError>) {
        match outcome {
            Ok(()) if self.away => tracing::info!("the store answers the membership again"),
            Ok(()) => {}
            Err(ref error) => {
                self.silence.forget_all();
                if !self.away {
                    tracing::warn!(%error, "the store does not answer the membership; it is tried again");
                }
            }
        }
        self.away = outcome.is_err();
    }

    async fn turn(&mut self) -> Result<(), EngineError> {
        if let Outcome::Fenced = self.beat().await? {
            return self.join_again().await;
        }
        let (mut view, silent) = self.look().await?;
        for name in &silent {
            self.fence(&view, name).await?;
        }
        if !silent.is_empty() {
            view = self.read().await?;
        }
        self.settle(view).await
    }

    /// Says that the node is alive. The leases are good for the length of a lease from when this began: observers count
    /// from when they have seen it.
    async fn beat(&mut self) -> Result<Outcome, EngineError> {
        let began = Instant::now();
        self.beats += 1;
        let beat = BeatRow {
            session: self.row.session,
            count: self.beats,
            at: nightmail_commit::now(),
        };
        let mut batch = Batch::new();
        batch.put(BeatRow::key(self.shared.name()), beat.encode());
        let outcome = self.commit(batch, Durability::Soon).await?;
        if let Outcome::Done = outcome {
            self.shared.table.extend(began + self.shared.options.lease);
        }
        Ok(outcome)
    }

    /// Reads the membership and says who has been silent for too long.
    async fn look(&mut self) -> Result<(View, Vec<NodeName>), EngineError> {
        let began = Instant::now();
        let view = self.read().await?;
        let options = &self.shared.options;
        let silent =
            self.silence
                .look(&view, &options.name, options.lease, (began, Instant::now()));
        Ok((view, silent))
    }

    async fn read(&self) -> Result<View, EngineError> {
        let view = View::read(self.shared.engine.as_ref()).await?;
        metrics::gauge!("nightmail_cluster_nodes").set(view.live().count() as f64);
        let draining = view.draining.contains(self.shared.name());
        let update = |known: &mut bool| std::mem::replace(known, draining) != draining;
        if self.shared.draining.send_if_modified(update) && draining {
            tracing::info!("an operator wants this node emptied");
        }
        Ok(view)
    }

    /// Shuts out a node that has been silent, unless it has said something since `view` was read.
    async fn fence(&self, view: &View, name: &NodeName) -> Result<(), EngineError> {
        let Some(node) = view.nodes.get(name) else {
            return Ok(());
        };
        let beat = view.beats.get(name).map(|beat| beat.bytes.clone());
        let mut batch = Batch::new();
        batch.check(NodeRow::key(name), Some(node.bytes.clone()));
        batch.check(BeatRow::key(name), beat);
        batch.put(
            NodeRow::key(name),
            node.row.ended(Standing::Fenced).encode(),
        );
        batch.delete(BeatRow::key(name));
        if let Outcome::Done = self.commit(batch, Durability::Synced).await? {
            tracing::warn!(node = %name, session = %node.row.session, "a silent node has been fenced");
            metrics::counter!("nightmail_cluster_fenced_total").increment(1);
        }
        Ok(())
    }

    /// Brings the leases held to what they should be.
    async fn settle(&mut self, mut view: View) -> Result<(), EngineError> {
        for _ in 0..SETTLE_ROUNDS_MAX {
            let plan = self.plan(&view);
            if plan.batch.is_empty() {
                return Ok(());
            }
            match self.commit(plan.batch, Durability::Synced).await? {
                Outcome::Done => {
                    metrics::counter!("nightmail_cluster_takeovers_total")
                        .increment(plan.takeovers);
                    self.shared.table.gain(plan.gained);
                    return Ok(());
                }
                Outcome::Conflict => view = self.read().await?,
                Outcome::Fenced => {
                    self.shared.wake.notify_one();
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn plan(&self, view: &View) -> Plan {
        let me = Holder {
            name: self.shared.name().clone(),
            session: self.row.session,
        };
        let held = self.still_held(view);
        let wanted = wanted(view);
        let mut plan = Plan::default();
        for lease in LeaseName::all().filter(|lease| view.is_readable(*lease)) {
            let mine = wanted.get(&lease) == Some(&me.name);
            let row = view.leases.get(&lease);
            let holder = row.and_then(|read| read.row.holder.as_ref());
            if held.contains_key(&lease) {
                self.shared.table.set_yielding(lease, !mine);
                if !mine && self.shared.table.let_go(lease) {
                    plan.give_back(view, lease);
                }
            } else if mine {
                let taken = holder.filter(|holder| **holder != me);
                if taken.is_none_or(|holder| !view.is_current(holder)) {
                    plan.takeovers += u64::from(taken.is_some());
                    plan.acquire(view, lease, me.clone());
                }
            } else if holder == Some(&me) {
                plan.give_back(view, lease);
            }
        }
        plan
    }

    /// The leases held whose rows say the same; the others are lost.
    fn still_held(&self, view: &View) -> BTreeMap<LeaseName, LeaseGuard> {
        let mut held = BTreeMap::new();
        for (lease, guard) in self.shared.table.guards() {
            if guard.is_value(view.leases.get(&lease).map(|read| &read.bytes)) {
                held.insert(lease, guard);
            } else {
                tracing::warn!(%lease, "a lease was taken away");
                self.shared.table.lose(lease);
            }
        }
        held
    }

    /// Joins under a new session after this one was fenced; not when another process has taken the name.
    async fn join_again(&mut self) -> Result<(), EngineError> {
        let (seen, _) = read_node(self.shared.engine.as_ref(), self.shared.name()).await?;
        if seen == self.shared.fenced.fence().expected {
            // The engine named this row for want of a better one.
            return Ok(());
        }
        lose_all(&self.shared, "the node has been fenced");
        let row = seen.as_deref().and_then(|row| NodeRow::decode(row).ok());
        if let Some(row) = row {
            if row.is_live() && self.joining == Some(row.session) {
                self.entered(row);
                return Ok(());
            }
            if row.session != self.row.session && self.joining != Some(row.session) {
                tracing::error!(node = %self.shared.name(), session = %row.session,
                    "another process has joined under this node's name; this one does nothing more");
                self.shared.place.send_replace(Place::Replaced);
                return Ok(());
            }
        }
        let session = new_session().map_err(|error| EngineError::Unavailable(error.to_string()))?;
        self.enter(session, seen).await
    }

    async fn enter(&mut self, session: Session, seen: Option<Value>) -> Result<(), EngineError> {
        self.joining = Some(session);
        let shared = Arc::clone(&self.shared);
        match enter(shared.engine.as_ref(), &shared.options, session, seen, true).await {
            Ok(row) => {
                self.entered(row);
                Ok(())
            }
            Err(CommitError::Conflict { .. }) => {
                shared.wake.notify_one();
                Ok(())
            }
            Err(CommitError::Engine(error)) => Err(error),
        }
    }

    /// Puts the node's commits under its new session; the leases follow at once.
    fn entered(&mut self, row: NodeRow) {
        tracing::warn!(session = %row.session, epoch = %row.epoch, "joined the cluster again");
        self.shared
            .fenced
            .replace(fence_of(self.shared.name(), &row));
        self.row = row;
        self.joining = None;
        self.silence.forget_all();
        self.shared.wake.notify_one();
    }

    /// Commits under the node's own row.
    async fn commit(
        &self,
        mut batch: Batch,
        durability: Durability,
    ) -> Result<Outcome, EngineError> {
        let Check { key, expected } = fence_of(self.shared.name(), &self.row);
        let fence = Check {
            key: key.clone(),
            expected,
        };
        // First, so that it is the one that is named where several checks fail.
        batch.checks.insert(0, fence);
        match self.shared.engine.commit(batch, durability).await {
            Ok(()) => Ok(Outcome::Done),
            Err(CommitError::Conflict { key: found }) if found == key => Ok(Outcome::Fenced),
            Err(CommitError::Conflict { .. }) => Ok(Outcome::Conflict),
            Err(CommitError::Engine(error)) => Err(error),
        }
    }
}

/// What brings the leases held closer to what they should be.
#[derive(Default)]
struct Plan {
    batch: Batch,
    gained: Vec<(LeaseName, LeaseGuard)>,
    /// Leases that were not given back by their last holder.
    takeovers: u64,
}

impl Plan {
    fn acquire(&mut self, view: &View, lease: LeaseName, me: Holder) {
        let read = view.leases.get(&lease);
        let row = read.map_or_else(LeaseRow::default, |read| read.row.clone());
        let row = row.given_to(me);
        let (key, value) = (LeaseRow::key(lease), Value::from(row.encode()));
        self.batch
            .check(key.clone(), read.map(|read| read.bytes.clone()));
        self.batch.put(key.clone(), value.clone());
        self.gained
            .push((lease, LeaseGuard::new(key, value, row.epoch)));
    }

    fn give_back(&mut self, view: &View, lease: LeaseName) {
        if let Some(read) = view.leases.get(&lease) {
            let key = LeaseRow::key(lease);
            self.batch.check(key.clone(), Some(read.bytes.clone()));
            self.batch.put(key, read.row.freed().encode());
        }
    }
}

fn lose_all(shared: &Shared, reason: &str) {
    let leases = shared.table.lose_all();
    if leases > 0 {
        tracing::warn!(leases, reason, "the leases of this node are lost");
    }
}
