//! The bridge between this node's hub and the bus: one task sends, one receives.
//!
//! Sending never holds a commit up: what cannot be sent is owed as "everything" until the bus works again.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use nightmail_commit::{Changed, EventHub, Outbox, Outgoing};
use nightmail_core::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior};

use crate::bus::{Bus, Received};
use crate::peers::{Cause, PeerStatus, Peers, Verdict};
use crate::wire::{self, Message, News, NodeId};

/// Heartbeats that a peer may miss before it counts as gone.
const SILENT_HEARTBEATS: u32 = 5;

/// How a node takes part.
#[derive(Clone, Debug)]
pub struct BridgeOptions {
    /// The node's name, as its peers' operators read it; what is beyond 64 bytes is cut.
    pub name: String,
    /// How often the node repeats its last number: an event that was lost is healed within that time. The same on
    /// all nodes; one that is not heard for five of them counts as gone.
    pub heartbeat: Duration,
}

impl BridgeOptions {
    /// Options with the usual heartbeat of 2 s.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            heartbeat: Duration::from_secs(2),
        }
    }
}

/// How events between nodes are doing.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BridgeStatus {
    /// Whether the bus is connected.
    pub connected: bool,
    /// Since when that is so.
    pub since: Timestamp,
    /// Messages with news that the bus took.
    pub sent: u64,
    /// Messages of other nodes that came.
    pub received: u64,
    /// Times that all subscriptions of this node were woken, because something was lost or may have been.
    pub healed: u64,
    /// The other nodes that are heard.
    pub peers: Vec<PeerStatus>,
}

/// Carries events between the hub of this node and those of the others. Ends when it is dropped.
pub struct Bridge {
    shared: Arc<Shared>,
    bus: Arc<dyn Bus>,
    tasks: [AbortHandle; 2],
}

impl Bridge {
    /// Starts its tasks on the current tokio runtime. Takes the hub's outbox and the bus's receiver for itself.
    pub fn start(hub: EventHub, bus: Arc<dyn Bus>, options: BridgeOptions) -> Self {
        let node = NodeId(RandomState::new().hash_one(std::process::id()));
        let silence = options.heartbeat * SILENT_HEARTBEATS;
        let shared = Arc::new(Shared {
            peers: Mutex::new(Peers::new(node, silence)),
            mended: Notify::new(),
            sent: AtomicU64::new(0),
            received: AtomicU64::new(0),
            healed: AtomicU64::new(0),
        });
        let sender = Sender {
            outbox: hub.attach(),
            bus: Arc::clone(&bus),
            shared: Arc::clone(&shared),
            node,
            name: wire::cut_name(&options.name).into(),
            number: 0,
            commit: 0,
            owes_everything: false,
        };
        let receiver = Receiver {
            incoming: bus.incoming(),
            hub,
            shared: Arc::clone(&shared),
        };
        let tasks = [
            tokio::spawn(sender.run(options.heartbeat)).abort_handle(),
            tokio::spawn(receiver.run()).abort_handle(),
        ];
        Self { shared, bus, tasks }
    }

    /// How it is doing.
    pub fn status(&self) -> BridgeStatus {
        let connectivity = self.bus.connectivity();
        BridgeStatus {
            connected: connectivity.connected,
            since: connectivity.since,
            sent: self.shared.sent.load(Ordering::Relaxed),
            received: self.shared.received.load(Ordering::Relaxed),
            healed: self.shared.healed.load(Ordering::Relaxed),
            peers: self.shared.peers.lock().status(),
        }
    }
}

impl Drop for Bridge {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

struct Shared {
    peers: Mutex<Peers>,
    /// Tells the sender that the bus works again.
    mended: Notify,
    sent: AtomicU64,
    received: AtomicU64,
    healed: AtomicU64,
}

struct Sender {
    outbox: Outbox,
    bus: Arc<dyn Bus>,
    shared: Arc<Shared>,
    node: NodeId,
    name: String,
    /// Of the last message with news.
    number: u64,
    commit: u64,
    /// Whether something was not sent, or perhaps not.
    owes_everything: bool,
}

impl Sender {
    async fn run(mut self, heartbeat: Duration) {
        let mut heartbeats = tokio::time::interval(heartbeat);
        heartbeats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                outgoing = self.outbox.next() => self.tell(outgoing).await,
                () = self.shared.mended.notified() => self.beat().await,
                _ = heartbeats.tick() => self.beat().await,
            }
        }
    }

    async fn tell(&mut self, outgoing: Outgoing) {
        self.commit = outgoing.commit;
        if self.owes_everything {
            return;
        }
        match outgoing.changed {
            Changed::Everything => self.send_news(News::Everything).await,
            Changed::Topics(topics) => {
                for part in wire::split(&topics) {
                    self.send_news(News::Topics(part)).await;
                    if self.owes_everything {
                        return;
                    }
                }
            }
        }
    }

    /// Pays what is owed, or shows the others that they have heard everything.
    async fn beat(&mut self) {
        if self.owes_everything {
            return self.send_news(News::Everything).await;
        }
        let message = self.message(News::Heartbeat);
        // A lost heartbeat is repeated by the next one.
        let _ = self.bus.send(message).await;
    }

    async fn send_news(&mut self, news: News) {
        self.number += 1;
        let message = self.message(news);
        match self.bus.send(message).await {
            Ok(()) => {
                self.owes_everything = false;
                self.shared.sent.fetch_add(1, Ordering::Relaxed);
                metrics::counter!("nightmail_events_sent_total").increment(1);
            }
            Err(error) => {
                if !self.owes_everything {
                    tracing::warn!(%error, "an event for other nodes waits until the bus works");
                }
                self.owes_everything = true;
            }
        }
    }

    fn message(&self, news: News) -> Bytes {
        let message = Message {
            node: self.node,
            name: self.name.clone(),
            number: self.number,
            commit: self.commit,
            news,
        };
        message.encode()
    }
}

struct Receiver {
    incoming: mpsc::Receiver<Received>,
    hub: EventHub,
    shared: Arc<Shared>,
}

impl Receiver {
    async fn run(mut self) {
        loop {
            let next_silence = self.shared.peers.lock().next_silence();
            let silence = async {
                match next_silence {
                    Some(at) => tokio::time::sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                received = self.incoming.recv() => match received {
                    Some(Received::Message(bytes)) => self.hear(&bytes),
                    Some(Received::Reconnected) => {
                        self.heal(Cause::Reconnected);
                        self.shared.mended.notify_one();
                    }
                    None => return,
                },
                () = silence => {
                    if self.shared.peers.lock().forget_silent(Instant::now()) {
                        self.heal(Cause::Silent);
                    }
                }
            }
        }
    }

    fn hear(&self, bytes: &[u8]) {
        let verdict = match Message::decode(bytes) {
            Ok(message) => self.shared.peers.lock().hear(message, Instant::now()),
            Err(error) => {
                tracing::debug!(%error, "an event cannot be read");
                Verdict::WakeAll(Cause::Unreadable)
            }
        };
        match verdict {
            Verdict::Nothing => return,
            Verdict::Wake(topics) => self.hub.publish_remote(topics),
            Verdict::WakeAll(cause) => self.heal(cause),
        }
        self.shared.received.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("nightmail_events_received_total").increment(1);
    }

    fn heal(&self, cause: Cause) {
        self.hub.publish_all();
        self.shared.healed.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("nightmail_events_healed_total", "cause" => cause.word()).increment(1);
        tracing::debug!(cause = cause.word(), "all subscriptions are woken");
    }
}
