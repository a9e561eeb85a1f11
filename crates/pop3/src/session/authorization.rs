//! The AUTHORIZATION state (RFC 1939 §4): STLS, and logging in by USER and PASS or by AUTH.

use super::transaction::Transaction;
use super::{Session, State, Waiting};
use crate::io::{Ask, LoginRefusal, Maildrop, Output, Password};
use crate::replies::{self, Refusal};
use crate::sasl::{Exchange, MECHANISMS, Step};

/// How far logging in has come.
#[derive(Debug, Default)]
pub(super) struct Authorization {
    /// The name that USER gave.
    user: Option<Box<str>>,
    /// The AUTH exchange under way.
    exchange: Option<Exchange>,
}

impl Session {
    fn authorization(&mut self) -> Option<&mut Authorization> {
        match &mut self.state {
            State::Authorization(authorization) => Some(authorization),
            _ => None,
        }
    }

    /// Whether the next line belongs to an AUTH exchange.
    pub(super) fn is_authenticating(&self) -> bool {
        matches!(
            &self.state,
            State::Authorization(Authorization {
                exchange: Some(_),
                ..
            })
        )
    }

    /// RFC 1939 §7. Says nothing about whether the name is known.
    pub(crate) fn user(&mut self, args: &str) {
        let name = args.trim();
        if name.is_empty() || name.contains(['\0', ' ']) {
            return self.refuse(Refusal::Syntax);
        }
        if let Some(authorization) = self.authorization() {
            authorization.user = Some(name.into());
        }
        self.send(replies::ok("and the password?"));
    }

    /// RFC 1939 §7. Spaces belong to the password.
    pub(crate) fn pass(&mut self, args: &str) {
        let user = self.authorization().and_then(|state| state.user.take());
        let Some(identity) = user else {
            return self.refuse(Refusal::UserFirst);
        };
        if args.is_empty() || args.contains('\0') {
            return self.refuse(Refusal::Syntax);
        }
        self.ask_login(identity, Password::new(args));
    }

    /// RFC 5034 §4. Without arguments it lists the mechanisms, as clients older than CAPA expect.
    pub(crate) fn auth(&mut self, args: &str) {
        let mut words = args.split_ascii_whitespace();
        let (mechanism, initial) = (words.next(), words.next());
        let Some(mechanism) = mechanism else {
            let lines = MECHANISMS.map(String::from);
            return self.send(replies::multi_line("mechanisms follow", lines));
        };
        if words.next().is_some() {
            return self.refuse(Refusal::Syntax);
        }
        match (Exchange::start(mechanism), initial) {
            (None, _) => self.refuse(Refusal::NoMechanism),
            (Some(exchange), None) => self.challenge(exchange),
            (Some(exchange), Some("=")) => self.respond(exchange, ""),
            (Some(exchange), Some(initial)) => self.respond(exchange, initial),
        }
    }

    /// Takes a line of the exchange; `*` cancels it.
    pub(super) fn auth_response(&mut self, line: &str) {
        let exchange = self.authorization().and_then(|state| state.exchange.take());
        match exchange {
            Some(_) if line == "*" => self.refuse(Refusal::AuthCancelled),
            Some(exchange) => self.respond(exchange, line),
            None => {}
        }
    }

    fn challenge(&mut self, exchange: Exchange) {
        self.send(replies::challenge(&exchange.challenge()));
        if let Some(authorization) = self.authorization() {
            authorization.exchange = Some(exchange);
        }
    }

    fn respond(&mut self, exchange: Exchange, response: &str) {
        match exchange.respond(response) {
            Step::Challenge(exchange) => self.challenge(exchange),
            Step::Credentials(identity, password) => self.ask_login(identity, password),
            Step::Malformed => self.refuse(Refusal::AuthMalformed),
            Step::ActsAsOther => self.auth_failed(Refusal::ActsAsOther),
        }
    }

    fn ask_login(&mut self, identity: Box<str>, password: Password) {
        let ask = Ask::Login { identity, password };
        self.wait(Waiting::Login, Output::Ask(ask));
    }

    pub(super) fn logged_in(&mut self, maildrop: Maildrop) {
        self.waiting = None;
        let transaction = Transaction::new(maildrop);
        let (messages, octets) = transaction.totals();
        self.state = State::Transaction(transaction);
        self.send(replies::maildrop(messages, octets));
    }

    pub(super) fn login_refused(&mut self, refusal: LoginRefusal) {
        self.waiting = None;
        match refusal {
            LoginRefusal::Failed | LoginRefusal::Disabled => {
                self.auth_failed(Refusal::Login(refusal));
            }
            LoginRefusal::InUse | LoginRefusal::TempFail => {
                self.send(Refusal::Login(refusal).reply());
            }
        }
    }

    /// Counts a failed login. Too many of them end the session.
    fn auth_failed(&mut self, refusal: Refusal) {
        self.send(refusal.reply());
        self.auth_failures += 1;
        if self.auth_failures >= self.config.limits.auth_failures_max {
            self.close();
        }
    }

    /// RFC 2595 §4.
    pub(crate) fn stls(&mut self, args: &str) {
        if !args.trim().is_empty() {
            return self.refuse(Refusal::Syntax);
        }
        if self.is_tls {
            return self.refuse(Refusal::TlsActive);
        }
        if !self.offers_tls() {
            return self.refuse(Refusal::NoTls);
        }
        self.send(replies::ok("begin TLS"));
        self.buffer = Vec::new();
        self.wait(Waiting::Tls, Output::StartTls);
    }

    /// What was said without TLS is forgotten: an attacker may have said it.
    pub(super) fn tls_established(&mut self) {
        if self.waiting == Some(Waiting::Tls) {
            self.waiting = None;
            self.is_tls = true;
            self.buffer = Vec::new();
            self.skips_line = false;
            self.state = State::Authorization(Authorization::default());
        }
    }
}
