//! Locks by name that one node at a time holds, such as an account's maildrop.
//!
//! A lock is a row that names its holder and the holder's session. It is free when there is no row or when that session
//! is over, so a node that is killed holds it no longer than its lease. What guards within one process is the caller's:
//! a node may take again what it holds itself.

use std::sync::Arc;

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_engine::{Batch, CommitError, Durability, Engine, RowKey, Space, Value};

use crate::cluster::Cluster;
use crate::error::ClusterError;
use crate::name::NodeName;
use crate::rows::{Holder, NodeRow, Session};

const VERSION: u8 = 1;
const PREFIX: &[u8] = b"lock/";
/// Times taking a lock is tried while others change its row.
const TRIES_MAX: usize = 10;

/// A lock row. `token` parts the locks that one session takes, one after the other, under one name.
struct LockRow {
    holder: Holder,
    token: u64,
}

impl LockRow {
    fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.str(self.holder.name.as_str())
            .u64(self.holder.session.get())
            .u64(self.token);
        row.finish()
    }

    fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut row, _) = RowReader::new(row, VERSION)?;
        let name = row.str()?.parse::<NodeName>();
        Ok(Self {
            holder: Holder {
                name: name.map_err(|_| RowError::Invalid("node name"))?,
                session: Session::new(row.u64()?),
            },
            token: row.u64()?,
        })
    }
}

/// A lock that is held until released, or until a while after it was dropped.
pub struct NodeLock(Option<Held>);

struct Held {
    engine: Arc<dyn Engine>,
    key: RowKey,
    row: Value,
}

impl Held {
    async fn release(self) {
        let mut batch = Batch::new();
        batch.check(self.key.clone(), Some(self.row));
        batch.delete(self.key);
        // A conflict means that it has been taken since; a failure leaves it to this session's next or its end.
        let _ = self.engine.commit(batch, Durability::Soon).await;
    }
}

impl NodeLock {
    /// Lets go of the lock; once this returns, another node can take it.
    pub async fn release(mut self) {
        if let Some(held) = self.0.take() {
            held.release().await;
        }
    }
}

impl Drop for NodeLock {
    fn drop(&mut self) {
        let Some(held) = self.0.take() else { return };
        // Without a runtime the process is ending, and the lock goes with its session.
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(held.release());
        }
    }
}

impl Cluster {
    /// Takes the lock `name`; `None` while another live node holds it.
    ///
    /// Fails when the store does not answer. On a single machine it is always free.
    pub async fn lock(&self, name: &str) -> Result<Option<NodeLock>, ClusterError> {
        let Some(own) = self.holder() else {
            return Ok(Some(NodeLock(None)));
        };
        let engine = self.engine();
        let mut key = PREFIX.to_vec();
        key.extend_from_slice(name.as_bytes());
        let key = RowKey::new(Space::Meta, key);
        for _ in 0..TRIES_MAX {
            let seen = get(engine.as_ref(), &key).await?;
            if is_held(engine.as_ref(), seen.as_ref(), &own).await? {
                return Ok(None);
            }
            let token =
                getrandom::u64().map_err(|error| ClusterError::Random(error.to_string()))?;
            let row = LockRow {
                holder: own.clone(),
                token,
            };
            let row = Value::from(row.encode());
            let mut batch = Batch::new();
            batch.check(key.clone(), seen);
            batch.put(key.clone(), row.clone());
            match engine.commit(batch, Durability::Soon).await {
                Ok(()) => return Ok(Some(NodeLock(Some(Held { engine, key, row })))),
                Err(CommitError::Conflict { .. }) => {}
                Err(CommitError::Engine(error)) => return Err(error.into()),
            }
        }
        Ok(None)
    }
}

/// Whether another live node holds the lock of the row `seen`. A row that does not read holds nothing.
async fn is_held(
    engine: &dyn Engine,
    seen: Option<&Value>,
    own: &Holder,
) -> Result<bool, ClusterError> {
    let Some(Ok(row)) = seen.map(|row| LockRow::decode(row)) else {
        return Ok(false);
    };
    if row.holder == *own {
        return Ok(false);
    }
    let node = get(engine, &NodeRow::key(&row.holder.name)).await?;
    let node = node.and_then(|node| NodeRow::decode(&node).ok());
    Ok(node.is_some_and(|node| node.is_live() && node.session == row.holder.session))
}

async fn get(engine: &dyn Engine, key: &RowKey) -> Result<Option<Value>, ClusterError> {
    let mut rows = engine.get_many(std::slice::from_ref(key)).await?;
    Ok(rows.pop().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ClusterOptions, Role, Roles};
    use nightmail_engine::MemoryEngine;
    use std::time::Duration;

    async fn node(engine: &Arc<MemoryEngine>, name: &str) -> Cluster {
        let options = ClusterOptions::new(name.parse().unwrap(), Roles::from([Role::Pop3]));
        let engine = Arc::clone(engine) as Arc<dyn Engine>;
        Cluster::join(engine, options).await.unwrap()
    }

    async fn taken(node: &Cluster) -> Option<NodeLock> {
        node.lock("maildrop/7").await.unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn one_node_holds_a_lock_until_it_drops_it() {
        let engine = Arc::new(MemoryEngine::new());
        let (one, two) = (node(&engine, "one").await, node(&engine, "two").await);
        let held = taken(&one).await.unwrap();
        assert!(taken(&two).await.is_none());
        assert!(two.lock("maildrop/8").await.unwrap().is_some());
        drop(held);
        let held = loop {
            match taken(&two).await {
                Some(held) => break held,
                None => tokio::time::sleep(Duration::from_millis(1)).await,
            }
        };
        assert!(taken(&one).await.is_none());
        held.release().await;
        assert!(taken(&one).await.is_some(), "at once after its release");
    }

    #[tokio::test(start_paused = true)]
    async fn the_late_release_of_an_earlier_lock_leaves_the_next_one_alone() {
        let engine = Arc::new(MemoryEngine::new());
        let (one, two) = (node(&engine, "one").await, node(&engine, "two").await);
        let first = taken(&one).await.unwrap();
        let second = taken(&one).await.unwrap();
        drop(first);
        tokio::time::sleep(Duration::from_millis(10)).await;
        assert!(taken(&two).await.is_none());
        drop(second);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lock_ends_with_the_session_of_its_holder() {
        let engine = Arc::new(MemoryEngine::new());
        let two = node(&engine, "two").await;
        let one = node(&engine, "one").await;
        let held = taken(&one).await.unwrap();
        std::mem::forget(held);
        drop(one);
        assert!(taken(&two).await.is_none(), "before anybody has noticed");
        tokio::time::sleep(Duration::from_secs(20)).await;
        assert!(taken(&two).await.is_some());
    }

    #[test]
    fn a_row_reads_back_and_no_cut_of_it_does() {
        let row = LockRow {
            holder: Holder {
                name: "n1".parse().unwrap(),
                session: Session::new(7),
            },
            token: 9,
        };
        let bytes = row.encode();
        let read = LockRow::decode(&bytes).unwrap();
        assert_eq!((read.holder, read.token), (row.holder, 9));
        for cut in 0..bytes.len() {
            assert!(LockRow::decode(&bytes[..cut]).is_err());
        }
    }
}
