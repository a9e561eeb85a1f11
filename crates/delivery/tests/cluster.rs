//! Two nodes that send from one queue: a takeover goes on with it, and a node that is emptied hands it over.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

#[path = "../../cluster/tests/support/mod.rs"]
mod nodes;
mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::{ClusterOptions, LeaseName, Role, Roles, Shard, request_drain};
use nightmail_commit::{CommitLimits, Committer};
use nightmail_core::QueueId;
use nightmail_delivery::Delivery;
use nightmail_queue::Queue;
use nodes::{Gate, Node, share_all};
use support::sink::{Behaviour, Sink};
use support::{ReportList, World};

/// Waits until `check` holds; fails after a minute.
async fn eventually(what: &str, mut check: impl AsyncFnMut() -> bool) {
    for _ in 0..6000 {
        if check().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A node, its queue and its channel.
struct Sender {
    node: Node,
    queue: Arc<Queue>,
    delivery: Delivery,
}

async fn sender(world: &World, name: &str) -> Sender {
    let options = ClusterOptions {
        heartbeat: Duration::from_millis(100),
        lease: Duration::from_secs(3),
        ..ClusterOptions::new(name.parse().unwrap(), Roles::from([Role::Delivery]))
    };
    let node = Node::join(&world.engine, options).await;
    let limits = CommitLimits::default();
    let committer = Committer::start(node.cluster.engine(), world.heap.clone(), limits);
    let queue = Queue::in_cluster(committer, node.cluster.leases().clone());
    let queue = Arc::new(queue);
    let reports = Arc::new(ReportList::default());
    let delivery = Delivery::start(Arc::clone(&queue), reports, world.options()).unwrap();
    Sender {
        node,
        queue,
        delivery,
    }
}

/// Two nodes that hold their shares, after `prepare` has set the world up.
async fn two(
    behaviour: Behaviour,
    prepare: impl FnOnce(&mut World),
) -> (World, Sink, Sender, Sender) {
    let mut world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    prepare(&mut world);
    let (a, b) = (sender(&world, "a").await, sender(&world, "b").await);
    eventually("both hold leases", async || share(&[&a, &b])).await;
    (world, sink, a, b)
}

/// Whether these nodes hold every shard, each once and none without one.
fn share(senders: &[&Sender]) -> bool {
    let nodes: Vec<&Node> = senders.iter().map(|sender| &sender.node).collect();
    nodes.iter().all(|node| !node.held().is_empty()) && share_all(&nodes)
}

fn lease_of(id: QueueId) -> LeaseName {
    LeaseName::Queue(Shard::of(id.get()))
}

async fn queued(world: &World) -> usize {
    world.queue.list(None, 1000).await.unwrap().len()
}

async fn all_gone(world: &World) {
    eventually("the queue is empty", async || queued(world).await == 0).await;
}

#[tokio::test]
async fn both_nodes_send_what_is_theirs_whoever_took_it_and_nothing_goes_twice() {
    let (world, sink, a, b) = two(Behaviour::default(), |_| {}).await;
    // The world's own queue takes the messages and wakes nobody: it stands for a third node.
    for _ in 0..30 {
        world.enqueue(&["r@far.test"]).await;
    }
    all_gone(&world).await;
    assert_eq!(sink.received().len(), 30);
    for sender in [a, b] {
        sender.delivery.stop(Duration::ZERO).await;
        sender.node.cluster.leave().await.unwrap();
    }
}

#[tokio::test]
async fn a_message_taken_up_by_a_node_that_dies_is_sent_by_the_other() {
    let slow = Behaviour {
        end_after: Duration::from_millis(300),
        ..Behaviour::default()
    };
    let (world, sink, a, b) = two(slow, |_| {}).await;
    for _ in 0..12 {
        world.enqueue(&["r@far.test"]).await;
    }
    eventually("b is at work", async || b.queue.in_hand() > 0).await;
    drop(b);
    all_gone(&world).await;
    assert!(sink.received().len() >= 12);
    assert!(share(&[&a]));
}

#[tokio::test]
async fn a_node_paused_in_mid_transaction_records_nothing_and_the_other_sends() {
    let slow = Behaviour {
        end_after: Duration::from_millis(1000),
        ..Behaviour::default()
    };
    let (world, sink, a, b) = two(slow, |_| {}).await;
    let id = loop {
        let id = world.enqueue(&["r@far.test"]).await;
        if b.node.holds(lease_of(id)) {
            break id;
        }
    };
    eventually("b sends it", async || b.queue.is_in_hand(id)).await;
    b.node.way.set(Gate::Held);
    eventually("a has taken over", async || share(&[&a])).await;
    all_gone(&world).await;
    b.node.way.set(Gate::Open);
    eventually("b lets go of it", async || b.delivery.active() == 0).await;
    eventually("b has its share again", async || share(&[&a, &b])).await;
    assert_eq!(queued(&world).await, 0);
    assert!(!sink.received().is_empty());
}

#[tokio::test]
async fn a_node_that_is_emptied_hands_over_what_waits_and_nothing_goes_twice() {
    let slow = Behaviour {
        end_after: Duration::from_millis(100),
        ..Behaviour::default()
    };
    let (world, sink, a, b) = two(slow, |world| {
        world.settings.connections_max = 1;
    })
    .await;
    for _ in 0..40 {
        world.enqueue(&["r@far.test"]).await;
    }
    eventually("b has taken some up", async || b.queue.in_hand() > 0).await;
    request_drain(world.engine.as_ref(), &b.node.name)
        .await
        .unwrap();
    b.node.cluster.drain_requested().await;
    eventually("a has all leases", async || share(&[&a])).await;
    assert!(
        queued(&world).await > 0,
        "b did not have to send it all first"
    );
    assert_eq!(b.queue.in_hand(), 0);
    all_gone(&world).await;
    assert_eq!(sink.received().len(), 40);
}
