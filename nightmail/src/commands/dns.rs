//! `nightmail dns`.

use std::net::{IpAddr, SocketAddr};

use clap::Subcommand;
use nightmail_admin::AdminRequest;

const DNS_PORT: u16 = 53;

#[derive(Debug, Subcommand)]
pub(crate) enum DnsCommand {
    /// Print every record that a domain should have and what is wrong with it; exits with 1 where something is.
    Check {
        /// The domain.
        domain: String,
        /// The name server to ask, as ADDRESS or ADDRESS:PORT; that of the configuration when absent.
        #[arg(long, value_name = "ADDRESS", value_parser = parse_server)]
        server: Option<SocketAddr>,
    },
}

fn parse_server(text: &str) -> Result<SocketAddr, String> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let ip: Result<IpAddr, _> = text.parse();
    ip.map(|ip| SocketAddr::new(ip, DNS_PORT)).map_err(|_| {
        "expected an IP address, such as 192.0.2.53, 192.0.2.53:5353 or [2001:db8::53]:5353"
            .to_owned()
    })
}

impl DnsCommand {
    pub(crate) fn request(self) -> AdminRequest {
        let Self::Check { domain, server } = self;
        AdminRequest::DnsCheck { domain, server }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_server_is_named_with_or_without_its_port() {
        for (text, address) in [
            ("192.0.2.53", "192.0.2.53:53"),
            ("192.0.2.53:5353", "192.0.2.53:5353"),
            ("2001:db8::53", "[2001:db8::53]:53"),
            ("[2001:db8::53]:5353", "[2001:db8::53]:5353"),
        ] {
            assert_eq!(parse_server(text), Ok(address.parse().unwrap()));
        }
        assert!(parse_server("ns.test").is_err());
    }
}
