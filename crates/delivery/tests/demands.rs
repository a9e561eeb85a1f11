//! What senders ask of a message's way: passed on to hosts that can do it, and what happens where they cannot.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::time::Duration;

use nightmail_core::{Address, ReversePath, Timestamp};
use nightmail_delivery::{Relay, SmarthostTls};
use nightmail_pace::TlsRule;
use nightmail_queue::{
    BodyType, DeliverBy, Demands, NewQueueMessage, NewRecipient, Notify, RecipientState, Ret,
    Unrouted,
};
use support::sink::{Behaviour, Sink};
use support::tls::tls_for;
use support::{MESSAGE, World, eventually, field, message};

const SUCCESS: Notify = Notify::On {
    success: true,
    failure: true,
    delay: false,
};

/// A world with one host for far.test that offers `extensions`.
async fn world_offering(extensions: &[&str]) -> (World, Sink) {
    world_with(Behaviour {
        extensions: extensions.iter().map(|name| (*name).to_owned()).collect(),
        ..Behaviour::default()
    })
    .await
}

async fn world_with(behaviour: Behaviour) -> (World, Sink) {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink)
}

fn demanding(demands: Demands) -> NewQueueMessage {
    NewQueueMessage {
        demands,
        ..message(&["r@far.test"])
    }
}

fn by(secs: i64, notify: bool) -> Demands {
    Demands {
        deliver_by: Some(DeliverBy {
            deadline: nightmail_commit::now().plus_millis(secs * 1_000),
            notify,
            trace: false,
        }),
        ..Demands::default()
    }
}

/// Sends the message and gives the one report that comes of it.
async fn report_on(world: &World, new: NewQueueMessage) -> String {
    let id = world.enqueue_message(new, MESSAGE).await;
    world.gone(id).await;
    let mut reports = world.reports().await;
    assert_eq!(reports.len(), 1, "{reports:?}");
    reports.remove(0).1
}

#[tokio::test]
async fn dsn_parameters_go_to_a_host_that_reports_itself() {
    let (world, sink) = world_offering(&["DSN", "MT-PRIORITY"]).await;
    let _delivery = world.start();
    let new = NewQueueMessage {
        ret: Some(Ret::Headers),
        envid: Some("QQ+2B1".into()),
        recipients: vec![NewRecipient {
            notify: SUCCESS,
            orcpt: Some("rfc822;o+2Bp@near.test".into()),
            ..NewRecipient::plain("r@far.test".parse::<Address>().unwrap())
        }],
        ..demanding(Demands {
            priority: 5,
            ..Demands::default()
        })
    };
    let id = world.enqueue_message(new, MESSAGE).await;
    world.gone(id).await;
    let received = &sink.received()[0];
    assert_eq!(
        received.mail,
        "MAIL FROM:<s@near.test> RET=HDRS ENVID=QQ+2B1 MT-PRIORITY=5"
    );
    assert_eq!(
        received.rcpts,
        ["RCPT TO:<r@far.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;o+2Bp@near.test"]
    );
    assert!(world.reports().await.is_empty());
}

#[tokio::test]
async fn a_host_that_does_not_report_makes_a_wanted_success_relayed() {
    let (world, sink) = world_offering(&[]).await;
    let _delivery = world.start();
    let mut new = message(&["r@far.test"]);
    new.envid = Some("QQ+2B1".into());
    new.ret = Some(Ret::Full);
    new.demands.priority = 5;
    new.recipients[0].notify = SUCCESS;
    new.recipients[0].orcpt = Some("utf-8;\\x{F6}@near.test".into());
    let report = report_on(&world, new).await;
    assert_eq!(field(&report, "Action"), Some("relayed"));
    assert_eq!(field(&report, "Status"), Some("2.0.0"));
    assert_eq!(field(&report, "Original-Envelope-Id"), Some("QQ+1"));
    assert!(!report.contains("first"), "the body is not returned");
    let received = &sink.received()[0];
    assert_eq!(received.mail, "MAIL FROM:<s@near.test>");
    assert_eq!(received.rcpts, ["RCPT TO:<r@far.test>"]);
}

#[tokio::test]
async fn a_message_that_needs_tls_goes_only_to_a_proven_host_that_promises_it() {
    let (tls, certificate) = tls_for("mx.far.test");
    let (mut world, sink) = world_with(Behaviour {
        extensions: vec!["REQUIRETLS".into()],
        tls: Some(tls),
        ..Behaviour::default()
    })
    .await;
    world.options.trusted_roots = vec![certificate];
    let demands = Demands {
        require_tls: true,
        ..Demands::default()
    };
    let delivery = world.start();
    let report = report_on(&world, demanding(demands)).await;
    assert_eq!(
        field(&report, "Status"),
        Some("5.7.30"),
        "nothing proves that this is the host for the domain"
    );
    delivery.stop(Duration::ZERO).await;
    world.settings.tls = TlsRule::Verify;
    let _delivery = world.start();
    let id = world.enqueue_message(demanding(demands), MESSAGE).await;
    world.gone(id).await;
    assert_eq!(
        sink.received()[0].mail,
        "MAIL FROM:<s@near.test> REQUIRETLS"
    );
    assert!(sink.received()[0].tls && world.reports().await.len() == 1);
}

#[tokio::test]
async fn a_message_that_needs_tls_comes_back_where_nobody_promises_it() {
    let (trusted, certificate) = tls_for("mx.far.test");
    let (other, _) = tls_for("mx.far.test");
    let promise = || vec!["REQUIRETLS".to_owned()];
    for (tls, extensions) in [
        (None, promise()),
        (Some(other), promise()),
        (Some(trusted), Vec::new()),
    ] {
        let (mut world, sink) = world_with(Behaviour {
            extensions,
            tls,
            ..Behaviour::default()
        })
        .await;
        world.options.trusted_roots = vec![certificate.clone()];
        let _delivery = world.start();
        let new = NewQueueMessage {
            ret: Some(Ret::Full),
            ..demanding(Demands {
                require_tls: true,
                ..Demands::default()
            })
        };
        let report = report_on(&world, new).await;
        assert_eq!(field(&report, "Status"), Some("5.7.30"), "{report}");
        assert!(report.contains("text/rfc822-headers") && !report.contains("first"));
        assert!(sink.received().is_empty());
    }
}

#[tokio::test]
async fn the_time_that_is_left_is_passed_on() {
    let (world, sink) = world_offering(&["DELIVERBY 60"]).await;
    let _delivery = world.start();
    for (demands, mode) in [(by(300, false), ";R"), (by(-20, true), ";N")] {
        let id = world.enqueue_message(demanding(demands), MESSAGE).await;
        world.gone(id).await;
        let mail = sink.received().pop().unwrap().mail;
        let said = mail.split("BY=").nth(1).unwrap();
        let seconds: i64 = said.strip_suffix(mode).unwrap().parse().unwrap();
        let expected = if mode == ";R" { 240..300 } else { -80..-19 };
        assert!(expected.contains(&seconds), "{mail}");
    }
    assert!(world.reports().await.is_empty());
}

#[tokio::test]
async fn mail_to_be_returned_in_time_is_not_given_to_a_host_that_would_not() {
    for (extensions, status) in [
        (vec!["DSN"], "5.3.3"),
        (vec!["DSN", "DELIVERBY 900"], "5.4.7"),
    ] {
        let (world, sink) = world_offering(&extensions).await;
        let _delivery = world.start();
        let report = report_on(&world, demanding(by(300, false))).await;
        assert_eq!(field(&report, "Status"), Some(status));
        assert!(sink.received().is_empty());
    }
}

#[tokio::test]
async fn mail_to_be_told_of_in_time_is_relayed_to_a_host_that_keeps_none() {
    let (world, sink) = world_offering(&["DSN"]).await;
    let _delivery = world.start();
    let demands = by(300, true);
    let deadline = demands.deliver_by.unwrap().deadline.rfc5322();
    let report = report_on(&world, demanding(demands)).await;
    assert_eq!(field(&report, "Action"), Some("relayed"));
    assert_eq!(field(&report, "Deliver-By-Date"), Some(deadline.as_str()));
    assert!(!sink.received()[0].mail.contains("BY="));
}

#[tokio::test]
async fn a_message_comes_back_when_its_time_is_over() {
    let (world, sink) = world_with(Behaviour {
        extensions: vec!["DELIVERBY".into()],
        rcpt: |_| "450 4.2.1 busy",
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let report = report_on(&world, demanding(by(2, false))).await;
    assert_eq!(field(&report, "Status"), Some("5.4.7"), "{report}");
    assert_eq!(
        sink.connections(),
        1,
        "the pause is an hour, the time is not"
    );
}

#[tokio::test]
async fn a_late_message_is_told_of_and_tried_on() {
    let (world, _sink) = world_with(Behaviour {
        rcpt: |_| "450 4.2.1 busy",
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world.enqueue_message(demanding(by(1, true)), MESSAGE).await;
    eventually("the delay is reported", async || {
        world.reports().await.len() == 1
    })
    .await;
    let report = world.reports().await.remove(0).1;
    assert_eq!(field(&report, "Action"), Some("delayed"));
    assert_eq!(field(&report, "Status"), Some("4.4.7"));
    let message = world.show(id).await.unwrap();
    assert!(message.recipients[0].delay_reported);
    assert!(message.due().unwrap() > nightmail_commit::now());
}

#[tokio::test]
async fn utf8_in_a_header_needs_a_host_that_takes_it_and_ascii_does_not() {
    let (world, sink) = world_offering(&["8BITMIME"]).await;
    let _delivery = world.start();
    let utf8 = || NewQueueMessage {
        smtputf8: true,
        ..message(&["r@far.test"])
    };
    let id = world.enqueue_message(utf8(), MESSAGE).await;
    world.gone(id).await;
    assert!(!sink.received()[0].mail.contains("SMTPUTF8"));
    let subject = "Subject: Grüße\r\n\r\nhi\r\n".as_bytes();
    let id = world.enqueue_message(utf8(), subject).await;
    world.gone(id).await;
    let report = world.reports().await.remove(0).1;
    assert_eq!(field(&report, "Status"), Some("5.6.9"), "{report}");
    assert_eq!(sink.received().len(), 1);
}

#[tokio::test]
async fn binary_content_goes_in_chunks_or_comes_back() {
    let bytes = b"Subject: b\r\n\r\n\0\n.\r\n.\r\nend";
    let binary = || NewQueueMessage {
        body: BodyType::BinaryMime,
        ..message(&["r@far.test"])
    };
    let (world, sink) = world_offering(&["CHUNKING", "BINARYMIME", "8BITMIME"]).await;
    let _delivery = world.start();
    let id = world.enqueue_message(binary(), bytes).await;
    world.gone(id).await;
    let received = &sink.received()[0];
    assert!(received.mail.contains("BODY=BINARYMIME"));
    assert_eq!(received.content, [support::PREFIX, bytes].concat());
    let (world, sink) = world_offering(&["CHUNKING", "8BITMIME"]).await;
    let _delivery = world.start();
    let id = world.enqueue_message(binary(), bytes).await;
    world.gone(id).await;
    let report = world.reports().await.remove(0).1;
    assert_eq!(field(&report, "Status"), Some("5.6.3"), "{report}");
    assert!(sink.received().is_empty());
}

#[tokio::test]
async fn a_host_gets_no_more_recipients_at_once_than_it_says() {
    let (world, sink) = world_offering(&["LIMITS RCPTMAX=2"]).await;
    let _delivery = world.start();
    let all = [
        "a@far.test",
        "b@far.test",
        "c@far.test",
        "d@far.test",
        "e@far.test",
    ];
    let id = world.enqueue(&all).await;
    world.gone(id).await;
    let counts: Vec<usize> = sink.received().iter().map(|one| one.rcpts.len()).collect();
    assert_eq!(counts, [2, 2, 1]);
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn a_session_has_no_more_transactions_than_the_host_says() {
    let (world, sink) = world_offering(&["LIMITS RCPTMAX=1 MAILMAX=2"]).await;
    let _delivery = world.start();
    let all = ["a", "b", "c", "d", "e"].map(|name| format!("{name}@far.test"));
    let id = world.enqueue(&all.each_ref().map(String::as_str)).await;
    world.gone(id).await;
    let received = sink.received();
    let rcpts: Vec<&String> = received.iter().flat_map(|one| &one.rcpts).collect();
    assert_eq!(rcpts.len(), 5);
    for (rcpt, to) in rcpts.iter().zip(&all) {
        assert_eq!(**rcpt, format!("RCPT TO:<{to}>"));
    }
    assert_eq!(sink.connections(), 3);
}

#[tokio::test]
async fn a_session_has_no_more_domains_than_the_host_says() {
    let (mut world, sink) = world_offering(&["LIMITS RCPTDOMAINMAX=1"]).await;
    world.relay_all(Relay {
        name: "smarthost".into(),
        hosts: vec![("mx.far.test".into(), sink.address.port())],
        client_certificate: None,
        tls: SmarthostTls::None,
        login: None,
    });
    let _delivery = world.start();
    let id = world
        .enqueue(&["a@one.test", "b@two.test", "c@one.test"])
        .await;
    world.gone(id).await;
    let rcpts: Vec<Vec<String>> = sink.received().into_iter().map(|one| one.rcpts).collect();
    assert_eq!(
        rcpts,
        [
            vec!["RCPT TO:<a@one.test>", "RCPT TO:<c@one.test>"],
            vec!["RCPT TO:<b@two.test>"]
        ]
    );
    assert_eq!(sink.connections(), 2);
}

#[tokio::test]
async fn who_wants_no_reports_gets_none_from_a_host_that_cannot_be_told() {
    let recipients = || {
        let never = NewRecipient {
            notify: Notify::Never,
            ..NewRecipient::plain("never@far.test".parse::<Address>().unwrap())
        };
        let mut new = message(&["a@far.test", "b@far.test"]);
        new.recipients.insert(1, never);
        new
    };
    let (world, sink) = world_offering(&[]).await;
    let _delivery = world.start();
    let id = world.enqueue_message(recipients(), MESSAGE).await;
    world.gone(id).await;
    let received = sink.received();
    assert_eq!(received[0].mail, "MAIL FROM:<s@near.test>");
    assert_eq!(
        received[0].rcpts,
        ["RCPT TO:<a@far.test>", "RCPT TO:<b@far.test>"]
    );
    assert_eq!(received[1].mail, "MAIL FROM:<>");
    assert_eq!(received[1].rcpts, ["RCPT TO:<never@far.test>"]);
    assert_eq!(sink.connections(), 1);
    let (world, sink) = world_offering(&["DSN"]).await;
    let _delivery = world.start();
    let id = world.enqueue_message(recipients(), MESSAGE).await;
    world.gone(id).await;
    let received = sink.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].mail, "MAIL FROM:<s@near.test>");
    assert!(received[0].rcpts[1].ends_with("NOTIFY=NEVER"));
}

#[tokio::test]
async fn a_report_that_is_to_go_over_tls_is_not_lost_for_want_of_it() {
    let (world, sink) = world_offering(&[]).await;
    let _delivery = world.start();
    let new = NewQueueMessage {
        reverse_path: ReversePath::Null,
        ..demanding(Demands {
            require_tls: true,
            ..Demands::default()
        })
    };
    let id = world.enqueue_message(new, MESSAGE).await;
    world.gone(id).await;
    assert_eq!(sink.received()[0].mail, "MAIL FROM:<>");
}

#[tokio::test]
async fn a_held_message_that_can_go_nowhere_comes_back_at_its_time() {
    let (world, sink) = world_offering(&[]).await;
    let _delivery = world.start();
    let until = nightmail_commit::now().plus_millis(1_000);
    let new = NewQueueMessage {
        unrouted: Some(Unrouted::default()),
        ..demanding(Demands {
            hold_until: Some(until),
            ..Demands::default()
        })
    };
    let id = world.enqueue_message(new, MESSAGE).await;
    let held = world.show(id).await.unwrap();
    assert_eq!(
        held.recipients[0].state,
        RecipientState::Pending {
            next_attempt: until
        }
    );
    world.gone(id).await;
    assert!(nightmail_commit::now() >= until && until > Timestamp::default());
    let report = world.reports().await.remove(0).1;
    assert_eq!(field(&report, "Status"), Some("5.1.1"));
    assert_eq!(sink.connections(), 0);
}
