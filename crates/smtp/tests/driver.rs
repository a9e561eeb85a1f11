//! What a driver may rely on beside the dialogue: flow control, batching, and questions one at a time.

use std::sync::Arc;
use std::time::Instant;

use nightmail_smtp::server::{Answer, Ask, Config, Input, Output, Role, Server};

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
