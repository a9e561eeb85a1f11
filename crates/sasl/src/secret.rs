//! What a server keeps of a password for SCRAM (RFC 5802 §3).

use std::fmt;
use std::num::NonZeroU32;

use aws_lc_rs::{constant_time, digest, hmac, pbkdf2};

use crate::prepare;

/// The hash of a SCRAM mechanism.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ScramHash {
    /// SHA-1 (RFC 5802).
    Sha1,
    /// SHA-256 (RFC 7677).
    Sha256,
}

impl ScramHash {
    /// Octets of a digest, and so of each key.
    pub const fn octets(self) -> usize {
        match self {
            Self::Sha1 => 20,
            Self::Sha256 => 32,
        }
    }

    pub(crate) fn digest(self, octets: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &digest::SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &digest::SHA256,
        };
        digest::digest(algorithm, octets).as_ref().to_vec()
    }

    pub(crate) fn hmac(self, key: &[u8], octets: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => hmac::HMAC_SHA256,
        };
        let key = hmac::Key::new(algorithm, key);
        hmac::sign(&key, octets).as_ref().to_vec()
    }

    /// `Hi(password, salt, iterations)`; a count of 0 counts as 1.
    pub(crate) fn salted_password(self, password: &str, salt: &[u8], iterations: u32) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => pbkdf2::PBKDF2_HMAC_SHA1,
            Self::Sha256 => pbkdf2::PBKDF2_HMAC_SHA256,
        };
        let iterations = NonZeroU32::new(iterations).unwrap_or(NonZeroU32::MIN);
        let mut salted = vec![0; self.octets()];
        let password = prepare(password);
        pbkdf2::derive(
            algorithm,
            iterations,
            salt,
            password.as_bytes(),
            &mut salted,
        );
        salted
    }
}

/// What lets a server check a proof, and prove that it may, without knowing the password.
///
/// Whoever has it can pretend to be the server, and can try passwords; it is kept as a password hash is.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramSecret {
    /// The salt.
    pub salt: Vec<u8>,
    /// How often the hash is iterated.
    pub iterations: u32,
    /// `H(ClientKey)`.
    pub stored_key: Vec<u8>,
    /// `ServerKey`.
    pub server_key: Vec<u8>,
}

impl ScramSecret {
    /// The secret of a password, which is prepared first. Takes milliseconds: not for an async task.
    pub fn derive(hash: ScramHash, password: &str, salt: Vec<u8>, iterations: u32) -> Self {
        let salted = hash.salted_password(password, &salt, iterations);
        Self {
            stored_key: hash.digest(&hash.hmac(&salted, b"Client Key")),
            server_key: hash.hmac(&salted, b"Server Key"),
            salt,
            iterations,
        }
    }

    /// Whether a proof belongs to the messages of an exchange. Takes as long wherever the difference is.
    pub(crate) fn verify(&self, hash: ScramHash, messages: &[u8], proof: &[u8]) -> bool {
        let signature = hash.hmac(&self.stored_key, messages);
        if signature.len() != proof.len() {
            return false;
        }
        let bytes = signature.iter().zip(proof);
        let client_key: Vec<u8> = bytes.map(|(one, other)| one ^ other).collect();
        let stored = hash.digest(&client_key);
        constant_time::verify_slices_are_equal(&stored, &self.stored_key).is_ok()
    }
}

impl fmt::Debug for ScramSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ScramSecret")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}
