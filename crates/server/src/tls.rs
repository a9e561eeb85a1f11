//! TLS: the server's certificate, reloaded when its files change, and the configurations for other sites.
//!
//! Without a configured certificate a self-signed one is made once and kept in the data directory. A reload that
//! fails keeps the certificate in use.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::{Mutex, RwLock};
use rustls::ServerConfig;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{error, info};

use crate::config::Config;
use crate::metrics;
use crate::shutdown::Shutdown;

/// When a certificate and its key were last changed, as far as that can be seen.
type Stamp = (Option<SystemTime>, Option<SystemTime>);

/// TLS cannot be used as configured.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file cannot be read or holds nothing of use.
    #[error("{path}: {reason}. It must be a PEM file with {wanted}", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        wanted: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// Certificate and key cannot be used together.
    #[error(
        "the certificate {certificate} and the key {key} cannot be used: {source}. Renew or copy them together",
        certificate = certificate.display(), key = key.display()
    )]
    Pair {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// What the TLS library says.
        source: rustls::Error,
    },
    /// The self-signed certificate cannot be made or kept.
    #[error("cannot make a self-signed certificate in {path}: {reason}. Set `certificate` and `key` in [tls], or mend the directory", path = path.display())]
    SelfSigned {
        /// The data directory.
        path: PathBuf,
        /// What failed.
        reason: String,
    },
    /// The TLS library refuses the configuration.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
}

/// The server's side of TLS. Cheap to clone; all clones see a reload.
#[derive(Clone, Debug)]
pub struct TlsContext {
    server: Arc<ServerConfig>,
    store: Arc<CertificateStore>,
}

impl TlsContext {
    /// Loads the certificate of a configuration, or makes the self-signed one.
    pub fn load(config: &Config) -> Result<Self, TlsError> {
        let files = Files::of(config)?;
        let store = Arc::new(CertificateStore {
            current: RwLock::new(files.load()?),
            stamp: Mutex::new(files.stamp()),
            files,
        });
        let mut server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(&store) as Arc<dyn ResolvesServerCert>);
        // Tickets keep sessions resumable without any memory here.
        server.ticketer = aws_lc_rs::Ticketer::new()?;
        metrics::plain_gauge(metrics::TLS_CERTIFICATE_GOOD).set(1.0);
        Ok(Self {
            server: Arc::new(server),
            store,
        })
    }

    /// What `Transport::start_tls` takes. It stays valid over reloads.
    pub const fn server_config(&self) -> &Arc<ServerConfig> {
        &self.server
    }

    /// Reads the files again. On failure the certificate in use stays.
    pub fn reload(&self) -> Result<(), TlsError> {
        let stamp = self.store.files.stamp();
        let loaded = self.store.files.load();
        metrics::plain_gauge(metrics::TLS_CERTIFICATE_GOOD)
            .set(f64::from(u8::from(loaded.is_ok())));
        *self.store.stamp.lock() = stamp;
        *self.store.current.write() = loaded?;
        Ok(())
    }

    /// Reads the files again if they changed since the last look. Whether they did.
    pub fn reload_if_changed(&self) -> Result<bool, TlsError> {
        let changed = *self.store.stamp.lock() != self.store.files.stamp();
        if changed {
            self.reload()?;
        }
        Ok(changed)
    }

    /// Reads the files again and logs how that went.
    pub fn reload_and_log(&self) {
        match self.reload() {
            Ok(()) => info!("certificate reloaded"),
            Err(error) => error!(%error, "certificate not reloaded: the one in use stays"),
        }
    }

    /// Looks at the files every `interval` until aborting begins.
    pub async fn watch(self, interval: Duration, mut shutdown: Shutdown) {
        loop {
            tokio::select! {
                () = shutdown.aborting() => return,
                () = tokio::time::sleep(interval) => {}
            }
            match self.reload_if_changed() {
                Ok(true) => info!("certificate files changed: reloaded"),
                Ok(false) => {}
                Err(error) => error!(%error, "certificate not reloaded: the one in use stays"),
            }
        }
    }
}

/// The certificate in use and where it comes from.
#[derive(Debug)]
struct CertificateStore {
    current: RwLock<Arc<CertifiedKey>>,
    /// When the files were last changed, as of the last look.
    stamp: Mutex<Stamp>,
    files: Files,
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.current.read()))
    }
}

/// The PEM files of a certificate and its key.
#[derive(Debug)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn of(config: &Config) -> Result<Self, TlsError> {
        if let (Some(certificate), Some(key)) = (&config.tls.certificate, &config.tls.key) {
            return Ok(Self {
                certificate: certificate.clone(),
                key: key.clone(),
            });
        }
        let data = &config.server.data;
        let files = Self {
            certificate: data.join("self-signed.crt"),
            key: data.join("self-signed.key"),
        };
        if !files.certificate.exists() || !files.key.exists() {
            let name = config.server.hostname.as_str();
            files.make(name).map_err(|reason| TlsError::SelfSigned {
                path: data.clone(),
                reason,
            })?;
        }
        Ok(files)
    }

    /// Makes a self-signed certificate. The key is only ever readable by the server's user.
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

    fn stamp(&self) -> Stamp {
        let changed = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
        (changed(&self.certificate), changed(&self.key))
    }

    fn load(&self) -> Result<Arc<CertifiedKey>, TlsError> {
        let pem = |path: &Path, wanted, reason: String| TlsError::Pem {
            path: path.to_owned(),
            wanted,
            reason,
        };
        let chain = read_certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_file(&self.key)
            .map_err(|error| pem(&self.key, "a private key", error.to_string()))?;
        CertifiedKey::from_der(chain, key, &provider())
            .map(Arc::new)
            .map_err(|source| TlsError::Pair {
                certificate: self.certificate.clone(),
                key: self.key.clone(),
                source,
            })
    }
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

pub(crate) fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let failed = |reason: String| TlsError::Pem {
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

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// The authorities of a configuration that are trusted beside the public ones.
pub fn read_authorities(config: &Config) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    match &config.tls.authorities {
        Some(path) => read_certificates(path),
        None => Ok(Vec::new()),
    }
}
