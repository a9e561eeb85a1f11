//! The store, opened: engine, heap, committer, and what stands on them.
//!
//! Embedded, everything is in the data directory of one process. Shared, the rows are in a database and the messages in
//! an object store, and a server joins the others as a node.
//!
//! **Invariant:** one process has a data directory open at a time; the embedded engine and the heap each hold a lock on it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use nightmail_cluster::{Cluster, ClusterError, ClusterOptions, NodeName, Roles};
use nightmail_commit::{CommitLimits, Committer};
use nightmail_directory::{Directory, DirectoryOptions};
use nightmail_engine::{EmbeddedEngine, EmbeddedOptions, Engine, EngineError};
use nightmail_events::Bridge;
use nightmail_heap::{Heap, HeapError, HeapOptions};
use nightmail_journal::Journal;
use nightmail_postgres::SchemaError;
use nightmail_queue::Queue;
use nightmail_store::{Store, StoreOptions};
use nightmail_switch::Switch;

use crate::config::{Config, EngineKind, WhenFull};
use crate::error::ServerError;
use crate::journal;
use crate::outbound;
use crate::services::DeliverySlot;
use crate::shared::SharedStore;

/// An open store and what stands on it.
#[derive(Clone)]
pub struct Backend {
    /// The index.
    pub engine: Arc<dyn Engine>,
    /// The bytes.
    pub heap: Heap,
    /// Mailboxes.
    pub store: Store,
    /// Who is who.
    pub directory: Directory,
    /// Mail for elsewhere.
    pub queue: Arc<Queue>,
    /// Where messages go.
    pub switch: Switch,
    /// What became of messages.
    pub journal: Journal,
    /// What sends mail, once it runs.
    pub delivery: DeliverySlot,
    /// This process among the nodes.
    pub cluster: Arc<Cluster>,
    /// Joins the events of this node with those of the others, where there are any.
    pub bridge: Option<Arc<Bridge>>,
}

/// The store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it.
    #[error(
        "the data directory {0} is in use by another process; stop that server, or let the command talk to it through its admin socket"
    )]
    Locked(String),
    /// The index does not open.
    #[error("the index in {0} cannot be opened: {1}")]
    Engine(String, EngineError),
    /// The heap does not open.
    #[error("the message heap in {0} cannot be opened: {1}")]
    Heap(String, HeapError),
    /// The shared database cannot be used.
    #[error(transparent)]
    Database(SchemaError),
    /// The configuration of the shared store cannot be used.
    #[error("{0}")]
    Settings(String),
    /// The node cannot join the others.
    #[error(transparent)]
    Cluster(#[from] ClusterError),
}

/// The bounds that depend on how far away the rows are.
fn commit_limits(engine: EngineKind) -> CommitLimits {
    match engine {
        EngineKind::Embedded => CommitLimits::default(),
        EngineKind::Postgresql => CommitLimits {
            appended_groups_max: 4,
            unasked_bytes_max: 64 << 10,
            ..CommitLimits::default()
        },
    }
}

/// What a process opens the store for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Purpose {
    /// To serve: as a node where the store is shared.
    Serve,
    /// To carry out a command.
    Command,
}

/// Rows, bytes and what a node adds to them.
struct Parts {
    engine: Arc<dyn Engine>,
    heap: Heap,
    cluster: Arc<Cluster>,
    shared: Option<SharedStore>,
}

impl Backend {
    /// Opens the store for a command of the operator, beside servers where it is shared. An embedded store is made
    /// where there is none, on the current tokio runtime, and goes on with what a crash interrupted.
    pub async fn open(config: &Config) -> Result<Self, ServerError> {
        Self::open_for(config, Purpose::Command).await
    }

    /// The same for a server: where the store is shared this process becomes a node.
    pub async fn join(config: &Config) -> Result<Self, ServerError> {
        Self::open_for(config, Purpose::Serve).await
    }

    async fn open_for(config: &Config, purpose: Purpose) -> Result<Self, ServerError> {
        let parts = match config.store.engine {
            EngineKind::Embedded => open_embedded(config)?,
            EngineKind::Postgresql => open_shared(config, purpose).await?,
        };
        let limits = CommitLimits {
            soon_sync_millis: u64::try_from(config.store.sync_interval.as_millis())
                .unwrap_or(u64::MAX),
            ..commit_limits(config.store.engine)
        };
        let committer = Committer::start(Arc::clone(&parts.engine), parts.heap.clone(), limits);
        let bridge = match &parts.shared {
            Some(shared) if purpose == Purpose::Serve => {
                Some(Arc::new(shared.bridge(config, committer.events().clone())?))
            }
            _ => None,
        };
        let journal = journal::open(config, committer.clone());
        let store = Store::new(committer.clone(), &StoreOptions::default());
        let options = DirectoryOptions {
            default_domain: config.server.default_domain.clone(),
            postmaster: config.server.postmaster.clone(),
            subaddress_separator: config.subaddress_separator(),
            ..DirectoryOptions::default()
        };
        let directory = Directory::new(committer.clone(), options);
        let leases = parts.cluster.leases().clone();
        let queue = Queue::in_cluster(committer, leases).with_weights(outbound::weights(config));
        let queue = Arc::new(queue);
        let switch = Switch::new(store.clone(), directory.clone(), Arc::clone(&queue))
            .reporting_as(config.server.hostname.clone())
            .refusing_over_quota(config.mailboxes.over_quota == WhenFull::Refuse);
        let backend = Self {
            engine: parts.engine,
            heap: parts.heap,
            store,
            directory,
            queue,
            switch,
            journal,
            delivery: DeliverySlot::default(),
            cluster: parts.cluster,
            bridge,
        };
        if config.store.engine == EngineKind::Embedded {
            backend.purge_doomed().await?;
        }
        Ok(backend)
    }

    /// Whether other nodes may use the same store.
    pub fn is_shared(&self) -> bool {
        !self.cluster.leases().is_single()
    }

    /// Goes on with the removal of mailboxes that a crash interrupted.
    pub async fn purge_doomed(&self) -> Result<(), ServerError> {
        let purged = self.store.purge_doomed().await?;
        if purged > 0 {
            tracing::info!(
                mailboxes = purged,
                "finished removing mailboxes that were being deleted"
            );
        }
        Ok(())
    }
}

async fn open_shared(config: &Config, purpose: Purpose) -> Result<Parts, ServerError> {
    make_data_directory(&config.server.data)?;
    let shared = SharedStore::open(config, purpose == Purpose::Serve).await?;
    let engine = Arc::clone(&shared.engine) as Arc<dyn Engine>;
    let cluster = match purpose {
        Purpose::Command => Cluster::single(engine),
        Purpose::Serve => Cluster::join(engine, node_options(config)?)
            .await
            .map_err(OpenError::Cluster)?,
    };
    Ok(Parts {
        engine: cluster.engine(),
        heap: shared.heap.clone(),
        cluster: Arc::new(cluster),
        shared: Some(shared),
    })
}

fn node_options(config: &Config) -> Result<ClusterOptions, OpenError> {
    let name: NodeName = config
        .node_name()
        .parse()
        .map_err(|error| OpenError::Settings(format!("`name` in [node]: {error}")))?;
    let roles: Roles = config.node.roles.iter().copied().collect();
    let listeners = config.listeners.iter();
    let addresses: Vec<String> = listeners
        .filter(|listener| config.has_role(listener.protocol.role()))
        .map(|listener| format!("{} {}", listener.protocol, listener.address))
        .collect();
    Ok(ClusterOptions {
        addresses: addresses.join(", "),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        heartbeat: config.node.heartbeat,
        lease: config.node.lease,
        ..ClusterOptions::new(name, roles)
    })
}

/// A directory made here is not for every user of the machine to look into.
fn make_data_directory(data: &Path) -> Result<(), OpenError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(data)
        .map_err(|error| OpenError::Engine(data.display().to_string(), error.into()))
}

fn open_embedded(config: &Config) -> Result<Parts, OpenError> {
    let data: &Path = &config.server.data;
    let shown = || data.display().to_string();
    let options = EmbeddedOptions {
        cache_bytes: config.store.cache.get(),
        ..EmbeddedOptions::default()
    };
    make_data_directory(data)?;
    let engine =
        EmbeddedEngine::open(data.join("index"), options).map_err(|error| match error {
            EngineError::Locked(_) => OpenError::Locked(shown()),
            error => OpenError::Engine(shown(), error),
        })?;
    let options = HeapOptions {
        segment_bytes: config.store.segment.get(),
        ..HeapOptions::default()
    };
    let heap = Heap::open(data.join("heap"), options).map_err(|error| match error {
        HeapError::Locked(_) => OpenError::Locked(shown()),
        error => OpenError::Heap(shown(), error),
    })?;
    let engine: Arc<dyn Engine> = Arc::new(engine);
    Ok(Parts {
        cluster: Arc::new(Cluster::single(Arc::clone(&engine))),
        engine,
        heap,
        shared: None,
    })
}
