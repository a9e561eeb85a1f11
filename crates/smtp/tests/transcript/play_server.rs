//! Plays a transcript against the server machine.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_core::{ForwardPath, Timestamp};
use nightmail_smtp::TlsFacts;
use nightmail_smtp::body::BareNewline;
use nightmail_smtp::sasl::{self, Channel, Mechanism, Question, ScramHash, ScramSecret};
use nightmail_smtp::server::{
    Answer, Ask, AuthOffer, Config, Input, Output, Role, Server, TlsOffer, Welcome,
};

use super::{Cut, Line, Script, inputs, settle, unescape};

struct Player {
    server: Server,
    now: Instant,
    sent: Vec<u8>,
    body: Vec<u8>,
    events: VecDeque<Output>,
    all_sent: Vec<u8>,
    expected: Vec<u8>,
    expected_body: Vec<u8>,
    length: u64,
    /// The questions about connection and hello are in the transcript.
    asks_all: bool,
    welcome: Welcome,
}

pub fn play(script: &Script, cut: Cut) -> Result<(), String> {
    let Setting {
        config,
        tls,
        channel,
        welcome,
        asks_all,
        clock,
    } = Setting::read(&script.settings)?;
    let now = Instant::now();
    let mut server = Server::new(Arc::new(config), now, tls);
    server.set_channel(channel);
    if let Some(secs) = clock {
        server.set_clock(Timestamp::from_secs(secs));
    }
    let mut player = Player {
        server,
        asks_all,
        welcome,
        now,
        sent: Vec::new(),
        body: Vec::new(),
        events: VecDeque::new(),
        all_sent: Vec::new(),
        expected: Vec::new(),
        expected_body: Vec::new(),
        length: 0,
    };
    player.drain();
    let mut lines = script.lines.iter().peekable();
    let mut before = 0;
    while let Some(line) = lines.next() {
        if let Line::Client(first) = line {
            let mut run = first.clone();
            while let Some(Line::Client(more)) = lines.next_if(|l| matches!(l, Line::Client(_))) {
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
            Line::Server(text) => self.expected.extend_from_slice(text),
            Line::Body(text) => self.expected_body.extend_from_slice(text),
            Line::Question { ask, answer } => self.question(ask, answer)?,
            Line::Event(name) => self.event(name)?,
            Line::Length(octets) if *octets != self.length => {
                return Err(format!("length {} is not {octets}", self.length));
            }
            Line::Input(name) => {
                self.pause()?;
                match name.as_str() {
                    "tls" => self.give(Input::TlsEstablished(TlsFacts::default())),
                    "closed" => self.give(Input::PeerClosed),
                    "shutdown" => self.give(Input::Shutdown),
                    _ => return Err(format!("no input {name}")),
                }
            }
            Line::Time(secs) => {
                self.pause()?;
                self.now += Duration::from_secs(*secs);
                if self.server.poll_timeout().is_some_and(|at| at <= self.now) {
                    self.give(Input::Timeout);
                }
            }
            Line::Length(_) | Line::Never(_) | Line::Client(_) => {}
        }
        Ok(())
    }

    fn give(&mut self, input: Input<'_>) {
        self.server.handle(self.now, input);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.server.poll_output() {
            match output {
                Output::Send(bytes) => {
                    self.sent.extend_from_slice(&bytes);
                    self.all_sent.extend_from_slice(&bytes);
                }
                Output::Body(bytes) => self.body.extend_from_slice(&bytes),
                Output::DiscardBody => {
                    self.body.clear();
                    self.events.push_back(Output::DiscardBody);
                }
                Output::Ask(Ask::Connect) if !self.asks_all => {
                    let answer = Input::Answer(Answer::Welcome(self.welcome));
                    self.server.handle(self.now, answer);
                }
                Output::Ask(Ask::Hello(_)) if !self.asks_all => {
                    self.server.handle(self.now, Input::Answer(Answer::Accept));
                }
                other => self.events.push_back(other),
            }
        }
    }

    /// All that should have come by now has come, and nothing else.
    fn pause(&mut self) -> Result<(), String> {
        settle("replies", &mut self.expected, &mut self.sent)?;
        match self.events.front() {
            Some(event) => Err(format!("not in the transcript: {event:?}")),
            None => Ok(()),
        }
    }

    fn question(&mut self, expected: &str, answer: &str) -> Result<(), String> {
        let found = self.events.pop_front();
        let Some(Output::Ask(ask)) = found else {
            return Err(format!("asked {found:?}, not {expected}"));
        };
        if let Ask::EndOfMessage(end) = &ask {
            self.length = end.octets;
            settle("content", &mut self.expected_body, &mut self.body)?;
        }
        let shown = shown(&ask);
        if shown != expected {
            return Err(format!("asked {shown:?}, not {expected:?}"));
        }
        let answer = parse_answer(&ask, answer)?;
        self.give(Input::Answer(answer));
        Ok(())
    }

    fn event(&mut self, name: &str) -> Result<(), String> {
        if let Some(early) = name.strip_prefix("turn-around") {
            return match self.events.pop_front() {
                Some(Output::TurnAround(found))
                    if unescape(early.trim_start()).is_some_and(|early| found == early) =>
                {
                    Ok(())
                }
                found => Err(format!("expected {name}, found {found:?}")),
            };
        }
        let expected = match name {
            "starttls" => Output::StartTls,
            "discard" => Output::DiscardBody,
            "close" => Output::Close,
            _ => return Err(format!("no event {name}")),
        };
        match self.events.pop_front() {
            Some(found) if found == expected => Ok(()),
            found => Err(format!("expected {name}, found {found:?}")),
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

/// A question as the transcript writes it.
fn shown(ask: &Ask) -> String {
    match ask {
        Ask::Connect => "connect".into(),
        Ask::Hello(hello) => {
            let verb = if hello.extended { "ehlo" } else { "helo" };
            format!("{verb} {}", hello.name.as_str())
        }
        Ask::Authenticate(question) => format!("auth {}", shown_question(question)),
        Ask::Etrn(target) => format!("etrn {target}"),
        Ask::Atrn(domains) => format!("atrn {}", joined(domains)),
        Ask::Xclient(attributes) => format!("xclient {}", joined(attributes)),
        Ask::Xforward(attributes) => format!("xforward {}", joined(attributes)),
        Ask::Mail(mail) => mail.to_string().replacen("MAIL FROM:", "mail ", 1),
        Ask::Recipient(rcpt) => match &rcpt.forward_path {
            ForwardPath::Postmaster => "recipient postmaster".into(),
            ForwardPath::Address(_) => rcpt
                .to_string()
                .replacen("RCPT TO:<", "recipient ", 1)
                .replacen('>', "", 1),
        },
        Ask::BeginMessage => "begin".into(),
        Ask::EndOfMessage(end) => {
            let to: Vec<String> = end
                .envelope
                .recipients
                .iter()
                .map(|r| r.forward_path.to_string())
                .collect();
            let who = end.facts.identity.as_deref();
            let who = who.map(|name| format!(" by {name}")).unwrap_or_default();
            let hello = end.facts.hello.as_ref().unwrap();
            let early = if end.facts.early_talker { " early" } else { "" };
            format!(
                "message <{}> to {} from {} with {}{who}{early}",
                end.envelope.mail.reverse_path,
                to.join(","),
                hello.name.as_str(),
                end.with_protocol()
            )
        }
        Ask::Verify(text) => format!("verify {text}"),
    }
}

fn joined(parts: &[impl ToString]) -> String {
    let parts: Vec<String> = parts.iter().map(ToString::to_string).collect();
    parts.join(" ")
}

fn shown_question(question: &Question) -> String {
    let named = |word: &str, name: &Option<Box<str>>| match name {
        Some(name) => format!(" {word} {name}"),
        None => String::new(),
    };
    match question {
        Question::Password {
            identity,
            password,
            authorization,
        } => format!(
            "password {identity} {}{}",
            password.as_str(),
            named("as", authorization)
        ),
        Question::Scram {
            identity,
            authorization,
            ..
        } => format!("scram {identity}{}", named("as", authorization)),
        Question::Token { token, identity } => {
            format!("token {}{}", token.as_str(), named("of", identity))
        }
        Question::Certificate { authorization } => {
            format!("certificate{}", named("as", authorization))
        }
        Question::Proven { identity } => format!("proven {identity}"),
        Question::Disproven { identity } => format!("disproven {identity}"),
    }
}

/// The secret of the example of RFC 7677 §3, and the nonce that the server adds there.
fn example_secret() -> sasl::Answer {
    let salt = sasl::decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
    sasl::Answer::Secret {
        secret: ScramSecret::derive(ScramHash::Sha256, "pencil", salt, 4096),
        nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
    }
}

fn parse_answer(ask: &Ask, text: &str) -> Result<Answer, String> {
    let reply = |text: &str| text.parse().map_err(|why| format!("{text:?}: {why}"));
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    match word {
        "ok" => Ok(Answer::Accept),
        "welcome" => Ok(Answer::Welcome(Welcome::default())),
        "is" => Ok(Answer::Authentication(sasl::Answer::Accepted {
            identity: rest.into(),
        })),
        "secret" => Ok(Answer::Authentication(example_secret())),
        "refused" => Ok(Answer::Authentication(sasl::Answer::Refused)),
        "disabled" => Ok(Answer::Authentication(sasl::Answer::Disabled)),
        "unavailable" => Ok(Answer::Authentication(sasl::Answer::Unavailable)),
        "token-refused" => Ok(Answer::Authentication(sasl::Answer::TokenRefused {
            json: rest.into(),
        })),
        "say" => reply(rest).map(Answer::Reply),
        "id" => Ok(Answer::Accepted { id: rest.into() }),
        "each" => rest
            .split(" | ")
            .map(reply)
            .collect::<Result<_, _>>()
            .map(Answer::PerRecipient),
        _ if matches!(ask, Ask::Verify(_)) => reply(text).map(Answer::Verified),
        _ => reply(text).map(Answer::Reject),
    }
}

/// What a transcript sets before the session starts.
struct Setting {
    config: Config,
    tls: Option<TlsFacts>,
    channel: Channel,
    welcome: Welcome,
    asks_all: bool,
    clock: Option<i64>,
}

impl Setting {
    fn read(settings: &[(String, String)]) -> Result<Self, String> {
        let role = settings.iter().find(|(key, _)| key == "role");
        let role = match role.map(|(_, value)| value.as_str()) {
            None | Some("mta") => Role::Mta,
            Some("msa") => Role::Msa,
            Some("lmtp") => Role::Lmtp,
            Some("odmr") => Role::Odmr,
            Some(other) => return Err(format!("no role {other}")),
        };
        let mut out = Self {
            config: Config::new(role, "mx.test"),
            tls: None,
            channel: Channel::default(),
            welcome: Welcome::default(),
            asks_all: false,
            clock: None,
        };
        for (key, value) in settings {
            out.set(key, value)?;
        }
        Ok(out)
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        let config = &mut self.config;
        match (key, value) {
            ("role", _) => {}
            ("banner", text) => config.banner = text.into(),
            ("tls", "off") => config.tls = TlsOffer::Off,
            ("tls", "offered") => config.tls = TlsOffer::Offered,
            ("tls", "required") => config.tls = TlsOffer::Required,
            ("tls", "active") => self.tls = Some(TlsFacts::default()),
            ("auth", "off") => config.auth = AuthOffer::Off,
            ("auth", "over-tls") => config.auth = AuthOffer::OverTls,
            ("auth", "always") => config.auth = AuthOffer::Always,
            ("auth-required", "no") => config.auth_required = false,
            ("mechanisms", names) => {
                let names = names.split(' ').map(|name| Mechanism::parse(name).unwrap());
                config.auth_mechanisms = names.collect();
            }
            ("channel", "certificate") => self.channel.certificate = true,
            ("channel", "binding") => self.channel.bindings.push(("tls-exporter", vec![1])),
            ("newline", "normalize") => config.bare_newline = BareNewline::Normalize,
            ("paths", "unbracketed") => config.unbracketed_paths = true,
            ("vrfy", "ask") => config.ask_vrfy = true,
            ("ask", "all") => self.asks_all = true,
            ("welcome", "xclient") => self.welcome.xclient = true,
            ("welcome", "xforward") => self.welcome.xforward = true,
            ("clock", secs) => self.clock = secs.parse().ok(),
            ("without", name) => without(config, name)?,
            ("with", name) => with(config, name)?,
            (key, value) => limit(config, key, value).ok_or(format!("no setting {key}"))?,
        }
        Ok(())
    }
}

fn with(config: &mut Config, name: &str) -> Result<(), String> {
    let (name, value) = name.split_once(' ').unwrap_or((name, "0"));
    let number: u32 = value.parse().map_err(|_| format!("no number {value}"))?;
    let extensions = &mut config.extensions;
    match name {
        "etrn" => extensions.etrn = true,
        "requiretls" => extensions.requiretls = true,
        "mt-priority" => extensions.mt_priority = true,
        "deliver-by" => extensions.deliver_by = Some(number),
        "future-release" => {
            extensions.future_release = Some(Duration::from_secs(number.into()));
        }
        "limits" => extensions.limits = true,
        _ => return Err(format!("no extension {name}")),
    }
    Ok(())
}

fn without(config: &mut Config, name: &str) -> Result<(), String> {
    match name {
        "dsn" => config.extensions.dsn = false,
        "smtputf8" => config.extensions.smtputf8 = false,
        "chunking" => config.extensions.chunking = false,
        "binarymime" => config.extensions.binarymime = false,
        _ => return Err(format!("no extension {name}")),
    }
    Ok(())
}

fn limit(config: &mut Config, key: &str, value: &str) -> Option<()> {
    let limits = &mut config.limits;
    let number = value.parse::<u32>().ok()?;
    match key {
        "message-octets-max" => limits.message_octets_max = number.into(),
        "discard-octets-max" => limits.discard_octets_max = number.into(),
        "recipients-max" => limits.recipients_max = number as usize,
        "recipients-refused-max" => limits.recipients_refused_max = number,
        "errors-max" => limits.errors_max = number,
        "auth-failures-max" => limits.auth_failures_max = number,
        "idle-commands-max" => limits.idle_commands_max = number,
        "transactions-max" => limits.transactions_max = number,
        "envelope-octets-max" => limits.envelope_octets_max = number as usize,
        "data-rate-min" => limits.data_rate_min = number,
        "session-timeout" => limits.session_timeout = Duration::from_secs(number.into()),
        _ => return None,
    }
    Some(())
}
