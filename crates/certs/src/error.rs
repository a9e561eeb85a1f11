//! Why certificates cannot be used as configured.

use std::path::PathBuf;

use crate::name::NameError;

/// TLS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A PEM file cannot be read or holds nothing of use.
    #[error("{path}: {reason}. It must be a PEM file with {wanted}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key cannot be used together.
    #[error(
        "the certificate {certificate} and the key {key} cannot be used: {source}. Renew or copy them together",
        certificate = certificate.display(), key = key.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// A certificate is to be shown for no name at all.
    #[error(
        "the certificate {path} names no server: give `names` in its [[certificate]]",
        path = path.display()
    )]
    Nameless {
        /// The certificate's file.
        path: PathBuf,
    },
    /// The self-signed certificate cannot be made or kept.
    #[error("cannot make a self-signed certificate in {path}: {reason}. Set `certificate` and `key` in [tls], or mend the directory", path = path.display())]
    SelfSigned {
        /// The data directory.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// A name that certificates are shown for is none.
    #[error("`names` in [[certificate]]: {0}")]
    Name(#[from] NameError),
    /// Client certificates are asked for, and nobody vouches for them.
    #[error("client_certificates = \"optional\" in [tls] needs `client_authorities`")]
    NoClientAuthorities,
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}
