//! The greeting, EHLO and HELO (RFC 5321 §4.1.1.1), LHLO (RFC 2033 §4.1).
//!
//! The reply to EHLO names what this session does at this moment, and nothing else.

use super::{AuthOffer, Hello, Role, Server, TlsOffer};
use crate::command::HelloName;
use crate::replies;
use crate::sasl::Mechanism;

impl Server {
    pub(super) fn greet(&mut self) {
        let protocol = match self.config.role {
            Role::Lmtp => "LMTP",
            Role::Mta | Role::Msa => "ESMTP",
        };
        let text = format!("{} {protocol} {}", self.config.hostname, self.config.banner);
        self.reply(&replies::GREETING.with_text(text.trim_end()));
    }

    /// EHLO and LHLO. Starts the session anew, transaction included (RFC 5321 §4.1.4).
    pub(super) fn ehlo(&mut self, args: &[u8]) {
        if let Some(name) = self.hello(args, true) {
            let mut lines = vec![format!("{} Hello {name}", self.config.hostname)];
            lines.extend(self.extension_lines());
            self.reply(&replies::HELLO.with_text(lines.join("\n")));
        }
    }

    pub(super) fn helo(&mut self, args: &[u8]) {
        if let Some(name) = self.hello(args, false) {
            let text = format!("{} Hello {name}", self.config.hostname);
            self.reply(&replies::HELLO.with_text(text));
        }
    }

    /// Takes the name, or refuses it and leaves all as it was.
    fn hello(&mut self, args: &[u8], extended: bool) -> Option<String> {
        match HelloName::parse(args) {
            Ok(name) => {
                self.reset();
                let shown = name.as_str().to_owned();
                self.facts.hello = Some(Hello { name, extended });
                Some(shown)
            }
            Err(error) => {
                self.refuse_command(error);
                None
            }
        }
    }

    fn extension_lines(&self) -> Vec<String> {
        let offered = self.config.offered();
        let always = ["PIPELINING", "8BITMIME", "ENHANCEDSTATUSCODES"].map(|name| (true, name));
        let optional = [
            (offered.dsn, "DSN"),
            (offered.smtputf8, "SMTPUTF8"),
            (offered.chunking, "CHUNKING"),
            (offered.binarymime, "BINARYMIME"),
            (self.offers_tls(), "STARTTLS"),
        ];
        let mut lines = vec![format!("SIZE {}", self.config.limits.message_octets_max)];
        let named = always.into_iter().chain(optional);
        lines.extend(
            named
                .filter(|(done, _)| *done)
                .map(|(_, name)| name.to_owned()),
        );
        if self.may_authenticate() && self.facts.identity.is_none() {
            let names = Mechanism::ALL.map(Mechanism::as_str).join(" ");
            lines.push(format!("AUTH {names}"));
        }
        lines
    }

    pub(super) fn offers_tls(&self) -> bool {
        self.config.tls != TlsOffer::Off && self.facts.tls.is_none()
    }

    /// Whether a password may cross the network as things are.
    pub(super) fn may_authenticate(&self) -> bool {
        match self.config.auth {
            AuthOffer::Off => false,
            AuthOffer::OverTls => self.facts.tls.is_some(),
            AuthOffer::Always => true,
        }
    }
}
