//! Nodes that come, fall silent, are fenced, drain and leave, over one engine in memory and a clock that tests move.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::{
    Cluster, ClusterError, LeaseName, NodeState, QUEUE_SHARDS, Role, Session, forget, nodes,
    request_drain,
};
use nightmail_engine::{CommitError, Durability, Engine, EngineError, MemoryEngine};
use support::{Gate, Node, eventually, get, put, share_all};
use tokio::time::{Instant, sleep};

const LEASE: Duration = Duration::from_secs(6);
const HEARTBEAT: Duration = Duration::from_secs(2);
const SYNCED: Durability = Durability::Synced;

async fn two() -> (Arc<MemoryEngine>, Node, Node) {
    let engine = Arc::new(MemoryEngine::new());
    let a = Node::start(&engine, "a").await;
    let b = Node::start(&engine, "b").await;
    eventually("both share the leases", || {
        share_all(&[&a, &b]) && !a.held().is_empty() && !b.held().is_empty()
    })
    .await;
    (engine, a, b)
}

async fn state(engine: &MemoryEngine, name: &str) -> (NodeState, Session, u64) {
    let nodes = nodes(engine).await.unwrap();
    let node = nodes.iter().find(|node| node.name.as_str() == name);
    let node = node.unwrap();
    (node.state, node.session, node.epoch.get())
}

#[tokio::test(start_paused = true)]
async fn two_nodes_share_the_shards_evenly_and_all_are_held() {
    let (engine, a, b) = two().await;
    for node in [&a, &b] {
        let shards = node.held().into_iter();
        let shards = shards.filter(|lease| *lease != LeaseName::Maintenance);
        assert_eq!(shards.count(), usize::from(QUEUE_SHARDS) / 2);
    }
    let listed = nodes(engine.as_ref()).await.unwrap();
    assert_eq!(listed.len(), 2);
    assert!(listed.iter().all(|node| node.state == NodeState::Live));
    let mut held = a.held();
    held.sort_unstable();
    let mut rows = listed[0].leases.clone();
    rows.sort_unstable();
    assert_eq!(rows, held);
}

#[tokio::test(start_paused = true)]
async fn roles_say_who_sends_and_who_does_the_periodic_jobs() {
    let engine = Arc::new(MemoryEngine::new());
    let sends = Node::start_as(&engine, "sends", &[Role::Delivery]).await;
    let serves = Node::start_as(&engine, "serves", &[Role::Imap, Role::Admin]).await;
    eventually("each has its leases", || {
        sends.held().len() == usize::from(QUEUE_SHARDS) && serves.held() == [LeaseName::Maintenance]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_node_is_fenced_within_the_lease_and_its_leases_move() {
    let (engine, a, b) = two().await;
    let session = state(&engine, "b").await.1;
    drop(b);
    let silent = Instant::now();
    eventually("a holds everything", || share_all(&[&a])).await;
    assert!(
        silent.elapsed() >= LEASE - HEARTBEAT,
        "it was given its time"
    );
    assert!(silent.elapsed() <= LEASE + 3 * HEARTBEAT);
    let after = state(&engine, "b").await;
    assert_eq!((after.0, after.1), (NodeState::Fenced, session));
}

#[tokio::test(start_paused = true)]
async fn a_node_that_beats_is_not_fenced() {
    let (engine, _a, _b) = two().await;
    let before = (state(&engine, "a").await, state(&engine, "b").await);
    sleep(Duration::from_secs(3600)).await;
    let after = (state(&engine, "a").await, state(&engine, "b").await);
    assert_eq!(before, after);
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_cannot_commit_and_joins_again_under_a_new_epoch() {
    let (engine, a, b) = two().await;
    let before = state(&engine, "b").await;
    let commits = b.cluster.engine();
    commits.commit(put("x", "before"), SYNCED).await.unwrap();
    b.way.set(Gate::Held);
    // Prepared before the pause, it reaches the engine after the takeover.
    let late = tokio::spawn({
        let commits = Arc::clone(&commits);
        async move { commits.commit(put("x", "late"), SYNCED).await }
    });
    eventually("a holds everything", || share_all(&[&a])).await;
    b.way.set(Gate::Open);
    assert!(matches!(
        late.await.unwrap(),
        Err(CommitError::Engine(EngineError::Unavailable(_)))
    ));
    assert_eq!(get(engine.as_ref(), "x").await.unwrap(), "before");
    eventually("b has its share again", || {
        share_all(&[&a, &b]) && !b.held().is_empty()
    })
    .await;
    let after = state(&engine, "b").await;
    assert_eq!(after.0, NodeState::Live);
    assert!(after.1 != before.1 && after.2 > before.2);
    commits.commit(put("x", "after"), SYNCED).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn work_begun_under_a_lease_cannot_be_committed_after_the_takeover() {
    let (engine, a, b) = two().await;
    let lease = b.held()[0];
    let hold = b.cluster.leases().hold(lease).unwrap();
    let mut prepared = put("work", "by b");
    hold.guard().check(&mut prepared);
    b.way.set(Gate::Held);
    eventually("a holds the lease", || a.holds(lease)).await;
    assert!(
        !hold.is_current() && b.held().is_empty(),
        "b knows by its own clock"
    );
    let next = a.cluster.leases().hold(lease).unwrap();
    assert!(next.guard().epoch() > hold.guard().epoch());
    let mut batch = put("work", "by a");
    next.guard().check(&mut batch);
    a.cluster.engine().commit(batch, SYNCED).await.unwrap();
    b.way.set(Gate::Open);
    eventually("b has its share again", || !b.held().is_empty()).await;
    // The fence is a new one by now: the lease's epoch alone keeps the old work out.
    let refused = b.cluster.engine().commit(prepared, SYNCED).await;
    assert_eq!(
        refused,
        Err(CommitError::Conflict {
            key: hold.guard().row().unwrap().clone()
        })
    );
    assert_eq!(get(engine.as_ref(), "work").await.unwrap(), "by a");
}

#[tokio::test(start_paused = true)]
async fn nobody_is_fenced_for_a_silence_of_the_store() {
    for gate in [Gate::Held, Gate::Broken] {
        let (engine, a, b) = two().await;
        let before = (state(&engine, "a").await, state(&engine, "b").await);
        for outage in [3, 7, 60, 600] {
            a.way.set(gate);
            b.way.set(gate);
            sleep(Duration::from_secs(outage)).await;
            assert_eq!(a.held().is_empty(), outage > 6, "leases lapse by the clock");
            // The observer comes back a little before the observed.
            a.way.set(Gate::Open);
            sleep(Duration::from_millis(1500)).await;
            b.way.set(Gate::Open);
            eventually("both work again", || {
                share_all(&[&a, &b]) && !a.held().is_empty() && !b.held().is_empty()
            })
            .await;
            let after = (state(&engine, "a").await, state(&engine, "b").await);
            assert_eq!(before, after, "{gate:?} for {outage} s");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn leases_that_lapsed_come_back_under_new_epochs() {
    let engine = Arc::new(MemoryEngine::new());
    let node = Node::start(&engine, "only").await;
    eventually("all are held", || share_all(&[&node])).await;
    let hold = node.cluster.leases().hold(LeaseName::Maintenance).unwrap();
    let mut changes = node.cluster.leases().changes();
    node.way.set(Gate::Held);
    changes.changed().await;
    assert!(node.held().is_empty() && !hold.is_current());
    node.way.set(Gate::Open);
    eventually("all are held again", || share_all(&[&node])).await;
    let again = node.cluster.leases().hold(LeaseName::Maintenance).unwrap();
    assert!(again.guard().epoch() > hold.guard().epoch());
}

#[tokio::test(start_paused = true)]
async fn a_node_that_leaves_gives_its_leases_back_at_once() {
    let (engine, a, b) = two().await;
    b.cluster.leave().await.unwrap();
    let left = Instant::now();
    assert!(b.held().is_empty());
    eventually("a holds everything", || share_all(&[&a])).await;
    assert!(left.elapsed() <= HEARTBEAT + Duration::from_millis(100));
    assert_eq!(state(&engine, "b").await.0, NodeState::Left);
    let refused = b.cluster.engine().commit(put("x", "1"), SYNCED).await;
    assert!(matches!(refused, Err(CommitError::Engine(_))));
    b.cluster.leave().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_drained_node_finishes_its_work_before_it_gives_a_lease_back() {
    let (engine, a, b) = two().await;
    let (busy, idle) = (b.held()[0], b.held()[1]);
    let hold = b.cluster.leases().hold(busy).unwrap();
    request_drain(engine.as_ref(), &b.name).await.unwrap();
    b.cluster.drain_requested().await;
    eventually("the idle lease has moved", || a.holds(idle)).await;
    assert_eq!(state(&engine, "b").await.0, NodeState::Draining);
    sleep(Duration::from_secs(60)).await;
    assert!(!a.holds(busy) && !b.holds(busy) && !hold.is_current());
    let mut finished = put("work", "by b");
    hold.guard().check(&mut finished);
    b.cluster.engine().commit(finished, SYNCED).await.unwrap();
    drop(hold);
    let done = Instant::now();
    eventually("the other has moved as well", || share_all(&[&a])).await;
    assert!(done.elapsed() <= HEARTBEAT + Duration::from_millis(100));
}

#[tokio::test(start_paused = true)]
async fn a_process_that_joins_under_a_name_replaces_the_one_before_without_waiting() {
    let engine = Arc::new(MemoryEngine::new());
    let old = Node::start(&engine, "a").await;
    eventually("all are held", || share_all(&[&old])).await;
    request_drain(engine.as_ref(), &old.name).await.unwrap();
    let began = Instant::now();
    let new = Node::start(&engine, "a").await;
    eventually("the new one holds everything", || share_all(&[&new])).await;
    assert!(began.elapsed() <= Duration::from_millis(100));
    old.cluster.replaced().await;
    assert!(old.held().is_empty());
    let refused = old.cluster.engine().commit(put("x", "old"), SYNCED).await;
    assert!(matches!(refused, Err(CommitError::Engine(_))));
    let session = state(&engine, "a").await;
    sleep(Duration::from_secs(60)).await;
    assert_eq!(
        state(&engine, "a").await,
        session,
        "the old one has given up"
    );
    assert_eq!(
        session.0,
        NodeState::Live,
        "the drain went with the old process"
    );
}

#[tokio::test(start_paused = true)]
async fn a_third_node_takes_its_share_and_nothing_is_held_twice() {
    let (engine, a, b) = two().await;
    let c = Node::start(&engine, "c").await;
    for _ in 0..200 {
        let held = [a.held(), b.held(), c.held()].concat();
        let unique: std::collections::BTreeSet<_> = held.iter().collect();
        assert_eq!(unique.len(), held.len());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(share_all(&[&a, &b, &c]));
    for node in [&a, &b, &c] {
        assert!((3..=7).contains(&node.held().len()), "{:?}", node.held());
    }
}

#[tokio::test(start_paused = true)]
async fn only_nodes_that_have_gone_are_forgotten() {
    let (engine, a, b) = two().await;
    assert!(matches!(
        forget(engine.as_ref(), &b.name).await,
        Err(ClusterError::Live(_))
    ));
    b.cluster.leave().await.unwrap();
    assert!(matches!(
        request_drain(engine.as_ref(), &b.name).await,
        Err(ClusterError::NoSuchNode(_))
    ));
    forget(engine.as_ref(), &b.name).await.unwrap();
    assert!(matches!(
        forget(engine.as_ref(), &b.name).await,
        Err(ClusterError::NoSuchNode(_))
    ));
    assert_eq!(nodes(engine.as_ref()).await.unwrap().len(), 1);
    let _again = Node::start(&engine, "b").await;
    eventually("it has come back", || !share_all(&[&a])).await;
}

#[tokio::test(start_paused = true)]
async fn a_fenced_node_that_was_forgotten_joins_again() {
    let (engine, a, b) = two().await;
    b.way.set(Gate::Held);
    eventually("a holds everything", || share_all(&[&a])).await;
    forget(engine.as_ref(), &b.name).await.unwrap();
    b.way.set(Gate::Open);
    eventually("b is back", || share_all(&[&a, &b]) && !b.held().is_empty()).await;
    assert_eq!(state(&engine, "b").await.0, NodeState::Live);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_was_lost_leaves_no_lease_unheld_and_no_node_outside() {
    for nth in 1..12 {
        let engine = Arc::new(MemoryEngine::new());
        let node = Node::start(&engine, "a").await;
        engine.fail_commit_after_applying(nth);
        // Long enough for the fault to come, be it at a heartbeat.
        sleep(Duration::from_secs(60)).await;
        eventually("all are held", || share_all(&[&node])).await;
        node.way.set(Gate::Held);
        let other = Node::start(&engine, "b").await;
        eventually("the other took over", || share_all(&[&other])).await;
        engine.fail_commit_after_applying(nth);
        node.way.set(Gate::Open);
        sleep(Duration::from_secs(60)).await;
        eventually("both share", || {
            share_all(&[&node, &other]) && !node.held().is_empty()
        })
        .await;
    }
}

#[tokio::test]
async fn a_single_machine_writes_nothing_and_holds_everything() {
    let engine = Arc::new(MemoryEngine::new());
    let cluster = Cluster::single(engine.clone());
    assert!(cluster.leases().is_single());
    assert!(cluster.leases().hold(LeaseName::Maintenance).is_some());
    cluster.leave().await.unwrap();
    assert_eq!(engine.stats().commits, 0);
    cluster
        .engine()
        .commit(put("x", "1"), SYNCED)
        .await
        .unwrap();
}
