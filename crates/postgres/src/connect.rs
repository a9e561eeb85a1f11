//! Connections: where the server is, TLS, and who drives a connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::poll_fn;
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_postgres::config::SslMode;
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
    /// Hosts, user, database. With several hosts and `target_session_attrs=read-write` the one that takes writes is used.
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
    /// The server refused or did not answer.
    #[error("PostgreSQL cannot be reached: {}", describe(.0))]
    Server(#[from] tokio_postgres::Error),
    /// TLS cannot be set up.
    #[error("TLS to PostgreSQL cannot be set up: {0}")]
    Tls(#[from] rustls::Error),
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
    driver: AbortHandle,
}

impl Drop for Link {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Connects. A task of the current runtime drives the connection.
pub async fn connect(options: &PostgresOptions) -> Result<Link, ConnectError> {
    let mut server = options.server.clone();
    if server.get_connect_timeout().is_none() {
        server.connect_timeout(options.acquire_timeout);
    }
    match &options.tls {
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
    let driver = tokio::spawn(async move {
        while let Some(message) = poll_fn(|context| connection.poll_message(context)).await {
            match message {
                // Whoever does not listen has dropped the receiver.
                Ok(AsyncMessage::Notification(notification)) => drop(sender.send(notification)),
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
        driver: driver.abort_handle(),
    }
}
