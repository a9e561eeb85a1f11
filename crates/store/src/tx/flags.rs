//! STORE: flags and keywords of messages.

use std::ops::RangeInclusive;

use nightmail_commit::Tx;
use nightmail_core::{Flags, ModSeq};

use super::marks::{Live, OpenBlock, by_block};
use super::{Applied, get_state, intern_keywords, put_state};
use crate::row::{Change, Fate, KeywordId, low};
use crate::snapshot::Snapshot;

/// Steps that are remembered: messages mostly have few different flags.
const STEPS_MAX: usize = 64;

/// What STORE does with the flags it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagOperation {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
    /// `FLAGS` of whoever may change only some.
    ReplaceAmong {
        /// The system flags that may be changed.
        flags: Flags,
        /// Whether keywords may be.
        keywords: bool,
    },
}

/// A change of flags.
#[derive(Clone, Debug)]
pub struct FlagUpdate {
    /// What is done with those named.
    pub operation: FlagOperation,
    /// System flags.
    pub flags: Flags,
    /// Keywords, in any case.
    pub keywords: Vec<String>,
    /// Messages that changed after this are left alone (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
}

/// The flags of messages after STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFlags {
    /// Their system flags now.
    pub flags: Flags,
    /// Their keywords now.
    pub keywords: Vec<KeywordId>,
    /// When they last changed.
    pub modseq: ModSeq,
    /// Whether this STORE changed them; all that it changed share one `modseq`.
    pub changed: bool,
}

/// What became of the messages that STORE named. Those that are not there are in neither list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    kinds: Vec<StoredFlags>,
    /// UIDs in a row and their place in `kinds`, ascending.
    runs: Vec<(RangeInclusive<u32>, usize)>,
    /// Those left alone because they had changed, ascending.
    pub modified: Vec<u32>,
}

impl Stored {
    /// The messages that have the flags now, ascending, those in a row that fared alike as one.
    pub fn rows(&self) -> impl Iterator<Item = (RangeInclusive<u32>, &StoredFlags)> {
        let rows = self.runs.iter();
        rows.filter_map(|(uids, kind)| Some((uids.clone(), self.kinds.get(*kind)?)))
    }

    /// How many messages were there.
    pub fn found(&self) -> usize {
        let runs = self.runs.iter().map(|(uids, _)| uids.clone().count());
        runs.sum::<usize>() + self.modified.len()
    }

    /// The modification sequence of what was changed; none where nothing was.
    pub fn modseq(&self) -> Option<ModSeq> {
        let changed = self.kinds.iter().find(|kind| kind.changed);
        changed.map(|kind| kind.modseq)
    }

    fn push(&mut self, uid: u32, kind: usize) {
        match self.runs.last_mut() {
            Some((run, of)) if *of == kind && run.end().checked_add(1) == Some(uid) => {
                *run = *run.start()..=uid;
            }
            _ => self.runs.push((uid..=uid, kind)),
        }
    }
}

/// Changes the flags of the messages of `uids`, which ascend, that exist. A message whose flags stay as they were is
/// not written.
///
/// What `snapshot`, any of the mailbox, says of a message as it came need not be read again.
pub fn store_flags(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    uids: &[u32],
    update: &FlagUpdate,
) -> Applied<Stored> {
    let mailbox = snapshot.mailbox;
    let mut state = get_state(tx, mailbox)?;
    let keywords = intern_keywords(tx, state.account, &update.keywords)?;
    let modseq = state.highest_modseq.next();
    let mut steps = Steps::new(update.step(Flags::EMPTY, &[], &keywords));
    let mut stored = Stored::default();
    for (number, uids) in by_block(uids) {
        let mut open = OpenBlock::read(tx, mailbox, number)?;
        let mut changed = false;
        steps.leave_block();
        for uid in uids {
            let Some(live) = open.live(tx, snapshot, *uid)? else {
                continue;
            };
            if update
                .unchanged_since
                .is_some_and(|since| live.modseq > since)
            {
                stored.modified.push(*uid);
                continue;
            }
            let (old, was) = (live.flags, live.modseq);
            let step = steps.of(&live, |live| {
                update.step(live.flags, &live.keywords, &keywords)
            });
            if step.changes() {
                changed = true;
                state.count_flags_out(*uid, old);
                state.count_flags_in(*uid, step.flags);
                match step.like.replace(low(*uid)) {
                    Some(like) => open.block.set_like(low(*uid), like),
                    None => open.block.set(low(*uid), step.change(modseq)),
                }
            }
            let modseq = if step.changes() { modseq } else { was };
            let kind = step.kind(modseq, &mut stored.kinds);
            stored.push(*uid, kind);
        }
        if changed {
            state.highest_modseq = modseq;
            open.write(tx);
        }
    }
    if state.highest_modseq == modseq {
        put_state(tx, mailbox, &state);
    }
    Ok(stored)
}

/// What a change of flags makes of messages with the same ones.
struct Step {
    old: (Flags, Vec<KeywordId>),
    flags: Flags,
    keywords: Vec<KeywordId>,
    /// A message of the block that has made it.
    like: Option<u8>,
    /// The modification sequence of those told last, and their place among what is told.
    told: Option<(ModSeq, usize)>,
}

impl Step {
    fn is_of(&self, live: &Live<'_>) -> bool {
        self.old.0 == live.flags && *self.old.1 == *live.keywords
    }

    fn changes(&self) -> bool {
        self.flags != self.old.0 || self.keywords != self.old.1
    }

    fn change(&self, modseq: ModSeq) -> Change {
        Change {
            modseq,
            fate: Fate::Live,
            flags: self.flags,
            keywords: self.keywords.clone(),
        }
    }

    /// The place among `kinds` of messages after this step that changed last at `modseq`.
    fn kind(&mut self, modseq: ModSeq, kinds: &mut Vec<StoredFlags>) -> usize {
        if let Some((_, place)) = self.told.filter(|(of, _)| *of == modseq) {
            return place;
        }
        let place = kinds.len();
        kinds.push(StoredFlags {
            flags: self.flags,
            keywords: self.keywords.clone(),
            modseq,
            changed: self.changes(),
        });
        self.told = Some((modseq, place));
        place
    }
}

/// The steps made so far, so that each is thought out once, not for every message.
struct Steps {
    last: Step,
    others: Vec<Step>,
}

impl Steps {
    fn new(first: Step) -> Self {
        Self {
            last: first,
            others: Vec::new(),
        }
    }

    fn of<'a>(&mut self, live: &Live<'a>, new: impl FnOnce(&Live<'a>) -> Step) -> &mut Step {
        // Neighbours are mostly alike.
        if !self.last.is_of(live) {
            let known = self.others.iter().position(|step| step.is_of(live));
            let step = match known {
                Some(place) => self.others.swap_remove(place),
                None => new(live),
            };
            if self.others.len() >= STEPS_MAX {
                self.others.clear();
            }
            self.others.push(std::mem::replace(&mut self.last, step));
        }
        &mut self.last
    }

    fn leave_block(&mut self) {
        let others = self.others.iter_mut();
        others.for_each(|step| step.like = None);
        self.last.like = None;
    }
}

impl FlagUpdate {
    /// What the change makes of messages that have `flags` and `keywords`; `named` are the keywords that it names.
    fn step(&self, flags: Flags, keywords: &[KeywordId], named: &[KeywordId]) -> Step {
        let old = (flags, keywords.to_vec());
        let mut keywords = keywords.to_vec();
        let flags = match self.operation {
            FlagOperation::Replace => {
                keywords = named.to_vec();
                self.flags
            }
            FlagOperation::ReplaceAmong {
                flags: among,
                keywords: replaced,
            } => {
                if replaced {
                    keywords = named.to_vec();
                }
                (flags & !among) | (self.flags & among)
            }
            FlagOperation::Add => {
                keywords.extend_from_slice(named);
                keywords.sort_unstable();
                keywords.dedup();
                flags | self.flags
            }
            FlagOperation::Remove => {
                keywords.retain(|keyword| !named.contains(keyword));
                flags & !self.flags
            }
        };
        Step {
            old,
            flags,
            keywords,
            like: None,
            told: None,
        }
    }
}
