//! Servers that stop, crash, fall silent, and are replaced by their standby.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use common::{Load, engine, get, options, put, row};
use nightmail_engine::{Batch, CommitError, Durability, Engine, EngineError, Space};
use nightmail_postgres::{PostgresEngine, init};
use nightmail_testbed::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_under_load_loses_nothing_that_was_answered() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let load = Load::start(&engine, 6);
    for round in 0..3 {
        load.progress(100).await;
        match round % 2 {
            0 => server.kill(),
            _ => server.stop_fast(),
        }
        server.restart();
    }
    load.progress(100).await;
    load.check(&engine).await;
    assert!(engine.stats().reopens >= 3);
}

async fn pair() -> Option<(Postgres, Postgres, Arc<PostgresEngine>)> {
    let primary = Postgres::start()?;
    init(&options(&primary.url())).await.unwrap();
    let replica = primary.start_replica();
    let mut options = options(&primary.url_with(&replica));
    options.statement_timeout = Duration::from_secs(1);
    let engine = PostgresEngine::open(options).await.unwrap();
    Some((primary, replica, Arc::new(engine)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failover_loses_nothing_that_was_answered() {
    let Some((mut primary, replica, engine)) = pair().await else {
        return;
    };
    let load = Load::start(&engine, 6);
    load.progress(200).await;
    primary.kill();
    replica.promote();
    load.progress(200).await;
    load.check(&engine).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_primary_does_not_hold_up_the_failover() {
    let Some((mut primary, replica, engine)) = pair().await else {
        return;
    };
    let load = Load::start(&engine, 6);
    load.progress(200).await;
    primary.pause();
    replica.promote();
    load.progress(200).await;
    load.check(&engine).await;
}

/// An administrator who cancels a commit that waits for the standby makes the server call it done.
#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_was_not_waited_for_is_not_believed() {
    let Some((primary, mut replica, _)) = pair().await else {
        return;
    };
    let mut options = options(&primary.url());
    options.statement_timeout = common::PATIENCE;
    let engine = Arc::new(PostgresEngine::open(options).await.unwrap());
    let key = row(Space::Meta, "k");
    put(&engine, &key, "1").await;
    replica.pause();
    let waiting = {
        let (engine, key) = (Arc::clone(&engine), key.clone());
        tokio::spawn(async move { put(&engine, &key, "2").await })
    };
    let stuck = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let mut first = String::new();
    common::until("the commit waits for the standby", async || {
        first = primary.psql(stuck);
        !first.is_empty()
    })
    .await;
    primary.psql(&format!("SELECT pg_cancel_backend({first})"));
    common::until("another commit waits in its place", async || {
        let now = primary.psql(stuck);
        assert!(!waiting.is_finished(), "the standby has nothing of it");
        !now.is_empty() && now != first
    })
    .await;
    assert!(!waiting.is_finished());
    replica.resume();
    tokio::time::timeout(common::PATIENCE, waiting)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(get(&engine, &key).await, Some("2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_absent_server_is_said_to_be_absent_and_found_again() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let key = row(Space::Meta, "k");
    put(&engine, &key, "1").await;
    server.stop_fast();
    for _ in 0..2 {
        let begin = Instant::now();
        let keys = [key.clone()];
        let answer = engine.get_many(&keys).await;
        assert!(
            matches!(answer, Err(EngineError::Unavailable(_))),
            "{answer:?}"
        );
        assert!(begin.elapsed() < Duration::from_secs(30));
    }
    server.restart();
    assert_eq!(get(&engine, &key).await, Some("1".into()));
    put(&engine, &key, "2").await;
    assert_eq!(get(&engine, &key).await, Some("2".into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_that_cannot_begin_is_unavailable() {
    let Some(mut server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    server.stop_fast();
    let mut batch = Batch::new();
    batch.put(row(Space::Meta, "k"), "1");
    let answer = engine.commit(batch, Durability::Synced).await;
    let away = CommitError::Engine(EngineError::Unavailable(String::new()));
    let same = std::mem::discriminant(&answer) == std::mem::discriminant(&Err(away));
    assert!(same, "{answer:?}");
    server.restart();
    assert_eq!(get(&engine, &row(Space::Meta, "k")).await, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_ends_with_its_engine_when_the_server_does_not_come_back() {
    let Some((mut primary, replica, engine)) = pair().await else {
        return;
    };
    put(&engine, &row(Space::Meta, "k"), "1").await;
    drop(replica);
    let mut batch = Batch::new();
    batch.put(row(Space::Meta, "k"), "2");
    let commit = {
        let engine = Arc::clone(&engine);
        tokio::spawn(async move { engine.commit(batch, Durability::Synced).await })
    };
    common::until("the commit waits for the standby", async || {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
        primary.psql(waiting) != "0"
    })
    .await;
    primary.kill();
    commit.abort();
    let _ = commit.await;
    let engine = Arc::into_inner(engine).expect("nobody else has the engine");
    drop(engine);
}
