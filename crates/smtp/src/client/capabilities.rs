//! What a server offers (RFC 5321 §4.1.1.1).

use crate::reply::Reply;
use crate::sasl::{Mechanism, MechanismSet};

/// The largest limit that can be told (RFC 9422 §4).
const LIMIT_MAX: u32 = 999_999;

/// The extensions of a server, from its reply to EHLO or LHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The name by which the server calls itself in that reply; empty where it gives none.
    pub name: Box<str>,
    /// PIPELINING (RFC 2920).
    pub pipelining: bool,
    /// SIZE (RFC 1870): the limit, zero where there is none.
    pub size: Option<u64>,
    /// 8BITMIME (RFC 6152).
    pub eightbitmime: bool,
    /// SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// DSN (RFC 3461).
    pub dsn: bool,
    /// STARTTLS (RFC 3207).
    pub starttls: bool,
    /// CHUNKING (RFC 3030).
    pub chunking: bool,
    /// BINARYMIME (RFC 3030).
    pub binarymime: bool,
    /// REQUIRETLS (RFC 8689).
    pub requiretls: bool,
    /// MT-PRIORITY (RFC 6710).
    pub mt_priority: bool,
    /// DELIVERBY (RFC 2852): the smallest number of seconds taken with `R`, zero where there is none.
    pub deliver_by: Option<u32>,
    /// LIMITS MAILMAX (RFC 9422): transactions in one session.
    pub mail_max: Option<u32>,
    /// LIMITS RCPTMAX: recipients in one transaction.
    pub rcpt_max: Option<u32>,
    /// LIMITS RCPTDOMAINMAX: domains of recipients in one transaction.
    pub rcpt_domain_max: Option<u32>,
    /// Mechanisms of AUTH (RFC 4954) that we know.
    pub mechanisms: MechanismSet,
    /// Whether AUTH was offered with any mechanism.
    pub auth: bool,
}

fn first_word(reply: &Reply) -> Box<str> {
    let line = reply.lines().next().unwrap_or_default();
    let word = line.split_ascii_whitespace().next();
    word.unwrap_or_default().into()
}

impl Capabilities {
    /// Reads the lines after the first; unknown ones are passed over.
    pub fn parse(reply: &Reply) -> Self {
        let mut out = Self {
            name: first_word(reply),
            ..Self::default()
        };
        for line in reply.lines().skip(1) {
            out.take(line);
        }
        out
    }

    fn take(&mut self, line: &str) {
        let mut words = line.split([' ', '=']).filter(|word| !word.is_empty());
        let keyword = words.next().unwrap_or_default().to_ascii_uppercase();
        match keyword.as_str() {
            "PIPELINING" => self.pipelining = true,
            "SIZE" => self.size = Some(words.next().and_then(|n| n.parse().ok()).unwrap_or(0)),
            "8BITMIME" => self.eightbitmime = true,
            "SMTPUTF8" => self.smtputf8 = true,
            "DSN" => self.dsn = true,
            "STARTTLS" => self.starttls = true,
            "CHUNKING" => self.chunking = true,
            "AUTH" => {
                self.auth = true;
                for mechanism in words.filter_map(Mechanism::parse) {
                    self.mechanisms.insert(mechanism);
                }
            }
            "BINARYMIME" => self.binarymime = true,
            "REQUIRETLS" => self.requiretls = true,
            "MT-PRIORITY" => self.mt_priority = true,
            "DELIVERBY" => {
                let options = words.next().unwrap_or_default();
                let seconds_min = options.split(',').next().and_then(|n| n.parse().ok());
                self.deliver_by = Some(seconds_min.unwrap_or(0));
            }
            "LIMITS" => self.limits(line),
            _ => {}
        }
    }

    /// Pairs of name and number; what is not known or no number is passed over (RFC 9422 §4).
    fn limits(&mut self, line: &str) {
        for (name, value) in line.split(' ').filter_map(|word| word.split_once('=')) {
            let limit = value.parse().ok();
            let limit = limit.filter(|limit| (1..=LIMIT_MAX).contains(limit));
            match name.to_ascii_uppercase().as_str() {
                "MAILMAX" => self.mail_max = limit,
                "RCPTMAX" => self.rcpt_max = limit,
                "RCPTDOMAINMAX" => self.rcpt_domain_max = limit,
                _ => {}
            }
        }
    }
}
