//! Entry points for fuzz targets and for replaying their corpora.
//!
//! Each takes any octets and panics where something that must always hold does not: limits, the order of
//! outputs, the form of replies and commands. The caller brings the time.

#![expect(
    clippy::indexing_slicing,
    clippy::expect_used,
    reason = "a harness panics on purpose; its indices are drawn below the length"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::{Address, ForwardPath, ReversePath, Timestamp};

use crate::body::BareNewline;
use crate::client::{self, Client, Delivery, Recipient};
use crate::command::{BodyType, Command, Extensions, HelloName, MailParams, RcptParams, Syntax};
use crate::replies;
use crate::reply::ReplyReader;
use crate::sasl::{self, MechanismSet, Password};
use crate::server::{
    self, Answer, Ask, AuthOffer, Config, Limits, Role, Server, TlsOffer, Welcome,
};
use crate::tls::TlsFacts;

/// Octets of input given at once, at most.
const PIECE_OCTETS_MAX: usize = 64;

/// Choices drawn from the input, so that the same octets always do the same.
struct Choices(u64);

impl Choices {
    fn of(seed: &[u8]) -> Self {
        let fold = |sum: u64, octet: &u8| sum.wrapping_mul(131).wrapping_add(u64::from(*octet) + 1);
        Self(seed.iter().fold(1, fold))
    }

    /// A number below `bound`.
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % bound.max(1)
    }

    fn piece<'a>(&mut self, rest: &mut &'a [u8]) -> &'a [u8] {
        let wanted = 1 + self.below(PIECE_OCTETS_MAX);
        let (piece, after) = rest.split_at(wanted.min(rest.len()));
        *rest = after;
        piece
    }
}

/// Parses a line; what parses must print and parse to the same.
pub fn command_line(data: &[u8]) {
    if let Ok(command) = Command::parse(data, &Syntax::ALL) {
        let printed = command.to_string();
        assert!(!printed.contains(['\r', '\n']), "{printed:?} breaks a line");
        assert_eq!(
            Command::parse(printed.as_bytes(), &Syntax::ALL),
            Ok(command)
        );
    }
}

/// Reads replies; the reader may hold no more than its limits.
pub fn reply(data: &[u8]) {
    let mut reader = ReplyReader::default();
    for piece in data.chunks(PIECE_OCTETS_MAX) {
        reader.push(piece);
        while let Some(next) = reader.next_reply() {
            if next.is_err() {
                return;
            }
        }
        let held_max =
            ReplyReader::REPLY_OCTETS_MAX + ReplyReader::LINE_OCTETS_MAX + PIECE_OCTETS_MAX;
        assert!(reader.buffered() <= held_max);
    }
}

/// A receiving session: the first two octets choose role and settings, the rest is what the peer sends.
pub fn server_session(now: Instant, data: &[u8]) {
    let (head, mut rest) = data.split_at(data.len().min(2));
    let mut choices = Choices::of(head);
    let config = Arc::new(server_config(&mut choices));
    let tls = (choices.below(3) == 0).then(TlsFacts::default);
    let mut watch = ServerWatch {
        server: Server::new(config.clone(), now, tls),
        choices,
        body_open: false,
        closed: false,
        now,
    };
    watch.server.set_clock(Timestamp::from_secs(0));
    watch.drain();
    while !rest.is_empty() && !watch.closed {
        let piece = watch.choices.piece(&mut rest);
        watch.give(server::Input::Bytes(piece));
        match watch.choices.below(200) {
            0 => watch.give(server::Input::Shutdown),
            1 => watch.pass_time(),
            2 => watch.give(server::Input::Answer(Answer::Accept)),
            _ => {}
        }
        let limits = &config.limits;
        let held_max = limits.pipeline_octets_max + PIECE_OCTETS_MAX + limits.envelope_octets_max;
        assert!(watch.server.held() <= held_max, "holds too much");
    }
    watch.give(server::Input::PeerClosed);
    assert!(watch.closed && watch.server.is_closed());
    assert!(!watch.body_open, "a body was left open");
}

fn server_config(choices: &mut Choices) -> Config {
    let role = [Role::Mta, Role::Msa, Role::Lmtp, Role::Odmr][choices.below(4)];
    let tls = [TlsOffer::Off, TlsOffer::Offered, TlsOffer::Required][choices.below(3)];
    let auth = [AuthOffer::Off, AuthOffer::OverTls, AuthOffer::Always][choices.below(3)];
    let newline = [BareNewline::Reject, BareNewline::Normalize][choices.below(2)];
    Config {
        tls,
        auth,
        auth_mechanisms: MechanismSet::all(),
        extensions: Extensions::ALL,
        auth_required: choices.below(4) == 0,
        bare_newline: newline,
        unbracketed_paths: choices.below(2) == 0,
        ask_vrfy: choices.below(2) == 0,
        limits: Limits {
            message_octets_max: 500,
            recipients_max: 3,
            discard_octets_max: 2000,
            ..Limits::default()
        },
        ..Config::new(role, "mx.test")
    }
}

struct ServerWatch {
    server: Server,
    choices: Choices,
    body_open: bool,
    closed: bool,
    now: Instant,
}

impl ServerWatch {
    fn give(&mut self, input: server::Input<'_>) {
        self.server.handle(self.now, input);
        self.drain();
    }

    fn pass_time(&mut self) {
        self.now += Duration::from_secs(301);
        self.give(server::Input::Timeout);
    }

    /// Carries out all outputs, answering questions by choice.
    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            assert!(!self.closed, "{output:?} after the end");
            match output {
                server::Output::Send(bytes) => assert_replies(&bytes),
                server::Output::Body(chunk) => assert!(self.body_open && !chunk.is_empty()),
                server::Output::DiscardBody => {
                    assert!(std::mem::take(&mut self.body_open), "no body is open");
                }
                server::Output::Ask(ask) => {
                    let answer = self.answer(&ask);
                    self.server.handle(self.now, server::Input::Answer(answer));
                }
                server::Output::StartTls => {
                    let established = server::Input::TlsEstablished(TlsFacts::default());
                    self.server.handle(self.now, established);
                }
                server::Output::Close | server::Output::TurnAround(_) => self.closed = true,
            }
        }
    }

    fn answer(&mut self, ask: &Ask) -> Answer {
        let reject = self.choices.below(8) == 0;
        match ask {
            Ask::BeginMessage => {
                assert!(!self.body_open, "two bodies");
                self.body_open = !reject;
            }
            Ask::EndOfMessage(end) => {
                assert!(std::mem::take(&mut self.body_open), "no body is open");
                assert!(!end.envelope.recipients.is_empty() && end.octets <= 500);
            }
            Ask::Recipient(_) => {
                let given = self.server.envelope().map(|open| open.recipients.len());
                assert!(given.is_some_and(|given| given < 3));
            }
            _ => {}
        }
        let refusals = [
            replies::LOCAL_ERROR,
            replies::POLICY,
            replies::SHUTTING_DOWN,
        ];
        match ask {
            _ if reject => Answer::Reject(refusals[self.choices.below(refusals.len())].clone()),
            Ask::Authenticate(question) => Answer::Authentication(self.sasl_answer(question)),
            Ask::Connect => Answer::Welcome(Welcome {
                xclient: self.choices.below(2) == 0,
                xforward: self.choices.below(2) == 0,
            }),
            Ask::Etrn(_) => Answer::Reply(replies::ETRN_NOTHING),
            Ask::Verify(_) => Answer::Verified(replies::OK),
            _ => Answer::Accept,
        }
    }
}

impl ServerWatch {
    fn sasl_answer(&mut self, question: &sasl::Question) -> sasl::Answer {
        let secret = sasl::ScramSecret {
            salt: b"salt".to_vec(),
            iterations: 4096,
            stored_key: vec![1; 20],
            server_key: vec![2; 20],
        };
        match (question, self.choices.below(6)) {
            (_, 0) => sasl::Answer::Refused,
            (_, 1) => sasl::Answer::Disabled,
            (_, 2) => sasl::Answer::Unavailable,
            (sasl::Question::Token { .. }, 3) => sasl::Answer::TokenRefused {
                json: b"{}".to_vec(),
            },
            (sasl::Question::Scram { .. }, _) => sasl::Answer::Secret {
                secret,
                nonce: "nonce".into(),
            },
            _ => sasl::Answer::Accepted {
                identity: "a".into(),
            },
        }
    }
}

fn assert_replies(bytes: &[u8]) {
    for line in bytes.split_inclusive(|octet| *octet == b'\n') {
        let form = (line.len() <= 512 || line.starts_with(b"334 "))
            && line.ends_with(b"\r\n")
            && line.iter().take(3).all(u8::is_ascii_digit)
            && line
                .get(3)
                .is_some_and(|octet| matches!(octet, b' ' | b'-'));
        assert!(form, "{} is no reply line", line.escape_ascii());
    }
}

/// A sending session: the first two octets choose its settings, the rest is what the server sends.
pub fn client_session(now: Instant, data: &[u8]) {
    let (head, mut rest) = data.split_at(data.len().min(2));
    let mut choices = Choices::of(head);
    let config = client_config(&mut choices);
    let mut watch = ClientWatch {
        client: Client::new(Arc::new(config), now, None),
        outstanding: 1,
        chunks_left: choices.below(4),
        closed: false,
        now,
    };
    let delivery = delivery(&mut choices);
    watch.give(client::Input::Deliver(Box::new(delivery)));
    while !rest.is_empty() && !watch.closed {
        let piece = choices.piece(&mut rest);
        watch.give(client::Input::Bytes(piece));
        let held_max = ReplyReader::REPLY_OCTETS_MAX + ReplyReader::LINE_OCTETS_MAX;
        assert!(watch.client.buffered() <= held_max + PIECE_OCTETS_MAX);
    }
    watch.give(client::Input::PeerClosed);
    assert!(watch.closed && watch.client.is_closed());
    assert_eq!(watch.outstanding, 0, "a delivery without an outcome");
}

fn client_config(choices: &mut Choices) -> client::Config {
    let protocol = [client::Protocol::Smtp, client::Protocol::Lmtp][choices.below(2)];
    let policies = [
        client::TlsPolicy::Never,
        client::TlsPolicy::Opportunistic,
        client::TlsPolicy::Required,
    ];
    let hello = HelloName::parse(b"client.test").expect("a valid name");
    client::Config {
        tls: policies[choices.below(3)],
        login: (choices.below(3) == 0).then(|| client::Login {
            identity: "a".into(),
            password: Password::new("p"),
            without_tls: true,
        }),
        ..client::Config::new(protocol, hello)
    }
}

fn delivery(choices: &mut Choices) -> Delivery {
    let address = |text: &str| Address::parse(text).expect("a valid address");
    let recipients = ["a@x.test", "\"b c\"@x.test", "jörg@x.test"].map(|text| Recipient {
        forward_path: ForwardPath::Address(address(text)),
        params: RcptParams::default(),
    });
    let bodies = [BodyType::SevenBit, BodyType::BinaryMime];
    Delivery {
        reverse_path: ReversePath::Address(address("s@x.test")),
        params: MailParams {
            body: bodies[choices.below(2)],
            mt_priority: (choices.below(2) == 0).then_some(3),
            require_tls: choices.below(4) == 0,
            ..MailParams::default()
        },
        recipients: recipients.into(),
        content: match choices.below(2) {
            0 => Vec::new(),
            _ => vec![Bytes::from_static(b".text\r\n")],
        },
    }
}

struct ClientWatch {
    client: Client,
    /// Deliveries given that have no outcome yet.
    outstanding: usize,
    chunks_left: usize,
    closed: bool,
    now: Instant,
}

impl ClientWatch {
    fn give(&mut self, input: client::Input<'_>) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll_output() {
            assert!(!self.closed, "{output:?} after the end");
            match output {
                client::Output::Send(bytes) => assert!(!bytes.is_empty()),
                client::Output::WantBody => self.body(),
                client::Output::Done(outcome) => {
                    assert_eq!(outcome.recipients.len(), 3);
                    assert!(self.outstanding > 0, "two outcomes for one delivery");
                    self.outstanding -= 1;
                }
                client::Output::StartTls => {
                    let established = client::Input::TlsEstablished(TlsFacts::default());
                    self.client.handle(self.now, established);
                }
                client::Output::Close => self.closed = true,
                client::Output::Ready | client::Output::Failed(_) => {}
            }
        }
    }

    fn body(&mut self) {
        let input = match self.chunks_left {
            0 => client::Input::BodyEnd,
            _ => client::Input::Body(Bytes::from_static(b".text\r\n")),
        };
        self.chunks_left = self.chunks_left.saturating_sub(1);
        self.client.handle(self.now, input);
    }
}
