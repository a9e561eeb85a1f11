//! The session: lines in, replies and questions out, one thing at a time.
//!
//! Owns the state and a bounded piece of pipelined input. While a question is open, a message is being sent or a
//! listing is being written, input waits.

mod authorization;
mod capability;
mod transaction;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nightmail_sasl::{Channel, MechanismSet};

use crate::command::Command;
use crate::config::Config;
use crate::io::{Answer, Input, Output};
use crate::replies::{self, Refusal};
use authorization::Authorization;
use transaction::Transaction;

/// A POP3 session on the side of the server.
#[derive(Debug)]
pub struct Session {
    config: Arc<Config>,
    /// The TLS connection.
    channel: Option<Channel>,
    is_tls: bool,
    state: State,
    waiting: Option<Waiting>,
    outputs: VecDeque<Output>,
    /// Input that is not yet handled.
    buffer: Vec<u8>,
    /// Whether the rest of an over-long line is being passed over.
    skips_line: bool,
    bad_commands: u32,
    auth_failures: u32,
    started: Instant,
    last_active: Instant,
    /// Whether the session ends once nothing is under way.
    is_ending: bool,
}

#[derive(Debug)]
enum State {
    Authorization(Authorization),
    Transaction(Transaction),
    Closed,
}

/// What the driver has under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Waiting {
    Login,
    Tls,
    Message,
    Update,
}

impl Session {
    /// A session with a client that just connected, which is greeted. `channel`: the TLS connection, where it is there
    /// already.
    pub fn new(config: Arc<Config>, now: Instant, channel: Option<Channel>) -> Self {
        let greeting = replies::ok(&format!("{} POP3 ready", config.hostname));
        Self {
            config,
            is_tls: channel.is_some(),
            channel,
            state: State::Authorization(Authorization::default()),
            waiting: None,
            outputs: VecDeque::from([Output::Send(greeting)]),
            buffer: Vec::new(),
            skips_line: false,
            bad_commands: 0,
            auth_failures: 0,
            started: now,
            last_active: now,
            is_ending: false,
        }
    }

    /// Takes what happened at `now`.
    pub fn handle(&mut self, now: Instant, input: Input<'_>) {
        if matches!(self.state, State::Closed) {
            return;
        }
        match input {
            Input::Bytes(bytes) => {
                self.last_active = now;
                self.buffer.extend_from_slice(bytes);
            }
            Input::Answer(answer) => {
                self.last_active = now;
                self.answer(answer);
            }
            Input::TlsEstablished(channel) => self.tls_established(channel),
            Input::Timeout => {
                if self.poll_timeout().is_some_and(|deadline| deadline <= now) {
                    self.close();
                }
            }
            Input::PeerClosed => self.close(),
            Input::Shutdown => self.is_ending = true,
        }
        self.advance();
    }

    /// What the driver is to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        if self.outputs.is_empty() {
            self.continue_listing();
            self.advance();
        }
        let output = self.outputs.pop_front();
        if self.outputs.is_empty() {
            self.outputs.shrink_to_fit();
        }
        output
    }

    /// When to hand in [`Input::Timeout`]. Never while the driver has something under way but TLS.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limits = &self.config.limits;
        match (&self.state, self.waiting) {
            (State::Closed, _) | (_, Some(Waiting::Login | Waiting::Message | Waiting::Update)) => {
                None
            }
            (State::Authorization(_), _) => Some(self.started + limits.login_timeout),
            (State::Transaction(_), _) => Some(self.last_active + limits.idle_timeout),
        }
    }

    /// Whether [`Input::Bytes`] may be handed in now.
    pub fn wants_input(&self) -> bool {
        !matches!(self.state, State::Closed)
            && self.waiting.is_none()
            && self.buffer.len() < self.config.limits.input_octets_max
    }

    /// Handles lines while nothing is under way and nothing waits to be sent.
    fn advance(&mut self) {
        while self.waiting.is_none() && self.outputs.is_empty() && !self.is_listing() {
            if matches!(self.state, State::Closed) {
                return;
            }
            if self.is_ending {
                self.close();
                return;
            }
            match self.next_line() {
                Some(Ok(line)) => self.line(&line),
                Some(Err(refusal)) => self.refuse(refusal),
                None => return,
            }
        }
    }

    /// Takes the next line out of the input, without its line end.
    fn next_line(&mut self) -> Option<Result<Vec<u8>, Refusal>> {
        let limit = self.line_limit();
        let Some(end) = memchr::memchr(b'\n', &self.buffer) else {
            if self.skips_line || self.buffer.len() > limit {
                self.skips_line = true;
                self.buffer = Vec::new();
            }
            return None;
        };
        let mut line: Vec<u8> = self.buffer.drain(..=end).collect();
        if self.buffer.is_empty() {
            self.buffer = Vec::new();
        }
        if std::mem::take(&mut self.skips_line) || line.len() > limit {
            return Some(Err(Refusal::LineTooLong));
        }
        line.pop();
        line.pop_if(|last| *last == b'\r');
        Some(Ok(line))
    }

    fn line_limit(&self) -> usize {
        let verb = self.buffer.get(..5).unwrap_or_default();
        if self.is_authenticating() || verb.eq_ignore_ascii_case(b"AUTH ") {
            self.config.limits.auth_line_octets_max
        } else {
            self.config.limits.line_octets_max
        }
    }

    fn line(&mut self, line: &[u8]) {
        let Ok(line) = std::str::from_utf8(line) else {
            return self.refuse(Refusal::Syntax);
        };
        if self.is_authenticating() {
            return self.auth_response(line);
        }
        let (verb, args) = line.split_once(' ').unwrap_or((line, ""));
        let is_transaction = matches!(self.state, State::Transaction(_));
        match Command::find(verb) {
            None => self.refuse(Refusal::UnknownCommand),
            Some(command) if !command.states.allow(is_transaction) => {
                self.refuse(Refusal::WrongState);
            }
            Some(command) if command.needs_tls && !self.may_log_in() => {
                self.refuse(Refusal::NeedsTls);
            }
            Some(command) => (command.handler)(self, args),
        }
    }

    fn answer(&mut self, answer: Answer) {
        match (self.waiting, answer) {
            (Some(Waiting::Login), Answer::Authentication(answer)) => self.authenticated(answer),
            (Some(Waiting::Login), Answer::Opened(maildrop)) => self.opened(maildrop),
            (Some(Waiting::Login), Answer::Refused(refusal)) => self.login_refused(refusal),
            (Some(Waiting::Message), Answer::Sent) => self.waiting = None,
            (Some(Waiting::Message), Answer::Unavailable) => {
                self.waiting = None;
                self.send(Refusal::MessageUnavailable.reply());
            }
            (Some(Waiting::Update), Answer::Updated) => self.bid_farewell(),
            (Some(Waiting::Update), Answer::UpdateFailed) => {
                self.send(Refusal::UpdateFailed.reply());
                self.close();
            }
            _ => {}
        }
    }

    /// Ends the session with a good word.
    fn bid_farewell(&mut self) {
        self.send(replies::ok("bye"));
        self.close();
    }

    fn send(&mut self, bytes: Bytes) {
        self.outputs.push_back(Output::Send(bytes));
    }

    /// Hands the driver something to do and waits for it.
    fn wait(&mut self, waiting: Waiting, output: Output) {
        self.waiting = Some(waiting);
        self.outputs.push_back(output);
    }

    /// Refuses a command. Too many of them end the session.
    fn refuse(&mut self, refusal: Refusal) {
        self.bad_commands += 1;
        if self.bad_commands >= self.config.limits.bad_commands_max {
            self.send(Refusal::TooManyErrors.reply());
            return self.close();
        }
        self.send(refusal.reply());
    }

    fn close(&mut self) {
        self.state = State::Closed;
        self.waiting = None;
        self.buffer = Vec::new();
        self.outputs.push_back(Output::Close);
    }

    /// Whether passwords may be sent over this connection.
    fn may_log_in(&self) -> bool {
        self.is_tls || self.config.plaintext_login
    }

    /// The mechanisms that AUTH takes on this connection.
    fn mechanisms(&self) -> MechanismSet {
        if !self.may_log_in() {
            return MechanismSet::EMPTY;
        }
        let channel = self.channel.clone().unwrap_or_default();
        self.config.mechanisms.over(&channel)
    }

    fn offers_tls(&self) -> bool {
        self.config.starttls && !self.is_tls && matches!(self.state, State::Authorization(_))
    }

    /// RFC 1939 §4 and §6: only here are messages removed.
    pub(crate) fn quit(&mut self, args: &str) {
        if !args.trim().is_empty() {
            return self.refuse(Refusal::Syntax);
        }
        match &self.state {
            State::Transaction(_) => self.update(),
            _ => self.bid_farewell(),
        }
    }
}
