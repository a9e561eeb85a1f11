//! The name of a client's address, believed only when it leads back (RFC 1912 §2.1).

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::join_all;
use nightmail_core::Domain;
use nightmail_dns::{Dns, Nothing};

/// Names of one address that are looked at.
const NAMES_MAX: usize = 10;
/// How long all of it may take; the client waits for its greeting meanwhile.
const TIME_MAX: Duration = Duration::from_secs(15);

/// What is known of a client's name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ClientName {
    /// A name that leads back to the address.
    Confirmed(String),
    /// Names, none of which leads back; the first that is a host name.
    Unconfirmed(Option<String>),
    /// The address has no name.
    None,
    /// DNS did not say.
    TempFail,
}

/// Names of addresses.
#[derive(Clone, Copy, Debug)]
pub struct ReverseDns;

impl ReverseDns {
    /// Looks the names of an address up, and whether one of the first ten leads back to it. Takes 15 seconds at most.
    pub async fn confirm(dns: &Dns, ip: IpAddr) -> ClientName {
        let looked = tokio::time::timeout(TIME_MAX, Self::look(dns, ip.to_canonical())).await;
        looked.unwrap_or(ClientName::TempFail)
    }

    async fn look(dns: &Dns, ip: IpAddr) -> ClientName {
        let mut names = match dns.names_of(ip).await {
            Ok(names) => names,
            Err(Nothing::NoName | Nothing::NoRecord) => return ClientName::None,
            Err(Nothing::Failed(_)) => return ClientName::TempFail,
        };
        // The owner of an address may write anything there; only what is a host name goes on.
        names.retain(|name| Domain::parse(name).is_ok_and(|name| name.as_literal().is_none()));
        names.truncate(NAMES_MAX);
        let looked = join_all(names.iter().map(|name| leads_to(dns, name, ip))).await;
        let confirmed = names
            .iter()
            .zip(&looked)
            .find(|(_, leads)| **leads == Ok(true));
        match confirmed {
            Some((name, _)) => ClientName::Confirmed(name.clone()),
            None if looked.contains(&Err(Unknown)) => ClientName::TempFail,
            None => ClientName::Unconfirmed(names.into_iter().next()),
        }
    }
}

/// DNS did not say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Unknown;

async fn leads_to(dns: &Dns, name: &str, ip: IpAddr) -> Result<bool, Unknown> {
    let found = match ip {
        IpAddr::V4(ip) => dns.ipv4(name).await.map(|found| found.contains(&ip)),
        IpAddr::V6(ip) => dns.ipv6(name).await.map(|found| found.contains(&ip)),
    };
    match found {
        Err(Nothing::Failed(_)) => Err(Unknown),
        found => Ok(found.unwrap_or(false)),
    }
}
