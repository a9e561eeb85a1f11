//! What requests are carried out on.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_access::{Greylist, GreylistOptions};
use nightmail_commit::Compactor;
use nightmail_core::Domain;
use nightmail_directory::{Directory, PasswordHash};
use nightmail_dns::{Dns, DnsOptions};
use nightmail_journal::Journal;
use nightmail_queue::Queue;
use nightmail_store::Store;
use tokio::sync::Mutex;

use crate::error::AdminError;
use crate::request::Password;
use crate::response::CertificateView;
use crate::sending::Sending;

/// Makes what is kept of a new password, or says why it cannot. Takes long: it is called on a blocking thread.
pub type HashPassword = Arc<dyn Fn(&str) -> Result<PasswordHash, String> + Send + Sync>;

/// The server's metrics in the Prometheus text format.
pub type RenderMetrics = Arc<dyn Fn() -> String + Send + Sync>;

/// The certificates of files, as they are now.
pub type ListCertificates = Arc<dyn Fn() -> Vec<CertificateView> + Send + Sync>;

/// How space is given back.
#[derive(Clone, Debug)]
pub struct MaintenanceOptions {
    /// How long a body that nobody refers to is kept, in milliseconds.
    pub grace_millis: i64,
    /// How long a deleted message can be brought back.
    pub undelete_window: Duration,
    /// A file of bodies is rewritten when less than this part of it is needed, in percent.
    pub live_percent_max: u64,
}

impl Default for MaintenanceOptions {
    fn default() -> Self {
        Self {
            grace_millis: 3_600_000,
            undelete_window: Duration::from_secs(7 * 24 * 3600),
            live_percent_max: 70,
        }
    }
}

/// What the world should know of this server, and whom to ask whether it does.
#[derive(Clone, Debug)]
pub struct Site {
    /// The name servers to ask. Every request asks anew: nothing is taken from a cache.
    pub dns: DnsOptions,
    /// The server's full name.
    pub hostname: Domain,
    /// Where it can be reached and sends from, as far as the configuration says; empty: the addresses of its name.
    pub addresses: Vec<IpAddr>,
}

/// The store and what else an operator works on. Cheap to clone.
#[derive(Clone)]
pub struct AdminContext {
    /// The mailboxes.
    pub store: Store,
    /// Domains, accounts and aliases.
    pub directory: Directory,
    /// Mail waiting to be sent elsewhere.
    pub queue: Arc<Queue>,
    /// The one compactor of the process; whoever compacts by the clock shares it.
    pub compactor: Arc<Mutex<Compactor>>,
    /// How space is given back.
    pub maintenance: MaintenanceOptions,
    hash_password: HashPassword,
    metrics: Option<RenderMetrics>,
    certificates: Option<ListCertificates>,
    site: Option<Site>,
    greylist: GreylistOptions,
    journal: Journal,
    sending: Option<Arc<dyn Sending>>,
    relays: Vec<String>,
    opened: Instant,
}

impl AdminContext {
    /// A context over an open store, without metrics.
    pub fn new(
        store: Store,
        directory: Directory,
        queue: Arc<Queue>,
        maintenance: MaintenanceOptions,
        hash_password: HashPassword,
    ) -> Self {
        let compactor = Compactor::new(
            store.committer().clone(),
            maintenance.grace_millis,
            maintenance.live_percent_max,
        );
        Self {
            store,
            directory,
            queue,
            compactor: Arc::new(Mutex::new(compactor)),
            maintenance,
            hash_password,
            metrics: None,
            certificates: None,
            site: None,
            greylist: GreylistOptions::default(),
            journal: Journal::off(),
            sending: None,
            relays: Vec::new(),
            opened: Instant::now(),
        }
    }

    /// Shows these metrics under `status`.
    #[must_use]
    pub fn with_metrics(mut self, metrics: RenderMetrics) -> Self {
        self.metrics = Some(metrics);
        self
    }

    /// Lists these certificates of files beside those that are fetched.
    #[must_use]
    pub fn with_certificates(mut self, certificates: ListCertificates) -> Self {
        self.certificates = Some(certificates);
        self
    }

    pub(crate) fn certificates(&self) -> Vec<CertificateView> {
        let list = self.certificates.as_ref();
        list.map(|list| list()).unwrap_or_default()
    }

    /// Looks this site up in DNS. Without it, nobody knows what is published.
    #[must_use]
    pub fn with_site(mut self, site: Site) -> Self {
        self.site = Some(site);
        self
    }

    /// Greylists as the server does.
    #[must_use]
    pub fn with_greylist(mut self, options: GreylistOptions) -> Self {
        self.greylist = options;
        self
    }

    /// Asks this channel about mail on its way, and lets it give mail up.
    #[must_use]
    pub fn with_sending(mut self, sending: Arc<dyn Sending>) -> Self {
        self.sending = Some(sending);
        self
    }

    /// Knows these relays of the configuration by name.
    #[must_use]
    pub fn with_relays(mut self, names: Vec<String>) -> Self {
        self.relays = names;
        self
    }

    /// The channel that sends mail, where one runs in this process.
    pub(crate) fn sending(&self) -> Option<&dyn Sending> {
        let sending = self.sending.as_deref();
        sending.filter(|sending| sending.is_running())
    }

    pub(crate) fn relays(&self) -> &[String] {
        &self.relays
    }

    /// Traces messages in this log of events.
    #[must_use]
    pub fn with_journal(mut self, journal: Journal) -> Self {
        self.journal = journal;
        self
    }

    pub(crate) const fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The site and a resolver with an empty cache; `server` is asked instead of the configured ones.
    pub(crate) fn site(&self, server: Option<SocketAddr>) -> Result<(&Site, Dns), AdminError> {
        let none = || AdminError::refused("DNS is not set up here");
        let site = self.site.as_ref().ok_or_else(none)?;
        let mut options = site.dns.clone();
        if let Some(server) = server {
            options.name_servers = vec![server];
        }
        let dns = Dns::new(&options).map_err(|error| AdminError::failed(error.to_string()))?;
        Ok((site, dns))
    }

    /// The greylist in the store.
    pub(crate) fn greylist(&self) -> Greylist {
        let engine = Arc::clone(self.store.committer().engine());
        Greylist::new(engine, self.greylist)
    }

    pub(crate) fn metrics(&self) -> String {
        self.metrics
            .as_ref()
            .map(|render| render())
            .unwrap_or_default()
    }

    pub(crate) fn uptime_seconds(&self) -> u64 {
        self.opened.elapsed().as_secs()
    }

    /// Hashes a password on a blocking thread.
    pub(crate) async fn hash(&self, password: &Password) -> Result<PasswordHash, AdminError> {
        if password.expose().is_empty() {
            return Err(AdminError::usage("the password is empty"));
        }
        let (hash, password) = (Arc::clone(&self.hash_password), password.clone());
        let hashed = tokio::task::spawn_blocking(move || hash(password.expose())).await;
        hashed
            .map_err(|error| AdminError::failed(error.to_string()))?
            .map_err(AdminError::usage)
    }
}
