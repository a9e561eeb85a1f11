//! What a session may hold: less than 64 KiB for a peer that has not authenticated, whatever it sends.

use std::sync::Arc;
use std::time::Instant;

use nightmail_smtp::command::Extensions;
use nightmail_smtp::sasl::{self, MechanismSet};
use nightmail_smtp::server::{
    Answer, Ask, AuthOffer, Config, Input, Output, Role, Server, Welcome,
};
use proptest::prelude::*;

/// What a driver reads at once, at most.
const INPUT_OCTETS_MAX: usize = 16 * 1024;
const HELD_OCTETS_MAX: usize = 64 * 1024;

fn server(role: Role) -> Server {
    let config = Config {
        auth: AuthOffer::Always,
        auth_required: false,
        auth_mechanisms: MechanismSet::all(),
        extensions: Extensions::ALL,
        ..Config::new(role, "mx.test")
    };
    Server::new(Arc::new(config), Instant::now(), None)
}

/// A peer that sends as fast as it is read; a driver that answers all with yes, but no login.
struct Exchange {
    server: Server,
    now: Instant,
    recipients: usize,
    too_many: usize,
}

impl Exchange {
    fn new(role: Role) -> Self {
        let mut exchange = Self {
            server: server(role),
            now: Instant::now(),
            recipients: 0,
            too_many: 0,
        };
        exchange.drain(usize::MAX);
        exchange
    }

    fn check(&self) {
        let held = self.server.held();
        assert!(held < HELD_OCTETS_MAX, "holds {held} octets");
    }

    fn send(&mut self, mut bytes: &[u8], patience: usize) {
        while !bytes.is_empty() && !self.server.is_closed() {
            let mut answers = patience;
            while self.server.wants_input() && !bytes.is_empty() {
                let (input, rest) = bytes.split_at(bytes.len().min(INPUT_OCTETS_MAX));
                self.server.handle(self.now, Input::Bytes(input));
                self.check();
                bytes = rest;
                if answers == 0 {
                    break;
                }
                answers -= 1;
            }
            self.drain(usize::MAX);
        }
    }

    fn drain(&mut self, outputs_max: usize) {
        for _ in 0..outputs_max {
            let Some(output) = self.server.poll_output() else {
                return;
            };
            self.check();
            match output {
                Output::Ask(ask) => self.answer(&ask),
                Output::Send(replies) => {
                    let replies = String::from_utf8_lossy(&replies);
                    self.too_many += replies.matches("452 4.5.3").count();
                }
                _ => {}
            }
            self.check();
        }
    }

    fn answer(&mut self, ask: &Ask) {
        let answer = match ask {
            Ask::Connect => Answer::Welcome(Welcome {
                xclient: true,
                xforward: true,
            }),
            Ask::Authenticate(_) => Answer::Authentication(sasl::Answer::Unavailable),
            Ask::Recipient(_) => {
                self.recipients += 1;
                Answer::Accept
            }
            _ => Answer::Accept,
        };
        self.server.handle(self.now, Input::Answer(answer));
    }
}

fn word() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"EHLO c.test\r\n".to_vec()),
        Just(b"LHLO c.test\r\n".to_vec()),
        Just(b"HELP\r\n".to_vec()),
        Just(b"MAIL FROM:<a@x.test>\r\n".to_vec()),
        Just(b"RSET\r\n".to_vec()),
        Just(b"DATA\r\ntext\r\n.\r\n".to_vec()),
        Just(b"BDAT 3\r\nabc".to_vec()),
        Just(b"AUTH LOGIN\r\n".to_vec()),
        Just(b"XCLIENT NAME=a\r\n".to_vec()),
        Just(b"\r\n".to_vec()),
        (1usize..20_000).prop_map(|count| vec![b'x'; count]),
        (1usize..12_000).prop_map(|count| [b"AUTH PLAIN ", &*vec![b'A'; count]].concat()),
        (1usize..4000).prop_map(|count| format!("MAIL FROM:<{:a>count$}@x.test>\r\n", "").into()),
        (1usize..300).prop_map(|count| format!("RCPT TO:<{:b>count$}@x.test>\r\n", "").into()),
        (1usize..500).prop_map(|count| format!(
            "RCPT TO:<b@x.test> ORCPT=rfc822;{:b>count$}\r\n",
            ""
        )
        .into()),
    ]
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let repeated = (word(), 1usize..400).prop_map(|(word, times)| {
        let times = times.min(1 + 100_000 / word.len());
        word.repeat(times)
    });
    let parts = proptest::collection::vec(repeated, 1..8);
    parts.prop_map(|parts| {
        let opening = b"EHLO c\r\nLHLO c\r\nMAIL FROM:<a@x.test>\r\n".to_vec();
        [opening, parts.concat()].concat()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn no_stranger_makes_a_session_hold_64_kib(stream in stream(), patience in 0usize..4) {
        Exchange::new(Role::Mta).send(&stream, patience);
        Exchange::new(Role::Msa).send(&stream, patience);
    }
}

#[test]
fn a_thousand_recipients_of_any_length_are_bounded() {
    let mut exchange = Exchange::new(Role::Mta);
    exchange.send(b"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n", 1);
    for number in 0..1000 {
        let line = format!(
            "RCPT TO:<{number:0>64}@{0}.{0}.{0}.test> ORCPT=rfc822;{number:0>480}\r\n",
            "d".repeat(60)
        );
        exchange.send(line.as_bytes(), 1);
    }
    assert!(exchange.recipients > 20 && exchange.too_many > 0);
    assert!(exchange.recipients < 100);
}

#[test]
fn a_hundred_recipients_of_the_longest_path_fit() {
    let mut exchange = Exchange::new(Role::Mta);
    exchange.send(b"EHLO c.test\r\nMAIL FROM:<a@x.test>\r\n", 1);
    for number in 0..100 {
        // A path of 256 octets with its brackets (RFC 5321 §4.5.3.1.3).
        let line = format!(
            "RCPT TO:<{number:0>64}@{0}.{0}.{0}.test>\r\n",
            "d".repeat(61)
        );
        exchange.send(line.as_bytes(), 1);
    }
    assert_eq!((exchange.recipients, exchange.too_many), (100, 0));
}

#[test]
fn what_comes_before_the_greeting_is_kept_up_to_a_bound() {
    let mut server = server(Role::Mta);
    let now = Instant::now();
    let noops = b"NOOP\r\n".repeat(2000);
    let mut given = 0;
    while server.wants_input() {
        server.handle(now, Input::Bytes(&noops));
        given += noops.len();
    }
    assert!(given < 64 * 1024 && server.buffered() == given);
    assert!(server.has_spoken_early());
}
