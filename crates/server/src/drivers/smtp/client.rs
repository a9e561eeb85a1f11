//! Who the client of a session is: whom the connection comes from, or whom a proxy or filter says it speaks for
//! (XCLIENT, XFORWARD).

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use nightmail_access::ClientName;
use nightmail_smtp::command::{XAttribute, XName};

use crate::net::Peer;

/// The client, as the gate and the Received field see it.
#[derive(Debug)]
pub(super) struct Client {
    /// Whom the connection comes from.
    connected: Peer,
    /// Whom it speaks for.
    said: Option<Box<Said>>,
    /// Where the next messages come from, as a filter says.
    forwarded: Option<Box<Said>>,
}

/// What XCLIENT or XFORWARD has said.
#[derive(Clone, Debug, Default)]
struct Said {
    ip: Option<IpAddr>,
    port: u16,
    /// Told or not; and where it is told, known or not.
    name: Option<Option<String>>,
    hello: Option<String>,
}

impl Said {
    fn take(&mut self, attributes: &[XAttribute]) -> Result<(), BadAddress> {
        for attribute in attributes {
            let value = attribute.value.as_deref();
            match attribute.name {
                XName::Addr => self.ip = value.map(address).transpose()?,
                XName::Port => {
                    self.port = value.map_or(Ok(0), str::parse).map_err(|_| BadAddress)?
                }
                XName::Name => self.name = Some(value.map(str::to_owned)),
                XName::Helo => self.hello = value.map(str::to_owned),
                XName::Proto
                | XName::Login
                | XName::DestAddr
                | XName::DestPort
                | XName::Ident
                | XName::Source => {}
            }
        }
        Ok(())
    }
}

/// An attribute is no address or no port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BadAddress;

fn address(text: &str) -> Result<IpAddr, BadAddress> {
    let prefix = text.get(..5).filter(|it| it.eq_ignore_ascii_case("IPV6:"));
    let parsed = match prefix {
        Some(_) => text
            .get(5..)
            .unwrap_or_default()
            .parse::<Ipv6Addr>()
            .map(IpAddr::from),
        None => text.parse(),
    };
    parsed.map(|ip| ip.to_canonical()).map_err(|_| BadAddress)
}

impl Client {
    pub(super) const fn new(connected: Peer) -> Self {
        Self {
            connected,
            said: None,
            forwarded: None,
        }
    }

    /// Whether a proxy has said who the client is.
    pub(super) const fn is_told(&self) -> bool {
        self.said.is_some()
    }

    /// Whom the connection comes from.
    pub(super) const fn connected(&self) -> Peer {
        self.connected
    }

    /// The client's address; that of the proxy where it has not said another.
    pub(super) fn ip(&self) -> Option<IpAddr> {
        let said = self.said.as_ref().and_then(|said| said.ip);
        said.or_else(|| self.connected.ip())
    }

    /// The name of the client, as the proxy has looked it up; `None` where it says nothing about that.
    pub(super) fn known_name(&self) -> Option<ClientName> {
        let said = self.said.as_ref()?;
        Some(match said.name.as_ref()? {
            Some(name) => ClientName::Confirmed(name.to_ascii_lowercase()),
            None => ClientName::None,
        })
    }

    /// A proxy says who the client is. Attributes of earlier times stay.
    pub(super) fn take_xclient(&mut self, attributes: &[XAttribute]) -> Result<(), BadAddress> {
        let mut said = self.said.clone().unwrap_or_default();
        said.take(attributes)?;
        self.said = Some(said);
        self.forwarded = None;
        Ok(())
    }

    /// A filter says where the next messages come from.
    pub(super) fn take_xforward(&mut self, attributes: &[XAttribute]) -> Result<(), BadAddress> {
        let mut said = self.forwarded.clone().unwrap_or_default();
        said.take(attributes)?;
        self.forwarded = Some(said);
        Ok(())
    }

    /// Where a message comes from, for its Received field: peer, name and HELO, where they are told.
    pub(super) fn origin(&self) -> (Peer, Option<&str>, Option<&str>) {
        let told = self.forwarded.as_ref().or(self.said.as_ref());
        match told {
            None => (self.connected, None, None),
            Some(said) => {
                let peer = said.ip.map_or(self.connected, |ip| {
                    Peer::tcp(SocketAddr::new(ip, said.port))
                });
                (
                    peer,
                    said.name.as_ref().and_then(Option::as_deref),
                    said.hello.as_deref(),
                )
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(name: XName, value: &str) -> XAttribute {
        XAttribute {
            name,
            value: Some(value.to_owned()),
        }
    }

    fn client() -> Client {
        Client::new(Peer::tcp("127.0.0.1:9".parse().unwrap()))
    }

    #[test]
    fn a_proxy_says_who_the_client_is() {
        let mut client = client();
        assert_eq!(client.known_name(), None);
        let said = [
            attribute(XName::Addr, "192.0.2.7"),
            attribute(XName::Name, "Mail.Far.test"),
        ];
        client.take_xclient(&said).unwrap();
        assert_eq!(client.ip(), Some("192.0.2.7".parse().unwrap()));
        let name = ClientName::Confirmed("mail.far.test".to_owned());
        assert_eq!(client.known_name(), Some(name));
        assert_eq!(client.connected().to_string(), "127.0.0.1:9");
        let (peer, name, _) = client.origin();
        assert_eq!(
            (peer.to_string(), name),
            ("192.0.2.7:0".to_owned(), Some("Mail.Far.test"))
        );
    }

    #[test]
    fn what_a_filter_forwards_is_shown_and_not_believed() {
        let mut client = client();
        let said = [attribute(XName::Addr, "IPv6:2001:db8::1")];
        client.take_xforward(&said).unwrap();
        assert_eq!(client.ip(), Some("127.0.0.1".parse().unwrap()));
        assert_eq!(client.origin().0.to_string(), "[2001:db8::1]:0");
    }

    #[test]
    fn what_is_no_address_changes_nothing() {
        let mut client = client();
        for wrong in ["", "a.test", "IPV6:1.2.3.4", "1.2.3"] {
            let said = [attribute(XName::Addr, wrong)];
            assert_eq!(client.take_xclient(&said), Err(BadAddress), "{wrong}");
        }
        let port = [attribute(XName::Port, "70000")];
        assert_eq!(client.take_xclient(&port), Err(BadAddress));
        assert_eq!(client.known_name(), None);
    }
}
