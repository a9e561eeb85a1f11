//! Mail that waits to be sent by a node that dies.

use std::time::Instant;

use nightmail_testbed::proxy::Proxy;

use super::common::cluster::{ClusterSite, Plan};
use super::common::dns::NameServer;
use super::common::sink::Sink;
use super::common::site::own_addresses;
use super::common::{Service, Smtp, eventually, message, text};

const MESSAGES: usize = 24;

#[test]
fn mail_queued_by_a_node_that_dies_is_sent_by_the_others() {
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let path = Proxy::start(sink.address);
    let dns = NameServer::start();
    dns.mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", super::common::dns::ip(path.address()));
    let plan = Plan {
        nodes: 3,
        // As every site has them.
        beat: None,
        settings: format!(
            "[delivery]\nport = {}\nretry_waits = [\"1s\"]\n{}",
            path.port(),
            dns.setting()
        ),
        ..Plan::default()
    };
    let Some(mut cluster) = ClusterSite::start(plan) else {
        return;
    };
    // The first half is refused for the time being, the second is on its way while the node dies.
    sink.answer("451 4.7.1 not now");
    submit(&cluster, 0..MESSAGES / 2);
    eventually("the host has refused", || {
        (sink.attempts() > 0).then_some(())
    });
    path.stall();
    let connections = path.connections();
    submit(&cluster, MESSAGES / 2..MESSAGES);
    eventually("attempts are made", || {
        (path.connections() > connections).then_some(())
    });
    cluster.nodes[0].kill();
    let died = Instant::now();
    sink.answer("250 2.1.5 Ok");
    path.mend();
    for number in 0..MESSAGES {
        let line = format!("Subject: over-{number}\r\n");
        eventually(&format!("message {number} arrives"), || {
            let received = sink.received();
            let mut contents = received.iter().map(|received| text(&received.content));
            contents
                .any(|content| content.contains(&line))
                .then_some(())
        });
    }
    let took = died.elapsed();
    println!("all mail of the dead node was sent {took:.1?} after its death");
    assert!(took.as_secs() < 30, "{took:?}");
    cluster.nodes.rotate_left(1);
    eventually("the queue is empty", || {
        cluster.queued().is_empty().then_some(())
    });
    cluster.check();
    cluster.nodes.pop();
    cluster.stop();
}

/// Alice submits messages to the first node.
fn submit(cluster: &ClusterSite, numbers: std::ops::Range<usize>) {
    let mut smtp = Smtp::connect(cluster.nodes[0].address(Service::Submission)).unwrap();
    // NUL alice NUL demo
    assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
    for number in numbers {
        let sent = message(&format!("over-{number}"), "far away");
        let to = format!("user{number}@remote.test");
        let reply = smtp.send("alice@example.test", &[&to], &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
}
