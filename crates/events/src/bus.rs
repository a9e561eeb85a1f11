//! What carries messages between nodes: who sends, who receives, and whether it works.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nightmail_core::Timestamp;
use parking_lot::Mutex;
use thiserror::Error;
use tokio::sync::mpsc;

/// Messages that wait for the bridge; more are lost, which the numbers in them show.
const INCOMING_MAX: usize = 4096;

/// Carries every message to every node that listens, most of the time: it may lose, double, delay and reorder them.
pub trait Bus: Send + Sync + 'static {
    /// Hands one message of at most [`crate::MESSAGE_BYTES_MAX`] bytes over. Fails within seconds, and while the bus
    /// is away at once; then the message may have been sent all the same.
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), BusError>>;

    /// What arrives from now on, this node's own messages perhaps among it. Begins with [`Received::Reconnected`]
    /// where the bus is connected. There is one receiver: another call ends the one before.
    fn incoming(&self) -> mpsc::Receiver<Received>;

    /// Whether the bus is connected.
    fn connectivity(&self) -> Connectivity;
}

/// What comes out of a bus.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    /// A message.
    Message(Bytes),
    /// The bus is connected, for the first time or again: whatever was sent before may have been lost.
    Reconnected,
}

/// Whether a bus is connected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Connectivity {
    /// Whether messages come and go now.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
}

/// A message could not be handed over.
#[derive(Debug, Error, Clone, PartialEq, Eq)]
pub enum BusError {
    /// There is no connection.
    #[error("the event bus is away")]
    Away,
    /// The connection failed, or took too long.
    #[error("the event bus failed: {0}")]
    Failed(String),
}

/// The end of a bus that its connection feeds.
pub(crate) struct Inlet {
    connectivity: Mutex<Connectivity>,
    incoming: Mutex<Option<mpsc::Sender<Received>>>,
}

impl Inlet {
    /// Of a bus that is not connected yet.
    pub(crate) fn new() -> Self {
        metrics::gauge!("nightmail_events_connected").set(0.0);
        Self {
            connectivity: Mutex::new(Connectivity {
                connected: false,
                since: nightmail_commit::now(),
            }),
            incoming: Mutex::new(None),
        }
    }

    pub(crate) fn connectivity(&self) -> Connectivity {
        *self.connectivity.lock()
    }

    /// Ends the receiver before, if any.
    pub(crate) fn open(&self) -> mpsc::Receiver<Received> {
        let (sender, receiver) = mpsc::channel(INCOMING_MAX);
        *self.incoming.lock() = Some(sender);
        if self.connectivity().connected {
            self.deliver(Received::Reconnected);
        }
        receiver
    }

    /// Drops what there is no room for.
    pub(crate) fn deliver(&self, received: Received) {
        if let Some(incoming) = &*self.incoming.lock() {
            let _ = incoming.try_send(received);
        }
    }

    /// Notes that the bus works, and reports it.
    pub(crate) fn connected(&self) {
        self.set(true);
        self.deliver(Received::Reconnected);
    }

    /// Notes that the bus is away. True when it was not before.
    pub(crate) fn disconnected(&self) -> bool {
        self.set(false)
    }

    fn set(&self, connected: bool) -> bool {
        let mut now = self.connectivity.lock();
        let changed = now.connected != connected;
        if changed {
            *now = Connectivity {
                connected,
                since: nightmail_commit::now(),
            };
            metrics::gauge!("nightmail_events_connected").set(f64::from(u8::from(connected)));
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_comes_late_learns_that_the_bus_is_connected() {
        let inlet = Inlet::new();
        let mut early = inlet.open();
        assert!(early.try_recv().is_err());
        inlet.connected();
        assert_eq!(early.try_recv(), Ok(Received::Reconnected));
        let mut late = inlet.open();
        assert_eq!(late.try_recv(), Ok(Received::Reconnected));
        assert!(inlet.connectivity().connected);
        assert!(inlet.disconnected());
        assert!(!inlet.disconnected());
    }

    #[test]
    fn what_there_is_no_room_for_is_dropped() {
        let inlet = Inlet::new();
        let receiver = inlet.open();
        for _ in 0..INCOMING_MAX + 10 {
            inlet.deliver(Received::Message(Bytes::new()));
        }
        assert_eq!(receiver.len(), INCOMING_MAX);
    }
}
