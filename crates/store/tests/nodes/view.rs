//! A client's idea of a mailbox, kept up only by what changes report, from whatever node it asks.

use std::collections::BTreeMap;
use std::sync::Arc;

use nightmail_core::{Flags, MailboxId, ModSeq};
use nightmail_store::{Changes, KeywordId, MessageRow, Snapshot, Store, StoreError};

use super::world::World;

/// What a client was last told of a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    modseq: ModSeq,
    flags: Flags,
    keywords: Vec<KeywordId>,
}

impl From<&MessageRow> for Seen {
    fn from(row: &MessageRow) -> Self {
        Self {
            modseq: row.modseq,
            flags: row.flags,
            keywords: row.keywords.clone(),
        }
    }
}

pub struct View {
    pub mailbox: MailboxId,
    /// Whether the mailbox may go.
    passing: bool,
    snapshot: Arc<Snapshot>,
    seen: BTreeMap<u32, Seen>,
}

/// A snapshot that is not older than anything that was seen or answered before; `None` where the mailbox has gone or
/// the engine failed.
pub async fn snapshot(
    world: &World,
    store: &Store,
    mailbox: MailboxId,
    passing: bool,
) -> Option<Arc<Snapshot>> {
    let floor = world.ledger.lock().floor(mailbox);
    let snapshot = answered(world, passing, store.snapshot(mailbox).await)?;
    assert!(
        snapshot.uid_next >= floor.uid_next && snapshot.modseq >= floor.modseq,
        "mailbox {mailbox} went back from {floor:?} to {}, {:?}",
        snapshot.uid_next,
        snapshot.modseq
    );
    note(world, &snapshot);
    Some(snapshot)
}

fn note(world: &World, snapshot: &Snapshot) {
    let uids = snapshot.raw_uids();
    assert!(uids.is_sorted_by(|a, b| a < b), "UIDs ascend: {uids:?}");
    assert!(uids.last().is_none_or(|last| *last < snapshot.uid_next));
    let mut ledger = world.ledger.lock();
    ledger.raise(snapshot.mailbox, snapshot.uid_next, snapshot.modseq);
}

/// What was found; `None` for an error that may be.
fn answered<T>(world: &World, passing: bool, found: Result<T, StoreError>) -> Option<T> {
    match found {
        Ok(found) => Some(found),
        Err(StoreError::NoSuchMailbox) if passing => None,
        Err(error) if world.may_fail(&error) => None,
        Err(error) => panic!("a look failed: {error}"),
    }
}

impl View {
    pub async fn open(
        world: &World,
        store: &Store,
        mailbox: MailboxId,
        passing: bool,
    ) -> Option<Self> {
        let snapshot = snapshot(world, store, mailbox, passing).await?;
        let rows = store.rows(mailbox, &snapshot.raw_uids()).await;
        let rows = answered(world, passing, rows)?;
        Some(Self {
            mailbox,
            passing,
            seen: rows
                .iter()
                .map(|(uid, row)| (*uid, Seen::from(row)))
                .collect(),
            snapshot,
        })
    }

    /// Asks what has happened. False when the mailbox has gone.
    pub async fn look(&mut self, world: &World, store: &Store) -> bool {
        let floor = world.ledger.lock().floor(self.mailbox);
        let changes = match store.changes(&self.snapshot).await {
            Ok(changes) => changes,
            Err(StoreError::NoSuchMailbox) if self.passing => return false,
            Err(error) if world.may_fail(&error) => return true,
            Err(error) => panic!("a look failed: {error}"),
        };
        assert!(
            changes.snapshot.modseq >= floor.modseq,
            "HIGHESTMODSEQ went back"
        );
        note(world, &changes.snapshot);
        self.judge(&changes);
        self.learn(world, store, changes).await;
        true
    }

    /// Nothing appears below what was announced, and what is gone is said to be.
    fn judge(&self, changes: &Changes) {
        let (old, new) = (&self.snapshot, &changes.snapshot);
        assert!(new.modseq >= old.modseq && new.uid_next >= old.uid_next);
        assert_eq!(new.uid_validity, old.uid_validity);
        let late: Vec<u32> = new
            .raw_uids()
            .into_iter()
            .filter(|uid| *uid < old.uid_next && !old.contains(*uid))
            .collect();
        assert!(late.is_empty(), "{late:?} appeared below {}", old.uid_next);
        let gone: Vec<u32> = old
            .raw_uids()
            .into_iter()
            .filter(|uid| !new.contains(*uid))
            .collect();
        assert_eq!(
            changes.expunged, gone,
            "mailbox {}: expunged, gone",
            self.mailbox
        );
        for change in &changes.changed {
            assert!(old.contains(change.uid) && change.modseq > old.modseq);
            let seen = self.seen.get(&change.uid);
            assert!(
                seen.is_none_or(|seen| seen.modseq <= change.modseq),
                "{change:?} went back"
            );
        }
    }

    async fn learn(&mut self, world: &World, store: &Store, changes: Changes) {
        for uid in &changes.expunged {
            self.seen.remove(uid);
        }
        for change in changes.changed {
            let seen = Seen {
                modseq: change.modseq,
                flags: change.flags,
                keywords: change.keywords,
            };
            self.seen.insert(change.uid, seen);
        }
        let new: Vec<u32> = changes
            .snapshot
            .raw_uids()
            .into_iter()
            .filter(|uid| *uid >= self.snapshot.uid_next)
            .collect();
        self.snapshot = changes.snapshot;
        // Flags of new messages that a failing engine does not tell are told by nobody later.
        let rows = loop {
            let rows = store.rows(self.mailbox, &new).await;
            if let Some(rows) = answered(world, self.passing, rows) {
                break rows;
            }
        };
        self.seen
            .extend(rows.iter().map(|(uid, row)| (*uid, Seen::from(row))));
    }

    /// A row that has not changed since the snapshot is as this client was told: no change was missed.
    pub async fn compare(&self, world: &World, store: &Store) {
        let rows = store.rows(self.mailbox, &self.snapshot.raw_uids()).await;
        for (uid, row) in answered(world, self.passing, rows).unwrap_or_default() {
            let seen = self.seen.get(&uid);
            if row.modseq <= self.snapshot.modseq {
                assert_eq!(
                    seen,
                    Some(&Seen::from(&row)),
                    "mailbox {} UID {uid}",
                    self.mailbox
                );
            }
        }
    }

    /// Nothing happens any more: this client knows what is there.
    pub async fn compare_all(&self, store: &Store) {
        let snapshot = store.snapshot(self.mailbox).await.unwrap();
        let rows = store
            .rows(self.mailbox, &snapshot.raw_uids())
            .await
            .unwrap();
        let rows: BTreeMap<u32, Seen> = rows
            .iter()
            .map(|(uid, row)| (*uid, Seen::from(row)))
            .collect();
        assert_eq!(self.seen, rows, "mailbox {}", self.mailbox);
    }
}
