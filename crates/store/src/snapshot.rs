//! The UID map of a mailbox: which UIDs exist, ascending, as of one modification sequence.
//!
//! Shared between sessions, brought up to date from the change index and the expunge log, and kept in a bounded cache.
//! New messages are found by their UIDs, not by the change index: a message whose flags change while the map is being
//! brought up to date must not be missed and then turn up below one already announced.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use nightmail_core::{Flags, MailboxId, ModSeq, Uid, UidValidity};
use nightmail_engine::{Engine, Order, Space};
use parking_lot::Mutex;

use crate::error::StoreError;
use crate::row::{
    KeywordId, MailboxState, MessageRow, change_range, decode_uids, expunge_range, message_key,
    message_range, parse_change_key, parse_expunge_key, parse_message_key,
};

/// Rows read in one scan.
pub(crate) const PAGE: usize = 4096;

/// A mailbox's UIDs as of one modification sequence.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The state this is.
    pub modseq: ModSeq,
    /// The UID the next message gets.
    pub uid_next: u32,
    /// The UIDs, ascending.
    pub uids: Arc<[Uid]>,
}

/// A message whose flags may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlagChange {
    /// The message.
    pub uid: u32,
    /// When it changed.
    pub modseq: ModSeq,
    /// Its system flags now.
    pub flags: Flags,
    /// Its keywords now.
    pub keywords: Vec<KeywordId>,
}

/// What happened between two snapshots.
#[derive(Clone, Debug)]
pub struct Changes {
    /// The newer one.
    pub snapshot: Arc<Snapshot>,
    /// UIDs of the older one that are gone, ascending.
    pub expunged: Vec<u32>,
    /// Messages of the older one whose flags changed.
    pub changed: Vec<FlagChange>,
}

impl Snapshot {
    /// Whether the mailbox has this UID.
    pub fn contains(&self, uid: u32) -> bool {
        self.uids
            .binary_search_by_key(&uid, |known| known.get())
            .is_ok()
    }

    /// The UIDs as rows are asked for.
    pub fn raw_uids(&self) -> Vec<u32> {
        self.uids.iter().map(|uid| uid.get()).collect()
    }

    /// Reads the whole mailbox.
    pub(crate) async fn load(
        engine: &dyn Engine,
        mailbox: MailboxId,
        state: &MailboxState,
    ) -> Result<Self, StoreError> {
        let uids = read_uids(engine, mailbox, 1, state.uid_next, Vec::new()).await?;
        Ok(Self::new(mailbox, state, uids))
    }

    fn new(mailbox: MailboxId, state: &MailboxState, uids: Vec<Uid>) -> Self {
        Self {
            mailbox,
            uid_validity: state.uid_validity,
            modseq: state.highest_modseq,
            uid_next: state.uid_next,
            uids: uids.into(),
        }
    }

    /// The snapshot of `state`, made from this older one.
    pub(crate) async fn advance(
        &self,
        engine: &dyn Engine,
        state: &MailboxState,
    ) -> Result<Arc<Self>, StoreError> {
        let gone = expunged_since(engine, self.mailbox, self.modseq, state.highest_modseq).await?;
        let mut uids: Vec<Uid> = match gone.is_empty() {
            true => self.uids.to_vec(),
            false => self
                .uids
                .iter()
                .copied()
                .filter(|uid| !gone.contains(&uid.get()))
                .collect(),
        };
        if self.uid_next != state.uid_next {
            uids = read_uids(engine, self.mailbox, self.uid_next, state.uid_next, uids).await?;
        }
        Ok(Arc::new(Self::new(self.mailbox, state, uids)))
    }

    /// What distinguishes `newer` from this one.
    pub(crate) async fn changes_to(
        &self,
        engine: &dyn Engine,
        newer: Arc<Self>,
    ) -> Result<Changes, StoreError> {
        let expunged = self.missing_in(&newer);
        let changed = self.flags_changed(engine, newer.modseq).await?;
        Ok(Changes {
            snapshot: newer,
            expunged,
            changed,
        })
    }

    /// UIDs that a newer snapshot lacks. The expunge log up to its modification sequence need not name all of them: a
    /// snapshot read from the rows lacks what was removed while it was read, too.
    fn missing_in(&self, newer: &Self) -> Vec<u32> {
        let Some(last) = self.uids.last() else {
            return Vec::new();
        };
        // New UIDs come last, so where as many are left as there were nothing is missing.
        let left = newer.uids.partition_point(|uid| uid <= last);
        if left == self.uids.len() {
            return Vec::new();
        }
        let mut left = newer.uids.iter().take(left).peekable();
        let missing = self
            .uids
            .iter()
            .filter(|uid| left.next_if(|next| next == uid).is_none());
        missing.map(|uid| uid.get()).collect()
    }

    async fn flags_changed(
        &self,
        engine: &dyn Engine,
        until: ModSeq,
    ) -> Result<Vec<FlagChange>, StoreError> {
        let mut since = self.modseq;
        let mut uids = Vec::new();
        loop {
            let page = engine
                .scan(
                    Space::Change,
                    change_range(self.mailbox, since),
                    Order::Ascending,
                    PAGE,
                )
                .await?;
            let full = page.len() == PAGE;
            for (modseq, uid) in page.iter().filter_map(|(key, _)| parse_change_key(key)) {
                if modseq > until {
                    return self.read_flags(engine, uids).await;
                }
                since = modseq;
                if self.contains(uid) {
                    uids.push(uid);
                }
            }
            if !full {
                return self.read_flags(engine, uids).await;
            }
            // The next page begins inside this modification sequence: its messages may fill more than one page.
            since = ModSeq::new(since.get().saturating_sub(1));
            if page
                .first()
                .and_then(|(key, _)| parse_change_key(key))
                .is_some_and(|(first, _)| first > since)
            {
                return self.all_flags(engine).await;
            }
        }
    }

    /// For the rare mailbox where one change touched more messages than a page holds.
    async fn all_flags(&self, engine: &dyn Engine) -> Result<Vec<FlagChange>, StoreError> {
        self.read_flags(engine, self.raw_uids()).await
    }

    async fn read_flags(
        &self,
        engine: &dyn Engine,
        mut uids: Vec<u32>,
    ) -> Result<Vec<FlagChange>, StoreError> {
        uids.sort_unstable();
        uids.dedup();
        let mut changed = Vec::with_capacity(uids.len());
        for page in uids.chunks(PAGE) {
            let keys: Vec<_> = page
                .iter()
                .map(|uid| message_key(self.mailbox, *uid))
                .collect();
            for (uid, row) in page.iter().zip(engine.get_many(&keys).await?) {
                let Some(row) = row else { continue };
                let MessageRow {
                    modseq,
                    flags,
                    keywords,
                    ..
                } = MessageRow::decode(&row)?;
                if modseq > self.modseq {
                    changed.push(FlagChange {
                        uid: *uid,
                        modseq,
                        flags,
                        keywords,
                    });
                }
            }
        }
        Ok(changed)
    }
}

/// The UIDs in `from..until`, appended to `uids`.
async fn read_uids(
    engine: &dyn Engine,
    mailbox: MailboxId,
    from: u32,
    until: u32,
    mut uids: Vec<Uid>,
) -> Result<Vec<Uid>, StoreError> {
    let mut from = from;
    loop {
        let page = engine
            .scan(
                Space::Message,
                message_range(mailbox, from),
                Order::Ascending,
                PAGE,
            )
            .await?;
        for (_, uid) in page.iter().filter_map(|(key, _)| parse_message_key(key)) {
            // A `uid_next` of zero means that the last UID has been used.
            if uid >= until && until != 0 {
                return Ok(uids);
            }
            uids.extend(Uid::new(uid));
            from = uid.saturating_add(1);
        }
        if page.len() < PAGE {
            return Ok(uids);
        }
    }
}

async fn expunged_since(
    engine: &dyn Engine,
    mailbox: MailboxId,
    since: ModSeq,
    until: ModSeq,
) -> Result<HashSet<u32>, StoreError> {
    let mut gone = HashSet::new();
    let mut since = since;
    loop {
        let page = engine
            .scan(
                Space::Expunge,
                expunge_range(mailbox, since),
                Order::Ascending,
                PAGE,
            )
            .await?;
        for (key, row) in &page {
            let Some(modseq) = parse_expunge_key(key) else {
                continue;
            };
            if modseq > until {
                return Ok(gone);
            }
            since = modseq;
            gone.extend(decode_uids(row)?);
        }
        if page.len() < PAGE {
            return Ok(gone);
        }
    }
}

/// Snapshots by mailbox, the least recently used ones dropped beyond a number of UIDs.
pub(crate) struct SnapshotCache {
    uids_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<MailboxId, (Arc<Snapshot>, u64)>,
    uids: usize,
    clock: u64,
}

/// What an entry costs besides its UIDs, in UIDs.
const ENTRY_COST: usize = 32;

impl SnapshotCache {
    pub fn new(uids_max: usize) -> Self {
        Self {
            uids_max,
            inner: Mutex::default(),
        }
    }

    pub fn get(&self, mailbox: MailboxId) -> Option<Arc<Snapshot>> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let clock = inner.clock;
        let (snapshot, used) = inner.entries.get_mut(&mailbox)?;
        *used = clock;
        Some(Arc::clone(snapshot))
    }

    /// Keeps a snapshot unless a newer one is there, and returns the one kept.
    pub fn keep(&self, snapshot: Arc<Snapshot>) -> Arc<Snapshot> {
        let mut inner = self.inner.lock();
        inner.clock += 1;
        let clock = inner.clock;
        if let Some((known, used)) = inner.entries.get_mut(&snapshot.mailbox)
            && known.modseq >= snapshot.modseq
        {
            *used = clock;
            return Arc::clone(known);
        }
        inner.uids += cost(&snapshot);
        let old = inner
            .entries
            .insert(snapshot.mailbox, (Arc::clone(&snapshot), clock));
        inner.uids -= old.map_or(0, |(old, _)| cost(&old));
        while inner.uids > self.uids_max && inner.entries.len() > 1 {
            inner.drop_oldest(snapshot.mailbox);
        }
        snapshot
    }

    pub fn forget(&self, mailbox: MailboxId) {
        let mut inner = self.inner.lock();
        let old = inner.entries.remove(&mailbox);
        inner.uids -= old.map_or(0, |(old, _)| cost(&old));
    }
}

impl Inner {
    /// Drops the older half, so that the search for the oldest is paid seldom.
    fn drop_oldest(&mut self, spared: MailboxId) {
        let mut ages: Vec<u64> = self.entries.values().map(|(_, used)| *used).collect();
        ages.sort_unstable();
        let median = ages.get(ages.len() / 2).copied().unwrap_or(u64::MAX);
        self.entries
            .retain(|mailbox, (_, used)| *used > median || *mailbox == spared);
        self.uids = self
            .entries
            .values()
            .map(|(snapshot, _)| cost(snapshot))
            .sum();
    }
}

fn cost(snapshot: &Snapshot) -> usize {
    snapshot.uids.len() + ENTRY_COST
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(mailbox: u64, modseq: u64, uids: u32) -> Arc<Snapshot> {
        Arc::new(Snapshot {
            mailbox: MailboxId::new(mailbox),
            uid_validity: UidValidity::new(1).unwrap(),
            modseq: ModSeq::new(modseq),
            uid_next: uids + 1,
            uids: (1..=uids).filter_map(Uid::new).collect(),
        })
    }

    #[test]
    fn what_a_newer_snapshot_lacks_is_missing_and_what_is_new_is_not() {
        let with = |uids: &[u32]| Snapshot {
            uids: uids.iter().copied().filter_map(Uid::new).collect(),
            ..Snapshot::clone(&snapshot(1, 1, 9))
        };
        let missing = |known: &[u32], newer: &[u32]| with(known).missing_in(&with(newer));
        let known = [1, 3, 4, 9];
        assert!(missing(&known, &[1, 3, 4, 9, 12]).is_empty());
        assert_eq!(missing(&known, &[3, 9, 12]), [1, 4]);
        assert_eq!(missing(&known, &[12, 13, 14, 15]), known);
        assert_eq!(missing(&known, &[]), known);
        assert!(missing(&[], &known).is_empty());
    }

    #[test]
    fn the_cache_keeps_the_newest_of_a_mailbox() {
        let cache = SnapshotCache::new(10_000);
        cache.keep(snapshot(1, 5, 10));
        assert_eq!(cache.keep(snapshot(1, 4, 9)).modseq.get(), 5);
        assert_eq!(cache.keep(snapshot(1, 6, 11)).modseq.get(), 6);
        cache.forget(MailboxId::new(1));
        assert!(cache.get(MailboxId::new(1)).is_none());
    }

    #[test]
    fn the_cache_is_bounded_and_drops_what_was_not_used() {
        let cache = SnapshotCache::new(1000);
        for mailbox in 0..50 {
            cache.keep(snapshot(mailbox, 1, 100));
            cache.get(MailboxId::new(0));
        }
        assert!(cache.inner.lock().uids <= 1000);
        assert!(cache.get(MailboxId::new(0)).is_some());
        assert!(cache.get(MailboxId::new(1)).is_none());
    }
}
