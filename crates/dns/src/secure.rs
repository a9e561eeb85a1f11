//! Answers with their proof: what DANE asks of DNS (RFC 7672 §2.1, RFC 6698).
//!
//! A name that is not there, or has no record, is an answer like others and can be proven (NSEC, NSEC3). What should
//! be proven and is not (a signature that is wrong, expired or missing below a signed delegation) is
//! [`Nothing::Failed`], never "no record".

use std::net::IpAddr;

use hickory_resolver::proto::rr::{Name, RData, RecordType};

use crate::answer::{Mx, Nothing};
use crate::dns::{Dns, merge_families, name_of, text_of};
use crate::validate::Answer;

/// A value, and whether DNSSEC proves it, every alias on the way included.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Secure<T> {
    /// What was answered.
    pub value: T,
    /// Whether a chain of signatures leads from a trust anchor to it. Always false where DNSSEC is off.
    pub secure: bool,
}

impl<T> Secure<T> {
    const fn unproven(value: T) -> Self {
        Self {
            value,
            secure: false,
        }
    }
}

/// One TLSA record (RFC 6698 §2.1), as it stands in DNS.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Tlsa {
    /// What it speaks of: 2 is a trust anchor, 3 the server's own certificate.
    pub usage: u8,
    /// What is compared: 0 the certificate, 1 its public key.
    pub selector: u8,
    /// How it is compared: 0 whole, 1 by SHA-256, 2 by SHA-512.
    pub matching: u8,
    /// What it must be.
    pub data: Vec<u8>,
}

impl Dns {
    /// The MX records of a name, lowest preference first, or why there are none; with the proof of either.
    pub async fn secure_mx(&self, name: &str) -> Secure<Result<Vec<Mx>, Nothing>> {
        let Some(answer) = self.proven(name, RecordType::MX).await else {
            return Secure::unproven(self.mx(name).await);
        };
        let found = answer.map(mx_of);
        Secure {
            value: found.value.map(|mut found| {
                found.sort_by_key(|mx| mx.preference);
                found
            }),
            secure: found.secure,
        }
    }

    /// The addresses of a host as [`Dns::addresses`] gives them; secure when those of every family that has any are.
    /// An address in text form is taken as it is and is not secure.
    pub async fn secure_addresses(&self, name: &str) -> Secure<Result<Vec<IpAddr>, Nothing>> {
        if let Ok(ip) = name.parse() {
            return Secure::unproven(Ok(vec![ip]));
        }
        let Some((v4, v6)) = self.both_families(name).await else {
            return Secure::unproven(self.addresses(name).await);
        };
        let secure = is_secure(&v4, &v6);
        let value = merge_families(v4.map(ip_of).value, v6.map(ip_of).value);
        Secure { value, secure }
    }

    /// The names below which a host's TLSA records may stand (TLSA base domains, RFC 7672 §2.2.2), the one to be asked
    /// first in front: what the host's name is an alias of, where every alias is secure, then the name itself. None
    /// when its addresses are not secure, unless the name is a secure alias of what is not.
    ///
    /// # Errors
    ///
    /// [`Nothing::Failed`] when the addresses cannot be told; the host must not be used now.
    pub async fn tlsa_bases(&self, host: &str) -> Result<Vec<String>, Nothing> {
        if host.parse::<IpAddr>().is_ok() {
            return Ok(Vec::new());
        }
        let Some((v4, v6)) = self.both_families(host).await else {
            return Ok(Vec::new());
        };
        let chosen = match (&v4.data, &v6.data) {
            (Ok(_), _) => &v4,
            (_, Ok(_)) => &v6,
            (Err(failed), _) | (_, Err(failed)) if failed.is_temporary() => {
                return Err(failed.clone());
            }
            _ => return Ok(Vec::new()),
        };
        let own = || host.trim_end_matches('.').to_ascii_lowercase();
        let bases = match (is_secure(&v4, &v6), &chosen.alias) {
            (true, Some(alias)) => vec![text_of(&alias.target), own()],
            (true, None) => vec![own()],
            (false, Some(alias)) if alias.first_is_secure => vec![own()],
            (false, _) => Vec::new(),
        };
        Ok(bases)
    }

    /// The TLSA records of a service over TCP of a host: those of `_port._tcp.host`. An alias there is followed.
    pub async fn tlsa(&self, host: &str, port: u16) -> Secure<Result<Vec<Tlsa>, Nothing>> {
        let name = format!("_{port}._tcp.{}", host.trim_end_matches('.'));
        match self.proven(&name, RecordType::TLSA).await {
            Some(answer) => answer.map(tlsa_of),
            None => Secure::unproven(self.records(&name, RecordType::TLSA, tlsa_of).await),
        }
    }

    async fn both_families(&self, name: &str) -> Option<(Answer, Answer)> {
        let family = |allowed, kind| async move {
            match allowed {
                true => self.proven(name, kind).await,
                false => Some(Answer::nothing(Nothing::NoRecord, false)),
            }
        };
        let (v4, v6) = tokio::join!(
            family(self.ipv4, RecordType::A),
            family(self.ipv6, RecordType::AAAA)
        );
        v4.zip(v6)
    }

    /// What a validated lookup gave; `None` where nothing can be proven, because it is not wanted or the name servers
    /// keep signatures back.
    async fn proven(&self, name: &str, kind: RecordType) -> Option<Answer> {
        let validator = self.validator.as_ref()?;
        let Some(name) = name_of(name) else {
            return Some(Answer::nothing(Nothing::NoName, false));
        };
        let answer = match validator.is_able().await {
            Ok(true) => Box::pin(validator.lookup(name, kind)).await,
            Ok(false) => return None,
            Err(failed) => Answer::nothing(failed, false),
        };
        count(kind, &answer);
        Some(answer)
    }
}

impl Answer {
    fn map<T>(&self, data: impl Fn(&RData) -> Option<T>) -> Secure<Result<Vec<T>, Nothing>> {
        let value = match &self.data {
            Ok(records) => Ok(records.iter().filter_map(data).collect()),
            Err(nothing) => Err(nothing.clone()),
        };
        Secure {
            value,
            secure: self.secure,
        }
    }
}

/// Whether the addresses of both families are, of those that have any.
fn is_secure(v4: &Answer, v6: &Answer) -> bool {
    let mut found = [v4, v6].into_iter().filter(|answer| answer.data.is_ok());
    found.clone().next().is_some() && found.all(|answer| answer.secure)
}

fn count(kind: RecordType, answer: &Answer) {
    let kind: &'static str = kind.into();
    let result = match (&answer.data, answer.secure) {
        (Err(Nothing::Failed(_)), _) => "failed",
        (_, true) => "secure",
        (_, false) => "insecure",
    };
    metrics::counter!("nightmail_dns_proofs_total", "kind" => kind, "result" => result)
        .increment(1);
}

fn mx_of(data: &RData) -> Option<Mx> {
    match data {
        RData::MX(mx) => Some(Mx {
            preference: mx.preference,
            host: text_of(&mx.exchange),
        }),
        _ => None,
    }
}

fn ip_of(data: &RData) -> Option<IpAddr> {
    match data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

fn tlsa_of(data: &RData) -> Option<Tlsa> {
    match data {
        RData::TLSA(tlsa) => Some(Tlsa {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        }),
        _ => None,
    }
}

/// Where a chain of aliases ends, and whether its first link is proven.
#[derive(Clone, Debug)]
pub(crate) struct Alias {
    pub(crate) target: Name,
    pub(crate) first_is_secure: bool,
}
