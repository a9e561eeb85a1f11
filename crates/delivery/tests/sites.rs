//! Sites: what destinations share, how connections are used again, and what is done where a site cannot be reached.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_pace::{PartialSettings, Rate, ReplyAction, ReplyRule, ReplyRules, Via, Wildcard};
use nightmail_queue::RecipientState;
use support::sink::{Behaviour, Cut, Sink};
use support::{World, eventually, pauses};

const IDLE: Duration = Duration::from_secs(60);

/// A world with one host for far.test.
async fn world_with(behaviour: Behaviour) -> (World, Sink) {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink)
}

async fn all_gone(world: &World) {
    eventually("an empty queue", async || {
        world.queue.list(None, 1).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn one_connection_carries_message_after_message_and_waits_for_more() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.idle = IDLE;
    world.settings.connections_max = 1;
    let delivery = world.start();
    for _ in 0..10 {
        let id = world.enqueue(&["r@far.test"]).await;
        world.gone(id).await;
    }
    assert_eq!((sink.received().len(), sink.connections()), (10, 1));
    assert!(!sink.lines().iter().any(|line| line == "RSET"));
    delivery.stop(Duration::from_secs(10)).await;
    assert!(sink.lines().contains(&"QUIT".to_owned()));
}

#[tokio::test]
async fn a_connection_carries_no_more_messages_than_it_may() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.idle = IDLE;
    world.settings.connections_max = 1;
    world.settings.messages_per_connection = 2;
    let _delivery = world.start();
    for _ in 0..6 {
        let id = world.enqueue(&["r@far.test"]).await;
        world.gone(id).await;
    }
    assert_eq!((sink.received().len(), sink.connections()), (6, 3));
}

#[tokio::test]
async fn a_connection_that_the_host_has_closed_meanwhile_costs_no_attempt() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.idle = IDLE;
    world.settings.connections_max = 1;
    world.settings.retry = pauses(&[3_600_000]);
    sink.behave(|behaviour| behaviour.cut = Some(Cut::AfterOne));
    let _delivery = world.start();
    for _ in 0..5 {
        world.enqueue(&["r@far.test"]).await;
    }
    all_gone(&world).await;
    assert_eq!((sink.received().len(), sink.connections()), (5, 5));
}

#[tokio::test]
async fn destinations_with_the_same_hosts_share_a_transaction_and_a_connection() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.idle = IDLE;
    world.settings.connections_max = 1;
    world.dns.mx("near-by.test", 10, "mx.far.test");
    world.dns.mx("elsewhere.test", 10, "mx.else.test");
    let other = world.sink("mx.else.test", 2, Behaviour::default()).await;
    let _delivery = world.start();
    let id = world
        .enqueue(&["a@far.test", "b@near-by.test", "c@elsewhere.test"])
        .await;
    world.gone(id).await;
    let received = sink.received();
    assert_eq!((received.len(), received[0].rcpts.len()), (1, 2));
    assert_eq!(other.received()[0].rcpts, ["RCPT TO:<c@elsewhere.test>"]);
    let id = world.enqueue(&["b@near-by.test"]).await;
    world.gone(id).await;
    assert_eq!((sink.received().len(), sink.connections()), (2, 1));
}

#[tokio::test]
async fn connections_grow_with_success_up_to_the_bound() {
    let (mut world, sink) = world_with(Behaviour {
        end_after: Duration::from_millis(30),
        ..Behaviour::default()
    })
    .await;
    world.settings.idle = IDLE;
    world.settings.connections_start = 2;
    world.settings.connections_max = 6;
    for _ in 0..150 {
        world.enqueue(&["r@far.test"]).await;
    }
    let _delivery = world.start();
    all_gone(&world).await;
    assert_eq!(sink.received().len(), 150);
    assert!((4..=6).contains(&sink.peak()), "{}", sink.peak());
}

#[tokio::test]
async fn where_no_host_can_be_reached_everything_waiting_is_put_off_by_one_attempt() {
    let world = World::new().await;
    let cut = Behaviour {
        cut: Some(Cut::AtOnce),
        ..Behaviour::default()
    };
    let sink = world.sink("mx.far.test", 1, cut).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    for _ in 0..300 {
        world.enqueue(&["r@far.test"]).await;
    }
    let _delivery = world.start();
    eventually("all are put off", async || {
        let queued = world.queue.list(None, 400).await.unwrap();
        queued
            .iter()
            .all(|(_, message)| message.recipients[0].attempts == 1)
    })
    .await;
    assert!(sink.connections() <= 2, "{}", sink.connections());
    let queued = world.queue.list(None, 400).await.unwrap();
    assert_eq!(queued.len(), 300);
    for (_, message) in queued {
        let recipient = &message.recipients[0];
        assert_eq!(recipient.last.as_ref().unwrap().status, "4.4.2");
        assert!(recipient.next_attempt().unwrap() > nightmail_commit::now());
    }
    let late = world.enqueue(&["r@far.test"]).await;
    world.tried(late).await;
    assert!(sink.connections() <= 2, "the site is left alone");
    sink.behave(|behaviour| behaviour.cut = None);
    world.queue.retry(late).await.unwrap();
    world.gone(late).await;
}

#[tokio::test]
async fn hosts_that_never_answer_hold_nobody_else_up() {
    let mut world = World::new().await;
    world.options.limits.connecting_max = 2;
    world.options.limits.connecting_slow = Duration::from_millis(200);
    world.options.limits.connections_max = 4;
    world.options.timeouts.greeting = Duration::from_secs(600);
    let silent = Behaviour {
        cut: Some(Cut::Silent),
        ..Behaviour::default()
    };
    let hole = world.sink("hole.test", 1, silent).await;
    for number in 0..30 {
        // Each with settings of its own is a site of its own.
        let domain = format!("d{number}.test");
        world.dns.mx(&domain, number, "hole.test");
        world.enqueue(&[&format!("r@{domain}")]).await;
    }
    let quick = world.sink("mx.quick.test", 2, Behaviour::default()).await;
    world.dns.mx("quick.test", 10, "mx.quick.test");
    let delivery = world.start();
    eventually("all holes are tried", async || hole.connections() == 30).await;
    for _ in 0..20 {
        let id = world.enqueue(&["r@quick.test"]).await;
        world.gone(id).await;
    }
    assert_eq!(quick.received().len(), 20);
    delivery.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_site_that_says_it_gets_too_much_is_left_alone_for_a_while() {
    let (mut world, sink) = world_with(Behaviour {
        greeting: "421 4.7.0 Too many connections from you".into(),
        ..Behaviour::default()
    })
    .await;
    let slow = ReplyRule {
        of: Vec::new(),
        stage: None,
        code: "421".parse().ok(),
        enhanced: None,
        text: Some(Wildcard::new("*too many connections*")),
        action: ReplyAction::Slow(Duration::from_millis(800)),
    };
    world.options.reply_rules = Arc::new(ReplyRules::new(vec![slow]));
    let _delivery = world.start();
    let first = world.enqueue(&["r@far.test"]).await;
    let recipient = world.tried(first).await;
    assert_eq!(recipient.last.unwrap().status, "4.7.0");
    sink.behave(|behaviour| *behaviour = Behaviour::default());
    let next = world.enqueue(&["r@far.test"]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let waiting = world.show(next).await.unwrap();
    assert_eq!(
        (waiting.recipients[0].attempts, sink.connections()),
        (0, 1),
        "it waits, and that is no attempt"
    );
    world.gone(next).await;
}

#[tokio::test]
async fn replies_can_be_taken_for_what_they_do_not_say() {
    let (mut world, sink) = world_with(Behaviour {
        rcpt: |line| match line {
            "RCPT TO:<a@far.test>" => "450 4.2.1 mailbox does not exist",
            "RCPT TO:<b@far.test>" => "550 5.7.1 greylisted, come back",
            _ => "451 4.7.9 ask an operator",
        },
        ..Behaviour::default()
    })
    .await;
    let rule = |text: &str, action| ReplyRule {
        of: Vec::new(),
        stage: None,
        code: None,
        enhanced: None,
        text: Some(Wildcard::new(text)),
        action,
    };
    world.options.reply_rules = Arc::new(ReplyRules::new(vec![
        rule("*does not exist*", ReplyAction::Fail),
        rule("greylisted*", ReplyAction::Defer),
        rule("ask*", ReplyAction::Hold),
    ]));
    let _delivery = world.start();
    let id = world
        .enqueue(&["a@far.test", "b@far.test", "c@far.test"])
        .await;
    eventually("the attempt is recorded", async || {
        let message = world.show(id).await.unwrap();
        message.recipients[1].attempts == 1
    })
    .await;
    let message = world.show(id).await.unwrap();
    assert_eq!(message.recipients[0].state, RecipientState::Failed);
    assert!(message.recipients[1].next_attempt().is_some());
    let hold = message.recipients[2].hold.as_deref().unwrap();
    assert_eq!(hold, "451 4.7.9 ask an operator");
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn a_rate_lets_messages_wait_without_an_attempt() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.rate = Some(Rate {
        messages: 2,
        per: Duration::from_millis(600),
    });
    for _ in 0..4 {
        world.enqueue(&["r@far.test"]).await;
    }
    let _delivery = world.start();
    eventually("the first two", async || sink.received().len() == 2).await;
    let queued = world.queue.list(None, 10).await.unwrap();
    let tried = queued
        .iter()
        .map(|(_, message)| message.recipients[0].attempts);
    assert_eq!(tried.sum::<u32>(), 0);
    all_gone(&world).await;
    assert_eq!(sink.received().len(), 4);
}

#[tokio::test]
async fn what_cannot_be_routed_directly_goes_by_the_relay_and_the_rest_does_not() {
    let mut world = World::new().await;
    let relay = world.sink("relay.test", 9, Behaviour::default()).await;
    world.relay_all(nightmail_delivery::Relay {
        name: "hub".into(),
        hosts: vec![("relay.test".into(), relay.address.port())],
        tls: nightmail_delivery::SmarthostTls::None,
        login: None,
        client_certificate: None,
    });
    world.settings.route = Via::MxThenRelay("hub".into());
    let direct = world.sink("mx.far.test", 1, Behaviour::default()).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    world.dns.mx("closed.test", 10, "mx.closed.test");
    world.dns.address_of("mx.closed.test", world.ip(7).into());
    world
        .dns
        .servfail_of("lost.test", nightmail_testbed::dns::RecordType::MX);
    let _delivery = world.start();
    for domain in ["far.test", "closed.test", "lost.test", "absent.test"] {
        let id = world.enqueue(&[&format!("r@{domain}")]).await;
        world.gone(id).await;
    }
    assert_eq!(direct.received().len(), 1);
    let relayed: Vec<String> = relay
        .received()
        .iter()
        .flat_map(|one| one.rcpts.clone())
        .collect();
    assert_eq!(
        relayed,
        ["RCPT TO:<r@closed.test>", "RCPT TO:<r@lost.test>"]
    );
    assert_eq!(
        world.reports().await.len(),
        1,
        "no such domain is a failure"
    );
}

#[tokio::test]
async fn each_destination_has_its_source_address_and_its_name_for_us() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    let other = world.sink("mx.other.test", 2, Behaviour::default()).await;
    world.dns.mx("other.test", 10, "mx.other.test");
    world.rule(
        "far.test",
        PartialSettings {
            source_addresses: Some(vec![world.ip(200).into()]),
            helo: Some(Some("out1.near.test".into())),
            ..PartialSettings::default()
        },
    );
    let _delivery = world.start();
    for to in ["r@far.test", "r@other.test"] {
        let id = world.enqueue(&[to]).await;
        world.gone(id).await;
    }
    assert_eq!(sink.peers(), [std::net::IpAddr::from(world.ip(200))]);
    assert!(sink.lines().contains(&"EHLO out1.near.test".to_owned()));
    assert_ne!(other.peers(), [std::net::IpAddr::from(world.ip(200))]);
    assert!(other.lines().contains(&"EHLO mx.near.test".to_owned()));
}

#[tokio::test]
async fn names_whose_servers_do_not_answer_hold_nobody_up() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.options.limits.lookups_max = 1;
    world.options.limits.connecting_slow = Duration::from_millis(20);
    world.options.dns = nightmail_dns::Dns::new(&nightmail_dns::DnsOptions {
        name_servers: vec![world.dns.address],
        timeout: Duration::from_secs(600),
        attempts: 1,
        ..nightmail_dns::DnsOptions::default()
    })
    .unwrap();
    for number in 0..20 {
        let domain = format!("d{number}.test");
        world
            .dns
            .timeout_of(&domain, nightmail_testbed::dns::RecordType::MX);
        world.enqueue(&[&format!("r@{domain}")]).await;
    }
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!(sink.received().len(), 1);
    delivery.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_host_that_is_to_be_passed_over_is() {
    let (mut world, first) = world_with(Behaviour {
        rcpt: |_| "550 5.7.1 not from this address",
        ..Behaviour::default()
    })
    .await;
    let second = world.sink("b.far.test", 2, Behaviour::default()).await;
    world.dns.mx("far.test", 20, "b.far.test");
    world.options.reply_rules = Arc::new(ReplyRules::new(vec![ReplyRule {
        of: vec!["mx:mx.far.test".parse().unwrap()],
        stage: None,
        code: "550".parse().ok(),
        enhanced: None,
        text: None,
        action: ReplyAction::NextHost,
    }]));
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!((first.connections(), second.received().len()), (1, 1));
    assert!(world.reports().await.is_empty());
}
