//! Version 1: a line of text, `PROXY TCP4 192.0.2.1 198.51.100.1 56324 25` with its CRLF (section 2.1).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::{FromStr, Split};

use super::{HeaderError, Origin, Scan};

/// The longest line with its CRLF, as the specification counts it.
pub const LINE_OCTETS_MAX: usize = 107;
pub(super) const SIGNATURE: &[u8] = b"PROXY ";

const MALFORMED: HeaderError = HeaderError::Malformed(
    "version 1 is a line such as \"PROXY TCP4 192.0.2.1 192.0.2.2 56324 25\"",
);

/// Octets that agree with the signature.
pub(super) fn scan(octets: &[u8]) -> Result<Scan, HeaderError> {
    let mut possible = octets.iter().take(LINE_OCTETS_MAX);
    let Some(end) = possible.position(|octet| *octet == b'\n') else {
        return match octets.len() < LINE_OCTETS_MAX {
            true => Ok(Scan::Partial),
            false => Err(HeaderError::TooLong {
                limit: LINE_OCTETS_MAX,
            }),
        };
    };
    let line = octets.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let words = line.and_then(|line| line.strip_prefix(SIGNATURE));
    let origin = words.and_then(origin).ok_or(MALFORMED)?;
    Ok(Scan::Whole {
        octets: end + 1,
        origin,
    })
}

/// What stands behind `PROXY`. Behind UNKNOWN anything may stand, and means nothing.
fn origin(words: &[u8]) -> Option<Origin> {
    if words == b"UNKNOWN" || words.starts_with(b"UNKNOWN ") {
        return Some(Origin::Proxy);
    }
    let mut words = std::str::from_utf8(words).ok()?.split(' ');
    match words.next()? {
        "TCP4" => client::<Ipv4Addr>(words),
        "TCP6" => client::<Ipv6Addr>(words),
        _ => None,
    }
}

/// Source and destination address, source and destination port, and nothing else.
fn client<A: FromStr + Into<IpAddr>>(mut words: Split<'_, char>) -> Option<Origin> {
    let source: A = words.next()?.parse().ok()?;
    let _destination: A = words.next()?.parse().ok()?;
    let source_port = port(words.next()?)?;
    let _destination_port = port(words.next()?)?;
    match words.next() {
        Some(_) => None,
        None => Some(Origin::Client(SocketAddr::new(source.into(), source_port))),
    }
}

/// A decimal number without sign and without zeros in front.
fn port(text: &str) -> Option<u16> {
    let plain = text == "0" || text.starts_with(|first: char| matches!(first, '1'..='9'));
    plain.then(|| text.parse().ok()).flatten()
}
