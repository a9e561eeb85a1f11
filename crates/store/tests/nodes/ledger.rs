//! What the operations were answered, and what must be there because of it.
//!
//! Operations run at once, so none can be foretold. Each is entered when it is answered; what the entries leave open
//! (an operation whose outcome is not known) is open to the judgement too.

use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

use nightmail_core::{AccountId, MailboxId, ModSeq};
use nightmail_store::StoredFlags;

/// A message's place: mailbox and UID.
pub type Place = (MailboxId, u32);

/// Where the message at a place came from.
#[derive(Clone, Copy, Debug)]
pub enum Origin {
    /// An operation brought it.
    Brought(u64),
    /// A copy of what is or was at another place.
    CopyOf(Place),
}

/// An operation that was answered with a failure: it took effect, or it did not.
#[derive(Clone, Debug)]
pub enum Open {
    Brought {
        operation: u64,
        mailboxes: Vec<MailboxId>,
    },
    Copied {
        target: MailboxId,
    },
    Moved {
        source: MailboxId,
        target: MailboxId,
        uids: Vec<u32>,
    },
    Removed {
        source: MailboxId,
        uids: Vec<u32>,
    },
    Mailboxes,
}

/// What a mailbox has shown to somebody.
#[derive(Clone, Copy, Debug, Default)]
pub struct Floor {
    pub uid_next: u32,
    pub modseq: ModSeq,
}

#[derive(Default)]
pub struct Ledger {
    pub placed: HashMap<Place, Origin>,
    pub removed: HashSet<Place>,
    /// Operations that brought nothing.
    pub refused: HashSet<u64>,
    pub open: Vec<Open>,
    pub created: HashSet<MailboxId>,
    pub deleted: usize,
    /// The last flags that a STORE answered, by modification sequence.
    pub stored: HashMap<Place, StoredFlags>,
    /// Keywords of each account, in the order of their places.
    pub keywords: HashMap<AccountId, Vec<String>>,
    floors: HashMap<MailboxId, Floor>,
    modseqs: HashMap<(MailboxId, ModSeq), u64>,
}

impl Ledger {
    /// A message was put at a place, where there never was one before.
    pub fn place(&mut self, place: Place, origin: Origin) {
        let before = self.placed.insert(place, origin);
        assert!(
            before.is_none(),
            "{place:?} given out twice: {before:?}, {origin:?}"
        );
        self.raise(place.0, place.1 + 1, ModSeq::default());
    }

    /// A message was removed, which happens once.
    pub fn remove(&mut self, place: Place) {
        assert!(self.removed.insert(place), "{place:?} removed twice");
    }

    pub fn store(&mut self, mailbox: MailboxId, uids: RangeInclusive<u32>, stored: &StoredFlags) {
        for uid in uids {
            let kept = self
                .stored
                .entry((mailbox, uid))
                .or_insert_with(|| stored.clone());
            if kept.modseq < stored.modseq {
                kept.clone_from(stored);
            }
        }
    }

    /// An operation changed a mailbox under this modification sequence, which is its alone.
    pub fn claim(&mut self, mailbox: MailboxId, modseq: ModSeq, operation: u64) {
        let owner = *self.modseqs.entry((mailbox, modseq)).or_insert(operation);
        assert_eq!(
            owner, operation,
            "mailbox {mailbox}, {modseq:?} given out twice"
        );
        self.raise(mailbox, 0, modseq);
    }

    /// What the mailbox must show to whoever looks from now on.
    pub fn floor(&self, mailbox: MailboxId) -> Floor {
        self.floors.get(&mailbox).copied().unwrap_or_default()
    }

    pub fn raise(&mut self, mailbox: MailboxId, uid_next: u32, modseq: ModSeq) {
        let floor = self.floors.entry(mailbox).or_default();
        floor.uid_next = floor.uid_next.max(uid_next);
        floor.modseq = floor.modseq.max(modseq);
    }

    /// Keywords keep their places: what was seen before is the head of what is seen later.
    pub fn see_keywords(&mut self, account: AccountId, names: &[String]) {
        let known = self.keywords.entry(account).or_default();
        let common = known.len().min(names.len());
        assert_eq!(
            known[..common],
            names[..common],
            "keywords of {account} moved"
        );
        if names.len() > known.len() {
            *known = names.to_vec();
        }
    }

    /// The operation that brought what is at a place; `None` where that is open.
    pub fn operation_at(&self, mut place: Place) -> Option<u64> {
        loop {
            match self.placed.get(&place)? {
                Origin::Brought(operation) => return Some(*operation),
                Origin::CopyOf(source) => place = *source,
            }
        }
    }

    /// Whether a message that nobody was told of may be in the mailbox.
    pub fn may_appear(&self, mailbox: MailboxId, by: u64) -> bool {
        self.open.iter().any(|open| match open {
            Open::Brought {
                operation,
                mailboxes,
            } => *operation == by && mailboxes.contains(&mailbox),
            Open::Copied { target } | Open::Moved { target, .. } => *target == mailbox,
            Open::Removed { .. } | Open::Mailboxes => false,
        })
    }

    /// Whether a message may be gone although nobody was told so.
    pub fn may_be_gone(&self, (mailbox, uid): Place) -> bool {
        self.open.iter().any(|open| match open {
            Open::Moved { source, uids, .. } | Open::Removed { source, uids } => {
                *source == mailbox && uids.contains(&uid)
            }
            _ => false,
        })
    }

    /// Whether copies or moves into the mailbox are open.
    pub fn copies_open(&self, mailbox: MailboxId) -> bool {
        self.open.iter().any(|open| {
            matches!(open, Open::Copied { target } | Open::Moved { target, .. } if *target == mailbox)
        })
    }
}
