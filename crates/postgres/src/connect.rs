//! Connections: where the server is, TLS, and who drives a connection.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::{poll_fn, select_ok};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_postgres::config::{Host, SslMode, TargetSessionAttrs};
use tokio_postgres::error::SqlState;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

/// How connections to PostgreSQL are protected.
#[derive(Clone, Debug, Default)]
pub enum PostgresTls {
    /// Not at all: for a socket of this machine or a network of its own.
    #[default]
    None,
    /// By TLS; the server's certificate must be valid for its name, under these authorities as well as the public ones.
    Verify(Vec<CertificateDer<'static>>),
}

/// Where the database is and how it is used.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// Hosts, user, database. Of several hosts the first one to answer that takes writes is used.
    pub server: Config,
    /// How connections are protected.
    pub tls: PostgresTls,
    /// Connections at most, besides the one for events.
    pub connections_max: usize,
    /// How long an operation may wait for a connection before the store counts as away.
    pub acquire_timeout: Duration,
    /// How long a statement may take before its connection counts as lost.
    pub statement_timeout: Duration,
}

impl PostgresOptions {
    /// Options with the usual bounds.
    pub fn new(server: Config, tls: PostgresTls) -> Self {
        Self {
            server,
            tls,
            connections_max: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

/// A connection could not be made.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The server refused or could not be reached.
    #[error("PostgreSQL cannot be reached: {}", describe(.0))]
    Server(#[from] tokio_postgres::Error),
    /// TLS cannot be set up.
    #[error("TLS to PostgreSQL cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
    /// No server has let the connection in.
    #[error("PostgreSQL does not answer within {0:?}")]
    Silent(Duration),
}

/// An error with its causes: the driver's own text leaves them out.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(next) = cause {
        text.push_str(": ");
        text.push_str(&next.to_string());
        cause = next.source();
    }
    text
}

/// An open connection. Dropped, it closes.
pub struct Link {
    /// Sends statements.
    pub client: Client,
    /// Notifications that arrive; ends with the connection.
    pub notifications: mpsc::UnboundedReceiver<tokio_postgres::Notification>,
    warnings: Arc<AtomicU64>,
    driver: AbortHandle,
}

impl Link {
    /// Warnings of no particular kind that the server has sent. The one that matters says that a commit was not
    /// waited for until a standby had it.
    pub(crate) fn warnings(&self) -> u64 {
        self.warnings.load(Ordering::Acquire)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects to the server that takes writes, within the time for acquiring a connection. A task of the current
/// runtime drives the connection.
///
/// All hosts are tried at once, so that a silent one does not hold up a failover.
pub async fn connect(options: &PostgresOptions) -> Result<Link, ConnectError> {
    let patience = options.acquire_timeout;
    let connected = async {
        let mut servers = one_by_one(&options.server, patience);
        match (servers.pop(), servers.is_empty()) {
            (Some(server), true) => connect_one(server, &options.tls).await,
            (None, _) => connect_one(options.server.clone(), &options.tls).await,
            (Some(last), false) => {
                servers.push(last);
                let attempts = servers
                    .into_iter()
                    .map(|server| Box::pin(connect_one(server, &options.tls)));
                select_ok(attempts).await.map(|(link, _)| link)
            }
        }
    };
    let connected = tokio::time::timeout(patience, Box::pin(connected)).await;
    connected.unwrap_or(Err(ConnectError::Silent(patience)))
}

async fn connect_one(mut server: Config, tls: &PostgresTls) -> Result<Link, ConnectError> {
    match tls {
        PostgresTls::None => {
            server.ssl_mode(SslMode::Disable);
            let (client, connection) = server.connect(NoTls).await?;
            Ok(drive(client, connection))
        }
        PostgresTls::Verify(authorities) => {
            server.ssl_mode(SslMode::Require);
            let tls = MakeRustlsConnect::new(client_config(authorities)?);
            let (client, connection) = server.connect(tls).await?;
            Ok(drive(client, connection))
        }
    }
}

/// `all` as one configuration for each of its hosts, with what keeps a dead peer from being waited for.
fn one_by_one(all: &Config, patience: Duration) -> Vec<Config> {
    let (hosts, addresses, ports) = (all.get_hosts(), all.get_hostaddrs(), all.get_ports());
    (0..hosts.len().max(addresses.len()))
        .map(|index| {
            let mut one = without_hosts(all, patience);
            match hosts.get(index) {
                Some(Host::Tcp(name)) => drop(one.host(name)),
                Some(Host::Unix(path)) => drop(one.host_path(path)),
                None => {}
            }
            if let Some(address) = addresses.get(index) {
                one.hostaddr(*address);
            }
            if let Some(port) = ports.get(index).or_else(|| ports.first()) {
                one.port(*port);
            }
            one
        })
        .collect()
}

fn without_hosts(all: &Config, patience: Duration) -> Config {
    /// What the driver takes when nothing is said.
    const KEEPALIVES_IDLE_UNSET: Duration = Duration::from_secs(2 * 60 * 60);
    let mut one = Config::new();
    if let Some(user) = all.get_user() {
        one.user(user);
    }
    if let Some(password) = all.get_password() {
        one.password(password);
    }
    if let Some(database) = all.get_dbname() {
        one.dbname(database);
    }
    if let Some(options) = all.get_options() {
        one.options(options);
    }
    let idle = match all.get_keepalives_idle() {
        KEEPALIVES_IDLE_UNSET => Duration::from_secs(10),
        idle => idle,
    };
    let interval = all.get_keepalives_interval();
    let silence = all.get_tcp_user_timeout().copied();
    one.application_name(all.get_application_name().unwrap_or("nightmail"))
        .ssl_negotiation(all.get_ssl_negotiation())
        .channel_binding(all.get_channel_binding())
        .target_session_attrs(TargetSessionAttrs::ReadWrite)
        .connect_timeout(all.get_connect_timeout().copied().unwrap_or(patience))
        .keepalives(all.get_keepalives())
        .keepalives_idle(idle)
        .keepalives_interval(interval.unwrap_or(Duration::from_secs(5)))
        .keepalives_retries(all.get_keepalives_retries().unwrap_or(3))
        .tcp_user_timeout(silence.unwrap_or(Duration::from_secs(30)));
    one
}

fn client_config(authorities: &[CertificateDer<'static>]) -> Result<ClientConfig, rustls::Error> {
    let mut roots = RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    for authority in authorities {
        roots.add(authority.clone())?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

fn drive<S, T>(client: Client, mut connection: Connection<S, T>) -> Link
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sender, notifications) = mpsc::unbounded_channel();
    let warnings = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&warnings);
    let driver = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                // Whoever does not listen has dropped the receiver.
                Ok(AsyncMessage::Notification(notification)) => drop(sender.send(notification)),
                Ok(AsyncMessage::Notice(notice)) if *notice.code() == SqlState::WARNING => {
                    tracing::warn!(notice = notice.message(), "PostgreSQL warns");
                    counted.fetch_add(1, Ordering::Release);
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::debug!(error = %describe(&error), "a connection to PostgreSQL ended");
                    return;
                }
            }
        }
    });
    Link {
        client,
        notifications,
        warnings,
        driver: driver.abort_handle(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_hosts_are_tried_one_by_one_with_what_was_configured() {
        let all: Config =
            "postgres://u:p@a:1,b:2/d?application_name=x&tcp_user_timeout=7&keepalives_idle=3"
                .parse()
                .unwrap();
        let servers = one_by_one(&all, Duration::from_secs(5));
        assert_eq!(servers.len(), 2);
        for (server, (host, port)) in servers.iter().zip([("a", 1), ("b", 2)]) {
            assert_eq!(server.get_hosts(), [Host::Tcp(host.to_owned())]);
            assert_eq!(server.get_ports(), [port]);
            assert_eq!(server.get_user(), Some("u"));
            assert_eq!(server.get_password(), Some(&b"p"[..]));
            assert_eq!(server.get_dbname(), Some("d"));
            assert_eq!(server.get_application_name(), Some("x"));
            assert_eq!(server.get_tcp_user_timeout(), Some(&Duration::from_secs(7)));
            assert_eq!(server.get_keepalives_idle(), Duration::from_secs(3));
            assert_eq!(server.get_connect_timeout(), Some(&Duration::from_secs(5)));
        }
    }
}
