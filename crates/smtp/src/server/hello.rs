//! The greeting, EHLO and HELO (RFC 5321 §4.1.1.1), LHLO (RFC 2033 §4.1).
//!
//! The reply to EHLO names what this session does at this moment, and nothing else.

use std::time::Duration;

use nightmail_core::Timestamp;

use super::verbs::Need;
use super::{Answer, Ask, AuthOffer, Config, Hello, Question, Role, Server, TlsOffer};
use crate::command::{Extensions, HelloName, XName, rfc3339};
use crate::replies;
use crate::sasl::Mechanism;

/// The largest limit that can be told (RFC 9422 §4).
const LIMIT_MAX: usize = 999_999;
/// The longest time for which a message can be asked to be held back, in seconds (RFC 4865 §4).
const HOLD_SECONDS_MAX: u64 = 999_999_999;

impl Server {
    pub(super) fn greet(&mut self) {
        let protocol = match self.config.role {
            Role::Lmtp => "LMTP",
            Role::Mta | Role::Msa | Role::Odmr => "ESMTP",
        };
        let text = format!("{} {protocol} {}", self.config.hostname, self.config.banner);
        self.reply(&replies::GREETING.with_text(text.trim_end()));
    }

    /// EHLO and LHLO.
    pub(super) fn ehlo(&mut self, args: &[u8]) {
        self.hello(args, true);
    }

    pub(super) fn helo(&mut self, args: &[u8]) {
        self.hello(args, false);
    }

    fn hello(&mut self, args: &[u8], extended: bool) {
        match HelloName::parse(args) {
            Ok(name) => {
                let hello = Hello { name, extended };
                self.ask(Ask::Hello(hello.clone()), Question::Hello(Box::new(hello)));
            }
            Err(error) => self.refuse_command(error),
        }
    }

    /// Starts the session anew, transaction included (RFC 5321 §4.1.4). A refusal leaves all as it was.
    pub(super) fn hello_answered(&mut self, hello: Hello, answer: Answer) {
        if answer != Answer::Accept {
            return self.decline_or_refuse(&Self::refusal(answer));
        }
        self.reset();
        let mut lines = vec![format!(
            "{} Hello {}",
            self.config.hostname,
            hello.name.as_str()
        )];
        if hello.extended {
            lines.extend(self.extension_lines());
        }
        self.facts.hello = Some(hello);
        self.reply(&replies::HELLO.with_text(lines.join("\n")));
    }

    /// The extensions done at this moment.
    pub(super) fn offered(&self) -> Extensions {
        let Config {
            role, extensions, ..
        } = &*self.config;
        if *role == Role::Odmr {
            return Extensions::AUTH_ONLY;
        }
        Extensions {
            auth: self.config.auth != AuthOffer::Off,
            binarymime: extensions.binarymime && extensions.chunking,
            etrn: extensions.etrn && *role == Role::Mta,
            requiretls: extensions.requiretls && self.facts.tls.is_some(),
            deliver_by: extensions.deliver_by.filter(|_| *role != Role::Lmtp),
            future_release: extensions
                .future_release
                .filter(|_| *role == Role::Msa && self.clock.is_some())
                .filter(|max| max.as_secs() > 0)
                .map(|max| max.min(Duration::from_secs(HOLD_SECONDS_MAX))),
            ..*extensions
        }
    }

    fn extension_lines(&self) -> Vec<String> {
        let offered = self.offered();
        let mail = self.is_met(Need::MailOffer);
        let named = [
            (true, "PIPELINING"),
            (mail, "8BITMIME"),
            (true, "ENHANCEDSTATUSCODES"),
            (offered.dsn, "DSN"),
            (offered.smtputf8, "SMTPUTF8"),
            (offered.chunking, "CHUNKING"),
            (offered.binarymime, "BINARYMIME"),
            (self.offers_tls(), "STARTTLS"),
            (offered.requiretls, "REQUIRETLS"),
            (offered.mt_priority, "MT-PRIORITY"),
            (offered.etrn, "ETRN"),
            (!mail, "ATRN"),
        ];
        let mut lines = Vec::new();
        if mail {
            lines.push(format!("SIZE {}", self.config.limits.message_octets_max));
        }
        let named = named.into_iter().filter(|(done, _)| *done);
        lines.extend(named.map(|(_, name)| name.to_owned()));
        lines.extend(self.valued_lines(&offered));
        let mechanisms = self.mechanisms();
        if self.may_authenticate() && self.facts.identity.is_none() && !mechanisms.is_empty() {
            lines.push(line("AUTH", mechanisms.iter().map(Mechanism::as_str)));
        }
        if self.welcome.xclient {
            lines.push(line("XCLIENT", XName::XCLIENT.map(XName::as_str)));
        }
        if self.welcome.xforward {
            lines.push(line("XFORWARD", XName::XFORWARD.map(XName::as_str)));
        }
        lines
    }

    /// The extensions that say how much of them there is.
    fn valued_lines(&self, offered: &Extensions) -> Vec<String> {
        let mut lines = Vec::new();
        match offered.deliver_by {
            Some(0) => lines.push("DELIVERBY".to_owned()),
            Some(seconds_min) => lines.push(format!("DELIVERBY {seconds_min}")),
            None => {}
        }
        if let Some((max, latest)) = offered.future_release.zip(self.latest_release()) {
            let latest = rfc3339(latest);
            lines.push(format!("FUTURERELEASE {} {latest}", max.as_secs()));
        }
        if offered.limits {
            let limits = &self.config.limits;
            let transactions = limits.transactions_max as usize;
            let told = [
                ("MAILMAX", transactions),
                ("RCPTMAX", limits.recipients_max),
            ]
            .map(|(name, limit)| format!("{name}={}", limit.clamp(1, LIMIT_MAX)));
            lines.push(format!("LIMITS {}", told.join(" ")));
        }
        lines
    }

    /// The latest time until which a message is held back (RFC 4865 §4).
    pub(super) fn latest_release(&self) -> Option<Timestamp> {
        let (at, time) = self.clock?;
        let passed = self.now.saturating_duration_since(at);
        let max = self.offered().future_release?;
        let millis = i64::try_from((passed + max).as_millis()).ok()?;
        Some(time.plus_millis(millis))
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

/// A keyword and its words.
fn line(keyword: &str, words: impl IntoIterator<Item = &'static str>) -> String {
    let words: Vec<&str> = words.into_iter().collect();
    format!("{keyword} {}", words.join(" "))
}
