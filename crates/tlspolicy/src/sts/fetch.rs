//! Finding a policy: the record that announces it, and the web server that has it (RFC 8461 §3).

use nightmail_core::Domain;
use thiserror::Error;

use super::Shared;
use crate::https::HttpsError;
use crate::policy::{Policy, PolicyError, TEXT_OCTETS_MAX};
use crate::record::sts_id;
use crate::report::ResultType;

const PATH: &str = "/.well-known/mta-sts.txt";

/// A policy that was announced and not got.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error(transparent)]
    Https(#[from] HttpsError),
    #[error("it answers with status {0}")]
    Status(u16),
    #[error("it answers with \"{0}\" instead of \"text/plain\"")]
    MediaType(String),
    #[error(transparent)]
    Policy(#[from] PolicyError),
}

impl FetchError {
    /// As reports name it (RFC 8460 §4.3.2.2).
    pub(super) const fn result_type(&self) -> ResultType {
        match self {
            Self::Https(HttpsError::Certificate(_)) => ResultType::StsWebpkiInvalid,
            Self::Https(_) | Self::Status(_) => ResultType::StsPolicyFetchError,
            Self::MediaType(_) | Self::Policy(_) => ResultType::StsPolicyInvalid,
        }
    }
}

impl Shared {
    /// The id of the policy that a domain announces now; `None` where it announces none, or that cannot be found out.
    pub(super) async fn announced(&self, domain: &Domain) -> Option<String> {
        let records = self.dns.txt(&format!("_mta-sts.{domain}")).await;
        sts_id(&records.ok()?)
    }

    /// Fetches the policy that was announced under `id`.
    pub(super) async fn fetch(&self, domain: &Domain, id: &str) -> Result<Policy, FetchError> {
        let host = format!("mta-sts.{domain}");
        let port = self.options.https_port;
        let answer = self.https.get(&host, port, PATH, TEXT_OCTETS_MAX);
        let fetched = answer.await.map_err(FetchError::from).and_then(|answer| {
            if answer.status != 200 {
                return Err(FetchError::Status(answer.status));
            }
            if answer.media_type != "text/plain" {
                return Err(FetchError::MediaType(answer.media_type));
            }
            Ok(Policy::parse(&answer.body, id)?)
        });
        let result = if fetched.is_ok() { "fetched" } else { "failed" };
        metrics::counter!("nightmail_sts_fetches_total", "result" => result).increment(1);
        fetched
    }
}
