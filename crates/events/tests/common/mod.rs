//! Nodes that share a store of numbers, and readers that look at it only when they are woken.
#![allow(dead_code, reason = "each test uses a part")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use nightmail_commit::{EventHub, Topic};
use nightmail_core::MailboxId;
use nightmail_events::{Bridge, BridgeOptions, BridgeStatus, Bus};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// How long anything may take that is expected to happen.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// What the nodes share: a number for each mailbox.
#[derive(Clone)]
pub struct Store(Arc<Vec<AtomicU64>>);

impl Store {
    pub fn new(mailboxes: usize) -> Self {
        Self(Arc::new(
            (0..mailboxes).map(|_| AtomicU64::new(0)).collect(),
        ))
    }
}

pub fn topic(mailbox: usize) -> Topic {
    Topic::Mailbox(MailboxId::new(mailbox as u64))
}

/// A node: its hub, its bridge, and a reader for each mailbox.
pub struct Node {
    pub hub: EventHub,
    pub bridge: Bridge,
    store: Store,
    readers: Vec<Reader>,
}

struct Reader {
    seen: watch::Receiver<u64>,
    task: AbortHandle,
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Node {
    pub fn start(name: &str, bus: Arc<dyn Bus>, store: &Store, heartbeat: Duration) -> Self {
        let hub = EventHub::default();
        let readers = (0..store.0.len())
            .map(|mailbox| Reader::start(&hub, store, mailbox))
            .collect();
        let mut options = BridgeOptions::new(name);
        options.heartbeat = heartbeat;
        Self {
            bridge: Bridge::start(hub.clone(), bus, options),
            hub,
            store: store.clone(),
            readers,
        }
    }

    /// Changes a mailbox and says so, as a commit does.
    pub fn commit(&self, mailbox: usize, value: u64) {
        self.store.0[mailbox].store(value, Ordering::SeqCst);
        self.hub.publish([topic(mailbox)]);
    }

    /// Waits until the reader of a mailbox was woken and saw `value`.
    pub async fn sees(&self, mailbox: usize, value: u64) {
        let mut seen = self.readers[mailbox].seen.clone();
        let waiting = seen.wait_for(|seen| *seen == value);
        let woken = tokio::time::timeout(PATIENCE, waiting).await;
        assert!(woken.is_ok(), "mailbox {mailbox} was left asleep");
    }

    /// Waits until the bridge's status is as wanted.
    pub async fn until(&self, what: &str, wanted: impl Fn(&BridgeStatus) -> bool) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !wanted(&self.bridge.status()) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "{what}: {:?}",
                self.bridge.status()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub async fn connected(&self) {
        self.until("connected", |status| status.connected).await;
    }

    /// Waits until both nodes have heard of each other, so that nothing is left to be healed.
    pub async fn met(&self, other: &Self) {
        for node in [self, other] {
            node.until("one peer", |status| status.peers.len() == 1)
                .await;
        }
    }
}

impl Reader {
    fn start(hub: &EventHub, store: &Store, mailbox: usize) -> Self {
        let mut subscription = hub.subscribe(topic(mailbox));
        let store = store.clone();
        let (report, seen) = watch::channel(0);
        let reading = async move {
            loop {
                subscription.mark_seen();
                report.send_replace(store.0[mailbox].load(Ordering::SeqCst));
                subscription.changed().await;
            }
        };
        Self {
            seen,
            task: tokio::spawn(reading).abort_handle(),
        }
    }
}
