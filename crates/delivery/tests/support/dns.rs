//! A name server on loopback that answers from a table.

use std::net::{IpAddr, SocketAddr};
use std::ops::Deref;

/// The server. Names that are not in its table do not exist.
pub struct NameServer {
    pub address: SocketAddr,
    server: nightmail_testbed::dns::NameServer,
}

impl NameServer {
    pub fn start() -> Self {
        let server = nightmail_testbed::dns::NameServer::start();
        Self {
            address: server.address(),
            server,
        }
    }

    pub fn address_of(&self, host: &str, ip: IpAddr) {
        match ip {
            IpAddr::V4(ip) => self.server.a(host, ip),
            IpAddr::V6(ip) => self.server.aaaa(host, ip),
        };
    }
}

impl Deref for NameServer {
    type Target = nightmail_testbed::dns::NameServer;

    fn deref(&self) -> &Self::Target {
        &self.server
    }
}
