//! A sending session against scripted servers, where it matters what comes together: replies too many, and the price of
//! a transaction.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nightmail_core::{ForwardPath, ReversePath};
use nightmail_smtp::client::{
    Client, Config, Delivery, FailureKind, Fate, Input, Output, Protocol, Recipient,
};
use nightmail_smtp::command::{HelloName, MailParams, RcptParams};

fn session(now: Instant) -> Client {
    let hello = HelloName::parse(b"client.test").unwrap();
    let config = Config::new(Protocol::Smtp, hello);
    let mut client = Client::new(Arc::new(config), now, None);
    let opening = b"220 mx.test\r\n250-mx.test\r\n250-PIPELINING\r\n250-SIZE\r\n250 CHUNKING\r\n";
    client.handle(now, Input::Bytes(opening));
    while client.poll_output().is_some() {}
    assert!(client.is_ready());
    client
}

fn delivery(content: &Bytes) -> Box<Delivery> {
    Box::new(Delivery {
        reverse_path: ReversePath::Address("ann@here.test".parse().unwrap()),
        params: MailParams {
            size: Some(content.len() as u64),
            ..MailParams::default()
        },
        recipients: vec![Recipient {
            forward_path: ForwardPath::Address("bob@there.test".parse().unwrap()),
            params: RcptParams::default(),
        }],
        content: vec![content.clone()],
    })
}

/// The outputs after a delivery whose replies come in one piece.
fn outputs_after(replies: &[u8]) -> Vec<Output> {
    let now = Instant::now();
    let mut client = session(now);
    client.handle(
        now,
        Input::Deliver(delivery(&Bytes::from_static(b"hi\r\n"))),
    );
    let sent = client.poll_output().unwrap();
    assert!(matches!(sent, Output::Send(_)), "one flight: {sent:?}");
    client.handle(now, Input::Bytes(replies));
    std::iter::from_fn(|| client.poll_output()).collect()
}

fn first_fate(outputs: &[Output]) -> &Fate {
    match &outputs[0] {
        Output::Done(outcome) => &outcome.recipients[0],
        other => panic!("{other:?}"),
    }
}

#[test]
fn one_reply_too_many_never_delivers() {
    let shifted = b"250 earlier\r\n250 sender\r\n250 recipient\r\n452 full\r\n";
    let outputs = outputs_after(shifted);
    assert!(
        matches!(first_fate(&outputs), Fate::Temporary(_)),
        "{outputs:?}"
    );
    assert!(
        matches!(&outputs[1], Output::Failed(failure) if failure.kind == FailureKind::Unexpected)
    );
    assert_eq!(outputs[2], Output::Close);
}

#[test]
fn a_server_that_closes_in_the_same_breath_has_taken_the_message() {
    for last in ["", "4", "421 4.3.2 bye\r\n"] {
        let replies = format!("250 a\r\n250 b\r\n250 stored\r\n{last}");
        let outputs = outputs_after(replies.as_bytes());
        assert!(
            matches!(first_fate(&outputs), Fate::Delivered(_)),
            "{outputs:?}"
        );
    }
}

#[test]
fn a_session_that_has_failed_says_so_of_every_delivery() {
    let now = Instant::now();
    let mut client = session(now);
    client.handle(now, Input::PeerClosed);
    while client.poll_output().is_some() {}
    client.handle(
        now,
        Input::Deliver(delivery(&Bytes::from_static(b"hi\r\n"))),
    );
    let outputs: Vec<Output> = std::iter::from_fn(|| client.poll_output()).collect();
    assert_eq!(outputs.len(), 1);
    assert!(matches!(first_fate(&outputs), Fate::Temporary(_)));
}

/// Shows what the machine costs: nanoseconds for a transaction of 4 KiB in one flight, and for one after DATA.
#[test]
fn price_of_a_transaction_is_shown() {
    let content = Bytes::from("a line of text that is as long as most are\r\n".repeat(93));
    let rounds = 20_000;
    for (way, replies) in [
        (
            "BDAT",
            &b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n250 2.0.0 Ok: queued as 1\r\n"[..],
        ),
        (
            "DATA",
            b"250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n250 2.0.0 Ok: queued as 1\r\n",
        ),
    ] {
        let started = Instant::now();
        let mut client = session(started);
        if way == "DATA" {
            let hello = HelloName::parse(b"client.test").unwrap();
            let config = Config {
                chunking: false,
                ..Config::new(Protocol::Smtp, hello)
            };
            client = Client::new(Arc::new(config), started, None);
            client.handle(
                started,
                Input::Bytes(b"220 a\r\n250-a\r\n250 PIPELINING\r\n"),
            );
        }
        let (mut delivered, mut sent) = (0, 0);
        for _ in 0..rounds {
            client.handle(started, Input::Deliver(delivery(&content)));
            for piece in replies.split_inclusive(|octet| *octet == b'\n') {
                client.handle(started, Input::Bytes(piece));
            }
            while let Some(output) = client.poll_output() {
                match output {
                    Output::Done(outcome) => {
                        delivered += u32::from(matches!(outcome.recipients[0], Fate::Delivered(_)));
                    }
                    Output::Send(bytes) => sent += bytes.len(),
                    _ => {}
                }
            }
        }
        assert_eq!(delivered, rounds);
        assert!(sent > content.len() * rounds as usize);
        let each = started.elapsed().as_nanos() / u128::from(rounds);
        println!("{way}: {each} ns a transaction");
    }
}
