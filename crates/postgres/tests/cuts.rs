//! Connections that end in the middle of a commit.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod common;

use std::time::Duration;

use common::{Dice, commit, engine, get, increment, number, options, row, url};
use nightmail_engine::{Batch, Durability, Engine, RowKey, Space};
use nightmail_postgres::PostgresEngine;
use nightmail_testbed::postgres::Postgres;
use nightmail_testbed::proxy::{Cut, Proxy};

fn has_commit(bytes: &[u8]) -> bool {
    bytes.windows(6).any(|word| word == b"COMMIT")
}

/// A batch that counts `key` up, and rows beside it that must come and go with that.
fn counted(key: &RowKey, old: u64) -> Batch {
    let mut batch = increment(key, old);
    for space in [Space::Message, Space::Change] {
        batch.put(row(space, format!("beside {old}")), "x".repeat(200));
    }
    batch.check(row(Space::Name, "absent"), None);
    batch
}

/// Whatever the point of the cut, the commit is answered, by what the database then holds and keeps holding.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_cut_in_mid_commit_leaves_no_doubt() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let direct = engine(&server.url()).await;
    let proxy = Proxy::start(server.address());
    let cut = PostgresEngine::open(options(&url(proxy.port())))
        .await
        .unwrap();
    let key = row(Space::Mailbox, "counter");
    let mut dice = Dice::new(42);
    let mut count = 0;
    for round in 0..120 {
        match dice.below(5) {
            0 => proxy.cut_when(|bytes| has_commit(bytes).then_some(Cut::Before)),
            1 => proxy.cut_when(|bytes| has_commit(bytes).then_some(Cut::After)),
            2 => proxy.cut_when(|bytes| has_commit(bytes).then_some(Cut::Late)),
            _ => proxy.cut_after_bytes(dice.below(2500)),
        }
        let done = commit(&cut, counted(&key, count)).await;
        assert_eq!(done, Ok(()), "round {round}: the server is there");
        count += 1;
        proxy.deliver_late();
        proxy.mend();
        let keys = [
            key.clone(),
            row(Space::Message, format!("beside {}", count - 1)),
            row(Space::Change, format!("beside {}", count - 1)),
            row(Space::Message, format!("beside {count}")),
        ];
        let held = direct.get_many(&keys).await.unwrap();
        assert_eq!(number(held[0].as_ref()), count, "round {round}");
        assert!(held[1].is_some() && held[2].is_some() && held[3].is_none());
    }
    assert!(proxy.cuts() > 80, "only {} cuts", proxy.cuts());
}

/// A transaction that reaches the server after its outcome was settled must fail there.
#[tokio::test(flavor = "multi_thread")]
async fn a_batch_that_was_called_undone_is_never_done_later() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let direct = engine(&server.url()).await;
    let proxy = Proxy::start(server.address());
    let cut = PostgresEngine::open(options(&url(proxy.port())))
        .await
        .unwrap();
    let key = row(Space::Mailbox, "blind");
    for round in 0..20 {
        let mut batch = Batch::new();
        batch.put(key.clone(), format!("old {round}"));
        // Its last statements wait on the way while the engine settles the matter and goes on.
        proxy.cut_when(|bytes| has_commit(bytes).then_some(Cut::Late));
        commit(&cut, batch).await.unwrap();
        let mut batch = Batch::new();
        batch.put(key.clone(), format!("new {round}"));
        commit(&cut, batch).await.unwrap();
        proxy.deliver_late();
        // Whoever still works for the old connection is done before this says that nobody does.
        common::until("old connections end", async || {
            let busy = server.psql(
                "SELECT count(*) FROM pg_stat_activity \
                 WHERE application_name = 'nightmail' AND state <> 'idle'",
            );
            busy == "0"
        })
        .await;
        let held = get(&direct, &key).await.unwrap();
        assert_eq!(held, format!("new {round}"));
    }
    assert_eq!(proxy.cuts(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_network_that_goes_silent_in_mid_commit_leaves_no_doubt() {
    let Some(server) = Postgres::start() else {
        return;
    };
    let direct = engine(&server.url()).await;
    let proxy = Proxy::start(server.address());
    let mut options = options(&url(proxy.port()));
    options.statement_timeout = Duration::from_millis(300);
    options.acquire_timeout = Duration::from_millis(300);
    let silent = PostgresEngine::open(options).await.unwrap();
    let key = row(Space::Mailbox, "counter");
    commit(&silent, increment(&key, 0)).await.unwrap();
    for count in 1..4 {
        // A connection on which nothing is left to prepare.
        let other = row(Space::Mailbox, format!("other {count}"));
        for old in 0..2 {
            common::until("the network works", async || {
                commit(&silent, increment(&other, old)).await.is_ok()
            })
            .await;
        }
        proxy.stall();
        let waiting = silent.commit(increment(&key, count), Durability::Synced);
        let waiting = tokio::time::timeout(Duration::from_secs(1), waiting).await;
        assert!(waiting.is_err(), "nothing is said while nothing is known");
        let refused = silent.get_many(std::slice::from_ref(&key)).await;
        assert!(refused.is_err(), "a reading is not waited for so long");
        proxy.mend();
        common::until("the commit is carried out", async || {
            number(get(&direct, &key).await.as_ref()) == count + 1
        })
        .await;
    }
    drop(silent);
    assert_eq!(number(get(&direct, &key).await.as_ref()), 4);
}
