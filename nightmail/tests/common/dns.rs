//! A name server on loopback that answers from a table.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;

/// The server; it ends when dropped. Names that are not in its table do not exist.
pub struct NameServer {
    pub address: SocketAddr,
    server: nightmail_testbed::dns::NameServer,
}

impl NameServer {
    /// A server that knows nothing yet.
    pub fn start() -> Self {
        let server = nightmail_testbed::dns::NameServer::start();
        Self {
            address: server.address(),
            server,
        }
    }

    /// Names a mail exchanger of a domain.
    pub fn mx(&self, domain: &str, preference: u16, host: &str) -> &Self {
        self.server.mx(domain, preference, host);
        self
    }

    /// Gives a host its address.
    pub fn host(&self, host: &str, ip: Ipv4Addr) -> &Self {
        self.server.a(host, ip);
        self
    }

    /// The setting that makes a server ask here.
    pub fn setting(&self) -> String {
        format!("dns_servers = [\"{}\"]\n", self.address)
    }
}

/// Everything else that a name server of tests can be told.
impl Deref for NameServer {
    type Target = nightmail_testbed::dns::NameServer;

    fn deref(&self) -> &Self::Target {
        &self.server
    }
}

/// The address of a mail exchanger of a test.
pub fn ip(address: SocketAddr) -> Ipv4Addr {
    match address.ip() {
        IpAddr::V4(ip) => ip,
        IpAddr::V6(_) => panic!("tests use IPv4"),
    }
}
