//! The network that stands for one client.

use std::fmt;
use std::net::IpAddr;

use nightmail_core::net::IpNetwork;

/// An IPv4 address, or the /64 of an IPv6 address: what one site or household has to itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ClientNet(IpNetwork);

impl ClientNet {
    /// The network of a client.
    pub fn of(ip: IpAddr) -> Self {
        Self(network(ip, 32, 64))
    }

    /// The network of a client that retries from any of its machines: /24 of IPv4, /64 of IPv6.
    pub(crate) fn site_of(ip: IpAddr) -> Self {
        Self(network(ip, 24, 64))
    }

    /// The network.
    pub const fn network(&self) -> IpNetwork {
        self.0
    }
}

fn network(ip: IpAddr, bits_v4: u32, bits_v6: u32) -> IpNetwork {
    let ip = ip.to_canonical();
    let bits = match ip {
        IpAddr::V4(_) => bits_v4,
        IpAddr::V6(_) => bits_v6,
    };
    IpNetwork::new(ip, bits).unwrap_or_else(|| IpNetwork::from(ip))
}

impl fmt::Display for ClientNet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_one_ipv4_address_or_one_64_of_ipv6() {
        for (ip, net, site) in [
            ("192.0.2.9", "192.0.2.9", "192.0.2.0/24"),
            ("::ffff:192.0.2.9", "192.0.2.9", "192.0.2.0/24"),
            (
                "2001:db8:1:2:3::4",
                "2001:db8:1:2::/64",
                "2001:db8:1:2::/64",
            ),
        ] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(ClientNet::of(ip).to_string(), net);
            assert_eq!(ClientNet::site_of(ip).to_string(), site);
        }
    }
}
