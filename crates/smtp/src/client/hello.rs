//! From the greeting to a session that can send mail: EHLO, HELO, STARTTLS.

use super::{Capabilities, Client, FailureKind, Output, Phase, Protocol, TlsPolicy};
use crate::command::Command;
use crate::reply::Reply;
use crate::tls::TlsFacts;

impl Client {
    pub(super) fn greeting_reply(&mut self, reply: Reply) {
        match reply.is_success() {
            true => self.say_hello(),
            false => self.fail(FailureKind::Greeting, Some(reply)),
        }
    }

    fn say_hello(&mut self) {
        let name = self.config.hello.clone();
        let hello = match self.config.protocol {
            Protocol::Smtp => Command::Ehlo(name),
            Protocol::Lmtp => Command::Lhlo(name),
        };
        self.send(&hello);
        self.phase = Phase::Ehlo;
        self.wait(self.config.timeouts.hello);
    }

    pub(super) fn ehlo_reply(&mut self, reply: Reply) {
        if reply.is_success() {
            self.capabilities = Capabilities::parse(&reply);
            return self.secure();
        }
        let plain_will_do = self.config.protocol == Protocol::Smtp
            && self.config.tls != TlsPolicy::Required
            && self.config.login.is_none();
        if reply.is_permanent() && plain_will_do {
            self.send(&Command::Helo(self.config.hello.clone()));
            self.phase = Phase::Helo;
            self.wait(self.config.timeouts.hello);
        } else {
            self.fail(FailureKind::Hello, Some(reply));
        }
    }

    pub(super) fn helo_reply(&mut self, reply: Reply) {
        match reply.is_success() {
            true => {
                self.capabilities = Capabilities::default();
                self.ready();
            }
            false => self.fail(FailureKind::Hello, Some(reply)),
        }
    }

    /// Goes on to STARTTLS where it is wanted.
    fn secure(&mut self) {
        let offered = self.capabilities.starttls;
        match (self.tls.is_some(), self.config.tls) {
            (true, _) | (false, TlsPolicy::Never) => self.authenticate(),
            (false, TlsPolicy::Opportunistic) if !offered => self.authenticate(),
            (false, TlsPolicy::Required) if !offered => {
                self.fail(FailureKind::TlsUnavailable, None);
            }
            (false, _) => {
                self.send(&Command::StartTls);
                self.phase = Phase::StartTls;
                self.wait(self.config.timeouts.hello);
            }
        }
    }

    pub(super) fn starttls_reply(&mut self, reply: Reply) {
        if reply.is_success() {
            self.outputs.push_back(Output::StartTls);
            self.phase = Phase::Handshake;
            self.wait(self.config.timeouts.handshake);
        } else if self.config.tls == TlsPolicy::Required {
            self.fail(FailureKind::TlsUnavailable, Some(reply));
        } else {
            self.authenticate();
        }
    }

    /// Nothing learnt in plain text is kept (RFC 3207 §4.2).
    pub(super) fn tls_established(&mut self, tls: TlsFacts) {
        if matches!(self.phase, Phase::Handshake) {
            self.tls = Some(tls);
            self.capabilities = Capabilities::default();
            self.say_hello();
        }
    }

    pub(super) fn tls_failed(&mut self) {
        if matches!(self.phase, Phase::Handshake) {
            self.fail(FailureKind::TlsFailed, None);
        }
    }
}
