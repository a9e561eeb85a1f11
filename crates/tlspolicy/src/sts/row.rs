//! Policies as they are kept in [`Space::Site`], for all nodes.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{Domain, Timestamp};
use nightmail_engine::{Key, RowKey, Space};

use crate::policy::{Mode, Policy};

const VERSION: u8 = 1;
/// In front of the domain in every key.
pub(super) const PREFIX: &[u8] = b"sts/";

/// A policy and what has happened to it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct PolicyRow {
    pub(super) policy: Policy,
    /// From when on its lifetime counts.
    pub(super) fetched: Timestamp,
    /// When mail last asked for it, give or take a day.
    pub(super) used: Timestamp,
    /// When it was last asked for and not got; zero where it was got.
    pub(super) failed: Timestamp,
}

impl PolicyRow {
    pub(super) fn key(domain: &Domain) -> RowKey {
        RowKey::new(Space::Site, [PREFIX, domain.as_str().as_bytes()].concat())
    }

    /// The domain of a key.
    pub(super) fn domain(key: &Key) -> Option<Domain> {
        let domain = std::str::from_utf8(key.strip_prefix(PREFIX)?).ok()?;
        Domain::parse(domain).ok()
    }

    /// When it holds no more.
    pub(super) fn expires(&self) -> Timestamp {
        let millis = self.policy.max_age_secs.saturating_mul(1000);
        let millis = i64::try_from(millis).unwrap_or(i64::MAX);
        self.fetched.plus_millis(millis)
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let policy = &self.policy;
        let mut row = RowWriter::new(VERSION);
        row.str(&policy.id).u8(match policy.mode {
            Mode::None => 0,
            Mode::Testing => 1,
            Mode::Enforce => 2,
        });
        row.varint(policy.max_age_secs)
            .varint(policy.mx.len() as u64);
        for mx in &policy.mx {
            row.str(mx);
        }
        for time in [self.fetched, self.used, self.failed] {
            row.i64(time.millis());
        }
        row.finish()
    }

    pub(super) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let id = row.str()?.to_owned();
        let mode = match row.u8()? {
            0 => Mode::None,
            1 => Mode::Testing,
            2 => Mode::Enforce,
            _ => return Err(RowError::Invalid("mode")),
        };
        let max_age_secs = row.varint()?;
        let mut mx = Vec::new();
        for _ in 0..row.varint()? {
            mx.push(row.str()?.to_owned());
        }
        let mut time = || row.i64().map(Timestamp::from_millis);
        Ok(Self {
            fetched: time()?,
            used: time()?,
            failed: time()?,
            policy: Policy {
                mode,
                mx,
                max_age_secs,
                id,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_row_reads_back_as_written(mx: Vec<String>, id: String, max_age_secs: u64, times: [i64; 3]) {
            let policy = Policy { mode: Mode::Testing, mx, max_age_secs, id };
            let [fetched, used, failed] = times.map(Timestamp::from_millis);
            let row = PolicyRow { policy, fetched, used, failed };
            prop_assert_eq!(PolicyRow::decode(&row.encode()), Ok(row));
        }

        #[test]
        fn no_octets_make_it_panic(row: Vec<u8>) {
            let _ = PolicyRow::decode(&row).map(|row| row.expires());
        }
    }

    #[test]
    fn the_domain_is_in_the_key() {
        let domain = Domain::parse("example.com").unwrap();
        let key = PolicyRow::key(&domain);
        assert_eq!(PolicyRow::domain(&key.key), Some(domain));
        assert_eq!(PolicyRow::domain(&b"other/example.com".to_vec()), None);
    }
}
