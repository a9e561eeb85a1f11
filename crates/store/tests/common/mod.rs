//! A store over the memory engine and a heap in a temporary folder.
#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "shared by several test programs, each using a part"
)]

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{AccountId, Flags, MailboxId, Timestamp};
use nightmail_engine::{Engine, MemoryEngine};
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_store::{
    CheckOptions, FlagOperation, FlagUpdate, MailboxName, NewMessage, Quota, Store, StoreError,
    StoreOptions, tx,
};

pub struct World {
    pub engine: Arc<MemoryEngine>,
    pub heap: Heap,
    pub store: Store,
    _dir: tempfile::TempDir,
}

pub const ALICE: AccountId = AccountId::new(1);

impl World {
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let store = open(&engine, &heap);
        let world = Self {
            engine,
            heap,
            store,
            _dir: dir,
        };
        world.create_account(ALICE).await.unwrap();
        world
    }

    /// The same rows under a new committer and empty caches, as after a restart.
    pub fn reopen(&mut self) {
        self.store = open(&self.engine, &self.heap);
    }

    pub async fn create_account(&self, account: AccountId) -> Result<(), StoreError> {
        let intent = Intent::synced(move |t| tx::create_account(t, account));
        Ok(self.store.committer().submit(intent).await?)
    }

    pub fn blob(&self, text: &[u8]) -> NewBlob {
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(text).unwrap();
        let mut scanner = nightmail_mime::Scanner::new(nightmail_mime::Limits::default());
        scanner.push(text);
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::new(),
            meta: scanner.finish().encode().into(),
        }
    }

    pub async fn inbox(&self) -> MailboxId {
        self.store
            .lookup(ALICE, &MailboxName::inbox())
            .await
            .unwrap()
            .mailbox
    }

    pub async fn append(&self, mailbox: MailboxId, text: &str) -> Result<u32, StoreError> {
        self.append_within(mailbox, text, Quota::default()).await
    }

    pub async fn append_within(
        &self,
        mailbox: MailboxId,
        text: &str,
        quota: Quota,
    ) -> Result<u32, StoreError> {
        let message = message(mailbox, text.len());
        let appended = self
            .store
            .append(ALICE, quota, self.blob(text.as_bytes()), message)
            .await?;
        Ok(appended.uid.get())
    }

    /// Removes the rows of everything that was expunged. Returns how many there were.
    pub async fn purge(&self) -> usize {
        let now = nightmail_commit::now();
        let purged = self.store.purge_expunged(now, Duration::ZERO, usize::MAX);
        purged.await.unwrap()
    }

    /// Panics unless a full check finds nothing.
    pub async fn assert_consistent(&self) {
        let report = self
            .store
            .check(CheckOptions {
                read_blobs: true,
                repair: false,
            })
            .await
            .unwrap();
        assert!(report.problems.is_empty(), "{:#?}", report.problems);
    }

    /// Every message of a mailbox as (UID, flags, text).
    pub async fn content(&self, mailbox: MailboxId) -> Vec<(u32, Flags, String)> {
        let snapshot = self.store.snapshot(mailbox).await.unwrap();
        let rows = self
            .store
            .rows(mailbox, &snapshot.raw_uids())
            .await
            .unwrap();
        assert_eq!(rows.len(), snapshot.uids.len());
        let blobs: Vec<_> = rows.iter().map(|(_, row)| row.blob).collect();
        let texts = self.store.read_blobs(&blobs).await.unwrap();
        rows.into_iter()
            .zip(texts)
            .map(|((uid, row), text)| (uid, row.flags, String::from_utf8(text.to_vec()).unwrap()))
            .collect()
    }
}

pub fn open(engine: &Arc<MemoryEngine>, heap: &Heap) -> Store {
    let engine: Arc<dyn Engine> = Arc::clone(engine) as Arc<dyn Engine>;
    let committer = Committer::start(engine, heap.clone(), CommitLimits::default());
    Store::new(committer, &StoreOptions::default())
}

/// A change of flags that is made whatever the messages' modification sequences.
pub fn update(operation: FlagOperation, flags: Flags, keywords: &[&str]) -> FlagUpdate {
    FlagUpdate {
        operation,
        flags,
        keywords: keywords.iter().map(|word| (*word).to_owned()).collect(),
        unchanged_since: None,
    }
}

pub fn message(mailbox: MailboxId, size: usize) -> NewMessage {
    NewMessage {
        mailbox,
        flags: Flags::EMPTY,
        keywords: Vec::new(),
        internal_date: Timestamp::from_secs(1),
        prefix: Bytes::from_static(b"Delivered-To: alice@example.test\r\n"),
        blob_size: size as u64,
        missing_line_ends: 0,
    }
}
