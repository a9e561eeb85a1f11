//! What hosts answer, what the queue makes of it, and what senders are told.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod support;

use std::time::Duration;

use nightmail_core::ReversePath;
use nightmail_mime::{SectionKind, scan};
use nightmail_queue::{NewRecipient, Notify, RecipientState, Ret};
use support::sink::{Behaviour, Cut, Sink};
use support::{World, eventually, field, message, pauses};

/// A world with one host for far.test.
async fn world_with(behaviour: Behaviour) -> (World, Sink) {
    let world = World::new().await;
    let sink = world.sink("mx.far.test", 1, behaviour).await;
    world.dns.mx("far.test", 10, "mx.far.test");
    (world, sink)
}

#[tokio::test]
async fn each_recipient_has_its_own_fate() {
    let rcpt = |line: &str| match line {
        "RCPT TO:<no@far.test>" => "550 5.1.1 no such user",
        "RCPT TO:<later@far.test>" => "450 4.2.1 busy",
        _ => "250 2.1.5 Ok",
    };
    let (world, sink) = world_with(Behaviour {
        rcpt,
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let id = world
        .enqueue(&["later@far.test", "no@far.test", "yes@far.test"])
        .await;
    let later = world.tried(id).await;
    assert_eq!(later.last.unwrap().reply.as_deref(), Some("450 4.2.1 busy"));
    let message = world.show(id).await.unwrap();
    assert_eq!(message.recipients[1].state, RecipientState::Failed);
    assert_eq!(message.recipients[2].state, RecipientState::Delivered);
    assert_eq!(sink.received()[0].rcpts, ["RCPT TO:<yes@far.test>"]);
    let reports = world.reports().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(
        field(&reports[0].1, "Final-Recipient"),
        Some("rfc822; no@far.test")
    );
    assert_eq!(
        field(&reports[0].1, "Diagnostic-Code"),
        Some("smtp; 550 5.1.1 no such user")
    );
    assert_eq!(field(&reports[0].1, "Remote-MTA"), Some("dns; mx.far.test"));
    assert!(!reports[0].1.contains("later@far.test"));
}

#[tokio::test]
async fn a_refusal_of_the_sender_or_the_content_holds_for_all() {
    for behaviour in [
        Behaviour {
            mail: "550 5.7.1 not you".into(),
            ..Behaviour::default()
        },
        Behaviour {
            end: "554 5.6.0 not this".into(),
            ..Behaviour::default()
        },
        Behaviour {
            data: "554 5.5.0 no".into(),
            ..Behaviour::default()
        },
    ] {
        let (world, _sink) = world_with(behaviour).await;
        let _delivery = world.start();
        let id = world.enqueue(&["a@far.test", "b@far.test"]).await;
        world.gone(id).await;
        let reports = world.reports().await;
        assert_eq!(reports.len(), 1, "one report speaks of both");
        assert!(
            reports[0].1.contains("rfc822; a@far.test")
                && reports[0].1.contains("rfc822; b@far.test")
        );
    }
}

#[tokio::test]
async fn connections_that_break_defer_the_message_and_nothing_is_reported() {
    for cut in [
        Cut::AtOnce,
        Cut::MidContent,
        Cut::AfterContent,
        Cut::HalfReply,
        Cut::Silent,
    ] {
        let (world, _sink) = world_with(Behaviour {
            cut: Some(cut),
            ..Behaviour::default()
        })
        .await;
        let _delivery = world.start();
        let id = world.enqueue(&["r@far.test"]).await;
        let recipient = world.tried(id).await;
        assert!(
            matches!(recipient.state, RecipientState::Pending { .. }),
            "{cut:?}"
        );
        assert_eq!(recipient.last.unwrap().status, "4.4.2", "{cut:?}");
        assert!(world.reports().await.is_empty());
    }
}

#[tokio::test]
async fn a_refused_connection_defers_the_message() {
    let world = World::new().await;
    world
        .dns
        .mx("far.test", 10, "mx.far.test")
        .a("mx.far.test", world.ip(1));
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    assert_eq!(world.tried(id).await.last.unwrap().status, "4.4.1");
}

#[tokio::test]
async fn without_a_reply_to_the_content_no_other_host_gets_the_message() {
    let (world, first) = world_with(Behaviour {
        cut: Some(Cut::AfterContent),
        ..Behaviour::default()
    })
    .await;
    let second = world.sink("b.far.test", 2, Behaviour::default()).await;
    world.dns.mx("far.test", 20, "b.far.test");
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.tried(id).await;
    assert_eq!((first.received().len(), second.connections()), (1, 0));
}

#[tokio::test]
async fn what_breaks_before_the_end_of_the_content_goes_to_the_next_host() {
    for behaviour in [
        Behaviour {
            cut: Some(Cut::MidContent),
            ..Behaviour::default()
        },
        Behaviour {
            mail: "421 4.3.2 closing".into(),
            ..Behaviour::default()
        },
        Behaviour {
            rcpt: |_| "421 4.3.2 closing",
            ..Behaviour::default()
        },
        Behaviour {
            greeting: "421 4.3.2 too busy".into(),
            ..Behaviour::default()
        },
    ] {
        let (world, _first) = world_with(behaviour).await;
        let second = world.sink("b.far.test", 2, Behaviour::default()).await;
        world.dns.mx("far.test", 20, "b.far.test");
        let _delivery = world.start();
        // Large enough that its end cannot have been sent when the connection breaks.
        let large = [support::MESSAGE, &b"filler line\r\n".repeat(600_000)].concat();
        let id = world
            .enqueue_message(message(&["r@far.test"]), &large)
            .await;
        world.gone(id).await;
        assert_eq!(second.received().len(), 1);
    }
}

#[tokio::test]
async fn only_when_every_host_refuses_for_good_is_it_for_good() {
    let refusing = || Behaviour {
        greeting: "521 5.3.2 no mail here".into(),
        ..Behaviour::default()
    };
    let (world, _first) = world_with(refusing()).await;
    let second = world
        .sink(
            "b.far.test",
            2,
            Behaviour {
                cut: Some(Cut::AtOnce),
                ..Behaviour::default()
            },
        )
        .await;
    world.dns.mx("far.test", 5, "b.far.test");
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    assert!(matches!(
        world.tried(id).await.state,
        RecipientState::Pending { .. }
    ));
    second.behave(|behaviour| *behaviour = refusing());
    world.queue.retry(id).await.unwrap();
    world.gone(id).await;
    assert_eq!(field(&world.reports().await[0].1, "Status"), Some("5.3.2"));
    delivery.stop(Duration::ZERO).await;
}

#[tokio::test]
async fn a_deferred_message_is_retried_when_it_is_due_without_any_other_event() {
    let (mut world, sink) = world_with(Behaviour {
        mail: "451 4.3.0 later".into(),
        ..Behaviour::default()
    })
    .await;
    world.settings.retry = pauses(&[300, 600]);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    let first = world.tried(id).await;
    let pause = first.next_attempt().unwrap().millis() - first.last.unwrap().at.millis();
    assert_eq!(pause, 300);
    eventually("a second attempt", async || {
        world
            .show(id)
            .await
            .is_some_and(|message| message.recipients[0].attempts == 2)
    })
    .await;
    let second = world.show(id).await.unwrap().recipients[0].clone();
    assert_eq!(
        second.next_attempt().unwrap().millis() - second.last.unwrap().at.millis(),
        600
    );
    sink.behave(|behaviour| behaviour.mail = "250 Ok".into());
    world.gone(id).await;
    assert_eq!(sink.received().len(), 1);
    assert_eq!(sink.connections(), 3);
}

#[tokio::test]
async fn a_message_that_gets_too_old_is_given_up_with_its_last_reason() {
    let (mut world, _sink) = world_with(Behaviour {
        mail: "451 4.3.0 later".into(),
        ..Behaviour::default()
    })
    .await;
    world.settings.retry = pauses(&[200]);
    world.settings.lifetime = Duration::from_millis(500);
    let _delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.gone(id).await;
    let reports = world.reports().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(field(&reports[0].1, "Status"), Some("4.3.0"));
    assert_eq!(field(&reports[0].1, "Action"), Some("failed"));
    assert_eq!(
        field(&reports[0].1, "Diagnostic-Code"),
        Some("smtp; 451 4.3.0 later")
    );
}

#[tokio::test]
async fn a_delay_is_reported_once_to_who_asked() {
    let (mut world, _sink) = world_with(Behaviour {
        mail: "451 4.3.0 later".into(),
        ..Behaviour::default()
    })
    .await;
    world.settings.retry = pauses(&[100]);
    world.settings.warn_after = Some(Duration::from_millis(50));
    let _delivery = world.start();
    let mut new = message(&["r@far.test", "q@far.test"]);
    new.recipients[0].notify = Notify::On {
        success: false,
        failure: false,
        delay: true,
    };
    let id = world.enqueue_message(new, support::MESSAGE).await;
    eventually("four attempts", async || {
        world.show(id).await.unwrap().recipients[0].attempts >= 4
    })
    .await;
    let reports = world.reports().await;
    assert_eq!(reports.len(), 1);
    assert_eq!(field(&reports[0].1, "Action"), Some("delayed"));
    assert!(field(&reports[0].1, "Will-Retry-Until").is_some());
    assert!(!reports[0].1.contains("q@far.test\r\nAction"));
}

#[tokio::test]
async fn a_report_is_a_well_formed_notification_with_the_original_header() {
    let (world, _sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let mut new = message(&["r@far.test"]);
    new.envid = Some("QQ+2B1".into());
    new.recipients[0].orcpt = Some("rfc822;old+2Btag@far.test".into());
    let id = world.enqueue_message(new, support::MESSAGE).await;
    world.gone(id).await;
    let (to, report) = world.reports().await.remove(0);
    assert_eq!(to, "s@near.test");
    let structure = scan(report.as_bytes());
    assert!(structure.root().media.is("multipart", "report"));
    let part = |number: u32| {
        let range = structure.section(&[number], SectionKind::Body).unwrap();
        &report[range.start as usize..range.end as usize]
    };
    assert!(
        structure
            .part(&[2])
            .unwrap()
            .media
            .is("message", "delivery-status")
    );
    assert_eq!(field(part(2), "Reporting-MTA"), Some("dns; mx.near.test"));
    assert_eq!(field(part(2), "Original-Envelope-Id"), Some("QQ+1"));
    assert_eq!(
        field(part(2), "Original-Recipient"),
        Some("rfc822;old+tag@far.test")
    );
    assert!(field(part(2), "Arrival-Date").is_some());
    assert!(
        structure
            .part(&[3])
            .unwrap()
            .media
            .is("text", "rfc822-headers")
    );
    assert!(
        part(3).contains("Subject: hello\r\n") && part(3).starts_with("Received: by near.test")
    );
    assert!(!report.contains("..twice"));
    assert!(report.contains("\r\nTo: <s@near.test>\r\n"));
    assert!(report.contains("\r\nAuto-Submitted: "));
}

#[tokio::test]
async fn ret_full_returns_the_message_unless_it_is_too_large() {
    let (mut world, _sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    world.options.limits.report_message_octets_max = 1000;
    let _delivery = world.start();
    let full = || nightmail_queue::NewQueueMessage {
        ret: Some(Ret::Full),
        ..message(&["r@far.test"])
    };
    let id = world.enqueue_message(full(), support::MESSAGE).await;
    world.gone(id).await;
    let report = world.reports().await.remove(0).1;
    assert!(
        scan(report.as_bytes())
            .part(&[3])
            .unwrap()
            .media
            .is("message", "rfc822")
    );
    assert!(report.contains("..twice\r\n"));
    let large = [support::MESSAGE, "filler\r\n".repeat(200).as_bytes()].concat();
    let id = world.enqueue_message(full(), &large).await;
    world.gone(id).await;
    let report = world.reports().await.remove(1).1;
    assert!(
        scan(report.as_bytes())
            .part(&[3])
            .unwrap()
            .media
            .is("text", "rfc822-headers")
    );
    assert!(!report.contains("filler"));
}

#[tokio::test]
async fn nobody_is_told_where_nobody_wants_to_be() {
    let (world, _sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    let _delivery = world.start();
    let mut never = message(&["r@far.test"]);
    never.recipients[0].notify = Notify::Never;
    let mut null = message(&["r@far.test"]);
    null.reverse_path = ReversePath::Null;
    for new in [never, null] {
        let id = world.enqueue_message(new, support::MESSAGE).await;
        world.gone(id).await;
    }
    assert!(world.reports().await.is_empty());
}

#[tokio::test]
async fn a_report_that_reaches_nobody_goes_to_the_postmaster_or_is_dropped() {
    let (mut world, _sink) = world_with(Behaviour {
        rcpt: |_| "550 5.1.1 no",
        ..Behaviour::default()
    })
    .await;
    world.options.postmaster = Some("postmaster@near.test".parse().unwrap());
    let from_nowhere = || nightmail_queue::NewQueueMessage {
        reverse_path: ReversePath::Address("s@gone.test".parse().unwrap()),
        ..message(&["r@far.test"])
    };
    let delivery = world.start();
    let id = world
        .enqueue_message(from_nowhere(), support::MESSAGE)
        .await;
    world.gone(id).await;
    assert_eq!(world.reports().await[0].0, "postmaster@near.test");
    delivery.stop(Duration::ZERO).await;
    world.options.postmaster = Some("postmaster@gone.test".parse().unwrap());
    let _delivery = world.start();
    let id = world
        .enqueue_message(from_nowhere(), support::MESSAGE)
        .await;
    world.gone(id).await;
    assert_eq!(world.reports().await.len(), 1);
}

#[tokio::test]
async fn success_is_reported_as_relayed_unless_the_host_reports_itself() {
    let (world, sink) = world_with(Behaviour::default()).await;
    let _delivery = world.start();
    let asked = || {
        let mut new = message(&["r@far.test"]);
        new.recipients[0] = NewRecipient {
            notify: Notify::On {
                success: true,
                failure: true,
                delay: false,
            },
            orcpt: Some("rfc822;r@far.test".into()),
            ..new.recipients[0].clone()
        };
        new.ret = Some(Ret::Headers);
        new.envid = Some("E1".into());
        new
    };
    let id = world.enqueue_message(asked(), support::MESSAGE).await;
    world.gone(id).await;
    let reports = world.reports().await;
    assert_eq!(field(&reports[0].1, "Action"), Some("relayed"));
    assert_eq!(field(&reports[0].1, "Status"), Some("2.0.0"));
    sink.behave(|behaviour| behaviour.extensions.push("DSN".into()));
    let id = world.enqueue_message(asked(), support::MESSAGE).await;
    world.gone(id).await;
    assert_eq!(world.reports().await.len(), 1);
    let received = sink.received().remove(1);
    assert_eq!(
        received.rcpts,
        ["RCPT TO:<r@far.test> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;r@far.test"]
    );
    assert!(received.mail.contains(" RET=HDRS") && received.mail.contains(" ENVID=E1"));
}

#[tokio::test]
async fn many_recipients_are_split_into_transactions_on_one_connection() {
    let (mut world, sink) = world_with(Behaviour::default()).await;
    world.settings.recipients_per_transaction = 40;
    let _delivery = world.start();
    let names: Vec<String> = (0..100)
        .map(|number| format!("r{number}@far.test"))
        .collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let id = world.enqueue(&names).await;
    world.gone(id).await;
    let counts: Vec<usize> = sink
        .received()
        .iter()
        .map(|received| received.rcpts.len())
        .collect();
    assert_eq!(counts, [40, 40, 20]);
    assert_eq!(sink.connections(), 1);
}

#[tokio::test]
async fn a_large_message_arrives_whole() {
    let (world, sink) = world_with(Behaviour::default()).await;
    let _delivery = world.start();
    let lines: String = (0..60_000)
        .map(|number| format!(".line {number} {}\r\n", "x".repeat(40)))
        .collect();
    let large = [support::MESSAGE, lines.as_bytes()].concat();
    let id = world
        .enqueue_message(message(&["r@far.test"]), &large)
        .await;
    world.gone(id).await;
    assert!(sink.received()[0].content == [support::PREFIX, &large].concat());
}

#[tokio::test]
async fn an_operator_can_give_a_message_up() {
    let (world, _sink) = world_with(Behaviour {
        mail: "451 4.3.0 later".into(),
        ..Behaviour::default()
    })
    .await;
    let delivery = world.start();
    let id = world.enqueue(&["r@far.test"]).await;
    world.tried(id).await;
    delivery
        .bounce(id, "given up by the operator", |_, _| true)
        .await
        .unwrap();
    assert!(world.show(id).await.is_none());
    let report = world.reports().await.remove(0).1;
    assert_eq!(
        field(&report, "Diagnostic-Code"),
        Some("x-nightmail; given up by the operator")
    );
    assert!(delivery.bounce(id, "again", |_, _| true).await.is_err());
}
