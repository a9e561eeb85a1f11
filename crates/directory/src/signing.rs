//! The keys that sign a domain's mail (RFC 6376), and their rows: `k` name → the keys of a domain or alternate name.

use std::fmt;

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{Domain, Timestamp};
use nightmail_engine::RowKey;

use crate::row::directory_key;

const VERSION: u8 = 1;

/// Begins the keys of these rows.
pub(crate) const SIGNING_PREFIX: &str = "k";

pub(crate) fn signing_key(name: &Domain) -> RowKey {
    directory_key(SIGNING_PREFIX, name.as_str().as_bytes())
}

/// Whether a DKIM key signs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum DkimKeyState {
    /// Made, and waiting for its record to be published.
    Pending,
    /// Signs.
    Active,
    /// Has signed; its record stays published for as long as such mail may be verified.
    Retired,
}

/// A key that signs mail of a domain (RFC 6376). The private key is never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct DkimKeyRecord {
    /// The signing domain: a domain of the directory, or an alternate name of one.
    pub domain: Domain,
    /// The selector: its public key is in DNS at `selector._domainkey.domain`.
    pub selector: String,
    /// [`DkimKeyRecord::RSA_2048`] or [`DkimKeyRecord::ED25519`].
    pub algorithm: u8,
    /// The private key (PKCS #8, DER).
    pub pkcs8: Vec<u8>,
    /// Whether it signs.
    pub state: DkimKeyState,
    /// When it was made.
    pub created: Timestamp,
    /// Since when it is in its state.
    pub changed: Timestamp,
}

impl DkimKeyRecord {
    /// RSA of 2048 bits with SHA-256.
    pub const RSA_2048: u8 = 1;
    /// Ed25519 with SHA-256 (RFC 8463).
    pub const ED25519: u8 = 2;
}

impl fmt::Debug for DkimKeyRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DkimKeyRecord")
            .field("domain", &self.domain)
            .field("selector", &self.selector)
            .field("algorithm", &self.algorithm)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

pub(crate) fn encode_dkim_keys(keys: &[DkimKeyRecord]) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.varint(keys.len() as u64);
    for key in keys {
        row.str(key.domain.as_str()).str(&key.selector);
        row.u8(key.algorithm).bytes(&key.pkcs8);
        row.u8(match key.state {
            DkimKeyState::Pending => 0,
            DkimKeyState::Active => 1,
            DkimKeyState::Retired => 2,
        });
        row.i64(key.created.millis()).i64(key.changed.millis());
    }
    row.finish()
}

pub(crate) fn decode_dkim_keys(row: &[u8]) -> Result<Vec<DkimKeyRecord>, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    let count = reader.varint()?;
    (0..count).map(|_| read_dkim_key(&mut reader)).collect()
}

fn read_dkim_key(reader: &mut RowReader<'_>) -> Result<DkimKeyRecord, RowError> {
    Ok(DkimKeyRecord {
        domain: Domain::parse(reader.str()?).map_err(|_| RowError::Invalid("domain"))?,
        selector: reader.str()?.to_owned(),
        algorithm: reader.u8()?,
        pkcs8: reader.bytes()?.to_vec(),
        state: match reader.u8()? {
            0 => DkimKeyState::Pending,
            1 => DkimKeyState::Active,
            2 => DkimKeyState::Retired,
            _ => return Err(RowError::Invalid("state of a DKIM key")),
        },
        created: Timestamp::from_millis(reader.i64()?),
        changed: Timestamp::from_millis(reader.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn state() -> impl Strategy<Value = DkimKeyState> {
        prop_oneof![
            Just(DkimKeyState::Pending),
            Just(DkimKeyState::Active),
            Just(DkimKeyState::Retired)
        ]
    }

    fn key() -> impl Strategy<Value = DkimKeyRecord> {
        let fields = (
            "[a-z]{1,6}",
            "[a-z0-9.]{1,9}",
            any::<(u8, Vec<u8>)>(),
            state(),
            any::<(i64, i64)>(),
        );
        fields.prop_map(
            |(domain, selector, (algorithm, pkcs8), state, (created, changed))| DkimKeyRecord {
                domain: Domain::parse(&domain).unwrap(),
                selector,
                algorithm,
                pkcs8,
                state,
                created: Timestamp::from_millis(created),
                changed: Timestamp::from_millis(changed),
            },
        )
    }

    proptest! {
        #[test]
        fn keys_read_back_as_written(keys in proptest::collection::vec(key(), 0..4)) {
            prop_assert_eq!(decode_dkim_keys(&encode_dkim_keys(&keys)), Ok(keys));
        }

        #[test]
        fn no_row_makes_a_reader_panic(row: Vec<u8>) {
            let _ = decode_dkim_keys(&row);
        }
    }

    #[test]
    fn debug_does_not_show_the_private_key() {
        let key = DkimKeyRecord {
            domain: Domain::parse("x.test").unwrap(),
            selector: "s1".into(),
            algorithm: DkimKeyRecord::ED25519,
            pkcs8: b"secret".to_vec(),
            state: DkimKeyState::Active,
            created: Timestamp::from_millis(0),
            changed: Timestamp::from_millis(0),
        };
        let shown = format!("{key:?}");
        assert!(shown.contains("s1") && !shown.contains("pkcs8"), "{shown}");
        assert!(!shown.contains("115"), "{shown}");
    }
}
