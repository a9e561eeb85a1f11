//! The suite that every engine passes, a comparison with the memory engine, and what things cost in round trips.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use common::{Dice, commit, engine, get, put, row};
use nightmail_engine::{
    Batch, CommitError, Durability, Engine, KeyRange, MemoryEngine, Order, RowKey, Space, Value,
    conformance,
};
use nightmail_testbed::postgres::Postgres;

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_conforms() {
    let Some(server) = Postgres::start() else {
        return;
    };
    conformance::run(engine(&server.url()).await, 3000).await;
}

fn random_row(dice: &mut Dice) -> RowKey {
    let spaces = [Space::Meta, Space::Message, Space::Due];
    let space = spaces[dice.below(3) as usize];
    RowKey::new(space, vec![b'k', dice.below(6) as u8])
}

fn random_batch(dice: &mut Dice, values: &[(RowKey, Option<Value>)]) -> Batch {
    let mut batch = Batch::new();
    for _ in 0..dice.below(5) {
        let (key, held) = values[dice.below(values.len() as u64) as usize].clone();
        let expected = match dice.below(12) {
            0 => None,
            1 => Some(Value::from_static(b"never")),
            _ => held,
        };
        batch.check(key, expected);
    }
    for _ in 0..dice.below(6) {
        let key = random_row(dice);
        match dice.below(3) {
            0 => batch.delete(key),
            _ => batch.put(key, dice.below(4).to_string()),
        };
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn random_batches_do_what_they_do_in_memory() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let (postgres, memory) = (engine(&server.url()).await, MemoryEngine::new());
    let mut dice = Dice::new(7);
    let (mut done, mut refused) = (0, 0);
    for _ in 0..400 {
        let keys: Vec<RowKey> = (0..8).map(|_| random_row(&mut dice)).collect();
        let held = memory.get_many(&keys).await.unwrap();
        assert_eq!(postgres.get_many(&keys).await.unwrap(), held);
        let values: Vec<_> = keys.into_iter().zip(held).collect();
        let batch = random_batch(&mut dice, &values);
        let durability = match dice.below(2) {
            0 => Durability::Synced,
            _ => Durability::Soon,
        };
        let expected = memory.commit(batch.clone(), durability).await;
        let outcome = postgres.commit(batch.clone(), durability).await;
        assert_eq!(outcome, expected, "{batch:?}");
        match outcome {
            Ok(()) => done += 1,
            Err(_) => refused += 1,
        }
    }
    assert!(done > 100 && refused > 50, "{done} done, {refused} refused");
    for space in Space::ALL {
        let range = KeyRange::all();
        let here = postgres.scan(space, range.clone(), Order::Descending, 100);
        let there = memory.scan(space, range, Order::Descending, 100);
        assert_eq!(here.await, there.await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn everything_takes_one_round_trip_when_it_is_prepared() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let keys: Vec<RowKey> = Space::ALL
        .into_iter()
        .chain([Space::Meta, Space::Message])
        .map(|space| row(space, "k"))
        .collect();
    let batch = || {
        let mut batch = Batch::new();
        for key in &keys {
            batch.put(key.clone(), "v");
        }
        batch.check(row(Space::Directory, "absent"), None);
        batch
    };
    let held = vec![Some(Value::from_static(b"v")); keys.len()];
    commit(&engine, batch()).await.unwrap();
    assert_eq!(engine.get_many(&keys).await.unwrap(), held);

    let before = engine.round_trips();
    commit(&engine, batch()).await.unwrap();
    assert_eq!(engine.round_trips(), before + 1);
    assert_eq!(engine.get_many(&keys).await.unwrap(), held);
    assert_eq!(engine.round_trips(), before + 2);
    assert_eq!(engine.get_many(&[]).await.unwrap(), []);
    let nothing = engine.scan(Space::Name, KeyRange::all(), Order::Ascending, 0);
    assert_eq!(nothing.await.unwrap(), []);
    assert_eq!(commit(&engine, Batch::new()).await, Ok(()));
    engine.sync().await.unwrap();
    assert_eq!(engine.round_trips(), before + 2, "nothing was to be done");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_commit_is_carried_out_all_the_same() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    for round in 0..20 {
        let key = row(Space::Meta, format!("dropped {round}"));
        let mut batch = Batch::new();
        batch.put(key.clone(), "here");
        let mut commit = engine.commit(batch, Durability::Synced);
        let polled = std::future::poll_fn(|context| {
            std::task::Poll::Ready(commit.as_mut().poll(context).is_ready())
        });
        polled.await;
        drop(commit);
        common::until("the row is there", async || {
            get(&engine, &key).await.is_some()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_use_the_index_before_there_are_statistics() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let scans = || {
        let question = "SELECT seq_scan, idx_scan FROM pg_stat_user_tables \
                        WHERE relname = 'nm_message'";
        let answer = server.psql(question);
        let (whole, by_index) = answer.split_once('|').unwrap();
        let numbers: [u64; 2] = [whole, by_index].map(|number| number.parse().unwrap());
        numbers
    };
    let [whole, by_index] = scans();
    let mut batch = Batch::new();
    for number in 0..2000u32 {
        batch.put(RowKey::new(Space::Message, number.to_be_bytes()), "x");
    }
    commit(&engine, batch).await.unwrap();
    for round in 0..10u32 {
        let key = RowKey::new(Space::Message, round.to_be_bytes());
        engine.get_many(std::slice::from_ref(&key)).await.unwrap();
        let mut batch = Batch::new();
        batch.check(key.clone(), Some("x".into())).put(key, "y");
        commit(&engine, batch).await.unwrap();
        let range = KeyRange::prefix(&[0]);
        engine
            .scan(Space::Message, range, Order::Ascending, 5)
            .await
            .unwrap();
    }
    common::until("the server has counted", async || {
        // What a connection has counted is shown when it is used again.
        get(&engine, &row(Space::Meta, "k")).await;
        scans()[1] >= by_index + 30
    })
    .await;
    assert_eq!(scans()[0], whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_is_gone_is_replaced() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let key = row(Space::Meta, "k");
    put(&engine, &key, "1").await;
    server.psql("DELETE FROM nm_lane");
    put(&engine, &key, "2").await;
    assert_eq!(get(&engine, &key).await, Some("2".into()));
    server.psql("DELETE FROM nm_lane");
    let mut batch = Batch::new();
    batch.put(key.clone(), "3");
    engine.commit(batch, Durability::Soon).await.unwrap();
    server.psql("DELETE FROM nm_lane");
    engine.sync().await.unwrap();
    assert_eq!(engine.stats().failures, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_no_server_takes_is_refused() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let value = Value::from(vec![0; RowKey::VALUE_BYTES_MAX]);
    let mut batch = Batch::new();
    for number in 0..9 {
        batch.put(row(Space::Meta, number.to_string()), value.clone());
    }
    let refused = commit(&engine, batch).await;
    assert!(
        matches!(refused, Err(CommitError::Engine(_))),
        "{refused:?}"
    );
}
