//! Checking passwords: Argon2id, bounded in how many are hashed at once, with a cache of those that were right.
//!
//! **Invariant:** an account that does not exist costs as much time as a wrong password.
//! The cache holds keyed digests only, under a key that is drawn when the process starts: neither memory nor
//! timing tells a password. A new password has a new hash string, which is part of the digest, so that a change
//! is seen at once.

use std::collections::{HashMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use argon2::{Algorithm, Argon2, Params, Version};
use nightmail_core::AccountId;
use nightmail_directory::PasswordHash;
use nightmail_sasl::prepare;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::scram::secrets_of;
use crate::config;
use crate::metrics;

/// Octets of salt in a new hash.
const SALT_OCTETS: usize = 16;
/// Longer passwords are refused before any work is done for them.
pub const PASSWORD_OCTETS_MAX: usize = 4096;

/// A password could not be hashed, or not be checked.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// `argon2_memory` or `argon2_iterations` cannot be used.
    #[error("[auth]: these Argon2 parameters cannot be used: {0}")]
    Parameters(String),
    /// The password is longer than is allowed.
    #[error("a password may have at most {PASSWORD_OCTETS_MAX} octets")]
    TooLong,
    /// The system gives no randomness.
    #[error("no randomness for a salt: {0}")]
    Randomness(String),
    /// The hash could not be computed.
    #[error("the password could not be hashed: {0}")]
    Hash(String),
    /// The keys of a token issuer cannot be used.
    #[error("{path}: {reason}. It must be a JSON Web Key Set or PEM file with the issuer's public keys", path = path.display())]
    TokenKeys {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The server is stopping.
    #[error("the server is stopping")]
    Stopping,
}

/// How new passwords are hashed.
#[derive(Clone, Debug)]
pub struct HashParams {
    argon2: Params,
    scram_iterations: u32,
}

impl HashParams {
    /// The parameters of a configuration.
    pub fn new(config: &config::Auth) -> Result<Self, AuthError> {
        let kib = u32::try_from(config.argon2_memory.get() >> 10).unwrap_or(u32::MAX);
        let argon2 = Params::new(kib, config.argon2_iterations, 1, None)
            .map_err(|error| AuthError::Parameters(error.to_string()))?;
        Ok(Self {
            argon2,
            scram_iterations: config.scram_iterations,
        })
    }

    fn argon2(&self) -> Argon2<'static> {
        Argon2::new(Algorithm::Argon2id, Version::V0x13, self.argon2.clone())
    }
}

/// Hashes a new password to a PHC string (`$argon2id$v=19$…`). Takes tens of milliseconds: not for an async task.
pub fn hash_password(password: &[u8], params: &HashParams) -> Result<String, AuthError> {
    if password.len() > PASSWORD_OCTETS_MAX {
        return Err(AuthError::TooLong);
    }
    let mut salt = [0; SALT_OCTETS];
    getrandom::fill(&mut salt).map_err(|error| AuthError::Randomness(error.to_string()))?;
    let hash = params
        .argon2()
        .hash_password_with_salt(password, &salt)
        .map_err(|error| AuthError::Hash(error.to_string()))?;
    Ok(hash.to_string())
}

/// What is kept of a new password: its hash and what SCRAM needs. Takes tens of milliseconds: not for an async task.
///
/// The password is prepared first (RFC 4013), so that it is the same from every keyboard.
pub fn new_password(password: &str, params: &HashParams) -> Result<PasswordHash, AuthError> {
    let prepared = prepare(password);
    let hash = PasswordHash::new(hash_password(prepared.as_bytes(), params)?);
    Ok(hash.with_scram(secrets_of(&prepared, params.scram_iterations)?))
}

/// Checks passwords. Shared by all drivers of the process.
pub struct Verifier {
    cache: PasswordCache,
    /// Checked where there is no account, so that the answer takes as long.
    decoy: Arc<str>,
    permits: Arc<Semaphore>,
}

impl Verifier {
    /// A verifier for a configuration; hashes once, for the decoy.
    pub fn new(config: &config::Auth) -> Result<Self, AuthError> {
        let params = HashParams::new(config)?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let concurrency = match config.argon2_concurrency {
            0 => cores,
            chosen => chosen,
        };
        Ok(Self {
            cache: PasswordCache::new(config.password_cache, config.password_cache_entries)?,
            decoy: hash_password(b"decoy", &params)?.into(),
            permits: Arc::new(Semaphore::new(concurrency)),
        })
    }

    /// Whether the password is that of the account; `None` is an account that does not exist.
    ///
    /// Waits while as many passwords as allowed are being hashed.
    pub async fn verify(
        &self,
        account: Option<(AccountId, &str)>,
        password: &[u8],
    ) -> Result<bool, AuthError> {
        if password.len() > PASSWORD_OCTETS_MAX {
            return Ok(false);
        }
        let digest = account.map(|(id, phc)| self.cache.digest(id, phc, password));
        if let Some(digest) = &digest
            && self.cache.contains(digest, Instant::now())
        {
            metrics::plain_counter(metrics::PASSWORDS_CACHED).increment(1);
            return Ok(true);
        }
        let phc = account.map_or_else(|| Arc::clone(&self.decoy), |(_, phc)| phc.into());
        let matches = self.hash_and_compare(phc, password.to_vec()).await?;
        match digest {
            Some(digest) if matches => {
                self.cache.insert(digest, Instant::now());
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    async fn hash_and_compare(&self, phc: Arc<str>, password: Vec<u8>) -> Result<bool, AuthError> {
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| AuthError::Stopping)?;
        metrics::plain_counter(metrics::PASSWORDS_HASHED).increment(1);
        let task = tokio::task::spawn_blocking(move || {
            // Held by the work itself: a client that leaves does not make room while its hash is computed.
            let _permit = permit;
            // The comparison inside takes the same time wherever the difference is.
            Argon2::default().verify_password(&password, &*phc).is_ok()
        });
        task.await.map_err(|_| AuthError::Stopping)
    }
}

/// Digests of passwords that were right a short while ago.
struct PasswordCache {
    key: [u8; blake3::KEY_LEN],
    lifetime: Duration,
    entries_max: usize,
    entries: Mutex<Entries>,
}

#[derive(Default)]
struct Entries {
    expiry: HashMap<[u8; 32], Instant>,
    /// The same digests in the order of their expiry, which is the order of insertion.
    oldest: VecDeque<(Instant, [u8; 32])>,
}

impl PasswordCache {
    fn new(lifetime: Duration, entries_max: usize) -> Result<Self, AuthError> {
        let mut key = [0; blake3::KEY_LEN];
        getrandom::fill(&mut key).map_err(|error| AuthError::Randomness(error.to_string()))?;
        Ok(Self {
            key,
            lifetime,
            entries_max,
            entries: Mutex::default(),
        })
    }

    fn digest(&self, account: AccountId, phc: &str, password: &[u8]) -> [u8; 32] {
        let mut hasher = blake3::Hasher::new_keyed(&self.key);
        hasher.update(&account.to_be_bytes());
        hasher.update(&(phc.len() as u64).to_be_bytes());
        hasher.update(phc.as_bytes());
        hasher.update(password);
        *hasher.finalize().as_bytes()
    }

    fn contains(&self, digest: &[u8; 32], now: Instant) -> bool {
        let entries = self.entries.lock();
        entries.expiry.get(digest).is_some_and(|until| now < *until)
    }

    fn insert(&self, digest: [u8; 32], now: Instant) {
        if self.entries_max == 0 || self.lifetime.is_zero() {
            return;
        }
        let until = now + self.lifetime;
        let entries = &mut *self.entries.lock();
        while let Some(&(expiry, oldest)) = entries.oldest.front() {
            let room = entries.oldest.len() < self.entries_max;
            if room && now < expiry {
                break;
            }
            entries.oldest.pop_front();
            // A digest that was inserted again since then stays until its later expiry.
            if entries.expiry.get(&oldest) == Some(&expiry) {
                entries.expiry.remove(&oldest);
            }
        }
        entries.expiry.insert(digest, until);
        entries.oldest.push_back((until, digest));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ByteSize;

    fn cheap() -> config::Auth {
        config::Auth {
            argon2_memory: ByteSize::kib(64),
            argon2_iterations: 1,
            ..config::Auth::default()
        }
    }

    fn hashed(password: &[u8]) -> String {
        hash_password(password, &HashParams::new(&cheap()).unwrap()).unwrap()
    }

    const ANN: AccountId = AccountId::new(1);

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let verifier = Verifier::new(&cheap()).unwrap();
        let phc = hashed(b"secret");
        assert!(phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{phc}");
        for _ in 0..2 {
            assert!(verifier.verify(Some((ANN, &phc)), b"secret").await.unwrap());
            assert!(!verifier.verify(Some((ANN, &phc)), b"Secret").await.unwrap());
            assert!(!verifier.verify(Some((ANN, &phc)), b"").await.unwrap());
        }
    }

    #[tokio::test]
    async fn an_unknown_account_is_refused_even_with_the_decoy_password() {
        let verifier = Verifier::new(&cheap()).unwrap();
        assert!(!verifier.verify(None, b"decoy").await.unwrap());
    }

    #[tokio::test]
    async fn a_hash_that_is_none_and_a_password_too_long_are_refused() {
        let verifier = Verifier::new(&cheap()).unwrap();
        assert!(!verifier.verify(Some((ANN, "!")), b"x").await.unwrap());
        let long = vec![b'x'; PASSWORD_OCTETS_MAX + 1];
        assert!(!verifier.verify(Some((ANN, "!")), &long).await.unwrap());
        let params = HashParams::new(&cheap()).unwrap();
        assert!(matches!(
            hash_password(&long, &params),
            Err(AuthError::TooLong)
        ));
    }

    #[tokio::test]
    async fn a_password_that_was_right_is_recognised_without_hashing() {
        let verifier = Verifier::new(&cheap()).unwrap();
        let phc = hashed(b"secret");
        assert!(verifier.verify(Some((ANN, &phc)), b"secret").await.unwrap());
        verifier.permits.close();
        assert!(verifier.verify(Some((ANN, &phc)), b"secret").await.unwrap());
        let wrong = verifier.verify(Some((ANN, &phc)), b"wrong").await;
        assert!(matches!(wrong, Err(AuthError::Stopping)));
        let changed = hashed(b"secret");
        let after_change = verifier.verify(Some((ANN, &changed)), b"secret").await;
        assert!(after_change.is_err(), "a new hash is not in the cache");
    }

    #[tokio::test]
    async fn a_cache_of_no_lifetime_recognises_nothing() {
        let config = config::Auth {
            password_cache: Duration::ZERO,
            ..cheap()
        };
        let verifier = Verifier::new(&config).unwrap();
        let phc = hashed(b"secret");
        assert!(verifier.verify(Some((ANN, &phc)), b"secret").await.unwrap());
        verifier.permits.close();
        assert!(verifier.verify(Some((ANN, &phc)), b"secret").await.is_err());
    }

    #[test]
    fn the_cache_forgets_in_time_and_stays_within_its_bound() {
        let cache = PasswordCache::new(Duration::from_secs(10), 2).unwrap();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        let [a, b, c] = [b"a", b"b", b"c"].map(|password| cache.digest(ANN, "phc", password));
        cache.insert(a, at(0));
        assert!(cache.contains(&a, at(9)) && !cache.contains(&a, at(10)));
        cache.insert(b, at(1));
        cache.insert(c, at(2));
        assert!(!cache.contains(&a, at(3)), "the oldest made room");
        assert!(cache.contains(&b, at(3)) && cache.contains(&c, at(3)));
        cache.insert(c, at(11));
        assert!(
            cache.contains(&c, at(20)),
            "a second login lasts from then on"
        );
        assert!(!cache.contains(&b, at(11)));
        assert!(cache.entries.lock().oldest.len() <= 2);
    }

    #[test]
    fn accounts_and_hashes_do_not_run_into_each_other() {
        let cache = PasswordCache::new(Duration::from_secs(10), 2).unwrap();
        assert_ne!(cache.digest(ANN, "ab", b"c"), cache.digest(ANN, "a", b"bc"));
        assert_ne!(
            cache.digest(ANN, "a", b"b"),
            cache.digest(AccountId::new(2), "a", b"b")
        );
    }
}
