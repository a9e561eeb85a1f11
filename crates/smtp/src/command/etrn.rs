//! ETRN (RFC 1985): whose waiting mail a client wants to be sent.

use std::fmt;

use nightmail_core::Domain;

use super::{CommandError, words};

/// Octets of the name of a queue.
const QUEUE_OCTETS_MAX: usize = 255;

/// Whose mail is meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EtrnTarget {
    /// That of one domain.
    Domain(Domain),
    /// `@`: that of a domain and all below it.
    Subdomains(Domain),
    /// `#`: that of a queue, by the name the server gives it: visible ASCII.
    Queue(String),
}

impl EtrnTarget {
    /// Parses what follows the verb.
    pub fn parse(args: &[u8]) -> Result<Self, CommandError> {
        let bad = CommandError::Arguments;
        let mut words = words(args);
        let word = words.next().filter(|_| words.next().is_none()).ok_or(bad)?;
        let text = std::str::from_utf8(word).map_err(|_| bad)?;
        let domain = |name| Domain::parse(name).map_err(|_| bad);
        if let Some(name) = text.strip_prefix('@') {
            return domain(name).map(Self::Subdomains);
        }
        let Some(name) = text.strip_prefix('#') else {
            return domain(text).map(Self::Domain);
        };
        let fits = (1..=QUEUE_OCTETS_MAX).contains(&name.len());
        match fits && name.bytes().all(|b| b.is_ascii_graphic()) {
            true => Ok(Self::Queue(name.to_owned())),
            false => Err(bad),
        }
    }
}

/// The argument of ETRN.
impl fmt::Display for EtrnTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Subdomains(domain) => write!(f, "@{domain}"),
            Self::Queue(name) => write!(f, "#{name}"),
        }
    }
}
