//! Replays the transcripts below `tests/transcripts`, whole and split at every byte.
//!
//! Lines of a transcript: `#` a comment; `O:` an option of the listener; `M:` a message as `uid content`;
//! `F:` a message number that cannot be opened; `C:` a line from the client; `R:` octets from the client, with
//! escapes; `S:` a line that must come; `!S:` a line that must not come; `?:` a question and its answer;
//! `T:` time passes; `P:` the client is gone; `D:` the server stops; `X:` the connection must be closed.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_pop3::{
    Answer, Ask, Config, DotStuffer, Input, LoginRefusal, Maildrop, MessageEntry, Output, Session,
    UniqueId, fuzzing, retrieved_octets,
};
use nightmail_sasl::{self as sasl, Channel, Mechanism, Question, ScramHash, ScramSecret};

#[derive(Clone, Copy, PartialEq, Debug)]
enum Replay {
    Whole,
    EveryByte,
}

struct Driver {
    session: Session,
    now: Instant,
    replay: Replay,
    messages: Vec<(String, String)>,
    unavailable: Vec<usize>,
    input: Vec<u8>,
    received: String,
    question: Option<String>,
    is_closed: bool,
}

impl Driver {
    fn pump(&mut self) {
        loop {
            while self.question.is_none()
                && let Some(output) = self.session.poll_output()
            {
                assert!(!self.is_closed, "{output:?} after the end");
                self.output(output);
            }
            if self.input.is_empty() || self.question.is_some() || !self.session.wants_input() {
                return;
            }
            let len = match self.replay {
                Replay::Whole => self.input.len(),
                Replay::EveryByte => 1,
            };
            let piece: Vec<u8> = self.input.drain(..len).collect();
            self.session.handle(self.now, Input::Bytes(&piece));
        }
    }

    fn output(&mut self, output: Output) {
        match output {
            Output::Send(bytes) => self.received += &String::from_utf8_lossy(&bytes),
            Output::SendMessage { index, mode, reply } => {
                assert_eq!(self.session.poll_timeout(), None);
                if self.unavailable.contains(&(index.get() + 1)) {
                    return self.answer(Answer::Unavailable);
                }
                let mut out = reply.to_vec();
                let mut stuffer = DotStuffer::new(mode);
                for (number, (_, message)) in self.messages.iter().enumerate() {
                    if number == index.get() {
                        stuffer.push(message.as_bytes(), &mut out);
                    }
                }
                stuffer.finish(&mut out);
                self.received += &String::from_utf8_lossy(&out);
                self.answer(Answer::Sent);
            }
            Output::Ask(Ask::Authenticate(question)) => {
                self.question = Some(print_login(&question));
            }
            Output::Ask(Ask::Open) => self.question = Some("open".into()),
            Output::Ask(Ask::Update { delete }) => {
                let numbers: Vec<_> = delete.iter().map(|i| (i.get() + 1).to_string()).collect();
                self.question = Some(
                    format!("update {}", numbers.join(" "))
                        .trim_end()
                        .to_owned(),
                );
            }
            Output::StartTls => {
                self.input.clear();
                self.question = Some("starttls".into());
            }
            Output::Close => self.is_closed = true,
        }
    }

    fn answer(&mut self, answer: Answer) {
        self.session.handle(self.now, Input::Answer(answer));
    }

    fn question(&mut self, script: &str) {
        let (asked, answer) = script.split_once(" -> ").unwrap_or((script, ""));
        assert_eq!(self.question.take().as_deref(), Some(asked));
        match answer {
            "ok" if asked == "starttls" => {
                self.session
                    .handle(self.now, Input::TlsEstablished(Channel::default()));
            }
            "ok" if asked == "open" => self.answer(Answer::Opened(self.maildrop())),
            "rules" => self.answer(Answer::Opened(Maildrop {
                login_delay_secs: Some(60),
                expire_days: Some(14),
                ..self.maildrop()
            })),
            "too-soon" => self.answer(Answer::Refused(LoginRefusal::TooSoon)),
            "ok" => self.answer(Answer::Authentication(sasl::Answer::Accepted {
                identity: "alice".into(),
            })),
            "failed" if asked.starts_with("update") => self.answer(Answer::UpdateFailed),
            "failed" => self.answer(Answer::Authentication(sasl::Answer::Refused)),
            "in-use" => self.answer(Answer::Refused(LoginRefusal::InUse)),
            "temp" => self.answer(Answer::Refused(LoginRefusal::TempFail)),
            "disabled" => self.answer(Answer::Authentication(sasl::Answer::Disabled)),
            "done" => self.answer(Answer::Updated),
            _ if answer.starts_with("secret ") => {
                self.answer(Answer::Authentication(secret(answer)));
            }
            _ if answer.starts_with("token ") => {
                let json = answer.trim_start_matches("token ").into();
                self.answer(Answer::Authentication(sasl::Answer::TokenRefused { json }));
            }
            _ => panic!("no such answer: {answer}"),
        }
    }

    fn maildrop(&self) -> Maildrop {
        let entry = |(uid, message): &(String, String)| {
            let octets = retrieved_octets(message.as_bytes());
            UniqueId::parse(uid).map(|uid| MessageEntry { uid, octets })
        };
        Maildrop {
            messages: self.messages.iter().filter_map(entry).collect(),
            ..Maildrop::default()
        }
    }

    /// Runs one line of the script.
    fn step(&mut self, tag: &str, text: &str) {
        match tag {
            "C" => self
                .input
                .extend_from_slice(format!("{text}\r\n").as_bytes()),
            "R" => self.input.extend_from_slice(&unescape(text)),
            _ => self.pump(),
        }
        match tag {
            "S" => {
                let line = format!("{text}\r\n");
                let rest = self.received.strip_prefix(&line);
                assert!(rest.is_some(), "expected {line:?}, got {:?}", self.received);
                self.received = rest.unwrap_or_default().to_owned();
            }
            "!S" => assert!(
                !self.received.lines().any(|line| line == text),
                "got {text:?}"
            ),
            "?" => self.question(text),
            "T" => {
                let secs = text.trim_start_matches('+').trim_end_matches('s').parse();
                self.now += Duration::from_secs(secs.unwrap_or(0));
                self.session.handle(self.now, Input::Timeout);
            }
            "P" => self.session.handle(self.now, Input::PeerClosed),
            "D" => self.session.handle(self.now, Input::Shutdown),
            "X" => assert!(self.is_closed, "still open"),
            "C" | "R" | "O" | "M" | "F" | "#" => {}
            _ => panic!("no such line: {tag}:"),
        }
    }
}

fn print_login(question: &Question) -> String {
    match question {
        Question::Password {
            identity,
            password,
            authorization,
        } => {
            let acting_as = authorization.as_ref();
            let acting_as = acting_as.map_or(String::new(), |who| format!(" as {who}"));
            format!("password {identity} {}{acting_as}", password.as_str())
        }
        Question::Scram { hash, identity, .. } => format!("scram {hash:?} {identity}"),
        Question::Token { token, identity } => {
            let of = identity.as_deref().unwrap_or("-");
            format!("token {} of {of}", token.as_str())
        }
        Question::Certificate { .. } => "certificate".into(),
        Question::Proven { identity } => format!("proven {identity}"),
        Question::Disproven { identity } => format!("disproven {identity}"),
    }
}

/// `secret hash password salt nonce`, with 4096 iterations.
fn secret(text: &str) -> sasl::Answer {
    let words: Vec<_> = text.split(' ').collect();
    let [_, "sha256", password, salt, nonce] = words[..] else {
        panic!("no such secret: {text}");
    };
    let salt = sasl::decode(salt).unwrap_or_default();
    sasl::Answer::Secret {
        secret: ScramSecret::derive(ScramHash::Sha256, password, salt, 4096),
        nonce: nonce.into(),
    }
}

fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let escaped = if byte == b'\\' { bytes.next() } else { None };
        match escaped {
            None => out.push(byte),
            Some(b'r') => out.push(b'\r'),
            Some(b'n') => out.push(b'\n'),
            Some(b'0') => out.push(0),
            Some(b'f') => out.push(0xff),
            // `\*` and a letter: the letter a hundred times.
            Some(b'*') => out.extend(std::iter::repeat_n(bytes.next().unwrap_or(b'x'), 100)),
            Some(other) => out.push(other),
        }
    }
    out
}

fn option(config: &mut Config, tls: &mut (bool, Channel), option: &str) {
    match option {
        "tls" => tls.0 = true,
        "certificate" => tls.1.certificate = true,
        "exporter" => tls.1.bindings = vec![("tls-exporter", vec![1])],
        _ if option.starts_with("mechanisms ") => {
            let names = option.split(' ').skip(1);
            config.mechanisms = names.filter_map(Mechanism::parse).collect();
        }
        "no-starttls" => config.starttls = false,
        "plaintext-login" => config.plaintext_login = true,
        "login-delay 600" => config.login_delay_secs = Some(600),
        "expire 90" => config.expire_days = Some(90),
        "bad-commands 2" => config.limits.bad_commands_max = 2,
        _ => panic!("no such option: {option}"),
    }
}

fn lines(script: &str) -> impl Iterator<Item = (&str, &str)> {
    script
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(|line| {
            let (tag, text) = line.split_once(':').unwrap_or((line, ""));
            (tag, text.strip_prefix(' ').unwrap_or(text))
        })
}

fn replay(script: &str, replay: Replay) {
    let mut config = Config::new("mx.test");
    let mut tls = (false, Channel::default());
    let (mut messages, mut unavailable) = (Vec::new(), Vec::new());
    for (tag, text) in lines(script) {
        match tag {
            "O" => option(&mut config, &mut tls, text),
            "M" => {
                let (uid, content) = text.split_once(' ').unwrap_or((text, ""));
                let content = String::from_utf8_lossy(&unescape(content)).into_owned();
                messages.push((uid.to_owned(), content));
            }
            "F" => unavailable.extend(text.parse::<usize>()),
            _ => {}
        }
    }
    let now = Instant::now();
    let mut driver = Driver {
        session: Session::new(Arc::new(config), now, tls.0.then_some(tls.1)),
        now,
        replay,
        messages,
        unavailable,
        input: Vec::new(),
        received: String::new(),
        question: None,
        is_closed: false,
    };
    for (tag, text) in lines(script) {
        driver.step(tag, text);
    }
    driver.pump();
    assert_eq!(driver.received, "", "not in the transcript");
    assert_eq!(driver.question, None, "not in the transcript");
    let ends_closed = lines(script).any(|(tag, _)| tag == "X");
    assert_eq!(driver.is_closed, ends_closed);
    assert_eq!(driver.is_closed, driver.session.poll_timeout().is_none());
}

fn transcripts() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    let mut scripts: Vec<_> = std::fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, std::fs::read_to_string(entry.path()).ok()?))
        })
        .collect();
    scripts.sort();
    scripts
}

#[test]
fn every_transcript_holds() {
    let scripts = transcripts();
    assert!(scripts.len() >= 30, "{} transcripts", scripts.len());
    for (name, script) in scripts {
        for mode in [Replay::Whole, Replay::EveryByte] {
            println!("{name}, {mode:?}");
            replay(&script, mode);
        }
    }
}

#[test]
fn a_listing_of_many_messages_comes_in_pieces() {
    let messages: String = (0..3000).map(|n| format!("M: uid-{n} x\n")).collect();
    let lines: String = (0..3000)
        .map(|n| format!("S: {} uid-{n}\n", n + 1))
        .collect();
    let script = format!(
        "O: tls\n{messages}S: +OK mx.test POP3 ready\nC: AUTH PLAIN AGEAYg==\n?: password a b -> ok\n?: open -> ok\n\
         C: UIDL\nC: STAT\nS: +OK 3000 messages (9000 octets)\nS: +OK 3000 messages (9000 octets)\n\
         {lines}S: .\nS: +OK 3000 9000\n"
    );
    replay(&script, Replay::Whole);
}

mod properties {
    use super::*;
    use proptest::prelude::*;

    fn input() -> impl Strategy<Value = Vec<u8>> {
        let lines: [&[u8]; 18] = [
            b"USER alice\r\n",
            b"PASS secret\r\n",
            b"AUTH PLAIN AGEAYg==\r\n",
            b"AUTH LOGIN\r\n",
            b"YQ==\r\n",
            b"*\r\n",
            b"CAPA\r\n",
            b"STAT\r\n",
            b"LIST\r\n",
            b"UIDL 2\r\n",
            b"RETR 2\n",
            b"TOP 1 0\r\n",
            b"DELE 3\r\n",
            b"RSET\r\n",
            b"QUIT\r\n",
            b"\r\n",
            b"\xff \0\r\n",
            &[b'x'; 600],
        ];
        let line = prop::sample::select(lines.to_vec());
        prop::collection::vec(line, 0..30).prop_map(|lines| lines.concat())
    }

    proptest! {
        #[test]
        fn where_input_is_cut_does_not_matter(input in input(), piece in 1usize..50) {
            let now = Instant::now();
            let whole = fuzzing::session(now, &input, input.len());
            prop_assert_eq!(fuzzing::session(now, &input, piece), whole);
        }

        #[test]
        fn any_octets_leave_the_session_sound(input: Vec<u8>, piece in 1usize..50, lines in 0u64..5) {
            fuzzing::session(Instant::now(), &input, piece);
            fuzzing::stuffer(&input, piece, lines);
        }
    }
}
