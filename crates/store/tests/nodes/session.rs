//! One session: an account's client, the delivery of mail, and some upkeep, on a node of its own.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use nightmail_commit::{Intent, now};
use nightmail_core::{Flags, MailboxId, ModSeq, Timestamp};
use nightmail_store::{
    CheckOptions, Copied, FlagOperation, FlagUpdate, Quota, Store, StoreError, append_reads, tx,
};

use super::ground::Faults;
use super::ledger::{Ledger, Open, Origin};
use super::random::Random;
use super::view::{View, snapshot};
use super::world::{
    Account, LASTING, Node, PASSING, World, brought_by, content, name, new_blob, new_message,
};

pub struct Session {
    world: Arc<World>,
    random: Random,
    node: usize,
    account: usize,
    view: Option<View>,
}

/// Contents that many messages share.
const SHARED: usize = 8;
/// Reads of a message that is there but just being moved.
const READS_MAX: usize = 50;

impl Session {
    pub fn new(world: &Arc<World>, node: usize, random: Random) -> Self {
        let mut random = random;
        Self {
            account: random.below(world.accounts.len()),
            world: Arc::clone(world),
            random,
            node,
            view: None,
        }
    }

    /// Does `steps` random things and hands out what this client believes in the end.
    pub async fn run(mut self, steps: usize) -> Option<View> {
        for _ in 0..steps {
            let world = Arc::clone(&self.world);
            let _flight = world.flights.begin();
            Box::pin(self.step()).await;
        }
        self.view
    }

    async fn step(&mut self) {
        match self.random.below(100) {
            0..17 => self.deliver().await,
            17..26 => self.append().await,
            26..42 => self.store_flags().await,
            42..49 => self.copy().await,
            49..57 => self.move_messages().await,
            57..63 => self.expunge().await,
            63..68 => self.remove().await,
            68..74 => self.change_mailboxes().await,
            74..86 => self.look().await,
            86..92 => self.read().await,
            92..96 => self.reclaim().await,
            96..97 => self.compact().await,
            97..98 => match self.random.percent(50) {
                true => self.purge().await,
                false => self.undelete().await,
            },
            98..99 => self.check().await,
            _ => self.break_something(),
        }
    }

    fn here(&self) -> &Node {
        &self.world.nodes[self.node]
    }

    fn account(&self) -> &Account {
        &self.world.accounts[self.account]
    }

    fn anywhere(&mut self) -> Store {
        self.world.store(&mut self.random).clone()
    }

    /// A mailbox of the account, and whether it may go.
    async fn mailbox(&mut self) -> Option<(MailboxId, bool)> {
        let passing = self.random.percent(30);
        let text = match passing {
            true => self.random.pick(&PASSING),
            false => self.random.pick(&LASTING),
        };
        let store = self.anywhere();
        match store.lookup(self.account().id, &name(text)).await {
            Ok(entry) => Some((entry.mailbox, passing)),
            Err(StoreError::NoSuchMailbox) if passing => None,
            Err(error) => panic!("{text}: {error}"),
        }
    }

    /// A mailbox and some of its messages, as seen from any node.
    async fn messages(&mut self, most: usize) -> Option<(MailboxId, bool, Vec<u32>)> {
        let (mailbox, passing) = self.mailbox().await?;
        let store = self.anywhere();
        let seen = snapshot(&self.world, &store, mailbox, passing).await?;
        let uids = self.random.some(&seen.raw_uids(), most);
        (!uids.is_empty()).then_some((mailbox, passing, uids))
    }

    fn content_number(&mut self, operation: u64) -> u64 {
        match self.random.percent(40) {
            true => self.random.below(SHARED) as u64,
            false => 1000 + operation,
        }
    }

    /// One message to the inboxes of one to four accounts, in one step.
    async fn deliver(&mut self) {
        let world = Arc::clone(&self.world);
        let operation = world.operation();
        let number = self.content_number(operation);
        let bytes = content(number);
        let targets: Vec<(Quota, _)> = self
            .random
            .some(
                &(0..world.accounts.len()).collect::<Vec<_>>(),
                world.accounts.len(),
            )
            .into_iter()
            .map(|place| &world.accounts[place])
            .map(|to| {
                (
                    to.quota,
                    new_message(to.inbox, operation, number, bytes.len()),
                )
            })
            .collect();
        let mailboxes: Vec<MailboxId> = targets.iter().map(|(_, new)| new.mailbox).collect();
        let reads = world
            .accounts
            .iter()
            .filter(|to| mailboxes.contains(&to.inbox))
            .flat_map(|to| append_reads(to.id, to.inbox));
        let store = &self.here().store;
        let intent = Intent::synced(move |t| {
            let mut appended = Vec::new();
            for (quota, message) in &targets {
                appended.push(tx::append(t, *quota, 0, message)?);
            }
            Ok(appended)
        });
        let intent = intent
            .with_blob(new_blob(store.heap(), &bytes))
            .reading(reads);
        let answer = store.committer().submit(intent).await;
        let mut ledger = world.ledger.lock();
        match answer.map_err(StoreError::from) {
            Ok(appended) => {
                for (mailbox, appended) in mailboxes.into_iter().zip(appended) {
                    ledger.place((mailbox, appended.uid.get()), Origin::Brought(operation));
                    ledger.claim(mailbox, appended.modseq, operation);
                }
            }
            Err(error) => not_brought(&world, &mut ledger, error, operation, mailboxes, false),
        }
    }

    async fn append(&mut self) {
        let Some((mailbox, passing)) = self.mailbox().await else {
            return;
        };
        let operation = self.world.operation();
        let number = self.content_number(operation);
        let bytes = content(number);
        let store = &self.here().store;
        let blob = new_blob(store.heap(), &bytes);
        let message = new_message(mailbox, operation, number, bytes.len());
        let Account { id, quota, .. } = *self.account();
        let answer = store.append(id, quota, blob, message).await;
        let mut ledger = self.world.ledger.lock();
        match answer {
            Ok(appended) => {
                ledger.place((mailbox, appended.uid.get()), Origin::Brought(operation));
                ledger.claim(mailbox, appended.modseq, operation);
            }
            Err(error) => {
                not_brought(
                    &self.world,
                    &mut ledger,
                    error,
                    operation,
                    vec![mailbox],
                    passing,
                );
            }
        }
    }

    async fn store_flags(&mut self) {
        let Some((mailbox, passing, uids)) = self.messages(5).await else {
            return;
        };
        let operation = self.world.operation();
        let change = [
            FlagOperation::Add,
            FlagOperation::Remove,
            FlagOperation::Replace,
        ];
        let change = self.random.pick(&change);
        let flags = Flags::from_bits(self.random.next() as u8);
        let unchanged_since = self.random.percent(20).then(|| {
            let floor = self.world.ledger.lock().floor(mailbox);
            ModSeq::new(
                floor
                    .modseq
                    .get()
                    .saturating_sub(self.random.below(4) as u64),
            )
        });
        let keywords: Vec<String> = match self.random.percent(40) {
            true => self
                .random
                .some(&["$Junk", "Work", "later", "WORK", "x"], 3)
                .iter()
                .map(|word| (*word).to_owned())
                .collect(),
            false => Vec::new(),
        };
        let store = &self.here().store;
        let id = self.account().id;
        let update = FlagUpdate {
            operation: change,
            flags,
            keywords,
            unchanged_since,
        };
        match store.store_flags(id, mailbox, uids, update).await {
            Ok(stored) => {
                assert!(unchanged_since.is_some() || stored.modified.is_empty());
                let mut ledger = self.world.ledger.lock();
                for (uids, stored) in stored.rows() {
                    if stored.changed {
                        ledger.claim(mailbox, stored.modseq, operation);
                    }
                    ledger.store(mailbox, uids, stored);
                }
            }
            Err(error) => self.excuse(&error, passing),
        }
    }

    /// Where copies go: mostly to a mailbox of the same account.
    async fn target(&mut self) -> Option<(Account, MailboxId, bool)> {
        if self.random.percent(20) {
            let world = Arc::clone(&self.world);
            let to = &world.accounts[self.random.below(world.accounts.len())];
            return Some((*to, to.inbox, false));
        }
        let (mailbox, passing) = self.mailbox().await?;
        Some((*self.account(), mailbox, passing))
    }

    async fn copy(&mut self) {
        let Some((source, from_passing, uids)) = self.messages(4).await else {
            return;
        };
        let Some((Account { id, quota, .. }, target, to_passing)) = self.target().await else {
            return;
        };
        let copied = self
            .here()
            .store
            .copy(id, quota, source, target, uids)
            .await;
        match copied {
            Ok(copied) => enter_copies(&mut self.world.ledger.lock(), source, target, &copied),
            Err(StoreError::OverQuota) => assert_ne!(quota, Quota::default()),
            Err(error) => {
                self.leave_open(&error, from_passing || to_passing, Open::Copied { target });
            }
        }
    }

    async fn move_messages(&mut self) {
        let Some((source, from_passing, uids)) = self.messages(4).await else {
            return;
        };
        let Some((Account { id, quota, .. }, target, to_passing)) = self.target().await else {
            return;
        };
        let store = &self.here().store;
        let moved = store.move_messages(id, quota, source, target, uids.clone());
        match moved.await {
            Err(StoreError::OverQuota) => assert_ne!(quota, Quota::default()),
            Ok(moved) => {
                let mut ledger = self.world.ledger.lock();
                enter_copies(&mut ledger, source, target, &moved);
                for (from, _) in &moved.uids {
                    ledger.remove((source, *from));
                }
            }
            Err(error) => {
                let open = Open::Moved {
                    source,
                    target,
                    uids,
                };
                self.leave_open(&error, from_passing || to_passing, open);
            }
        }
    }

    async fn expunge(&mut self) {
        let Some((source, passing, uids)) = self.messages(50).await else {
            return;
        };
        let id = self.account().id;
        let gone = self.here().store.expunge(id, source, &uids).await;
        self.enter_removal(source, passing, uids, gone);
    }

    /// As POP3 removes at its end.
    async fn remove(&mut self) {
        let Some((source, passing, uids)) = self.messages(30).await else {
            return;
        };
        let id = self.account().id;
        let gone = self.here().store.remove(id, source, &uids).await;
        self.enter_removal(source, passing, uids, gone);
    }

    fn enter_removal(
        &self,
        source: MailboxId,
        passing: bool,
        uids: Vec<u32>,
        gone: Result<Vec<u32>, StoreError>,
    ) {
        match gone {
            Ok(gone) => {
                assert!(gone.is_sorted() && gone.iter().all(|uid| uids.contains(uid)));
                let mut ledger = self.world.ledger.lock();
                gone.into_iter()
                    .for_each(|uid| ledger.remove((source, uid)));
            }
            Err(error) => {
                self.leave_open(&error, passing, Open::Removed { source, uids });
            }
        }
    }

    async fn change_mailboxes(&mut self) {
        let (old, new) = (self.random.pick(&PASSING), self.random.pick(&PASSING));
        let id = self.account().id;
        let store = self.here().store.clone();
        let done = match self.random.below(5) {
            0..2 => store.create_mailbox(id, name(old), None).await.map(|made| {
                let new = self.world.ledger.lock().created.insert(made);
                assert!(new, "mailbox id {made} given out twice");
            }),
            2 => store.delete_mailbox(id, name(old)).await.map(|()| {
                self.world.ledger.lock().deleted += 1;
            }),
            _ => store.rename_mailbox(id, name(old), name(new)).await,
        };
        match done {
            Ok(()) | Err(StoreError::AlreadyExists | StoreError::NoSuchMailbox) => {}
            Err(error) => {
                self.leave_open(&error, false, Open::Mailboxes);
            }
        }
    }

    async fn look(&mut self) {
        let store = self.anywhere();
        let other = self.random.percent(8);
        match self.view.take().filter(|_| !other) {
            Some(mut view) => {
                if view.look(&self.world, &store).await {
                    let other = self.anywhere();
                    view.compare(&self.world, &other).await;
                    self.view = Some(view);
                }
            }
            None => {
                let Some((mailbox, passing)) = self.mailbox().await else {
                    return;
                };
                self.view = View::open(&self.world, &store, mailbox, passing).await;
            }
        }
        let id = self.account().id;
        let known = self.world.ledger.lock().keywords.get(&id).cloned();
        let keywords = store.keywords(id).await.unwrap();
        assert!(keywords.names().len() >= known.map_or(0, |known| known.len()));
        self.world.ledger.lock().see_keywords(id, keywords.names());
        let usage = store.usage(id).await.unwrap();
        assert!(
            self.account().quota.allows(&usage, 0, 0),
            "over quota: {usage:?}"
        );
    }

    /// A message that is there reads as what it is, whatever compaction does meanwhile.
    async fn read(&mut self) {
        let Some((mailbox, _, uids)) = self.messages(1).await else {
            return;
        };
        let mut last = None;
        for _ in 0..READS_MAX {
            let store = self.anywhere();
            let Some((_, row)) = store.rows(mailbox, &uids).await.unwrap().pop() else {
                return;
            };
            match store.read_blob(row.blob).await {
                Ok(bytes) => {
                    let (_, number) = brought_by(&row.prefix);
                    assert!(bytes == content(number), "mailbox {mailbox} UID {uids:?}");
                    return;
                }
                Err(error) => last = Some(error),
            }
        }
        panic!("mailbox {mailbox} UID {uids:?} is there and cannot be read: {last:?}");
    }

    async fn reclaim(&mut self) {
        let soon = now().plus_millis(1);
        match self.here().reclaimer.run_once(soon).await {
            Ok(report) => {
                let upkeep = &self.world.upkeep;
                upkeep.reclaimed.fetch_add(report.reclaimed, Relaxed);
                upkeep.contended.fetch_add(report.contended, Relaxed);
            }
            Err(error) => self.excuse(&error.into(), false),
        }
    }

    async fn purge(&mut self) {
        let store = &self.here().store;
        match store.purge_expunged(now(), Duration::ZERO, 100).await {
            Ok(purged) => {
                let upkeep = &self.world.upkeep;
                upkeep.purged.fetch_add(purged as u64, Relaxed);
            }
            Err(error) => self.excuse(&error, false),
        }
    }

    /// Brings back what was expunged from a mailbox that stays; only where no quota may be exceeded by that.
    async fn undelete(&mut self) {
        let Account { id, quota, inbox } = *self.account();
        if quota != Quota::default() {
            return;
        }
        let since = Timestamp::from_millis(0);
        match self.here().store.undelete(id, Some(inbox), since).await {
            Ok(undeleted) => {
                let mut ledger = self.world.ledger.lock();
                for one in &undeleted {
                    let origin = Origin::CopyOf((one.mailbox, one.old_uid));
                    ledger.place((one.mailbox, one.new_uid), origin);
                }
                let upkeep = &self.world.upkeep;
                upkeep.undeleted.fetch_add(undeleted.len() as u64, Relaxed);
            }
            Err(error) => {
                self.leave_open(&error, false, Open::Copied { target: inbox });
            }
        }
    }

    async fn compact(&mut self) {
        let horizon = self.world.flights.horizon();
        let mut compactor = self.here().compactor.lock().await;
        compactor.recount();
        // Two nodes may be after the same segment; the one that comes late may fail, and has done no harm.
        if let Ok(report) = compactor.run_once(horizon, 4).await {
            let upkeep = &self.world.upkeep;
            upkeep.moved.fetch_add(report.moved, Relaxed);
            upkeep.removed.fetch_add(report.removed, Relaxed);
        }
    }

    /// What a check finds while others work means nothing; nor may a repair of that do anything.
    async fn check(&mut self) {
        let options = CheckOptions {
            read_blobs: false,
            repair: self.random.percent(50),
        };
        if let Err(error) = self.here().store.check(options).await {
            self.excuse(&error, options.repair);
        }
    }

    /// One of the next commits of any node fails, or a call for a pack.
    fn break_something(&mut self) {
        let Some(Faults { rows, packs }) = &self.world.faults else {
            return;
        };
        let nth = 1 + self.random.below(6) as u64;
        match self.random.below(5) {
            0 => rows.fail_commit(nth),
            1 => rows.fail_commit_after_applying(nth),
            2 => packs.fail_next(1),
            3 => packs.hide_next_puts(1),
            _ => packs.take_next_numbers(1),
        }
    }

    /// Panics at an error that nothing accounts for.
    fn excuse(&self, error: &StoreError, passing: bool) {
        let gone = passing && matches!(error, StoreError::NoSuchMailbox);
        assert!(gone || self.world.may_fail(error), "{error}");
    }

    /// The same for an operation that may have taken effect all the same.
    fn leave_open(&self, error: &StoreError, passing: bool, open: Open) {
        self.excuse(error, passing);
        if self.world.may_fail(error) {
            self.world.ledger.lock().open.push(open);
        }
    }
}

fn not_brought(
    world: &World,
    ledger: &mut Ledger,
    error: StoreError,
    operation: u64,
    mailboxes: Vec<MailboxId>,
    passing: bool,
) {
    match error {
        StoreError::OverQuota => drop(ledger.refused.insert(operation)),
        StoreError::NoSuchMailbox if passing => drop(ledger.refused.insert(operation)),
        error if world.may_fail(&error) => ledger.open.push(Open::Brought {
            operation,
            mailboxes,
        }),
        error => panic!("not accepted: {error}"),
    }
}

fn enter_copies(ledger: &mut Ledger, source: MailboxId, target: MailboxId, copied: &Copied) {
    assert!(copied.uids.is_sorted_by(|a, b| a.0 < b.0 && a.1 < b.1));
    for (from, to) in &copied.uids {
        ledger.place((target, *to), Origin::CopyOf((source, *from)));
    }
}
