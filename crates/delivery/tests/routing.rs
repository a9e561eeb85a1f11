//! Which hosts are tried, in which order, and what DNS failures mean.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use nightmail_queue::RecipientState;
use nightmail_testbed::dns::RecordType;
use support::World;
use support::sink::{Behaviour, Cut};

#[tokio::test]
async fn a_message_reaches_the_mx_host_byte_for_byte() {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, Behaviour::default()).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test", "q@far.test"]).await;
    world.gone(id).await;
    let received = sink.received();
    assert_eq!(received.len(), 1, "both recipients share a transaction");
    assert_eq!(
        received[0].content,
        [support::PREFIX, support::MESSAGE].concat()
    );
    let size = support::PREFIX.len() + support::MESSAGE.len();
    assert_eq!(
        received[0].mail,
        format!("MAIL FROM:<s@near.test> SIZE={size}")
    );
    assert_eq!(
        received[0].rcpts,
        ["RCPT TO:<r@far.test>", "RCPT TO:<q@far.test>"]
    );
    assert!(world.reports().await.is_empty());
    assert!(
        sink.lines().contains(&"EHLO mx.near.test".to_owned())
            && sink.lines().contains(&"QUIT".to_owned())
    );
}

#[tokio::test]
async fn hosts_are_tried_in_the_order_of_their_preference() {
    let world = World::new().await;
    let first = world
        .sink(
            "a.far.test",
            1,
            Behaviour {
                cut: Some(Cut::AtOnce),
                ..Behaviour::default()
            },
        )
        .await;
    let refusing = Behaviour {
        greeting: "554 5.3.2 not here".into(),
        ..Behaviour::default()
    };
    let second = world.sink("b.far.test", 2, refusing).await;
    let third = world.sink("c.far.test", 3, Behaviour::default()).await;
    let fourth = world.sink("d.far.test", 4, Behaviour::default()).await;
    world
        .dns
        .mx("far.test", 40, "d.far.test")
        .mx("far.test", 20, "b.far.test");
    world
        .dns
        .mx("far.test", 30, "c.far.test")
        .mx("far.test", 10, "a.far.test")
        .mx("far.test", 5, "nowhere.far.test");
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!(
        (
            first.connections(),
            second.connections(),
            third.received().len()
        ),
        (1, 1, 1)
    );
    assert_eq!(fourth.connections(), 0);
}

#[tokio::test]
async fn equal_hosts_share_the_load() {
    let world = World::new().await;
    let hosts = [
        world.sink("a.far.test", 1, Behaviour::default()).await,
        world.sink("b.far.test", 2, Behaviour::default()).await,
    ];
    world
        .dns
        .mx("far.test", 10, "a.far.test")
        .mx("far.test", 10, "b.far.test");
    let _delivery = world.start();
    for _ in 0..20 {
        let id = world.enqueue(&["r@far.test"]).await;
        world.gone(id).await;
    }
    assert!(hosts.iter().all(|host| host.received().len() >= 3));
}

#[tokio::test]
async fn a_domain_without_mx_is_its_own_host_even_behind_an_alias() {
    let world = World::new().await;
    let sink = world.sink("real.test", 1, Behaviour::default()).await;
    world.dns.cname("far.test", "real.test");
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!(sink.received()[0].rcpts, ["RCPT TO:<r@far.test>"]);
}

#[tokio::test]
async fn an_address_literal_is_connected_to() {
    let world = World::new().await;
    let sink = world.sink("unused.test", 1, Behaviour::default()).await;
    let _delivery = world.start();
    let id = world.enqueue(&[&format!("r@[{}]", world.ip(1))]).await;
    world.gone(id).await;
    assert_eq!(sink.received().len(), 1);
}

async fn fails_with(world: &World, recipient: &str, status: &str) {
    let id = world.enqueue(&[recipient]).await;
    world.gone(id).await;
    let reports = world.reports().await;
    let (to, report) = reports.last().expect("the sender is told");
    assert_eq!(to, "s@near.test");
    assert_eq!(support::field(report, "Status"), Some(status), "{report}");
    assert_eq!(support::field(report, "Action"), Some("failed"));
    assert_eq!(
        support::field(report, "Final-Recipient"),
        Some(&*format!("rfc822; {recipient}"))
    );
}

#[tokio::test]
async fn what_dns_says_for_good_is_a_permanent_failure() {
    let world = World::new().await;
    world.dns.mx("null.test", 0, "");
    world.dns.mx("lost.test", 10, "nowhere.lost.test");
    world
        .dns
        .mx("bare.test", 10, "mx.bare.test")
        .mx("mx.bare.test", 10, "x.test");
    world.dns.mx("number.test", 10, &world.ip(1).to_string());
    let _delivery = world.start();
    fails_with(&world, "r@absent.test", "5.1.2").await;
    fails_with(&world, "r@null.test", "5.1.10").await;
    fails_with(&world, "r@lost.test", "5.1.2").await;
    fails_with(&world, "r@bare.test", "5.4.4").await;
    fails_with(&world, "r@number.test", "5.4.4").await;
}

#[tokio::test]
async fn what_dns_cannot_say_now_is_tried_again() {
    let world = World::new().await;
    world.dns.servfail_of("servfail.test", RecordType::MX);
    world.dns.timeout_of("silent.test", RecordType::MX);
    world
        .dns
        .mx("half.test", 10, "mx.half.test")
        .servfail_of("mx.half.test", RecordType::A);
    world
        .dns
        .mx("half.test", 20, "nowhere.test")
        .servfail_of("mx.half.test", RecordType::AAAA);
    let _delivery = world.start();
    for domain in ["servfail.test", "silent.test", "half.test"] {
        let id = world.enqueue(&[&format!("r@{domain}")]).await;
        let recipient = world.tried(id).await;
        assert!(
            matches!(recipient.state, RecipientState::Pending { .. }),
            "{domain}"
        );
        assert_eq!(recipient.last.unwrap().status, "4.4.3", "{domain}");
    }
    assert!(world.reports().await.is_empty());
}

#[tokio::test]
async fn mail_is_never_passed_to_this_host_or_to_hosts_behind_it() {
    let mut world = World::new().await;
    world.options.own_addresses = vec![world.ip(9).into()];
    let better = world.sink("better.test", 1, Behaviour::default()).await;
    let equal = world.sink("equal.test", 2, Behaviour::default()).await;
    world
        .dns
        .mx("backup.test", 10, "better.test")
        .mx("backup.test", 20, "MX.near.test")
        .mx("backup.test", 20, "equal.test");
    world
        .dns
        .mx("loop.test", 10, "mx.near.test")
        .mx("loop.test", 10, "equal.test");
    world
        .dns
        .mx("address.test", 10, "us.test")
        .a("us.test", world.ip(9));
    let _delivery = world.start();
    let id = world.enqueue(&["r@backup.test"]).await;
    world.gone(id).await;
    assert_eq!(better.received().len(), 1);
    fails_with(&world, "r@loop.test", "5.4.6").await;
    fails_with(&world, "r@address.test", "5.4.6").await;
    assert_eq!(equal.connections(), 0);
    better.behave(|behaviour| behaviour.cut = Some(Cut::AtOnce));
    let id = world.enqueue(&["r@backup.test"]).await;
    world.tried(id).await;
    assert_eq!(equal.connections(), 0);
}

#[tokio::test]
async fn a_silent_host_costs_its_timeout_and_the_next_is_tried() {
    let world = World::new().await;
    world
        .sink(
            "a.far.test",
            1,
            Behaviour {
                cut: Some(Cut::Silent),
                ..Behaviour::default()
            },
        )
        .await;
    let second = world.sink("b.far.test", 2, Behaviour::default()).await;
    world
        .dns
        .mx("far.test", 10, "a.far.test")
        .mx("far.test", 20, "b.far.test");
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!(second.received().len(), 1);
}
