//! Which certificate a client is shown.
//!
//! By the name it asks for (SNI): fetched certificates before those of files, exact names before wildcards. Who asks for
//! no name, or for one that is not served, gets what the server's own name gets.

use std::collections::HashMap;
use std::sync::Arc;

use nightmail_core::Timestamp;
use parking_lot::{Mutex, RwLock};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use crate::error::CertificateError;
use crate::files::{FilePair, Loaded, Stamp};
use crate::leaf::Leaf;
use crate::name::ServedName;
use crate::provider;

/// The files that certificates come from.
#[derive(Clone, Debug)]
pub struct CertificateFiles {
    /// The server's own name: who asks for none is shown its certificate.
    pub hostname: String,
    /// The server's certificate; `None`: a self-signed one is made where it is missing.
    pub own: Option<FilePair>,
    /// Where a self-signed one is kept.
    pub self_signed: FilePair,
    /// Further ones, and the names each is shown for; those written in it when there are none.
    pub further: Vec<(FilePair, Vec<ServedName>)>,
}

impl CertificateFiles {
    /// What the files hold now, or why each cannot be used. Makes nothing: a self-signed certificate that is missing is
    /// left out.
    pub fn inspect(&self) -> Vec<Result<CertificateInfo, CertificateError>> {
        let there =
            |pair: &FilePair, role| role != FileRole::SelfSigned || pair.certificate.exists();
        self.roles()
            .into_iter()
            .filter(|(pair, role, _)| there(pair, *role))
            .map(|(pair, role, names)| Ok(FileEntry::load(pair, role, names)?.info()))
            .collect()
    }

    /// Those that go before others first.
    fn roles(&self) -> Vec<(FilePair, FileRole, Vec<ServedName>)> {
        let own = self
            .own
            .iter()
            .map(|pair| (pair.clone(), FileRole::Own, Vec::new()));
        let further = self.further.iter().cloned();
        let further = further.map(|(pair, names)| (pair, FileRole::Further, names));
        let mut all: Vec<_> = own.chain(further).collect();
        if self.own.is_none() {
            let pair = self.self_signed.clone();
            all.push((pair, FileRole::SelfSigned, Vec::new()));
        }
        all
    }
}

/// Where a certificate comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// A file.
    File(FilePair),
    /// Made here.
    SelfSigned,
    /// An authority, by ACME.
    Fetched,
}

impl Source {
    /// `file`, `self-signed` or `acme`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::SelfSigned => "self-signed",
            Self::Fetched => "acme",
        }
    }
}

/// One certificate in use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CertificateInfo {
    /// The names it is shown for.
    pub names: Vec<ServedName>,
    /// Where it comes from.
    pub source: Source,
    /// Until when it is valid; `None` where that cannot be read.
    pub not_after: Option<Timestamp>,
}

/// A certificate that was fetched, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct FetchedKey {
    key: Arc<CertifiedKey>,
    leaf: Leaf,
}

impl FetchedKey {
    /// A chain in DER, the server's own certificate first, and its key in PKCS#8. Fails where they do not belong
    /// together.
    pub(crate) fn new(chain: &[Vec<u8>], pkcs8: &[u8]) -> Result<Self, rustls::Error> {
        let unreadable = rustls::Error::General("the certificate cannot be read".to_owned());
        let leaf = chain.first().and_then(|leaf| Leaf::read(leaf));
        let leaf = leaf.ok_or(unreadable)?;
        let chain = chain.iter().cloned().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8.to_vec()));
        let key = CertifiedKey::from_der(chain, key, &provider())?;
        Ok(Self {
            key: Arc::new(key),
            leaf,
        })
    }

    /// What it says about itself.
    pub(crate) const fn leaf(&self) -> &Leaf {
        &self.leaf
    }
}

/// All certificates of a server. Cheap to clone; all clones see every change.
#[derive(Clone, Debug)]
pub struct CertificateStore(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    hostname: String,
    table: RwLock<Arc<Table>>,
    parts: Mutex<Parts>,
}

/// What the table is made from.
#[derive(Debug)]
struct Parts {
    files: Vec<FileEntry>,
    fetched: Vec<FetchedKey>,
}

#[derive(Debug)]
struct FileEntry {
    files: FilePair,
    role: FileRole,
    /// The names given in the configuration.
    names: Vec<ServedName>,
    stamp: Stamp,
    key: Arc<CertifiedKey>,
    leaf: Option<Leaf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FileRole {
    Own,
    Further,
    SelfSigned,
}

impl FileEntry {
    fn load(
        files: FilePair,
        role: FileRole,
        names: Vec<ServedName>,
    ) -> Result<Self, CertificateError> {
        let stamp = files.stamp();
        let Loaded { key, leaf } = files.load()?;
        let entry = Self {
            files,
            role,
            names,
            stamp,
            key,
            leaf,
        };
        if role == FileRole::Further && entry.served().is_empty() {
            let path = entry.files.certificate;
            return Err(CertificateError::Nameless { path });
        }
        Ok(entry)
    }

    fn served(&self) -> &[ServedName] {
        match (&self.names[..], &self.leaf) {
            ([], Some(leaf)) => &leaf.names,
            (names, _) => names,
        }
    }

    fn info(&self) -> CertificateInfo {
        CertificateInfo {
            names: self.served().to_vec(),
            source: match self.role {
                FileRole::SelfSigned => Source::SelfSigned,
                FileRole::Own | FileRole::Further => Source::File(self.files.clone()),
            },
            not_after: self.leaf.as_ref().map(|leaf| leaf.not_after),
        }
    }
}

/// What is looked at in every handshake.
#[derive(Debug)]
struct Table {
    by_name: HashMap<String, Arc<CertifiedKey>>,
    default: Arc<CertifiedKey>,
    infos: Vec<CertificateInfo>,
}

impl Table {
    /// `None` where there is no certificate at all.
    fn new(hostname: &str, parts: &Parts) -> Option<Self> {
        let mut by_name = HashMap::new();
        let mut infos = Vec::new();
        let mut add = |key: &Arc<CertifiedKey>, info: CertificateInfo| {
            // What was made here is shown only where there is nothing else.
            let named = match info.source {
                Source::SelfSigned => &[],
                Source::File(_) | Source::Fetched => &info.names[..],
            };
            for name in named {
                by_name
                    .entry(name.as_str().to_owned())
                    .or_insert_with(|| Arc::clone(key));
            }
            infos.push(info);
        };
        for fetched in &parts.fetched {
            let info = CertificateInfo {
                names: fetched.leaf.names.clone(),
                source: Source::Fetched,
                not_after: Some(fetched.leaf.not_after),
            };
            add(&fetched.key, info);
        }
        for entry in &parts.files {
            add(&entry.key, entry.info());
        }
        let fetched = parts.fetched.iter().map(|fetched| &fetched.leaf.names[..]);
        let is_fetched = fetched.flatten().any(|name| serves(name, hostname));
        let own = parts.files.iter().find(|entry| entry.role == FileRole::Own);
        let default = match own {
            Some(own) if !is_fetched => Arc::clone(&own.key),
            _ => look_up(&by_name, hostname)
                .or_else(|| parts.files.last().map(|entry| Arc::clone(&entry.key)))?,
        };
        Some(Self {
            by_name,
            default,
            infos,
        })
    }

    fn publish(&self) {
        for info in &self.infos {
            let (Some(name), Some(not_after)) = (info.names.first(), info.not_after) else {
                continue;
            };
            let source = info.source.kind();
            metrics::gauge!("nightmail_tls_certificate_expiry_seconds", "name" => name.to_string(), "source" => source)
                .set(not_after.secs() as f64);
        }
    }
}

fn serves(served: &ServedName, name: &str) -> bool {
    served.as_str() == name || ServedName::wildcard(name).as_deref() == Some(served.as_str())
}

fn look_up(by_name: &HashMap<String, Arc<CertifiedKey>>, name: &str) -> Option<Arc<CertifiedKey>> {
    let exact = by_name.get(name);
    let found = exact.or_else(|| by_name.get(&ServedName::wildcard(name)?))?;
    Some(Arc::clone(found))
}

impl CertificateStore {
    /// Loads all files, and makes the self-signed certificate where it is needed and missing. Fails for the first that
    /// cannot be used.
    pub fn load(files: CertificateFiles) -> Result<Self, CertificateError> {
        let hostname = files.hostname.to_ascii_lowercase();
        if files.own.is_none() {
            files.self_signed.make_missing(&hostname)?;
        }
        let loaded = files
            .roles()
            .into_iter()
            .map(|(pair, role, names)| FileEntry::load(pair, role, names));
        let parts = Parts {
            files: loaded.collect::<Result<_, _>>()?,
            fetched: Vec::new(),
        };
        let none = || rustls::Error::General("there is no certificate".to_owned());
        let table = Table::new(&hostname, &parts).ok_or_else(none)?;
        table.publish();
        Ok(Self(Arc::new(Shared {
            hostname,
            table: RwLock::new(Arc::new(table)),
            parts: Mutex::new(parts),
        })))
    }

    /// Reads all files again and shows what they hold, all at once. One that cannot be used keeps its predecessor, and
    /// the first such error is returned.
    pub fn reload(&self) -> Result<(), CertificateError> {
        self.reload_where(|_| true).map(|_| ())
    }

    /// Reads those files again that changed since the last look. Whether there were any.
    pub fn reload_if_changed(&self) -> Result<bool, CertificateError> {
        self.reload_where(|entry| entry.stamp != entry.files.stamp())
    }

    fn reload_where(&self, wanted: impl Fn(&FileEntry) -> bool) -> Result<bool, CertificateError> {
        let mut parts = self.0.parts.lock();
        let (mut looked, mut failed) = (false, None);
        for entry in parts.files.iter_mut().filter(|entry| wanted(entry)) {
            looked = true;
            let stamp = entry.files.stamp();
            let (files, names) = (entry.files.clone(), entry.names.clone());
            match FileEntry::load(files, entry.role, names) {
                Ok(fresh) => *entry = fresh,
                Err(error) => {
                    entry.stamp = stamp;
                    failed.get_or_insert(error);
                }
            }
        }
        if looked {
            self.rebuild(&parts);
        }
        failed.map_or(Ok(looked), Err)
    }

    /// Replaces what was fetched. Certificates that are over are left out; of two for one name the one that is valid
    /// longer is shown.
    pub(crate) fn set_fetched(&self, mut fetched: Vec<FetchedKey>, now: Timestamp) {
        fetched.retain(|fetched| fetched.leaf.not_after > now);
        fetched.sort_by_key(|fetched| std::cmp::Reverse(fetched.leaf.not_after));
        let mut parts = self.0.parts.lock();
        parts.fetched = fetched;
        self.rebuild(&parts);
    }

    fn rebuild(&self, parts: &Parts) {
        if let Some(table) = Table::new(&self.0.hostname, parts) {
            table.publish();
            *self.0.table.write() = Arc::new(table);
        }
    }

    /// The certificate that is shown to a client which asks for `name`.
    pub fn certificate_for(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let table = Arc::clone(&self.0.table.read());
        let name = name.map(str::to_ascii_lowercase);
        name.and_then(|name| look_up(&table.by_name, &name))
            .unwrap_or_else(|| Arc::clone(&table.default))
    }

    /// All certificates in use, those that go before others first.
    pub fn list(&self) -> Vec<CertificateInfo> {
        self.0.table.read().infos.clone()
    }
}

impl ResolvesServerCert for CertificateStore {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.certificate_for(hello.server_name()))
    }
}

#[cfg(test)]
mod tests;
