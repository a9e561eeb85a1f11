//! Bridges over a bus that does everything a bus may do.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Node, Store, topic};
use futures_util::future::BoxFuture;
use nightmail_commit::Topic;
use nightmail_core::MailboxId;
use nightmail_events::{
    Bus, BusError, Connectivity, Faults, MESSAGE_BYTES_MAX, MemoryBus, MemoryNetwork, Message,
    News, NodeId, Received,
};
use tokio::sync::mpsc;

const HEARTBEAT: Duration = Duration::from_millis(20);
/// No heartbeat comes while a test lasts.
const NEVER: Duration = Duration::from_secs(3600);

fn pair(network: &MemoryNetwork, store: &Store, heartbeat: Duration) -> (Node, Node) {
    let a = Node::start("a", network.join(), store, heartbeat);
    let b = Node::start("b", network.join(), store, heartbeat);
    (a, b)
}

#[tokio::test]
async fn an_event_wakes_its_topic_on_the_other_node_alone() {
    let store = Store::new(2);
    let network = MemoryNetwork::new(1, Faults::default());
    let (a, b) = pair(&network, &store, NEVER);
    a.met(&b).await;
    let mut other = b.hub.subscribe(topic(1));
    let healed = b.bridge.status().healed;
    other.mark_seen();
    a.commit(0, 7);
    b.sees(0, 7).await;
    assert!(!other.has_changed());
    let status = b.bridge.status();
    assert_eq!((status.received, status.healed), (1, healed));
    assert_eq!(status.peers[0].name, "a");
    assert_eq!(status.peers[0].commit, 1);
    let status = a.bridge.status();
    assert_eq!((status.sent, status.received), (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn loss_doubling_delay_and_reordering_leave_nobody_asleep() {
    for seed in 0..8 {
        let store = Store::new(8);
        let faults = Faults {
            lost_percent: 40,
            doubled_percent: 30,
            delay_max: Duration::from_millis(30),
        };
        let network = MemoryNetwork::new(seed, faults);
        let (a, b) = pair(&network, &store, HEARTBEAT);
        for value in 1..=60 {
            a.commit((value * 7 + seed) as usize % 8, value);
            if value % 3 == 0 {
                b.commit(value as usize % 8, 1000 + value);
            }
            if value % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        for mailbox in 0..8 {
            let value = 10_000 + mailbox as u64;
            a.commit(mailbox, value);
            b.sees(mailbox, value).await;
        }
    }
}

#[tokio::test]
async fn a_lost_last_event_is_healed_by_the_next_heartbeat() {
    let store = Store::new(1);
    let network = MemoryNetwork::new(1, Faults::default());
    let (a, b) = pair(&network, &store, HEARTBEAT);
    a.met(&b).await;
    network.set_faults(Faults {
        lost_percent: 100,
        ..Faults::default()
    });
    a.commit(0, 1);
    a.until("sent", |status| status.sent == 1).await;
    network.set_faults(Faults::default());
    b.sees(0, 1).await;
}

#[tokio::test]
async fn a_node_that_dies_before_it_speaks_is_healed_when_it_is_missed() {
    let store = Store::new(1);
    let network = MemoryNetwork::new(1, Faults::default());
    let (a, b) = pair(&network, &store, HEARTBEAT);
    a.met(&b).await;
    network.set_faults(Faults {
        lost_percent: 100,
        ..Faults::default()
    });
    a.commit(0, 5);
    drop(a);
    b.sees(0, 5).await;
    assert!(b.bridge.status().peers.is_empty());
}

#[tokio::test]
async fn a_bus_that_is_cut_delays_no_commit_and_heals_when_it_is_mended() {
    let store = Store::new(3);
    let network = MemoryNetwork::new(1, Faults::default());
    let (bus_a, bus_b) = (network.join(), network.join());
    let a = Node::start("a", Arc::clone(&bus_a) as Arc<dyn Bus>, &store, NEVER);
    let b = Node::start("b", Arc::clone(&bus_b) as Arc<dyn Bus>, &store, NEVER);
    a.met(&b).await;
    bus_a.cut();
    assert!(!a.bridge.status().connected);
    for value in 1..=1000 {
        a.commit(value as usize % 3, value);
        // The sender takes it out and fails, now or at the next turn.
        tokio::task::yield_now().await;
    }
    bus_a.mend();
    for (mailbox, value) in [(0, 999), (1, 1000), (2, 998)] {
        b.sees(mailbox, value).await;
    }
    bus_b.cut();
    a.commit(0, 2000);
    a.until("sent", |status| status.sent >= 2).await;
    bus_b.mend();
    b.sees(0, 2000).await;
}

#[tokio::test]
async fn a_commit_to_very_many_mailboxes_is_told_in_parts() {
    let store = Store::new(1);
    let network = MemoryNetwork::new(1, Faults::default());
    let (a, b) = pair(&network, &store, NEVER);
    a.met(&b).await;
    let healed = b.bridge.status().healed;
    let far = Topic::Mailbox(MailboxId::new(4000 << 20));
    let other = b.hub.subscribe(far);
    a.hub
        .publish((1..=4000).map(|id| Topic::Mailbox(MailboxId::new(id << 20))));
    tokio::time::timeout(common::PATIENCE, other.changed())
        .await
        .unwrap();
    b.until("in parts", |status| status.received > 2).await;
    assert_eq!(b.bridge.status().healed, healed);
}

#[tokio::test]
async fn what_cannot_be_read_wakes_everybody() {
    let store = Store::new(1);
    let network = MemoryNetwork::new(1, Faults::default());
    let b = Node::start("b", network.join(), &store, NEVER);
    b.until("begun", |status| status.healed == 1).await;
    let stranger = network.join();
    let future = Bytes::from_static(&[250, 1, 2, 3]);
    stranger.send(future).await.unwrap();
    b.until("healed", |status| status.healed == 2).await;
    let everything = Message {
        node: NodeId(1),
        name: "c".into(),
        number: 1,
        commit: 1,
        news: News::Everything,
    };
    stranger.send(everything.encode()).await.unwrap();
    b.until("healed", |status| status.healed == 3).await;
}

/// A bus whose sends never come back while it hangs.
struct Hanging {
    inner: Arc<MemoryBus>,
    hangs: tokio::sync::watch::Receiver<bool>,
}

impl Bus for Hanging {
    fn send(&self, message: Bytes) -> BoxFuture<'_, Result<(), BusError>> {
        assert!(message.len() <= MESSAGE_BYTES_MAX);
        Box::pin(async move {
            let mut hangs = self.hangs.clone();
            let _ = hangs.wait_for(|hangs| !hangs).await;
            self.inner.send(message).await
        })
    }

    fn incoming(&self) -> mpsc::Receiver<Received> {
        self.inner.incoming()
    }

    fn connectivity(&self) -> Connectivity {
        self.inner.connectivity()
    }
}

#[tokio::test]
async fn commits_that_queue_up_behind_a_slow_bus_are_told_together() {
    let store = Store::new(4);
    let network = MemoryNetwork::new(1, Faults::default());
    let (hang, hangs) = tokio::sync::watch::channel(false);
    let slow = Hanging {
        inner: network.join(),
        hangs,
    };
    let a = Node::start("a", Arc::new(slow), &store, NEVER);
    let b = Node::start("b", network.join(), &store, NEVER);
    a.met(&b).await;
    hang.send_replace(true);
    for value in 1..=100_000 {
        a.commit(value as usize % 4, value);
    }
    // Receiving goes on while a send hangs.
    b.commit(0, 7);
    a.sees(0, 7).await;
    a.commit(0, 8);
    hang.send_replace(false);
    for (mailbox, value) in [(0, 8), (1, 99_997), (2, 99_998), (3, 99_999)] {
        b.sees(mailbox, value).await;
    }
    assert!(a.bridge.status().sent < 10);
    assert_eq!(b.bridge.status().peers[0].commit, 100_001);
}
