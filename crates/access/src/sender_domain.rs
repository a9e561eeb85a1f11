//! Whether a sender's domain could take a reply.

use std::time::Duration;

use nightmail_core::Domain;
use nightmail_dns::{Dns, Nothing};

/// How long all of it may take; the client waits for its reply to MAIL meanwhile.
const TIME_MAX: Duration = Duration::from_secs(15);

/// What is known of a sender's domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SenderDomain {
    /// It has an MX record or an address, or is an address.
    Exists,
    /// It says that it takes no mail (RFC 7505), and so sends none that could be answered.
    NullMx,
    /// It has neither.
    Missing,
    /// DNS did not say.
    TempFail,
}

impl SenderDomain {
    /// Looks a domain up. Takes 15 seconds at most.
    pub async fn look(dns: &Dns, domain: &Domain) -> Self {
        if domain.as_literal().is_some() {
            return Self::Exists;
        }
        let looked = tokio::time::timeout(TIME_MAX, Self::by_name(dns, domain)).await;
        looked.unwrap_or(Self::TempFail)
    }

    async fn by_name(dns: &Dns, domain: &Domain) -> Self {
        match dns.mx(domain.as_str()).await {
            Ok(hosts) if hosts.iter().all(|mx| mx.host.is_empty()) => Self::NullMx,
            Ok(_) => Self::Exists,
            Err(Nothing::NoName) => Self::Missing,
            Err(Nothing::Failed(_)) => Self::TempFail,
            Err(Nothing::NoRecord) => Self::by_address(dns, domain.as_str()).await,
        }
    }

    async fn by_address(dns: &Dns, name: &str) -> Self {
        let (v4, v6) = tokio::join!(dns.ipv4(name), dns.ipv6(name));
        match (v4, v6) {
            (Ok(_), _) | (_, Ok(_)) => Self::Exists,
            (Err(Nothing::Failed(_)), _) | (_, Err(Nothing::Failed(_))) => Self::TempFail,
            _ => Self::Missing,
        }
    }
}
