//! Random changes against a plain model of mailboxes, then a full check.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::{BTreeMap, BTreeSet};

use common::{ALICE, World, update};
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq, Timestamp};
use nightmail_store::{FlagOperation, MailboxName, Quota, Snapshot};
use proptest::prelude::*;
use std::sync::Arc;

const BOB: AccountId = AccountId::new(2);

#[derive(Clone, Debug)]
enum Step {
    Append(u8, u8),
    Flag(u8, u8, u8, u8),
    Copy(u8, u8, u8),
    Move(u8, u8, u8),
    Expunge(u8),
    Undelete(u8),
    Purge,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..3u8, any::<u8>()).prop_map(|(mailbox, text)| Step::Append(mailbox, text)),
        4 => (0..3u8, any::<u8>(), 0..3u8, 0..32u8).prop_map(|(m, u, op, f)| Step::Flag(m, u, op, f)),
        2 => (0..3u8, 0..3u8, any::<u8>()).prop_map(|(a, b, u)| Step::Copy(a, b, u)),
        2 => (0..3u8, 0..3u8, any::<u8>()).prop_map(|(a, b, u)| Step::Move(a, b, u)),
        1 => (0..3u8).prop_map(Step::Expunge),
        1 => (0..3u8).prop_map(Step::Undelete),
        1 => Just(Step::Purge),
        1 => Just(Step::Reopen),
    ]
}

#[derive(Default, Clone)]
struct Model {
    next: u32,
    messages: BTreeMap<u32, (u8, String)>,
    /// What was expunged and not purged, by when: the old UIDs.
    expunged: Vec<BTreeMap<u32, (u8, String)>>,
    /// Every UID that left.
    left: BTreeSet<u32>,
}

impl Model {
    fn add(&mut self, flags: u8, text: String) {
        self.next += 1;
        self.messages.insert(self.next, (flags, text));
    }

    fn pick(&self, seed: u8) -> Vec<u32> {
        self.messages
            .keys()
            .copied()
            .filter(|uid| uid % 3 == u32::from(seed) % 3)
            .collect()
    }
}

/// A client's idea of a mailbox, kept up only by what changes report.
struct Watcher {
    snapshot: Arc<Snapshot>,
    flags: BTreeMap<u32, u8>,
}

impl Watcher {
    async fn new(world: &World, mailbox: MailboxId) -> Self {
        let snapshot = world.store.snapshot(mailbox).await.unwrap();
        Self {
            snapshot,
            flags: BTreeMap::new(),
        }
    }

    async fn look(&mut self, world: &World) {
        let changes = world.store.changes(&self.snapshot).await.unwrap();
        for uid in &changes.expunged {
            assert!(self.flags.remove(uid).is_some(), "expunged what was there");
        }
        for change in &changes.changed {
            assert!(self.flags.contains_key(&change.uid));
            self.flags.insert(change.uid, change.flags.bits());
        }
        let new: Vec<u32> = changes
            .snapshot
            .raw_uids()
            .into_iter()
            .filter(|uid| !self.flags.contains_key(uid))
            .collect();
        assert!(
            new.iter()
                .all(|uid| self.flags.keys().next_back().is_none_or(|last| uid > last)),
            "new UIDs come last"
        );
        for (uid, row) in world.store.rows(self.snapshot.mailbox, &new).await.unwrap() {
            self.flags.insert(uid, row.flags.bits());
        }
        self.snapshot = changes.snapshot;
    }
}

async fn apply(world: &mut World, ids: &[MailboxId], models: &mut [Model], step: Step) {
    match step {
        Step::Append(mailbox, text) => {
            let text = format!("Subject: {text}\r\n\r\n");
            let place = usize::from(mailbox);
            let uid = world.append(ids[place], &text).await.unwrap();
            models[place].add(0, text);
            assert_eq!(uid, models[place].next);
        }
        Step::Flag(mailbox, seed, operation, bits) => {
            let place = usize::from(mailbox);
            let uids = models[place].pick(seed);
            let (operation, change): (_, fn(u8, u8) -> u8) = match operation {
                0 => (FlagOperation::Add, |old, new| old | new),
                1 => (FlagOperation::Remove, |old, new| old & !new),
                _ => (FlagOperation::Replace, |_, new| new),
            };
            let flags = Flags::from_bits(bits);
            world
                .store
                .store_flags(
                    ALICE,
                    ids[place],
                    uids.clone(),
                    update(operation, flags, &[]),
                )
                .await
                .unwrap();
            for uid in uids {
                let message = models[place].messages.get_mut(&uid).unwrap();
                message.0 = change(message.0, bits);
            }
        }
        Step::Copy(from, to, seed) => {
            let (from, to) = (usize::from(from), usize::from(to));
            let uids = models[from].pick(seed);
            let copied = world
                .store
                .copy(BOB, Quota::default(), ids[from], ids[to], uids.clone())
                .await
                .unwrap();
            assert_eq!(copied.uids.len(), uids.len());
            transfer(models, from, to, &uids, false);
        }
        Step::Move(from, to, seed) => {
            let (from, to) = (usize::from(from), usize::from(to));
            let uids = models[from].pick(seed);
            world
                .store
                .move_messages(BOB, Quota::default(), ids[from], ids[to], uids.clone())
                .await
                .unwrap();
            transfer(models, from, to, &uids, true);
        }
        Step::Expunge(mailbox) => {
            let place = usize::from(mailbox);
            let all: Vec<u32> = models[place].messages.keys().copied().collect();
            let gone = world.store.expunge(ALICE, ids[place], &all).await.unwrap();
            let deleted = Flags::DELETED.bits();
            let expected: Vec<u32> = models[place]
                .messages
                .iter()
                .filter(|(_, (flags, _))| flags & deleted != 0)
                .map(|(uid, _)| *uid)
                .collect();
            assert_eq!(gone, expected);
            let model = &mut models[place];
            let (gone, stay) = std::mem::take(&mut model.messages)
                .into_iter()
                .partition(|(_, (flags, _))| flags & deleted != 0);
            model.messages = stay;
            let gone: BTreeMap<u32, (u8, String)> = gone;
            model.left.extend(gone.keys());
            model.expunged.push(gone);
        }
        Step::Undelete(mailbox) => undelete(world, ids, models, usize::from(mailbox)).await,
        Step::Purge => {
            world.purge().await;
            models.iter_mut().for_each(|model| model.expunged.clear());
        }
        Step::Reopen => world.reopen(),
    }
}

fn transfer(models: &mut [Model], from: usize, to: usize, uids: &[u32], remove: bool) {
    for uid in uids {
        let (flags, text) = models[from].messages[uid].clone();
        models[to].add(flags, text);
        if remove {
            models[from].messages.remove(uid);
            models[from].left.insert(*uid);
        }
    }
}

async fn undelete(world: &World, ids: &[MailboxId], models: &mut [Model], place: usize) {
    let since = Timestamp::from_millis(0);
    let undeleted = world.store.undelete(ALICE, Some(ids[place]), since).await;
    let model = &mut models[place];
    let mut expunged: BTreeMap<u32, (u8, String)> = BTreeMap::new();
    model
        .expunged
        .drain(..)
        .for_each(|gone| expunged.extend(gone));
    let undeleted = undeleted.unwrap();
    let old: Vec<u32> = undeleted.iter().map(|one| one.old_uid).collect();
    assert_eq!(old, expunged.keys().copied().collect::<Vec<_>>());
    for (one, (flags, text)) in undeleted.iter().zip(expunged.into_values()) {
        model.add(flags & !Flags::DELETED.bits(), text);
        assert_eq!(one.new_uid, model.next);
    }
}

/// Every UID that left is said to have, and no other.
async fn judge_vanished(world: &World, mailbox: MailboxId, model: &Model) {
    let vanished = world.store.vanished(mailbox, ModSeq::new(1)).await;
    let ranges = vanished.unwrap().unwrap();
    assert!(
        ranges.windows(2).all(|two| two[0].1 + 1 < two[1].0),
        "{ranges:?}"
    );
    let uids: BTreeSet<u32> = ranges.iter().flat_map(|(low, high)| *low..=*high).collect();
    assert_eq!(uids, model.left);
}

async fn run(steps: Vec<Step>) {
    let mut world = World::new().await;
    let mut ids = Vec::new();
    for name in ["INBOX", "Archive", "Sent"] {
        ids.push(
            world
                .store
                .lookup(ALICE, &MailboxName::parse(name).unwrap())
                .await
                .unwrap()
                .mailbox,
        );
    }
    // The third mailbox is another account's.
    world.create_account(BOB).await.unwrap();
    ids[2] = world.store.inbox(BOB).await.unwrap();
    let mut models = vec![Model::default(); 3];
    let mut watcher = Watcher::new(&world, ids[0]).await;
    for (index, step) in steps.into_iter().enumerate() {
        apply(&mut world, &ids, &mut models, step).await;
        if index % 3 == 0 {
            watcher.look(&world).await;
        }
    }
    watcher.look(&world).await;
    let watched: Vec<(u32, u8)> = watcher.flags.into_iter().collect();
    let modelled: Vec<(u32, u8)> = models[0]
        .messages
        .iter()
        .map(|(uid, (flags, _))| (*uid, *flags))
        .collect();
    assert_eq!(watched, modelled);
    for (id, model) in ids.iter().zip(&models) {
        let content: Vec<(u32, u8, String)> = world
            .content(*id)
            .await
            .into_iter()
            .map(|(uid, flags, text)| (uid, flags.bits(), text))
            .collect();
        let expected: Vec<(u32, u8, String)> = model
            .messages
            .iter()
            .map(|(uid, (flags, text))| (*uid, *flags, text.clone()))
            .collect();
        assert_eq!(content, expected);
        judge_vanished(&world, *id, model).await;
    }
    world.assert_consistent().await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn mailboxes_do_what_the_model_does(steps in proptest::collection::vec(step(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(run(steps));
    }
}
