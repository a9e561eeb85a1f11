//! How often the clients of a network were wrong about who they are, over all protocols.
//!
//! A count for each network that runs off evenly over an hour. Bounded in networks: under an attack from very many, those
//! that were wrong least often are forgotten first.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

const HOUR: Duration = Duration::from_secs(3600);
/// Most networks remembered.
const NETWORKS_MAX: usize = 65_536;
/// How long a login waits once its network has been wrong too often.
pub(super) const LATE: Duration = Duration::from_secs(3);

/// How a network stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Standing {
    /// Nothing against it.
    Good,
    /// Its logins are looked at, but late.
    Late,
    /// Its logins are not looked at.
    Barred,
}

/// Failed logins by network.
pub(super) struct Attempts {
    /// In an hour; 0 is any number.
    limit: u32,
    networks: Mutex<HashMap<IpAddr, Failures>>,
}

#[derive(Clone, Copy)]
struct Failures {
    count: f64,
    at: Instant,
}

impl Failures {
    /// What is left of the count.
    fn left(self, limit: u32, now: Instant) -> f64 {
        let elapsed = now.saturating_duration_since(self.at).as_secs_f64();
        (self.count - f64::from(limit) * elapsed / HOUR.as_secs_f64()).max(0.0)
    }
}

/// The network of an address: IPv4 /32, IPv6 /64.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64)).into(),
        address => address,
    }
}

impl Attempts {
    pub(super) fn new(limit: u32) -> Self {
        Self {
            limit,
            networks: Mutex::default(),
        }
    }

    /// How the network of an address stands now.
    pub(super) fn standing(&self, address: IpAddr, now: Instant) -> Standing {
        let limit = f64::from(self.limit);
        let networks = self.networks.lock();
        let failures = networks.get(&network(address));
        match failures.map(|failures| failures.left(self.limit, now).ceil()) {
            Some(left) if self.limit > 0 && left >= 2.0 * limit => Standing::Barred,
            Some(left) if self.limit > 0 && left >= limit => Standing::Late,
            _ => Standing::Good,
        }
    }

    /// Counts a failed login.
    pub(super) fn failed(&self, address: IpAddr, now: Instant) {
        if self.limit == 0 {
            return;
        }
        let network = network(address);
        let mut networks = self.networks.lock();
        if networks.len() >= NETWORKS_MAX && !networks.contains_key(&network) {
            make_room(&mut networks, self.limit, now);
        }
        let known = networks.get(&network);
        let count = known.map_or(0.0, |failures| failures.left(self.limit, now)) + 1.0;
        networks.insert(network, Failures { count, at: now });
    }
}

/// Forgets at least half of the networks: all that were wrong less often than the average, then any.
fn make_room(networks: &mut HashMap<IpAddr, Failures>, limit: u32, now: Instant) {
    let lefts = networks.values().map(|failures| failures.left(limit, now));
    let average = lefts.sum::<f64>() / NETWORKS_MAX as f64;
    networks.retain(|_, failures| failures.left(limit, now) > average);
    let mut kept = 0;
    networks.retain(|_, _| {
        kept += 1;
        kept <= NETWORKS_MAX / 2
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_is_wrong_too_often_waits_and_is_then_barred() {
        let attempts = Attempts::new(10);
        let start = Instant::now();
        let one: IpAddr = "2001:db8::1".parse().unwrap();
        let same: IpAddr = "2001:db8::ffff:2".parse().unwrap();
        let other: IpAddr = "2001:db8:0:1::1".parse().unwrap();
        for count in 0..20 {
            let expected = if count < 10 {
                Standing::Good
            } else {
                Standing::Late
            };
            assert_eq!(attempts.standing(same, start), expected, "after {count}");
            attempts.failed(one, start);
        }
        assert_eq!(attempts.standing(same, start), Standing::Barred);
        assert_eq!(attempts.standing(other, start), Standing::Good);
        assert_eq!(attempts.standing(one, start + HOUR / 2), Standing::Late);
        assert_eq!(attempts.standing(one, start + HOUR * 2), Standing::Good);
    }

    #[test]
    fn no_limit_bars_nobody() {
        let attempts = Attempts::new(0);
        let (now, address) = (Instant::now(), IpAddr::from([192, 0, 2, 1]));
        for _ in 0..100 {
            attempts.failed(address, now);
        }
        assert_eq!(attempts.standing(address, now), Standing::Good);
        assert!(attempts.networks.lock().is_empty());
    }

    #[test]
    fn the_worst_are_remembered_when_there_are_too_many() {
        let attempts = Attempts::new(1);
        let now = Instant::now();
        let worst = IpAddr::from([192, 0, 2, 1]);
        attempts.failed(worst, now);
        attempts.failed(worst, now);
        for number in 0..u32::try_from(NETWORKS_MAX).unwrap() {
            attempts.failed(IpAddr::from((0x0a00_0000 + number).to_be_bytes()), now);
        }
        assert!(attempts.networks.lock().len() <= NETWORKS_MAX);
        assert_eq!(attempts.standing(worst, now), Standing::Barred);
    }
}
