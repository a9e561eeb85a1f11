//! A node over rows and packs in memory.

#![allow(
    dead_code,
    reason = "shared by several test programs, each using a part"
)]

use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{
    Abort, BlobRow, CommitLimits, Committer, Intent, LinkError, NewBlob, Owner, ReclaimOptions,
    Reclaimer, SubmitError, now,
};
use nightmail_core::{BlobId, MailboxId, Timestamp, Uid};
use nightmail_engine::{Engine, MemoryEngine};
use nightmail_heap::{BlobBuilder, Heap, HeapError, HeapKey, Location, MemoryPacks, PackOptions};

pub struct Site {
    pub engine: Arc<MemoryEngine>,
    pub packs: MemoryPacks,
    pub heap: Heap,
    pub committer: Committer,
    _dir: tempfile::TempDir,
}

/// Long enough from now for every grace period.
pub fn later() -> Timestamp {
    now().plus_millis(24 * 3600 * 1000)
}

impl Site {
    pub fn new(limits: CommitLimits) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let packs = MemoryPacks::new();
        let heap = Heap::open_packs(
            Arc::new(packs.clone()),
            HeapKey::new([1; 32]),
            PackOptions::new(dir.path()),
        )
        .unwrap();
        let rows = Arc::clone(&engine) as Arc<dyn Engine>;
        Self {
            committer: Committer::start(rows, heap.clone(), limits),
            engine,
            packs,
            heap,
            _dir: dir,
        }
    }

    pub fn blob(&self, text: &[u8]) -> NewBlob {
        let mut builder = BlobBuilder::new(&self.heap);
        builder.push(text).unwrap();
        NewBlob {
            blob: builder.finish().unwrap(),
            envelope: Bytes::from_static(b"<a@x.test>"),
            meta: Bytes::new(),
        }
    }

    /// Delivers `text` as the message `uid`.
    pub async fn deliver(
        &self,
        uid: u32,
        text: impl AsRef<[u8]>,
    ) -> Result<BlobId, SubmitError<LinkError>> {
        let intent = Intent::synced(move |tx| tx.link_new_blob::<LinkError>(0, owner(uid)));
        self.committer
            .submit(intent.with_blob(self.blob(text.as_ref())))
            .await
    }

    pub async fn remove(&self, uid: u32, blob: BlobId) {
        let intent = Intent::synced(move |tx| {
            tx.unlink_blob(blob, owner(uid));
            Ok::<_, Abort<LinkError>>(())
        });
        self.committer.submit(intent).await.unwrap();
    }

    /// Takes the rows of blobs without links away.
    pub async fn reclaim(&self) {
        let options = ReclaimOptions {
            grace_millis: 0,
            ..ReclaimOptions::default()
        };
        let reclaimer = Reclaimer::new(Arc::clone(self.committer.engine()), options);
        for step in 1..=2 {
            let at = later().plus_millis(step * 1000);
            reclaimer.run_once(at).await.unwrap();
        }
    }

    pub async fn place(&self, blob: BlobId) -> Option<Location> {
        let rows = self.engine.get_many(&[BlobRow::key(blob)]).await.unwrap();
        let row = rows.into_iter().next().flatten()?;
        Some(BlobRow::decode(&row).unwrap().location)
    }

    /// Reads a blob as readers do: looks its place up again where its pack is gone.
    pub async fn read(&self, blob: BlobId) -> Bytes {
        loop {
            let place = self.place(blob).await.expect("the blob has a row");
            match self.heap.read(&place, 0..u64::MAX).await {
                Err(HeapError::Gone { .. }) if self.place(blob).await != Some(place) => {}
                read => return read.unwrap(),
            }
        }
    }
}

pub fn owner(uid: u32) -> Owner {
    Owner::Message(MailboxId::new(1), Uid::new(uid).unwrap())
}

/// Bytes that do not compress, different for each seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    (0..len).map(|_| next()).collect()
}
