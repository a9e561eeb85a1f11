//! The open store: where a row lies in `fjall`, and reading and writing rows there.
//!
//! Spaces share three keyspaces, by how their rows live (small and often rewritten; in mailbox order; by random
//! blob id), each row under the number of its space. Fewer keyspaces mean fewer memory buffers.
//!
//! **Invariant:** readers read from a snapshot taken between two batches. One taken during a batch may see part
//! of it: `fjall` moves the mark of what is visible also when a table is written or merged.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use fjall::config::{BlockSizePolicy, FilterPolicy, FilterPolicyEntry};
use fjall::config::{
    BloomConstructionPolicy, CompressionPolicy, PartitioningPolicy, PinningPolicy,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode,
    Readable, Slice, Snapshot,
};
use parking_lot::RwLock;

use super::{EmbeddedOptions, redo_log};
use crate::{EngineError, Key, KeyRange, Order, RowKey, Space, Value};

/// Tables not yet written, and tables not yet merged, at which writes wait; well below where `fjall` would
/// block without looking for failure.
const UNWRITTEN_TABLES_MAX: usize = 2;
const UNMERGED_TABLES_MAX: usize = 16;
const LOG_BYTES_MIN: u64 = 64 << 20;
/// Bytes at which a block of a table ends. It may exceed them by a row and should still fit the 8 KiB that allocators
/// have pieces of: the next larger ones would waste a fifth of the cache's memory.
const BLOCK_BYTES: u32 = 7 * 1024 + 512;

/// An open store.
pub(super) struct Store {
    db: Database,
    state: Keyspace,
    mail: Keyspace,
    blobs: Keyspace,
    /// What became of messages.
    log: Keyspace,
    /// What readers see: the state after the last batch.
    view: RwLock<Arc<Snapshot>>,
}

/// Why a write failed.
pub(super) enum WriteError {
    /// Nothing was written: an earlier failure closed the store for writes.
    Closed,
    /// Nobody knows what was written.
    Failed(EngineError),
}

impl Store {
    /// Opens or makes the store in `dir`, of which the caller holds the lock. A torn log is cut.
    pub fn open(dir: &Path, options: &EmbeddedOptions) -> Result<Self, EngineError> {
        redo_log::cut_torn_tail(dir)?;
        Self::open_as_is(dir, options).map_err(|error| map(error, dir))
    }

    fn open_as_is(dir: &Path, options: &EmbeddedOptions) -> fjall::Result<Self> {
        let db = Database::builder(dir)
            .cache_size(options.cache_bytes)
            .max_journaling_size(options.log_bytes.max(LOG_BYTES_MIN))
            .worker_threads(options.worker_threads.max(1))
            .manual_journal_persist(true)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = |name| {
            db.keyspace(name, || {
                KeyspaceCreateOptions::default()
                    .max_memtable_size(options.memtable_bytes)
                    .manual_journal_persist(true)
                    .data_block_size_policy(BlockSizePolicy::all(BLOCK_BYTES))
                    .data_block_compression_policy(CompressionPolicy::disabled())
                    .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(
                        BloomConstructionPolicy::BitsPerKey(10.0),
                    )))
                    // In one piece, the filter or the index of a large table would be too large for the cache and be
                    // read anew for every row.
                    .filter_block_partitioning_policy(PartitioningPolicy::all(true))
                    .index_block_partitioning_policy(PartitioningPolicy::all(true))
                    .filter_block_pinning_policy(PinningPolicy::all(false))
                    .index_block_pinning_policy(PinningPolicy::all(false))
            })
        };
        Ok(Self {
            state: keyspace("state")?,
            mail: keyspace("mail")?,
            blobs: keyspace("blobs")?,
            log: keyspace("log")?,
            view: RwLock::new(Arc::new(db.snapshot())),
            db,
        })
    }

    fn keyspace(&self, space: Space) -> &Keyspace {
        match space {
            Space::Meta
            | Space::Directory
            | Space::Account
            | Space::Mailbox
            | Space::Name
            | Space::Queue
            | Space::Due
            | Space::Condemned
            | Space::Access
            | Space::Report
            | Space::Outbound
            | Space::Site
            | Space::Attribute => &self.state,
            Space::Message | Space::Change | Space::Expunge | Space::Mark => &self.mail,
            Space::Blob | Space::BlobMeta | Space::Link => &self.blobs,
            Space::Journal => &self.log,
        }
    }

    fn keyspaces(&self) -> [&Keyspace; 4] {
        [&self.state, &self.mail, &self.blobs, &self.log]
    }

    /// The values of `keys`, all from one state.
    pub fn get_many(&self, keys: &[RowKey]) -> Result<Vec<Option<Value>>, EngineError> {
        let view = self.view();
        keys.iter()
            .map(|key| {
                let value = view.get(self.keyspace(key.space), stored_key(key.space, &key.key));
                value.map(|value| value.map(own)).map_err(fail)
            })
            .collect()
    }

    /// The value of one row, for the writer thread: nobody else changes it.
    pub fn get(&self, key: &RowKey) -> Result<Option<Slice>, EngineError> {
        self.keyspace(key.space)
            .get(stored_key(key.space, &key.key))
            .map_err(fail)
    }

    /// At most `limit` rows of `range`, all from one state.
    pub fn scan(
        &self,
        space: Space,
        range: &KeyRange,
        order: Order,
        limit: usize,
    ) -> Result<Vec<(Key, Value)>, EngineError> {
        if limit == 0 || range.is_empty() {
            return Ok(Vec::new());
        }
        let from = stored_key(space, &range.from);
        let to = match &range.to {
            Some(to) => stored_key(space, to),
            None => vec![space.number() + 1],
        };
        let rows = self.view().range(self.keyspace(space), from..to);
        let row = |guard: fjall::Guard| {
            let (key, value) = guard.into_inner().map_err(fail)?;
            let key = key.get(1..).unwrap_or_default().to_vec();
            Ok((key, own(value)))
        };
        match order {
            Order::Ascending => rows.take(limit).map(row).collect(),
            Order::Descending => rows.rev().take(limit).map(row).collect(),
        }
    }

    /// Writes `rows`, `rows_max` at most, as one record of the log, forced to stable storage if `synced`, and then makes
    /// them visible.
    pub fn write<'a>(
        &self,
        rows_max: usize,
        rows: impl Iterator<Item = (&'a RowKey, &'a Option<Value>)>,
        synced: bool,
    ) -> Result<(), WriteError> {
        let mode = if synced {
            PersistMode::SyncData
        } else {
            PersistMode::Buffer
        };
        let batch = OwnedWriteBatch::with_capacity(self.db.clone(), rows_max);
        let mut batch = batch.durability(Some(mode));
        let mut stored = Vec::with_capacity(64);
        for (key, value) in rows {
            let keyspace = self.keyspace(key.space);
            stored.clear();
            stored.push(key.space.number());
            stored.extend_from_slice(&key.key);
            match value {
                Some(value) => batch.insert(keyspace, stored.as_slice(), value.as_ref()),
                None => batch.remove(keyspace, stored.as_slice()),
            }
        }
        batch.commit().map_err(write_error)?;
        self.show();
        Ok(())
    }

    fn view(&self) -> Arc<Snapshot> {
        Arc::clone(&self.view.read())
    }

    /// Lets readers see what has been written. Only for the writer thread, between two batches.
    fn show(&self) {
        let now = Arc::new(self.db.snapshot());
        *self.view.write() = now;
    }

    /// Forces the log to stable storage.
    pub fn sync(&self) -> Result<(), WriteError> {
        self.db
            .persist(PersistMode::SyncData)
            .map_err(write_error)?;
        // The old view would keep tables that have been merged since.
        self.show();
        Ok(())
    }

    /// Whether the tables are so far behind that writes must wait; fails when they will never catch up.
    pub fn is_behind(&self) -> Result<bool, WriteError> {
        let behind = self.keyspaces().into_iter().any(|keyspace| {
            keyspace.sealed_memtable_count() >= UNWRITTEN_TABLES_MAX
                || keyspace.l0_table_count() >= UNMERGED_TABLES_MAX
        });
        if behind {
            self.db.persist(PersistMode::Buffer).map_err(write_error)?;
        }
        Ok(behind)
    }

    /// Bytes on disk.
    pub fn disk_bytes(&self) -> Result<u64, EngineError> {
        self.db.disk_space().map_err(fail)
    }
}

fn stored_key(space: Space, key: &[u8]) -> Vec<u8> {
    let mut stored = Vec::with_capacity(key.len() + 1);
    stored.push(space.number());
    stored.extend_from_slice(key);
    stored
}

/// A copy, so that a small row does not hold the block it was read from.
fn own(value: Slice) -> Value {
    Bytes::copy_from_slice(&value)
}

fn write_error(error: fjall::Error) -> WriteError {
    match error {
        fjall::Error::Poisoned => WriteError::Closed,
        error => WriteError::Failed(fail(error)),
    }
}

fn fail(error: fjall::Error) -> EngineError {
    map(error, Path::new(""))
}

fn map(error: fjall::Error, dir: &Path) -> EngineError {
    match error {
        fjall::Error::Io(error) | fjall::Error::Storage(fjall::LsmError::Io(error)) => error.into(),
        fjall::Error::Locked => EngineError::Locked(dir.display().to_string()),
        fjall::Error::Poisoned => {
            EngineError::Unavailable("closed for writes after a failure".to_owned())
        }
        error => EngineError::Corrupt(error.to_string()),
    }
}
