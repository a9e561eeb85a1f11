//! What actors do: each act is a caller of the crate, or a reclaimer with a fault of its own.

use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{
    Abort, BlobRow, CommitLimits, Committer, Compactor, Intent, LinkError, NewBlob, ReclaimOptions,
    Reclaimer, SubmitError, now,
};
use nightmail_core::{BlobId, Timestamp};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, KeyRange, Order, RowKey, Space, Value,
};
use nightmail_heap::{BlobBuilder, Heap};

use blob_of::{message_key, owner};

/// Something an actor does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Puts messages (UID, text) into the mailbox, in one group.
    Deliver(Vec<(u32, &'static str)>),
    /// Removes a message where it exists.
    Remove(u32),
    /// Removes a message on a node whose clock shows these milliseconds.
    RemoveAt(u32, i64),
    /// Copies a message to another UID where it exists.
    Copy(u32, u32),
    /// The same without a look at the blob's row: the original stands for it.
    CopyBeside(u32, u32),
    /// Runs the reclaimer that many hours from now.
    Reclaim(i64),
    /// Runs the compactor over every segment, to rewrite those of which less than so many percent are live.
    Compact(u64),
    /// A reclaimer that does not check the row it deletes.
    ReclaimUnchecked,
    /// A reclaimer that deletes in one step what it never marked.
    ReclaimInOneStep,
}

/// What an actor works with.
pub struct Node {
    engine: Arc<dyn Engine>,
    heap: Heap,
    start: Timestamp,
}

impl Node {
    pub fn new(engine: Arc<dyn Engine>, heap: Heap, start: Timestamp) -> Self {
        Self {
            engine,
            heap,
            start,
        }
    }

    fn committer(&self) -> Committer {
        let engine = Arc::clone(&self.engine);
        Committer::start(engine, self.heap.clone(), CommitLimits::default())
    }
}

const HOUR_MILLIS: i64 = 3_600_000;

/// Does one act; an error is something that no schedule may lead to.
pub async fn run(act: &Act, node: &Node) -> Result<(), String> {
    match act {
        Act::Deliver(messages) => deliver(node, messages).await,
        Act::Remove(uid) => remove(node, *uid).await,
        Act::RemoveAt(uid, millis) => remove_at(node, *uid, *millis).await,
        Act::Copy(from, to) => copy(node, *from, *to, false).await,
        Act::CopyBeside(from, to) => copy(node, *from, *to, true).await,
        Act::Reclaim(hours) => {
            let options = ReclaimOptions {
                grace_millis: 0,
                blobs_max: 100,
            };
            let reclaimer = Reclaimer::new(Arc::clone(&node.engine), options);
            let later = now().plus_millis(hours * HOUR_MILLIS);
            reclaimer.run_once(later).await.map(drop).map_err(text)
        }
        Act::Compact(percent) => {
            let mut compactor = Compactor::new(node.committer(), 0, *percent);
            // Another may have taken the segment away: then the run ends, and what it copied is dead.
            let _ = compactor.run_once(node.start, 100).await;
            Ok(())
        }
        Act::ReclaimUnchecked => faulty_reclaim(node, false).await,
        Act::ReclaimInOneStep => faulty_reclaim(node, true).await,
    }
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}

async fn deliver(node: &Node, messages: &[(u32, &'static str)]) -> Result<(), String> {
    let committer = node.committer();
    let submitted = messages.iter().map(|(uid, text)| {
        let committer = committer.clone();
        let uid = *uid;
        let new = NewBlob {
            blob: blob_of::prepare(&node.heap, text.as_bytes()),
            envelope: Bytes::new(),
            meta: Bytes::from_static(b"meta"),
        };
        tokio::spawn(async move {
            let intent = Intent::<(), LinkError>::synced(move |tx| {
                let blob = tx.link_new_blob::<LinkError>(0, owner(uid))?;
                tx.put(message_key(uid), blob.as_bytes().to_vec());
                Ok(())
            });
            committer.submit(intent.with_blob(new)).await
        })
    });
    for submitted in submitted.collect::<Vec<_>>() {
        submitted.await.unwrap().map_err(text)?;
    }
    Ok(())
}

async fn remove(node: &Node, uid: u32) -> Result<(), String> {
    let intent = Intent::<(), LinkError>::synced(move |tx| {
        if let Some(blob) = tx.get(&message_key(uid))? {
            tx.delete(message_key(uid));
            tx.unlink_blob(blob_of::value(&blob), owner(uid));
        }
        Ok(())
    });
    let intent = intent.reading([message_key(uid)]);
    node.committer().submit(intent).await.map_err(text)
}

/// The rows that [`remove`] writes, under a time of one's own.
async fn remove_at(node: &Node, uid: u32, millis: i64) -> Result<(), String> {
    loop {
        let key = message_key(uid);
        let found = get(node, key.clone()).await?;
        let Some(blob) = found.as_ref().map(blob_of::value) else {
            return Ok(());
        };
        let listed = [&millis.to_be_bytes()[..], blob.as_bytes()].concat();
        let mut batch = Batch::new();
        batch
            .check(key.clone(), found)
            .delete(key)
            .delete(owner(uid).link_key(blob))
            .put(RowKey::new(Space::Condemned, listed), vec![1]);
        match node.engine.commit(batch, Durability::Synced).await {
            Err(CommitError::Conflict { .. }) => {}
            done => return done.map_err(text),
        }
    }
}

async fn copy(node: &Node, from: u32, to: u32, beside: bool) -> Result<(), String> {
    let intent = Intent::<(), LinkError>::synced(move |tx| {
        if let Some(blob) = tx.get(&message_key(from))? {
            match beside {
                true => tx.link_again(blob_of::value(&blob), owner(to)),
                false => tx.link_blob::<LinkError>(blob_of::value(&blob), owner(to))?,
            }
            tx.put(message_key(to), blob);
        }
        Ok::<_, Abort<LinkError>>(())
    });
    // The message may go, and its bytes with it, between the look at its row and that at its blob's.
    match node.committer().submit(intent).await {
        Ok(()) | Err(SubmitError::Refused(LinkError::NoSuchBlob)) => Ok(()),
        Err(error) => Err(text(error)),
    }
}

/// Deletes every listed blob without links: in one step, checked; or a marked one, unchecked.
async fn faulty_reclaim(node: &Node, one_step: bool) -> Result<(), String> {
    for (key, _) in scan(node, Space::Condemned, KeyRange::all()).await? {
        let blob = BlobId::new(key[8..].try_into().unwrap());
        let row = get(node, BlobRow::key(blob)).await?;
        if !scan(node, Space::Link, KeyRange::prefix(blob.as_bytes()))
            .await?
            .is_empty()
        {
            continue;
        }
        let mut batch = Batch::new();
        batch
            .delete(BlobRow::key(blob))
            .delete(RowKey::new(Space::BlobMeta, blob.as_bytes().to_vec()))
            .delete(RowKey::new(Space::Condemned, key));
        if one_step {
            batch.check(BlobRow::key(blob), row);
        }
        match node.engine.commit(batch, Durability::Synced).await {
            Ok(()) | Err(CommitError::Conflict { .. }) => {}
            Err(error) => return Err(text(error)),
        }
    }
    Ok(())
}

async fn get(node: &Node, key: RowKey) -> Result<Option<Value>, String> {
    let rows = node.engine.get_many(std::slice::from_ref(&key)).await;
    Ok(rows.map_err(text)?.pop().flatten())
}

async fn scan(node: &Node, space: Space, range: KeyRange) -> Result<Vec<(Vec<u8>, Value)>, String> {
    let rows = node.engine.scan(space, range, Order::Ascending, 100).await;
    rows.map_err(text)
}

/// The rows of a message in the one mailbox of the scenes: UID → blob id.
pub mod blob_of {
    use nightmail_commit::Owner;
    use nightmail_core::{MailboxId, Uid};

    use super::{BlobBuilder, BlobId, Bytes, Heap, RowKey, Space};

    pub fn owner(uid: u32) -> Owner {
        Owner::Message(MailboxId::new(1), Uid::new(uid).unwrap())
    }

    pub fn message_key(uid: u32) -> RowKey {
        RowKey::new(Space::Message, uid.to_be_bytes().to_vec())
    }

    pub fn value(blob: &Bytes) -> BlobId {
        BlobId::new(blob.as_ref().try_into().unwrap())
    }

    pub fn message((key, blob): (&Vec<u8>, &Bytes)) -> (u32, BlobId) {
        let uid = u32::from_be_bytes(key.as_slice().try_into().unwrap());
        (uid, value(blob))
    }

    pub fn link(blob: BlobId, uid: u32) -> Vec<u8> {
        owner(uid).link_key(blob).key
    }

    pub fn prepare(heap: &Heap, bytes: &[u8]) -> nightmail_heap::PreparedBlob {
        let mut builder = BlobBuilder::new(heap);
        builder.push(bytes).unwrap();
        builder.finish().unwrap()
    }

    pub fn id(heap: &Heap, bytes: &[u8]) -> BlobId {
        prepare(heap, bytes).id()
    }
}
