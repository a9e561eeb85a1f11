//! What a domain should have in DNS so that its mail arrives, and what it has.
//!
//! Looks only, from outside: every finding rests on what any other site would be answered now.

mod dane;
mod policy;
mod route;
mod spf;

use std::net::IpAddr;

use nightmail_core::Domain;

use crate::{Dns, Nothing};

/// What is to be looked at.
#[derive(Clone, Debug)]
pub struct AuditQuestion {
    /// The domain whose mail it is.
    pub domain: Domain,
    /// The name of this host, which its MX records should lead to.
    pub hostname: Domain,
    /// The addresses at which this host takes and sends mail; empty when they are not known.
    pub own_addresses: Vec<IpAddr>,
    /// Selectors that sign, each with the text that its record should have.
    pub dkim: Vec<(String, String)>,
}

/// How a record is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Not there.
    Missing,
    /// There, and not as it should be.
    Wrong,
    /// It cannot be told: DNS did not answer, or the record rests on others that are not looked at.
    Unclear,
}

impl Verdict {
    /// One word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Missing => "missing",
            Self::Wrong => "wrong",
            Self::Unclear => "unclear",
        }
    }
}

/// One record, or set of records, that was looked at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The name it stands at.
    pub name: String,
    /// Its kind: "MX", "A/AAAA", "PTR", "SPF", "DKIM", "DMARC", "MTA-STS", "TLS-RPT", "TLSA" or
    /// "CAA".
    pub kind: &'static str,
    /// What should stand there.
    pub wanted: String,
    /// What stands there.
    pub found: Vec<String>,
    /// How that is.
    pub verdict: Verdict,
    /// Whether mail arrives as well without it.
    pub optional: bool,
    /// What to do or to know; may be empty where the verdict is good.
    pub advice: String,
}

impl Finding {
    /// A finding of what is not optional, yet to be judged.
    fn new(name: impl Into<String>, kind: &'static str, wanted: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            kind,
            wanted: wanted.into(),
            found: Vec::new(),
            verdict: Verdict::Unclear,
            optional: false,
            advice: String::new(),
        }
    }

    fn optional(mut self) -> Self {
        self.optional = true;
        self
    }

    fn found(mut self, found: Vec<String>) -> Self {
        self.found = found;
        self
    }

    fn judged(mut self, verdict: Verdict, advice: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.advice = advice.into();
        self
    }

    /// Judged by a lookup that gave nothing.
    fn nothing(self, nothing: &Nothing, advice: impl Into<String>) -> Self {
        match nothing {
            Nothing::NoName | Nothing::NoRecord => self.judged(Verdict::Missing, advice),
            Nothing::Failed(text) => {
                self.judged(Verdict::Unclear, format!("DNS does not answer: {text}"))
            }
        }
    }
}

/// Looks at everything a domain should have, in the order in which it should be mended.
pub async fn audit(dns: &Dns, question: &AuditQuestion) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.extend(Box::pin(route::mail_hosts(dns, question)).await);
    findings.extend(Box::pin(route::names_of_addresses(dns, question)).await);
    findings.push(Box::pin(spf::look(dns, question)).await);
    findings.extend(policy::dkim(dns, question).await);
    findings.push(policy::dmarc(dns, question).await);
    findings.push(policy::mta_sts(dns, question).await);
    findings.push(policy::tls_reports(dns, question).await);
    findings.push(Box::pin(dane::look(dns, question)).await);
    findings.push(policy::certificate_authorities(dns, question).await);
    findings
}

/// The value of a tag in a list such as `v=DKIM1; p=…`; names are compared without their case.
fn tag<'a>(record: &'a str, name: &str) -> Option<&'a str> {
    record.split(';').find_map(|tag| {
        let (key, value) = tag.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

/// Whether a record says that it is of this version, as its first tag.
fn is_version(record: &str, version: &str) -> bool {
    let first = record.split(';').next().unwrap_or_default();
    let parts = first.split_once('=');
    parts.is_some_and(|(key, value)| {
        key.trim().eq_ignore_ascii_case("v") && value.trim().eq_ignore_ascii_case(version)
    })
}
