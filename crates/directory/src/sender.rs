//! What accounts may send as beyond what is their own, and the rows of that: `s` id → addresses and domains.

use std::fmt;

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Address, AddressError, Domain};
use nightmail_engine::RowKey;

use crate::row::directory_key;

const VERSION: u8 = 1;

/// Begins the keys of these rows.
pub(crate) const SENDERS_PREFIX: &str = "s";

pub(crate) fn senders_key(id: AccountId) -> RowKey {
    directory_key(SENDERS_PREFIX, &id.to_be_bytes())
}

/// Something that an account was given to send as.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Sender {
    /// One address.
    Address(Address),
    /// Every address of a domain, which need not be one of this server. Written `@example.org`.
    Domain(Domain),
}

impl Sender {
    /// Parses `ann@example.org` or `@example.org`.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix('@') {
            Some(domain) => Domain::parse(domain).map(Self::Domain),
            None => Address::parse(text).map(Self::Address),
        }
    }
}

impl fmt::Display for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Domain(domain) => write!(f, "@{domain}"),
        }
    }
}

pub(crate) fn encode_senders(senders: &[Sender]) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.varint(senders.len() as u64);
    for sender in senders {
        row.str(&sender.to_string());
    }
    row.finish()
}

pub(crate) fn decode_senders(row: &[u8]) -> Result<Vec<Sender>, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    let count = reader.varint()?;
    (0..count)
        .map(|_| Sender::parse(reader.str()?).map_err(|_| RowError::Invalid("sender")))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sender() -> impl Strategy<Value = Sender> {
        ("[a-zé.@ ]{0,6}", "[a-z]{1,5}", any::<bool>()).prop_map(|(local, domain, whole)| {
            let domain = Domain::parse(&domain).unwrap();
            match whole {
                true => Sender::Domain(domain),
                false => Sender::parse(&format!("\"{local}\"@{domain}")).unwrap(),
            }
        })
    }

    proptest! {
        #[test]
        fn senders_read_back_as_written(senders in proptest::collection::vec(sender(), 0..5)) {
            prop_assert_eq!(decode_senders(&encode_senders(&senders)), Ok(senders));
        }

        #[test]
        fn no_row_makes_a_reader_panic(row: Vec<u8>) {
            let _ = decode_senders(&row);
        }
    }

    #[test]
    fn an_at_sign_in_front_means_the_whole_domain() {
        let domain = Domain::parse("x.test").unwrap();
        assert_eq!(Sender::parse("@X.test"), Ok(Sender::Domain(domain)));
        assert!(Sender::parse("x.test").is_err());
        assert!(Sender::parse("@").is_err());
    }
}
