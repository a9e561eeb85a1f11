//! AUTH (RFC 4954) with PLAIN and LOGIN.
//!
//! Owns the exchange. The driver checks the credentials; a failure leaves the session as it was.

use super::line::Line;
use super::{Answer, Ask, Phase, Question, Server};
use crate::command::Auth;
use crate::replies;
use crate::sasl::{self, Exchange, Mechanism, Step};

impl Server {
    pub(super) fn auth(&mut self, args: &[u8]) {
        let auth = match Auth::parse(args) {
            Ok(auth) => auth,
            Err(error) => return self.refuse_command(error),
        };
        let Some(mechanism) = Mechanism::parse(&auth.mechanism) else {
            return self.refuse(&replies::MECHANISM_UNKNOWN);
        };
        if !self.may_authenticate() {
            return self.refuse(&replies::ENCRYPTION_REQUIRED);
        }
        let exchange = Exchange::start(mechanism);
        match auth.initial.as_deref() {
            None => self.challenge(exchange),
            Some("=") => self.respond(exchange, b""),
            Some(initial) => self.respond(exchange, initial.as_bytes()),
        }
    }

    pub(super) fn sasl_step(&mut self, exchange: Exchange, rest: &[u8]) -> usize {
        match Line::take(rest, self.config.limits.sasl_line_octets_max) {
            Line::Partial => {
                self.phase = Phase::Sasl(exchange);
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
                    response => self.respond(exchange, response),
                }
                octets
            }
        }
    }

    fn respond(&mut self, exchange: Exchange, response: &[u8]) {
        let step = sasl::decode(response).map_or(Step::Invalid, |octets| exchange.respond(&octets));
        match step {
            Step::Challenge(next) => self.challenge(next),
            Step::Done(credentials) => {
                self.ask(Ask::Authenticate(credentials), Question::Authenticate);
            }
            Step::Invalid => self.refuse(&replies::SASL_INVALID),
        }
    }

    fn challenge(&mut self, exchange: Exchange) {
        self.reply(&replies::CHALLENGE.with_text(exchange.challenge()));
        self.phase = Phase::Sasl(exchange);
    }

    pub(super) fn authenticate_answered(&mut self, answer: Answer) {
        match answer {
            Answer::Authenticated { identity } => {
                self.facts.identity = Some(identity);
                self.reply(&replies::AUTHENTICATED);
            }
            other => {
                let reply = Self::refusal(other);
                self.counters.auth_failures += u32::from(reply.is_permanent());
                match self.counters.auth_failures >= self.config.limits.auth_failures_max {
                    true => self.close_with(&replies::TOO_MANY_ERRORS),
                    false => self.decline(&reply),
                }
            }
        }
    }
}
