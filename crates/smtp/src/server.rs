//! A receiving session: MTA (RFC 5321), MSA (RFC 6409), LMTP server (RFC 2033), or provider of on-demand relay
//! (RFC 2645).
//!
//! Owns what the session knows (hello, TLS, identity), the mail transaction, and the order of replies. Asks
//! the driver whatever needs a lookup, one question at a time; input that comes meanwhile waits. Message
//! content passes through in chunks and is never kept.
//!
//! A driver loops: give what happened to [`Server::handle`], then carry out every [`Output`] of
//! [`Server::poll_output`], then wait for input (while [`Server::wants_input`]), for the answer it owes, or
//! for the time of [`Server::poll_timeout`].

mod auth;
mod chunk;
mod config;
mod connect;
mod data;
mod hello;
mod io;
mod line;
mod mail;
mod other;
mod rcpt;
mod recipients;
mod tls;
mod verbs;

use std::collections::VecDeque;
use std::mem;
use std::sync::Arc;
use std::time::Instant;

use bytes::{Buf, BytesMut};
use nightmail_core::Timestamp;

use crate::command::XAttribute;
use crate::replies;
use crate::reply::Reply;
use crate::sasl::{Channel, Exchange};
use crate::tls::TlsFacts;

pub use config::{AuthOffer, Config, Limits, Role, TlsOffer};
pub use io::{Answer, Ask, EndOfMessage, Envelope, Facts, Hello, Input, Output, Welcome};
pub use recipients::Recipients;

use auth::Dialogue;
use chunk::{Chunk, Drain};
use data::Incoming;

/// Octets of replies after which they are sent although more commands wait.
const REPLY_BATCH_OCTETS: usize = 4 * 1024;

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    /// A command line.
    Command,
    /// The end of a line that is too long; then this reply.
    SkipLine(Box<Reply>),
    /// A SASL response.
    Sasl(Dialogue),
    /// Message data up to the lone dot.
    Data(Box<Incoming>),
    /// The octets of a BDAT chunk.
    Chunk(Box<Chunk>),
    /// The octets of a refused BDAT chunk.
    Drain(Box<Drain>),
    /// The driver's answer.
    Asked(Question),
    /// The driver's TLS handshake.
    Handshake,
    /// Nothing.
    Closed,
}

/// What the outstanding answer is for.
#[derive(Debug)]
enum Question {
    Connect,
    Hello(Box<Hello>),
    Authenticate(Box<Exchange>),
    Mail(Box<crate::Mail>),
    Recipient(Box<crate::Rcpt>),
    BeginData,
    BeginChunk(crate::command::Bdat),
    EndOfMessage { recipients: usize },
    Verify,
    Etrn,
    Atrn,
    Xclient(Vec<XAttribute>),
    Xforward,
}

/// A mail transaction from an accepted MAIL on.
#[derive(Debug)]
struct Transaction {
    envelope: Envelope,
    mail_octets: usize,
    /// Where BDAT stands, once it has begun.
    chunks: Option<Box<Incoming>>,
}

impl Transaction {
    /// Octets that the envelope takes.
    const fn octets(&self) -> usize {
        self.mail_octets + self.envelope.recipients.octets()
    }
}

#[derive(Debug, Default)]
struct Counters {
    errors: u32,
    recipients_refused: u32,
    auth_failures: u32,
    idle_commands: u32,
    transactions: u32,
}

/// One receiving session.
#[derive(Debug)]
pub struct Server {
    config: Arc<Config>,
    facts: Facts,
    /// What the driver knows of the channel, for SASL.
    channel: Channel,
    welcome: Welcome,
    /// A moment, and what the time of day was then.
    clock: Option<(Instant, Timestamp)>,
    phase: Phase,
    transaction: Option<Box<Transaction>>,
    counters: Counters,
    /// Input that waits for an answer, or for the rest of its line.
    pending: BytesMut,
    /// Replies not yet in `outputs`.
    replies: BytesMut,
    outputs: VecDeque<Output>,
    now: Instant,
    deadline: Option<Instant>,
    session_ends: Instant,
    /// The wait of the present phase starts anew.
    rearm: bool,
    /// The driver has a body open that neither ended nor was discarded.
    body_open: bool,
    /// More replies are ready than are sent at once: input waits until they are taken.
    paused: bool,
    draining: bool,
    peer_closed: bool,
}

impl Server {
    /// Starts a session: its first output is [`Ask::Connect`]. `tls` tells of TLS that is there from the start
    /// (RFC 8314).
    pub fn new(config: Arc<Config>, now: Instant, tls: Option<TlsFacts>) -> Self {
        let mut server = Self {
            facts: Facts::new(config.role, tls),
            channel: Channel::default(),
            welcome: Welcome::default(),
            clock: None,
            session_ends: now + config.limits.session_timeout,
            config,
            phase: Phase::Command,
            transaction: None,
            counters: Counters::default(),
            pending: BytesMut::new(),
            replies: BytesMut::new(),
            outputs: VecDeque::new(),
            now,
            deadline: None,
            rearm: true,
            body_open: false,
            paused: false,
            draining: false,
            peer_closed: false,
        };
        server.ask(Ask::Connect, Question::Connect);
        server.settle();
        server
    }

    /// Tells what SASL may bind to and whether the peer has shown a certificate: at the start where TLS is there from
    /// the start, otherwise before [`Input::TlsEstablished`].
    pub fn set_channel(&mut self, channel: Channel) {
        self.channel = channel;
    }

    /// Tells the time of day. FUTURERELEASE (RFC 4865) is offered only by a session that knows it.
    pub const fn set_clock(&mut self, time: Timestamp) {
        self.clock = Some((self.now, time));
    }

    /// Takes one thing that happened at `now`. Bytes are used or copied before this returns.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        match input {
            Input::Bytes(bytes) => self.receive(bytes),
            Input::Answer(answer) => self.take_answer(answer),
            Input::TlsEstablished(tls) => self.tls_established(tls),
            Input::Timeout => self.expire(),
            Input::PeerClosed => self.peer_closed = true,
            Input::Shutdown => self.draining = true,
        }
        self.settle();
    }

    /// The next thing to do, in order. Replies to pipelined commands come together.
    pub fn poll_output(&mut self) -> Option<Output> {
        loop {
            if let Some(output) = self.outputs.pop_front() {
                return Some(output);
            }
            self.outputs = VecDeque::new();
            let more_replies_come =
                matches!(self.phase, Phase::Asked(_)) && !self.pending.is_empty();
            if !self.replies.is_empty() && !more_replies_come {
                return Some(Output::Send(mem::take(&mut self.replies).freeze()));
            }
            if !mem::take(&mut self.paused) {
                return None;
            }
            self.pump_pending();
            self.settle();
        }
    }

    /// When [`Input::Timeout`] is due; nothing while the driver owes an answer.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// Whether the driver should read on. Where it is false, what comes is better left to the kernel.
    pub fn wants_input(&self) -> bool {
        let open = !matches!(self.phase, Phase::Closed | Phase::Handshake) && !self.peer_closed;
        open && self.pending.len() < self.config.limits.pipeline_octets_max
    }

    /// What is known of the peer.
    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    /// The open transaction: from an accepted MAIL up to [`Ask::EndOfMessage`], which hands it over.
    pub fn envelope(&self) -> Option<&Envelope> {
        self.transaction.as_ref().map(|open| &open.envelope)
    }

    /// Whether the peer has spoken before the greeting.
    pub const fn has_spoken_early(&self) -> bool {
        self.facts.early_talker
    }

    /// Octets of input and replies held.
    pub fn buffered(&self) -> usize {
        let sends = self.outputs.iter().map(|output| match output {
            Output::Send(bytes) => bytes.len(),
            _ => 0,
        });
        self.pending.len() + self.replies.len() + sends.sum::<usize>()
    }

    /// Octets held in all, message content on its way to the driver aside: [`Self::buffered`] and the envelope.
    pub fn held(&self) -> usize {
        let envelope = self.transaction.as_ref().map_or(0, |open| open.octets());
        self.buffered() + envelope
    }

    /// Whether the session is over.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn receive(&mut self, bytes: &[u8]) {
        self.note_haste(bytes);
        if self.paused {
            self.keep(bytes);
        } else if self.pending.is_empty() {
            let used = self.pump(bytes);
            self.keep(bytes.get(used..).unwrap_or_default());
        } else {
            self.keep(bytes);
            self.pump_pending();
        }
    }

    /// Notes a peer that does not wait for what it must wait for.
    const fn note_haste(&mut self, bytes: &[u8]) {
        match self.phase {
            _ if bytes.is_empty() => {}
            Phase::Asked(Question::Connect) => self.facts.early_talker = true,
            Phase::Asked(_) if !self.may_pipeline() => self.facts.pipelined_early = true,
            _ => {}
        }
    }

    /// Input goes on from what waits, after an answer or more bytes.
    fn pump_pending(&mut self) {
        let mut waiting = mem::take(&mut self.pending);
        let used = self.pump(&waiting);
        waiting.advance(used);
        let keep = !waiting.is_empty() && !self.is_deaf();
        self.pending = if keep { waiting } else { BytesMut::new() };
    }

    fn keep(&mut self, rest: &[u8]) {
        if !self.is_deaf() {
            self.pending.extend_from_slice(rest);
        }
    }

    /// Plain text that comes around STARTTLS is dropped (RFC 3207 §4.2), and so is all after the end.
    const fn is_deaf(&self) -> bool {
        matches!(self.phase, Phase::Handshake | Phase::Closed)
    }

    /// Takes steps while the input lets it. Returns the octets used.
    fn pump(&mut self, input: &[u8]) -> usize {
        let mut used = 0;
        while let Some(rest) = input.get(used..).filter(|rest| !rest.is_empty()) {
            match self.step(rest) {
                0 => break,
                step => used += step,
            }
            if self.replies.len() > REPLY_BATCH_OCTETS {
                self.flush();
                self.paused = true;
                break;
            }
        }
        used
    }

    /// Takes one step and returns the octets used; none where it must wait.
    fn step(&mut self, rest: &[u8]) -> usize {
        match mem::replace(&mut self.phase, Phase::Command) {
            Phase::Command => self.command_step(rest),
            Phase::SkipLine(reply) => self.skip_step(*reply, rest),
            Phase::Sasl(dialogue) => self.sasl_step(dialogue, rest),
            Phase::Data(incoming) => self.data_step(incoming, rest),
            Phase::Chunk(chunk) => self.chunk_step(chunk, rest),
            Phase::Drain(drain) => self.drain_step(drain, rest),
            waiting @ (Phase::Asked(_) | Phase::Handshake | Phase::Closed) => {
                self.phase = waiting;
                0
            }
        }
    }

    /// Hands an answer to the question it is for; one that nothing waits for is dropped.
    fn take_answer(&mut self, answer: Answer) {
        match mem::replace(&mut self.phase, Phase::Command) {
            Phase::Asked(question) => {
                self.rearm = true;
                self.answered(question, answer);
                self.pump_pending();
            }
            other => self.phase = other,
        }
    }

    fn answered(&mut self, question: Question, answer: Answer) {
        match question {
            Question::Connect => self.connect_answered(answer),
            Question::Hello(hello) => self.hello_answered(*hello, answer),
            Question::Authenticate(exchange) => self.authenticate_answered(exchange, answer),
            Question::Mail(mail) => self.mail_answered(*mail, answer),
            Question::Recipient(rcpt) => self.recipient_answered(&rcpt, answer),
            Question::BeginData => self.begin_data_answered(answer),
            Question::BeginChunk(bdat) => self.begin_chunk_answered(bdat, answer),
            Question::EndOfMessage { recipients } => self.message_answered(recipients, answer),
            Question::Verify => self.verify_answered(answer),
            Question::Etrn => self.etrn_answered(answer),
            Question::Atrn => self.atrn_answered(answer),
            Question::Xclient(attributes) => self.xclient_answered(&attributes, answer),
            Question::Xforward => self.xforward_answered(answer),
        }
    }

    fn ask(&mut self, ask: Ask, question: Question) {
        self.outputs.push_back(Output::Ask(ask));
        self.phase = Phase::Asked(question);
    }

    /// Gives a reply.
    fn reply(&mut self, reply: &Reply) {
        reply.write(&mut self.replies);
    }

    /// Gives a reply to the peer's own error, or 421 after too many.
    fn refuse(&mut self, reply: &Reply) {
        self.counters.errors += 1;
        match self.counters.errors > self.config.limits.errors_max {
            true => self.close_with(&replies::TOO_MANY_ERRORS),
            false => self.decline(reply),
        }
    }

    /// Gives a refusal that the driver chose; 421 closes.
    fn decline(&mut self, reply: &Reply) {
        match reply.closes() {
            true => self.close_with(reply),
            false => self.reply(reply),
        }
    }

    /// Gives a refusal that the driver chose, counted where it is for good.
    fn decline_or_refuse(&mut self, reply: &Reply) {
        match reply.is_permanent() {
            true => self.refuse(reply),
            false => self.decline(reply),
        }
    }

    /// What a driver's refusal says; an answer of the wrong kind is our own failure.
    fn refusal(answer: Answer) -> Reply {
        match answer {
            Answer::Reject(reply) if reply.is_temporary() || reply.is_permanent() => reply,
            _ => replies::LOCAL_ERROR,
        }
    }

    fn close_with(&mut self, reply: &Reply) {
        self.reply(reply);
        self.close();
    }

    fn close(&mut self) {
        self.discard_body();
        self.flush();
        self.transaction = None;
        self.pending = BytesMut::new();
        self.outputs.push_back(Output::Close);
        self.phase = Phase::Closed;
    }

    fn discard_body(&mut self) {
        if mem::take(&mut self.body_open) {
            self.outputs.push_back(Output::DiscardBody);
        }
    }

    /// Ends the transaction, if any (RFC 5321 §4.1.1.5).
    fn reset(&mut self) {
        self.transaction = None;
        self.discard_body();
    }

    /// Whether a message sent by BDAT has begun and not ended.
    fn has_chunks(&self) -> bool {
        let open = self.transaction.as_ref();
        open.is_some_and(|open| open.chunks.is_some())
    }

    /// Puts the replies gathered so far in line with the other outputs.
    fn flush(&mut self) {
        if !self.replies.is_empty() {
            let replies = mem::take(&mut self.replies).freeze();
            self.outputs.push_back(Output::Send(replies));
        }
    }

    fn expire(&mut self) {
        if self.deadline.is_none_or(|deadline| self.now < deadline) {
            return;
        }
        match self.phase {
            Phase::Closed | Phase::Asked(_) => {}
            Phase::Handshake => self.close(),
            _ => self.close_with(&replies::TIMED_OUT),
        }
    }

    /// Closes where the end has come, and sets the time to wait.
    fn settle(&mut self) {
        let between = matches!(self.phase, Phase::Command | Phase::Sasl(_));
        if self.draining && between && !self.has_chunks() {
            self.close_with(&replies::SHUTTING_DOWN);
        }
        let busy = self.paused || matches!(self.phase, Phase::Asked(_) | Phase::Closed);
        if self.peer_closed && !busy {
            self.close();
        }
        let limits = &self.config.limits;
        let wait = match &self.phase {
            Phase::Asked(_) | Phase::Closed => {
                self.deadline = None;
                return;
            }
            Phase::Data(incoming) => incoming.patience(self.now, limits),
            Phase::Chunk(chunk) => chunk.patience(self.now, limits),
            Phase::Drain(_) => limits.data_timeout,
            Phase::Handshake => limits.handshake_timeout,
            Phase::Command | Phase::SkipLine(_) | Phase::Sasl(_) => limits.command_timeout,
        };
        if mem::take(&mut self.rearm) || self.deadline.is_none() {
            self.deadline = Some(self.now + wait);
        }
        if !matches!(self.phase, Phase::Data(_) | Phase::Chunk(_)) {
            self.deadline = self.deadline.map(|at| at.min(self.session_ends));
        }
    }
}
