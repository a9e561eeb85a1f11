//! What changes of a whole mailbox cost: ignored measurements, which print and judge nothing.
//!
//! `NIGHTMAIL_MESSAGES` sets the size of the mailbox.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use common::{ALICE, update};
use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
use nightmail_core::{Flags, MailboxId, Timestamp};
use nightmail_engine::{EmbeddedEngine, EmbeddedOptions, Engine};
use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
use nightmail_store::{
    FlagOperation, MailboxName, NewMessage, Quota, Store, StoreError, StoreOptions, tx,
};

struct Place {
    store: Store,
    engine: Arc<dyn Engine>,
    heap: Heap,
    _dir: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let options = EmbeddedOptions::default();
        let engine = EmbeddedEngine::open(dir.path().join("rows"), options).unwrap();
        let engine: Arc<dyn Engine> = Arc::new(engine);
        let heap = Heap::open(dir.path().join("heap"), HeapOptions::default()).unwrap();
        Self {
            store: open(&engine, &heap),
            engine,
            heap,
            _dir: dir,
        }
    }

    /// Nothing in memory, as after a restart.
    fn reopen(&mut self) {
        self.store = open(&self.engine, &self.heap);
    }

    async fn mailbox(&self, name: &str) -> MailboxId {
        let name = MailboxName::parse(name).unwrap();
        self.store.lookup(ALICE, &name).await.unwrap().mailbox
    }

    /// Messages of their own bytes each, a thousand in a step.
    async fn fill(&self, mailbox: MailboxId, messages: u32) {
        for step in (0..messages).collect::<Vec<_>>().chunks(1000) {
            let blobs = step.iter().map(|number| {
                let mut builder = BlobBuilder::new(&self.heap);
                let text = format!("Subject: {number}\r\n\r\nbody {number}\r\n");
                builder.push(text.as_bytes()).unwrap();
                NewBlob {
                    blob: builder.finish().unwrap(),
                    envelope: Bytes::new(),
                    meta: Bytes::from_static(b"meta"),
                }
            });
            let count = step.len();
            let intent = Intent::synced(move |t| {
                for blob in 0..count {
                    tx::append(t, Quota::default(), blob, &message(mailbox))?;
                }
                Ok(())
            });
            let intent = blobs.fold(intent, Intent::with_blob);
            let done = self.store.committer().submit::<(), StoreError>(intent);
            done.await.unwrap();
        }
    }
}

fn open(engine: &Arc<dyn Engine>, heap: &Heap) -> Store {
    let committer = Committer::start(Arc::clone(engine), heap.clone(), CommitLimits::default());
    Store::new(committer, &StoreOptions::default())
}

fn message(mailbox: MailboxId) -> NewMessage {
    NewMessage {
        mailbox,
        flags: Flags::EMPTY,
        keywords: Vec::new(),
        internal_date: Timestamp::from_secs(1),
        prefix: Bytes::from_static(
            b"Return-Path: <sender@example.test>\r\nDelivered-To: alice@example.test\r\n",
        ),
        blob_size: 30,
        missing_line_ends: 0,
    }
}

async fn measured<T>(what: &str, messages: u32, work: impl Future<Output = T>) -> T {
    let begun = Instant::now();
    let done = work.await;
    let spent = begun.elapsed();
    let each = spent.as_nanos() / u128::from(messages.max(1));
    println!(
        "{what:30} {:9.1} ms {each:7} ns a message",
        spent.as_secs_f64() * 1e3
    );
    done
}

fn messages_of(name: &str, usual: u32) -> u32 {
    let set = std::env::var(name);
    set.map_or(usual, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn changes_of_a_whole_mailbox() {
    let n = messages_of("NIGHTMAIL_MESSAGES", 200_000);
    let mut place = Place::new();
    let create = Intent::synced(|t| tx::create_account(t, ALICE));
    let done = place.store.committer().submit::<(), StoreError>(create);
    done.await.unwrap();
    let (inbox, archive) = (place.mailbox("INBOX").await, place.mailbox("Archive").await);
    measured("deliver", n, place.fill(inbox, n)).await;
    place.reopen();
    let snapshot = measured("first snapshot", n, place.store.snapshot(inbox)).await;
    let uids = snapshot.unwrap().raw_uids();
    measured("deliver one", 1, place.fill(inbox, 1)).await;
    measured("refresh", 1, place.store.snapshot(inbox))
        .await
        .unwrap();
    for (what, flags) in [("store", Flags::SEEN), ("store again", Flags::FLAGGED)] {
        let change = update(FlagOperation::Add, flags, &[]);
        let stored = place.store.store_flags(ALICE, inbox, uids.clone(), change);
        measured(what, n, stored).await.unwrap();
        measured("refresh", n, place.store.snapshot(inbox))
            .await
            .unwrap();
    }
    let quota = Quota::default();
    let copied = place.store.copy(ALICE, quota, inbox, archive, uids.clone());
    measured("copy", n, copied).await.unwrap();
    for _ in 0..messages_of("NIGHTMAIL_COPIES", 0) {
        let copied = place.store.copy(ALICE, quota, inbox, archive, uids.clone());
        measured("copy again", n, copied).await.unwrap();
    }
    let moved = place
        .store
        .move_messages(ALICE, quota, archive, inbox, uids.clone());
    measured("move", n, moved).await.unwrap();
    let change = update(FlagOperation::Add, Flags::DELETED, &[]);
    let stored = place.store.store_flags(ALICE, inbox, uids.clone(), change);
    measured("store deleted", n, stored).await.unwrap();
    let gone = measured("expunge", n, place.store.expunge(ALICE, inbox, &uids)).await;
    assert_eq!(gone.unwrap(), uids);
    place.reopen();
    measured("snapshot with marks", n, place.store.snapshot(inbox))
        .await
        .unwrap();
    let window = std::time::Duration::ZERO;
    let purge = place
        .store
        .purge_expunged(nightmail_commit::now(), window, usize::MAX);
    measured("purge", 2 * n, purge).await.unwrap();
}
