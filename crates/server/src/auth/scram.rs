//! What is kept of a password for SCRAM (RFC 5802 §3), and nonces.

use nightmail_directory::{ScramKeys, ScramSecrets};
use nightmail_sasl::{ScramHash, ScramSecret};

use super::AuthError;

/// Octets of a salt.
const SALT_OCTETS: usize = 16;

/// The secrets of a password for both hashes. Takes tens of milliseconds: not for an async task.
pub(super) fn secrets_of(password: &str, iterations: u32) -> Result<ScramSecrets, AuthError> {
    Ok(ScramSecrets {
        sha1: keys_of(ScramHash::Sha1, password, iterations)?,
        sha256: keys_of(ScramHash::Sha256, password, iterations)?,
    })
}

fn keys_of(hash: ScramHash, password: &str, iterations: u32) -> Result<ScramKeys, AuthError> {
    let mut salt = vec![0; SALT_OCTETS];
    getrandom::fill(&mut salt).map_err(|error| AuthError::Randomness(error.to_string()))?;
    let secret = ScramSecret::derive(hash, password, salt, iterations);
    Ok(ScramKeys {
        salt: secret.salt,
        iterations: secret.iterations,
        stored_key: secret.stored_key,
        server_key: secret.server_key,
    })
}
