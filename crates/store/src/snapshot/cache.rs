//! Snapshots by mailbox, in a bounded amount of memory.

use std::collections::HashMap;
use std::sync::Arc;

use nightmail_core::MailboxId;
use parking_lot::Mutex;

use super::Snapshot;

/// Snapshots by mailbox, the least recently used ones dropped beyond a number of bytes.
pub(crate) struct SnapshotCache {
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    entries: HashMap<MailboxId, (Arc<Snapshot>, u64)>,
    bytes: usize,
    clock: u64,
}

/// What an entry costs besides its snapshot.
const ENTRY_COST: usize = 64;

impl SnapshotCache {
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
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
        inner.bytes += cost(&snapshot);
        let old = inner
            .entries
            .insert(snapshot.mailbox, (Arc::clone(&snapshot), clock));
        inner.bytes -= old.map_or(0, |(old, _)| cost(&old));
        while inner.bytes > self.bytes_max && inner.entries.len() > 1 {
            inner.drop_oldest(snapshot.mailbox);
        }
        snapshot
    }

    pub fn forget(&self, mailbox: MailboxId) {
        let mut inner = self.inner.lock();
        let old = inner.entries.remove(&mailbox);
        inner.bytes -= old.map_or(0, |(old, _)| cost(&old));
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
        self.bytes = self
            .entries
            .values()
            .map(|(snapshot, _)| cost(snapshot))
            .sum();
    }
}

fn cost(snapshot: &Snapshot) -> usize {
    snapshot.bytes() + ENTRY_COST
}

#[cfg(test)]
mod tests {
    use nightmail_core::{ModSeq, Uid, UidValidity};

    use super::*;

    fn snapshot(mailbox: u64, modseq: u64, uids: u32) -> Arc<Snapshot> {
        Arc::new(Snapshot::known(
            MailboxId::new(mailbox),
            UidValidity::new(1).unwrap(),
            ModSeq::new(modseq),
            uids + 1,
            (1..=uids).filter_map(Uid::new).collect(),
        ))
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
        let cache = SnapshotCache::new(6000);
        for mailbox in 0..50 {
            cache.keep(snapshot(mailbox, 1, 100));
            cache.get(MailboxId::new(0));
        }
        assert!(cache.inner.lock().bytes <= 6000);
        assert!(cache.get(MailboxId::new(0)).is_some());
        assert!(cache.get(MailboxId::new(1)).is_none());
    }
}
