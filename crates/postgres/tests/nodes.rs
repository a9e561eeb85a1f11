//! Two engines over one database: nodes that know nothing of each other.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::sync::Arc;

use common::{commit, engine, get, increment, number, put, row};
use nightmail_engine::{Batch, CommitError, Engine, RowKey, Space, Value};
use nightmail_postgres::PostgresEngine;
use nightmail_testbed::postgres::Postgres;

/// Runs `work` in tasks of both engines; each knows its number.
async fn race<F>(
    nodes: &[Arc<PostgresEngine>; 2],
    tasks: u64,
    work: impl Fn(Arc<PostgresEngine>, u64) -> F,
) where
    F: Future<Output = ()> + Send + 'static,
{
    let running: Vec<_> = (0..tasks)
        .map(|task| tokio::spawn(work(Arc::clone(&nodes[task as usize % 2]), task)))
        .collect();
    for task in running {
        tokio::time::timeout(common::PATIENCE, task)
            .await
            .unwrap()
            .unwrap();
    }
}

async fn two_nodes() -> Option<(Postgres, [Arc<PostgresEngine>; 2])> {
    let server = Postgres::start()?;
    let nodes = [engine(&server.url()).await, engine(&server.url()).await];
    Some((server, nodes))
}

#[tokio::test(flavor = "multi_thread")]
async fn increments_from_both_nodes_add_up() {
    let Some((_server, nodes)) = two_nodes().await else {
        return;
    };
    let key = row(Space::Mailbox, "sum");
    race(&nodes, 8, |engine, _| {
        let key = key.clone();
        async move {
            let mut done = 0;
            while done < 25 {
                let old = number(get(&engine, &key).await.as_ref());
                match commit(&engine, increment(&key, old)).await {
                    Ok(()) => done += 1,
                    Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    })
    .await;
    assert_eq!(number(get(&nodes[0], &key).await.as_ref()), 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_all_who_make_a_row_exactly_one_does() {
    let Some((_server, nodes)) = two_nodes().await else {
        return;
    };
    for round in 0..20 {
        let key = row(Space::Name, format!("name {round}"));
        race(&nodes, 4, |engine, task| {
            let (key, mine) = (key.clone(), row(Space::Account, format!("{round} {task}")));
            async move {
                let mut batch = Batch::new();
                batch
                    .check(key.clone(), None)
                    .put(key.clone(), task.to_string());
                batch.put(mine, "made it");
                match commit(&engine, batch).await {
                    Ok(()) | Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        let winner = number(get(&nodes[0], &key).await.as_ref());
        for task in 0..4 {
            let mine = get(&nodes[1], &row(Space::Account, format!("{round} {task}"))).await;
            assert_eq!(mine.is_some(), task == winner, "round {round}, task {task}");
        }
    }
}

/// Of two that each look whether the other's row is missing and then put theirs, one must see the other.
#[tokio::test(flavor = "multi_thread")]
async fn absence_that_was_checked_lasts_until_the_commit() {
    let Some((_server, nodes)) = two_nodes().await else {
        return;
    };
    for round in 0..40 {
        let keys: [RowKey; 2] = [0, 1].map(|side| row(Space::Link, format!("{round} {side}")));
        race(&nodes, 2, |engine, task| {
            let keys = keys.clone();
            async move {
                let mut batch = Batch::new();
                batch.check(keys[1 - task as usize].clone(), None);
                batch.put(keys[task as usize].clone(), "mine");
                match commit(&engine, batch).await {
                    Ok(()) | Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        let there = [
            get(&nodes[0], &keys[0]).await,
            get(&nodes[0], &keys[1]).await,
        ];
        let there = there.iter().flatten().count();
        assert_eq!(there, 1, "round {round}");
    }
}

/// Two that each check a row and change the other's must not both succeed on what was there before.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_was_checked_stays_as_it_is_until_the_commit() {
    let Some((_server, nodes)) = two_nodes().await else {
        return;
    };
    for round in 0..15 {
        let keys: [RowKey; 2] = [0, 1].map(|side| row(Space::Link, format!("{round} {side}")));
        for key in &keys {
            put(&nodes[0], key, "on duty").await;
        }
        race(&nodes, 2, |engine, task| {
            let keys = keys.clone();
            async move {
                let on_duty = Some(Value::from_static(b"on duty"));
                let mut batch = Batch::new();
                batch.check(keys[1 - task as usize].clone(), on_duty);
                batch.put(keys[task as usize].clone(), "off duty");
                match commit(&engine, batch).await {
                    Ok(()) | Err(CommitError::Conflict { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        })
        .await;
        let values = [
            get(&nodes[0], &keys[0]).await,
            get(&nodes[0], &keys[1]).await,
        ];
        let off = values
            .iter()
            .flatten()
            .filter(|value| &value[..] == b"off duty");
        assert_eq!(off.count(), 1, "round {round}");
    }
}

/// A batch over the same rows as every other, named in the order of the task.
fn shared_rows(task: u64, write: impl Fn(&mut Batch, RowKey, u64)) -> Batch {
    let mut names: Vec<(Space, u64)> = [Space::Meta, Space::Message, Space::Due]
        .into_iter()
        .flat_map(|space| (0..10).map(move |name| (space, name)))
        .collect();
    if task % 2 == 1 {
        names.reverse();
    }
    let mut batch = Batch::new();
    for (space, name) in names {
        write(&mut batch, row(space, format!("shared {name}")), name);
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn puts_in_opposite_orders_wait_for_each_other() {
    let Some((server, nodes)) = two_nodes().await else {
        return;
    };
    race(&nodes, 8, |engine, task| async move {
        for _ in 0..15 {
            let batch = shared_rows(task, |batch, key, _| {
                batch.put(key, task.to_string());
            });
            assert_eq!(commit(&engine, batch).await, Ok(()));
        }
    })
    .await;
    let deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'nightmail'";
    assert_eq!(server.psql(deadlocks), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_that_deadlock_all_complete() {
    let Some((_server, nodes)) = two_nodes().await else {
        return;
    };
    race(&nodes, 4, |engine, task| async move {
        for round in 0..5 {
            let batch = shared_rows(task, |batch, key, name| {
                match (name + round + task) % 3 {
                    0 => batch.delete(key),
                    _ => batch.put(key, task.to_string()),
                };
            });
            assert_eq!(commit(&engine, batch).await, Ok(()));
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_at_the_same_time_share_round_trips() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let engine = engine(&server.url()).await;
    let mut batch = Batch::new();
    for number in 0..200u32 {
        batch.put(row(Space::Name, number.to_string()), number.to_string());
    }
    commit(&engine, batch).await.unwrap();
    let before = engine.round_trips();
    let tasks: Vec<_> = (0..400u32)
        .map(|number| {
            let engine = Arc::clone(&engine);
            tokio::spawn(async move {
                let keys = [
                    row(Space::Name, number.to_string()),
                    row(Space::Name, (number / 2).to_string()),
                ];
                (number, engine.get_many(&keys).await.unwrap())
            })
        })
        .collect();
    for task in tasks {
        let (number, values) = task.await.unwrap();
        let expected = |number: u32| (number < 200).then(|| Value::from(number.to_string()));
        assert_eq!(values, [expected(number), expected(number / 2)]);
    }
    let trips = engine.round_trips() - before;
    assert!(trips < 200, "{trips} round trips for 400 reads");
}
