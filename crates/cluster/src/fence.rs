//! The fence: an engine whose commits fail once the session of this node is over.

use std::sync::Arc;

use nightmail_engine::{
    Batch, BoxFuture, Check, CommitError, Durability, Engine, EngineError, EngineStats, Key,
    KeyRange, Order, RowKey, Space, Value,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// An engine under the fence of a session. Reads pass through; every commit checks the session's row.
///
/// A commit that finds the row changed fails with [`EngineError::Unavailable`] and wakes the membership, which joins
/// again. Every other conflict is the caller's.
pub(crate) struct FencedEngine {
    inner: Arc<dyn Engine>,
    fence: Mutex<Arc<Check>>,
    breached: Arc<Notify>,
}

impl FencedEngine {
    /// Commits go to `inner` as long as `fence` holds; `breached` is told when it does not.
    pub fn new(inner: Arc<dyn Engine>, fence: Check, breached: Arc<Notify>) -> Self {
        Self {
            inner,
            fence: Mutex::new(Arc::new(fence)),
            breached,
        }
    }

    /// Puts later commits under another session.
    pub fn replace(&self, fence: Check) {
        *self.fence.lock() = Arc::new(fence);
    }

    /// What commits check now.
    pub fn fence(&self) -> Arc<Check> {
        Arc::clone(&self.fence.lock())
    }

    async fn commit_fenced(
        &self,
        mut batch: Batch,
        durability: Durability,
    ) -> Result<(), CommitError> {
        let fence = self.fence();
        // First, so that it is the one that is named where several checks fail.
        batch.checks.insert(0, Check::clone(&fence));
        match self.inner.commit(batch, durability).await {
            Err(CommitError::Conflict { key }) if key == fence.key => Err(self.judge(&fence).await),
            other => other,
        }
    }

    /// An engine may name any row of a batch when rows change while it looks for the one that failed.
    async fn judge(&self, fence: &Check) -> CommitError {
        let key = fence.key.clone();
        match self.inner.get_many(std::slice::from_ref(&key)).await {
            Ok(rows) if rows.first() == Some(&fence.expected) => CommitError::Conflict { key },
            Ok(_) => {
                self.breached.notify_one();
                let text = "this node has been fenced: others have taken its work over";
                EngineError::Unavailable(text.to_owned()).into()
            }
            Err(error) => error.into(),
        }
    }
}

impl Engine for FencedEngine {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        self.inner.get_many(keys)
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>> {
        self.inner.scan(space, range, order, limit)
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(self.commit_fenced(batch, durability))
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        self.inner.sync()
    }

    fn stats(&self) -> EngineStats {
        self.inner.stats()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_engine::MemoryEngine;

    fn row(name: &str) -> RowKey {
        RowKey::new(Space::Meta, name)
    }

    fn check(value: &'static str) -> Check {
        Check {
            key: row("fence"),
            expected: Some(Value::from_static(value.as_bytes())),
        }
    }

    fn put(name: &str, value: &'static str) -> Batch {
        let mut batch = Batch::new();
        batch.put(row(name), value.as_bytes());
        batch
    }

    #[tokio::test]
    async fn commits_pass_until_the_row_changes_and_again_under_the_new_one() {
        let memory = Arc::new(MemoryEngine::new());
        let breached = Arc::new(Notify::new());
        let engine = FencedEngine::new(memory.clone(), check("one"), Arc::clone(&breached));
        let synced = Durability::Synced;
        memory.commit(put("fence", "one"), synced).await.unwrap();
        engine.commit(put("a", "1"), synced).await.unwrap();
        memory.commit(put("fence", "two"), synced).await.unwrap();
        let refused = engine.commit(put("a", "2"), synced).await;
        assert!(matches!(
            refused,
            Err(CommitError::Engine(EngineError::Unavailable(_)))
        ));
        breached.notified().await;
        assert_eq!(
            engine.get_many(&[row("a")]).await.unwrap(),
            [Some(Value::from_static(b"1"))]
        );
        engine.replace(check("two"));
        engine.commit(put("a", "3"), synced).await.unwrap();
    }

    #[tokio::test]
    async fn a_conflict_elsewhere_is_the_callers() {
        let memory = Arc::new(MemoryEngine::new());
        let engine = FencedEngine::new(memory.clone(), check("one"), Arc::default());
        memory
            .commit(put("fence", "one"), Durability::Synced)
            .await
            .unwrap();
        let mut batch = put("a", "1");
        batch.check(row("b"), Some(Value::from_static(b"other")));
        let refused = engine.commit(batch, Durability::Synced).await;
        assert_eq!(refused, Err(CommitError::Conflict { key: row("b") }));
    }
}
