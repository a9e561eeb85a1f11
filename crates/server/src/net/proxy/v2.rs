//! Version 2: sixteen octets that say what follows, the addresses, and typed values behind them (section 2.2).

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use super::{HeaderError, Origin, Scan};

/// Most octets of addresses and typed values together: certificates that some proxies pass along fit in.
pub const BODY_OCTETS_MAX: usize = 4096;
pub(super) const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
/// The octets before the addresses.
const FIXED_OCTETS: usize = 16;
/// The type of the value that holds a checksum of the whole header (section 2.2.3).
const TYPE_CRC32C: u8 = 0x03;

/// Octets that agree with the signature.
pub(super) fn scan(octets: &[u8]) -> Result<Scan, HeaderError> {
    let Some((fixed, _)) = octets.split_first_chunk::<FIXED_OCTETS>() else {
        return Ok(Scan::Partial);
    };
    let [.., command, family, high, low] = *fixed;
    let command = Command::parse(command)?;
    let body_octets = usize::from(u16::from_be_bytes([high, low]));
    if body_octets > BODY_OCTETS_MAX {
        return Err(HeaderError::TooLong {
            limit: FIXED_OCTETS + BODY_OCTETS_MAX,
        });
    }
    let whole = FIXED_OCTETS + body_octets;
    let Some(header) = octets.get(..whole) else {
        return Ok(Scan::Partial);
    };
    let origin = match command {
        Command::Local => Origin::Proxy,
        Command::Proxy => Family::parse(family)?.origin(header)?,
    };
    Ok(Scan::Whole {
        octets: whole,
        origin,
    })
}

#[derive(Clone, Copy)]
enum Command {
    /// The proxy speaks for itself; all that follows is to be ignored.
    Local,
    /// The proxy speaks for a client.
    Proxy,
}

impl Command {
    fn parse(octet: u8) -> Result<Self, HeaderError> {
        match octet {
            0x20 => Ok(Self::Local),
            0x21 => Ok(Self::Proxy),
            _ => Err(HeaderError::Malformed("not a command of version 2")),
        }
    }
}

#[derive(Clone, Copy)]
enum Family {
    /// Not said: all that follows is to be ignored.
    Unspecified,
    /// TCP over IPv4.
    Tcp4,
    /// TCP over IPv6.
    Tcp6,
    /// Known, but nothing that has an address here: addresses of so many octets.
    Other(usize),
}

impl Family {
    fn parse(octet: u8) -> Result<Self, HeaderError> {
        match octet {
            0x00 => Ok(Self::Unspecified),
            0x11 => Ok(Self::Tcp4),
            0x21 => Ok(Self::Tcp6),
            0x12 => Ok(Self::Other(12)),
            0x22 => Ok(Self::Other(36)),
            0x31 | 0x32 => Ok(Self::Other(216)),
            _ => Err(HeaderError::Malformed("not an address family of version 2")),
        }
    }

    /// The client of a whole header.
    fn origin(self, header: &[u8]) -> Result<Origin, HeaderError> {
        let body = header.get(FIXED_OCTETS..).unwrap_or_default();
        let parsed = match self {
            Self::Unspecified => return Ok(Origin::Proxy),
            Self::Tcp4 => tcp4(body),
            Self::Tcp6 => tcp6(body),
            Self::Other(octets) => body.get(octets..).map(|values| (Origin::Proxy, values)),
        };
        let short = HeaderError::Malformed("too short for its addresses");
        let (origin, values) = parsed.ok_or(short)?;
        verify(header, values)?;
        Ok(origin)
    }
}

/// The client, and what stands behind the addresses.
fn tcp4(body: &[u8]) -> Option<(Origin, &[u8])> {
    let (source, rest) = body.split_first_chunk::<4>()?;
    let (_destination, rest) = rest.split_first_chunk::<4>()?;
    let (port, values) = source_port(rest)?;
    let client = SocketAddr::from((Ipv4Addr::from(*source), port));
    Some((Origin::Client(client), values))
}

fn tcp6(body: &[u8]) -> Option<(Origin, &[u8])> {
    let (source, rest) = body.split_first_chunk::<16>()?;
    let (_destination, rest) = rest.split_first_chunk::<16>()?;
    let (port, values) = source_port(rest)?;
    let client = SocketAddr::from((Ipv6Addr::from(*source), port));
    Some((Origin::Client(client), values))
}

fn source_port(ports: &[u8]) -> Option<(u16, &[u8])> {
    let (source, rest) = ports.split_first_chunk::<2>()?;
    let (_destination, values) = rest.split_first_chunk::<2>()?;
    Some((u16::from_be_bytes(*source), values))
}

/// Steps over the typed values at the end of a header, and checks the checksum where one is among them.
fn verify(header: &[u8], mut values: &[u8]) -> Result<(), HeaderError> {
    let torn = HeaderError::Malformed("a typed value goes beyond its end");
    while let Some((kind, rest)) = values.split_first() {
        let (length, rest) = rest.split_first_chunk::<2>().ok_or(torn)?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (value, behind) = rest.split_at_checked(length).ok_or(torn)?;
        if *kind == TYPE_CRC32C {
            let begin = header.len() - rest.len();
            check_sum(header, value, begin..begin + length)?;
        }
        values = behind;
    }
    Ok(())
}

/// The sum stands within the header, and is made over a header with zeros in that place.
fn check_sum(header: &[u8], value: &[u8], place: Range<usize>) -> Result<(), HeaderError> {
    let octets = header.iter().enumerate();
    let zeroed = octets.map(|(index, octet)| if place.contains(&index) { 0 } else { *octet });
    match value.first_chunk::<4>() {
        Some(sum) if value.len() == 4 && crc32c(zeroed) == u32::from_be_bytes(*sum) => Ok(()),
        _ => Err(HeaderError::Malformed("its checksum does not fit")),
    }
}

/// The checksum of RFC 9260, appendix A, bit by bit: a header is short, and few carry one.
fn crc32c(octets: impl Iterator<Item = u8>) -> u32 {
    const POLYNOMIAL: u32 = 0x82f6_3b78;
    let sum = octets.fold(u32::MAX, |sum, octet| {
        (0..8).fold(sum ^ u32::from(octet), |sum, _| match sum & 1 {
            1 => (sum >> 1) ^ POLYNOMIAL,
            _ => sum >> 1,
        })
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_that_of_the_published_examples() {
        // RFC 3720, appendix B.4.
        assert_eq!(crc32c([0; 32].into_iter()), 0x8a91_36aa);
        assert_eq!(crc32c([0xff; 32].into_iter()), 0x62a8_ab43);
        assert_eq!(crc32c(0..32), 0x46dd_794e);
        assert_eq!(crc32c(b"123456789".iter().copied()), 0xe306_9283);
    }
}
