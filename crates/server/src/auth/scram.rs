//! What is kept of a password for SCRAM (RFC 5802 §3), what stands for it where there is none, and nonces.

use nightmail_commit::Tx;
use nightmail_core::codec::{RowReader, RowWriter};
use nightmail_directory::tx::Outcome;
use nightmail_directory::{Directory, DirectoryError, ScramKeys, ScramSecrets};
use nightmail_engine::{RowKey, Space};
use nightmail_sasl::{ScramHash, ScramSecret, encode};
use tokio::sync::OnceCell;

use super::{AuthError, LoginError};

/// Octets of a salt.
const SALT_OCTETS: usize = 16;
/// Octets of randomness in a nonce.
const NONCE_OCTETS: usize = 24;
/// Octets of the key that secrets of unknown accounts come from.
const KEY_OCTETS: usize = 32;
const VERSION: u8 = 1;

fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut octets = [0; N];
    getrandom::fill(&mut octets).map_err(|error| AuthError::Randomness(error.to_string()))?;
    Ok(octets)
}

/// The secrets of a password for both hashes. Takes tens of milliseconds: not for an async task.
pub(super) fn secrets_of(password: &str, iterations: u32) -> Result<ScramSecrets, AuthError> {
    Ok(ScramSecrets {
        sha1: keys_of(ScramHash::Sha1, password, iterations)?,
        sha256: keys_of(ScramHash::Sha256, password, iterations)?,
    })
}

fn keys_of(hash: ScramHash, password: &str, iterations: u32) -> Result<ScramKeys, AuthError> {
    let salt = random::<SALT_OCTETS>()?.to_vec();
    let secret = ScramSecret::derive(hash, password, salt, iterations);
    Ok(ScramKeys {
        salt: secret.salt,
        iterations: secret.iterations,
        stored_key: secret.stored_key,
        server_key: secret.server_key,
    })
}

/// What a mechanism needs of what is kept.
pub(super) fn secret_for(hash: ScramHash, secrets: &ScramSecrets) -> ScramSecret {
    let keys = match hash {
        ScramHash::Sha1 => &secrets.sha1,
        ScramHash::Sha256 => &secrets.sha256,
    };
    ScramSecret {
        salt: keys.salt.clone(),
        iterations: keys.iterations,
        stored_key: keys.stored_key.clone(),
        server_key: keys.server_key.clone(),
    }
}

/// The server's part of a nonce.
pub(super) fn nonce() -> Result<String, AuthError> {
    Ok(encode(&random::<NONCE_OCTETS>()?))
}

/// Secrets for names that have none. They look like others, are always the same for a name, on every node, and no
/// password fits them.
pub(super) struct Decoys {
    iterations: u32,
    /// Read from the store when it is first needed.
    key: OnceCell<[u8; KEY_OCTETS]>,
}

impl Decoys {
    pub(super) const fn new(iterations: u32) -> Self {
        Self {
            iterations,
            key: OnceCell::const_new(),
        }
    }

    /// The secret for a name.
    pub(super) async fn secret(
        &self,
        hash: ScramHash,
        name: &str,
        directory: &Directory,
    ) -> Result<ScramSecret, LoginError> {
        let key = self.key.get_or_try_init(|| shared_key(directory)).await?;
        let octets = |what: &[u8], count: usize| {
            let mut hasher = blake3::Hasher::new_keyed(key);
            hasher.update(what).update(&[hash as u8]);
            hasher.update(name.to_lowercase().as_bytes());
            let mut octets = vec![0; count];
            hasher.finalize_xof().fill(&mut octets);
            octets
        };
        Ok(ScramSecret {
            salt: octets(b"salt", SALT_OCTETS),
            iterations: self.iterations,
            stored_key: octets(b"stored", hash.octets()),
            server_key: octets(b"server", hash.octets()),
        })
    }
}

/// The key that all nodes share; drawn by the first that needs it.
async fn shared_key(directory: &Directory) -> Result<[u8; KEY_OCTETS], LoginError> {
    let drawn = random()?;
    Ok(directory.change(move |tx| read_or_put(tx, drawn)).await?)
}

fn read_or_put(tx: &mut Tx<'_>, drawn: [u8; KEY_OCTETS]) -> Outcome<[u8; KEY_OCTETS]> {
    let key = RowKey::new(Space::Meta, b"auth/decoys".as_slice());
    if let Some(row) = tx.get(&key)? {
        let read = RowReader::new(&row, VERSION).and_then(|(mut row, _)| row.array());
        return Ok(read.map_err(DirectoryError::from)?);
    }
    tx.put(key, RowWriter::new(VERSION).fixed(&drawn).finish());
    Ok(drawn)
}
