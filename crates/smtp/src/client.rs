//! A sending session: to another site or a smarthost (RFC 5321), or to an LMTP server (RFC 2033).
//!
//! Owns one connection: greeting, hello, STARTTLS, AUTH, and one transaction after another. Says of each
//! recipient whether it is delivered, refused for now, or refused for good. The content comes with the
//! delivery, or is pulled from the driver in chunks.
//!
//! A driver loops: give what happened to [`Client::handle`], then carry out every [`Output`] of
//! [`Client::poll_output`], then wait for bytes or for the time of [`Client::poll_timeout`]. Each
//! [`Input::Deliver`] gets exactly one [`Output::Done`], also where the connection fails.

mod auth;
mod capabilities;
mod config;
mod hello;
mod io;
mod sending;
mod transaction;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::command::Command;
use crate::reply::{Reply, ReplyReader};
use crate::tls::TlsFacts;

pub use capabilities::Capabilities;
pub use config::{Config, Login, Protocol, Timeouts, TlsPolicy};
pub use io::{
    Delivery, Failure, FailureKind, Fate, Input, Outcome, Output, Recipient, Refusal, Stage,
};

use auth::AuthStep;
use transaction::Transaction;

/// What the session waits for.
#[derive(Debug)]
enum Phase {
    Greeting,
    /// The reply to EHLO or LHLO.
    Ehlo,
    /// The reply to HELO, after EHLO was not understood.
    Helo,
    /// The reply to STARTTLS.
    StartTls,
    /// The driver's TLS handshake.
    Handshake,
    Auth(AuthStep),
    /// A delivery.
    Idle,
    Transaction(Box<Transaction>),
    /// The reply to QUIT.
    Quitting,
    Closed,
}

/// One sending session.
#[derive(Debug)]
pub struct Client {
    config: Arc<Config>,
    phase: Phase,
    reader: ReplyReader,
    capabilities: Capabilities,
    tls: Option<TlsFacts>,
    /// A delivery given before the session was ready for it.
    queued: Option<Box<Delivery>>,
    quit_wanted: bool,
    /// The server still has a transaction open that is over for us: RSET goes before the next.
    stale: bool,
    outputs: VecDeque<Output>,
    now: Instant,
    deadline: Option<Instant>,
}

impl Client {
    /// Starts a session on a connection just made. `tls` tells of TLS that is there from the start.
    pub fn new(config: Arc<Config>, now: Instant, tls: Option<TlsFacts>) -> Self {
        let greeting = config.timeouts.greeting;
        Self {
            config,
            phase: Phase::Greeting,
            reader: ReplyReader::default(),
            capabilities: Capabilities::default(),
            tls,
            queued: None,
            quit_wanted: false,
            stale: false,
            outputs: VecDeque::new(),
            now,
            deadline: Some(now + greeting),
        }
    }

    /// Takes one thing that happened at `now`.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        match input {
            Input::Bytes(bytes) => self.receive(bytes),
            Input::Deliver(delivery) => self.deliver(delivery),
            Input::Body(chunk) => self.body(chunk),
            Input::BodyEnd => self.body_end(),
            Input::BodyFailed => self.body_failed(),
            Input::TlsEstablished(tls) => self.tls_established(tls),
            Input::TlsFailed => self.tls_failed(),
            Input::Timeout => self.expire(),
            Input::PeerClosed => self.peer_closed(),
            Input::Quit => self.quit(),
        }
    }

    /// The next thing to do, in order.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() {
            self.outputs = VecDeque::new();
        }
        output
    }

    /// When [`Input::Timeout`] is due.
    pub const fn poll_timeout(&self) -> Option<Instant> {
        self.deadline
    }

    /// What the server offered in its last EHLO or LHLO reply.
    pub const fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    /// TLS, where active.
    pub const fn tls(&self) -> Option<&TlsFacts> {
        self.tls.as_ref()
    }

    /// Whether a delivery given now would start at once.
    pub const fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Idle)
    }

    /// Whether the session is over.
    pub const fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    /// Octets of unfinished replies held.
    pub fn buffered(&self) -> usize {
        self.reader.buffered()
    }

    fn receive(&mut self, bytes: &[u8]) {
        if matches!(self.phase, Phase::Closed | Phase::Handshake) {
            return;
        }
        self.reader.push(bytes);
        while let Some(next) = self.reader.next_reply() {
            match next {
                Ok(reply) => self.take_reply(reply),
                Err(error) => self.fail(FailureKind::Malformed(error), None),
            }
            if matches!(self.phase, Phase::Closed | Phase::Handshake) {
                self.reader.clear();
                return;
            }
        }
    }

    fn take_reply(&mut self, reply: Reply) {
        match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Quitting => self.close(),
            Phase::Transaction(transaction) => self.transaction_reply(transaction, reply),
            _ if reply.closes() => self.fail(FailureKind::ClosedByPeer, Some(reply)),
            Phase::Greeting => self.greeting_reply(reply),
            Phase::Ehlo => self.ehlo_reply(reply),
            Phase::Helo => self.helo_reply(reply),
            Phase::StartTls => self.starttls_reply(reply),
            Phase::Auth(step) => self.auth_reply(step, reply),
            Phase::Idle => self.fail(FailureKind::Unexpected, Some(reply)),
            Phase::Handshake | Phase::Closed => {}
        }
    }

    /// The session can take a delivery: begins the one that waits, quits, or says so.
    fn ready(&mut self) {
        self.phase = Phase::Idle;
        self.wait(self.config.timeouts.idle);
        match self.queued.take() {
            Some(delivery) => self.begin(delivery),
            None if self.quit_wanted => self.quit(),
            None => self.outputs.push_back(Output::Ready),
        }
    }

    fn deliver(&mut self, delivery: Box<Delivery>) {
        match self.phase {
            Phase::Idle => self.begin(delivery),
            Phase::Closed | Phase::Quitting => self.undelivered(&delivery, None),
            _ => {
                if let Some(earlier) = self.queued.replace(delivery) {
                    self.undelivered(&earlier, None);
                }
            }
        }
    }

    fn quit(&mut self) {
        match self.phase {
            Phase::Idle => self.say_goodbye(),
            Phase::Quitting | Phase::Closed => {}
            _ => self.quit_wanted = true,
        }
    }

    fn expire(&mut self) {
        if self.deadline.is_none_or(|deadline| self.now < deadline) {
            return;
        }
        match self.phase {
            Phase::Closed => {}
            Phase::Quitting => self.close(),
            Phase::Idle => self.quit(),
            _ => self.fail(FailureKind::TimedOut, None),
        }
    }

    fn peer_closed(&mut self) {
        match self.phase {
            Phase::Closed => {}
            Phase::Quitting => self.close(),
            _ => self.fail(FailureKind::ClosedByPeer, None),
        }
    }

    /// Ends the session by a failure. Recipients not yet decided, of this delivery and of one that waits,
    /// are refused for now.
    fn fail(&mut self, kind: FailureKind, reply: Option<Reply>) {
        if let Phase::Transaction(transaction) = std::mem::replace(&mut self.phase, Phase::Closed) {
            self.abandon(*transaction, reply.clone());
        }
        if let Some(delivery) = self.queued.take() {
            self.undelivered(&delivery, reply.clone());
        }
        let says_goodbye = kind.leaves_in_step() && reply.as_ref().is_none_or(is_refusal);
        self.outputs
            .push_back(Output::Failed(Failure { kind, reply }));
        match says_goodbye {
            true => self.say_goodbye(),
            false => self.close(),
        }
    }

    /// Also after a refusal no client goes without QUIT (RFC 5321 §4.1.1.10).
    fn say_goodbye(&mut self) {
        self.send(&Command::Quit);
        self.phase = Phase::Quitting;
        self.wait(self.config.timeouts.quit);
    }

    fn close(&mut self) {
        self.phase = Phase::Closed;
        self.deadline = None;
        self.outputs.push_back(Output::Close);
    }

    /// Refuses all recipients of a delivery for now.
    fn undelivered(&mut self, delivery: &Delivery, reply: Option<Reply>) {
        let fate = Fate::connection_lost(reply);
        let recipients = delivery.recipients.iter().map(|_| fate.clone()).collect();
        self.outputs.push_back(Output::Done(Outcome {
            recipients,
            in_doubt: false,
        }));
    }

    fn send(&mut self, command: &Command) {
        self.send_line(&command.to_string());
    }

    fn send_line(&mut self, line: &str) {
        let line = Bytes::from(format!("{line}\r\n"));
        self.outputs.push_back(Output::Send(line));
    }

    fn wait(&mut self, time: Duration) {
        self.deadline = Some(self.now + time);
    }
}

/// Whether a reply refuses what it answers, and lets the session go on.
const fn is_refusal(reply: &Reply) -> bool {
    (reply.is_temporary() || reply.is_permanent()) && !reply.closes()
}
