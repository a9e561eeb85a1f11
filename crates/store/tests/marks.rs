//! What becomes of messages: blocks, snapshots of them, what vanished, what is brought back and what is purged.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::{ALICE, World, message, update};
use nightmail_commit::{Intent, NewBlob, now};
use nightmail_core::codec::RowWriter;
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq, Timestamp};
use nightmail_engine::{Batch, Durability, Engine, KeyRange, Order, RowKey, Space};
use nightmail_store::{
    CheckOptions, FlagOperation, FlagUpdate, MailboxName, MarksProblem, Problem, Quota, StoreError,
    tx,
};

const BOB: AccountId = AccountId::new(2);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

async fn fill(world: &World, mailbox: MailboxId, messages: usize) {
    for step in vec![(); messages].chunks(2000) {
        let count = step.len();
        let blob: NewBlob = world.blob(b"the same for all");
        let intent = Intent::synced(move |t| {
            for _ in 0..count {
                tx::append(t, Quota::default(), 0, &message(mailbox, 16))?;
            }
            Ok(())
        });
        let done = world
            .store
            .committer()
            .submit::<(), StoreError>(intent.with_blob(blob));
        done.await.unwrap();
    }
}

async fn store(world: &World, mailbox: MailboxId, uids: &[u32], flags: Flags) {
    let change = update(FlagOperation::Add, flags, &[]);
    world
        .store
        .store_flags(ALICE, mailbox, uids.to_vec(), change)
        .await
        .unwrap();
}

async fn rows(world: &World, space: Space) -> Vec<(Vec<u8>, Bytes)> {
    world
        .engine
        .scan(space, KeyRange::all(), Order::Ascending, usize::MAX)
        .await
        .unwrap()
}

async fn write(world: &World, batch: Batch) {
    world
        .engine
        .commit(batch, Durability::Synced)
        .await
        .unwrap();
}

/// A mailbox large enough that several tasks read it, with changes and gaps.
#[tokio::test]
async fn a_large_mailbox_is_read_whole_and_kept_up_to_date() {
    let mut world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 40_000).await;
    let all: Vec<u32> = (1..=40_000).collect();
    store(&world, inbox, &all, Flags::SEEN).await;
    let sevens: Vec<u32> = all.iter().copied().filter(|uid| uid % 7 == 0).collect();
    store(&world, inbox, &sevens, Flags::DELETED).await;
    let gone = world.store.expunge(ALICE, inbox, &all).await.unwrap();
    assert_eq!(gone, sevens);
    let left: Vec<u32> = all.iter().copied().filter(|uid| uid % 7 != 0).collect();
    for _ in 0..2 {
        let snapshot = world.store.snapshot(inbox).await.unwrap();
        assert_eq!(snapshot.raw_uids(), left);
        let marks: Vec<u32> = snapshot
            .marks(0..=u32::MAX)
            .map(|(uid, _)| uid.get())
            .collect();
        assert_eq!(marks, left);
        assert!(
            snapshot
                .marks(0..=u32::MAX)
                .all(|(_, mark)| mark.flags == Flags::SEEN)
        );
        assert!(snapshot.mark(7).is_none() && snapshot.mark(40_001).is_none());
        assert_eq!(snapshot.first_unseen(), None);
        // Once more from the rows alone.
        world.reopen();
    }
    assert_eq!(rows(&world, Space::Mark).await.len(), 157);
    world.assert_consistent().await;
}

#[tokio::test]
async fn a_change_of_a_whole_mailbox_is_a_row_for_256_messages() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 1000).await;
    assert!(
        rows(&world, Space::Change).await.is_empty(),
        "delivery marks nothing"
    );
    let uids: Vec<u32> = (1..=1000).collect();
    for flags in [Flags::SEEN, Flags::FLAGGED] {
        store(&world, inbox, &uids, flags).await;
        let blocks = rows(&world, Space::Mark).await;
        assert_eq!(blocks.len(), 4);
        assert!(blocks.iter().all(|(_, block)| block.len() < 16));
        assert_eq!(rows(&world, Space::Change).await.len(), 4);
    }
    world.assert_consistent().await;
}

#[tokio::test]
async fn what_changed_since_is_left_alone() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 5).await;
    let before = world.store.state(inbox).await.unwrap().highest_modseq;
    store(&world, inbox, &[2, 4], Flags::SEEN).await;
    let change = FlagUpdate {
        unchanged_since: Some(before),
        ..update(FlagOperation::Replace, Flags::DRAFT, &[])
    };
    let stored = world
        .store
        .store_flags(ALICE, inbox, vec![1, 2, 3, 4, 5, 6], change)
        .await
        .unwrap();
    assert_eq!(stored.modified, [2, 4]);
    let changed: Vec<u32> = stored.rows().flat_map(|(uids, _)| uids).collect();
    assert_eq!(changed, [1, 3, 5]);
    let flags: Vec<Flags> = world
        .content(inbox)
        .await
        .into_iter()
        .map(|row| row.1)
        .collect();
    let (draft, seen) = (Flags::DRAFT, Flags::SEEN);
    assert_eq!(flags, [draft, seen, draft, seen, draft]);
}

#[tokio::test]
async fn neighbours_that_fared_alike_are_told_as_one_and_kept_as_each_alone() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 600).await;
    let some: Vec<u32> = (1..=600).filter(|uid| uid % 100 == 0).collect();
    store(&world, inbox, &some, Flags::FLAGGED).await;
    let named: Vec<u32> = (1..=600).filter(|uid| !(40..50).contains(uid)).collect();
    let change = update(FlagOperation::Add, Flags::FLAGGED, &[]);
    let stored = world
        .store
        .store_flags(ALICE, inbox, named, change)
        .await
        .unwrap();
    assert_eq!(stored.found(), 590);
    let told: Vec<_> = stored
        .rows()
        .map(|(uids, row)| (uids, row.flags, row.changed))
        .collect();
    let (new, old) = (true, false);
    let expected = [
        (1..=39, new),
        (50..=99, new),
        (100..=100, old),
        (101..=199, new),
        (200..=200, old),
        (201..=299, new),
        (300..=300, old),
        (301..=399, new),
        (400..=400, old),
        (401..=499, new),
        (500..=500, old),
        (501..=599, new),
        (600..=600, old),
    ];
    assert_eq!(
        told,
        expected.map(|(uids, changed)| (uids, Flags::FLAGGED, changed))
    );
    for (uid, flags, _) in world.content(inbox).await {
        let flagged = flags.contains(Flags::FLAGGED);
        assert_eq!(flagged, !(40..50).contains(&uid), "{uid}");
    }
    world.assert_consistent().await;
}

#[tokio::test]
async fn what_vanished_is_told_since_any_moment() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 10).await;
    let start = world.store.state(inbox).await.unwrap().highest_modseq;
    world.store.remove(ALICE, inbox, &[2, 3, 9]).await.unwrap();
    let middle = world.store.state(inbox).await.unwrap().highest_modseq;
    world.store.remove(ALICE, inbox, &[4, 7]).await.unwrap();
    let vanished = async |since| world.store.vanished(inbox, since).await.unwrap();
    assert_eq!(vanished(start).await.unwrap(), [(2, 4), (7, 7), (9, 9)]);
    assert_eq!(vanished(middle).await.unwrap(), [(4, 4), (7, 7)]);
    assert_eq!(vanished(middle.next()).await.unwrap(), []);
    assert_eq!(vanished(ModSeq::new(0)).await, None, "before the log began");
    world.purge().await;
    assert_eq!(vanished(start).await.unwrap(), [(2, 4), (7, 7), (9, 9)]);
}

#[tokio::test]
async fn what_was_expunged_comes_back_once_and_within_its_window() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    for text in ["one", "two", "three", "four"] {
        world.append(inbox, text).await.unwrap();
    }
    let change = update(
        FlagOperation::Add,
        Flags::FLAGGED | Flags::DELETED,
        &["Work"],
    );
    world
        .store
        .store_flags(ALICE, inbox, vec![2, 3], change)
        .await
        .unwrap();
    world
        .store
        .expunge(ALICE, inbox, &[1, 2, 3, 4])
        .await
        .unwrap();
    assert_eq!(world.store.usage(ALICE).await.unwrap().messages, 2);
    let purge = world.store.purge_expunged(now(), WEEK, 100);
    assert_eq!(purge.await.unwrap(), 0, "it is too soon");
    let later = now().plus_millis(1000);
    let none = world.store.undelete(ALICE, None, later).await.unwrap();
    assert!(none.is_empty(), "nothing was expunged since then");
    let since = Timestamp::from_millis(0);
    let back = world.store.undelete(ALICE, None, since).await.unwrap();
    let uids: Vec<(u32, u32)> = back.iter().map(|one| (one.old_uid, one.new_uid)).collect();
    assert_eq!(uids, [(2, 5), (3, 6)]);
    assert!(
        world
            .store
            .undelete(ALICE, None, since)
            .await
            .unwrap()
            .is_empty()
    );
    let content = world.content(inbox).await;
    assert_eq!(content[2], (5, Flags::FLAGGED, "two".to_owned()));
    assert_eq!(content[3], (6, Flags::FLAGGED, "three".to_owned()));
    let row = world
        .store
        .rows(inbox, &[5])
        .await
        .unwrap()
        .pop()
        .unwrap()
        .1;
    assert_eq!(row.keywords.len(), 1);
    world.assert_consistent().await;
    world.store.remove(ALICE, inbox, &[5]).await.unwrap();
    let purge = world
        .store
        .purge_expunged(now().plus_millis(7 * 24 * 3_600_001), WEEK, 100);
    assert!(purge.await.unwrap() > 0);
    assert!(
        world
            .store
            .undelete(ALICE, None, since)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(rows(&world, Space::Message).await.len(), 3);
    world.assert_consistent().await;
}

#[tokio::test]
async fn what_was_moved_does_not_come_back_and_is_purged_without_waiting() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    let name = MailboxName::parse("Archive").unwrap();
    let archive = world.store.lookup(ALICE, &name).await.unwrap().mailbox;
    fill(&world, inbox, 3).await;
    let moved = world
        .store
        .move_messages(ALICE, Quota::default(), inbox, archive, vec![1, 3])
        .await
        .unwrap();
    assert_eq!(moved.uids, [(1, 1), (3, 2)]);
    let since = Timestamp::from_millis(0);
    assert!(
        world
            .store
            .deleted(ALICE, None, since)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        world.store.purge_expunged(now(), WEEK, 100).await.unwrap(),
        2
    );
    assert_eq!(rows(&world, Space::Message).await.len(), 3);
    world.assert_consistent().await;
}

#[tokio::test]
async fn a_copy_to_another_account_counts_there_and_takes_its_keywords_along() {
    let world = World::new().await;
    world.create_account(BOB).await.unwrap();
    let (inbox, theirs) = (world.inbox().await, world.store.inbox(BOB).await.unwrap());
    fill(&world, inbox, 2).await;
    let add = |account, mailbox, uid, words: &[&str]| {
        let change = update(FlagOperation::Add, Flags::EMPTY, words);
        world.store.store_flags(account, mailbox, vec![uid], change)
    };
    add(ALICE, inbox, 1, &["Work", "later"]).await.unwrap();
    fill(&world, theirs, 1).await;
    add(BOB, theirs, 1, &["LATER"]).await.unwrap();
    let tight = Quota {
        messages: Some(2),
        ..Quota::default()
    };
    let over = world
        .store
        .copy(BOB, tight, inbox, theirs, vec![1, 2])
        .await;
    assert!(matches!(over, Err(StoreError::OverQuota)));
    let moved = world
        .store
        .move_messages(BOB, tight, inbox, theirs, vec![1])
        .await;
    assert_eq!(moved.unwrap().uids, [(1, 2)]);
    let table = world.store.keywords(BOB).await.unwrap();
    assert_eq!(table.names(), ["LATER", "Work"]);
    let row = world
        .store
        .rows(theirs, &[2])
        .await
        .unwrap()
        .pop()
        .unwrap()
        .1;
    let words: Vec<&str> = row
        .keywords
        .iter()
        .filter_map(|id| table.name(*id))
        .collect();
    assert_eq!(words, ["LATER", "Work"]);
    assert_eq!(world.store.usage(ALICE).await.unwrap().messages, 1);
    assert_eq!(world.store.usage(BOB).await.unwrap().messages, 2);
    world.assert_consistent().await;
}

/// A store as the first version left it: flags in the rows, a change row for each message, a digest with sizes.
#[tokio::test]
async fn rows_of_the_first_version_are_read_and_changed() {
    let mut world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 3).await;
    let state = world.store.state(inbox).await.unwrap();
    let mut batch = Batch::new();
    for (key, row) in rows(&world, Space::Message).await {
        let uid = u32::from_be_bytes(*key.last_chunk().unwrap());
        let mut row = row.to_vec();
        let modseq = 10 + u64::from(uid);
        row[1..9].copy_from_slice(&modseq.to_be_bytes());
        row[17] = Flags::SEEN.bits();
        batch.put(RowKey::new(Space::Message, key), row);
        let change = [
            &inbox.to_be_bytes()[..],
            &modseq.to_be_bytes(),
            &uid.to_be_bytes(),
        ]
        .concat();
        batch.put(RowKey::new(Space::Change, change), vec![1]);
    }
    let mut old = RowWriter::new(1);
    old.u64(ALICE.get()).u32(state.uid_validity.get()).u32(4);
    old.u32(3).u32(0).u32(0).u64(state.bytes);
    old.u64(13).u64(1).u32(1).u64(0xdead_beef);
    let key = RowKey::new(Space::Mailbox, inbox.to_be_bytes().to_vec());
    batch.put(key, old.finish());
    write(&world, batch).await;
    world.reopen();
    world.assert_consistent().await;
    let snapshot = world.store.snapshot(inbox).await.unwrap();
    let marks: Vec<(u32, u64)> = snapshot
        .marks(0..=9)
        .map(|(uid, mark)| (uid.get(), mark.modseq.get()))
        .collect();
    assert_eq!(marks, [(1, 11), (2, 12), (3, 13)]);
    assert!(world.store.state(inbox).await.unwrap().digest.is_some());
    store(&world, inbox, &[2], Flags::FLAGGED).await;
    world.store.remove(ALICE, inbox, &[3]).await.unwrap();
    world.store.purge_doomed().await.unwrap();
    assert_eq!(rows(&world, Space::Change).await.len(), 1);
    let flags: Vec<Flags> = world
        .content(inbox)
        .await
        .into_iter()
        .map(|row| row.1)
        .collect();
    assert_eq!(flags, [Flags::SEEN, Flags::SEEN | Flags::FLAGGED]);
    world.assert_consistent().await;
}

#[tokio::test]
async fn check_finds_blocks_that_disagree_and_repair_mends_them() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 300).await;
    store(&world, inbox, &[1, 2, 299], Flags::SEEN).await;
    let index = rows(&world, Space::Change).await.pop().unwrap().0;
    let message = rows(&world, Space::Message).await.remove(1).0;
    let mut batch = Batch::new();
    batch.delete(RowKey::new(Space::Change, index));
    batch.delete(RowKey::new(Space::Message, message));
    write(&world, batch).await;
    let check = async |repair| {
        let options = CheckOptions {
            read_blobs: false,
            repair,
        };
        world.store.check(options).await.unwrap()
    };
    let report = check(true).await;
    for problem in [
        Problem::Marks(inbox, 1, MarksProblem::Index),
        Problem::Marks(inbox, 0, MarksProblem::NoRow(2)),
    ] {
        assert!(report.problems.contains(&problem), "{report:#?}");
    }
    let counters = |problem: &Problem| matches!(problem, Problem::Counters(..));
    assert!(report.problems.iter().any(counters), "{report:#?}");
    // Usage is counted from counters that are mended first.
    check(true).await;
    world.assert_consistent().await;
    assert_eq!(world.store.snapshot(inbox).await.unwrap().uids.len(), 299);
}

/// A database that failed over may have lost the last changes of flags, which were not synced, and give out their
/// modification sequences again.
#[tokio::test]
async fn changes_that_the_engine_lost_are_forgotten() {
    let world = World::new().await;
    let inbox = world.inbox().await;
    fill(&world, inbox, 3).await;
    let saved = rows(&world, Space::Mailbox).await;
    store(&world, inbox, &[1, 2], Flags::SEEN).await;
    world.store.snapshot(inbox).await.unwrap();
    let mut batch = Batch::new();
    for space in [Space::Mark, Space::Change] {
        for (key, _) in rows(&world, space).await {
            batch.delete(RowKey::new(space, key));
        }
    }
    for (key, row) in saved {
        batch.put(RowKey::new(Space::Mailbox, key), row);
    }
    write(&world, batch).await;
    // Another node goes on from there.
    let other = common::open(&world.engine, &world.heap);
    let change = update(FlagOperation::Add, Flags::FLAGGED, &[]);
    other
        .store_flags(ALICE, inbox, vec![3], change)
        .await
        .unwrap();
    let snapshot = world.store.snapshot(inbox).await.unwrap();
    let flags: Vec<Flags> = snapshot.marks(0..=9).map(|(_, mark)| mark.flags).collect();
    assert_eq!(flags, [Flags::EMPTY, Flags::EMPTY, Flags::FLAGGED]);
    world.assert_consistent().await;
}
