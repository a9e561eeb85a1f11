//! The store of a data directory, opened: engine, heap, committer, and what stands on them.
//!
//! **Invariant:** one process has a data directory open at a time; the engine and the heap each hold a lock on it.

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::sync::Arc;

use nightmail_commit::{CommitLimits, Committer};
use nightmail_directory::{Directory, DirectoryOptions};
use nightmail_engine::{EmbeddedEngine, EmbeddedOptions, Engine, EngineError};
use nightmail_heap::{Heap, HeapError, HeapOptions};
use nightmail_queue::Queue;
use nightmail_store::{Store, StoreOptions};
use nightmail_switch::Switch;

use crate::config::Config;
use crate::error::ServerError;

/// Everything that lives in the data directory.
#[derive(Clone)]
pub struct Backend {
    /// The index.
    pub engine: Arc<EmbeddedEngine>,
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
}

/// The data directory cannot be opened.
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
}

impl Backend {
    /// Opens the data directory, making it where there is none, on the current tokio runtime. Goes on with what a
    /// crash interrupted.
    pub async fn open(config: &Config) -> Result<Self, ServerError> {
        let (engine, heap) = open_files(config)?;
        let limits = CommitLimits {
            soon_sync_millis: u64::try_from(config.store.sync_interval.as_millis())
                .unwrap_or(u64::MAX),
            ..CommitLimits::default()
        };
        let committer =
            Committer::start(Arc::clone(&engine) as Arc<dyn Engine>, heap.clone(), limits);
        let store = Store::new(committer.clone(), &StoreOptions::default());
        let options = DirectoryOptions {
            default_domain: config.server.default_domain.clone(),
            postmaster: config.server.postmaster.clone(),
            subaddress_separator: config.subaddress_separator(),
            ..DirectoryOptions::default()
        };
        let directory = Directory::new(committer.clone(), options);
        let queue = Arc::new(Queue::new(committer));
        let switch = Switch::new(store.clone(), directory.clone(), Arc::clone(&queue));
        let purged = store.purge_doomed().await?;
        if purged > 0 {
            tracing::info!(
                mailboxes = purged,
                "finished removing mailboxes that were being deleted"
            );
        }
        Ok(Self {
            engine,
            heap,
            store,
            directory,
            queue,
            switch,
        })
    }
}

fn open_files(config: &Config) -> Result<(Arc<EmbeddedEngine>, Heap), OpenError> {
    let data: &Path = &config.server.data;
    let shown = || data.display().to_string();
    let options = EmbeddedOptions {
        cache_bytes: config.store.cache.get(),
        ..EmbeddedOptions::default()
    };
    // A directory made here is not for every user of the machine to look into.
    DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(data)
        .map_err(|error| OpenError::Engine(shown(), error.into()))?;
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
    Ok((Arc::new(engine), heap))
}
