//! TLS, smarthosts, bounds, stopping, and what a power loss leaves.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_core::Address;
use nightmail_delivery::{DeliveryError, Login, Relay, ReportChange, Reports, SmarthostTls};
use nightmail_engine::BoxFuture;
use nightmail_pace::TlsRule;
use nightmail_queue::{Notify, QueueError, RecipientState};
use support::sink::{Behaviour, Cut, Sink};
use support::tls::tls_for;
use support::{World, eventually};

async fn world_with(behaviour: Behaviour) -> (World, Sink) {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink)
}

#[tokio::test]
async fn starttls_is_used_where_offered_whatever_the_certificate() {
    let (tls, _) = tls_for("someone.else.test");
    let (world, sink) = world_with(Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(sink.received()[0].tls);
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn broken_tls_falls_back_to_plain_on_a_new_connection() {
    let (world, sink) = world_with(Behaviour {
        broken_tls: true,
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert!(!sink.received()[0].tls);
    assert_eq!(sink.connections(), 2);
}

#[tokio::test]
async fn starttls_can_be_switched_off() {
    let (mut world, sink) = world_with(Behaviour {
        broken_tls: true,
        ..Behaviour::default()
    })
    .await;
    world.settings.tls = TlsRule::Never;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    assert_eq!(sink.connections(), 1);
}

fn smarthost(sink: &Sink, tls: SmarthostTls) -> Relay {
    Relay {
        name: "smarthost".into(),
        hosts: vec![("relay.test".into(), sink.address.port())],
        tls,
        client_certificate: None,
        login: Some(Login {
            user: "u".into(),
            password: "p".into(),
        }),
    }
}

#[tokio::test]
async fn a_smarthost_takes_all_domains_in_one_transaction_after_login_over_verified_tls() {
    let (tls, certificate) = tls_for("relay.test");
    let mut world = World::new().await;
    let mut behaviour = Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    };
    behaviour.extensions.push("AUTH PLAIN LOGIN".into());
    let sink = world.sink("relay.test", 1, behaviour).await;
    world.relay_all(smarthost(&sink, SmarthostTls::StartTls));
    world.options.trusted_roots = vec![certificate];
    let _delivery = world.start();
    let id = world.enqueue(&["a@x.test", "b@y.test"]).await;
    world.gone(id).await;
    let received = sink.received();
    assert_eq!(received.len(), 1);
    assert!(received[0].tls && received[0].rcpts.len() == 2);
    assert!(sink.lines().contains(&"AUTH PLAIN AHUAcA==".to_owned()));
}

#[tokio::test]
async fn a_smarthost_that_cannot_be_verified_or_found_gets_neither_mail_nor_password() {
    let (tls, _) = tls_for("relay.test");
    let mut world = World::new().await;
    let mut behaviour = Behaviour {
        tls: Some(tls),
        ..Behaviour::default()
    };
    behaviour.extensions.push("AUTH PLAIN".into());
    let sink = world.sink("relay.test", 1, behaviour).await;
    world.relay_all(smarthost(&sink, SmarthostTls::StartTls));
    let delivery = world.start();
    let id = world.enqueue(&["a@x.test"]).await;
    assert_eq!(world.tried(id).await.last.unwrap().status, "4.7.5");
    assert!(
        sink.received().is_empty() && !sink.lines().iter().any(|line| line.starts_with("AUTH"))
    );
    delivery.stop(Duration::ZERO).await;
    sink.behave(|behaviour| behaviour.tls = None);
    for tls in [SmarthostTls::StartTls, SmarthostTls::Opportunistic] {
        world.relay_all(smarthost(&sink, tls));
        let delivery = world.start();
        let id = world.enqueue(&["a@x.test"]).await;
        assert_eq!(world.tried(id).await.last.unwrap().status, "4.7.4");
        delivery.stop(Duration::ZERO).await;
    }
    assert!(!sink.lines().iter().any(|line| line.starts_with("AUTH")));
    world.relay_all(Relay {
        hosts: vec![("typo.test".into(), 25)],
        ..smarthost(&sink, SmarthostTls::None)
    });
    let _delivery = world.start();
    let id = world.enqueue(&["a@x.test"]).await;
    assert!(matches!(
        world.tried(id).await.state,
        RecipientState::Pending { .. }
    ));
}

#[tokio::test]
async fn connections_to_one_destination_are_bounded_and_others_are_not_held_up() {
    let (mut world, slow) = world_with(Behaviour {
        end_after: Duration::from_millis(300),
        ..Behaviour::default()
    })
    .await;
    let quick = world.sink("mx.quick.test", 2, Behaviour::default()).await;
    world.dns.mx("quick.test", 10, "mx.quick.test");
    world.settings.connections_max = 2;
    let _delivery = world.start();
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(world.enqueue(&["r@far.test"]).await);
    }
    let other = world.enqueue(&["r@quick.test"]).await;
    world.gone(other).await;
    assert_eq!(quick.received().len(), 1);
    assert!(slow.received().len() <= 2);
    for id in ids {
        world.gone(id).await;
    }
    assert_eq!((slow.received().len(), slow.peak()), (6, 2));
}

#[tokio::test]
async fn a_backlog_for_a_slow_destination_is_parked_and_holds_nobody_up() {
    let slow = Behaviour {
        end_after: Duration::from_millis(100),
        ..Behaviour::default()
    };
    let (mut world, slow) = world_with(slow).await;
    let quick = world.sink("mx.quick.test", 2, Behaviour::default()).await;
    world.dns.mx("quick.test", 10, "mx.quick.test");
    world.options.limits.pending_max = 3;
    world.settings.connections_max = 1;
    for _ in 0..20 {
        world.enqueue(&["r@far.test"]).await;
    }
    let both = world.enqueue(&["r@far.test", "r@quick.test"]).await;
    let last = world.enqueue(&["r@quick.test"]).await;
    let _delivery = world.start();
    world.gone(last).await;
    assert!(slow.received().len() < 10);
    world.gone(both).await;
    eventually("an empty queue", async || {
        world.queue.list(None, 1).await.unwrap().is_empty()
    })
    .await;
    assert_eq!((slow.received().len(), slow.peak()), (21, 1));
    assert_eq!(
        quick.received().len(),
        2,
        "what was delivered is not repeated for what was parked"
    );
}

#[tokio::test]
async fn a_dropped_channel_ends_and_gives_its_messages_back() {
    let (mut world, sink) = world_with(Behaviour {
        end_after: Duration::from_millis(300),
        ..Behaviour::default()
    })
    .await;
    world.settings.connections_max = 1;
    let delivery = world.start();
    for _ in 0..3 {
        world.enqueue(&["r@far.test"]).await;
    }
    eventually("a connection", async || sink.connections() == 1).await;
    drop(delivery);
    eventually("no claims", async || world.queue.in_hand() == 0).await;
    world.enqueue(&["r@far.test"]).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((world.queue.in_hand(), sink.connections()), (0, 1));
}

#[tokio::test]
async fn more_messages_than_workers_are_all_delivered() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.options.limits.pending_max = 3;
    for _ in 0..30 {
        world.enqueue(&["r@far.test"]).await;
    }
    let _delivery = world.start();
    eventually("thirty messages", async || sink.received().len() == 30).await;
    eventually("an empty queue", async || {
        world.queue.list(None, 1).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test]
async fn stopping_finishes_the_transaction_under_way_and_starts_no_other() {
    let (mut world, sink) = world_with(Behaviour {
        end_after: Duration::from_millis(400),
        ..Behaviour::default()
    })
    .await;
    world.settings.connections_max = 1;
    let delivery = world.start();
    let ids = [
        world.enqueue(&["r@far.test"]).await,
        world.enqueue(&["r@far.test"]).await,
    ];
    eventually("a connection", async || {
        sink.lines().contains(&"DATA".to_owned())
    })
    .await;
    delivery.stop(Duration::from_secs(10)).await;
    assert_eq!(sink.received().len(), 1);
    let mut left = Vec::new();
    for id in ids {
        left.extend(world.show(id).await);
    }
    assert_eq!(left.len(), 1);
    assert_eq!(
        left[0].recipients[0].attempts, 0,
        "what was not begun is not an attempt"
    );
}

#[tokio::test]
async fn stopping_does_not_wait_longer_than_its_grace() {
    let (mut world, sink) = world_with(Behaviour {
        cut: Some(Cut::Silent),
        ..Behaviour::default()
    })
    .await;
    world.options.timeouts.greeting = Duration::from_secs(60);
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    eventually("a connection", async || sink.connections() == 1).await;
    let begun = Instant::now();
    delivery.stop(Duration::from_millis(100)).await;
    assert!(begun.elapsed() < Duration::from_secs(5));
    assert!(world.show(id).await.unwrap().due().is_some());
    assert_eq!(world.queue.in_hand(), 0);
}

#[tokio::test]
async fn a_power_loss_repeats_at_most_the_attempt_in_flight_and_no_report() {
    for seed in 0..5 {
        let rcpt = |line: &str| match line {
            "RCPT TO:<no@far.test>" => "550 5.1.1 no such user",
            _ => "250 2.1.5 Ok",
        };
        let (world, sink) = world_with(Behaviour {
            rcpt,
            ..Behaviour::default()
        })
        .await;
        let delivery = world.start();
        let done = [
            world.enqueue(&["r@far.test"]).await,
            world.enqueue(&["no@far.test"]).await,
        ];
        for id in done {
            world.gone(id).await;
        }
        sink.behave(|behaviour| behaviour.end_after = Duration::from_millis(200));
        let in_flight = world.enqueue(&["r@far.test"]).await;
        eventually("content under way", async || {
            sink.lines().iter().filter(|line| *line == "DATA").count() >= 2
        })
        .await;
        world.engine.crash();
        drop(delivery);
        let world = world.after_power_loss(seed);
        let delivery = world.start();
        world.gone(in_flight).await;
        assert!(sink.received().len() <= 3);
        assert_eq!(world.reports().await.len(), 1);
        delivery.stop(Duration::from_secs(1)).await;
    }
}

#[tokio::test]
async fn what_a_host_has_taken_is_recorded_although_the_store_fails_for_a_while() {
    let (world, sink) = world_with(Behaviour {
        end_after: Duration::from_millis(100),
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    eventually("content under way", async || {
        sink.lines().contains(&"DATA".to_owned())
    })
    .await;
    world.engine.set_full(true);
    eventually("the message is taken", async || sink.received().len() == 1).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(world.show(id).await.is_some());
    world.engine.set_full(false);
    world.gone(id).await;
    assert_eq!((sink.received().len(), sink.connections()), (1, 1));
}

#[tokio::test]
async fn a_message_removed_meanwhile_is_not_brought_back() {
    let (world, sink) = world_with(Behaviour {
        end_after: Duration::from_millis(200),
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    eventually("content under way", async || {
        sink.lines().contains(&"DATA".to_owned())
    })
    .await;
    world.queue.remove(id).await.unwrap();
    eventually("the message is taken", async || sink.received().len() == 1).await;
    eventually("the claim is given back", async || {
        world.queue.in_hand() == 0
    })
    .await;
    assert!(world.show(id).await.is_none());
}

/// Reports whose planning fails a few times before there is no addressee.
struct Flaky(parking_lot::Mutex<u32>);

impl Reports for Flaky {
    fn plan<'a>(
        &'a self,
        _to: &'a Address,
        _blob: &'a nightmail_commit::NewBlob,
        _require_tls: bool,
        _notify: Notify,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>> {
        let mut left = self.0.lock();
        *left = left.saturating_sub(1);
        let answer = match *left {
            0 => {
                let change: ReportChange = Box::new(|_| {
                    Err(DeliveryError::Unroutable("the mailbox has gone".into()).into())
                });
                Ok(change)
            }
            _ => Err(DeliveryError::Queue(QueueError::IdInUse)),
        };
        Box::pin(async move { answer })
    }

    fn release<'a>(
        &'a self,
        _message: &'a nightmail_queue::QueueMessage,
        _recipients: &'a [usize],
    ) -> BoxFuture<'a, Result<nightmail_delivery::Release, DeliveryError>> {
        Box::pin(async move { Err(DeliveryError::Queue(QueueError::IdInUse)) })
    }
}

#[tokio::test]
async fn a_failure_is_not_recorded_before_its_report_could_be_planned() {
    let (world, sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start_with(Arc::new(Flaky(parking_lot::Mutex::new(4))));
    let id = world.enqueue(&["r@far.test"]).await;
    eventually("the attempt", async || sink.connections() == 1).await;
    tokio::time::sleep(Duration::from_millis(75)).await;
    assert!(world.show(id).await.is_some());
    world.gone(id).await;
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn an_idle_channel_does_not_touch_the_store() {
    let (world, _sink) = world_with(Behaviour::default()).await;
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.engine.fail_next(1);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(
        world.show_fails().await,
        "somebody read the store meanwhile"
    );
}
