//! Mail that waits for an opening or a request, mail that is fetched, and what operators and senders are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_core::ReversePath;
use nightmail_delivery::{ClientCertificate, DoubleBounces, Relay, SmarthostTls, Verp};
use nightmail_journal::{EventKind, Journal, JournalOptions, Query};
use nightmail_pace::{PartialSettings, Schedule, Weekday};
use nightmail_queue::{
    HurryTarget, NewQueueMessage, Notify, RuleBook, Selection, StandingAction, Waiting,
};
use nightmail_smtp::TlsFacts;
use rustls::RootCertStore;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::WebPkiClientVerifier;
use support::sink::{Behaviour, Sink, serve};
use support::{MESSAGE, World, eventually, field, message, pauses};
use tokio_rustls::TlsAcceptor;

/// A world with one host for far.test.
async fn world_with(behaviour: Behaviour) -> (World, Sink) {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink)
}

async fn put_off(world: &World, id: nightmail_core::QueueId, waiting: Waiting) {
    eventually("it is put off", async || {
        let message = world.show(id).await.unwrap();
        message.recipients[0].waiting == waiting
    })
    .await;
}

#[tokio::test]
async fn mail_waits_for_its_schedule_until_somebody_sends_it_now() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    let never = Schedule::new(&[], &[], &Weekday::ALL, "+00:00".parse().unwrap());
    world.rule(
        "far.test",
        PartialSettings {
            schedule: Some(Some(Arc::new(never))),
            ..PartialSettings::default()
        },
    );
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    put_off(&world, id, Waiting::Window).await;
    let recipient = world.show(id).await.unwrap().recipients[0].clone();
    assert_eq!((recipient.attempts, sink.connections()), (0, 0));
    let why = delivery.explain(id).await.unwrap();
    assert!(why[0].1.contains("schedule"), "{why:?}");
    let far = HurryTarget::Domain("far.test".parse().unwrap());
    assert_eq!(world.queue.hurry(&far).await.unwrap(), 1);
    world.gone(id).await;
    assert_eq!(sink.received().len(), 1);
}

#[tokio::test]
async fn mail_on_request_waits_to_be_asked_for_and_again_after_a_failure() {
    let (mut world, sink) = world_with(Behaviour {
        mail: "451 4.3.0 later".into(),
        ..Behaviour::default()
    })
    .await;
    world.rule(
        "far.test",
        PartialSettings {
            on_request: Some(true),
            ..PartialSettings::default()
        },
    );
    world.settings.retry = pauses(&[10]);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    put_off(&world, id, Waiting::Request).await;
    assert_eq!(sink.connections(), 0);
    let far = HurryTarget::Domain("far.test".parse().unwrap());
    world.queue.hurry(&far).await.unwrap();
    world.tried(id).await;
    put_off(&world, id, Waiting::Request).await;
    assert_eq!(sink.connections(), 1);
    sink.behave(|behaviour| *behaviour = Behaviour::default());
    world.queue.hurry(&far).await.unwrap();
    world.gone(id).await;
    assert_eq!(sink.connections(), 2);
}

#[tokio::test]
async fn a_customer_fetches_its_mail_over_its_own_connection() {
    let mut world = World::new().await;
    world.rule(
        "customer.test",
        PartialSettings {
            on_request: Some(true),
            ..PartialSettings::default()
        },
    );
    let delivery = world.start();
    let mut ids = Vec::new();
    for _ in 0..3 {
        let id = world.enqueue(&["r@customer.test"]).await;
        put_off(&world, id, Waiting::Request).await;
        ids.push(id);
    }
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let customer = tokio::spawn(async move { serve(theirs, &Behaviour::default()).await });
    let domains = vec!["customer.test".parse().unwrap()];
    let report = delivery.turn(Box::new(ours), None, domains).await.unwrap();
    assert_eq!((report.delivered, report.left), (3, 0));
    let received = customer.await.unwrap();
    assert_eq!(received.len(), 3);
    assert!(received[0].content.ends_with(MESSAGE));
    for id in ids {
        world.gone(id).await;
    }
}

#[tokio::test]
async fn a_customer_gets_mail_that_demands_tls_where_its_connection_has_it() {
    let mut world = World::new().await;
    world.rule(
        "customer.test",
        PartialSettings {
            on_request: Some(true),
            ..PartialSettings::default()
        },
    );
    let delivery = world.start();
    let mut demanding = message(&["r@customer.test"]);
    demanding.demands.require_tls = true;
    let id = world.enqueue_message(demanding, MESSAGE).await;
    put_off(&world, id, Waiting::Request).await;
    let behaviour = Behaviour {
        extensions: vec!["REQUIRETLS".into()],
        ..Behaviour::default()
    };
    let (ours, theirs) = tokio::io::duplex(1 << 16);
    let customer = tokio::spawn(async move { serve(theirs, &behaviour).await });
    let tls = TlsFacts {
        version: "TLSv1.3".into(),
        peer_verified: true,
        ..TlsFacts::default()
    };
    let domains = vec!["customer.test".parse().unwrap()];
    let report = delivery.turn(Box::new(ours), Some(tls), domains).await;
    assert_eq!(report.unwrap().delivered, 1);
    let received = customer.await.unwrap();
    assert!(received[0].mail.ends_with(" REQUIRETLS"));
    world.gone(id).await;
}

#[tokio::test]
async fn a_gateway_link_shows_its_certificate() {
    let server = rcgen::generate_simple_self_signed(vec!["relay.test".to_owned()]).unwrap();
    let client = rcgen::generate_simple_self_signed(vec!["us.near.test".to_owned()]).unwrap();
    let key = |pair: &rcgen::KeyPair| {
        PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pair.serialize_der()))
    };
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(vec![server.cert.der().clone()], key(&server.signing_key))
        .unwrap();
    let mut world = World::new().await;
    let behaviour = Behaviour {
        tls: Some(TlsAcceptor::from(Arc::new(config))),
        ..Behaviour::default()
    };
    let sink = world.sink("relay.test", 1, behaviour).await;
    world.options.trusted_roots = vec![server.cert.der().clone()];
    let relay = Relay {
        name: "gateway".into(),
        hosts: vec![("relay.test".into(), sink.address.port())],
        tls: SmarthostTls::StartTls,
        login: None,
        client_certificate: None,
    };
    world.relay_all(relay.clone());
    let without = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.tried(id).await;
    assert!(sink.received().is_empty());
    without.stop(Duration::ZERO).await;
    world.relay_all(Relay {
        client_certificate: Some(ClientCertificate {
            chain: vec![client.cert.der().clone()],
            key: Arc::new(key(&client.signing_key)),
        }),
        ..relay
    });
    let _delivery = world.start();
    world.queue.retry(id).await.unwrap();
    world.gone(id).await;
    assert!(sink.received()[0].tls);
}

#[tokio::test]
async fn each_recipient_gets_a_reverse_path_of_its_own_where_that_is_wanted() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.options.verp = Some(Verp {
        senders: vec!["s@near.test".parse().unwrap()],
        delimiters: ('+', '='),
    });
    let _delivery = world.start();
    let id = world.enqueue(&["a@far.test", "b@far.test"]).await;
    world.gone(id).await;
    let mails: Vec<String> = sink
        .received()
        .iter()
        .map(|one| one.mail.split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(
        mails,
        [
            "FROM:<s+a=far.test@near.test>",
            "FROM:<s+b=far.test@near.test>"
        ]
    );
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn the_postmaster_hears_of_reports_that_fail_unless_they_are_dropped() {
    let (mut world, _sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    world.options.postmaster = Some("postmaster@far.test".parse().unwrap());
    let report = |to: &str| NewQueueMessage {
        reverse_path: ReversePath::Null,
        ..message(&[to])
    };
    let delivery = world.start();
    let id = world.enqueue_message(report("r@far.test"), MESSAGE).await;
    world.gone(id).await;
    let reports = world.reports().await;
    assert_eq!(reports[0].0, "postmaster@far.test");
    assert_eq!(
        field(&reports[0].1, "Final-Recipient"),
        Some("rfc822; r@far.test")
    );
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    let asked = |to: &str, notify| (to.to_owned(), notify);
    assert_eq!(
        *world.asked.lock(),
        [
            asked("postmaster@far.test", Notify::Never),
            asked("s@near.test", Notify::Unspecified)
        ],
        "only the postmaster's own report is told of to nobody"
    );
    let id = world
        .enqueue_message(report("postmaster@far.test"), MESSAGE)
        .await;
    world.gone(id).await;
    assert_eq!(world.reports().await.len(), 2, "no report about its own");
    delivery.stop(Duration::ZERO).await;
    world.options.double_bounces = DoubleBounces::Drop;
    let _delivery = world.start();
    let id = world.enqueue_message(report("r@far.test"), MESSAGE).await;
    world.gone(id).await;
    assert_eq!(world.reports().await.len(), 2);
}

#[tokio::test]
async fn standing_rules_decide_before_anything_is_sent() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    let book = Arc::new(RuleBook::new(world.queue.committer().clone()));
    let rules = [
        (
            "h",
            "recipient = held@far.test",
            StandingAction::Hold("looked at".into()),
        ),
        (
            "b",
            "recipient = back@far.test",
            StandingAction::Bounce("not wanted".into()),
        ),
        ("d", "recipient = gone@far.test", StandingAction::Drop),
    ];
    for (name, text, action) in rules {
        let selection = Selection::parse(text).unwrap();
        book.add(name, selection, action).await.unwrap();
    }
    world.options.standing = Some(book);
    let _delivery = world.start();
    let id = world
        .enqueue(&[
            "held@far.test",
            "back@far.test",
            "gone@far.test",
            "r@far.test",
        ])
        .await;
    eventually("one is sent", async || sink.received().len() == 1).await;
    eventually("one is held", async || {
        world.show(id).await.unwrap().recipients[0].hold.is_some()
    })
    .await;
    assert_eq!(sink.received()[0].rcpts, ["RCPT TO:<r@far.test>"]);
    let reports = world.reports().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(
        field(&reports[0].1, "Diagnostic-Code"),
        Some("x-nightmail; not wanted")
    );
}

#[tokio::test]
async fn what_becomes_of_mail_is_noted() {
    let (mut world, _sink) = world_with(Behaviour {
        rcpt: |line| match line {
            "RCPT TO:<no@far.test>" => "550 5.1.1 no such user",
            "RCPT TO:<later@far.test>" => "450 4.2.1 busy",
            _ => "250 2.1.5 Ok",
        },
        ..Behaviour::default()
    })
    .await;
    world.options.journal = Journal::start(
        world.queue.committer().clone(),
        JournalOptions {
            retention: Duration::from_secs(3_600),
            node: "a".into(),
            ..JournalOptions::default()
        },
    );
    let _delivery = world.start();
    let id = world
        .enqueue(&["yes@far.test", "no@far.test", "later@far.test"])
        .await;
    eventually("the attempt is recorded", async || {
        world.show(id).await.unwrap().recipients[2].attempts == 1
    })
    .await;
    let query = Query {
        text: id.to_string(),
        since: None,
        until: None,
        limit: 100,
    };
    let found = world.options.journal.find(&query).await.unwrap();
    let mut kinds: Vec<EventKind> = found.events.iter().map(|event| event.kind).collect();
    kinds.sort_unstable();
    assert_eq!(
        kinds,
        [
            EventKind::Sent,
            EventKind::Deferred,
            EventKind::Failed,
            EventKind::Reported
        ]
    );
}
