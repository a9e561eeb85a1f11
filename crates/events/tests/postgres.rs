//! Bridges over PostgreSQL: cut, silent, stopped and started again.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Node, PATIENCE, Store};
use nightmail_events::{Bus, Channel, MESSAGE_BYTES_MAX, PostgresBus, Received};
use nightmail_postgres::{PostgresOptions, PostgresTls};
use nightmail_testbed::postgres::Postgres;
use nightmail_testbed::proxy::Proxy;

const HEARTBEAT: Duration = Duration::from_millis(100);

fn bus(server: SocketAddr, cluster: &str) -> Arc<PostgresBus> {
    let mut config = tokio_postgres::Config::new();
    config
        .host(server.ip().to_string())
        .port(server.port())
        .user("nightmail")
        .dbname("nightmail");
    let options = PostgresOptions::new(config, PostgresTls::None);
    Arc::new(PostgresBus::start(
        options,
        Channel::parse(cluster).unwrap(),
    ))
}

/// Two nodes that have met, the second behind a proxy.
async fn pair(server: &Postgres, proxy: &Proxy, store: &Store) -> (Node, Node) {
    let a = Node::start("a", bus(server.address(), "test"), store, HEARTBEAT);
    let b = Node::start("b", bus(proxy.address(), "test"), store, HEARTBEAT);
    a.met(&b).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_each_node_reach_the_other_and_no_other_cluster() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Store::new(8);
    let proxy = Proxy::start(server.address());
    let (a, b) = pair(&server, &proxy, &store).await;
    let stranger = Node::start("c", bus(server.address(), "other"), &store, HEARTBEAT);
    stranger.connected().await;
    for value in 1..=200 {
        let mailbox = value as usize % 8;
        a.commit(mailbox, value);
        b.sees(mailbox, value).await;
        b.commit(mailbox, value + 1000);
        a.sees(mailbox, value + 1000).await;
    }
    assert!(stranger.bridge.status().peers.is_empty());
    assert_eq!(stranger.bridge.status().received, 0);
}

#[tokio::test]
async fn the_longest_message_goes_through() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let bus = bus(server.address(), "test");
    let mut incoming = bus.incoming();
    let first = tokio::time::timeout(PATIENCE, incoming.recv()).await;
    assert_eq!(first.unwrap(), Some(Received::Reconnected));
    let longest: Bytes = (0..MESSAGE_BYTES_MAX).map(|at| at as u8).collect();
    bus.send(longest.clone()).await.unwrap();
    let second = tokio::time::timeout(PATIENCE, incoming.recv()).await;
    assert_eq!(second.unwrap(), Some(Received::Message(longest)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_and_mended_leaves_nobody_asleep() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Store::new(2);
    let proxy = Proxy::start(server.address());
    let (a, b) = pair(&server, &proxy, &store).await;
    for value in 1..=5 {
        proxy.cut();
        b.until("cut off", |status| !status.connected).await;
        a.commit(0, value);
        b.commit(1, value);
        proxy.mend();
        b.sees(0, value).await;
        a.sees(1, value).await;
    }
    proxy.cut_connections();
    a.commit(0, 100);
    b.commit(1, 100);
    b.sees(0, 100).await;
    a.sees(1, 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_falls_silent_is_noticed() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let store = Store::new(2);
    let proxy = Proxy::start(server.address());
    // Without heartbeats within the test, so that the bus itself must find out.
    let long = Duration::from_secs(3600);
    let a = Node::start("a", bus(server.address(), "test"), &store, long);
    let b = Node::start("b", bus(proxy.address(), "test"), &store, long);
    a.connected().await;
    b.connected().await;
    proxy.stall();
    a.commit(0, 1);
    b.until("noticed", |status| !status.connected).await;
    b.commit(1, 1);
    proxy.mend();
    proxy.cut_connections();
    b.sees(0, 1).await;
    a.sees(1, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_heals_what_was_published_meanwhile() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let store = Store::new(2);
    let proxy = Proxy::start(server.address());
    let (a, b) = pair(&server, &proxy, &store).await;
    server.kill();
    for node in [&a, &b] {
        node.until("away", |status| !status.connected).await;
    }
    let late = Node::start("late", bus(server.address(), "test"), &store, HEARTBEAT);
    for value in 1..=10_000 {
        a.commit(0, value);
        b.commit(1, value);
    }
    server.restart();
    for node in [&a, &b, &late] {
        node.sees(0, 10_000).await;
        node.sees(1, 10_000).await;
        node.until("two peers", |status| status.peers.len() == 2)
            .await;
    }
    b.commit(0, 20_000);
    late.sees(0, 20_000).await;
}
