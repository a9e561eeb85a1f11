//! Plays a transcript.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_imap::io::Farewell;
use nightmail_imap::{Config, Input, Output, Session};
use nightmail_sasl::{Channel, Mechanism};

use super::answer::{self, Blobs};
use super::question;

/// In which pieces the session gets what the client says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Feeding {
    ByLine,
    AtOnce,
    ByOctet,
}

/// What came out, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Event {
    Line(String),
    Question(String),
    Other(String),
}

/// Replaces what stands for octets that cannot be written plainly.
pub fn unescape(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some((plain, after)) = rest.split_once('<') {
        out.extend_from_slice(plain.as_bytes());
        let known = [
            ("CR>", b'\r'),
            ("LF>", b'\n'),
            ("NUL>", 0),
            ("SP>", b' '),
            ("E9>", 0xe9),
        ];
        let hit = known
            .iter()
            .find_map(|(name, octet)| Some((after.strip_prefix(name)?, *octet)));
        rest = if let Some((after, octet)) = hit {
            out.push(octet);
            after
        } else if let Some((repeated, after)) = after
            .strip_prefix('*')
            .and_then(|text| text.split_once('>'))
        {
            let (count, text) = repeated.split_once(' ').expect("<*N text>");
            out.extend_from_slice(text.repeat(count.parse().unwrap()).as_bytes());
            after
        } else {
            out.push(b'<');
            after
        };
    }
    out.extend_from_slice(rest.as_bytes());
    out
}

struct Player {
    session: Session,
    now: Instant,
    feeding: Feeding,
    said: Vec<u8>,
    events: VecDeque<Event>,
    text: Vec<u8>,
    blobs: Blobs,
    forbidden: Vec<String>,
    sent: Vec<String>,
    /// All octets of the server.
    wire: Vec<u8>,
}

/// Plays a transcript, or says where it differs.
pub fn play(text: &str, feeding: Feeding) -> Result<(), String> {
    record(text, feeding).map(drop)
}

/// The same; gives all octets of the server.
pub fn record(text: &str, feeding: Feeding) -> Result<Vec<u8>, String> {
    let mut config = Config::default();
    let mut private = true;
    let mut channel = Channel::default();
    let mut scene = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("%: ") {
            Some("insecure") => private = false,
            Some("certificate") => channel.certificate = true,
            Some("exporter") => channel.bindings = vec![("tls-exporter", b"exported".to_vec())],
            Some(setting) => configure(&mut config, setting, &mut scene),
            None => {}
        }
    }
    let now = Instant::now();
    let mut player = Player {
        session: Session::new(Arc::new(config), private.then_some(channel), now),
        now,
        feeding,
        said: Vec::new(),
        events: VecDeque::new(),
        text: Vec::new(),
        blobs: Vec::new(),
        forbidden: Vec::new(),
        sent: Vec::new(),
        wire: Vec::new(),
    };
    player.drain();
    for setting in scene {
        player.set_scene(setting);
    }
    for (index, line) in text.lines().enumerate() {
        player
            .step(line)
            .map_err(|error| format!("line {}: {line}\n    {error}", index + 1))?;
    }
    player.finish()?;
    Ok(player.wire)
}

fn configure<'a>(config: &mut Config, setting: &'a str, scene: &mut Vec<&'a str>) {
    let limits = &mut config.limits;
    match setting.split_once(' ').unwrap_or((setting, "")) {
        ("plaintext", _) => config.plaintext_login = true,
        ("no-starttls", _) => config.starttls = false,
        ("no-id", _) => config.id.clear(),
        ("mechanisms", names) => {
            let names = names.split(' ');
            config.mechanisms = names.map(|name| Mechanism::parse(name).unwrap()).collect();
        }
        ("message_octets_max", value) => limits.message_octets_max = value.parse().unwrap(),
        ("discard_octets_max", value) => limits.discard_octets_max = value.parse().unwrap(),
        ("append_messages_max", value) => limits.append_messages_max = value.parse().unwrap(),
        ("unasked_octets_max", value) => limits.unasked_octets_max = value.parse().unwrap(),
        ("hide", names) => config.hidden = names.split(' ').map(str::to_owned).collect(),
        ("client", rule) => {
            let words: Vec<&str> = rule.split(' ').collect();
            config.clients.push(nightmail_imap::ClientRule {
                name: words[0].into(),
                version: words[1].into(),
                hide: words[2..].iter().map(|word| (*word).to_owned()).collect(),
            });
        }
        ("command_octets_max", value) => limits.command_octets_max = value.parse().unwrap(),
        ("bad_commands_max", value) => limits.bad_commands_max = value.parse().unwrap(),
        ("login_failures_max", value) => limits.login_failures_max = value.parse().unwrap(),
        ("flags_count_max", value) => limits.flags_count_max = value.parse().unwrap(),
        ("annotation_octets_max", value) => {
            limits.annotation_octets_max = value.parse().unwrap();
        }
        ("messages_max", value) => limits.messages_max = Some(value.parse().unwrap()),
        ("fetch_items_max", value) => limits.fetch_items_max = value.parse().unwrap(),
        ("login" | "selected", _) => scene.push(setting),
        other => panic!("no such setting: {other:?}"),
    }
}

impl Player {
    /// `login`, or `selected` with the answer to SELECT; what the server says to it is passed over.
    fn set_scene(&mut self, setting: &str) {
        self.say(b"x LOGIN u p\r\n");
        self.say_now();
        self.give("logged-in");
        if setting.starts_with("selected") {
            self.say(b"x SELECT Box\r\n");
            self.say_now();
            self.give(setting);
        }
        assert!(
            self.text.is_empty()
                && self
                    .events
                    .iter()
                    .any(|event| matches!(event, Event::Line(_)))
        );
        self.events.clear();
        self.sent.clear();
    }

    fn step(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') || line.starts_with("%: ") {
            return Ok(());
        }
        let (kind, text) = line
            .split_once(": ")
            .unwrap_or((line.trim_end_matches(':'), ""));
        if !matches!(kind, "C" | "c") {
            self.say_now();
        }
        match kind {
            "C" => self.say(&[&unescape(text), b"\r\n".as_slice()].concat()),
            "c" => self.say(&unescape(text)),
            "S" => return self.expect_line(text),
            "!S" => self.forbidden.push(text.into()),
            "?" => {
                let (question, answer) = text.split_once(" -> ").ok_or("no answer is written")?;
                self.expect(&Event::Question(question.into()))?;
                self.give(answer);
            }
            "X" => return self.expect(&Event::Other(text.into())),
            "I" => self.input(text),
            "T" => self.pass(text),
            other => return Err(format!("what is {other:?}?")),
        }
        Ok(())
    }

    fn say(&mut self, octets: &[u8]) {
        self.said.extend_from_slice(octets);
        if self.feeding == Feeding::ByLine {
            self.say_now();
        }
    }

    fn say_now(&mut self) {
        let said = std::mem::take(&mut self.said);
        let piece = if self.feeding == Feeding::ByOctet {
            1
        } else {
            usize::MAX
        };
        for octets in said.chunks(piece) {
            self.session.handle(self.now, Input::Bytes(octets));
            self.drain();
        }
    }

    fn give(&mut self, text: &str) {
        for input in answer::parse(text, &mut self.blobs) {
            self.session.handle(self.now, input);
            self.drain();
        }
    }

    fn input(&mut self, text: &str) {
        let input = match text {
            "tls" => Input::TlsEstablished(Channel::default()),
            "eof" => Input::PeerClosed,
            "stop" => Input::Shutdown(Farewell::ServerStops),
            "mailbox-gone" => Input::Shutdown(Farewell::MailboxGone),
            "kick" => Input::Shutdown(Farewell::Operator),
            other => return self.give(other),
        };
        self.session.handle(self.now, input);
        self.drain();
    }

    /// `+300s`: the driver hands in a timeout when the session asked for one by then.
    fn pass(&mut self, text: &str) {
        let seconds = text
            .strip_prefix('+')
            .and_then(|text| text.strip_suffix('s'))
            .expect("+300s");
        self.now += Duration::from_secs(seconds.parse().unwrap());
        if self
            .session
            .poll_timeout()
            .is_some_and(|deadline| deadline <= self.now)
        {
            self.session.handle(self.now, Input::Timeout);
            self.drain();
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.session.poll_output() {
            let other = match output {
                Output::Send(octets) => {
                    self.read(&octets);
                    continue;
                }
                Output::SendBlob(blob) => {
                    let (start, end) = (blob.start as usize, (blob.start + blob.octets) as usize);
                    let octets = self.blobs[blob.token as usize][start..end].to_vec();
                    self.read(&octets);
                    continue;
                }
                Output::Ask(ask) => {
                    self.events
                        .push_back(Event::Question(question::print(&ask)));
                    continue;
                }
                Output::Body(octets) => {
                    let text = octets.escape_ascii().to_string();
                    if let Some(Event::Other(last)) = self.events.back_mut()
                        && last.starts_with("body ")
                    {
                        last.push_str(&text);
                        continue;
                    }
                    format!("body {text}")
                }
                Output::AbortBody => "abort".into(),
                Output::StartTls => "starttls".into(),
                Output::Compress(on) => format!("compress {}", if on { "on" } else { "off" }),
                Output::Idle(on) => format!("idle {}", if on { "on" } else { "off" }),
                Output::ClientId(pairs) => format!("id {pairs:?}"),
                Output::Close => "close".into(),
            };
            self.events.push_back(Event::Other(other));
        }
    }

    fn read(&mut self, octets: &[u8]) {
        self.wire.extend_from_slice(octets);
        for octet in octets {
            self.text.push(*octet);
            if self.text.ends_with(b"\r\n") {
                let line = std::mem::take(&mut self.text);
                let line = String::from_utf8_lossy(&line)
                    .trim_end_matches(['\r', '\n'])
                    .to_owned();
                self.sent.push(line.clone());
                self.events.push_back(Event::Line(line));
            }
        }
    }

    fn expect(&mut self, wanted: &Event) -> Result<(), String> {
        match self.events.pop_front() {
            Some(found) if found == *wanted => Ok(()),
            found => Err(format!(
                "came: {found:?}, held: {:?}",
                String::from_utf8_lossy(&self.text)
            )),
        }
    }

    fn expect_line(&mut self, text: &str) -> Result<(), String> {
        let text = String::from_utf8(unescape(text)).unwrap();
        if let (Some(start), Some(Event::Line(line))) =
            (text.strip_suffix("..."), self.events.front())
            && line.starts_with(start)
        {
            self.events.pop_front();
            return Ok(());
        }
        self.expect(&Event::Line(text))
    }

    fn finish(&mut self) -> Result<(), String> {
        self.say_now();
        if !self.events.is_empty() || !self.text.is_empty() {
            return Err(format!("more came: {:?}", self.events));
        }
        let is_in = |text: &str, line: &str| match text.strip_prefix('^') {
            Some(start) => line.starts_with(start),
            None => line.contains(text),
        };
        let was_sent = |text: &&String| self.sent.iter().any(|line| is_in(text.as_str(), line));
        let broken = self.forbidden.iter().find(was_sent);
        broken.map_or(Ok(()), |text| Err(format!("{text:?} was sent")))
    }
}
