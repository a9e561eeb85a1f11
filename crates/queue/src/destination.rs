//! Where queued mail goes, and the form of that in keys.

use std::fmt;
use std::sync::Arc;

use nightmail_core::Domain;
use nightmail_core::codec::RowError;

/// The name of a relay of the configuration.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RelayName(Arc<str>);

impl RelayName {
    /// A name; `None` when it is empty or has a NUL.
    pub fn new(name: &str) -> Option<Self> {
        (!name.is_empty() && !name.contains('\0')).then(|| Self(name.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RelayName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Where a recipient's mail waits to go.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Destination {
    /// The hosts that take mail for a domain, or an address literal, by whatever route the configuration says.
    Domain(Domain),
    /// A relay, by an operator's word, whatever the domain.
    Relay(RelayName),
    /// Nowhere yet: a message that is held back whole and routed when it is let go.
    Unrouted,
}

const DOMAIN: u8 = b'd';
const RELAY: u8 = b'r';
const UNROUTED: u8 = b'u';
/// Ends a destination in a key. Neither domains nor names of relays have it.
const END: u8 = 0;

impl Destination {
    /// What keys of the index begin with. Domains have their labels backwards, so that what is below a domain lies
    /// next to it.
    pub(crate) fn key(&self) -> Vec<u8> {
        let mut key = match self {
            Self::Domain(domain) => domain_key(domain),
            Self::Relay(name) => [&[RELAY], name.as_str().as_bytes()].concat(),
            Self::Unrouted => vec![UNROUTED],
        };
        key.push(END);
        key
    }

    /// What the keys of everything below a domain begin with.
    pub(crate) fn key_below(domain: &Domain) -> Vec<u8> {
        let mut key = domain_key(domain);
        key.push(b'.');
        key
    }

    /// Splits a key into the destination and the rest.
    pub(crate) fn split(key: &[u8]) -> Result<(Self, &[u8]), RowError> {
        let end = key.iter().position(|byte| *byte == END);
        let (name, rest) = end
            .and_then(|end| Some((key.get(..end)?, key.get(end + 1..)?)))
            .ok_or(RowError::Short)?;
        let (kind, name) = name.split_first().ok_or(RowError::Short)?;
        let name = std::str::from_utf8(name).map_err(|_| RowError::Invalid("destination"))?;
        let destination = match *kind {
            DOMAIN => Self::Domain(
                backwards(name)
                    .parse()
                    .map_err(|_| RowError::Invalid("destination"))?,
            ),
            RELAY => Self::Relay(RelayName::new(name).ok_or(RowError::Invalid("relay"))?),
            UNROUTED => Self::Unrouted,
            _ => return Err(RowError::Invalid("destination")),
        };
        Ok((destination, rest))
    }
}

fn domain_key(domain: &Domain) -> Vec<u8> {
    [&[DOMAIN], backwards(domain.as_str()).as_bytes()].concat()
}

fn backwards(name: &str) -> String {
    name.rsplit('.').collect::<Vec<_>>().join(".")
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Relay(name) => write!(f, "relay {name}"),
            Self::Unrouted => f.write_str("held back"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn domain(name: &str) -> Destination {
        Destination::Domain(name.parse().unwrap())
    }

    #[test]
    fn keys_name_their_destination() {
        let relay = Destination::Relay(RelayName::new("hub").unwrap());
        for destination in [
            domain("far.test"),
            domain("a.b.far.test"),
            domain("test"),
            domain("[192.0.2.1]"),
            domain("[IPv6:2001:db8::1]"),
            relay,
            Destination::Unrouted,
        ] {
            let key = [destination.key(), b"rest".to_vec()].concat();
            assert_eq!(
                Destination::split(&key).unwrap(),
                (destination, b"rest".as_slice())
            );
        }
        assert!(Destination::split(b"dno end").is_err());
        assert!(Destination::split(&[0]).is_err());
    }

    #[test]
    fn what_is_below_a_domain_begins_as_it_does() {
        let below = Destination::key_below(&"far.test".parse().unwrap());
        assert!(domain("a.far.test").key().starts_with(&below));
        assert!(domain("b.a.far.test").key().starts_with(&below));
        assert!(!domain("far.test").key().starts_with(&below));
        assert!(!domain("afar.test").key().starts_with(&below));
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(key in any::<Vec<u8>>()) {
            let _ = Destination::split(&key);
        }
    }
}
