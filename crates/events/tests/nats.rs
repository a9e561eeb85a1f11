//! Bridges over NATS: cut, stopped and started again, with and without a login.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use common::{Node, PATIENCE, Store};
use nightmail_events::{
    Bus, Channel, MESSAGE_BYTES_MAX, NatsBus, NatsLogin, NatsOptions, NatsTls, Received,
};
use nightmail_testbed::nats::Nats;
use nightmail_testbed::proxy::Proxy;

const HEARTBEAT: Duration = Duration::from_millis(100);

fn options(url: &str) -> NatsOptions {
    NatsOptions::new([url], Channel::parse("test").unwrap()).unwrap()
}

fn bus(url: &str) -> Arc<NatsBus> {
    Arc::new(NatsBus::start(options(url)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_of_each_node_reach_the_other() {
    let Some(server) = Nats::start() else {
        return;
    };
    let store = Store::new(8);
    let a = Node::start("a", bus(&server.url()), &store, HEARTBEAT);
    let b = Node::start("b", bus(&server.url()), &store, HEARTBEAT);
    a.met(&b).await;
    for value in 1..=500 {
        let mailbox = value as usize % 8;
        a.commit(mailbox, value);
        b.sees(mailbox, value).await;
        b.commit(mailbox, value + 1000);
        a.sees(mailbox, value + 1000).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_comes_back_heals_what_was_published_meanwhile() {
    let Some(mut server) = Nats::start() else {
        return;
    };
    let store = Store::new(2);
    let a = Node::start("a", bus(&server.url()), &store, HEARTBEAT);
    let b = Node::start("b", bus(&server.url()), &store, HEARTBEAT);
    a.met(&b).await;
    server.stop();
    for node in [&a, &b] {
        node.until("away", |status| !status.connected).await;
    }
    let late = Node::start("late", bus(&server.url()), &store, HEARTBEAT);
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_is_cut_or_falls_silent_leaves_nobody_asleep() {
    let Some(server) = Nats::start() else {
        return;
    };
    let store = Store::new(2);
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let through = format!("nats://{}", proxy.address());
    let a = Node::start("a", bus(&server.url()), &store, HEARTBEAT);
    let b = Node::start("b", bus(&through), &store, HEARTBEAT);
    a.met(&b).await;
    proxy.cut();
    b.until("cut off", |status| !status.connected).await;
    a.commit(0, 1);
    b.commit(1, 1);
    proxy.mend();
    b.sees(0, 1).await;
    a.sees(1, 1).await;
    proxy.stall();
    a.commit(0, 2);
    b.commit(1, 2);
    b.until("noticed", |status| !status.connected).await;
    proxy.mend();
    proxy.cut_connections();
    b.sees(0, 2).await;
    a.sees(1, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_knows_the_password_takes_part() {
    let Some(server) = Nats::start_with(&["--user", "nightmail", "--pass", "secret"]) else {
        return;
    };
    let store = Store::new(1);
    let login = |password: &str| NatsLogin::User {
        name: "nightmail".into(),
        password: password.into(),
    };
    let insider = || {
        let mut options = options(&server.url());
        options.login = login("secret");
        Arc::new(NatsBus::start(options))
    };
    let a = Node::start("a", insider(), &store, HEARTBEAT);
    let b = Node::start("b", insider(), &store, HEARTBEAT);
    a.met(&b).await;
    a.commit(0, 1);
    b.sees(0, 1).await;
    never_connects(&server, |options| options.login = login("guess")).await;
    never_connects(&server, |_| ()).await;
}

#[tokio::test]
async fn the_longest_message_goes_through_and_own_ones_do_not_come_back() {
    let Some(server) = Nats::start_with(&["--auth", "token"]) else {
        return;
    };
    let login = || {
        let mut options = options(&server.url());
        options.login = NatsLogin::Token("token".into());
        NatsBus::start(options)
    };
    let (sender, receiver) = (login(), login());
    let (mut own, mut incoming) = (sender.incoming(), receiver.incoming());
    for connected in [&mut own, &mut incoming] {
        let first = tokio::time::timeout(PATIENCE, connected.recv()).await;
        assert_eq!(first.unwrap(), Some(Received::Reconnected));
    }
    let longest: Bytes = (0..MESSAGE_BYTES_MAX).map(|at| at as u8).collect();
    sender.send(longest.clone()).await.unwrap();
    let second = tokio::time::timeout(PATIENCE, incoming.recv()).await;
    assert_eq!(second.unwrap(), Some(Received::Message(longest)));
    assert!(own.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_go_over_tls_and_only_to_a_server_that_is_known() {
    let folder = tempfile::tempdir().unwrap();
    let certified = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("cert"), folder.path().join("key"));
    std::fs::write(&certificate, certified.cert.pem()).unwrap();
    std::fs::write(&key, certified.signing_key.serialize_pem()).unwrap();
    let tls = [
        "--tls",
        "--tlscert",
        certificate.to_str().unwrap(),
        "--tlskey",
        key.to_str().unwrap(),
    ];
    let Some(server) = Nats::start_with(&tls) else {
        return;
    };
    let store = Store::new(1);
    let secured = || {
        let mut options = options(&server.url());
        options.tls = NatsTls::Required(Some(certificate.clone()));
        Arc::new(NatsBus::start(options))
    };
    let a = Node::start("a", secured(), &store, HEARTBEAT);
    let b = Node::start("b", secured(), &store, HEARTBEAT);
    a.met(&b).await;
    a.commit(0, 1);
    b.sees(0, 1).await;
    never_connects(&server, |options| options.tls = NatsTls::Required(None)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_wants_tls_tells_nothing_to_a_server_without() {
    let Some(server) = Nats::start() else {
        return;
    };
    never_connects(&server, |options| options.tls = NatsTls::Required(None)).await;
}

/// Waits for a second attempt to connect: the first has failed.
async fn never_connects(server: &Nats, change: impl FnOnce(&mut NatsOptions)) {
    let proxy = Proxy::start(SocketAddr::from((Ipv4Addr::LOCALHOST, server.port())));
    let mut options = options(&format!("nats://{}", proxy.address()));
    change(&mut options);
    let bus = NatsBus::start(options);
    let again = async {
        while proxy.connections() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
    assert!(!bus.connectivity().connected);
}
