//! Tests of the memory engine: the suite and its faults.

use std::sync::Arc;

use super::*;
use crate::conformance;

fn row(n: u8) -> RowKey {
    RowKey::new(Space::Message, vec![n])
}

async fn put(engine: &MemoryEngine, n: u8, durability: Durability) -> Result<(), CommitError> {
    let mut batch = Batch::new();
    batch
        .put(row(n), vec![n])
        .put(RowKey::new(Space::Change, vec![n]), vec![n]);
    engine.commit(batch, durability).await
}

async fn present(engine: &MemoryEngine) -> Vec<u8> {
    let found = |space| async move {
        let rows = engine
            .scan(space, KeyRange::all(), Order::Ascending, 100)
            .await;
        rows.unwrap()
            .into_iter()
            .map(|(key, _)| key[0])
            .collect::<Vec<_>>()
    };
    let messages = found(Space::Message).await;
    assert_eq!(messages, found(Space::Change).await, "batches are whole");
    messages
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_conforms() {
    conformance::run(Arc::new(MemoryEngine::new()), 20_000).await;
}

#[tokio::test]
async fn a_power_loss_keeps_a_prefix_of_what_was_not_synced() {
    let engine = MemoryEngine::new();
    put(&engine, 0, Durability::Synced).await.unwrap();
    for n in 1..5 {
        put(&engine, n, Durability::Soon).await.unwrap();
    }
    assert_eq!(engine.unsynced_commits(), 4);
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..100 {
        let left = present(&engine.after_power_loss(seed)).await;
        assert_eq!(left, (0..left.len() as u8).collect::<Vec<_>>());
        lengths.insert(left.len());
    }
    assert_eq!(lengths, (1..=5).collect(), "every prefix is possible");
    assert_eq!(present(&engine).await.len(), 5, "the engine itself goes on");
    put(&engine, 5, Durability::Synced).await.unwrap();
    assert_eq!(present(&engine.after_power_loss(1)).await.len(), 6);
}

#[tokio::test]
async fn power_lost_at_a_sync_stays_lost_until_restart() {
    let engine = MemoryEngine::new();
    put(&engine, 0, Durability::Synced).await.unwrap();
    engine.crash_at_sync(2);
    put(&engine, 1, Durability::Synced).await.unwrap();
    assert!(put(&engine, 2, Durability::Synced).await.is_err());
    assert!(engine.is_crashed());
    assert!(engine.get_many(&[row(0)]).await.is_err());
    assert!(engine.sync().await.is_err());
    engine.restart(7);
    let left = present(&engine).await;
    assert!(left == [0, 1] || left == [0, 1, 2], "{left:?}");
    put(&engine, 3, Durability::Synced).await.unwrap();
}

#[tokio::test]
async fn faults_do_what_they_say() {
    let engine = MemoryEngine::new();
    engine.fail_next(2);
    assert!(put(&engine, 0, Durability::Synced).await.is_err());
    assert!(engine.get_many(&[row(0)]).await.is_err());
    assert_eq!(engine.get_many(&[row(0)]).await.unwrap(), [None]);

    engine.fail_commit(2);
    put(&engine, 1, Durability::Soon).await.unwrap();
    assert!(put(&engine, 2, Durability::Soon).await.is_err());
    put(&engine, 3, Durability::Soon).await.unwrap();
    assert_eq!(present(&engine).await, [1, 3]);

    engine.fail_commit_after_applying(1);
    assert!(put(&engine, 4, Durability::Synced).await.is_err());
    assert_eq!(present(&engine.after_power_loss(0)).await, [1, 3, 4]);

    engine.set_full(true);
    let full = put(&engine, 5, Durability::Synced).await;
    assert!(matches!(
        full,
        Err(CommitError::Engine(EngineError::Full(_)))
    ));
    engine.set_full(false);
    put(&engine, 5, Durability::Synced).await.unwrap();
}

#[tokio::test]
async fn a_delay_takes_time() {
    let engine = MemoryEngine::new();
    engine.set_delay(Some(Duration::from_millis(30)));
    let before = std::time::Instant::now();
    put(&engine, 0, Durability::Soon).await.unwrap();
    assert!(before.elapsed() >= Duration::from_millis(30));
}
