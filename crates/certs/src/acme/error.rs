//! Why a certificate was not fetched.

use nightmail_engine::{CommitError, EngineError};

use super::Challenge;

/// A certificate that was not fetched.
#[derive(Debug, thiserror::Error)]
pub enum AcmeError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The authority refused, or could not be reached.
    #[error("{0}")]
    Authority(#[from] instant_acme::Error),
    /// The authority does not offer the challenge for a name.
    #[error("the authority does not prove {name} by {kind}")]
    NotOffered {
        /// The name.
        name: String,
        /// The challenge.
        kind: &'static str,
    },
    /// A name could not be proven.
    #[error("the authority is not convinced: {0}")]
    NotProven(String),
    /// The command that sets DNS records failed.
    #[error("dns_hook: {0}")]
    Hook(String),
    /// The key or the certificate cannot be used.
    #[error("the certificate cannot be used: {0}")]
    Unusable(String),
    /// It took too long.
    #[error("it was not done in time")]
    TimedOut,
    /// The server stops.
    #[error("the server was stopped meanwhile")]
    Stopped,
    /// The store did not take a row, or did not give one.
    #[error("the store failed: {0}")]
    Store(String),
}

impl From<EngineError> for AcmeError {
    fn from(error: EngineError) -> Self {
        Self::Store(error.to_string())
    }
}

impl From<CommitError> for AcmeError {
    fn from(error: CommitError) -> Self {
        Self::Store(error.to_string())
    }
}

impl Challenge {
    /// As the configuration and the protocol call it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Http => "http-01",
            Self::TlsAlpn => "tls-alpn-01",
            Self::Dns { .. } => "dns-01",
        }
    }
}
