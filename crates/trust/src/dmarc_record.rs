//! DMARC policy records (RFC 7489 §6.3) and where they are found (§6.6.3).

use nightmail_core::Address;
use nightmail_dns::{Dns, Nothing};

/// Addresses of one kind that a record may name.
const URIS_MAX: usize = 10;

/// What a domain wants done with mail that fails.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum DmarcPolicy {
    /// Nothing.
    None,
    /// It is suspicious.
    Quarantine,
    /// It is to be refused.
    Reject,
}

impl DmarcPolicy {
    /// As in records and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Quarantine => "quarantine",
            Self::Reject => "reject",
        }
    }

    fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::Quarantine, Self::Reject]
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(text))
    }

    /// The next milder one.
    pub(crate) const fn milder(self) -> Self {
        match self {
            Self::Reject => Self::Quarantine,
            Self::Quarantine | Self::None => Self::None,
        }
    }
}

/// Where reports go: `mailto:` with an optional size limit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ReportUri {
    /// The address.
    pub address: Address,
    /// The largest report that is taken, in octets.
    pub octets_max: Option<u64>,
}

impl ReportUri {
    /// Parses one URI; `None` for other schemes and what is malformed.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.trim().split_at_checked(7)?;
        if !scheme.eq_ignore_ascii_case("mailto:") {
            return None;
        }
        let (address, octets_max) = match rest.split_once('!') {
            Some((address, size)) => (address, Some(size_of(size)?)),
            None => (rest, None),
        };
        let address = address.split('?').next().unwrap_or_default();
        let address = Address::parse(&percent_decoded(address)?).ok()?;
        Some(Self {
            address,
            octets_max,
        })
    }

    fn parse_list(text: &str) -> Vec<Self> {
        let parsed = text.split(',').filter_map(Self::parse);
        parsed.take(URIS_MAX).collect()
    }
}

/// The URI's text form.
impl std::fmt::Display for ReportUri {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mailto:{}", self.address)?;
        match self.octets_max {
            Some(size) => write!(f, "!{size}"),
            None => Ok(()),
        }
    }
}

fn size_of(text: &str) -> Option<u64> {
    let (digits, shift) = match text.char_indices().last()? {
        (at, 'k' | 'K') => (text.get(..at)?, 10),
        (at, 'm' | 'M') => (text.get(..at)?, 20),
        (at, 'g' | 'G') => (text.get(..at)?, 30),
        (at, 't' | 'T') => (text.get(..at)?, 40),
        _ => (text, 0),
    };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(octet) = rest.next() {
        match octet {
            b'%' => {
                let digits = [rest.next()?, rest.next()?];
                let digits = std::str::from_utf8(&digits).ok()?;
                out.push(u8::from_str_radix(digits, 16).ok()?);
            }
            octet => out.push(octet),
        }
    }
    String::from_utf8(out).ok()
}

/// When failure reports are wanted (`fo=`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct FailureOptions {
    /// `1`: whenever anything does not pass aligned. Otherwise only if nothing does (`0`).
    pub any: bool,
    /// `d`: whenever a DKIM signature fails.
    pub dkim: bool,
    /// `s`: whenever SPF fails.
    pub spf: bool,
}

/// A policy record.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct DmarcRecord {
    /// The domain at which it was found.
    pub domain: String,
    /// For the domain itself.
    pub policy: DmarcPolicy,
    /// For what is below it.
    pub subdomain_policy: DmarcPolicy,
    /// Whether DKIM domains must be the same, not only of one organization.
    pub dkim_strict: bool,
    /// The same for SPF.
    pub spf_strict: bool,
    /// Percent of failing mail to which the policy applies.
    pub percent: u8,
    /// When failure reports are wanted.
    pub failure_options: FailureOptions,
    /// Where aggregate reports go.
    pub aggregate: Vec<ReportUri>,
    /// Where failure reports go.
    pub failure: Vec<ReportUri>,
}

impl DmarcRecord {
    /// Parses a TXT record; `None` where it is no policy record.
    pub(crate) fn parse(domain: &str, text: &str) -> Option<Self> {
        if !is_dmarc(text) {
            return None;
        }
        let tag = |name: &str| {
            let mut tags = text.split(';').filter_map(|tag| tag.split_once('='));
            tags.find(|(known, _)| known.trim().eq_ignore_ascii_case(name))
                .map(|(_, value)| value.trim())
        };
        let list = |name| tag(name).map(ReportUri::parse_list).unwrap_or_default();
        let aggregate: Vec<ReportUri> = list("rua");
        let policy = match tag("p").and_then(DmarcPolicy::parse) {
            Some(policy) => policy,
            None if aggregate.is_empty() => return None,
            None => DmarcPolicy::None,
        };
        let strict = |name| tag(name).is_some_and(|mode| mode.eq_ignore_ascii_case("s"));
        let fo =
            |option: &str| tag("fo").is_some_and(|fo| fo.split(':').any(|o| o.trim() == option));
        Some(Self {
            domain: domain.to_owned(),
            policy,
            subdomain_policy: tag("sp").and_then(DmarcPolicy::parse).unwrap_or(policy),
            dkim_strict: strict("adkim"),
            spf_strict: strict("aspf"),
            percent: tag("pct")
                .and_then(|pct| pct.parse().ok())
                .map_or(100, |pct: u8| pct.min(100)),
            failure_options: FailureOptions {
                any: fo("1"),
                dkim: fo("d"),
                spf: fo("s"),
            },
            aggregate,
            failure: list("ruf"),
        })
    }

    /// Finds the record for a domain: its own, or that of its organization.
    pub(crate) async fn find(dns: &Dns, domain: &str) -> Result<Option<Self>, Nothing> {
        if let Some(record) = Self::at(dns, domain).await? {
            return Ok(Some(record));
        }
        match organization(domain) {
            organization if organization != domain => Self::at(dns, organization).await,
            _ => Ok(None),
        }
    }

    async fn at(dns: &Dns, domain: &str) -> Result<Option<Self>, Nothing> {
        let texts = match dns.txt(&format!("_dmarc.{domain}")).await {
            Ok(texts) => texts,
            Err(Nothing::NoName | Nothing::NoRecord) => return Ok(None),
            Err(failed) => return Err(failed),
        };
        let mut records = texts.iter().filter(|text| is_dmarc(text));
        match (records.next(), records.next()) {
            (Some(text), None) => Ok(Self::parse(domain, text)),
            _ => Ok(None),
        }
    }

    /// The policy for mail from `domain`.
    pub(crate) fn policy_for(&self, domain: &str) -> DmarcPolicy {
        match domain == self.domain {
            true => self.policy,
            false => self.subdomain_policy,
        }
    }
}

/// Whether a TXT record says that it is a policy record.
pub(crate) fn is_dmarc(text: &str) -> bool {
    let first = text.split(';').next().and_then(|tag| tag.split_once('='));
    first.is_some_and(|(name, value)| name.trim() == "v" && value.trim() == "DMARC1")
}

/// The organizational domain (RFC 7489 §3.2) of a name in lookup form; the name itself where it is a public suffix.
pub(crate) fn organization(domain: &str) -> &str {
    psl::domain_str(domain).unwrap_or(domain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_record_reads_as_written() {
        let text = "v=DMARC1; p=Reject;sp=quarantine; adkim=s; aspf=r; pct=20; fo=1:d:s; rua=mailto:a@x.test!10m , https://x, mailto:b%2bc@y.test; ruf=mailto:f@x.test";
        let record = DmarcRecord::parse("x.test", text).unwrap();
        assert_eq!(record.policy_for("x.test"), DmarcPolicy::Reject);
        assert_eq!(record.policy_for("a.x.test"), DmarcPolicy::Quarantine);
        assert!(record.dkim_strict && !record.spf_strict);
        assert_eq!(record.percent, 20);
        assert_eq!(record.aggregate[0].octets_max, Some(10 << 20));
        assert_eq!(record.aggregate[1].to_string(), "mailto:b+c@y.test");
        assert_eq!(record.aggregate.len(), 2);
        assert!(record.failure_options.any && record.failure_options.dkim);
    }

    #[test]
    fn a_record_without_a_policy_counts_only_if_it_wants_reports() {
        let parse = |text| DmarcRecord::parse("x.test", text);
        assert_eq!(parse("v=DMARC1"), None);
        assert_eq!(parse("v=DMARC1; p=odd"), None);
        assert_eq!(parse("p=reject; v=DMARC1"), None);
        assert_eq!(parse("v=DMARC2; p=reject"), None);
        let reporting = parse("v=DMARC1; p=odd; rua=mailto:a@x.test").unwrap();
        assert_eq!(reporting.policy, DmarcPolicy::None);
    }

    #[test]
    fn organizations_follow_the_public_suffixes() {
        for (name, organization_name) in [
            ("a.b.example.com", "example.com"),
            ("example.co.uk", "example.co.uk"),
            ("x.example.co.uk", "example.co.uk"),
            ("co.uk", "co.uk"),
            ("a.b.site.test", "site.test"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(organization(name), organization_name);
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "v=DMARC1;( ?[a-z]{1,4}=[a-z%!,:@.0-9é]{0,12};?){0,6}") {
            let _ = DmarcRecord::parse("x.test", &text);
        }
    }
}
