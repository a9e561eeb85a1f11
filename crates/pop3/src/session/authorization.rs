//! The AUTHORIZATION state (RFC 1939 §4): STLS, and logging in by USER and PASS or by AUTH.
//!
//! A login has two parts: who the client is, then its maildrop. The maildrop is opened only when nothing can fail any
//! more on the side of the client.

use nightmail_sasl::{
    self as sasl, Channel, Exchange, Failure, Mechanism, Password, Question, decode,
    decode_initial, encode,
};

use super::transaction::Transaction;
use super::{Session, State, Waiting};
use crate::io::{Ask, LoginRefusal, Maildrop, Output};
use crate::replies::{self, Refusal};

/// How far logging in has come.
#[derive(Debug, Default)]
pub(super) struct Authorization {
    /// The name that USER gave.
    user: Option<Box<str>>,
    /// The login under way.
    login: Option<Login>,
}

/// What a login under way waits for.
#[derive(Debug)]
enum Login {
    /// The driver's word about PASS.
    Password,
    /// The client's response.
    Response(Box<Exchange>),
    /// The driver's word about that.
    Word(Box<Exchange>),
    /// The client's empty response to the mechanism's last message.
    Confirmation,
    /// The maildrop.
    Maildrop,
}

impl Session {
    fn authorization(&mut self) -> Option<&mut Authorization> {
        match &mut self.state {
            State::Authorization(authorization) => Some(authorization),
            _ => None,
        }
    }

    fn take_login(&mut self) -> Option<Login> {
        self.authorization().and_then(|state| state.login.take())
    }

    fn set_login(&mut self, login: Login) {
        if let Some(authorization) = self.authorization() {
            authorization.login = Some(login);
        }
    }

    /// Whether the next line belongs to an AUTH exchange.
    pub(super) fn is_authenticating(&self) -> bool {
        matches!(
            &self.state,
            State::Authorization(Authorization {
                login: Some(Login::Response(_) | Login::Confirmation),
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
        let question = Question::Password {
            identity,
            password: Password::new(args),
            authorization: None,
        };
        self.ask(Login::Password, Ask::Authenticate(question));
    }

    /// RFC 5034 §4. Without arguments it lists the mechanisms, as clients older than CAPA expect.
    pub(crate) fn auth(&mut self, args: &str) {
        let mut words = args.split_ascii_whitespace();
        let (mechanism, initial) = (words.next(), words.next());
        let Some(mechanism) = mechanism else {
            let name = |mechanism: Mechanism| mechanism.as_str().to_owned();
            let lines: Vec<_> = self.mechanisms().iter().map(name).collect();
            return self.send(replies::multi_line("mechanisms follow", lines));
        };
        if words.next().is_some() {
            return self.refuse(Refusal::Syntax);
        }
        let offered = self.mechanisms();
        let mechanism = Mechanism::parse(mechanism).filter(|known| offered.contains(*known));
        let Some(mechanism) = mechanism else {
            return self.refuse(Refusal::NoMechanism);
        };
        let channel = self.channel.clone().unwrap_or_default();
        let mut exchange = Box::new(Exchange::new(mechanism, offered, channel));
        let step = match initial.map(decode_initial) {
            None => exchange.start(None),
            Some(Some(initial)) => exchange.start(Some(&initial)),
            Some(None) => return self.refuse(Refusal::AuthMalformed),
        };
        self.go_on(exchange, step);
    }

    /// Takes a line of the exchange; `*` cancels it.
    pub(super) fn auth_response(&mut self, line: &str) {
        let login = self.take_login();
        match (login, line) {
            (Some(_), "*") => self.refuse(Refusal::AuthCancelled),
            (Some(Login::Response(mut exchange)), line) => match decode(line) {
                Some(response) => {
                    let step = exchange.respond(&response);
                    self.go_on(exchange, step);
                }
                None => self.refuse(Refusal::AuthMalformed),
            },
            (Some(Login::Confirmation), "") => self.open(),
            _ => self.refuse(Refusal::AuthMalformed),
        }
    }

    fn go_on(&mut self, exchange: Box<Exchange>, step: sasl::Step) {
        match step {
            sasl::Step::Challenge(challenge) => {
                self.send(replies::challenge(&encode(&challenge)));
                self.set_login(Login::Response(exchange));
            }
            sasl::Step::Ask(question) => {
                self.ask(Login::Word(exchange), Ask::Authenticate(question));
            }
            sasl::Step::Succeeded { data: None, .. } => self.open(),
            // The final reply carries no data: it goes as a challenge, which the client answers with nothing.
            sasl::Step::Succeeded {
                data: Some(data), ..
            } => {
                self.send(replies::challenge(&encode(&data)));
                self.set_login(Login::Confirmation);
            }
            sasl::Step::Failed(failure) => self.fail(failure),
        }
    }

    fn ask(&mut self, login: Login, ask: Ask) {
        self.set_login(login);
        self.wait(Waiting::Login, Output::Ask(ask));
    }

    fn open(&mut self) {
        self.ask(Login::Maildrop, Ask::Open);
    }

    /// The driver's word about who the client is.
    pub(super) fn authenticated(&mut self, answer: sasl::Answer) {
        self.waiting = None;
        match (self.take_login(), answer) {
            (Some(Login::Word(mut exchange)), answer) => {
                let step = exchange.answer(answer);
                self.go_on(exchange, step);
            }
            (Some(Login::Password), sasl::Answer::Accepted { .. }) => self.open(),
            (Some(Login::Password), sasl::Answer::Refused) => self.fail(Failure::Refused),
            (Some(Login::Password), sasl::Answer::Disabled) => self.fail(Failure::Disabled),
            _ => self.fail(Failure::Unavailable),
        }
    }

    fn fail(&mut self, failure: Failure) {
        match failure {
            Failure::Invalid => self.refuse(Refusal::AuthMalformed),
            Failure::Refused => self.login_refused(LoginRefusal::Failed),
            Failure::Unavailable => self.login_refused(LoginRefusal::TempFail),
            Failure::Disabled => self.login_refused(LoginRefusal::Disabled),
        }
    }

    pub(super) fn opened(&mut self, maildrop: Maildrop) {
        if !matches!(self.take_login(), Some(Login::Maildrop)) {
            return self.login_refused(LoginRefusal::TempFail);
        }
        self.waiting = None;
        let transaction = Transaction::new(maildrop);
        let (messages, octets) = transaction.totals();
        self.state = State::Transaction(transaction);
        self.send(replies::maildrop(messages, octets));
    }

    pub(super) fn login_refused(&mut self, refusal: LoginRefusal) {
        self.waiting = None;
        self.take_login();
        match refusal {
            LoginRefusal::Failed | LoginRefusal::Disabled => {
                self.auth_failed(Refusal::Login(refusal));
            }
            LoginRefusal::InUse | LoginRefusal::TooSoon | LoginRefusal::TempFail => {
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
    pub(super) fn tls_established(&mut self, channel: Channel) {
        if self.waiting == Some(Waiting::Tls) {
            self.waiting = None;
            self.is_tls = true;
            self.channel = Some(channel);
            self.buffer = Vec::new();
            self.skips_line = false;
            self.state = State::Authorization(Authorization::default());
        }
    }
}
