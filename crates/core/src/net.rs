//! IP networks as a value: `10.0.0.0/8`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

/// Text that is not exactly a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not an IP address or network")]
pub struct NetworkError;

/// The IP addresses that begin alike: an address and how many of its bits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpNetwork {
    /// Its bits behind the prefix are zero.
    address: IpAddr,
    prefix_bits: u32,
}

impl IpNetwork {
    /// The network of the addresses whose first `prefix_bits` bits are those of `address`; `None` when an address of its
    /// family has fewer bits. An IPv4 address in its IPv6-mapped form is taken as it is.
    pub fn new(address: IpAddr, prefix_bits: u32) -> Option<Self> {
        Some(Self {
            address: masked(address, prefix_bits)?,
            prefix_bits,
        })
    }

    /// The first address of the network.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether an address lies in the network. An IPv4 address in its IPv6-mapped form is that IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        masked(address.to_canonical(), self.prefix_bits) == Some(self.address)
            && address.to_canonical().is_ipv4() == self.address.is_ipv4()
    }
}

/// The address with every bit behind the prefix cleared; `None` when it has no prefix of that length.
fn masked(address: IpAddr, prefix_bits: u32) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(v4) => {
            let behind = u32::BITS.checked_sub(prefix_bits)?;
            let mask = u32::MAX.checked_shl(behind).unwrap_or(0);
            IpAddr::V4((v4.to_bits() & mask).into())
        }
        IpAddr::V6(v6) => {
            let behind = u128::BITS.checked_sub(prefix_bits)?;
            let mask = u128::MAX.checked_shl(behind).unwrap_or(0);
            IpAddr::V6((v6.to_bits() & mask).into())
        }
    })
}

const fn address_bits(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => u32::BITS,
        IpAddr::V6(_) => u128::BITS,
    }
}

/// The network of one address.
impl From<IpAddr> for IpNetwork {
    fn from(address: IpAddr) -> Self {
        Self {
            address,
            prefix_bits: address_bits(&address),
        }
    }
}

impl FromStr for IpNetwork {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| NetworkError)?;
        let prefix_bits = match prefix {
            None => address_bits(&address),
            Some(bits) if bits.bytes().all(|octet| octet.is_ascii_digit()) => {
                bits.parse().map_err(|_| NetworkError)?
            }
            Some(_) => return Err(NetworkError),
        };
        // A mapped address would stand for nobody, as clients are known by their IPv4 addresses.
        let exact = masked(address, prefix_bits) == Some(address);
        match exact && address.to_canonical() == address {
            true => Ok(Self {
                address,
                prefix_bits,
            }),
            false => Err(NetworkError),
        }
    }
}

impl fmt::Display for IpNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix_bits == address_bits(&self.address) {
            self.address.fmt(f)
        } else {
            write!(f, "{}/{}", self.address, self.prefix_bits)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> IpNetwork {
        text.parse().unwrap()
    }

    #[test]
    fn a_network_holds_the_addresses_that_begin_like_it() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("192.0.2.1", "192.0.2.1", "192.0.2.2"),
            ("192.0.2.128/25", "192.0.2.200", "192.0.2.127"),
            ("0.0.0.0/0", "203.0.113.9", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::"),
            ("::1", "::1", "127.0.0.1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
        ] {
            assert!(network(text).contains(inside.parse().unwrap()), "{text}");
            assert!(!network(text).contains(outside.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn bits_behind_the_prefix_do_not_count_when_it_is_made() {
        let made = |text: &str, bits| IpNetwork::new(text.parse().unwrap(), bits);
        assert_eq!(made("10.1.2.3", 8), Some(network("10.0.0.0/8")));
        assert_eq!(made("2001:db8::1", 64), Some(network("2001:db8::/64")));
        assert_eq!(made("10.1.2.3", 33), None);
    }

    #[test]
    fn what_is_not_exactly_a_network_is_refused() {
        for wrong in [
            "",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/+8",
            "10.0.0.0/99999999999",
            "10.0.0.1/8",
            "10.0.0/8",
            "2001:db8::1/64",
            "2001:db8::/129",
            "::ffff:10.0.0.0/104",
            "localhost",
            "10.0.0.0/8/8",
        ] {
            assert_eq!(wrong.parse::<IpNetwork>(), Err(NetworkError), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn networks_read_back_as_written(bits: u128, is_v4: bool, prefix in 0u32..=128) {
            let address = match is_v4 {
                true => IpAddr::V4((bits as u32).into()),
                false => IpAddr::V6(bits.into()),
            };
            let prefix_bits = prefix.min(address_bits(&address));
            let address = masked(address, prefix_bits).unwrap();
            prop_assume!(address.to_canonical() == address);
            let network = IpNetwork { address, prefix_bits };
            prop_assert_eq!(network.to_string().parse(), Ok(network));
            prop_assert!(network.contains(address));
        }
    }
}
