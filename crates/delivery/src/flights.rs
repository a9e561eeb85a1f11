//! How many messages are in hand, by the queue they come from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use nightmail_queue::Ticket;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::options::DeliveryLimits;

/// The count, and its bounds.
pub(crate) struct Flights {
    pending: AtomicUsize,
    deferred: AtomicUsize,
    pending_max: usize,
    deferred_max: usize,
    freed: Notify,
}

impl Flights {
    pub fn new(limits: &DeliveryLimits) -> Self {
        Self {
            pending: AtomicUsize::new(0),
            deferred: AtomicUsize::new(0),
            pending_max: limits.pending_max.max(1),
            deferred_max: limits.deferred_max.max(1),
            freed: Notify::new(),
        }
    }

    /// Whether there is room for fresh mail, and for mail that was deferred.
    pub fn room(&self) -> (bool, bool) {
        (
            self.pending.load(Ordering::Relaxed) < self.pending_max,
            self.deferred.load(Ordering::Relaxed) < self.deferred_max,
        )
    }

    /// Messages in hand.
    pub fn count(&self) -> usize {
        self.pending.load(Ordering::Relaxed) + self.deferred.load(Ordering::Relaxed)
    }

    const fn of(&self, pending: bool) -> &AtomicUsize {
        match pending {
            true => &self.pending,
            false => &self.deferred,
        }
    }

    /// Counts a message in.
    pub fn begin(self: &Arc<Self>, ticket: Ticket) -> Taken {
        self.of(ticket.is_pending()).fetch_add(1, Ordering::Relaxed);
        Taken {
            ticket,
            flights: Arc::clone(self),
        }
    }

    /// Waits, from now on, until a message is counted out.
    pub fn freed(&self) -> Notified<'_> {
        self.freed.notified()
    }
}

/// A message in hand, for one of its destinations. Dropped, it is given back.
pub(crate) struct Taken {
    pub ticket: Ticket,
    flights: Arc<Flights>,
}

impl Taken {
    /// It is not to be tried again as it was: it has been recorded, or is not in the queue any more.
    pub fn finish(mut self) {
        self.ticket.set_due(None);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.flights
            .of(self.ticket.is_pending())
            .fetch_sub(1, Ordering::Relaxed);
        self.flights.freed.notify_waiters();
    }
}
