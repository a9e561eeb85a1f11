//! A mailbox in memory: which UIDs exist, and their flags, as of one modification sequence.
//!
//! Shared between sessions, brought up to date from the change index, and kept in a bounded cache. New messages are
//! found by their UIDs, not by the change index: a message whose flags change while the snapshot is being brought up to
//! date must not be missed and then turn up below one already announced.
//!
//! What changes while a snapshot is being read may be in it already, although it came after the modification sequence
//! that the snapshot stands for; whoever asks what changed since then is told of it again.

mod cache;
mod marks;
mod read;

use std::ops::RangeInclusive;
use std::sync::Arc;

use nightmail_core::{Flags, MailboxId, ModSeq, Uid, UidValidity};

pub(crate) use self::cache::SnapshotCache;
pub use self::marks::Mark;
use self::marks::Marks;
pub(crate) use self::read::read_blocks;
use crate::row::{KeywordId, MailboxState};

/// Rows read in one scan.
pub(crate) const PAGE: usize = 4096;

/// A mailbox's messages as of one modification sequence.
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
    marks: Marks,
    /// The digest as the mailbox's state has it.
    pub(crate) digest: u64,
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
    /// What somebody knows of a mailbox without having kept its marks, to ask what has changed since.
    pub fn known(
        mailbox: MailboxId,
        uid_validity: UidValidity,
        modseq: ModSeq,
        uid_next: u32,
        uids: Arc<[Uid]>,
    ) -> Self {
        Self {
            mailbox,
            uid_validity,
            modseq,
            uid_next,
            uids,
            marks: Marks::default(),
            digest: 0,
        }
    }

    fn with_uids(mailbox: MailboxId, state: &MailboxState, marks: Marks, uids: Arc<[Uid]>) -> Self {
        Self {
            mailbox,
            uid_validity: state.uid_validity,
            modseq: state.highest_modseq,
            uid_next: state.uid_next,
            uids,
            digest: marks.digest(),
            marks,
        }
    }

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

    /// What is known of a message; `None` where it is not there.
    pub fn mark(&self, uid: u32) -> Option<Mark<'_>> {
        self.marks.get(uid)
    }

    /// The messages whose UIDs lie in `uids`, ascending.
    pub fn marks(&self, uids: RangeInclusive<u32>) -> impl Iterator<Item = (Uid, Mark<'_>)> {
        self.marks.range(uids)
    }

    /// The messages that came or changed after `since`, ascending.
    pub fn changed_since(&self, since: ModSeq) -> impl Iterator<Item = (u32, Mark<'_>)> {
        self.marks.changed_since(since)
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<Uid> {
        self.marks.first_unseen()
    }

    /// Whether a message with this UID would be in the snapshot if it were there.
    pub(crate) fn covers(&self, uid: u32) -> bool {
        uid < self.uid_next || self.uid_next == 0
    }

    /// Whether this may be what `state`, of the same modification sequence, says.
    pub(crate) fn agrees(&self, state: &MailboxState) -> bool {
        state.digest.is_none_or(|digest| digest == self.digest)
    }

    /// Bytes of memory.
    fn bytes(&self) -> usize {
        size_of::<Self>() + size_of_val(&*self.uids) + self.marks.bytes()
    }

    /// What distinguishes `newer` from this one.
    pub(crate) fn changes_to(&self, newer: Arc<Self>) -> Changes {
        let changed = newer
            .changed_since(self.modseq)
            .filter(|(uid, _)| self.contains(*uid))
            .map(|(uid, mark)| FlagChange {
                uid,
                modseq: mark.modseq,
                flags: mark.flags,
                keywords: mark.keywords.to_vec(),
            })
            .collect();
        Changes {
            expunged: self.missing_in(&newer),
            changed,
            snapshot: newer,
        }
    }

    /// UIDs that a newer snapshot lacks.
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
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_newer_snapshot_lacks_is_missing_and_what_is_new_is_not() {
        let with = |uids: &[u32]| {
            Snapshot::known(
                MailboxId::new(1),
                UidValidity::new(1).unwrap(),
                ModSeq::new(1),
                10,
                uids.iter().copied().filter_map(Uid::new).collect(),
            )
        };
        let missing = |known: &[u32], newer: &[u32]| with(known).missing_in(&with(newer));
        let known = [1, 3, 4, 9];
        assert!(missing(&known, &[1, 3, 4, 9, 12]).is_empty());
        assert_eq!(missing(&known, &[3, 9, 12]), [1, 4]);
        assert_eq!(missing(&known, &[12, 13, 14, 15]), known);
        assert_eq!(missing(&known, &[]), known);
        assert!(missing(&[], &known).is_empty());
    }
}
