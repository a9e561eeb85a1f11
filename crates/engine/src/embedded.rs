//! The embedded engine: `fjall`, a log-structured merge tree in one directory.
//!
//! Reads run where they are called; they take microseconds. Commits go to one writer thread, which takes the
//! batches that wait, evaluates their checks in order, and writes what passed as one record of the log with one
//! sync. A batch becomes visible only after its sync, so nobody sees what a power loss could take back (a
//! [`Durability::Soon`](crate::Durability::Soon) batch is visible before, as it says).
//!
//! When storage fails (no space, say), `fjall` refuses every later write. The writer then keeps the store
//! readable, waits until the directory takes writes again, rewrites the log, opens the store anew, and goes on.
//!
//! **Invariant:** only the writer thread writes; so a check that holds still holds when its batch is applied.

mod redo_log;
mod store;
mod writer;

#[cfg(test)]
mod tests;

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::RwLock;
use tokio::sync::{mpsc, oneshot};

use crate::{
    Batch, BoxFuture, CommitError, Durability, Engine, EngineError, EngineStats, Key, KeyRange,
    Order, RowKey, Space, Value,
};
use store::Store;
use writer::{Job, Writer};

const LOCK_ATTEMPTS: usize = 10;
const LOCK_WAIT: Duration = Duration::from_millis(30);

/// How the embedded engine uses memory and disk.
#[derive(Clone, Debug)]
pub struct EmbeddedOptions {
    /// Bytes of blocks read from disk that are kept in memory.
    pub cache_bytes: u64,
    /// Bytes of rows kept in memory before they are written to a table. About six such buffers can exist at
    /// once. Fixed when the store is made.
    pub memtable_bytes: u64,
    /// Bytes of log kept on disk before tables are written to shorten it; at least 64 MiB.
    pub log_bytes: u64,
    /// Threads that write and merge tables. The first of several writes only, and with two it would hand each merge that
    /// waits for the other round and round, at the cost of a core.
    pub worker_threads: usize,
    /// Batches that may wait for the writer; more callers wait in line.
    pub waiting_batches_max: usize,
}

impl Default for EmbeddedOptions {
    fn default() -> Self {
        Self {
            cache_bytes: 16 << 20,
            memtable_bytes: 4 << 20,
            log_bytes: 128 << 20,
            worker_threads: 3,
            waiting_batches_max: 1024,
        }
    }
}

/// The embedded engine of one directory.
pub struct EmbeddedEngine {
    core: Arc<Core>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<JoinHandle<()>>,
}

/// What readers and the writer share.
struct Core {
    dir: PathBuf,
    options: EmbeddedOptions,
    /// `None` only while the store is being opened anew, or after that failed.
    store: RwLock<Option<Store>>,
    counters: Counters,
    /// Held as long as anyone may touch the directory, the store being open or not.
    _lock: File,
}

#[derive(Default)]
struct Counters {
    commits: AtomicU64,
    conflicts: AtomicU64,
    failures: AtomicU64,
    syncs: AtomicU64,
    bytes_written: AtomicU64,
    reopens: AtomicU64,
}

impl EmbeddedEngine {
    /// Opens the store in `dir`, making it if there is none. Replays the log, which takes up to a second.
    ///
    /// Fails with [`EngineError::Locked`] while another process has it open.
    pub fn open(dir: impl AsRef<Path>, options: EmbeddedOptions) -> Result<Self, EngineError> {
        let dir = dir.as_ref().to_path_buf();
        make_durable(&dir)?;
        let lock = lock(&dir)?;
        let store = Store::open(&dir, &options)?;
        let (sender, receiver) = mpsc::channel(options.waiting_batches_max.max(1));
        let core = Arc::new(Core {
            dir,
            _lock: lock,
            options,
            store: RwLock::new(Some(store)),
            counters: Counters::default(),
        });
        let writer = Writer::new(Arc::clone(&core));
        let thread = std::thread::Builder::new()
            .name("engine-writer".to_owned())
            .spawn(move || writer.run(receiver))
            .map_err(|error| EngineError::Unavailable(error.to_string()))?;
        Ok(Self {
            core,
            jobs: Some(sender),
            thread: Some(thread),
        })
    }

    /// Bytes the store takes on disk, its log included.
    pub fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.core.read(Store::disk_bytes)
    }

    async fn submit<T>(
        &self,
        job: impl FnOnce(oneshot::Sender<T>) -> Job,
    ) -> Result<T, EngineError> {
        let stopped = || EngineError::Unavailable("the writer has stopped".to_owned());
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.as_ref().ok_or_else(stopped)?;
        jobs.send(job(answer)).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())
    }
}

/// Makes `dir`, and its entry in the directory above durable.
fn make_durable(dir: &Path) -> Result<(), EngineError> {
    std::fs::create_dir_all(dir)?;
    let above = dir.canonicalize()?;
    let above = above.parent().unwrap_or(Path::new("/"));
    Ok(File::open(above)?.sync_all()?)
}

fn lock(dir: &Path) -> Result<File, EngineError> {
    let file = File::create(dir.join("engine.lock"))?;
    // A process that is just ending, or one just being started by the last owner, holds it for a moment more.
    for _ in 0..LOCK_ATTEMPTS {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_WAIT),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
    }
    Err(EngineError::Locked(dir.display().to_string()))
}

impl Core {
    fn read<T>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, EngineError>,
    ) -> Result<T, EngineError> {
        match &*self.store.read() {
            Some(store) => read(store),
            None => Err(EngineError::Unavailable("being opened anew".to_owned())),
        }
    }
}

impl Engine for EmbeddedEngine {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move { self.core.read(|store| store.get_many(keys)) })
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>> {
        Box::pin(async move {
            self.core
                .read(|store| store.scan(space, &range, order, limit))
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            batch.check_sizes()?;
            self.submit(|answer| Job::Commit {
                batch,
                durability,
                answer,
            })
            .await?
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move { self.submit(|answer| Job::Sync { answer }).await? })
    }

    fn stats(&self) -> EngineStats {
        let counters = &self.core.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EngineStats {
            commits: get(&counters.commits),
            conflicts: get(&counters.conflicts),
            failures: get(&counters.failures),
            syncs: get(&counters.syncs),
            bytes_written: get(&counters.bytes_written),
            reopens: get(&counters.reopens),
        }
    }
}

impl Drop for EmbeddedEngine {
    /// Waits until the batches submitted so far are done, then closes the store and frees the directory.
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the engine's writer thread panicked");
        }
    }
}
