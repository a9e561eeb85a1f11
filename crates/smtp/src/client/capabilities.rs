//! What a server offers (RFC 5321 §4.1.1.1).

use crate::reply::Reply;
use crate::sasl::Mechanism;

/// The extensions of a server, from its reply to EHLO or LHLO.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
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
    /// Mechanisms of AUTH (RFC 4954) that we know.
    pub mechanisms: Vec<Mechanism>,
    /// Whether AUTH was offered with any mechanism.
    pub auth: bool,
}

impl Capabilities {
    /// Reads the lines after the first; unknown ones are passed over.
    pub fn parse(reply: &Reply) -> Self {
        let mut out = Self::default();
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
                    if !self.mechanisms.contains(&mechanism) {
                        self.mechanisms.push(mechanism);
                    }
                }
            }
            _ => {}
        }
    }
}
