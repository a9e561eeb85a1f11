//! The outbound channel as the configuration wants it.

use std::net::IpAddr;

use nightmail_delivery::{
    DeliveryLimits, DeliveryOptions, Login, RetryPolicy, Smarthost, SmarthostTls,
};
use nightmail_dns::Dns;

use crate::config::{Config, ListenAddress, OutboundTls, Protocol, TlsMode, read_secret};
use crate::error::ServerError;
use crate::tls::read_authorities;

/// What the channel is told; it asks `dns`.
pub fn delivery_options(config: &Config, dns: Dns) -> Result<DeliveryOptions, ServerError> {
    let delivery = &config.delivery;
    let name = delivery
        .ehlo_name
        .as_ref()
        .unwrap_or(&config.server.hostname);
    let mut options = DeliveryOptions::new(name.clone(), dns);
    options.own_names = vec![config.server.hostname.clone()];
    options.own_addresses = own_addresses(config);
    options.postmaster = config.server.postmaster.clone();
    options.mx_port = delivery.port;
    options.mx_tls = delivery.tls != OutboundTls::None;
    options.smarthost = smarthost(config)?;
    options.trusted_roots = read_authorities(config)?;
    options.retry = RetryPolicy {
        pauses_millis: delivery
            .retry_waits
            .iter()
            .map(|wait| millis(*wait))
            .collect(),
        expiry_millis: signed(millis(delivery.lifetime)),
        delay_report_millis: Some(signed(millis(delivery.warn_after))),
        ..RetryPolicy::default()
    };
    options.limits = DeliveryLimits {
        messages_max: delivery.connections_max,
        connections_per_destination_max: delivery.connections_per_destination_max,
        connect_timeout: delivery.connect_timeout,
        tls_timeout: config.timeouts.tls_handshake,
        ..DeliveryLimits::default()
    };
    Ok(options)
}

fn millis(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn signed(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

/// The addresses on which this server itself takes mail from other sites, where they are named one by one and on the
/// port that other sites are reached on.
fn own_addresses(config: &Config) -> Vec<IpAddr> {
    let smtp = config
        .listeners
        .iter()
        .filter(|listener| listener.protocol == Protocol::Smtp);
    smtp.filter_map(|listener| match &listener.address {
        ListenAddress::Tcp(address)
            if !address.ip().is_unspecified() && address.port() == config.delivery.port =>
        {
            Some(address.ip())
        }
        _ => None,
    })
    .collect()
}

fn smarthost(config: &Config) -> Result<Option<Smarthost>, ServerError> {
    let settings = &config.smarthost;
    let Some(address) = &settings.address else {
        return Ok(None);
    };
    let login = match (&settings.user, &settings.password_file) {
        (Some(user), Some(file)) => Some(Login {
            user: user.clone(),
            password: read_secret(file)
                .map_err(|source| ServerError::Io {
                    what: "the smarthost's password cannot be read",
                    source,
                })?
                .expose()
                .to_owned(),
        }),
        _ => None,
    };
    Ok(Some(Smarthost {
        host: address.host.clone(),
        port: address.port,
        tls: match settings.tls {
            TlsMode::None => SmarthostTls::None,
            TlsMode::Starttls => SmarthostTls::StartTls,
            TlsMode::Implicit => SmarthostTls::Implicit,
        },
        login,
    }))
}
