//! Certificates and keys in PEM files.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use tracing::info;

use crate::error::CertificateError;
use crate::leaf::Leaf;
use crate::provider;

/// When a certificate and its key were last changed, as far as that can be seen.
pub(crate) type Stamp = (Option<SystemTime>, Option<SystemTime>);

/// The PEM files of a certificate chain and its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FilePair {
    /// The chain, the server's own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// What two files hold.
pub(crate) struct Loaded {
    pub(crate) key: Arc<CertifiedKey>,
    pub(crate) leaf: Option<Leaf>,
}

impl FilePair {
    /// Where a self-signed certificate is kept in a data directory.
    pub fn self_signed(data: &Path) -> Self {
        Self {
            certificate: data.join("self-signed.crt"),
            key: data.join("self-signed.key"),
        }
    }

    /// Makes a self-signed certificate for `name` in these files unless they are there. The key is only ever readable
    /// by the server's user.
    pub(crate) fn make_missing(&self, name: &str) -> Result<(), CertificateError> {
        if self.certificate.exists() && self.key.exists() {
            return Ok(());
        }
        self.make(name)
            .map_err(|reason| CertificateError::SelfSigned {
                path: self
                    .certificate
                    .parent()
                    .unwrap_or(Path::new("."))
                    .to_owned(),
                reason,
            })
    }

    fn make(&self, name: &str) -> Result<(), String> {
        let text = |error: &dyn std::fmt::Display| error.to_string();
        let name = name.trim_matches(['[', ']']).trim_start_matches("IPv6:");
        let made = rcgen::generate_simple_self_signed(vec![name.to_owned()])
            .map_err(|error| text(&error))?;
        write_file(&self.key, &made.signing_key.serialize_pem(), 0o600)
            .and_then(|()| write_file(&self.certificate, &made.cert.pem(), 0o644))
            .map_err(|error| text(&error))?;
        info!(certificate = %self.certificate.display(), "made a self-signed certificate");
        Ok(())
    }

    pub(crate) fn stamp(&self) -> Stamp {
        (changed(&self.certificate), changed(&self.key))
    }

    pub(crate) fn load(&self) -> Result<Loaded, CertificateError> {
        let chain = read_certificates(&self.certificate)?;
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
        let key =
            PrivateKeyDer::from_pem_file(&self.key).map_err(|error| CertificateError::Pem {
                path: self.key.clone(),
                wanted: "a private key",
                reason: error.to_string(),
            })?;
        let key = CertifiedKey::from_der(chain, key, &provider()).map_err(|source| {
            CertificateError::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            }
        })?;
        Ok(Loaded {
            key: Arc::new(key),
            leaf,
        })
    }
}

/// When a file was last changed; `None` where that cannot be seen.
pub(crate) fn changed(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|meta| meta.modified()).ok()
}

fn write_file(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let _ = fs::remove_file(path);
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// The certificates of a PEM file, in their order; at least one.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertificateError> {
    let failed = |reason: String| CertificateError::Pem {
        path: path.to_owned(),
        wanted: "certificates",
        reason,
    };
    let chain: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(|error| failed(error.to_string()))?;
    if chain.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(chain)
}
