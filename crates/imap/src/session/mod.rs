//! The session (RFC 3501 §3): its states, the command in progress, and what every command uses.
//!
//! One command runs at a time and at most one question is open. What the client sends meanwhile waits in a bounded
//! buffer. A command in progress is a [`Step`] that consumes itself with whatever comes: an answer, a line, a chunk.

mod push;
mod tools;

use std::sync::Arc;
use std::time::Instant;

use bytes::{BufMut, Bytes};
use nightmail_core::Uid;
use nightmail_sasl::Channel;

use crate::command::notify::SelectedWatch;
use crate::command::{self, Allowed, Command, Spec};
use crate::enabled::{Enabled, Extension};
use crate::io::{Answer, Farewell, Input, MailboxUpdate, Output};
use crate::limits::Config;
use crate::name::MailboxName;
use crate::outputs::Outputs;
use crate::parse::{ParseError, Parser};
use crate::reader::{Event, Literal, Reader};
use crate::refusal::{Refusal, RefusalKind};
use crate::view::View;
use crate::write;

/// More than the longest command name and what surrounds it.
const NAME_OCTETS_MAX: usize = 64;

/// A command in progress. What does not fit its state is an error of whoever sent it.
pub(crate) trait Step: Send + Sync {
    /// The question's answer came.
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        session.refuse_unexpected(answer);
    }

    /// A line came that is not a command.
    fn line(self: Box<Self>, session: &mut Session, _line: &[u8]) {
        session.bad("Unexpected line");
    }

    /// A line came that ends in a literal.
    fn literal(self: Box<Self>, session: &mut Session, literal: Literal) {
        session.refuse_literal(literal);
        self.abandoned(session);
        session.bad("No literal is expected here");
    }

    /// Octets of a message came.
    fn chunk(self: Box<Self>, session: &mut Session, _octets: Bytes) {
        session.bad("Unexpected octets");
    }

    /// The session ends, or what came instead of a line cannot be one.
    fn abandoned(self: Box<Self>, _session: &mut Session) {}
}

struct Running {
    tag: Box<str>,
    spec: &'static Spec,
    /// How it goes on; none while its code runs.
    step: Option<Box<dyn Step>>,
    /// Whether it goes on with an answer, rather than with what the client sends.
    asked: bool,
    /// The lowest message that was looked at, where there were more than one command may name (RFC 9738).
    limited: Option<Uid>,
}

impl Running {
    fn new(tag: &str, spec: &'static Spec) -> Self {
        Self {
            tag: tag.into(),
            spec,
            step: None,
            asked: false,
            limited: None,
        }
    }
}

enum State {
    NotAuthenticated,
    Authenticated,
    Selected(Box<Selected>),
}

struct Selected {
    name: MailboxName,
    read_only: bool,
    view: View,
}

/// Whether octets from the client count.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Line {
    Open,
    /// STARTTLS was answered: what comes before the handshake is done is not the client's.
    AwaitingTls,
    Closed,
}

/// One IMAP session. Feed it with [`Session::handle`], then drain [`Session::poll_output`] until it gives nothing.
pub struct Session {
    config: Arc<Config>,
    state: State,
    line: Line,
    /// The TLS connection, until login.
    channel: Option<Box<Channel>>,
    idling: bool,
    enabled: Enabled,
    /// Whether COMPRESS is in force.
    compressed: bool,
    /// The capabilities that are kept from this client, where they differ from what is kept from all.
    hidden: Option<Box<[String]>>,
    /// What NOTIFY set for the selected mailbox; none before it is used.
    watch: Option<Box<SelectedWatch>>,
    reader: Reader,
    outputs: Outputs,
    running: Option<Running>,
    bad_commands: u32,
    login_failures: u32,
    now: Instant,
    deadline: Instant,
}

impl Session {
    /// A session that greets the client. `channel`: the TLS connection, where it is there already.
    pub fn new(config: Arc<Config>, channel: Option<Channel>, now: Instant) -> Self {
        let deadline = now + config.limits.login_time_max;
        let mut session = Self {
            config,
            state: State::NotAuthenticated,
            line: Line::Open,
            channel: channel.map(Box::new),
            idling: false,
            enabled: Enabled::NONE,
            compressed: false,
            hidden: None,
            watch: None,
            reader: Reader::default(),
            outputs: Outputs::default(),
            running: None,
            bad_commands: 0,
            login_failures: 0,
            now,
            deadline,
        };
        let config = session.config();
        command::session::greet(&mut session, &config.greeting);
        session
    }

    /// Takes one input.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        if self.line == Line::Closed {
            return;
        }
        match input {
            Input::Bytes(octets) => self.receive(octets),
            Input::Answer(answer) => self.resume(answer),
            Input::Update(update) => self.learn(update),
            Input::Notice(notice) => self.write_notice(&notice),
            Input::Progress { done, goal } => self.tell_progress(done, goal),
            Input::TlsEstablished(channel) => {
                self.channel = Some(Box::new(channel));
                self.line = Line::Open;
            }
            Input::Timeout => self.time_out(),
            Input::PeerClosed => self.close(),
            Input::Shutdown(why) => self.say_farewell(why),
        }
        self.advance();
    }

    /// The next thing for the driver to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        if let Some(output) = self.outputs.pop() {
            return Some(output);
        }
        self.advance();
        let output = self.outputs.pop();
        if output.is_none() && !self.is_asking() {
            self.outputs.release();
            self.reader.release();
        }
        output
    }

    /// When to hand in `Timeout`, unless something else comes before.
    pub fn poll_timeout(&self) -> Option<Instant> {
        (self.line != Line::Closed && !self.is_asking()).then_some(self.deadline)
    }

    /// Whether octets should be read from the client.
    pub fn wants_input(&self) -> bool {
        let holds_up =
            self.is_asking() && self.reader.octets() >= self.config.limits.pipeline_octets_max;
        self.line == Line::Open && !holds_up && !self.output_is_full()
    }

    /// Whether output should be drained before more rows are handed in.
    pub fn output_is_full(&self) -> bool {
        self.outputs.octets() >= self.config.limits.output_octets_high
    }

    /// The UIDs of the selected mailbox as the client numbers its messages.
    pub fn uids(&self) -> Option<&Arc<[Uid]>> {
        self.view().map(View::uids)
    }

    /// The UID from which on messages of the selected mailbox are `\Recent` in this session.
    pub fn recent_floor(&self) -> Option<Uid> {
        self.view().map(View::recent_floor)
    }

    /// The UIDs of the selected mailbox as of the last update, told to the client or not.
    pub fn latest_uids(&self) -> Option<&Arc<[Uid]>> {
        self.view().map(View::latest_uids)
    }

    fn is_asking(&self) -> bool {
        self.running.as_ref().is_some_and(|running| running.asked)
    }
}

/// Input.
impl Session {
    fn receive(&mut self, octets: &[u8]) {
        if self.line != Line::Open {
            return;
        }
        self.touch();
        let mut rest = octets;
        if self.reader.takes_chunks() && !self.is_asking() {
            let (chunk, after) = self.reader.pass(octets);
            rest = after;
            if !chunk.is_empty() {
                self.chunk(Bytes::copy_from_slice(chunk));
            }
        }
        self.reader.push(rest);
    }

    fn resume(&mut self, answer: Answer) {
        let step = self
            .running
            .as_mut()
            .filter(|running| running.asked)
            .and_then(|running| {
                running.asked = false;
                running.step.take()
            });
        if let Some(step) = step {
            self.touch();
            step.answer(self, answer);
        }
    }

    fn learn(&mut self, update: MailboxUpdate) {
        let asking = self.is_asking();
        if let State::Selected(selected) = &mut self.state {
            selected.view.learn(update);
            if asking && !self.idling {
                selected.view.tell_keywords(self.outputs.text());
            }
        }
        if self.idling {
            self.tell(None, true);
        } else if !asking {
            self.push_news();
        }
    }

    fn tell_progress(&mut self, done: Option<u32>, goal: Option<u32>) {
        if !self.is_asking() {
            return;
        }
        let tag = self.tag();
        let out = self.outputs.text();
        out.put_slice(b"* OK [INPROGRESS (");
        write::quoted(out, &tag);
        for number in [done, goal] {
            match number {
                Some(number) => write::display(out, format_args!(" {number}")),
                None => out.put_slice(b" NIL"),
            }
        }
        out.put_slice(b")] Still at it\r\n");
    }

    fn time_out(&mut self) {
        if self.now >= self.deadline && !self.is_asking() {
            self.bye("Too long without a word");
        }
    }

    fn say_farewell(&mut self, why: Farewell) {
        self.bye(match why {
            Farewell::ServerStops => "[UNAVAILABLE] The server stops",
            Farewell::MailboxGone => "The mailbox is gone",
            Farewell::Operator => "Ended by the operator",
        });
    }

    /// Reads on as far as there is nothing to wait for.
    fn advance(&mut self) {
        loop {
            self.push_between_commands();
            if self.line != Line::Open || self.is_asking() || self.output_is_full() {
                break;
            }
            let octets_max = self.command_octets_max();
            let Some(event) = self.reader.next(octets_max) else {
                break;
            };
            self.event(event);
        }
    }

    fn spec(&self) -> Option<&'static Spec> {
        self.running.as_ref().map(|running| running.spec)
    }

    fn command_octets_max(&self) -> usize {
        if self.is_logged_in() {
            self.config.limits.command_octets_max
        } else {
            self.config.limits.command_octets_login_max
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Command(text) => match self.take_step() {
                Some(step) => step.line(self, &text),
                None => self.command(&text),
            },
            Event::Literal(literal) => self.literal(literal),
            Event::TooLong(head) => self.too_long(&head),
            Event::Chunk(octets) => self.chunk(octets),
            Event::MessageEnd => {}
        }
    }

    fn take_step(&mut self) -> Option<Box<dyn Step>> {
        self.running.as_mut()?.step.take()
    }

    fn chunk(&mut self, octets: Bytes) {
        if let Some(step) = self.take_step() {
            step.chunk(self, octets);
        }
    }

    /// A line that cannot be what the command in progress waits for: the command is over.
    fn abandon(&mut self, text: &str) {
        if let Some(step) = self.take_step() {
            step.abandoned(self);
        }
        self.bad(text);
    }

    fn abandon_for(&mut self, code: &str, text: &str) {
        if let Some(step) = self.take_step() {
            step.abandoned(self);
        }
        self.complete("BAD", Some(code), text);
    }

    fn too_long(&mut self, head: &[u8]) {
        if self.running.is_none() {
            self.begin_refused(head);
        }
        self.abandon("The command is too long");
    }

    /// A literal is announced: refused, taken as part of the command, or as a message.
    fn literal(&mut self, literal: Literal) {
        if !literal.sync && literal.octets > self.config.limits.discard_octets_max {
            return self.bye("[TOOBIG] The literal is too big");
        }
        let begun = self.running.is_some();
        if !begun && !self.begin_announcing(literal) {
            return self.reader.refuse(literal);
        }
        if !literal.sync && literal.octets > self.config.limits.unasked_octets_max {
            self.reader.refuse(literal);
            return self.abandon_for("TOOBIG", "The literal needs leave to come");
        }
        if begun {
            match self.take_step() {
                Some(step) => step.literal(self, literal),
                None => self.reader.refuse(literal),
            }
        } else if self.spec().is_some_and(|spec| spec.takes_message) {
            command::append::begin(self, literal);
        } else if self.accept_literal(literal, self.command_octets_max()) {
            // Only now is it known that the command goes on; it begins anew when all of it is there.
            self.running = None;
        }
    }

    /// Makes an announced literal part of the command, which may have `octets_max` with it. Where it is too big, the
    /// command is answered.
    pub(crate) fn accept_literal(&mut self, literal: Literal, octets_max: usize) -> bool {
        if Reader::octets_with(literal) > octets_max as u64 {
            self.reader.refuse(literal);
            self.complete("BAD", Some("TOOBIG"), "The literal is too big");
            return false;
        }
        self.reader.accept(literal);
        if literal.sync {
            self.text().put_slice(b"+ Go on\r\n");
        }
        true
    }

    /// Begins a command of which all is there up to a literal. Only its front is looked at.
    fn begin_announcing(&mut self, literal: Literal) -> bool {
        let octets_max = self.config.limits.tag_octets_max + NAME_OCTETS_MAX;
        let text = self.reader.before(literal);
        let front = Bytes::copy_from_slice(text.get(..octets_max).unwrap_or(text));
        self.begin(&front)
    }
}

/// Commands.
impl Session {
    fn command(&mut self, text: &[u8]) {
        if !self.begin(text) {
            return;
        }
        let Some(spec) = self.spec() else {
            return;
        };
        let config = self.config();
        let mut parser = Parser::new(text, &config.limits).with_utf8(self.enabled.utf8());
        let parsed = parser
            .tag()
            .and_then(|_| parser.space())
            .and_then(|()| command::parse_name(&mut parser))
            .and_then(|_| (spec.parse)(&mut parser));
        match parsed {
            Ok(command) => self.run(command),
            Err(error) => self.reject(error),
        }
    }

    /// Reads tag and name, and begins the command if it is allowed now; else answers that it is not.
    fn begin(&mut self, text: &[u8]) -> bool {
        let config = self.config();
        let mut parser = Parser::new(text, &config.limits);
        let Ok(tag) = parser.tag() else {
            self.text()
                .put_slice(b"* BAD A command begins with a tag\r\n");
            self.count_bad();
            return false;
        };
        let spec = match parser
            .space()
            .and_then(|()| command::parse_name(&mut parser))
        {
            Ok(spec) => spec,
            Err(error) => {
                self.answer_untimely(tag, &format!("BAD {error}"));
                return false;
            }
        };
        if let Err(text) = self.allows(spec) {
            self.answer_untimely(tag, text);
            return false;
        }
        self.running = Some(Running::new(tag, spec));
        true
    }

    /// Begins a command that can only be refused, so that its tag is known.
    fn begin_refused(&mut self, head: &[u8]) {
        let config = self.config();
        let mut parser = Parser::new(head, &config.limits);
        let tag = parser.tag().ok().filter(|_| parser.peek() == Some(b' '));
        let tag = tag.unwrap_or("*");
        self.running = command::TABLE.first().map(|spec| Running::new(tag, spec));
    }

    /// Answers a command that never began.
    fn answer_untimely(&mut self, tag: &str, text: &str) {
        write::display(self.text(), format_args!("{tag} {text}\r\n"));
        self.count_bad();
    }

    fn allows(&self, spec: &Spec) -> Result<(), &'static str> {
        match (spec.allowed, &self.state) {
            (Allowed::Always, _)
            | (Allowed::BeforeLogin, State::NotAuthenticated)
            | (Allowed::AfterLogin, State::Authenticated | State::Selected(_))
            | (Allowed::Selected, State::Selected(_)) => {}
            (Allowed::BeforeLogin, _) => return Err("BAD Already logged in"),
            (_, State::NotAuthenticated) => return Err("BAD Log in first"),
            (_, _) => return Err("BAD Select a mailbox first"),
        }
        if spec.is_numbered() && self.enabled.has(Extension::UidOnly) {
            return Err("BAD [UIDREQUIRED] Messages have no numbers in this session");
        }
        if spec.secret && !self.may_send_password() {
            return Err("NO [PRIVACYREQUIRED] Use TLS first");
        }
        Ok(())
    }

    fn run(&mut self, command: Command) {
        use crate::command as c;
        match command {
            Command::Capability => c::session::capability(self),
            Command::Noop => c::session::noop(self),
            Command::Check => c::session::check(self),
            Command::Logout => c::session::logout(self),
            Command::StartTls => c::session::start_tls(self),
            Command::Authenticate(command) => c::authenticate::run(self, command),
            Command::Login(command) => c::login::run(self, command),
            Command::Id(pairs) => c::id::run(self, pairs),
            Command::Enable(names) => c::enable::run(self, &names),
            Command::Namespace => c::namespace::run(self),
            Command::Select(command) => c::select::run(self, command),
            Command::Create {
                mailbox,
                special_use,
            } => c::mailbox::create(self, mailbox, special_use),
            Command::Notify(command) => c::notify::run(self, *command),
            Command::Delete(mailbox) => c::mailbox::delete(self, mailbox),
            Command::Rename { from, to } => c::mailbox::rename(self, from, to),
            Command::Subscribe(mailbox) => c::mailbox::subscribe(self, mailbox),
            Command::Unsubscribe(mailbox) => c::mailbox::unsubscribe(self, mailbox),
            Command::List(command) => c::list::run(self, command),
            Command::Status { mailbox, items } => c::status::run(self, mailbox, items),
            Command::Acl(ask) => c::acl::run(self, ask),
            Command::Quota(ask) => c::quota::run(self, ask),
            Command::GetMetadata(command) => c::metadata::get(self, command),
            Command::SetMetadata { mailbox, values } => c::metadata::set(self, mailbox, values),
            Command::Idle => c::idle::run(self),
            Command::Close => c::select::close(self, true),
            Command::Unselect => c::select::close(self, false),
            Command::Expunge(uids) => c::expunge::run(self, uids),
            Command::Search(command) => c::search::run(self, command),
            Command::MultiSearch(command) => c::multisearch::run(self, command),
            Command::UidBatches(command) => c::uidbatches::run(self, command),
            Command::Fetch(command) => c::fetch::run(self, command),
            Command::Store(command) => c::store::run(self, command),
            Command::Copy(command) => c::copy::run(self, command),
            Command::Compress(algorithm) => c::compress::run(self, &algorithm),
            Command::Unauthenticate => c::session::unauthenticate(self),
            Command::GenUrlAuth(urls) => c::urlauth::generate(self, urls),
            Command::UrlFetch(urls) => c::urlauth::fetch(self, urls),
            Command::ResetKey(command) => c::urlauth::reset(self, command),
            Command::Append(text) => c::append::run(self, *text),
        }
    }

    /// Answers a command that was not understood.
    pub(crate) fn reject(&mut self, error: ParseError) {
        match error {
            ParseError::Syntax(_) | ParseError::TooMany(_) => {
                let rfc = self.running.as_ref().map_or("", |running| running.spec.rfc);
                self.bad(&format!("{error} ({rfc})"));
            }
            ParseError::Name(_) => {
                self.refuse(&Refusal::new(RefusalKind::Cannot, error.to_string()))
            }
            ParseError::Charset => {
                let text = "The charset is not known, or the text is not in it";
                self.complete("NO", Some("BADCHARSET (US-ASCII UTF-8)"), text);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::Output;

    fn drain(session: &mut Session) -> usize {
        std::iter::from_fn(|| session.poll_output()).count()
    }

    #[test]
    fn a_session_that_idles_holds_no_buffers() {
        assert!(
            size_of::<Session>() <= 512,
            "{} octets",
            size_of::<Session>()
        );
        let now = Instant::now();
        let mut session = Session::new(Arc::new(Config::default()), Some(Channel::default()), now);
        session.handle(now, Input::Bytes(b"a LOGIN joe {6+}\r\nsecret\r\n"));
        assert_eq!(drain(&mut session), 2);
        session.handle(
            now,
            Input::Answer(Answer::Authentication(nightmail_sasl::Answer::Accepted {
                identity: "joe".into(),
            })),
        );
        session.handle(now, Input::Bytes(b"b IDLE\r\n"));
        assert!(drain(&mut session) > 0);
        assert_eq!(session.outputs.capacity() + session.reader.capacity(), 0);
    }

    #[test]
    fn a_client_that_does_not_read_is_not_read_from() {
        let now = Instant::now();
        let mut session = Session::new(Arc::new(Config::default()), Some(Channel::default()), now);
        let mut fed = 0;
        while session.wants_input() {
            session.handle(now, Input::Bytes(&b"a CAPABILITY\r\n".repeat(100)));
            fed += 100;
            assert!(fed < 10_000, "input stops");
        }
        let limits = Config::default().limits;
        assert!(session.outputs.octets() < limits.output_octets_high + 1024);
        let answered = std::iter::from_fn(|| session.poll_output())
            .map(|output| match output {
                Output::Send(text) => memchr::memmem::find_iter(&text, b"a OK").count(),
                other => panic!("{other:?}"),
            })
            .sum::<usize>();
        assert_eq!(
            answered, fed,
            "what waited is answered once output is drained"
        );
    }

    #[test]
    fn octets_wait_while_a_question_is_open_up_to_a_bound() {
        let now = Instant::now();
        let mut session = Session::new(Arc::new(Config::default()), Some(Channel::default()), now);
        session.handle(now, Input::Bytes(b"a LOGIN joe secret\r\n"));
        let mut held = 0;
        while session.wants_input() {
            session.handle(now, Input::Bytes(&[b'x'; 4096]));
            held += 4096;
        }
        assert_eq!(held, Config::default().limits.pipeline_octets_max);
    }
}
