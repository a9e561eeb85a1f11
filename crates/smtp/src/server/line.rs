//! Command lines: from input to the handler of a verb.

use memchr::memchr;

use super::verbs::{self, Need};
use super::{AuthOffer, Phase, Role, Server, TlsOffer};
use crate::body::BareNewline;
use crate::command::{self, CommandError};
use crate::replies;
use crate::reply::Reply;

/// The front of the input, seen as a line.
pub(super) enum Line<'a> {
    /// A line without its end, and the octets it took.
    Whole {
        text: &'a [u8],
        octets: usize,
        bare_lf: bool,
    },
    /// No line end yet.
    Partial,
    /// Over the limit: octets to drop, and whether its end is among them.
    TooLong { octets: usize, ended: bool },
}

impl<'a> Line<'a> {
    pub(super) fn take(input: &'a [u8], octets_max: usize) -> Self {
        let Some((text, _)) = memchr(b'\n', input).and_then(|end| input.split_at_checked(end))
        else {
            return match input.len() > octets_max {
                true => Self::TooLong {
                    octets: input.len(),
                    ended: false,
                },
                false => Self::Partial,
            };
        };
        let octets = text.len() + 1;
        if octets > octets_max {
            return Self::TooLong {
                octets,
                ended: true,
            };
        }
        let stripped = text.strip_suffix(b"\r");
        Self::Whole {
            text: stripped.unwrap_or(text),
            octets,
            bare_lf: stripped.is_none(),
        }
    }
}

impl Server {
    pub(super) fn command_step(&mut self, rest: &[u8]) -> usize {
        if self.draining && !self.has_chunks() {
            return 0;
        }
        let limits = &self.config.limits;
        let is_auth = rest
            .get(..5)
            .is_some_and(|verb| verb.eq_ignore_ascii_case(b"AUTH "));
        let octets_max = match is_auth {
            true => limits.sasl_line_octets_max,
            false => limits.command_line_octets_max,
        };
        match Line::take(rest, octets_max) {
            Line::Partial => 0,
            Line::TooLong { octets, ended } => {
                self.too_long(replies::LINE_TOO_LONG, ended);
                octets
            }
            Line::Whole {
                text,
                octets,
                bare_lf,
            } => {
                self.rearm = true;
                self.facts.pipelined_early |= rest.len() > octets && !self.may_pipeline();
                match bare_lf && self.config.bare_newline != BareNewline::Normalize {
                    true => self.refuse(&replies::LINE_INVALID),
                    false => self.command(text),
                }
                octets
            }
        }
    }

    /// Answers a line that is too long, now or once its end has come.
    pub(super) fn too_long(&mut self, reply: Reply, ended: bool) {
        match ended {
            true => self.refuse(&reply),
            false => self.phase = Phase::SkipLine(Box::new(reply)),
        }
    }

    pub(super) fn skip_step(&mut self, reply: Reply, rest: &[u8]) -> usize {
        match memchr(b'\n', rest) {
            Some(end) => {
                self.rearm = true;
                self.refuse(&reply);
                end + 1
            }
            None => {
                self.phase = Phase::SkipLine(Box::new(reply));
                rest.len()
            }
        }
    }

    /// Whether the peer may send commands ahead (RFC 2920): after the reply to EHLO.
    pub(super) const fn may_pipeline(&self) -> bool {
        matches!(&self.facts.hello, Some(hello) if hello.extended)
    }

    fn command(&mut self, line: &[u8]) {
        if self.now >= self.session_ends {
            return self.close_with(&replies::TIMED_OUT);
        }
        let (verb, args) = match command::split_verb(line) {
            Ok(parts) => parts,
            Err(error) => return self.refuse_command(error),
        };
        let Some(verb) = verbs::find(verb, self.config.role) else {
            return self.refuse(&replies::UNKNOWN_COMMAND);
        };
        if let Some(reply) = self.unmet(verb.needs) {
            return self.refuse(&reply);
        }
        if verb.idle && self.is_too_idle() {
            return self.close_with(&replies::TOO_MANY_COMMANDS);
        }
        (verb.handler)(self, args);
    }

    pub(super) fn refuse_command(&mut self, error: CommandError) {
        self.refuse(&replies::for_command_error(error));
    }

    pub(super) fn is_too_idle(&mut self) -> bool {
        self.counters.idle_commands += 1;
        self.counters.idle_commands > self.config.limits.idle_commands_max
    }

    /// The reply for the first need that is not met.
    pub(super) fn unmet(&self, needs: &[Need]) -> Option<Reply> {
        let need = needs.iter().find(|need| !self.is_met(**need))?;
        Some(need.reply())
    }

    pub(super) fn is_met(&self, need: Need) -> bool {
        let open = self.transaction.as_deref();
        match need {
            Need::Tls => self.config.tls != TlsOffer::Required || self.facts.tls.is_some(),
            Need::Identity => !self.config.auth_required || self.facts.identity.is_some(),
            Need::Hello => self.facts.hello.is_some(),
            Need::AuthOffer => self.config.auth != AuthOffer::Off,
            Need::MailOffer => self.config.role != Role::Odmr,
            Need::EtrnOffer => self.offered().etrn,
            Need::AtrnOffer => self.config.role == Role::Odmr,
            Need::XclientOffer => self.welcome.xclient,
            Need::XforwardOffer => self.welcome.xforward,
            Need::NoIdentity => self.facts.identity.is_none(),
            Need::NoTransaction | Need::NoMail => open.is_none(),
            Need::Mail => open.is_some(),
            Need::Rcpt => open.is_some_and(|open| !open.envelope.recipients.is_empty()),
            Need::NoChunks => !self.has_chunks(),
        }
    }
}
