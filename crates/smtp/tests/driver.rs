//! What a driver may rely on beside the dialogue: flow control, batching, and questions one at a time.

use std::sync::Arc;
use std::time::Instant;

use nightmail_smtp::TlsFacts;
use nightmail_smtp::client::Capabilities;
use nightmail_smtp::sasl::Mechanism;
use nightmail_smtp::server::{Answer, Ask, Config, Input, Output, Role, Server, TlsOffer};

fn session() -> (Server, Instant) {
    let now = Instant::now();
    let config = Arc::new(Config::new(Role::Mta, "mx.test"));
    let mut server = Server::new(config, now, None);
    accept_all(&mut server, now, b"");
    accept_all(&mut server, now, b"EHLO c.test\r\n");
    (server, now)
}

fn outputs(server: &mut Server) -> Vec<Output> {
    std::iter::from_fn(|| server.poll_output()).collect()
}

/// Gives `bytes` and answers every question with yes.
fn accept_all(server: &mut Server, now: Instant, bytes: &[u8]) -> Vec<Output> {
    server.handle(now, Input::Bytes(bytes));
    let mut all = Vec::new();
    while let Some(output) = server.poll_output() {
        if matches!(output, Output::Ask(_)) {
            server.handle(now, Input::Answer(Answer::Accept));
        }
        all.push(output);
    }
    all
}

const OPENING: &[u8] = b"MAIL FROM:<a@x.test>\r\nRCPT TO:<b@x.test>\r\nDATA\r\n";

#[test]
fn pipelined_replies_come_in_one_send() {
    let (mut server, now) = session();
    let outputs = accept_all(&mut server, now, OPENING);
    let sends = outputs.iter().filter(|o| matches!(o, Output::Send(_)));
    assert_eq!(sends.count(), 1, "{outputs:?}");
}

#[test]
fn reading_stops_while_a_full_buffer_waits_for_an_answer() {
    let (mut server, now) = session();
    server.handle(now, Input::Bytes(b"MAIL FROM:<a@x.test>\r\n"));
    let noops = b"NOOP\r\n".repeat(1000);
    let mut given = 0;
    while server.wants_input() {
        server.handle(now, Input::Bytes(&noops));
        given += noops.len();
    }
    let buffer = 12_800;
    assert!((buffer..buffer + noops.len()).contains(&given));
    assert_eq!(server.buffered(), given);
    assert_eq!(
        outputs(&mut server).len(),
        1,
        "one question and nothing else"
    );
    server.handle(now, Input::Answer(Answer::Accept));
    let outputs = outputs(&mut server);
    assert_eq!(outputs.last(), Some(&Output::Close), "too many NOOPs");
}

#[test]
fn reading_stops_when_the_session_is_over() {
    let (mut server, now) = session();
    assert!(server.wants_input());
    server.handle(now, Input::Bytes(b"QUIT\r\n"));
    assert!(!server.wants_input() && server.is_closed());
    assert_eq!(server.poll_timeout(), None);
}

#[test]
fn an_idle_session_holds_nothing() {
    let (mut server, now) = session();
    accept_all(&mut server, now, OPENING);
    accept_all(&mut server, now, b"text\r\n.\r\n");
    assert_eq!(server.buffered(), 0);
    assert!(server.envelope().is_none() && server.wants_input());
}

#[test]
fn content_of_one_input_is_one_chunk() {
    let (mut server, now) = session();
    accept_all(&mut server, now, OPENING);
    let text = b"a line\r\n..dots\r\n".repeat(3000);
    let outputs = accept_all(&mut server, now, &text);
    match outputs.as_slice() {
        [Output::Body(chunk)] => assert_eq!(chunk.len(), text.len() - 3000),
        other => panic!("{} outputs", other.len()),
    }
}

#[test]
fn answers_that_nothing_waits_for_are_dropped() {
    let (mut server, now) = session();
    server.handle(now, Input::Answer(Answer::Accept));
    accept_all(&mut server, now, OPENING);
    server.handle(now, Input::Answer(Answer::Accepted { id: "1".into() }));
    assert_eq!(outputs(&mut server), []);
}

#[test]
fn no_time_runs_while_an_answer_is_owed() {
    let (mut server, now) = session();
    assert!(server.poll_timeout().is_some());
    server.handle(now, Input::Bytes(b"MAIL FROM:<a@x.test>\r\n"));
    assert_eq!(server.poll_timeout(), None);
    server.handle(now, Input::Answer(Answer::Accept));
    assert!(server.poll_timeout().is_some());
}

#[test]
fn recipients_are_known_when_the_message_begins() {
    let (mut server, now) = session();
    server.handle(now, Input::Bytes(OPENING));
    while let Some(output) = server.poll_output() {
        if output == Output::Ask(Ask::BeginMessage) {
            let envelope = server.envelope().map(|open| open.recipients.len());
            assert_eq!(envelope, Some(1));
            return;
        }
        server.handle(now, Input::Answer(Answer::Accept));
    }
    panic!("no message began");
}

#[test]
fn a_peer_that_leaves_during_a_question_is_let_go_after_the_answer() {
    let (mut server, now) = session();
    accept_all(&mut server, now, OPENING);
    server.handle(now, Input::Bytes(b"text\r\n.\r\n"));
    server.handle(now, Input::PeerClosed);
    assert!(!outputs(&mut server).contains(&Output::Close));
    server.handle(now, Input::Answer(Answer::Accept));
    let outputs = outputs(&mut server);
    assert!(matches!(
        outputs.as_slice(),
        [Output::Send(_), Output::Close]
    ));
}

#[test]
fn who_speaks_before_the_greeting_is_noted_and_heard() {
    let now = Instant::now();
    let config = Arc::new(Config::new(Role::Mta, "mx.test"));
    let mut server = Server::new(config, now, None);
    assert_eq!(outputs(&mut server), [Output::Ask(Ask::Connect)]);
    assert!(!server.has_spoken_early());
    server.handle(now, Input::Bytes(b"EHLO c.t"));
    assert!(server.has_spoken_early());
    assert_eq!(outputs(&mut server), [], "no greeting before the answer");
    server.handle(now, Input::Answer(Answer::Accept));
    accept_all(&mut server, now, b"est\r\n");
    assert!(server.facts().hello.is_some() && server.facts().early_talker);
}

#[test]
fn who_waits_for_each_reply_is_not_hasty() {
    let now = Instant::now();
    let config = Arc::new(Config::new(Role::Mta, "mx.test"));
    let mut server = Server::new(config, now, None);
    accept_all(&mut server, now, b"");
    accept_all(&mut server, now, b"HELO c.test\r\n");
    accept_all(&mut server, now, b"MAIL FROM:<>\r\n");
    accept_all(&mut server, now, b"EHLO c.test\r\n");
    accept_all(&mut server, now, OPENING);
    assert!(!server.facts().pipelined_early && !server.facts().early_talker);
}

#[test]
fn commands_sent_ahead_without_ehlo_are_noted() {
    for sent in [
        &b"HELO c.test\r\nMAIL FROM:<>\r\n"[..],
        b"EHLO c.test\r\nMAIL FROM:<>\r\n",
        b"NOOP\r\nNOOP",
    ] {
        let now = Instant::now();
        let config = Arc::new(Config::new(Role::Mta, "mx.test"));
        let mut server = Server::new(config, now, None);
        accept_all(&mut server, now, b"");
        accept_all(&mut server, now, sent);
        assert!(server.facts().pipelined_early);
    }
    let (mut server, now) = session();
    accept_all(&mut server, now, b"HELO c.test\r\n");
    server.handle(now, Input::Bytes(b"MAIL FROM:<>\r\n"));
    server.handle(now, Input::Bytes(b"RCPT TO:<b@x.test>\r\n"));
    assert!(server.facts().pipelined_early, "while the answer is owed");
}

#[test]
fn haste_outlives_starttls() {
    let now = Instant::now();
    let config = Config {
        tls: TlsOffer::Offered,
        ..Config::new(Role::Mta, "mx.test")
    };
    let mut server = Server::new(Arc::new(config), now, None);
    server.handle(now, Input::Bytes(b"EHLO c.test\r\n"));
    accept_all(&mut server, now, b"");
    server.handle(now, Input::Answer(Answer::Accept));
    accept_all(&mut server, now, b"STARTTLS\r\n");
    server.handle(now, Input::TlsEstablished(TlsFacts::default()));
    assert!(server.facts().tls.is_some() && server.facts().early_talker);
}

#[test]
fn many_replies_at_once_are_sent_in_parts_and_none_is_lost() {
    let (mut server, now) = session();
    server.handle(now, Input::Bytes(&b"HELP\r\n".repeat(150)));
    server.handle(now, Input::PeerClosed);
    let outputs = outputs(&mut server);
    let replies: usize = outputs
        .iter()
        .map(|output| match output {
            Output::Send(bytes) => bytes.iter().filter(|octet| **octet == b'\n').count(),
            _ => 0,
        })
        .sum();
    assert_eq!(replies, 150);
    assert!(outputs.len() > 3 && outputs.last() == Some(&Output::Close));
}

#[test]
fn capabilities_say_what_a_server_offers() {
    let reply = "250-mx.test\r\n250-BINARYMIME\r\n250-REQUIRETLS\r\n250-MT-PRIORITY STANAG4406\r\n\
                 250-DELIVERBY 240\r\n250-LIMITS RCPTMAX=20 MAILMAX=5 RCPTDOMAINMAX=1 X=y\r\n\
                 250 AUTH PLAIN SCRAM-SHA-256 FOO";
    let offered = Capabilities::parse(&reply.parse().unwrap());
    assert!(offered.binarymime && offered.requiretls && offered.mt_priority && offered.auth);
    assert_eq!(offered.deliver_by, Some(240));
    assert_eq!((offered.mail_max, offered.rcpt_max), (Some(5), Some(20)));
    assert_eq!(offered.rcpt_domain_max, Some(1));
    assert!(offered.mechanisms.contains(Mechanism::ScramSha256));
    assert!(!offered.mechanisms.contains(Mechanism::Login));
    let odd = Capabilities::parse(
        &"250-x\r\n250-DELIVERBY\r\n250 LIMITS RCPTMAX=0 MAILMAX=x"
            .parse()
            .unwrap(),
    );
    assert_eq!(
        (odd.deliver_by, odd.rcpt_max, odd.mail_max),
        (Some(0), None, None)
    );
}
