//! What must hold once every operation has been answered; and that nothing is left when everything is removed.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use nightmail_commit::{Compactor, now};
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{KeyRange, Order, Space};
use nightmail_store::{CheckOptions, MessageRow, Store};

use super::ledger::{Ledger, Open, Place};
use super::view::View;
use super::world::{LASTING, Node, PASSING, World, brought_by, content, name};

const HOUR_MILLIS: i64 = 3_600_000;
/// More segments than there are.
const SEGMENTS_MAX: usize = 100_000;
/// Runs of the reclaimer until nothing can be left on its list.
const RECLAIMS_MAX: i64 = 500;

/// What is in every mailbox.
struct Census {
    accounts: HashMap<MailboxId, AccountId>,
    rows: BTreeMap<Place, MessageRow>,
}

pub async fn judge(world: &World, views: Vec<View>) {
    calm(world).await;
    let node = world.fresh_node();
    node.store.purge_doomed().await.unwrap();
    let report = node
        .store
        .check(CheckOptions {
            read_blobs: true,
            repair: false,
        })
        .await
        .unwrap();
    assert!(report.problems.is_empty(), "{:#?}", report.problems);
    let census = Census::take(world, &node.store).await;
    census.judge_mailboxes(world, &node.store).await;
    census.judge_messages(&world.ledger.lock());
    census.judge_contents(&node.store).await;
    for view in views {
        judge_view(world, &census, view).await;
    }
    judge_blobs(&node.store).await;
    tear_down(world, &node).await;
    let ledger = world.ledger.lock();
    println!(
        "  {} messages placed, {} removed, {} refused, {} open; {} there at the end",
        ledger.placed.len(),
        ledger.removed.len(),
        ledger.refused.len(),
        ledger.open.len(),
        census.rows.len()
    );
    println!("  meanwhile: {:?}", world.upkeep);
}

/// Ends the faults, those that were to come with them.
async fn calm(world: &World) {
    let Some(faults) = &world.faults else {
        return;
    };
    world.nodes[0]
        .store
        .committer()
        .engine()
        .sync()
        .await
        .unwrap();
    faults.rows.restart(0);
    faults.packs.fail_next(0);
    faults.packs.hide_next_puts(0);
    faults.packs.take_next_numbers(0);
}

impl Census {
    async fn take(world: &World, store: &Store) -> Self {
        let mut census = Self {
            accounts: HashMap::new(),
            rows: BTreeMap::new(),
        };
        for account in &world.accounts {
            for listed in store.list(account.id).await.unwrap() {
                let mailbox = listed.entry.mailbox;
                let twice = census.accounts.insert(mailbox, account.id);
                assert_eq!(twice, None, "mailbox {mailbox} has one name");
                let uids = store.snapshot(mailbox).await.unwrap().raw_uids();
                let rows = store.rows(mailbox, &uids).await.unwrap();
                assert_eq!(rows.len(), uids.len());
                let placed = rows.into_iter().map(|(uid, row)| ((mailbox, uid), row));
                census.rows.extend(placed);
            }
        }
        census
    }

    /// Mailboxes are there as created and not deleted; counters agree with rows, usage with counters and quotas.
    async fn judge_mailboxes(&self, world: &World, store: &Store) {
        for account in &world.accounts {
            let mut validities = BTreeSet::new();
            let (mut bytes, mut messages) = (0, 0);
            for listed in store.list(account.id).await.unwrap() {
                let mailbox = listed.entry.mailbox;
                let state = store.state(mailbox).await.unwrap();
                assert!(validities.insert(state.uid_validity.get()));
                let rows = self.rows.range((mailbox, 0)..=(mailbox, u32::MAX));
                let sizes: Vec<u64> = rows.map(|(_, row)| row.size).collect();
                assert_eq!(state.exists as usize, sizes.len());
                assert_eq!(state.bytes, sizes.iter().sum::<u64>());
                bytes += state.bytes;
                messages += u64::from(state.exists);
            }
            let usage = store.usage(account.id).await.unwrap();
            assert_eq!((usage.bytes, usage.messages), (bytes, messages));
            assert!(account.quota.allows(&usage, 0, 0), "{usage:?}");
            for lasting in LASTING {
                store.lookup(account.id, &name(lasting)).await.unwrap();
            }
        }
        let ledger = world.ledger.lock();
        let open = ledger
            .open
            .iter()
            .any(|open| matches!(open, Open::Mailboxes));
        let created = ledger.created.iter();
        let there = created
            .filter(|made| self.accounts.contains_key(made))
            .count();
        assert!(
            open || there == ledger.created.len() - ledger.deleted,
            "{there} of {} mailboxes, {} deleted",
            ledger.created.len(),
            ledger.deleted
        );
    }

    /// Every message is where the answers put it, and nowhere else.
    fn judge_messages(&self, ledger: &Ledger) {
        for place in ledger.placed.keys() {
            let there = self.rows.contains_key(place);
            let removed = ledger.removed.contains(place) || !self.accounts.contains_key(&place.0);
            assert!(!(there && removed), "{place:?} was removed and is there");
            assert!(
                there || removed || ledger.may_be_gone(*place),
                "{place:?} is lost"
            );
        }
        let mut unannounced: HashMap<(MailboxId, u64), usize> = HashMap::new();
        for (place, row) in &self.rows {
            let (operation, _) = brought_by(&row.prefix);
            assert!(
                !ledger.refused.contains(&operation),
                "{place:?} was refused and is there"
            );
            if ledger.placed.contains_key(place) {
                let told = ledger.operation_at(*place);
                assert!(
                    told.is_none_or(|told| told == operation),
                    "{place:?} is another message"
                );
            } else {
                assert!(
                    ledger.may_appear(place.0, operation),
                    "{place:?} came from nowhere"
                );
                *unannounced.entry((place.0, operation)).or_default() += 1;
            }
            if let Some(stored) = ledger.stored.get(place) {
                assert!(row.modseq >= stored.modseq, "{place:?} went back");
                let same = row.flags == stored.flags && row.keywords == stored.keywords;
                assert!(row.modseq > stored.modseq || same, "{place:?}: {stored:?}");
            }
        }
        for ((mailbox, operation), times) in unannounced {
            let once = times == 1 || ledger.copies_open(mailbox);
            assert!(
                once,
                "operation {operation} took effect {times} times in {mailbox}"
            );
        }
    }

    async fn judge_contents(&self, store: &Store) {
        for (place, row) in &self.rows {
            let (_, number) = brought_by(&row.prefix);
            let bytes = store.read_blob(row.blob).await.unwrap();
            assert!(bytes == content(number), "{place:?} reads as other bytes");
            assert_eq!(row.size, (bytes.len() + row.prefix.len()) as u64);
        }
    }
}

/// A client that asks once more knows everything.
async fn judge_view(world: &World, census: &Census, mut view: View) {
    if !census.accounts.contains_key(&view.mailbox) {
        return;
    }
    for node in &world.nodes {
        assert!(view.look(world, &node.store).await);
        view.compare_all(&node.store).await;
    }
}

/// Every blob has a link or waits to be reclaimed.
async fn judge_blobs(store: &Store) {
    let linked: BTreeSet<Vec<u8>> = keys(store, Space::Link)
        .await
        .map(|key| key[..32].to_vec())
        .collect();
    let listed: BTreeSet<Vec<u8>> = keys(store, Space::Condemned)
        .await
        .map(|key| key[8..].to_vec())
        .collect();
    for blob in keys(store, Space::Blob).await {
        assert!(
            linked.contains(&blob) || listed.contains(&blob),
            "a blob leaks: {blob:?}"
        );
    }
}

async fn keys(store: &Store, space: Space) -> impl Iterator<Item = Vec<u8>> {
    let rows =
        store
            .committer()
            .engine()
            .scan(space, KeyRange::all(), Order::Ascending, usize::MAX);
    rows.await.unwrap().into_iter().map(|(key, _)| key)
}

/// Removes everything; then no row of a message or a blob is left, and no segment but the one being written.
async fn tear_down(world: &World, node: &Node) {
    let store = &node.store;
    for account in &world.accounts {
        for listed in store.list(account.id).await.unwrap() {
            let uids = store
                .snapshot(listed.entry.mailbox)
                .await
                .unwrap()
                .raw_uids();
            store
                .remove(account.id, listed.entry.mailbox, &uids)
                .await
                .unwrap();
            if PASSING.contains(&listed.name.as_str()) {
                store.delete_mailbox(account.id, listed.name).await.unwrap();
            }
        }
        let usage = store.usage(account.id).await.unwrap();
        assert_eq!((usage.bytes, usage.messages), (0, 0));
    }
    let purged = store.purge_expunged(now(), Duration::ZERO, usize::MAX);
    purged.await.unwrap();
    for run in 1..=RECLAIMS_MAX {
        let later = now().plus_millis(run * HOUR_MILLIS);
        node.reclaimer.run_once(later).await.unwrap();
        if keys(store, Space::Condemned).await.count() == 0 {
            break;
        }
    }
    for space in [
        Space::Message,
        Space::Link,
        Space::Blob,
        Space::BlobMeta,
        Space::Condemned,
    ] {
        assert_eq!(keys(store, space).await.count(), 0, "rows of {space}");
    }
    let blocks = keys(store, Space::Mark).await.count();
    assert_eq!(keys(store, Space::Change).await.count(), blocks);
    let mut compactor = Compactor::new(store.committer().clone(), 0, 101);
    let later = now().plus_millis(HOUR_MILLIS);
    compactor.run_once(later, SEGMENTS_MAX).await.unwrap();
    assert_eq!(compactor.reclaimable(), 0);
    let left = store.heap().segments(None, usize::MAX).await.unwrap();
    // The segment file that is being written stays.
    let stays = usize::from(!store.heap().is_packed());
    assert!(left.len() <= stays, "{left:?}");
}
