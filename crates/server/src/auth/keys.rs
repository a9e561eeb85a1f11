//! The public keys of a token issuer: a JSON Web Key Set (RFC 7517) or PEM, read again when the file changes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use aws_lc_rs::signature::{
    self, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::Mutex;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject;
use serde_json::Value;
use tracing::{info, warn};

use super::AuthError;

/// How a token is signed (RFC 7518 §3.1, RFC 8037 §3.1). Those without a public key are not among them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Algorithm {
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Es256,
    EdDsa,
}

impl Algorithm {
    pub(super) fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "RS256" => Self::Rs256,
            "RS384" => Self::Rs384,
            "RS512" => Self::Rs512,
            "PS256" => Self::Ps256,
            "ES256" => Self::Es256,
            "EdDSA" | "Ed25519" => Self::EdDsa,
            _ => return None,
        })
    }

    /// The parameters, for keys of RSA.
    fn rsa(self) -> Option<&'static signature::RsaParameters> {
        match self {
            Self::Rs256 => Some(&signature::RSA_PKCS1_2048_8192_SHA256),
            Self::Rs384 => Some(&signature::RSA_PKCS1_2048_8192_SHA384),
            Self::Rs512 => Some(&signature::RSA_PKCS1_2048_8192_SHA512),
            Self::Ps256 => Some(&signature::RSA_PSS_2048_8192_SHA256),
            Self::Es256 | Self::EdDsa => None,
        }
    }

    fn verification(self) -> &'static dyn VerificationAlgorithm {
        match (self, self.rsa()) {
            (_, Some(rsa)) => rsa,
            (Self::EdDsa, _) => &signature::ED25519,
            _ => &signature::ECDSA_P256_SHA256_FIXED,
        }
    }
}

/// One public key.
struct Key {
    /// Its `kid`.
    id: Option<String>,
    /// The only algorithm it is for, where it says so.
    algorithm: Option<Algorithm>,
    material: Material,
}

enum Material {
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    /// An uncompressed point of P-256.
    P256(Vec<u8>),
    Ed25519(Vec<u8>),
    /// Any kind, as X.509 writes it.
    Info(Vec<u8>),
}

impl Key {
    fn verifies(&self, algorithm: Algorithm, message: &[u8], signature: &[u8]) -> bool {
        if self.algorithm.is_some_and(|only| only != algorithm) {
            return false;
        }
        let by_octets = |octets: &[u8]| {
            let key = UnparsedPublicKey::new(algorithm.verification(), octets);
            key.verify(message, signature).is_ok()
        };
        match (&self.material, algorithm) {
            (Material::Rsa(key), algorithm) => match algorithm.rsa() {
                Some(parameters) => key.verify(parameters, message, signature).is_ok(),
                None => false,
            },
            (Material::P256(point), Algorithm::Es256) => by_octets(point),
            (Material::Ed25519(key), Algorithm::EdDsa) => by_octets(key),
            (Material::Info(info), _) => by_octets(info),
            _ => false,
        }
    }
}

/// Keys as they were read once.
pub(super) struct KeySet(Vec<Key>);

impl KeySet {
    /// Whether one of the keys has signed a message. `id` is the key's name, where the token gives it.
    pub(super) fn verifies(
        &self,
        (id, algorithm): (Option<&str>, Algorithm),
        message: &[u8],
        signature: &[u8],
    ) -> bool {
        let may_be = |key: &&Key| match (id, key.id.as_deref()) {
            (Some(id), Some(known)) => id == known,
            _ => true,
        };
        self.0
            .iter()
            .filter(may_be)
            .any(|key| key.verifies(algorithm, message, signature))
    }

    /// Reads a file's content, or says what is wrong with it.
    pub(super) fn parse(content: &[u8]) -> Result<Self, String> {
        let keys = match serde_json::from_slice::<Value>(content) {
            Ok(json) => parse_jwks(&json),
            Err(_) => parse_pem(content)?,
        };
        if keys.is_empty() {
            return Err("there is no public key in it that tokens are signed with".to_owned());
        }
        Ok(Self(keys))
    }
}

fn parse_pem(content: &[u8]) -> Result<Vec<Key>, String> {
    let infos = SubjectPublicKeyInfoDer::pem_slice_iter(content);
    let keys = infos.map(|info| {
        info.map(|info| Key {
            id: None,
            algorithm: None,
            material: Material::Info(info.to_vec()),
        })
    });
    keys.collect::<Result<_, _>>()
        .map_err(|error| format!("it is neither a JSON Web Key Set nor PEM: {error}"))
}

/// The keys of a set, or a single key. Those of kinds not known here are passed over (RFC 7517 §5).
fn parse_jwks(json: &Value) -> Vec<Key> {
    match json.get("keys").and_then(Value::as_array) {
        Some(keys) => keys.iter().filter_map(parse_jwk).collect(),
        None => parse_jwk(json).into_iter().collect(),
    }
}

fn parse_jwk(jwk: &Value) -> Option<Key> {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let octets = |name: &str| URL_SAFE_NO_PAD.decode(text(name)?).ok();
    if text("use").is_some_and(|usage| usage != "sig") {
        return None;
    }
    let material = match (text("kty")?, text("crv")) {
        ("RSA", _) => Material::Rsa(RsaPublicKeyComponents {
            n: octets("n")?,
            e: octets("e")?,
        }),
        ("EC", Some("P-256")) => Material::P256([vec![4], octets("x")?, octets("y")?].concat()),
        ("OKP", Some("Ed25519")) => Material::Ed25519(octets("x")?),
        _ => return None,
    };
    let algorithm = match text("alg") {
        Some(name) => Some(Algorithm::parse(name)?),
        None => None,
    };
    Some(Key {
        id: text("kid").map(str::to_owned),
        algorithm,
        material,
    })
}

/// A file of keys.
pub(super) struct KeyFile {
    path: PathBuf,
    current: Mutex<(Option<SystemTime>, Arc<KeySet>)>,
}

impl KeyFile {
    pub(super) fn load(path: &Path) -> Result<Self, AuthError> {
        let stamp = changed(path);
        let keys = read(path)?;
        Ok(Self {
            path: path.to_owned(),
            current: Mutex::new((stamp, Arc::new(keys))),
        })
    }

    /// The keys as the file is now; where it cannot be used any more, those it had before.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        let stamp = changed(&self.path);
        let mut current = self.current.lock();
        if current.0 != stamp {
            current.0 = stamp;
            match read(&self.path) {
                Ok(keys) => {
                    info!(path = %self.path.display(), "keys of a token issuer read again");
                    current.1 = Arc::new(keys);
                }
                Err(error) => warn!(%error, "the keys in use stay"),
            }
        }
        Arc::clone(&current.1)
    }
}

fn changed(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path)
        .and_then(|meta| meta.modified())
        .ok()
}

fn read(path: &Path) -> Result<KeySet, AuthError> {
    let content = std::fs::read(path).map_err(|error| error.to_string());
    content
        .and_then(|content| KeySet::parse(&content))
        .map_err(|reason| AuthError::TokenKeys {
            path: path.to_owned(),
            reason,
        })
}
