//! Claims: who works on which message, kept in memory.
//!
//! Of several nodes each claims only messages of the shards whose leases it holds, and a claim keeps its lease in use.
//!
//! Beside the claims lies the *floor*: every due row below it is claimed, another node's, or appeared late. Scans begin
//! there, so that finding new work does not pass the remains of old work. What appears late (a commit that took long,
//! another node's clock) is found by a scan of everything, at most [`FULL_SCAN_MILLIS`] after the change that made it
//! appear. Among several nodes that change may not have been heard of, so that they scan everything now and then
//! without one, and look every [`LOOK_MILLIS`] at what became due lately. A lease gained brings messages that were
//! passed over so far: everything is scanned at once.

use std::collections::HashSet;
use std::sync::Arc;

use nightmail_cluster::{LeaseHold, LeaseName, Leases, Shard};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::Key;
use parking_lot::Mutex;

use crate::index::due_start;

fn due_key(at: Timestamp, id: QueueId) -> nightmail_engine::RowKey {
    let mut key = due_start(at);
    key.extend_from_slice(&id.to_be_bytes());
    nightmail_engine::RowKey::new(nightmail_engine::Space::Due, key)
}

/// How far behind the clock scans begin although everything seen there was claimed: the time a commit may take.
const OVERLAP_MILLIS: i64 = 2_000;
/// How long after a change a scan of everything is due.
pub(crate) const FULL_SCAN_MILLIS: i64 = 60_000;
/// How often one of several nodes looks for messages that it was not told of.
pub(crate) const LOOK_MILLIS: i64 = 4_000;
/// How far behind the clock that look begins: the time a commit may take, and how far clocks may differ.
const LOOK_BACK_MILLIS: i64 = 60_000;

#[derive(Default)]
struct State {
    claimed: HashSet<QueueId>,
    floor: Key,
    /// When everything is to be scanned; `None` while nothing has changed since the last time.
    full_scan_due: Option<Timestamp>,
    /// When to look for what this node was not told of; only among several nodes.
    look_due: Option<Timestamp>,
    /// The set of leases that the last scan knew.
    generation: u64,
}

impl State {
    /// Lowers the floor for what this node may not have heard of.
    fn look_back(&mut self, now: Timestamp) {
        self.full_scan_due
            .get_or_insert(now.plus_millis(FULL_SCAN_MILLIS));
        let next = now.plus_millis(LOOK_MILLIS);
        // A time further ahead than that was set before the clock was put back.
        if self.look_due.is_none_or(|due| due <= now || due > next) {
            self.look_due = Some(next);
            let start = due_start(now.plus_millis(-LOOK_BACK_MILLIS));
            self.floor = std::mem::take(&mut self.floor).min(start);
        }
    }
}

/// The claims of one node.
#[derive(Clone)]
pub(crate) struct Claims {
    state: Arc<Mutex<State>>,
    leases: Leases,
}

impl Claims {
    /// Claims under these leases.
    pub fn new(leases: Leases) -> Self {
        Self {
            state: Arc::default(),
            leases,
        }
    }

    /// The leases.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Where a scan at `now` begins.
    pub fn scan_from(&self, now: Timestamp) -> Key {
        // Read before the scan: a lease that is gained while it runs makes the next one look at everything.
        let generation = self.leases.generation();
        let mut state = self.state.lock();
        if state.full_scan_due.is_some_and(|due| due <= now) {
            state.full_scan_due = None;
            state.floor.clear();
        }
        if state.generation != generation {
            state.generation = generation;
            state.floor.clear();
        }
        if !self.leases.is_single() {
            state.look_back(now);
        }
        state
            .floor
            .clone()
            .min(due_start(now.plus_millis(-OVERLAP_MILLIS)))
    }

    /// Takes note that a scan saw and claimed everything below `floor`.
    pub fn raise_floor(&self, floor: Key) {
        self.state.lock().floor = floor;
    }

    /// Takes note of a change, behind which more may appear late.
    pub fn note_change(&self, now: Timestamp) {
        self.state
            .lock()
            .full_scan_due
            .get_or_insert(now.plus_millis(FULL_SCAN_MILLIS));
    }

    /// When to look again although nothing has changed.
    pub fn next_look(&self) -> Option<Timestamp> {
        let state = self.state.lock();
        state.full_scan_due.into_iter().chain(state.look_due).min()
    }

    /// Ids claimed now.
    pub fn len(&self) -> usize {
        self.state.lock().claimed.len()
    }

    /// Whether somebody works on `id`.
    pub fn holds(&self, id: QueueId) -> bool {
        self.state.lock().claimed.contains(&id)
    }

    /// Claims `id`, unless it is claimed or belongs to a shard whose lease is not held.
    pub fn claim(&self, id: QueueId, due: Timestamp) -> Option<Claim> {
        let hold = self.leases.hold(LeaseName::Queue(Shard::of(id.get())))?;
        let fresh = self.state.lock().claimed.insert(id);
        fresh.then(|| Claim {
            claims: self.clone(),
            id,
            due: Some(due),
            hold,
        })
    }
}

/// The right to work on one message. Dropped, it gives the message back.
pub struct Claim {
    claims: Claims,
    id: QueueId,
    due: Option<Timestamp>,
    hold: LeaseHold,
}

impl Claim {
    /// The message.
    pub const fn id(&self) -> QueueId {
        self.id
    }

    /// The lease it is worked on under. What is decided is recorded under its guard.
    pub const fn hold(&self) -> &LeaseHold {
        &self.hold
    }

    /// Takes note of when the message is due now; `None` when it has left the queue.
    pub fn set_due(&mut self, due: Option<Timestamp>) {
        self.due = due;
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let mut state = self.claims.state.lock();
        state.claimed.remove(&self.id);
        if let Some(due) = self.due {
            let key = due_key(due, self.id).key;
            if key < state.floor {
                state.floor = key;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_secs(1_000);

    #[test]
    fn a_message_is_claimed_once_until_it_is_given_back() {
        let claims = Claims::new(Leases::everything());
        let claim = claims.claim(QueueId::new(1), NOW).unwrap();
        assert!(claims.claim(QueueId::new(1), NOW).is_none());
        drop(claim);
        assert!(claims.claim(QueueId::new(1), NOW).is_some());
    }

    #[test]
    fn a_claim_given_back_lowers_the_floor_to_its_due_row() {
        let claims = Claims::new(Leases::everything());
        let early = Timestamp::from_secs(10);
        let claim = claims.claim(QueueId::new(1), early).unwrap();
        claims.raise_floor(due_start(NOW));
        assert_eq!(
            claims.scan_from(NOW),
            due_start(NOW.plus_millis(-OVERLAP_MILLIS))
        );
        drop(claim);
        assert_eq!(claims.scan_from(NOW), due_key(early, QueueId::new(1)).key);
    }

    #[test]
    fn a_finished_claim_leaves_the_floor() {
        let claims = Claims::new(Leases::everything());
        let mut claim = claims
            .claim(QueueId::new(1), Timestamp::from_secs(10))
            .unwrap();
        claims.raise_floor(due_start(NOW));
        claim.set_due(None);
        drop(claim);
        assert_eq!(
            claims.scan_from(NOW),
            due_start(NOW.plus_millis(-OVERLAP_MILLIS))
        );
    }

    #[test]
    fn after_a_change_everything_is_scanned_once_more() {
        let claims = Claims::new(Leases::everything());
        claims.raise_floor(due_start(NOW));
        assert_eq!(claims.next_look(), None);
        claims.note_change(NOW);
        let due = claims.next_look().unwrap();
        assert_eq!(due, NOW.plus_millis(FULL_SCAN_MILLIS));
        assert_eq!(claims.scan_from(due), Key::new());
        assert_eq!(claims.next_look(), None);
    }

    #[test]
    fn among_several_nodes_a_look_goes_back_every_few_seconds_and_over_everything_now_and_then() {
        let mut state = State::default();
        let later = |millis| NOW.plus_millis(millis);
        state.look_back(NOW);
        assert_eq!(state.full_scan_due, Some(later(FULL_SCAN_MILLIS)));
        state.floor = due_start(later(1_000_000));
        state.look_back(later(LOOK_MILLIS - 1));
        assert_eq!(state.floor, due_start(later(1_000_000)));
        state.look_back(later(LOOK_MILLIS));
        assert_eq!(
            state.floor,
            due_start(later(LOOK_MILLIS - LOOK_BACK_MILLIS))
        );
        assert_eq!(state.look_due, Some(later(2 * LOOK_MILLIS)));
    }

    #[test]
    fn a_clock_put_back_does_not_put_off_the_next_look() {
        let mut state = State::default();
        state.look_back(NOW);
        let back = NOW.plus_millis(-3_600_000);
        state.look_back(back);
        assert_eq!(state.look_due, Some(back.plus_millis(LOOK_MILLIS)));
    }
}
