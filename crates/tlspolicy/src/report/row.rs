//! The rows of reports on TLS, in [`Space::Report`]: one for each kind of session of a day and domain.

use std::net::IpAddr;

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::{Key, KeyRange, RowKey, Space};

use super::result::{PolicyType, ResultType, TlsFailure, TlsOutcome, TlsResult};

const VERSION: u8 = 1;
/// First octet of every key. Reports of another kind begin with a day, which is 0 until the year 47,000.
const PREFIX: u8 = b't';
/// Lines of a policy that are told.
const STRINGS_MAX: usize = 64;
/// Characters of one text.
const TEXT_CHARS_MAX: usize = 200;

/// A day of one domain that is over.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DueTlsReport {
    /// Days since the epoch, in UTC.
    pub day: u32,
    /// The domain that mail was for.
    pub domain: String,
}

impl DueTlsReport {
    /// The range of the days before `day`.
    pub(super) fn before(day: u32) -> KeyRange {
        let mut to = vec![PREFIX];
        to.extend_from_slice(&day.to_be_bytes());
        KeyRange {
            from: vec![PREFIX],
            to: Some(to),
        }
    }

    /// What all keys of this day and domain begin with.
    pub(super) fn prefix(&self) -> Key {
        let mut key = vec![PREFIX];
        key.extend_from_slice(&self.day.to_be_bytes());
        key.extend_from_slice(self.domain.as_bytes());
        key.push(0);
        key
    }

    pub(super) fn of_key(key: &[u8]) -> Option<Self> {
        let (day, rest) = key.strip_prefix(&[PREFIX])?.split_first_chunk()?;
        let end = rest.iter().position(|octet| *octet == 0)?;
        Some(Self {
            day: u32::from_be_bytes(*day),
            domain: std::str::from_utf8(rest.get(..end)?).ok()?.to_owned(),
        })
    }

    /// The row of a kind of session.
    pub(super) fn row(&self, observation: &[u8]) -> RowKey {
        let mut key = self.prefix();
        let digest = blake3::hash(observation);
        key.extend(digest.as_bytes().iter().take(16));
        RowKey::new(Space::Report, key)
    }
}

/// Everything that makes two sessions one line of a report.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Observation {
    pub(super) policy: ToldPolicy,
    /// The host that was tried; empty where there was none.
    pub(super) mx_host: String,
    /// `None`: it went well.
    pub(super) failure: Option<TlsFailure>,
}

/// A policy as it is told.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(super) struct ToldPolicy {
    pub(super) kind: PolicyType,
    /// What the policy is for: the domain, or the TLSA base domain.
    pub(super) domain: String,
    pub(super) strings: Vec<String>,
}

impl Observation {
    pub(super) fn new(result: &TlsResult) -> Self {
        let failure = match &result.outcome {
            TlsOutcome::Ok => None,
            TlsOutcome::Failure(failure) => Some(TlsFailure {
                receiving_helo: failure.receiving_helo.as_deref().map(short),
                reason: short(&failure.reason),
                ..failure.clone()
            }),
        };
        let domain = match result.policy {
            PolicyType::Tlsa => result.mx_host.as_str(),
            PolicyType::Sts | PolicyType::NoPolicyFound => result.domain.as_str(),
        };
        let strings = result.policy_strings.iter().take(STRINGS_MAX);
        Self {
            policy: ToldPolicy {
                kind: result.policy,
                domain: domain.to_owned(),
                strings: strings.map(|string| short(string)).collect(),
            },
            // What goes well is told in one sum.
            mx_host: match failure {
                Some(_) => result.mx_host.clone(),
                None => String::new(),
            },
            failure,
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u8(self.policy.kind as u8).str(&self.policy.domain);
        row.varint(self.policy.strings.len() as u64);
        for string in &self.policy.strings {
            row.str(string);
        }
        row.str(&self.mx_host).u8(u8::from(self.failure.is_some()));
        if let Some(failure) = &self.failure {
            let ip = |ip: Option<IpAddr>| ip.map(|ip| ip.to_string()).unwrap_or_default();
            row.u8(failure.kind as u8)
                .str(&ip(failure.receiving_ip))
                .str(&ip(failure.sending_ip))
                .str(failure.receiving_helo.as_deref().unwrap_or_default())
                .str(&failure.reason);
        }
        row.finish()
    }

    fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let kind = usize::from(row.u8()?);
        let kind = PolicyType::ALL.get(kind).copied();
        let kind = kind.ok_or(RowError::Invalid("policy type"))?;
        let domain = row.str()?.to_owned();
        let mut strings = Vec::new();
        for _ in 0..row.varint()? {
            strings.push(row.str()?.to_owned());
        }
        Ok(Self {
            policy: ToldPolicy {
                kind,
                domain,
                strings,
            },
            mx_host: row.str()?.to_owned(),
            failure: match row.u8()? {
                0 => None,
                _ => Some(failure(&mut row)?),
            },
        })
    }
}

fn failure(row: &mut RowReader<'_>) -> Result<TlsFailure, RowError> {
    let kind = usize::from(row.u8()?);
    let kind = ResultType::ALL.get(kind).copied();
    let mut ip = || match row.str()? {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| RowError::Invalid("ip")),
    };
    let (receiving_ip, sending_ip) = (ip()?, ip()?);
    let helo = row.str()?;
    Ok(TlsFailure {
        kind: kind.ok_or(RowError::Invalid("result type"))?,
        receiving_ip,
        receiving_helo: (!helo.is_empty()).then(|| helo.to_owned()),
        sending_ip,
        reason: row.str()?.to_owned(),
    })
}

/// The beginning of a text, of visible characters and spaces.
fn short(text: &str) -> String {
    let shown = |c: char| if c.is_control() { ' ' } else { c };
    text.chars().map(shown).take(TEXT_CHARS_MAX).collect()
}

/// How many sessions of one kind there were.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Count {
    pub(super) sessions: u64,
    /// An encoded [`Observation`].
    pub(super) observation: Vec<u8>,
}

impl Count {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.sessions).bytes(&self.observation).finish()
    }

    /// Only the number of a row.
    pub(super) fn sessions(row: &[u8]) -> Result<u64, RowError> {
        RowReader::new(row, VERSION)?.0.u64()
    }

    pub(super) fn decode(row: &[u8]) -> Result<(u64, Observation), RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        Ok((row.u64()?, Observation::decode(row.bytes()?)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn types_stand_in_rows_by_their_place() {
        for (index, kind) in ResultType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
        for (index, kind) in PolicyType::ALL.into_iter().enumerate() {
            assert_eq!(kind as usize, index);
        }
    }

    #[test]
    fn keys_lie_apart_from_those_of_other_reports_and_in_the_order_of_days() {
        let due = DueTlsReport {
            day: 20_000,
            domain: "example.com".to_owned(),
        };
        assert_eq!(DueTlsReport::of_key(&due.row(b"x").key), Some(due.clone()));
        assert_eq!(DueTlsReport::of_key(&[0; 30]), None);
        assert!(DueTlsReport::before(20_001).contains(&due.prefix()));
        assert!(!DueTlsReport::before(20_000).contains(&due.prefix()));
        let other = 20_000_u32.to_be_bytes().to_vec();
        assert!(!DueTlsReport::before(20_001).contains(&other));
    }

    proptest! {
        #[test]
        fn rows_read_back_as_written(
            texts in proptest::array::uniform4(".{0,8}"),
            strings: Vec<String>,
            policy in 0..3_usize,
            kind in 0..11_usize,
            failed: bool,
            ip: Option<IpAddr>,
            sessions: u64,
        ) {
            let [domain, mx_host, helo, reason] = texts;
            let failure = failed.then(|| TlsFailure {
                kind: ResultType::ALL[kind],
                receiving_ip: ip,
                sending_ip: None,
                receiving_helo: (!helo.is_empty()).then_some(helo),
                reason,
            });
            let policy = ToldPolicy { kind: PolicyType::ALL[policy], domain, strings };
            let observation = Observation { policy, mx_host, failure };
            let row = Count { sessions, observation: observation.encode() }.encode();
            prop_assert_eq!(Count::sessions(&row), Ok(sessions));
            prop_assert_eq!(Count::decode(&row), Ok((sessions, observation)));
        }

        #[test]
        fn no_octets_make_it_panic(row: Vec<u8>, key: Vec<u8>) {
            let _ = Count::decode(&row);
            let _ = DueTlsReport::of_key(&key);
        }
    }
}
