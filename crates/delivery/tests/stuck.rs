//! What cannot be done must not keep anything else from being done.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::NewBlob;
use nightmail_core::Address;
use nightmail_delivery::{DeliveryError, Relay, Release, ReportChange, Reports, SmarthostTls};
use nightmail_engine::BoxFuture;
use nightmail_queue::{Alteration, NewQueueMessage, Notify, QueueMessage, RelayName};
use parking_lot::Mutex;
use support::sink::Behaviour;
use support::{World, eventually, message};

/// Nobody can be told anything, and it looks as if that might change.
#[derive(Default)]
struct Speechless {
    asked: Mutex<BTreeSet<String>>,
}

fn trouble() -> DeliveryError {
    DeliveryError::Setup("no way to find out who that is".into())
}

impl Reports for Speechless {
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        _blob: &'a NewBlob,
        _require_tls: bool,
        _notify: Notify,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>> {
        self.asked.lock().insert(to.to_string());
        Box::pin(async { Err(trouble()) })
    }

    fn release<'a>(
        &'a self,
        _message: &'a QueueMessage,
        _recipients: &'a [usize],
    ) -> BoxFuture<'a, Result<Release, DeliveryError>> {
        Box::pin(async { Err(trouble()) })
    }
}

/// Each outcome that could not be recorded had one of four commits to itself, and with the fourth nothing was recorded
/// any more.
#[tokio::test]
async fn outcomes_that_cannot_be_recorded_do_not_keep_others_from_it() {
    let world = World::new().await;
    let choosy = Behaviour {
        rcpt: |line| match line.contains("bad") {
            true => "550 5.1.1 nobody",
            false => "250 2.1.5 Ok",
        },
        ..Behaviour::default()
    };
    let sink = world.sink("mx.far.test", 1, choosy).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    let reports = Arc::new(Speechless::default());
    let delivery = world.start_with(Arc::clone(&reports) as Arc<dyn Reports>);
    for number in 1..=6 {
        let sender = format!("s{number}@near.test");
        let refused = NewQueueMessage {
            reverse_path: nightmail_core::ReversePath::Address(sender.parse().unwrap()),
            ..message(&["bad@far.test"])
        };
        let id = world
            .enqueue_message(refused, b"Subject: x\r\n\r\nhi\r\n")
            .await;
        eventually("it is refused, and nobody can be told", async || {
            reports.asked.lock().len() == number
        })
        .await;
        assert!(world.show(id).await.is_some());
    }
    let good = world.enqueue(&["good@far.test"]).await;
    world.gone(good).await;
    assert_eq!(sink.received().len(), 1);
    eventually("the others wait to be recorded", async || {
        world.queue.in_hand() == 6
    })
    .await;
    delivery.stop(Duration::ZERO).await;
}

/// While a host takes its time to say that it has the message, an operator sends the recipient another way.
#[tokio::test]
async fn what_is_rerouted_in_mid_attempt_is_not_sent_twice() {
    let mut world = World::new().await;
    let slow = Behaviour {
        end_after: Duration::from_millis(1_500),
        ..Behaviour::default()
    };
    let sink = world.sink("mx.far.test", 1, slow).await;
    let hub = world.sink("hub.test", 2, Behaviour::default()).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    let relay = Relay {
        name: "hub".into(),
        hosts: vec![("hub.test".into(), hub.address.port())],
        tls: SmarthostTls::None,
        client_certificate: None,
        login: None,
    };
    world.options.relays.insert("hub".into(), relay);
    let delivery = world.start();
    let id = world.enqueue(&["a@far.test"]).await;
    eventually("the host is told of it", async || {
        sink.lines().iter().any(|line| line.starts_with("DATA"))
    })
    .await;
    let reroute = Alteration::Reroute(RelayName::new("hub"));
    let changed = world.queue.alter(id, reroute, |_, _| true).await;
    assert_eq!(changed.unwrap(), 1);
    world.gone(id).await;
    assert_eq!((sink.received().len(), hub.received().len()), (1, 0));
    delivery.stop(Duration::from_secs(1)).await;
}
