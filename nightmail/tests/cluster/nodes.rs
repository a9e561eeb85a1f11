//! Nodes that come and go: what the operator sees, draining, names.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::common::cluster::{ClusterSite, Plan};
use super::common::{Service, Smtp, eventually, message};
use super::{deliver, subjects, two};

/// The state and the leases of each node, as a node says.
fn states(cluster: &ClusterSite, asked: usize) -> Vec<(String, String, usize)> {
    let listed = cluster.nodes[asked].admin(&["node", "list"]);
    let items = listed["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{listed}"));
    let state = |node: &Value| {
        let leases = node["leases"].as_array().map_or(0, Vec::len);
        let word = |key: &str| node[key].as_str().unwrap_or_default().to_owned();
        (word("name"), word("state"), leases)
    };
    items.iter().map(state).collect()
}

/// Waits until the nodes are in these states, and those that live hold all leases among them, each its share.
#[track_caller]
fn settle(cluster: &ClusterSite, asked: usize, wanted: &[(&str, &str)]) {
    let began = Instant::now();
    loop {
        let states = states(cluster, asked);
        let named = states
            .iter()
            .map(|(name, state, _)| (name.as_str(), state.as_str()));
        let live = states.iter().filter(|(_, state, _)| state == "live");
        let leases: usize = states.iter().map(|(_, _, leases)| leases).sum();
        let shared = live.clone().all(|(_, _, leases)| *leases > 0);
        let held_by_live: usize = live.map(|(_, _, leases)| leases).sum();
        if named.eq(wanted.iter().copied()) && shared && held_by_live == leases && leases >= 16 {
            println!("{wanted:?} after {} ms", began.elapsed().as_millis());
            return;
        }
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{states:?}, not {wanted:?}"
        );
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_operator_sees_nodes_come_go_and_fall_silent() {
    let plan = Plan {
        nodes: 3,
        ..Plan::default()
    };
    let Some(mut cluster) = ClusterSite::start(plan) else {
        return;
    };
    settle(
        &cluster,
        0,
        &[("n1", "live"), ("n2", "live"), ("n3", "live")],
    );
    cluster.nodes[2].kill();
    settle(
        &cluster,
        0,
        &[("n1", "live"), ("n2", "live"), ("n3", "fenced")],
    );
    cluster.nodes[1].stop();
    settle(
        &cluster,
        0,
        &[("n1", "live"), ("n2", "left"), ("n3", "fenced")],
    );
    cluster.nodes[0].admin(&["node", "forget", "n3"]);
    settle(&cluster, 0, &[("n1", "live"), ("n2", "left")]);
    cluster.nodes[1].start();
    cluster.nodes[2].start();
    settle(
        &cluster,
        2,
        &[("n1", "live"), ("n2", "live"), ("n3", "live")],
    );
    // A process that stood still is shut out, and comes back by itself.
    cluster.nodes[1].pause();
    settle(
        &cluster,
        0,
        &[("n1", "live"), ("n2", "fenced"), ("n3", "live")],
    );
    cluster.nodes[1].resume();
    settle(
        &cluster,
        0,
        &[("n1", "live"), ("n2", "live"), ("n3", "live")],
    );
    deliver(&cluster.nodes[1], "alice", "after the pause");
    cluster.check();
    cluster.stop();
}

#[test]
fn a_drained_node_finishes_and_ends_and_others_hold_its_shards() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    settle(&cluster, 0, &[("n1", "live"), ("n2", "live")]);
    // In the midst of a message.
    let sent = message("finished", "body");
    let mut smtp = Smtp::connect(cluster.nodes[1].address(Service::Smtp)).unwrap();
    let begun = smtp
        .begin("s@far.test", "", &["alice@example.test"])
        .unwrap();
    assert_eq!(begun.code, 354);

    cluster.nodes[0].admin(&["node", "drain", "n2"]);
    eventually("n2 says that it leaves", || {
        let health = cluster.nodes[1].health("/readyz");
        // Where nobody answers, it has gone already.
        health.is_none_or(|(code, _)| code == 503).then_some(())
    });
    smtp.lines
        .write(&super::common::smtp::stuff(&sent))
        .unwrap();
    assert_eq!(smtp.reply().unwrap().code, 250);
    drop(smtp);
    assert_eq!(cluster.nodes[1].ended().code(), Some(0));
    settle(&cluster, 0, &[("n1", "live"), ("n2", "left")]);
    assert_eq!(subjects(&cluster.nodes[0], "alice"), ["finished"]);

    // Started again it takes part again.
    cluster.nodes[1].start();
    settle(&cluster, 1, &[("n1", "live"), ("n2", "live")]);
    cluster.nodes[0].terminate();
    assert_eq!(cluster.nodes[0].ended().code(), Some(0));
    settle(&cluster, 1, &[("n1", "left"), ("n2", "live")]);
    cluster.nodes[0].start();
    cluster.check();
    cluster.stop();
}

#[test]
fn a_second_node_of_a_name_takes_it_over_and_the_first_ends() {
    let Some(mut cluster) = two(Plan::default()) else {
        return;
    };
    let mut double = cluster.node("n1");
    double.start();
    let ended = cluster.nodes[0].ended();
    println!("the first ended with {ended}");
    assert!(
        cluster.nodes[0]
            .log()
            .contains("another process has joined under the name")
    );
    settle(&cluster, 1, &[("n1", "live"), ("n2", "live")]);
    deliver(&double, "alice", "by the second");
    double.stop();
    cluster.nodes[0].start();
    deliver(&cluster.nodes[0], "alice", "by the first");
    settle(&cluster, 1, &[("n1", "live"), ("n2", "live")]);
    let both = ["by the second", "by the first"];
    assert_eq!(subjects(&cluster.nodes[1], "alice"), both);
    cluster.check();
    cluster.stop();
}
