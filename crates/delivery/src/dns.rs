//! From names to hosts that take mail: MX hosts in their order (RFC 5321 §5.1, RFC 7505) and their addresses.

use std::net::IpAddr;

use nightmail_core::Domain;
pub(crate) use nightmail_dns::Mx;
use nightmail_dns::Nothing;

use crate::trouble::Trouble;

/// Why a destination has no host to go to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct NoRoute {
    /// Whether asking again is of no use.
    pub permanent: bool,
    /// The enhanced status code.
    pub status: &'static str,
    /// What to tell a person.
    pub text: String,
}

impl NoRoute {
    pub const fn permanent(status: &'static str, text: String) -> Self {
        Self {
            permanent: true,
            status,
            text,
        }
    }

    pub const fn temporary(status: &'static str, text: String) -> Self {
        Self {
            permanent: false,
            status,
            text,
        }
    }
}

impl From<NoRoute> for Trouble {
    fn from(why: NoRoute) -> Self {
        Self {
            permanent: why.permanent,
            ..Self::temporary(why.status, why.text)
        }
    }
}

/// The resolver, as one who sends mail asks it.
pub(crate) struct Dns(nightmail_dns::Dns);

impl Dns {
    pub const fn new(resolver: nightmail_dns::Dns) -> Self {
        Self(resolver)
    }

    /// The resolver.
    pub const fn resolver(&self) -> &nightmail_dns::Dns {
        &self.0
    }

    /// The MX hosts of a domain, lowest preference first; the domain itself where it has no MX record. And whether the
    /// answer is proven.
    pub async fn mail_hosts(&self, domain: &Domain) -> Result<(Vec<Mx>, bool), NoRoute> {
        let answer = self.0.secure_mx(domain.as_str()).await;
        let mut hosts = match answer.value {
            Ok(hosts) => hosts,
            Err(Nothing::NoRecord) => vec![Mx {
                preference: 0,
                host: domain.to_string(),
            }],
            Err(Nothing::NoName) => {
                return Err(NoRoute::permanent(
                    "5.1.2",
                    format!("the domain {domain} does not exist"),
                ));
            }
            Err(Nothing::Failed(text)) => {
                return Err(NoRoute::temporary(
                    "4.4.3",
                    format!("MX lookup of {domain} failed: {text}"),
                ));
            }
        };
        // RFC 7505 §3: one record with an empty host means that the domain takes no mail.
        hosts.retain(|mx| !mx.host.is_empty());
        if hosts.is_empty() {
            return Err(NoRoute::permanent(
                "5.1.10",
                format!("the domain {domain} does not accept mail"),
            ));
        }
        Ok((hosts, answer.secure))
    }

    /// The addresses of a host, those of IPv4 first. An address in text form is taken as it is.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoRoute> {
        self.0
            .addresses(host)
            .await
            .map_err(|nothing| match nothing {
                Nothing::Failed(text) => {
                    NoRoute::temporary("4.4.3", format!("address lookup of {host} failed: {text}"))
                }
                Nothing::NoName => {
                    NoRoute::permanent("5.1.2", format!("the host {host} does not exist"))
                }
                Nothing::NoRecord => {
                    NoRoute::permanent("5.4.4", format!("the host {host} has no address"))
                }
            })
    }
}
