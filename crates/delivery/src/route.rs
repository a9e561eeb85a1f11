//! From a destination to its site, and from a site to the addresses that are tried, in their order (RFC 5321 §5.1).

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use nightmail_core::{Address, Domain, Timestamp};
use nightmail_pace::{Settings, Via};
use nightmail_queue::{Destination, QueueMessage, Recipient};
use nightmail_tlspolicy::{Policy, StsDecision};
use tokio::task::JoinSet;

use crate::channel::Channel;
use crate::dns::{Mx, NoRoute};
use crate::tls::Protection;

/// The way to a site.
#[derive(Clone, Debug)]
pub(crate) enum Route {
    /// Mail exchangers.
    Hosts(Exchangers),
    /// An address literal.
    Literal(IpAddr),
    /// A relay of the configuration.
    Relay(String),
    /// None, and why.
    Nowhere(NoRoute),
}

/// The mail exchangers of a domain.
#[derive(Clone, Debug)]
pub(crate) struct Exchangers {
    /// Lowest preference first.
    pub hosts: Vec<Mx>,
    /// Whether the answer that named them is proven (DNSSEC).
    pub secure: bool,
    /// What the domain's policy says.
    pub sts: StsDecision,
}

impl Route {
    /// What sites with the same hosts, reached in the same way, have in common.
    pub fn key(&self) -> String {
        match self {
            Self::Hosts(exchangers) => {
                let mut hosts: Vec<String> = exchangers
                    .hosts
                    .iter()
                    .map(|mx| format!("{} {}", mx.preference, mx.host))
                    .collect();
                hosts.sort_unstable();
                let policy = match &exchangers.sts {
                    StsDecision::None => "",
                    StsDecision::Testing(_) => "testing",
                    StsDecision::Enforce(policy) if allows_any(policy, &exchangers.hosts) => {
                        "enforce"
                    }
                    StsDecision::Enforce(_) => "refuse",
                };
                format!("{};{policy};{}", hosts.join(","), exchangers.secure)
            }
            Self::Literal(ip) => Domain::literal(*ip).to_string(),
            Self::Relay(name) => format!("relay {name}"),
            Self::Nowhere(why) => format!("nowhere {} {}", why.status, why.text),
        }
    }

    /// What to call it: its best host, or the relay.
    pub fn name(&self) -> String {
        match self {
            Self::Hosts(exchangers) => exchangers
                .hosts
                .first()
                .map_or_else(String::new, |mx| mx.host.clone()),
            Self::Literal(ip) => Domain::literal(*ip).to_string(),
            Self::Relay(name) => format!("relay {name}"),
            Self::Nowhere(_) => "nowhere".to_owned(),
        }
    }

    /// The relay, where it is one.
    pub fn relay(&self) -> Option<&str> {
        match self {
            Self::Relay(name) => Some(name),
            Self::Hosts(_) | Self::Literal(_) | Self::Nowhere(_) => None,
        }
    }
}

/// A host and one of its addresses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Candidate {
    /// The host's name, for logs, reports and TLS.
    pub host: String,
    /// Where to connect.
    pub address: SocketAddr,
}

/// One address to try, and how.
#[derive(Clone)]
pub(crate) struct Target {
    /// The host's name, for logs and reports.
    pub host: String,
    /// The name that TLS asks for.
    pub server_name: String,
    /// Where to connect.
    pub address: SocketAddr,
    /// How the connection is protected.
    pub protection: Protection,
    /// Whether that may be less than what the recipient's site promises: it is for mail that may go so.
    pub relaxed: bool,
}

/// A host and what its addresses turned out to be.
struct Resolved {
    mx: Mx,
    addresses: Result<Vec<IpAddr>, NoRoute>,
}

/// Whether a recipient is to be tried at `now`.
pub(crate) fn is_due(recipient: &Recipient, now: Timestamp) -> bool {
    recipient.hold.is_none() && recipient.next_attempt().is_some_and(|at| at <= now)
}

/// The pending recipients of `message` that are due at `now`.
pub(crate) fn due_recipients(
    message: &QueueMessage,
    now: Timestamp,
) -> impl Iterator<Item = (usize, &Address)> {
    message
        .pending()
        .filter(move |(_, recipient)| is_due(recipient, now))
        .map(|(index, recipient)| (index, &recipient.address))
}

impl Channel {
    /// The way to a destination, and what holds for it.
    pub(crate) async fn route(&self, destination: &Destination) -> (Route, Arc<Settings>) {
        let policies = &self.options.policies;
        let domain = match destination {
            Destination::Domain(domain) => domain,
            Destination::Relay(name) => {
                let route = Route::Relay(name.as_str().to_owned());
                return (route, Arc::clone(policies.default_settings()));
            }
            Destination::Unrouted => {
                let why = NoRoute::temporary("4.3.0", "held back".into());
                return (Route::Nowhere(why), Arc::clone(policies.default_settings()));
            }
        };
        let settings = policies.of(domain.as_str(), &[]);
        if let Via::Relay(name) = &settings.route {
            return (Route::Relay(name.clone()), settings);
        }
        if let Some(ip) = domain.as_literal() {
            let route = match self.options.own_addresses.contains(&ip) {
                true => Route::Nowhere(loops_back(&ip.to_string())),
                false => Route::Literal(ip),
            };
            return (route, settings);
        }
        match self.exchangers(domain, &settings).await {
            Ok(exchangers) => {
                let names: Vec<String> =
                    exchangers.hosts.iter().map(|mx| mx.host.clone()).collect();
                let settings = policies.of(domain.as_str(), &names);
                (Route::Hosts(exchangers), settings)
            }
            Err(why) => match &settings.route {
                Via::MxThenRelay(relay) if !why.permanent || settings.relay_unknown => {
                    (Route::Relay(relay.clone()), settings)
                }
                _ => (Route::Nowhere(why), settings),
            },
        }
    }

    /// The exchangers of a domain that its policy allows. Those of this host, and those behind it, are left out.
    async fn exchangers(
        &self,
        domain: &Domain,
        settings: &Settings,
    ) -> Result<Exchangers, NoRoute> {
        let sts = async {
            match &self.options.tls_policies {
                Some(policies) if settings.mta_sts => policies.of(domain).await,
                _ => StsDecision::None,
            }
        };
        let (found, sts) = tokio::join!(self.dns.mail_hosts(domain), sts);
        let (mut hosts, secure) = found?;
        hosts.truncate(self.options.limits.hosts_max);
        hosts.sort_by_key(|mx| mx.preference);
        let names = || std::iter::once(&self.options.host_name).chain(&self.options.own_names);
        let is_own = |mx: &&Mx| names().any(|name| name.as_str() == mx.host);
        if let Some(ours) = hosts.iter().find(is_own).map(|mx| mx.preference) {
            hosts.retain(|mx| mx.preference < ours);
            if hosts.is_empty() {
                return Err(loops_back(domain.as_str()));
            }
        }
        // Where it allows none, they are kept for mail that may go without TLS, and refused to other mail one by one.
        if let StsDecision::Enforce(policy) = &sts
            && allows_any(policy, &hosts)
        {
            self.note_hosts_not_allowed(domain, policy, &hosts);
            hosts.retain(|mx| policy.allows(&mx.host));
        }
        Ok(Exchangers { hosts, secure, sts })
    }

    /// The addresses of a site, best first, at most as many as one attempt tries.
    pub(crate) async fn candidates(&self, route: &Route) -> Result<Vec<Candidate>, NoRoute> {
        let mut candidates = match route {
            Route::Hosts(exchangers) => self.exchanger_addresses(exchangers).await?,
            Route::Literal(ip) => vec![Candidate {
                host: Domain::literal(*ip).to_string(),
                address: SocketAddr::new(*ip, self.options.mx_port),
            }],
            Route::Relay(name) => self.relay_addresses(name).await?,
            Route::Nowhere(why) => return Err(why.clone()),
        };
        candidates.truncate(self.options.limits.addresses_max);
        Ok(candidates)
    }

    /// A relay that cannot be found is this site's misconfiguration, not the recipient's fault.
    async fn relay_addresses(&self, name: &str) -> Result<Vec<Candidate>, NoRoute> {
        let Some(relay) = self.options.relays.get(name) else {
            let text = format!("the relay {name} is not configured");
            return Err(NoRoute::temporary("4.3.5", text));
        };
        let mut candidates = Vec::new();
        let mut failure = None;
        for (host, port) in &relay.hosts {
            match self.dns.addresses(host).await {
                Ok(addresses) => candidates.extend(addresses.into_iter().map(|ip| Candidate {
                    host: host.clone(),
                    address: SocketAddr::new(ip, *port),
                })),
                Err(why) => failure = Some(why),
            }
        }
        if !candidates.is_empty() {
            return Ok(candidates);
        }
        let text = failure.map_or_else(|| format!("the relay {name} has no host"), |why| why.text);
        Err(NoRoute::temporary("4.4.3", text))
    }

    async fn exchanger_addresses(
        &self,
        exchangers: &Exchangers,
    ) -> Result<Vec<Candidate>, NoRoute> {
        // Shuffling before the stable sort leaves equals in random order.
        let mut hosts = exchangers.hosts.clone();
        self.random.shuffle(&mut hosts);
        hosts.sort_by_key(|mx| mx.preference);
        let mut resolved = self.resolve(hosts).await;
        let own = &self.options.own_addresses;
        let is_own = |host: &Resolved| {
            let addresses = host.addresses.as_deref().unwrap_or_default();
            addresses.iter().any(|ip| own.contains(ip))
        };
        let ours = resolved
            .iter()
            .filter(|host| is_own(host))
            .map(|host| host.mx.preference)
            .min();
        if let Some(ours) = ours {
            let name = resolved.first().map(|host| host.mx.host.clone());
            resolved.retain(|host| host.mx.preference < ours);
            if resolved.is_empty() {
                return Err(loops_back(&name.unwrap_or_default()));
            }
        }
        self.addresses_of(resolved)
    }

    /// Looks up the addresses of all hosts at once and keeps the order of the hosts.
    async fn resolve(&self, hosts: Vec<Mx>) -> Vec<Resolved> {
        let mut lookups = JoinSet::new();
        for (place, mx) in hosts.into_iter().enumerate() {
            let dns = Arc::clone(&self.dns);
            lookups.spawn(async move {
                // An MX record names a host (RFC 5321 §5.1): what looks like an address is the name of none.
                let addresses = match mx.host.parse::<IpAddr>() {
                    Ok(ip) => Err(NoRoute::permanent(
                        "5.4.4",
                        format!("the MX record names the address {ip} in place of a host"),
                    )),
                    Err(_) => dns.addresses(&mx.host).await,
                };
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

    /// The addresses of the hosts in turn. Without any, a host that may have one later outweighs those that never will.
    fn addresses_of(&self, resolved: Vec<Resolved>) -> Result<Vec<Candidate>, NoRoute> {
        let mut candidates = Vec::new();
        let mut failure: Option<NoRoute> = None;
        for Resolved { mx, addresses } in resolved {
            match addresses {
                Ok(addresses) => candidates.extend(addresses.into_iter().map(|ip| Candidate {
                    host: mx.host.clone(),
                    address: SocketAddr::new(ip, self.options.mx_port),
                })),
                Err(found) if failure.as_ref().is_none_or(|known| known.permanent) => {
                    failure = Some(found)
                }
                Err(_) => {}
            }
        }
        match failure {
            Some(failure) if candidates.is_empty() => Err(failure),
            _ => Ok(candidates),
        }
    }
}

fn allows_any(policy: &Policy, hosts: &[Mx]) -> bool {
    hosts.iter().any(|mx| policy.allows(&mx.host))
}

fn loops_back(destination: &str) -> NoRoute {
    NoRoute::permanent(
        "5.4.6",
        format!("mail for {destination} loops back to this host"),
    )
}
