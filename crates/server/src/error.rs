//! Why the server does not start, or ends: text for the operator and an exit code for whoever started it.

use std::io;

use crate::auth::AuthError;
use crate::backend::OpenError;
use crate::config::ConfigError;
use crate::log::LogError;
use crate::metrics::MetricsError;
use crate::net::BindError;
use crate::system::SystemError;
use crate::tls::TlsError;

/// Exit code of a server that cannot run as it is configured: to be mended, not to be tried again.
pub const EXIT_CONFIGURATION: u8 = 2;
/// Exit code of a server that failed while it ran.
pub const EXIT_FAILURE: u8 = 1;

/// A server that cannot run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The machine does not suit the configuration; the findings have been told.
    #[error("the machine does not suit the configuration: {0}")]
    Preflight(String),
    /// A listener cannot be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The process cannot give up what it should.
    #[error(transparent)]
    System(#[from] SystemError),
    /// TLS cannot be used as configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Certificates cannot be fetched as configured.
    #[error(transparent)]
    Acme(#[from] nightmail_certs::acme::AcmeError),
    /// The log cannot be set up.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The metrics cannot be set up.
    #[error(transparent)]
    Metrics(#[from] MetricsError),
    /// Logins cannot be set up.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The data directory cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The store did not answer.
    #[error(transparent)]
    Store(#[from] nightmail_store::StoreError),
    /// The outbound channel cannot be set up.
    #[error(transparent)]
    Delivery(#[from] nightmail_delivery::DeliveryError),
    /// Something of the machine failed.
    #[error("{what}: {source}")]
    Io {
        /// What was being done.
        what: &'static str,
        /// What failed.
        source: io::Error,
    },
}

impl ServerError {
    /// What the process should exit with.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Preflight(_)
            | Self::Bind(_)
            | Self::System(_)
            | Self::Tls(_)
            | Self::Acme(_)
            | Self::Log(_)
            | Self::Open(OpenError::Locked(_)) => EXIT_CONFIGURATION,
            Self::Auth(AuthError::Parameters(_)) => EXIT_CONFIGURATION,
            Self::Metrics(_)
            | Self::Auth(_)
            | Self::Open(_)
            | Self::Store(_)
            | Self::Delivery(_)
            | Self::Io { .. } => EXIT_FAILURE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn an_unusable_configuration_exits_with_2_and_a_failure_with_1() {
        let config = Config::load(std::path::Path::new("/no/such/file.toml")).unwrap_err();
        let error = ServerError::from(config);
        assert_eq!(error.exit_code(), 2);
        assert!(error.to_string().contains("nightmail config example"));
        let failed = ServerError::Io {
            what: "cannot serve",
            source: io::ErrorKind::Other.into(),
        };
        assert_eq!(failed.exit_code(), 1);
    }
}
