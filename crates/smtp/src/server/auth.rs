//! AUTH (RFC 4954): a SASL exchange by challenge and response.
//!
//! Owns the lines of the exchange. The driver answers what the mechanism asks; a failure leaves the session as it was.

use super::line::Line;
use super::{Answer, Ask, Phase, Question, Server};
use crate::command::Auth;
use crate::replies;
use crate::reply::Reply;
use crate::sasl::{self, Exchange, Failure, Mechanism, MechanismSet, Step};

/// Which response is awaited.
#[derive(Debug)]
pub(super) enum Dialogue {
    /// The next one of the mechanism.
    Exchange(Box<Exchange>),
    /// The empty one that follows the server's last word; the peer has proven to be this.
    Last(Box<str>),
}

impl Server {
    /// The mechanisms that this session's channel can carry.
    pub(super) fn mechanisms(&self) -> MechanismSet {
        self.config.auth_mechanisms.over(&self.channel)
    }

    pub(super) fn auth(&mut self, args: &[u8]) {
        let auth = match Auth::parse(args) {
            Ok(auth) => auth,
            Err(error) => return self.refuse_command(error),
        };
        let offered = self.mechanisms();
        let mechanism = Mechanism::parse(&auth.mechanism).filter(|m| offered.contains(*m));
        let Some(mechanism) = mechanism else {
            return self.refuse(&replies::MECHANISM_UNKNOWN);
        };
        if !self.may_authenticate() {
            return self.refuse(&replies::ENCRYPTION_REQUIRED);
        }
        let initial = auth.initial.as_deref().map(sasl::decode_initial);
        if initial == Some(None) {
            return self.refuse(&replies::SASL_INVALID);
        }
        let mut exchange = Exchange::new(mechanism, offered, self.channel.clone());
        let step = exchange.start(initial.flatten().as_deref());
        self.sasl_next(Box::new(exchange), step);
    }

    pub(super) fn sasl_step(&mut self, dialogue: Dialogue, rest: &[u8]) -> usize {
        match Line::take(rest, self.config.limits.sasl_line_octets_max) {
            Line::Partial => {
                self.phase = Phase::Sasl(dialogue);
                0
            }
            Line::TooLong { octets, ended } => {
                self.too_long(replies::SASL_LINE_TOO_LONG, ended);
                octets
            }
            Line::Whole { text, octets, .. } => {
                self.rearm = true;
                match text {
                    b"*" => self.refuse(&replies::AUTH_CANCELLED),
                    response => self.respond(dialogue, response),
                }
                octets
            }
        }
    }

    fn respond(&mut self, dialogue: Dialogue, response: &[u8]) {
        let text = std::str::from_utf8(response).ok();
        match (dialogue, text.and_then(sasl::decode)) {
            (Dialogue::Exchange(mut exchange), Some(response)) => {
                let step = exchange.respond(&response);
                self.sasl_next(exchange, step);
            }
            (Dialogue::Last(identity), Some(response)) if response.is_empty() => {
                self.authenticated(identity);
            }
            _ => self.refuse(&replies::SASL_INVALID),
        }
    }

    fn sasl_next(&mut self, exchange: Box<Exchange>, step: Step) {
        match step {
            Step::Challenge(data) => self.challenge(&data, Dialogue::Exchange(exchange)),
            Step::Ask(question) => {
                self.ask(
                    Ask::Authenticate(question),
                    Question::Authenticate(exchange),
                );
            }
            Step::Succeeded {
                identity,
                data: None,
            } => self.authenticated(identity),
            Step::Succeeded {
                identity,
                data: Some(data),
            } => self.challenge(&data, Dialogue::Last(identity)),
            Step::Failed(Failure::Invalid) => self.refuse(&replies::SASL_INVALID),
            Step::Failed(Failure::Refused) => self.auth_failed(&replies::AUTH_FAILED),
            Step::Failed(Failure::Disabled) => self.auth_failed(&replies::ACCOUNT_DISABLED),
            Step::Failed(Failure::Unavailable) => self.auth_failed(&replies::AUTH_UNAVAILABLE),
        }
    }

    fn challenge(&mut self, data: &[u8], dialogue: Dialogue) {
        self.reply(&replies::CHALLENGE.with_text(sasl::encode(data)));
        self.phase = Phase::Sasl(dialogue);
    }

    pub(super) fn authenticate_answered(&mut self, mut exchange: Box<Exchange>, answer: Answer) {
        match answer {
            Answer::Authentication(answer) => {
                let step = exchange.answer(answer);
                self.sasl_next(exchange, step);
            }
            other => self.auth_failed(&Self::refusal(other)),
        }
    }

    fn authenticated(&mut self, identity: Box<str>) {
        self.facts.identity = Some(identity);
        self.reply(&replies::AUTHENTICATED);
    }

    fn auth_failed(&mut self, reply: &Reply) {
        self.counters.auth_failures += u32::from(reply.is_permanent());
        match self.counters.auth_failures >= self.config.limits.auth_failures_max {
            true => self.close_with(&replies::TOO_MANY_ERRORS),
            false => self.decline(reply),
        }
    }
}
