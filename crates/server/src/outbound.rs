//! The outbound channel as the configuration wants it.

mod rules;

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use nightmail_delivery::{
    ClientCertificate, DeliveryLimits, DeliveryOptions, DoubleBounces, Login, Relay, SmarthostTls,
    Verp,
};
use nightmail_dns::Dns;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

use crate::config::{self, Config, ListenAddress, Protocol, RelayTls, TlsMode, read_secret};
use crate::error::ServerError;
use crate::tls::{read_authorities, read_certificates};
pub use rules::{SMARTHOST, policies, precedences, rate_of, weights};

/// What the channel is told; it asks `dns`.
pub fn delivery_options(config: &Config, dns: Dns) -> Result<DeliveryOptions, ServerError> {
    let delivery = &config.delivery;
    let mut options = DeliveryOptions::new(config.ehlo_name().clone(), dns);
    options.own_names = vec![config.server.hostname.clone()];
    options.own_addresses = own_addresses(config);
    options.postmaster = config.server.postmaster.clone();
    options.double_bounces = match config.queue.double_bounces {
        config::DoubleBounces::Postmaster => DoubleBounces::Postmaster,
        config::DoubleBounces::Drop => DoubleBounces::Drop,
    };
    options.mx_port = delivery.port;
    options.policies = Arc::new(policies(config));
    options.relays = relays(config)?;
    options.reply_rules = Arc::new(rules::reply_rules(config));
    options.rates = rules::rates(config);
    options.verp = verp(config);
    options.trusted_roots = read_authorities(config)?;
    options.limits = DeliveryLimits {
        pending_max: config.queue.pending_max,
        deferred_max: config.queue.deferred_max,
        connections_max: delivery.connections_max,
        connect_timeout: delivery.connect_timeout,
        tls_timeout: config.timeouts.tls_handshake,
        ..DeliveryLimits::default()
    };
    Ok(options)
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

/// Return addresses for each recipient, where any sender has them.
fn verp(config: &Config) -> Option<Verp> {
    let queue = &config.queue;
    let mut delimiters = queue.verp_delimiters.chars();
    let delimiters = (delimiters.next()?, delimiters.next()?);
    (!queue.verp_from.is_empty()).then(|| Verp {
        senders: queue.verp_from.clone(),
        delimiters,
    })
}

/// Every relay by its name, that of `[smarthost]` among them.
fn relays(config: &Config) -> Result<BTreeMap<String, Relay>, ServerError> {
    let mut relays = BTreeMap::new();
    if let Some(relay) = smarthost(config)? {
        relays.insert(relay.name.clone(), relay);
    }
    for table in &config.relays {
        relays.insert(table.name.clone(), relay(table)?);
    }
    Ok(relays)
}

fn relay(table: &config::Relay) -> Result<Relay, ServerError> {
    let hosts = table.hosts.iter().flatten();
    Ok(Relay {
        name: table.name.clone(),
        hosts: hosts.map(|it| (it.host.clone(), it.port)).collect(),
        tls: match table.tls {
            RelayTls::None => SmarthostTls::None,
            RelayTls::Opportunistic => SmarthostTls::Opportunistic,
            RelayTls::Starttls => SmarthostTls::StartTls,
            RelayTls::Implicit => SmarthostTls::Implicit,
        },
        login: login(table.user.as_deref(), table.password_file.as_deref())?,
        client_certificate: client_certificate(table)?,
    })
}

fn smarthost(config: &Config) -> Result<Option<Relay>, ServerError> {
    let settings = &config.smarthost;
    let Some(address) = &settings.address else {
        return Ok(None);
    };
    Ok(Some(Relay {
        name: SMARTHOST.to_owned(),
        hosts: vec![(address.host.clone(), address.port)],
        tls: match settings.tls {
            TlsMode::None => SmarthostTls::None,
            TlsMode::Starttls => SmarthostTls::StartTls,
            TlsMode::Implicit => SmarthostTls::Implicit,
        },
        login: login(settings.user.as_deref(), settings.password_file.as_deref())?,
        client_certificate: None,
    }))
}

fn login(user: Option<&str>, file: Option<&Path>) -> Result<Option<Login>, ServerError> {
    let (Some(user), Some(file)) = (user, file) else {
        return Ok(None);
    };
    let password = read_secret(file).map_err(|source| ServerError::Io {
        what: "a relay's password cannot be read",
        source,
    })?;
    Ok(Some(Login {
        user: user.to_owned(),
        password: password.expose().to_owned(),
    }))
}

fn client_certificate(table: &config::Relay) -> Result<Option<ClientCertificate>, ServerError> {
    let (Some(certificate), Some(key)) = (&table.client_certificate, &table.client_key) else {
        return Ok(None);
    };
    let key = PrivateKeyDer::from_pem_file(key).map_err(|error| ServerError::Io {
        what: "the key of a relay's client certificate cannot be read",
        source: io::Error::new(
            io::ErrorKind::InvalidData,
            format!("{}: {error}", key.display()),
        ),
    })?;
    Ok(Some(ClientCertificate {
        chain: read_certificates(certificate)?,
        key: Arc::new(key),
    }))
}
