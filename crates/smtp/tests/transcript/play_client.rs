//! Plays a transcript against the client machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::{Address, ForwardPath, ReversePath};
use nightmail_smtp::TlsFacts;
use nightmail_smtp::client::{
    Client, Config, Delivery, Fate, Input, Login, Output, Protocol, Recipient, TlsPolicy,
};
use nightmail_smtp::command::{HelloName, Syntax};
use nightmail_smtp::sasl::Password;
use nightmail_smtp::{BodyType, Command};

use super::{Cut, Line, Script, inputs, settle, unescape};

struct Player {
    client: Client,
    now: Instant,
    sent: Vec<u8>,
    all_sent: Vec<u8>,
    expected: Vec<u8>,
    body_wanted: bool,
    events: VecDeque<String>,
}

pub fn play(script: &Script, cut: Cut) -> Result<(), String> {
    let (config, tls) = config(&script.settings)?;
    let now = Instant::now();
    let mut player = Player {
        client: Client::new(Arc::new(config), now, tls),
        now,
        sent: Vec::new(),
        all_sent: Vec::new(),
        expected: Vec::new(),
        body_wanted: false,
        events: VecDeque::new(),
    };
    let mut lines = script.lines.iter().peekable();
    let mut before = 0;
    while let Some(line) = lines.next() {
        if let Line::Server(first) = line {
            let mut run = first.clone();
            while let Some(Line::Server(more)) = lines.next_if(|l| matches!(l, Line::Server(_))) {
                run.extend_from_slice(more);
            }
            player.pause()?;
            for input in inputs(&run, before, cut) {
                player.give(Input::Bytes(input));
            }
            before += run.len();
        } else {
            player.line(line)?;
        }
    }
    player.end(&script.lines)
}

impl Player {
    fn line(&mut self, line: &Line) -> Result<(), String> {
        match line {
            Line::Client(text) => self.expected.extend_from_slice(text),
            Line::Body(text) => {
                if !std::mem::take(&mut self.body_wanted) {
                    return Err("no content is wanted".into());
                }
                let chunk = Bytes::copy_from_slice(text);
                self.give(Input::Body(chunk));
            }
            Line::Event(expected) => match self.events.pop_front() {
                Some(found) if found == *expected => {}
                found => return Err(format!("expected {expected:?}, found {found:?}")),
            },
            Line::Input(text) => {
                if text != "body-end" {
                    self.pause()?;
                }
                self.input(text)?;
            }
            Line::Time(secs) => {
                self.pause()?;
                self.now += Duration::from_secs(*secs);
                if self.client.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.give(Input::Timeout);
                }
            }
            Line::Never(_) => {}
            other => return Err(format!("not for a client: {other:?}")),
        }
        Ok(())
    }

    fn input(&mut self, text: &str) -> Result<(), String> {
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        match word {
            "deliver-whole" => {
                let (content, rest) = rest.split_once(" ; ").ok_or("no content")?;
                let content = unescape(content).ok_or("content")?;
                let (head, tail) = content.split_at(content.len() / 2);
                let content = [head, tail].map(Bytes::copy_from_slice).into();
                let delivery = Delivery {
                    content,
                    ..delivery(rest)?
                };
                self.give(Input::Deliver(Box::new(delivery)));
            }
            "deliver" => self.give(Input::Deliver(Box::new(delivery(rest)?))),
            "quit" => self.give(Input::Quit),
            "tls" => self.give(Input::TlsEstablished(TlsFacts::default())),
            "tls-failed" => self.give(Input::TlsFailed),
            "closed" => self.give(Input::PeerClosed),
            "body-end" | "body-failed" if !std::mem::take(&mut self.body_wanted) => {
                return Err("no content is wanted".into());
            }
            "body-end" => self.give(Input::BodyEnd),
            "body-failed" => self.give(Input::BodyFailed),
            _ => return Err(format!("no input {text}")),
        }
        Ok(())
    }

    fn give(&mut self, input: Input<'_>) {
        self.client.handle(self.now, input);
        while let Some(output) = self.client.poll_output() {
            match output {
                Output::Send(bytes) => {
                    self.sent.extend_from_slice(&bytes);
                    self.all_sent.extend_from_slice(&bytes);
                }
                Output::WantBody => self.body_wanted = true,
                Output::StartTls => self.events.push_back("starttls".into()),
                Output::Ready => self.events.push_back("ready".into()),
                Output::Close => self.events.push_back("close".into()),
                Output::Failed(failure) => {
                    let reply = failure.reply.map(|reply| format!(" {reply}"));
                    let kind = format!("{:?}", failure.kind);
                    self.events
                        .push_back(format!("failed {kind}{}", reply.unwrap_or_default()));
                }
                Output::Done(outcome) => {
                    let fates: Vec<String> = outcome.recipients.iter().map(shown).collect();
                    let doubt = if outcome.in_doubt { " in doubt" } else { "" };
                    self.events
                        .push_back(format!("done{doubt} {}", fates.join(" | ")));
                }
            }
        }
    }

    /// All that should have come by now has come, and nothing else.
    fn pause(&mut self) -> Result<(), String> {
        settle("commands", &mut self.expected, &mut self.sent)?;
        match self.events.front() {
            Some(event) => Err(format!("not in the transcript: {event:?}")),
            None => Ok(()),
        }
    }

    fn end(mut self, lines: &[Line]) -> Result<(), String> {
        self.pause()?;
        let all = String::from_utf8_lossy(&self.all_sent);
        for line in lines {
            match line {
                Line::Never(text) if all.contains(text) => {
                    return Err(format!("{text:?} appears"));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn shown(fate: &Fate) -> String {
    match fate {
        Fate::Delivered(reply) => format!("delivered {reply}"),
        Fate::Temporary(refusal) => format!("temporary {:?} {}", refusal.stage, refusal.reply),
        Fate::Permanent(refusal) => format!("permanent {:?} {}", refusal.stage, refusal.reply),
    }
}

/// Reads `MAIL FROM:<…> … ; RCPT TO:<…> … ; …`.
fn delivery(text: &str) -> Result<Delivery, String> {
    let mut delivery = Delivery::default();
    for line in text.split(" ; ") {
        match Command::parse(line.as_bytes(), &Syntax::ALL) {
            Ok(Command::Mail(mail)) => {
                delivery.reverse_path = mail.reverse_path;
                delivery.params = mail.params;
            }
            Ok(Command::Rcpt(rcpt)) => delivery.recipients.push(Recipient {
                forward_path: rcpt.forward_path,
                params: rcpt.params,
            }),
            other => return Err(format!("{line:?}: {other:?}")),
        }
    }
    Ok(delivery)
}

fn config(settings: &[(String, String)]) -> Result<(Config, Option<TlsFacts>), String> {
    let hello = HelloName::parse(b"client.test").unwrap();
    let mut config = Config::new(Protocol::Smtp, hello);
    let mut tls = None;
    for (key, value) in settings {
        match (key.as_str(), value.as_str()) {
            ("protocol", "lmtp") => config.protocol = Protocol::Lmtp,
            ("tls", "never") => config.tls = TlsPolicy::Never,
            ("tls", "required") => config.tls = TlsPolicy::Required,
            ("tls", "active") => tls = Some(TlsFacts::default()),
            ("ahead", count) => config.pipeline_commands_max = count.parse().unwrap(),
            ("login", secret) => {
                let (identity, password) = secret.split_once(' ').unwrap();
                config.login = Some(Login {
                    identity: identity.into(),
                    password: Password::new(password),
                    without_tls: !settings.iter().any(|(key, _)| key == "login-over-tls"),
                });
            }
            ("login-over-tls", _) => {}
            ("chunking", "no") => config.chunking = false,
            (key, value) => return Err(format!("no setting {key} {value}")),
        }
    }
    Ok((config, tls))
}

/// Addresses of the tests are what they look like.
#[test]
fn deliveries_are_read() {
    let delivery = delivery("MAIL FROM:<a@x.test> BODY=8BITMIME ; RCPT TO:<b@y.test>").unwrap();
    let address = |text: &str| Address::parse(text).unwrap();
    assert_eq!(
        delivery.reverse_path,
        ReversePath::Address(address("a@x.test"))
    );
    assert_eq!(delivery.params.body, BodyType::EightBitMime);
    assert_eq!(
        delivery.recipients[0].forward_path,
        ForwardPath::Address(address("b@y.test"))
    );
}
