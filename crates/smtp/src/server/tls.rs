//! STARTTLS (RFC 3207).
//!
//! **Invariant:** nothing that came in plain text after STARTTLS, and nothing learnt before it, outlives the
//! handshake.

use super::{Facts, Output, Phase, Server, TlsOffer};
use crate::command::no_arguments;
use crate::replies;
use crate::tls::TlsFacts;

impl Server {
    pub(super) fn starttls(&mut self, args: &[u8]) {
        if let Err(error) = no_arguments(args) {
            return self.refuse_command(error);
        }
        if self.facts.tls.is_some() {
            return self.refuse(&replies::TLS_ACTIVE);
        }
        if self.config.tls == TlsOffer::Off {
            return self.refuse(&replies::NOT_IMPLEMENTED);
        }
        if self.facts.hello.is_none() {
            return self.refuse(&replies::HELLO_FIRST);
        }
        self.reset();
        self.reply(&replies::TLS_READY);
        self.flush();
        self.outputs.push_back(Output::StartTls);
        self.phase = Phase::Handshake;
    }

    /// The peer starts over under TLS (RFC 3207 §4.2).
    pub(super) fn tls_established(&mut self, tls: TlsFacts) {
        if matches!(self.phase, Phase::Handshake) {
            self.facts = Facts {
                early_talker: self.facts.early_talker,
                pipelined_early: self.facts.pipelined_early,
                ..Facts::new(self.config.role, Some(tls))
            };
            self.phase = Phase::Command;
            self.rearm = true;
        }
    }
}
