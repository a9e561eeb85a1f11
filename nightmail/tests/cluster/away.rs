//! A node that cannot reach what it needs: clients are told to come back, nothing is lost, and it heals by itself.

use std::io;

use nightmail_testbed::programs::skip_always;

use super::common::cluster::{Node, Plan};
use super::common::site::PASSWORD;
use super::common::smtp::stuff;
use super::common::{Imap, Pop3, Service, eventually, message};
use super::{deliver, subjects, two};

fn becomes_ready(node: &Node, ready: bool) {
    eventually(&format!("{} is ready: {ready}", node.name), || {
        (node.is_ready() == ready).then_some(())
    });
}

/// What a new IMAP client is told that logs in and selects its inbox.
fn login_refused(node: &Node) -> io::Error {
    let opened = Imap::open(node.address(Service::Imap), "alice", PASSWORD, "INBOX");
    opened.map(drop).unwrap_err()
}

#[test]
fn a_node_without_the_database_tells_clients_to_come_back_and_heals() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    deliver(&cluster.nodes[0], "alice", "before");
    let (here, there) = (&cluster.nodes[0], &cluster.nodes[1]);
    let mut open = here.imap("alice", "INBOX");
    let mut transaction = here.smtp();
    let begun = transaction
        .begin("s@far.test", "", &["alice@example.test"])
        .unwrap();
    assert_eq!(begun.code, 354);

    here.cut_database();
    becomes_ready(here, false);
    assert_eq!(here.health("/healthz").unwrap().0, 200);
    let sent = message("in between", "body");
    transaction.lines.write(&stuff(&sent)).unwrap();
    let reply = transaction.reply().unwrap();
    assert!((400..500).contains(&reply.code), "after DATA: {reply:?}");
    let mut smtp = here.smtp();
    let reply = smtp
        .send("s@far.test", &["bob@example.test"], &sent)
        .unwrap();
    assert!(
        (400..500).contains(&reply.code),
        "at the envelope: {reply:?}"
    );
    let stored = open.say("STORE 1 +FLAGS (\\Seen)").unwrap();
    assert!(stored.status.starts_with("NO [UNAVAILABLE]"), "{stored:?}");
    let refused = login_refused(here).to_string();
    assert!(refused.contains("[UNAVAILABLE]"), "{refused}");
    let refused = Pop3::login(here.address(Service::Pop3), "alice", PASSWORD).map(drop);
    let refused = refused.unwrap_err().to_string();
    assert!(refused.contains("-ERR [SYS/TEMP]"), "{refused}");

    // The other node is not concerned.
    assert!(there.is_ready());
    deliver(there, "alice", "meanwhile");

    here.mend();
    becomes_ready(here, true);
    deliver(here, "alice", "after");
    open.say("STORE 1 +FLAGS (\\Seen)").unwrap().ok();
    for node in &cluster.nodes {
        assert_eq!(subjects(node, "alice"), ["before", "meanwhile", "after"]);
        assert!(subjects(node, "bob").is_empty());
    }
    cluster.check();
    cluster.stop();
}

#[test]
fn a_silent_database_is_noticed_and_all_nodes_heal() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    deliver(&cluster.nodes[0], "alice", "before");
    cluster.database().pause();
    for node in &cluster.nodes {
        becomes_ready(node, false);
    }
    let refused = login_refused(&cluster.nodes[1]).to_string();
    assert!(refused.contains("[UNAVAILABLE]"), "{refused}");
    cluster.database().resume();
    for node in &cluster.nodes {
        becomes_ready(node, true);
    }
    cluster.database().kill();
    for node in &cluster.nodes {
        becomes_ready(node, false);
    }
    cluster.database().restart();
    for node in &cluster.nodes {
        becomes_ready(node, true);
        deliver(node, "alice", &format!("after on {}", node.name));
    }
    let all = ["before", "after on n1", "after on n2"];
    for node in &cluster.nodes {
        assert_eq!(subjects(node, "alice"), all);
    }
    cluster.check();
    cluster.stop();
}

#[test]
fn a_node_told_to_stop_ends_although_the_database_is_silent() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    deliver(&cluster.nodes[0], "alice", "before");
    cluster.nodes[0].stall_database();
    cluster.nodes[0].terminate();
    assert_eq!(cluster.nodes[0].ended().code(), Some(0));
    cluster.nodes[0].mend();
    cluster.nodes[0].start();
    assert_eq!(subjects(&cluster.nodes[0], "alice"), ["before"]);
    cluster.check();
    cluster.stop();
}

#[test]
fn a_node_without_the_object_store_keeps_what_the_database_can_do_and_heals() {
    let plan = Plan {
        garage: true,
        ..Plan::default()
    };
    let Some(mut cluster) = two(plan) else {
        return;
    };
    if cluster.garage.is_none() {
        return skip_always("Garage is not installed: no test without the object store");
    }
    let sent = deliver(&cluster.nodes[1], "alice", "before");
    let here = &cluster.nodes[0];
    let mut open = here.imap("alice", "INBOX");
    here.objects.iter().for_each(|proxy| proxy.cut());

    let mut smtp = here.smtp();
    let message = message("in between", "body");
    let reply = smtp
        .send("s@far.test", &["alice@example.test"], &message)
        .unwrap();
    assert!((400..500).contains(&reply.code), "{reply:?}");
    let answer = open.say("FETCH 1 (BODY.PEEK[])").unwrap();
    assert!(answer.status.starts_with("NO [UNAVAILABLE]"), "{answer:?}");
    open.say("STORE 1 +FLAGS (\\Flagged)").unwrap().ok();
    let flags = open.say("FETCH 1 (FLAGS)").unwrap().ok();
    assert!(flags.with("* 1 FETCH")[0].text.contains("\\Flagged"));
    let mut pop3 = Pop3::login(here.address(Service::Pop3), "alice", PASSWORD).unwrap();
    let refused = pop3.read("RETR 1").unwrap_err().to_string();
    assert!(refused.contains("[SYS/TEMP]"), "{refused}");

    here.mend();
    let fetched = eventually("the message can be read", || {
        open.bodies_of("FETCH 1 (UID BODY.PEEK[])").ok()
    });
    assert!(fetched[0].1.ends_with(&sent));
    deliver(here, "alice", "after");
    assert_eq!(subjects(&cluster.nodes[1], "alice"), ["before", "after"]);
    cluster.check();
    cluster.stop();
}
