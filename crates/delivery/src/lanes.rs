//! How many connections go to one destination at once, and where messages wait for one.
//!
//! A lane has slots, each the right to a connection, and a short waiting room for workers. A message that finds both
//! full is *parked*: its claim is kept here, without a worker, until the lane has room. So a slow destination takes
//! neither the workers nor the index away from the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use nightmail_queue::Claim;
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::options::DeliveryLimits;
use crate::route::Destination;

#[derive(Default)]
struct State {
    lanes: HashMap<Destination, Lane>,
    parked: HashMap<Destination, VecDeque<Claim>>,
    parked_count: usize,
}

struct Lane {
    slots: Arc<Semaphore>,
    /// Those who hold a slot and those who wait for one.
    entered: usize,
}

impl State {
    fn entered(&self, destination: &Destination) -> usize {
        self.lanes.get(destination).map_or(0, |lane| lane.entered)
    }
}

/// The destinations in use.
pub(crate) struct Lanes {
    state: Mutex<State>,
    room: Notify,
    slots: usize,
    /// Slots and waiting places of a lane.
    entered_max: usize,
    parked_max: usize,
}

impl Lanes {
    pub fn new(limits: &DeliveryLimits) -> Self {
        let slots = limits.connections_per_destination_max.max(1);
        Self {
            state: Mutex::default(),
            room: Notify::new(),
            slots,
            entered_max: slots.saturating_add(limits.waiting_per_destination_max),
            parked_max: limits.parked_max,
        }
    }

    /// Waits for a slot; `None` at once when the waiting room is full.
    pub async fn enter(self: &Arc<Self>, destination: &Destination) -> Option<Slot> {
        let (place, slots) = self.register(destination)?;
        let permit = slots.acquire_owned().await.ok()?;
        Some(Slot {
            _permit: permit,
            _place: place,
        })
    }

    fn register(self: &Arc<Self>, destination: &Destination) -> Option<(Place, Arc<Semaphore>)> {
        let mut state = self.state.lock();
        let lane = state
            .lanes
            .entry(destination.clone())
            .or_insert_with(|| Lane {
                slots: Arc::new(Semaphore::new(self.slots)),
                entered: 0,
            });
        if lane.entered >= self.entered_max {
            return None;
        }
        lane.entered += 1;
        let place = Place {
            lanes: Arc::clone(self),
            destination: destination.clone(),
        };
        Some((place, Arc::clone(&lane.slots)))
    }

    /// Parks a message until its destination has room; gives it back when too many are parked.
    pub fn park(&self, destination: &Destination, claim: Claim) -> Result<(), Claim> {
        let mut state = self.state.lock();
        if state.parked_count >= self.parked_max {
            return Err(claim);
        }
        state.parked_count += 1;
        state
            .parked
            .entry(destination.clone())
            .or_default()
            .push_back(claim);
        // Room may have come up since the lane was found full.
        if state.entered(destination) < self.entered_max {
            self.room.notify_one();
        }
        Ok(())
    }

    /// Takes at most `limit` parked messages whose destinations have room, the longest parked first.
    pub fn unpark(&self, limit: usize) -> Vec<Claim> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        let mut parked = std::mem::take(&mut state.parked);
        for (destination, waiting) in &mut parked {
            let room = self.entered_max.saturating_sub(state.entered(destination));
            let count = room.min(limit - taken.len()).min(waiting.len());
            taken.extend(waiting.drain(..count));
        }
        parked.retain(|_, waiting| !waiting.is_empty());
        state.parked = parked;
        state.parked_count -= taken.len();
        taken
    }

    /// Gives back the parked messages that are not this node's to send any more, so that their leases can move.
    pub fn give_back_lost(&self) {
        let mut state = self.state.lock();
        let mut lost: Vec<Claim> = Vec::new();
        for waiting in state.parked.values_mut() {
            let (kept, gone): (VecDeque<Claim>, VecDeque<Claim>) = std::mem::take(waiting)
                .into_iter()
                .partition(|claim| claim.hold().is_current());
            *waiting = kept;
            lost.extend(gone);
        }
        state.parked.retain(|_, waiting| !waiting.is_empty());
        state.parked_count -= lost.len();
        drop(state);
        drop(lost);
    }

    /// Gives every parked message back to the queue.
    pub fn clear(&self) {
        let mut state = self.state.lock();
        let parked = std::mem::take(&mut state.parked);
        state.parked_count = 0;
        drop(state);
        drop(parked);
    }

    /// Returns when a parked message may have room.
    pub async fn has_room(&self) {
        self.room.notified().await;
    }

    /// Messages parked.
    pub fn parked(&self) -> usize {
        self.state.lock().parked_count
    }
}

/// A place in a lane, waiting or not.
struct Place {
    lanes: Arc<Lanes>,
    destination: Destination,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut state = self.lanes.state.lock();
        if let Some(lane) = state.lanes.get_mut(&self.destination) {
            lane.entered -= 1;
            if lane.entered == 0 {
                state.lanes.remove(&self.destination);
            }
        }
        if state.parked.contains_key(&self.destination) {
            self.lanes.room.notify_one();
        }
    }
}

/// The right to one connection to a destination.
pub(crate) struct Slot {
    _permit: OwnedSemaphorePermit,
    _place: Place,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lane_has_its_slots_and_its_waiting_room_and_goes_when_empty() {
        let limits = DeliveryLimits {
            connections_per_destination_max: 1,
            waiting_per_destination_max: 1,
            ..DeliveryLimits::default()
        };
        let lanes = Arc::new(Lanes::new(&limits));
        let destination = Destination::Domain("x.test".parse().unwrap());
        let slot = lanes.enter(&destination).await.unwrap();
        let mut waiting = tokio::spawn({
            let (lanes, destination) = (Arc::clone(&lanes), destination.clone());
            async move { lanes.enter(&destination).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        assert!(lanes.enter(&destination).await.is_none());
        assert!(lanes.enter(&Destination::Smarthost).await.is_some());
        drop(slot);
        drop((&mut waiting).await.unwrap().unwrap());
        assert!(lanes.state.lock().lanes.is_empty());
    }
}
