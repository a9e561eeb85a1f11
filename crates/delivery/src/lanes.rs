//! How many connections go to one destination at once.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::route::Destination;

struct Lane {
    slots: Arc<Semaphore>,
    /// Those who hold a slot and those who wait for one.
    entered: usize,
}

/// The destinations in use.
pub(crate) struct Lanes {
    lanes: Mutex<HashMap<Destination, Lane>>,
    slots: usize,
    waiting_max: usize,
}

impl Lanes {
    pub fn new(slots: usize, waiting_max: usize) -> Self {
        Self {
            lanes: Mutex::default(),
            slots: slots.max(1),
            waiting_max,
        }
    }

    /// Waits for a slot; `None` at once when too many wait already.
    pub async fn enter(self: &Arc<Self>, destination: &Destination) -> Option<Slot> {
        let (place, slots) = self.register(destination)?;
        let permit = slots.acquire_owned().await.ok()?;
        Some(Slot {
            _permit: permit,
            _place: place,
        })
    }

    fn register(self: &Arc<Self>, destination: &Destination) -> Option<(Place, Arc<Semaphore>)> {
        let mut lanes = self.lanes.lock();
        let lane = lanes.entry(destination.clone()).or_insert_with(|| Lane {
            slots: Arc::new(Semaphore::new(self.slots)),
            entered: 0,
        });
        if lane.entered >= self.slots + self.waiting_max {
            return None;
        }
        lane.entered += 1;
        let place = Place {
            lanes: Arc::clone(self),
            destination: destination.clone(),
        };
        Some((place, Arc::clone(&lane.slots)))
    }

    /// Destinations in use.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.lanes.lock().len()
    }
}

/// A place in a lane, waiting or not.
struct Place {
    lanes: Arc<Lanes>,
    destination: Destination,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lanes = self.lanes.lanes.lock();
        if let Some(lane) = lanes.get_mut(&self.destination) {
            lane.entered -= 1;
            if lane.entered == 0 {
                lanes.remove(&self.destination);
            }
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
        let lanes = Arc::new(Lanes::new(1, 1));
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
        assert_eq!(lanes.len(), 0);
    }
}
