//! From a destination to the addresses that are tried, in their order (RFC 5321 §5.1).

use std::net::{IpAddr, SocketAddr};

use nightmail_core::{Address, Domain};
use nightmail_queue::QueueMessage;
use tokio::task::JoinSet;

use crate::channel::Channel;
use crate::dns::{Mx, NoRoute};
use crate::options::SmarthostTls;

/// Where a group of recipients goes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) enum Destination {
    /// The hosts that take mail for a domain, or an address literal.
    Domain(Domain),
    /// The smarthost, whatever the domain.
    Smarthost,
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Smarthost => f.write_str("the smarthost"),
        }
    }
}

/// How a connection is protected.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Protection {
    /// Plain.
    None,
    /// STARTTLS if offered, unverified; plain when that fails.
    Opportunistic,
    /// STARTTLS or nothing, verified.
    StartTls,
    /// TLS from the first byte, verified.
    Implicit,
}

/// One address to try.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Target {
    /// The host's name, for logs, reports and TLS.
    pub host: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// How the connection is protected.
    pub protection: Protection,
}

/// A host and what its addresses turned out to be.
struct Resolved {
    mx: Mx,
    addresses: Result<Vec<IpAddr>, NoRoute>,
}

/// Groups the recipients of a message that are due by destination, in the order they were given.
pub(crate) fn group<'a>(
    due: impl Iterator<Item = (usize, &'a Address)>,
    to_smarthost: bool,
) -> Vec<(Destination, Vec<usize>)> {
    let mut groups: Vec<(Destination, Vec<usize>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (index, address) in due {
        let destination = if to_smarthost {
            Destination::Smarthost
        } else {
            Destination::Domain(address.domain().clone())
        };
        let place = *places.entry(destination.clone()).or_insert_with(|| {
            groups.push((destination, Vec::new()));
            groups.len() - 1
        });
        if let Some((_, indexes)) = groups.get_mut(place) {
            indexes.push(index);
        }
    }
    groups
}

/// The pending recipients of `message` that are due at `now`.
pub(crate) fn due_recipients(
    message: &QueueMessage,
    now: nightmail_core::Timestamp,
) -> impl Iterator<Item = (usize, &Address)> {
    message
        .pending()
        .filter(move |(_, recipient)| recipient.next_attempt().is_some_and(|at| at <= now))
        .map(|(index, recipient)| (index, &recipient.address))
}

impl Channel {
    /// The addresses of a destination, best first, at most as many as one attempt tries. `require_tls`: whether they
    /// are of use only over verified TLS.
    pub(crate) async fn route(
        &self,
        destination: &Destination,
        require_tls: bool,
    ) -> Result<Vec<Target>, NoRoute> {
        let mut targets = match destination {
            Destination::Smarthost => self.smarthost_targets().await?,
            Destination::Domain(domain) => match domain.as_literal() {
                Some(ip) => self.literal_targets(ip)?,
                None => self.mx_targets(domain).await?,
            },
        };
        targets.truncate(self.options.limits.addresses_max);
        for target in targets.iter_mut().filter(|_| require_tls) {
            target.protection = match target.protection {
                Protection::Implicit => Protection::Implicit,
                Protection::None | Protection::Opportunistic | Protection::StartTls => {
                    Protection::StartTls
                }
            };
        }
        Ok(targets)
    }

    async fn smarthost_targets(&self) -> Result<Vec<Target>, NoRoute> {
        let Some(smarthost) = &self.options.smarthost else {
            return Err(NoRoute::temporary(
                "4.3.5",
                "no smarthost is configured".into(),
            ));
        };
        // A smarthost that cannot be found is this site's misconfiguration, not the recipient's fault.
        let addresses = self
            .dns
            .addresses(&smarthost.host)
            .await
            .map_err(|failure| NoRoute {
                permanent: false,
                status: "4.4.3",
                ..failure
            })?;
        let protection = match smarthost.tls {
            SmarthostTls::None => Protection::None,
            SmarthostTls::Opportunistic => Protection::Opportunistic,
            SmarthostTls::StartTls => Protection::StartTls,
            SmarthostTls::Implicit => Protection::Implicit,
        };
        let target = |ip| Target {
            host: smarthost.host.clone(),
            address: SocketAddr::new(ip, smarthost.port),
            protection,
        };
        Ok(addresses.into_iter().map(target).collect())
    }

    fn literal_targets(&self, ip: IpAddr) -> Result<Vec<Target>, NoRoute> {
        if self.options.own_addresses.contains(&ip) {
            return Err(loops_back(&ip.to_string()));
        }
        Ok(vec![self.mx_target(&Domain::literal(ip).to_string(), ip)])
    }

    async fn mx_targets(&self, domain: &Domain) -> Result<Vec<Target>, NoRoute> {
        let mut hosts = self.dns.mail_hosts(domain).await?;
        hosts.truncate(self.options.limits.hosts_max);
        // Shuffling before the stable sort leaves equals in random order.
        self.random.shuffle(&mut hosts);
        hosts.sort_by_key(|mx| mx.preference);
        let mut resolved = self.resolve(hosts).await;
        let ours = resolved
            .iter()
            .filter(|host| self.is_own(host))
            .map(|host| host.mx.preference)
            .min();
        if let Some(ours) = ours {
            resolved.retain(|host| host.mx.preference < ours);
            if resolved.is_empty() {
                return Err(loops_back(domain.as_str()));
            }
        }
        self.targets_of(resolved)
    }

    /// Looks up the addresses of all hosts at once and keeps the order of the hosts.
    async fn resolve(&self, hosts: Vec<Mx>) -> Vec<Resolved> {
        let mut lookups = JoinSet::new();
        for (place, mx) in hosts.into_iter().enumerate() {
            let dns = std::sync::Arc::clone(&self.dns);
            lookups.spawn(async move {
                let addresses = dns.addresses(&mx.host).await;
                (place, Resolved { mx, addresses })
            });
        }
        let mut resolved: Vec<(usize, Resolved)> = Vec::new();
        while let Some(found) = lookups.join_next().await {
            resolved.extend(found);
        }
        resolved.sort_by_key(|(place, _)| *place);
        resolved.into_iter().map(|(_, host)| host).collect()
    }

    fn is_own(&self, host: &Resolved) -> bool {
        let names = std::iter::once(&self.options.host_name).chain(&self.options.own_names);
        let own_name = names.into_iter().any(|name| name.as_str() == host.mx.host);
        let own_address = || {
            let addresses = host.addresses.as_deref().unwrap_or_default();
            addresses
                .iter()
                .any(|ip| self.options.own_addresses.contains(ip))
        };
        own_name || own_address()
    }

    /// The addresses of the hosts in turn. Without any, a host that may have one later outweighs those that never will.
    fn targets_of(&self, resolved: Vec<Resolved>) -> Result<Vec<Target>, NoRoute> {
        let mut targets = Vec::new();
        let mut failure: Option<NoRoute> = None;
        for Resolved { mx, addresses } in resolved {
            match addresses {
                Ok(addresses) => {
                    targets.extend(addresses.into_iter().map(|ip| self.mx_target(&mx.host, ip)))
                }
                Err(found) if failure.as_ref().is_none_or(|known| known.permanent) => {
                    failure = Some(found)
                }
                Err(_) => {}
            }
        }
        match failure {
            Some(failure) if targets.is_empty() => Err(failure),
            _ => Ok(targets),
        }
    }

    fn mx_target(&self, host: &str, ip: IpAddr) -> Target {
        let protection = if self.options.mx_tls {
            Protection::Opportunistic
        } else {
            Protection::None
        };
        Target {
            host: host.to_owned(),
            address: SocketAddr::new(ip, self.options.mx_port),
            protection,
        }
    }
}

fn loops_back(destination: &str) -> NoRoute {
    NoRoute::permanent(
        "5.4.6",
        format!("mail for {destination} loops back to this host"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_are_grouped_by_domain_in_the_order_given() {
        let addresses: Vec<Address> = ["a@x.test", "b@y.test", "c@X.test"]
            .iter()
            .map(|text| text.parse().unwrap())
            .collect();
        let due = || addresses.iter().enumerate();
        let domain = |name: &str| Destination::Domain(name.parse().unwrap());
        assert_eq!(
            group(due(), false),
            [(domain("x.test"), vec![0, 2]), (domain("y.test"), vec![1])]
        );
        assert_eq!(
            group(due(), true),
            [(Destination::Smarthost, vec![0, 1, 2])]
        );
    }
}
