//! Claims: who works on which message, kept in memory.
//!
//! Beside the claims lies the *floor*: every due row below it is claimed, or appeared late. Scans begin there, so that
//! finding new work does not pass the remains of old work. What appears late (a commit that took long, another node's
//! clock) is found by a scan of everything, at most [`FULL_SCAN_MILLIS`] after the change that made it appear.

use std::collections::HashSet;
use std::sync::Arc;

use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::Key;
use parking_lot::Mutex;

use crate::due::{due_key, due_start};

/// How far behind the clock scans begin although everything seen there was claimed: the time a commit may take.
const OVERLAP_MILLIS: i64 = 2_000;
/// How long after a change a scan of everything is due.
pub(crate) const FULL_SCAN_MILLIS: i64 = 60_000;

#[derive(Default)]
struct State {
    claimed: HashSet<QueueId>,
    floor: Key,
    /// When everything is to be scanned; `None` while nothing has changed since the last time.
    full_scan_due: Option<Timestamp>,
}

/// The claims of one node.
#[derive(Clone, Default)]
pub(crate) struct Claims {
    state: Arc<Mutex<State>>,
}

impl Claims {
    /// Where a scan at `now` begins.
    pub fn scan_from(&self, now: Timestamp) -> Key {
        let mut state = self.state.lock();
        if state.full_scan_due.is_some_and(|due| due <= now) {
            state.full_scan_due = None;
            state.floor.clear();
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

    /// When everything is to be scanned.
    pub fn full_scan_due(&self) -> Option<Timestamp> {
        self.state.lock().full_scan_due
    }

    /// Ids claimed now.
    pub fn len(&self) -> usize {
        self.state.lock().claimed.len()
    }

    /// Whether somebody works on `id`.
    pub fn holds(&self, id: QueueId) -> bool {
        self.state.lock().claimed.contains(&id)
    }

    /// Claims `id`, unless it is claimed.
    pub fn claim(&self, id: QueueId, due: Timestamp) -> Option<Claim> {
        let fresh = self.state.lock().claimed.insert(id);
        fresh.then(|| Claim {
            claims: self.clone(),
            id,
            due: Some(due),
        })
    }
}

/// The right to work on one message. Dropped, it gives the message back.
pub struct Claim {
    claims: Claims,
    id: QueueId,
    due: Option<Timestamp>,
}

impl Claim {
    /// The message.
    pub const fn id(&self) -> QueueId {
        self.id
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
        let claims = Claims::default();
        let claim = claims.claim(QueueId::new(1), NOW).unwrap();
        assert!(claims.claim(QueueId::new(1), NOW).is_none());
        drop(claim);
        assert!(claims.claim(QueueId::new(1), NOW).is_some());
    }

    #[test]
    fn a_claim_given_back_lowers_the_floor_to_its_due_row() {
        let claims = Claims::default();
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
        let claims = Claims::default();
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
        let claims = Claims::default();
        claims.raise_floor(due_start(NOW));
        assert_eq!(claims.full_scan_due(), None);
        claims.note_change(NOW);
        let due = claims.full_scan_due().unwrap();
        assert_eq!(due, NOW.plus_millis(FULL_SCAN_MILLIS));
        assert_eq!(claims.scan_from(due), Key::new());
        assert_eq!(claims.full_scan_due(), None);
    }
}
