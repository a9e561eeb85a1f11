//! Mailboxes as such, quota, keywords, and what is left of bytes that nothing refers to.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::sync::Arc;

use common::{ALICE, World, message, update};
use nightmail_commit::{Compactor, ReclaimOptions, ReclaimReport, Reclaimer, now};
use nightmail_core::Flags;
use nightmail_engine::{Engine, KeyRange, Order, Space};
use nightmail_store::{CheckOptions, FlagOperation, MailboxName, Problem, Quota, StoreError};

fn name(text: &str) -> MailboxName {
    MailboxName::parse(text).unwrap()
}

#[tokio::test]
async fn create_makes_the_mailboxes_above_too() {
    let world = World::new().await;
    world
        .store
        .create_mailbox(ALICE, name("a/b/c"), None)
        .await
        .unwrap();
    for part in ["a", "a/b", "a/b/c"] {
        world.store.lookup(ALICE, &name(part)).await.unwrap();
    }
    let again = world.store.create_mailbox(ALICE, name("a/b"), None).await;
    assert!(matches!(again, Err(StoreError::AlreadyExists)));
}

#[tokio::test]
async fn rename_takes_what_lies_below_along_and_keeps_uids() {
    let world = World::new().await;
    let mailbox = world
        .store
        .create_mailbox(ALICE, name("a/b"), None)
        .await
        .unwrap();
    world.append(mailbox, "one").await.unwrap();
    world
        .store
        .rename_mailbox(ALICE, name("a"), name("x/y"))
        .await
        .unwrap();
    let moved = world.store.status(ALICE, &name("x/y/b")).await.unwrap();
    assert_eq!((moved.mailbox, moved.state.exists), (mailbox, 1));
    assert!(matches!(
        world.store.lookup(ALICE, &name("a/b")).await,
        Err(StoreError::NoSuchMailbox)
    ));
    let into_itself = world
        .store
        .rename_mailbox(ALICE, name("x"), name("x/z"))
        .await;
    assert!(matches!(into_itself, Err(StoreError::CannotRename)));
    world.assert_consistent().await;
}

#[tokio::test]
async fn renaming_inbox_moves_its_messages_and_keeps_it() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    world.append(inbox, "one").await.unwrap();
    world.append(inbox, "two").await.unwrap();
    world
        .store
        .rename_mailbox(ALICE, MailboxName::inbox(), name("Old"))
        .await
        .unwrap();
    assert!(world.content(inbox).await.is_empty());
    let old = world
        .store
        .lookup(ALICE, &name("Old"))
        .await
        .unwrap()
        .mailbox;
    assert_eq!(world.content(old).await.len(), 2);
    world.assert_consistent().await;
}

#[tokio::test]
async fn a_mailbox_made_again_has_a_greater_uidvalidity() {
    let world = World::new().await;
    world
        .store
        .create_mailbox(ALICE, name("Work"), None)
        .await
        .unwrap();
    let before = world.store.status(ALICE, &name("Work")).await.unwrap();
    world.append(before.mailbox, "text").await.unwrap();
    world
        .store
        .delete_mailbox(ALICE, name("Work"))
        .await
        .unwrap();
    world
        .store
        .create_mailbox(ALICE, name("Work"), None)
        .await
        .unwrap();
    let after = world.store.status(ALICE, &name("Work")).await.unwrap();
    assert!(after.state.uid_validity > before.state.uid_validity);
    assert_ne!(after.mailbox, before.mailbox);
    assert_eq!(world.store.usage(ALICE).await.unwrap().messages, 0);
    world.assert_consistent().await;
}

#[tokio::test]
async fn inbox_cannot_be_deleted() {
    let world = World::new().await;
    let refused = world
        .store
        .delete_mailbox(ALICE, MailboxName::inbox())
        .await;
    assert!(matches!(refused, Err(StoreError::CannotDelete)));
}

#[tokio::test]
async fn quota_refuses_what_does_not_fit_and_counts_what_leaves() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let quota = Quota {
        bytes: Some(100),
        messages: Some(2),
        ..Quota::default()
    };
    let small = "0123456789";
    let first = world.append_within(inbox, small, quota).await.unwrap();
    world.append_within(inbox, small, quota).await.unwrap();
    let third = world.append_within(inbox, small, quota).await;
    assert!(matches!(third, Err(StoreError::OverQuota)));
    world.store.remove(ALICE, inbox, &[first]).await.unwrap();
    world.append_within(inbox, small, quota).await.unwrap();
    let copy = world
        .store
        .copy(ALICE, quota, inbox, inbox, vec![2, 3])
        .await;
    assert!(matches!(copy, Err(StoreError::OverQuota)));
    world.assert_consistent().await;
}

#[tokio::test]
async fn keywords_are_kept_per_account_and_compared_without_case() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let uid = world.append(inbox, "text").await.unwrap();
    let add = |words: &[&str]| {
        let change = update(FlagOperation::Add, Flags::SEEN, words);
        world.store.store_flags(ALICE, inbox, vec![uid], change)
    };
    add(&["Work", "$Later"]).await.unwrap();
    let stored = add(&["WORK"]).await.unwrap();
    let (_, row) = stored.rows().next().unwrap();
    assert_eq!(row.keywords.len(), 2);
    let table = world.store.keywords(ALICE).await.unwrap();
    assert_eq!(table.names(), ["Work", "$Later"]);
}

#[tokio::test]
async fn recent_messages_go_to_one_session() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    world.append(inbox, "one").await.unwrap();
    assert_eq!(world.store.take_recent(inbox).await.unwrap(), 1);
    assert_eq!(world.store.take_recent(inbox).await.unwrap(), 2);
}

async fn rows(world: &World, space: Space) -> usize {
    world
        .engine
        .scan(space, KeyRange::prefix(&[]), Order::Ascending, 1000)
        .await
        .unwrap()
        .len()
}

fn reclaimer(world: &World) -> Reclaimer {
    let engine: Arc<dyn Engine> = Arc::clone(&world.engine) as Arc<dyn Engine>;
    Reclaimer::new(
        engine,
        ReclaimOptions {
            grace_millis: 1000,
            blobs_max: 100,
        },
    )
}

#[tokio::test]
async fn the_same_bytes_are_stored_once_and_reclaimed_after_the_last_reference() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    world.append(inbox, "same").await.unwrap();
    world.append(inbox, "same").await.unwrap();
    assert_eq!(
        (
            rows(&world, Space::Blob).await,
            rows(&world, Space::Link).await
        ),
        (1, 2)
    );
    let reclaimer = reclaimer(&world);
    world.store.remove(ALICE, inbox, &[1]).await.unwrap();
    assert_eq!(world.purge().await, 1);
    let kept = reclaimer.run_once(now().plus_millis(2000)).await.unwrap();
    assert_eq!(
        kept,
        ReclaimReport {
            kept: 1,
            ..ReclaimReport::default()
        }
    );
    world.store.remove(ALICE, inbox, &[2]).await.unwrap();
    assert_eq!(world.purge().await, 1);
    let too_soon = reclaimer.run_once(now()).await.unwrap();
    assert_eq!(too_soon, ReclaimReport::default());
    assert_eq!(
        reclaimer
            .run_once(now().plus_millis(2000))
            .await
            .unwrap()
            .condemned,
        1
    );
    assert_eq!(
        reclaimer
            .run_once(now().plus_millis(4000))
            .await
            .unwrap()
            .reclaimed,
        1
    );
    assert_eq!(
        (
            rows(&world, Space::Blob).await,
            rows(&world, Space::BlobMeta).await
        ),
        (0, 0)
    );
    world.assert_consistent().await;
}

#[tokio::test]
async fn bytes_delivered_again_between_the_two_steps_are_kept() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let reclaimer = reclaimer(&world);
    world.append(inbox, "same").await.unwrap();
    world.store.remove(ALICE, inbox, &[1]).await.unwrap();
    world.purge().await;
    assert_eq!(
        reclaimer
            .run_once(now().plus_millis(2000))
            .await
            .unwrap()
            .condemned,
        1
    );
    world.append(inbox, "same").await.unwrap();
    assert_eq!(
        reclaimer
            .run_once(now().plus_millis(4000))
            .await
            .unwrap()
            .kept,
        1
    );
    assert_eq!(
        world.content(inbox).await,
        [(2, Flags::EMPTY, "same".to_owned())]
    );
    world.assert_consistent().await;
}

#[tokio::test]
async fn bytes_reclaimed_while_a_delivery_of_them_waits_are_written_again() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let reclaimer = reclaimer(&world);
    world.append(inbox, "same").await.unwrap();
    world.store.remove(ALICE, inbox, &[1]).await.unwrap();
    world.purge().await;
    reclaimer.run_once(now().plus_millis(2000)).await.unwrap();
    // Slow commits leave room for the second step between the delivery's two stages.
    world
        .engine
        .set_delay(Some(std::time::Duration::from_millis(20)));
    let (appended, reclaimed) = tokio::join!(
        world.append(inbox, "same"),
        reclaimer.run_once(now().plus_millis(4000))
    );
    world.engine.set_delay(None);
    appended.unwrap();
    reclaimed.unwrap();
    assert_eq!(world.content(inbox).await.len(), 1);
    world.assert_consistent().await;
}

#[tokio::test]
async fn compaction_moves_the_living_and_removes_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let options = nightmail_heap::HeapOptions {
        segment_bytes: 64 << 10,
        ..Default::default()
    };
    let heap = nightmail_heap::Heap::open(dir.path(), options).unwrap();
    let mut world = World::new().await;
    world.heap = heap;
    world.reopen();
    let inbox = world.inbox().await;
    let text = |seed: u64| -> String {
        let mut state = seed + 1;
        let mut letter = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from(b'0' + ((state >> 33) % 64) as u8)
        };
        (0..8000).map(|_| letter()).collect()
    };
    for i in 0..60 {
        world.append(inbox, &text(i)).await.unwrap();
    }
    let before: u64 = world.heap.stats().segment_bytes;
    let doomed: Vec<u32> = (1..=60).filter(|uid| uid % 6 != 0).collect();
    world.store.remove(ALICE, inbox, &doomed).await.unwrap();
    world.purge().await;
    let reclaimer = reclaimer(&world);
    reclaimer.run_once(now().plus_millis(2000)).await.unwrap();
    assert_eq!(
        reclaimer
            .run_once(now().plus_millis(4000))
            .await
            .unwrap()
            .reclaimed,
        50
    );
    let mut compactor = Compactor::new(world.store.committer().clone(), 0, 50);
    let report = compactor
        .run_once(now().plus_millis(1000), 100)
        .await
        .unwrap();
    assert!(report.removed > 0 && report.moved > 0, "{report:?}");
    let after: u64 = world.heap.stats().segment_bytes;
    assert!(after < before / 2, "{before} bytes before, {after} after");
    assert_eq!(world.content(inbox).await.len(), 10);
    world.assert_consistent().await;
}

#[tokio::test]
async fn check_names_what_disagrees_and_repair_mends_it() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    world.append(inbox, "one").await.unwrap();
    let mut state = world.store.state(inbox).await.unwrap();
    state.exists = 7;
    let key = nightmail_engine::RowKey {
        space: Space::Mailbox,
        key: inbox.to_be_bytes().to_vec(),
    };
    let write = nightmail_engine::Write {
        key,
        value: Some(state.encode().into()),
    };
    let batch = nightmail_engine::Batch {
        checks: vec![],
        writes: vec![write],
    };
    world
        .engine
        .commit(batch, nightmail_engine::Durability::Synced)
        .await
        .unwrap();
    let report = world
        .store
        .check(CheckOptions {
            read_blobs: false,
            repair: true,
        })
        .await
        .unwrap();
    assert!(
        report
            .problems
            .iter()
            .any(|problem| matches!(problem, Problem::Counters(..))),
        "{report:?}"
    );
    let again = world
        .store
        .check(CheckOptions {
            read_blobs: false,
            repair: true,
        })
        .await
        .unwrap();
    world.assert_consistent().await;
    assert!(again.repaired <= 1);
    assert_eq!(world.store.state(inbox).await.unwrap().exists, 1);
}

#[tokio::test]
async fn a_message_comes_out_as_prefix_and_bytes_in_any_range() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let text: String = (0..600_000)
        .map(|i| char::from(b'a' + (i % 23) as u8))
        .collect();
    let new = message(inbox, text.len());
    let whole = [&new.prefix[..], text.as_bytes()].concat();
    world
        .store
        .append(ALICE, Quota::default(), world.blob(text.as_bytes()), new)
        .await
        .unwrap();
    let (_, row) = world.store.rows(inbox, &[1]).await.unwrap().pop().unwrap();
    assert_eq!(row.size, whole.len() as u64);
    for range in [
        0..row.size,
        10..40,
        33..34,
        34..300_000,
        262_170..262_190,
        row.size..row.size + 5,
        5..5,
    ] {
        let mut reader = nightmail_store::MessageReader::new(
            world.store.clone(),
            &row.prefix,
            row.blob,
            range.clone(),
        );
        let mut read = Vec::new();
        while let Some(chunk) = reader.next_chunk().await.unwrap() {
            read.extend_from_slice(&chunk);
        }
        let end = range.end.min(row.size) as usize;
        assert_eq!(
            read,
            &whole[(range.start as usize).min(end)..end],
            "{range:?}"
        );
    }
}
