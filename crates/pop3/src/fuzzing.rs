//! Entry points for fuzzers and property tests. Each takes any bytes and asserts what must hold.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_sasl::{self as sasl, Channel, MechanismSet, Question, ScramSecret};

use crate::io::{Answer, Ask, Input, Maildrop, MessageEntry, Output, RetrieveMode, UniqueId};
use crate::{Config, DotStuffer, Session, retrieved_octets};

const MESSAGES: [&[u8]; 3] = [b"Subject: a\r\n\r\nbody\r\n", b".\n.\n\n..", b""];

/// A maildrop of three odd messages.
fn maildrop() -> Maildrop {
    let entry = |(number, message): (usize, &&[u8])| {
        Some(MessageEntry {
            uid: UniqueId::parse(&format!("u{number}"))?,
            octets: retrieved_octets(message),
        })
    };
    Maildrop {
        messages: MESSAGES.iter().enumerate().filter_map(entry).collect(),
        ..Maildrop::default()
    }
}

fn channel() -> Channel {
    Channel {
        bindings: vec![("tls-exporter", vec![7; 32])],
        certificate: true,
    }
}

/// Believes every client but one whose proof is wrong.
fn decide(question: &Question) -> sasl::Answer {
    match question {
        Question::Scram { hash, .. } => sasl::Answer::Secret {
            secret: ScramSecret::derive(*hash, "secret", b"salt".to_vec(), 1),
            nonce: "nonce".into(),
        },
        Question::Disproven { .. } => sasl::Answer::Refused,
        _ => sasl::Answer::Accepted {
            identity: "joe".into(),
        },
    }
}

/// Feeds a session what a client may send, `piece` octets at a time, and answers every question well. Returns
/// what the client reads.
pub fn session(now: Instant, input: &[u8], piece: usize) -> Vec<u8> {
    let config = Config {
        mechanisms: MechanismSet::all(),
        ..Config::new("mx.test")
    };
    let input_max = config.limits.input_octets_max;
    let mut session = Session::new(Arc::new(config), now, Some(channel()));
    let mut sent = Vec::new();
    let mut is_open = drain(&mut session, now, &mut sent);
    for chunk in input.chunks(piece.max(1)) {
        if !is_open {
            break;
        }
        assert!(session.wants_input(), "an idle session is deaf");
        session.handle(now, Input::Bytes(chunk));
        is_open = drain(&mut session, now, &mut sent);
        assert!(chunk.len() > input_max || !is_open || session.wants_input());
    }
    session.handle(now + Duration::from_secs(86_400), Input::Timeout);
    assert!(!drain(&mut session, now, &mut sent));
    assert_eq!(
        (session.poll_output(), session.poll_timeout()),
        (None, None)
    );
    check_lines(&sent);
    sent
}

/// Does what the session asks for; `false` once it is closed.
fn drain(session: &mut Session, now: Instant, sent: &mut Vec<u8>) -> bool {
    while let Some(output) = session.poll_output() {
        match output {
            Output::Send(bytes) => sent.extend_from_slice(&bytes),
            Output::SendMessage { index, mode, reply } => {
                sent.extend_from_slice(&reply);
                let mut stuffer = DotStuffer::new(mode);
                stuffer.push(MESSAGES.get(index.get()).copied().unwrap_or_default(), sent);
                stuffer.finish(sent);
                session.handle(now, Input::Answer(Answer::Sent));
            }
            Output::Ask(Ask::Authenticate(question)) => {
                let answer = Answer::Authentication(decide(&question));
                session.handle(now, Input::Answer(answer));
            }
            Output::Ask(Ask::Open) => {
                session.handle(now, Input::Answer(Answer::Opened(maildrop())));
            }
            Output::Ask(Ask::Update { delete }) => {
                assert!(delete.is_sorted());
                session.handle(now, Input::Answer(Answer::Updated));
            }
            Output::StartTls => session.handle(now, Input::TlsEstablished(channel())),
            Output::Close => {
                assert_eq!(session.poll_output(), None, "output after the end");
            }
        }
    }
    session.poll_timeout().is_some()
}

/// Every line ends in CRLF.
fn check_lines(sent: &[u8]) {
    assert!(sent.starts_with(b"+OK ") && sent.ends_with(b"\r\n"));
}

/// Sends a message in pieces and checks that a client reads it back with the announced length.
pub fn stuffer(message: &[u8], piece: usize, top_lines: u64) {
    let mut out = Vec::new();
    let mut stuffer = DotStuffer::new(RetrieveMode::Whole);
    let mut top = DotStuffer::new(RetrieveMode::Top(top_lines));
    let mut top_out = Vec::new();
    for chunk in message.chunks(piece.max(1)) {
        stuffer.push(chunk, &mut out);
        top.push(chunk, &mut top_out);
    }
    stuffer.finish(&mut out);
    top.finish(&mut top_out);
    let content = out.strip_suffix(b".\r\n").unwrap_or_default();
    let undotted: usize = content
        .split_inclusive(|&byte| byte == b'\n')
        .map(|line| line.len() - usize::from(line.starts_with(b".")))
        .sum();
    assert_eq!(undotted as u64, retrieved_octets(message));
    assert!(
        top_out
            .strip_suffix(b".\r\n")
            .is_some_and(|top| content.starts_with(top))
    );
}
