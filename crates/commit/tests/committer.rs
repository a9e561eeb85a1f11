//! What the committer promises to those who wait for it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "tests"
)]

mod site;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use nightmail_commit::{Abort, CommitFailure, CommitLimits, Intent, LinkError, SubmitError};
use nightmail_engine::{Engine, RowKey, Space};
use site::Site;

type Done = Result<u64, Abort<LinkError>>;

fn key(n: u64) -> RowKey {
    RowKey::new(Space::Meta, n.to_be_bytes().to_vec())
}

/// Counts its runs and writes row `n`.
fn counting(runs: &Arc<AtomicU64>, n: u64) -> Intent<u64, LinkError> {
    let runs = Arc::clone(runs);
    Intent::synced(move |tx| -> Done {
        runs.fetch_add(1, Ordering::Relaxed);
        tx.get(&key(n))?;
        tx.put(key(n), vec![1]);
        Ok(n)
    })
    .reading([key(n)])
}

fn unavailable<T: std::fmt::Debug>(result: Result<T, SubmitError<LinkError>>) -> String {
    match result {
        Err(SubmitError::Store(CommitFailure::Unavailable(why))) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_waits_too_long_is_given_up_and_never_runs() {
    let site = Site::new(CommitLimits {
        wait_max: Duration::from_secs(30),
        ..CommitLimits::default()
    });
    site.engine.set_delay(Some(Duration::from_secs(40)));
    let (first, second) = (Arc::default(), Arc::default());
    let taken = site.committer.submit(counting(&first, 1));
    let waiting = async {
        // The first is taken, and the database hangs.
        tokio::time::sleep(Duration::from_secs(1)).await;
        let given_up = site.committer.submit(counting(&second, 2)).await;
        let why = unavailable(given_up);
        assert!(why.contains("had to wait"), "{why}");
        site.engine.set_delay(None);
    };
    let (taken, ()) = tokio::join!(taken, waiting);
    assert_eq!(taken.unwrap(), 1, "what was taken is waited for");
    assert_eq!(site.committer.submit(counting(&first, 3)).await.unwrap(), 3);
    assert_eq!(second.load(Ordering::Relaxed), 0);
    assert_eq!(site.engine.get_many(&[key(2)]).await.unwrap(), [None]);
}

#[tokio::test(start_paused = true)]
async fn an_intent_with_bytes_that_waits_too_long_is_given_up_and_never_runs() {
    let site = Site::new(CommitLimits::default());
    site.packs.set_stalled(true);
    let waiting = site.deliver(1, b"one");
    let behind = site.deliver(2, b"two");
    let (waiting, behind) = tokio::join!(waiting, behind);
    for given_up in [waiting, behind] {
        let why = unavailable(given_up);
        assert!(why.contains("had to wait"), "{why}");
    }
    site.packs.set_stalled(false);
    let blob = site.deliver(3, b"two").await.unwrap();
    assert!(site.place(blob).await.is_some());
    let links = nightmail_engine::KeyRange::all();
    let order = nightmail_engine::Order::Ascending;
    let links = site.engine.scan(Space::Link, links, order, 10).await;
    assert_eq!(links.unwrap().len(), 1, "only the last was delivered");
}

#[tokio::test(start_paused = true)]
async fn callers_beyond_the_queue_wait_no_longer_than_those_in_it() {
    let site = Site::new(CommitLimits {
        waiting_max: 2,
        ..CommitLimits::default()
    });
    site.engine.set_delay(Some(Duration::from_secs(100)));
    let runs = Arc::default();
    let callers = join_all((0..10).map(|n| site.committer.submit(counting(&runs, n))));
    let asked = tokio::time::Instant::now();
    let answers = callers.await;
    let served = answers.iter().filter(|answer| answer.is_ok()).count();
    assert!((1..=3).contains(&served), "{served} of 10");
    assert!(asked.elapsed() < Duration::from_secs(1000));
    for answer in answers.into_iter().filter(Result::is_err) {
        assert!(unavailable(answer).contains("had to wait"));
    }
}

#[tokio::test(start_paused = true)]
async fn intents_without_bytes_do_not_wait_for_the_heap() {
    let site = Site::new(CommitLimits::default());
    site.packs.set_stalled(true);
    let delivered = site.deliver(1, b"slow bytes");
    let beside = async {
        tokio::task::yield_now().await;
        let runs = Arc::default();
        for n in 0..10 {
            assert_eq!(site.committer.submit(counting(&runs, n)).await.unwrap(), n);
        }
        site.packs.set_stalled(false);
    };
    let (delivered, ()) = tokio::join!(delivered, beside);
    delivered.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_panics_fails_alone() {
    let site = Site::new(CommitLimits::default());
    let runs = Arc::default();
    site.engine.set_delay(Some(Duration::from_millis(10)));
    let first = site.committer.submit(counting(&runs, 0));
    let good = join_all((1..20).map(|n| site.committer.submit(counting(&runs, n))));
    let broken = Intent::<u64, LinkError>::synced(|tx| {
        tx.put(key(100), vec![1]);
        panic!("as a test wants")
    });
    let (first, good, broken) = tokio::join!(first, good, site.committer.submit(broken));
    first.unwrap();
    assert!(good.iter().all(Result::is_ok));
    assert!(unavailable(broken).contains("panicked"));
    assert!(site.engine.stats().commits <= 2, "they were one group");
    assert_eq!(site.engine.get_many(&[key(100)]).await.unwrap(), [None]);
}

#[tokio::test(start_paused = true)]
async fn an_intent_that_asks_for_too_many_rows_fails_alone() {
    let site = Site::new(CommitLimits {
        loads_max: 10,
        ..CommitLimits::default()
    });
    site.engine.set_delay(Some(Duration::from_millis(10)));
    let runs = Arc::default();
    let first = site.committer.submit(counting(&runs, 0));
    let good = site.committer.submit(counting(&runs, 1));
    let greedy = Intent::<u64, LinkError>::synced(|tx| {
        tx.put(key(100), vec![1]);
        for n in 1000.. {
            tx.get(&key(n))?;
        }
        Ok(0)
    });
    let modest = Intent::<u64, LinkError>::synced(|tx| {
        for n in 2000..2009 {
            tx.get(&key(n))?;
        }
        Ok(7)
    });
    let (first, good, greedy, modest) = tokio::join!(
        first,
        good,
        site.committer.submit(greedy),
        site.committer.submit(modest)
    );
    first.unwrap();
    good.unwrap();
    assert!(unavailable(greedy).contains("too many rows"));
    assert_eq!(modest.unwrap(), 7);
    assert_eq!(site.engine.get_many(&[key(100)]).await.unwrap(), [None]);
}

#[tokio::test]
async fn bytes_that_cannot_be_written_fail_those_who_bring_them() {
    let site = Site::new(CommitLimits::default());
    site.packs.set_unavailable(true);
    let runs = Arc::default();
    let with = join_all((1..5).map(|uid| site.deliver(uid, [uid as u8; 10])));
    let without = join_all((0..5).map(|n| site.committer.submit(counting(&runs, n))));
    let (with, without) = tokio::join!(with, without);
    with.into_iter()
        .for_each(|failed| drop(unavailable(failed)));
    assert!(without.iter().all(Result::is_ok));
    site.packs.set_unavailable(false);
    assert!(site.packs.numbers().is_empty());
    site.deliver(9, b"works again").await.unwrap();
    site.packs.set_full(true);
    let full = site.deliver(10, b"more").await;
    assert!(matches!(
        full,
        Err(SubmitError::Store(CommitFailure::Full(_)))
    ));
}

#[tokio::test(start_paused = true)]
async fn bytes_appended_long_ago_are_appended_again_rather_than_named() {
    let site = Site::new(CommitLimits {
        wait_max: Duration::MAX,
        appended_age_max: Duration::from_secs(600),
        ..CommitLimits::default()
    });
    let runs = Arc::default();
    site.engine.set_delay(Some(Duration::from_secs(700)));
    let busy = async {
        let done = site.committer.submit(counting(&runs, 1)).await;
        site.engine.set_delay(None);
        done
    };
    // Its bytes are looked for and stored while the other group is being committed.
    let delivered = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        site.deliver(1, b"bytes").await
    };
    let (busy, blob) = tokio::join!(busy, delivered);
    busy.unwrap();
    let packs = site.packs.numbers();
    assert_eq!(packs.len(), 2);
    let place = site.place(blob.unwrap()).await.unwrap();
    assert_eq!(place.segment, packs[1]);
    let blob = site.deliver(2, b"other bytes").await.unwrap();
    assert_eq!(site.packs.numbers().len(), 3, "and usually once");
    assert!(site.read(blob).await == "other bytes");
}

#[tokio::test(start_paused = true)]
async fn groups_keep_their_bounds_and_everybody_has_a_turn() {
    let site = Site::new(CommitLimits {
        group_intents_max: 4,
        ..CommitLimits::default()
    });
    site.engine.set_delay(Some(Duration::from_millis(1)));
    let runs = Arc::default();
    let with = join_all((1..41).map(|uid| site.deliver(uid, uid.to_be_bytes())));
    let without = join_all((0..40).map(|n| site.committer.submit(counting(&runs, n))));
    let (with, without) = tokio::join!(with, without);
    assert!(with.iter().all(Result::is_ok) && without.iter().all(Result::is_ok));
    let commits = site.engine.stats().commits;
    assert!(
        (20..=30).contains(&commits),
        "{commits} commits of at most 4"
    );
}
