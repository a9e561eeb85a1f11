//! Certificates fetched from an authority (RFC 8555), by one node for all.
//!
//! | row | says | changes |
//! |---|---|---|
//! | `acme/account/DIRECTORY` | the account and its key | when it is made, or its contact changes |
//! | `acme/certificate/ID` | names, chain, key | when a certificate was fetched |
//! | `acme/order/ID` | attempts, the last error, when the next one is due | before and after every attempt |
//! | `acme/challenge/KIND/KEY` | the answer to a challenge | during an attempt |
//!
//! The node that holds the lease `job/maintenance` fetches what is due; an attempt is written down before it begins, so
//! that a crash cannot repeat it without the wait that follows a failure. Every node answers challenges from the rows and
//! looks for new certificates by the clock.
//!
//! **Invariant:** attempts for one certificate that fail are at least [`RETRY_MIN`] apart, unless an operator asks.

mod authority;
mod challenge;
mod error;
mod fetcher;
mod hook;
mod http01;
mod operator;
mod order;
mod rows;
mod schedule;
mod tls_alpn;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nightmail_engine::Engine;
use rustls::pki_types::CertificateDer;
use xxhash_rust::xxh3::xxh3_64;

pub use error::AcmeError;
pub use fetcher::Acme;
pub use http01::answer_http;
pub use operator::{OrderStatus, OrderView, list, request_renewal};
pub use schedule::RETRY_MIN;
pub use tls_alpn::answer_tls;

use crate::name::{NameError, ServedName};

/// Most names in one certificate; authorities take about as many.
pub const NAMES_MAX: usize = 100;

/// How an authority is shown that a name is ours.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Challenge {
    /// By an answer over HTTP (RFC 8555 §8.3); see [`answer_http`].
    Http,
    /// In a TLS handshake (RFC 8737); see [`answer_tls`].
    TlsAlpn,
    /// By a DNS record (RFC 8555 §8.4) that this program sets and removes.
    Dns {
        /// It is called with `set` or `remove`, the record's name and its text.
        hook: PathBuf,
    },
}

/// What is fetched, and where.
#[derive(Clone, Debug)]
pub struct AcmeOptions {
    /// The authority's directory, over https.
    pub directory: String,
    /// The certificates, each with its names.
    pub certificates: Vec<Wanted>,
    /// Where the authority writes about trouble.
    pub contact: Option<String>,
    /// Whether its terms of service are agreed to.
    pub terms_agreed: bool,
    /// How names are proven.
    pub challenge: Challenge,
    /// Certificates are renewed when they end within this time, or within a third of their life where that is shorter.
    pub renew_before: Duration,
    /// Trusted for the directory's own certificate, beside the public ones.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How often the rows are looked at.
    pub interval: Duration,
}

/// One certificate that is wanted.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Wanted {
    names: Vec<ServedName>,
    id: String,
}

impl Wanted {
    /// Reads names parted by blanks: at least one and at most [`NAMES_MAX`]; one that is named twice counts once.
    pub fn parse(text: &str) -> Result<Self, WantedError> {
        let mut names = Vec::new();
        for word in text.split_ascii_whitespace() {
            let name = ServedName::parse(word)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let first = names.first().ok_or(WantedError::Empty)?.as_str().to_owned();
        if names.len() > NAMES_MAX {
            return Err(WantedError::TooMany);
        }
        let mut sorted: Vec<&str> = names.iter().map(ServedName::as_str).collect();
        sorted.sort_unstable();
        let id = format!("{first}-{:016x}", xxh3_64(sorted.join(" ").as_bytes()));
        Ok(Self { names, id })
    }

    /// The names, as they were given.
    pub fn names(&self) -> &[ServedName] {
        &self.names
    }

    /// What its rows are called: the same for the same names behind the same first one.
    pub fn id(&self) -> &str {
        &self.id
    }
}

/// What is no list of names for one certificate.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum WantedError {
    /// No name.
    #[error("a certificate needs a name")]
    Empty,
    /// More than [`NAMES_MAX`].
    #[error("a certificate has at most {NAMES_MAX} names")]
    TooMany,
    /// One of them is none.
    #[error(transparent)]
    Name(#[from] NameError),
}

/// The rows, as all parts use them.
type Rows = Arc<dyn Engine>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_that_of_the_names_in_any_order() {
        let one = Wanted::parse("mx.example.org *.Example.org mx.example.org").unwrap();
        let two = Wanted::parse(" mx.example.org  *.example.org").unwrap();
        assert_eq!(one, two);
        assert!(one.id().starts_with("mx.example.org-"));
        assert_ne!(one.id(), Wanted::parse("mx.example.org").unwrap().id());
    }

    #[test]
    fn no_names_too_many_and_wrong_ones_are_refused() {
        assert_eq!(Wanted::parse(" "), Err(WantedError::Empty));
        let many: Vec<String> = (0..=NAMES_MAX).map(|n| format!("a{n}.test")).collect();
        assert_eq!(Wanted::parse(&many.join(" ")), Err(WantedError::TooMany));
        assert!(matches!(Wanted::parse("a b_.*"), Err(WantedError::Name(_))));
    }
}
