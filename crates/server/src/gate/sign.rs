//! Signatures of our own: DKIM on what our users hand in, ARC seals on what is forwarded.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_core::{Domain, Timestamp};
use nightmail_directory::{Directory, DirectoryError, DkimKeyRecord, DkimKeyState};
use nightmail_trust::{Inspected, KeyAlgorithm, KeyProblem, Sealer, Signer, SigningKey};
use parking_lot::Mutex;
use tracing::warn;

use super::data::Judged;
use crate::config::Authentication;
use crate::metrics;

/// How long keys are used before the directory is asked again whether they still are the ones.
const KEYS_LIFETIME: Duration = Duration::from_secs(30);
/// Domains whose keys are remembered.
const DOMAINS_MAX: usize = 1000;

/// Signs with the keys of the directory.
pub(crate) struct Signers {
    directory: Directory,
    sign: bool,
    seal_as: Option<Domain>,
    known: Mutex<HashMap<Domain, Known>>,
}

/// What signs for a domain, and until when that is believed.
#[derive(Clone)]
struct Known {
    keys: Option<Arc<Ready>>,
    until: Instant,
}

/// The keys of a domain that are in use.
struct Ready {
    signer: Signer,
    sealer: Sealer,
}

impl Signers {
    pub(super) fn new(settings: &Authentication, directory: Directory) -> Self {
        let seal_as = settings.arc_domain.clone();
        Self {
            directory,
            sign: settings.sign,
            seal_as: seal_as.filter(|_| settings.arc_seal),
            known: Mutex::default(),
        }
    }

    /// Whether submissions are signed.
    pub(crate) const fn is_signing(&self) -> bool {
        self.sign
    }

    /// Whether what is forwarded is sealed.
    pub(crate) const fn is_sealing(&self) -> bool {
        self.seal_as.is_some()
    }

    /// The signatures of a message by this author, of which `added` are further header fields. None where the author's
    /// domain has no key that is in use. A message that cannot be signed goes unsigned, and the log says so.
    pub(crate) async fn sign(
        &self,
        author: Option<&str>,
        inspected: Option<&Inspected>,
        added: &[u8],
        now: Timestamp,
    ) -> Vec<u8> {
        let domain = author.and_then(|author| author.rsplit_once('@'));
        let domain = domain.and_then(|(_, domain)| Domain::parse(domain).ok());
        let (Some(domain), Some(inspected)) = (domain, inspected) else {
            return Vec::new();
        };
        let Some(keys) = self.keys(&domain).await else {
            return Vec::new();
        };
        metrics::plain_counter(metrics::DKIM_SIGNED).increment(1);
        keys.signer.sign(inspected, added, now)
    }

    /// The ARC set of a message that leaves again; nothing where it was not looked at or nothing is to be sealed.
    pub(crate) async fn seal(&self, judged: &Judged) -> Vec<u8> {
        let (Some(found), Some(domain)) = (&judged.found, &self.seal_as) else {
            return Vec::new();
        };
        let Some(keys) = self.keys(domain).await else {
            return Vec::new();
        };
        metrics::plain_counter(metrics::ARC_SEALED).increment(1);
        let (inspected, verdict) = &**found;
        keys.sealer
            .seal(inspected, verdict, nightmail_commit::now())
    }

    async fn keys(&self, domain: &Domain) -> Option<Arc<Ready>> {
        let now = Instant::now();
        let known = self.known.lock().get(domain).cloned();
        if let Some(known) = known.filter(|known| now < known.until) {
            return known.keys;
        }
        let keys = match self.read(domain).await {
            Ok(keys) => keys,
            Err(error) => {
                warn!(%domain, %error, "the keys of a domain could not be read: its mail goes unsigned");
                return None;
            }
        };
        let mut known = self.known.lock();
        if known.len() >= DOMAINS_MAX {
            known.clear();
        }
        let until = now + KEYS_LIFETIME;
        let entry = Known {
            keys: keys.clone(),
            until,
        };
        known.insert(domain.clone(), entry);
        keys
    }

    async fn read(&self, domain: &Domain) -> Result<Option<Arc<Ready>>, DirectoryError> {
        let keys = self.directory.dkim_keys(Some(domain)).await?;
        let active = keys.iter().filter(|key| key.state == DkimKeyState::Active);
        let keys: Vec<SigningKey> = active.filter_map(signing_key).collect();
        Ok(match ready(&keys) {
            Ok(ready) => ready.map(Arc::new),
            Err(error) => {
                warn!(%domain, %error, "a key of this domain cannot be used: its mail goes unsigned");
                None
            }
        })
    }
}

/// The keys made ready once for many messages; nothing where there is none.
fn ready(keys: &[SigningKey]) -> Result<Option<Ready>, KeyProblem> {
    // Everybody who checks seals knows RSA.
    let sealing = keys
        .iter()
        .find(|key| key.algorithm == KeyAlgorithm::Rsa2048)
        .or(keys.first());
    let Some(sealing) = sealing else {
        return Ok(None);
    };
    Ok(Some(Ready {
        signer: Signer::new(keys)?,
        sealer: Sealer::new(sealing)?,
    }))
}

fn signing_key(record: &DkimKeyRecord) -> Option<SigningKey> {
    Some(SigningKey {
        domain: record.domain.clone(),
        selector: record.selector.clone(),
        algorithm: KeyAlgorithm::from_number(record.algorithm)?,
        pkcs8: record.pkcs8.clone(),
    })
}
