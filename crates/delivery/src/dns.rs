//! Looking names up: MX hosts in their order (RFC 5321 §5.1, RFC 7505) and addresses.

use std::net::IpAddr;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig, ResolverOpts};
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{RData, RecordType};
use hickory_resolver::{Resolver, TokioResolver};
use nightmail_core::Domain;

use crate::error::DeliveryError;
use crate::options::DnsOptions;

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

/// One MX record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Mx {
    /// Lower is tried first.
    pub preference: u16,
    /// The host's name, lower-case, without the trailing dot.
    pub host: String,
}

/// A lookup that gave nothing.
enum Nothing {
    /// The name does not exist.
    NoName,
    /// The name exists and has no such record.
    NoRecord,
    /// No answer worth believing.
    Failed(String),
}

/// The resolver.
pub(crate) struct Dns {
    resolver: TokioResolver,
    ipv4: bool,
    ipv6: bool,
}

impl Dns {
    pub fn new(options: &DnsOptions) -> Result<Self, DeliveryError> {
        let setup = |error: NetError| DeliveryError::Setup(format!("DNS: {error}"));
        let mut builder = if options.name_servers.is_empty() {
            TokioResolver::builder_tokio().map_err(setup)?
        } else {
            Resolver::builder_with_config(config_of(options), TokioRuntimeProvider::default())
        };
        set_options(builder.options_mut(), options);
        let resolver = builder.build().map_err(setup)?;
        Ok(Self {
            resolver,
            ipv4: options.ipv4,
            ipv6: options.ipv6,
        })
    }

    /// The MX hosts of a domain, lowest preference first; the domain itself where it has no MX record.
    pub async fn mail_hosts(&self, domain: &Domain) -> Result<Vec<Mx>, NoRoute> {
        let mut hosts = match self.mx_records(domain.as_str()).await {
            Ok(hosts) => hosts,
            Err(Nothing::NoRecord) => {
                return Ok(vec![Mx {
                    preference: 0,
                    host: domain.to_string(),
                }]);
            }
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
        if hosts.iter().all(|mx| mx.host.is_empty()) {
            return Err(NoRoute::permanent(
                "5.1.10",
                format!("the domain {domain} does not accept mail"),
            ));
        }
        hosts.retain(|mx| !mx.host.is_empty());
        hosts.sort_by_key(|mx| mx.preference);
        Ok(hosts)
    }

    async fn mx_records(&self, name: &str) -> Result<Vec<Mx>, Nothing> {
        let lookup = self
            .resolver
            .lookup(absolute(name), RecordType::MX)
            .await
            .map_err(nothing)?;
        let hosts: Vec<Mx> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::MX(mx) => {
                    let host = mx
                        .exchange
                        .to_ascii()
                        .trim_end_matches('.')
                        .to_ascii_lowercase();
                    Some(Mx {
                        preference: mx.preference,
                        host,
                    })
                }
                _ => None,
            })
            .collect();
        if hosts.is_empty() {
            Err(Nothing::NoRecord)
        } else {
            Ok(hosts)
        }
    }

    /// The addresses of a host, those of IPv4 first. An address in text form is taken as it is.
    pub async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, NoRoute> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![ip]);
        }
        let (v4, v6) = tokio::join!(
            self.family(host, RecordType::A, self.ipv4),
            self.family(host, RecordType::AAAA, self.ipv6)
        );
        match (v4, v6) {
            (Ok(mut v4), Ok(v6)) => {
                v4.extend(v6);
                Ok(v4)
            }
            (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
            (Err(Nothing::Failed(text)), _) | (_, Err(Nothing::Failed(text))) => Err(
                NoRoute::temporary("4.4.3", format!("address lookup of {host} failed: {text}")),
            ),
            (Err(Nothing::NoName), _) | (_, Err(Nothing::NoName)) => Err(NoRoute::permanent(
                "5.1.2",
                format!("the host {host} does not exist"),
            )),
            (Err(Nothing::NoRecord), Err(Nothing::NoRecord)) => Err(NoRoute::permanent(
                "5.4.4",
                format!("the host {host} has no address"),
            )),
        }
    }

    async fn family(
        &self,
        host: &str,
        family: RecordType,
        wanted: bool,
    ) -> Result<Vec<IpAddr>, Nothing> {
        if !wanted {
            return Err(Nothing::NoRecord);
        }
        let lookup = self
            .resolver
            .lookup(absolute(host), family)
            .await
            .map_err(nothing)?;
        let found: Vec<IpAddr> = lookup
            .answers()
            .iter()
            .filter_map(|record| match &record.data {
                RData::A(a) => Some(IpAddr::V4(a.0)),
                RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.0)),
                _ => None,
            })
            .collect();
        if found.is_empty() {
            Err(Nothing::NoRecord)
        } else {
            Ok(found)
        }
    }
}

fn config_of(options: &DnsOptions) -> ResolverConfig {
    let servers = options.name_servers.iter().map(|server| {
        let connections =
            [ConnectionConfig::udp(), ConnectionConfig::tcp()].map(|mut connection| {
                connection.port = server.port();
                connection
            });
        NameServerConfig::new(server.ip(), true, connections.into())
    });
    ResolverConfig::from_parts(None, Vec::new(), servers.collect())
}

fn set_options(resolver: &mut ResolverOpts, options: &DnsOptions) {
    resolver.timeout = options.timeout;
    resolver.attempts = options.attempts;
}

/// With the trailing dot that keeps search domains out.
fn absolute(name: &str) -> String {
    format!("{}.", name.trim_end_matches('.'))
}

fn nothing(error: NetError) -> Nothing {
    match &error {
        NetError::Dns(DnsError::NoRecordsFound(found)) => match found.response_code {
            ResponseCode::NXDomain => Nothing::NoName,
            ResponseCode::NoError => Nothing::NoRecord,
            code => Nothing::Failed(code.to_string()),
        },
        _ => Nothing::Failed(error.to_string()),
    }
}
