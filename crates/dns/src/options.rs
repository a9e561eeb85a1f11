//! How the resolver is set up.

use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;

/// How names are looked up.
#[derive(Clone, Debug)]
pub struct DnsOptions {
    /// The name servers; empty: those of the system.
    pub name_servers: Vec<SocketAddr>,
    /// How long one query may take.
    pub timeout: Duration,
    /// How often a query is repeated before the lookup fails.
    pub attempts: usize,
    /// Whether hosts are reached over IPv4.
    pub ipv4: bool,
    /// Whether hosts are reached over IPv6.
    pub ipv6: bool,
    /// Answers kept, those that say no included, each at most as long as it says itself.
    pub cache_entries: usize,
    /// Whether the `secure_` lookups and those of TLSA records prove what they find. Other lookups never do.
    pub dnssec: bool,
    /// The keys that proofs start from: DNSKEY records in presentation form, one a line, at least one of them the root's.
    /// `None`: those of the Internet's root.
    pub trust_anchors: Option<String>,
}

impl Default for DnsOptions {
    fn default() -> Self {
        Self {
            name_servers: Vec::new(),
            timeout: Duration::from_secs(5),
            attempts: 2,
            ipv4: true,
            ipv6: true,
            cache_entries: 32_768,
            dnssec: false,
            trust_anchors: None,
        }
    }
}

/// Why there is no resolver.
#[derive(Debug, Error)]
#[error("DNS: {0}")]
pub struct DnsSetupError(pub(crate) String);
