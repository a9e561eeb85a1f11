//! Certificates: several by name, reloaded without a break, fetched by ACME (RFC 8555).
//!
//! Owns which certificate a client is shown ([`CertificateStore`]), what counts as a certificate of a client's
//! ([`ClientAuthorities`]), and the rows of the `Meta` space that begin with `acme/`, through which all nodes share an
//! account, the answers to challenges, and what was fetched ([`acme`]).
//!
//! **Invariant:** a reload replaces all certificates at once, and one that cannot be read keeps its predecessor.
//! **Invariant:** a private key is in no log line and in no `Debug` output.

pub mod acme;
mod client;
mod error;
mod files;
mod leaf;
mod name;
mod store;

pub use client::ClientAuthorities;
pub use error::CertificateError;
pub use files::{FilePair, read_certificates};
pub use leaf::{Leaf, client_addresses};
pub use name::{NameError, ServedName};
pub use store::{CertificateFiles, CertificateInfo, CertificateStore, Source};

use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// The one provider of cryptography.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}
