//! The SPF record (RFC 7208): there once, well-formed, with an end, and covering this host as far as can be seen
//! without following other domains' records.

use std::net::IpAddr;

use nightmail_core::net::IpNetwork;

use super::{AuditQuestion, Finding, Verdict};
use crate::Dns;

/// Terms that make a receiver look something up (RFC 7208 §4.6.4).
const LOOKUPS_MAX: usize = 10;

#[derive(Clone, PartialEq, Eq, Debug)]
enum Mechanism {
    All,
    Network(IpNetwork),
    /// The addresses of a name (`a`), or of its mail hosts (`mx`); the domain itself without a name.
    Hosts {
        of_mx: bool,
        name: Option<String>,
        bits_v4: u32,
        bits_v6: u32,
    },
    /// What rests on other records: include, exists, ptr, macros.
    Elsewhere,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct Term {
    qualifier: char,
    mechanism: Mechanism,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Record {
    terms: Vec<Term>,
    redirects: bool,
    lookups: usize,
}

impl Record {
    fn parse(text: &str) -> Result<Self, String> {
        let mut record = Self::default();
        for word in text.split_ascii_whitespace().skip(1) {
            match word.split_once('=') {
                Some((name, _)) if is_name(name) => {
                    if name.eq_ignore_ascii_case("redirect") {
                        record.redirects = true;
                        record.lookups += 1;
                    }
                }
                _ => {
                    let (term, asks) =
                        term(word).ok_or_else(|| format!("\"{word}\" is no term of SPF"))?;
                    record.lookups += usize::from(asks);
                    record.terms.push(term);
                }
            }
        }
        Ok(record)
    }

    /// What happens to those whom no mechanism names.
    fn end(&self) -> Option<char> {
        let all = |term: &&Term| term.mechanism == Mechanism::All;
        self.terms.iter().find(all).map(|term| term.qualifier)
    }
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

/// A term, and whether a receiver must look something up for it.
fn term(word: &str) -> Option<(Term, bool)> {
    let (qualifier, rest) = match word.chars().next()? {
        sign @ ('+' | '-' | '~' | '?') => (sign, word.get(1..)?),
        _ => ('+', word),
    };
    let name_end = rest.find([':', '/']).unwrap_or(rest.len());
    let (name, rest) = rest.split_at_checked(name_end)?;
    let (mechanism, asks) = match name.to_ascii_lowercase().as_str() {
        "all" if rest.is_empty() => (Mechanism::All, false),
        "ip4" | "ip6" => {
            let network = network(rest.strip_prefix(':')?)?;
            let right_family = network.address().is_ipv4() == name.eq_ignore_ascii_case("ip4");
            (right_family.then_some(Mechanism::Network(network))?, false)
        }
        "a" => (hosts(false, rest)?, true),
        "mx" => (hosts(true, rest)?, true),
        "ptr" => (Mechanism::Elsewhere, true),
        "include" | "exists" if rest.len() > 1 => (Mechanism::Elsewhere, true),
        _ => return None,
    };
    let term = Term {
        qualifier,
        mechanism,
    };
    Some((term, asks))
}

fn network(text: &str) -> Option<IpNetwork> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits.parse().ok()?)),
        None => (text, None),
    };
    let address: IpAddr = address.parse().ok()?;
    match bits {
        Some(bits) => IpNetwork::new(address, bits),
        None => Some(address.into()),
    }
}

/// What follows `a` or `mx`: `:name/24//64`, each part optional.
fn hosts(of_mx: bool, rest: &str) -> Option<Mechanism> {
    let (rest, bits_v6) = match rest.split_once("//") {
        Some((rest, bits)) => (rest, bits.parse().ok().filter(|bits| *bits <= 128)?),
        None => (rest, 128),
    };
    let (name, bits_v4) = match rest.split_once('/') {
        Some((name, bits)) => (name, bits.parse().ok().filter(|bits| *bits <= 32)?),
        None => (rest, 32),
    };
    let name = match name {
        "" => None,
        name => Some(name.strip_prefix(':').filter(|name| !name.is_empty())?),
    };
    if name.is_some_and(|name| name.contains('%')) {
        return Some(Mechanism::Elsewhere);
    }
    Some(Mechanism::Hosts {
        of_mx,
        name: name.map(str::to_owned),
        bits_v4,
        bits_v6,
    })
}

/// What a record says of one address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Covers {
    Yes,
    No,
    /// It rests on what was not looked at.
    Perhaps,
}

pub(super) async fn look(dns: &Dns, question: &AuditQuestion) -> Finding {
    let domain = question.domain.as_str();
    let finding = Finding::new(domain, "SPF", "v=spf1 mx -all");
    let mut records = match dns.txt(domain).await {
        Ok(records) => records,
        Err(nothing) => return finding.nothing(&nothing, "say who may send for the domain"),
    };
    records.retain(|text| {
        let version = text.split(' ').next().unwrap_or_default();
        version.eq_ignore_ascii_case("v=spf1")
    });
    let finding = finding.found(records.clone());
    let text = match records.as_slice() {
        [] => return finding.judged(Verdict::Missing, "say who may send for the domain"),
        [text] => text,
        _ => {
            let advice = "there must be one record only: receivers ignore all of them";
            return finding.judged(Verdict::Wrong, advice);
        }
    };
    match Record::parse(text) {
        Err(problem) => finding.judged(Verdict::Wrong, problem),
        Ok(record) => judge(dns, question, &record, finding).await,
    }
}

async fn judge(dns: &Dns, question: &AuditQuestion, record: &Record, finding: Finding) -> Finding {
    if record.lookups > LOOKUPS_MAX {
        let advice = format!("it needs more than {LOOKUPS_MAX} lookups, which receivers refuse");
        return finding.judged(Verdict::Wrong, advice);
    }
    match record.end() {
        Some('-' | '~') => {}
        None if record.redirects => {}
        Some(_) => {
            let advice = "it lets everybody send for the domain: end it with -all or ~all";
            return finding.judged(Verdict::Wrong, advice);
        }
        None => return finding.judged(Verdict::Wrong, "end it with -all or ~all"),
    }
    let mut perhaps = Vec::new();
    for ip in &question.own_addresses {
        match covers(dns, question, record, *ip).await {
            Covers::Yes => {}
            Covers::No => {
                let advice = format!("it does not let {ip} send, which is this host's");
                return finding.judged(Verdict::Wrong, advice);
            }
            Covers::Perhaps => perhaps.push(ip.to_string()),
        }
    }
    match perhaps.is_empty() {
        true => finding.judged(Verdict::Good, ""),
        false => {
            let advice = format!(
                "whether it lets {} send rests on other records",
                perhaps.join(", ")
            );
            finding.judged(Verdict::Unclear, advice)
        }
    }
}

async fn covers(dns: &Dns, question: &AuditQuestion, record: &Record, ip: IpAddr) -> Covers {
    let mut unknown = record.redirects && record.end().is_none();
    for term in &record.terms {
        let matches = match &term.mechanism {
            Mechanism::All => Some(true),
            Mechanism::Network(network) => Some(network.contains(ip)),
            Mechanism::Hosts { .. } => {
                Box::pin(hosts_hold(dns, question, &term.mechanism, ip)).await
            }
            Mechanism::Elsewhere => None,
        };
        match (matches, term.qualifier) {
            (Some(true), '+') => return Covers::Yes,
            (Some(true), _) if unknown => return Covers::Perhaps,
            (Some(true), _) => return Covers::No,
            (Some(false), _) => {}
            (None, _) => unknown = true,
        }
    }
    match unknown {
        true => Covers::Perhaps,
        false => Covers::No,
    }
}

/// Whether an `a` or `mx` names an address; `None` when DNS does not say.
async fn hosts_hold(
    dns: &Dns,
    question: &AuditQuestion,
    mechanism: &Mechanism,
    ip: IpAddr,
) -> Option<bool> {
    let Mechanism::Hosts {
        of_mx,
        name,
        bits_v4,
        bits_v6,
    } = mechanism
    else {
        return None;
    };
    let name = name.as_deref().unwrap_or_else(|| question.domain.as_str());
    let names = match of_mx {
        false => vec![name.to_owned()],
        true => match dns.mx(name).await {
            Ok(hosts) => hosts.into_iter().map(|mx| mx.host).collect(),
            Err(nothing) if nothing.is_temporary() => return None,
            Err(_) => return Some(false),
        },
    };
    let mut unknown = false;
    for name in names {
        let found: Result<Vec<IpAddr>, _> = match ip {
            IpAddr::V4(_) => dns.ipv4(&name).await.map(ips),
            IpAddr::V6(_) => dns.ipv6(&name).await.map(ips),
        };
        let bits = match ip {
            IpAddr::V4(_) => *bits_v4,
            IpAddr::V6(_) => *bits_v6,
        };
        let holds = |host: &IpAddr| IpNetwork::new(*host, bits).is_some_and(|net| net.contains(ip));
        match found {
            Ok(found) if found.iter().any(holds) => return Some(true),
            Err(nothing) if nothing.is_temporary() => unknown = true,
            _ => {}
        }
    }
    (!unknown).then_some(false)
}

fn ips<A: Into<IpAddr>>(found: Vec<A>) -> Vec<IpAddr> {
    found.into_iter().map(Into::into).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_what_is_no_term_is_named() {
        let record = Record::parse(
            "v=spf1 +mx a:mail.x.test/24//64 ip4:192.0.2.1/24 -ip6:2001:db8::/32 include:y.test \
             exp=why.x.test ~all",
        )
        .unwrap();
        assert_eq!(record.terms.len(), 6);
        assert_eq!((record.lookups, record.end()), (3, Some('~')));
        assert_eq!(
            record.terms[1].mechanism,
            Mechanism::Hosts {
                of_mx: false,
                name: Some("mail.x.test".into()),
                bits_v4: 24,
                bits_v6: 64,
            }
        );
        for wrong in [
            "ip4:192.0.2.1/33",
            "ip4:2001:db8::1",
            "ip4",
            "ip6:192.0.2.1",
            "a:",
            "mx/40",
            "include:",
            "all:x",
            "ipv4:192.0.2.1",
            "-",
            "\u{fc}",
        ] {
            let problem = Record::parse(&format!("v=spf1 {wrong} -all")).unwrap_err();
            assert!(problem.contains(wrong), "{problem}");
        }
    }

    #[test]
    fn macros_are_left_to_receivers() {
        let (term, asks) = term("a:%{i}._spf.x.test").unwrap();
        assert_eq!((term.mechanism, asks), (Mechanism::Elsewhere, true));
    }
}
