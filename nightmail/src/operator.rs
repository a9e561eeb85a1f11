//! Where a request is carried out: by the server that runs, or here on a store that no server holds.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nightmail_admin::{
    AdminClient, AdminContext, AdminRequest, AdminResponse, ClientError, MaintenanceOptions, Site,
    execute,
};
use nightmail_dns::DnsOptions;
use nightmail_server::SMARTHOST;
use nightmail_server::auth::{HashParams, new_password};
use nightmail_server::backend::Backend;
use nightmail_server::config::{Config, EngineKind, ListenAddress, Protocol};
use nightmail_server::gate::greylist_options;

use crate::cli::Place;
use crate::commands::certificate::of_files;
use crate::error::CommandError;
use crate::sending::Channel;

/// How long the operator waits for an answer of a name server.
const LOOKUP_WAIT: Duration = Duration::from_secs(2);
/// Read where neither a configuration nor a directory nor a socket is named.
const DEFAULT_CONFIG: &str = "/etc/nightmail/nightmail.toml";

/// Carries requests out, one after the other.
pub(crate) struct Operator {
    client: AdminClient,
    /// `None` where only a socket is known.
    config: Option<Config>,
    offline: Option<Offline>,
}

struct Offline {
    backend: Backend,
    context: AdminContext,
}

impl Operator {
    /// An operator of the server that is meant.
    pub(crate) fn new(place: &Place) -> Result<Self, CommandError> {
        let (socket, config) = match &place.socket {
            Some(socket) => (socket.clone(), None),
            None => {
                let config = load_config(place)?;
                (config.admin_socket(), Some(config))
            }
        };
        Ok(Self {
            client: AdminClient::new(socket),
            config,
            offline: None,
        })
    }

    /// Carries a request out.
    pub(crate) async fn ask(
        &mut self,
        request: AdminRequest,
    ) -> Result<AdminResponse, CommandError> {
        if self.offline.is_none() {
            match self.client.execute(&request).await {
                Err(ClientError::NotRunning { .. }) if self.config.is_some() => {}
                answered => return Ok(answered?),
            }
        }
        let offline = match &mut self.offline {
            Some(offline) => offline,
            none => none.insert(open(self.config.clone().unwrap_or_default(), &request).await?),
        };
        let answer = execute(&offline.context, request).await?;
        let noted = offline.backend.journal.flush().await;
        noted.map_err(|error| nightmail_admin::AdminError::failed(error.to_string()))?;
        let synced = offline.backend.engine.sync().await;
        synced.map_err(|error| nightmail_admin::AdminError::failed(error.to_string()))?;
        Ok(answer)
    }
}

/// The configuration that is meant.
pub(crate) fn load_config(place: &Place) -> Result<Config, CommandError> {
    if let Some(data) = &place.data {
        let mut config = Config::default();
        config.server.data.clone_from(data);
        return Ok(config);
    }
    match &place.config {
        Some(path) => Ok(Config::load(path)?),
        None if Path::new(DEFAULT_CONFIG).exists() => Ok(Config::load(Path::new(DEFAULT_CONFIG))?),
        None => Err(CommandError::Usage(format!(
            "which server? Give --config FILE, --data DIR or --socket PATH; there is no {DEFAULT_CONFIG}"
        ))),
    }
}

async fn open(config: Config, request: &AdminRequest) -> Result<Offline, CommandError> {
    if config.store.engine == EngineKind::Embedded {
        require_own_store(&config.server.data, request)?;
    }
    let backend = Backend::open(&config).await?;
    let context = admin_context(&config, &backend)?;
    Ok(Offline { backend, context })
}

/// A store is made only for its first domain, and changed only by the user it belongs to.
fn require_own_store(data: &Path, request: &AdminRequest) -> Result<(), CommandError> {
    let shown = data.display();
    let exists = data.join("index").exists();
    if !exists && !matches!(request, AdminRequest::DomainAdd { .. }) {
        return Err(CommandError::Usage(format!(
            "there is no store in {shown} and no server runs on it; check the path, or begin with `domain add`"
        )));
    }
    let owner = match std::fs::metadata(data) {
        Ok(metadata) => metadata.uid(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(CommandError::io(format!("cannot look at {shown}"))(error)),
    };
    let own = std::fs::metadata("/proc/self").map(|metadata| metadata.uid());
    match own {
        Ok(own) if own != owner => Err(CommandError::Usage(format!(
            "{shown} belongs to the user with id {owner}; run this as that user: sudo -u '#{owner}' nightmail …"
        ))),
        _ => Ok(()),
    }
}

/// The name servers to ask: those of the configuration, or of the machine.
pub(crate) fn dns_options(config: &Config) -> DnsOptions {
    let anchors = config.delivery.trust_anchors.as_deref();
    DnsOptions {
        name_servers: config.delivery.dns_servers.clone(),
        timeout: LOOKUP_WAIT,
        dnssec: config.delivery.dnssec,
        // The server itself does not start with a file that cannot be read.
        trust_anchors: anchors.and_then(|path| std::fs::read_to_string(path).ok()),
        ..DnsOptions::default()
    }
}

/// What the configuration says about how others reach this site.
fn site(config: &Config) -> Site {
    let addresses = config.listeners.iter().filter_map(|listener| {
        let ListenAddress::Tcp(address) = listener.address else {
            return None;
        };
        let ip = address.ip();
        let public = listener.protocol == Protocol::Smtp && !ip.is_unspecified();
        (public && !ip.is_loopback()).then_some(ip)
    });
    Site {
        dns: dns_options(config),
        hostname: config.server.hostname.clone(),
        addresses: addresses.collect(),
    }
}

/// The relays that mail can be rerouted to.
fn relays(config: &Config) -> Vec<String> {
    let named = config.relays.iter().map(|relay| relay.name.clone());
    let smarthost = config.smarthost.address.as_ref();
    named
        .chain(smarthost.map(|_| SMARTHOST.to_owned()))
        .collect()
}

/// What requests are carried out on, over an open store.
pub(crate) fn admin_context(
    config: &Config,
    backend: &Backend,
) -> Result<AdminContext, CommandError> {
    let params = HashParams::new(&config.auth)?;
    let files = config.clone();
    let maintenance = MaintenanceOptions {
        grace_millis: i64::try_from(config.store.reclaim_grace.as_millis()).unwrap_or(i64::MAX),
        undelete_window: config.mailboxes.undelete_window,
        live_percent_max: u64::from(100_u32.saturating_sub(config.store.compaction_dead_percent)),
    };
    Ok(AdminContext::new(
        backend.store.clone(),
        backend.directory.clone(),
        Arc::clone(&backend.queue),
        maintenance,
        Arc::new(move |password| {
            new_password(password, &params).map_err(|error| error.to_string())
        }),
    )
    .with_site(site(config))
    .with_journal(backend.journal.clone())
    .with_sending(Arc::new(Channel(Arc::clone(&backend.delivery))))
    .with_relays(relays(config))
    .with_greylist(greylist_options(&config.receiving))
    .with_certificates(Arc::new(move || of_files(&files))))
}
