//! The view: which message has which sequence number in this session (RFC 3501 §2.3.1.2, §5.5, §7.4.1).
//!
//! The client's numbering is always that of one snapshot. News is kept aside until the protocol allows it to be told,
//! then the snapshot is exchanged and the difference written.
//!
//! **Invariant:** while a command that forbids EXPUNGE runs, no number changes its message.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::BytesMut;
use nightmail_core::{ModSeq, Uid, UidValidity};

use crate::enabled::Enabled;
use crate::flag::{FlagList, Keyword};
use crate::io::{FlagsRow, MailboxUpdate, Permitted, Selected};
use crate::set::{Bound, SeqSet, UidSet, UidSetSpec};
use crate::write::{self, FlagsNews};

/// How many of the session's own changes are remembered. An older one that comes back is told once more: harmless.
const OWN_CHANGES_MAX: usize = 8;

/// Which messages a command means, as written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Messages {
    /// By sequence number.
    Seq(SeqSet),
    /// By UID.
    Uid(UidSetSpec),
    /// `$`: what the last SEARCH RETURN (SAVE) found (RFC 5182).
    Saved {
        /// Whether it stands in a command by UID.
        by_uid: bool,
    },
}

impl Messages {
    /// Whether UIDs are meant.
    pub const fn is_uid(&self) -> bool {
        matches!(self, Self::Uid(_) | Self::Saved { by_uid: true })
    }
}

/// The selected mailbox as the client knows it.
#[derive(Debug)]
pub(crate) struct View {
    uids: Arc<[Uid]>,
    uid_validity: UidValidity,
    recent_floor: Uid,
    permitted: Permitted,
    known_modseq: ModSeq,
    /// The client was told of everything up to this.
    told_modseq: ModSeq,
    /// The earliest change of flags that the client did not want to be told of.
    withheld: Option<ModSeq>,
    next: Option<Next>,
    changed: BTreeMap<Uid, FlagsRow>,
    keywords: Option<Arc<[Keyword]>>,
    own: VecDeque<(ModSeq, UidSet)>,
    /// `$`; may name messages that are gone.
    saved: UidSet,
}

/// News of which messages there are, not told yet.
#[derive(Debug)]
struct Next {
    uids: Arc<[Uid]>,
    modseq: ModSeq,
}

impl View {
    pub(crate) fn new(selected: &Selected) -> Self {
        Self {
            uids: Arc::clone(&selected.uids),
            uid_validity: selected.uid_validity,
            recent_floor: selected.recent_floor,
            permitted: selected.permitted,
            known_modseq: selected.highest_modseq,
            told_modseq: selected.highest_modseq,
            withheld: None,
            next: None,
            changed: BTreeMap::new(),
            keywords: None,
            own: VecDeque::new(),
            saved: UidSet::default(),
        }
    }

    /// The UIDs as the client numbers them.
    pub(crate) const fn uids(&self) -> &Arc<[Uid]> {
        &self.uids
    }

    /// The UIDs of the last update, told to the client or not.
    pub(crate) fn latest_uids(&self) -> &Arc<[Uid]> {
        self.next.as_ref().map_or(&self.uids, |next| &next.uids)
    }

    /// The modification sequence up to which the client was told everything (RFC 7162 §3.1.2.1).
    pub(crate) fn told_modseq(&self) -> ModSeq {
        let before = |withheld: ModSeq| ModSeq::new(withheld.get().saturating_sub(1));
        let bound = self.withheld.map_or(self.told_modseq, before);
        self.told_modseq.min(bound)
    }

    pub(crate) fn exists(&self) -> usize {
        self.uids.len()
    }

    pub(crate) fn recent(&self) -> usize {
        self.uids.len() - self.uids.partition_point(|uid| *uid < self.recent_floor)
    }

    pub(crate) fn is_recent(&self, uid: Uid) -> bool {
        uid >= self.recent_floor
    }

    /// Messages from this UID on are `\Recent`.
    pub(crate) const fn recent_floor(&self) -> Uid {
        self.recent_floor
    }

    /// All messages with `\Recent`.
    pub(crate) fn recent_set(&self) -> UidSet {
        let last = self.uids.last().filter(|last| self.is_recent(**last));
        last.map_or_else(UidSet::default, |last| {
            UidSet::range(self.recent_floor, *last)
        })
    }

    /// The sequence number of a message. `hint` is an index that probably holds it, and is set to the next one.
    pub(crate) fn seq_of(&self, uid: Uid, hint: &mut usize) -> Option<usize> {
        let index = if self.uids.get(*hint) == Some(&uid) {
            *hint
        } else {
            place_from(&self.uids, *hint, uid)?
        };
        *hint = index + 1;
        Some(index + 1)
    }

    /// The messages of a set.
    pub(crate) fn members(&self, set: &UidSet) -> Vec<Uid> {
        let ranges = set.ranges();
        let between = ranges.filter_map(|(low, high)| {
            let (first, last) = self.indexes_between(low.get(), high.get())?;
            self.uids.get(first..=last)
        });
        between.flatten().copied().collect()
    }

    /// The sequence numbers of messages, as a set of numbers.
    pub(crate) fn numbers_of(&self, set: &UidSet) -> UidSet {
        let number = |index: usize| Uid::new(u32::try_from(index + 1).ok()?);
        let ranges = set.ranges().filter_map(|(low, high)| {
            let (first, last) = self.indexes_between(low.get(), high.get())?;
            Some((number(first)?, number(last)?))
        });
        UidSet::from_ranges(ranges)
    }

    /// The UIDs that a command means. A number beyond the last message is an error (`None`) unless `*` is at the other
    /// end; a UID that no message has means nothing (RFC 3501 §6.4.8).
    pub(crate) fn resolve(&self, messages: &Messages) -> Option<UidSet> {
        match messages {
            Messages::Seq(set) => self.resolve_seq(set),
            Messages::Uid(set) => Some(self.resolve_uid(set)),
            Messages::Saved { .. } => Some(self.saved()),
        }
    }

    pub(crate) const fn uid_validity(&self) -> UidValidity {
        self.uid_validity
    }

    /// Keeps what a search found as `$`.
    pub(crate) fn save(&mut self, found: UidSet) {
        self.saved = found;
    }

    /// `$`, without messages that the client was told are gone.
    pub(crate) fn saved(&self) -> UidSet {
        let mut ranges: Vec<_> = self
            .saved
            .ranges()
            .filter_map(|(low, high)| self.indexes_between(low.get(), high.get()))
            .collect();
        self.uids_between(&mut ranges).unwrap_or_default()
    }

    /// How many messages a set names.
    pub(crate) fn count(&self, set: &UidSet) -> usize {
        set.ranges()
            .filter_map(|(low, high)| self.indexes_between(low.get(), high.get()))
            .map(|(first, last)| last - first + 1)
            .sum()
    }

    /// The `count` last messages of a set.
    pub(crate) fn last_of(&self, set: &UidSet, count: usize) -> UidSet {
        let mut left = count;
        let mut ranges = Vec::new();
        for (low, high) in set.ranges().rev() {
            let Some((first, last)) = self.indexes_between(low.get(), high.get()) else {
                continue;
            };
            let first = first.max((last + 1).saturating_sub(left));
            left -= last + 1 - first;
            ranges.push((first, last));
            if left == 0 {
                break;
            }
        }
        self.uids_between(&mut ranges).unwrap_or_default()
    }

    fn resolve_seq(&self, set: &SeqSet) -> Option<UidSet> {
        let exists = self.uids.len();
        let index_of = |bound: Bound, clip: bool| match bound {
            Bound::Last => exists.checked_sub(1),
            Bound::Number(number) => {
                let index = (number as usize).checked_sub(1)?;
                let index = if clip {
                    index.min(exists.checked_sub(1)?)
                } else {
                    index
                };
                (index < exists).then_some(index)
            }
        };
        let ranges = set.ranges().map(|(first, second)| {
            let first_index = index_of(first, second == Bound::Last)?;
            let second_index = index_of(second, first == Bound::Last)?;
            Some((first_index.min(second_index), first_index.max(second_index)))
        });
        self.uids_between(&mut ranges.collect::<Option<Vec<_>>>()?)
    }

    /// As [`Self::resolve_seq`], but numbers beyond the last message match nothing: what SEARCH does.
    pub(crate) fn resolve_seq_leniently(&self, set: &SeqSet) -> UidSet {
        let Some(last) = self.uids.len().checked_sub(1) else {
            return UidSet::default();
        };
        let index_of = |bound| match bound {
            Bound::Last => last,
            Bound::Number(number) => (number as usize).saturating_sub(1),
        };
        let mut ranges: Vec<_> = set
            .ranges()
            .map(|(first, second)| (index_of(first), index_of(second)))
            .map(|(first, second)| (first.min(second), first.max(second).min(last)))
            .filter(|(low, high)| low <= high)
            .collect();
        self.uids_between(&mut ranges).unwrap_or_default()
    }

    pub(crate) fn resolve_uid(&self, set: &UidSetSpec) -> UidSet {
        let Some(last) = self.uids.last() else {
            return UidSet::default();
        };
        let raw = |bound| match bound {
            Bound::Last => last.get(),
            Bound::Number(number) => number,
        };
        let mut ranges: Vec<_> = set
            .ranges()
            .map(|(first, second)| (raw(first), raw(second)))
            .filter_map(|(first, second)| {
                self.indexes_between(first.min(second), first.max(second))
            })
            .collect();
        self.uids_between(&mut ranges).unwrap_or_default()
    }

    /// The first and last index of messages with UIDs in a range, if there are any.
    fn indexes_between(&self, low: u32, high: u32) -> Option<(usize, usize)> {
        let start = self.uids.partition_point(|uid| uid.get() < low);
        let end = self.uids.partition_point(|uid| uid.get() <= high);
        (start < end).then(|| (start, end - 1))
    }

    /// The UIDs of ranges of indexes. Ranges that touch become one although their UIDs may not be neighbours: between
    /// them no message of the snapshot lies.
    fn uids_between(&self, ranges: &mut [(usize, usize)]) -> Option<UidSet> {
        ranges.sort_unstable();
        let mut joined: Vec<(usize, usize)> = Vec::with_capacity(ranges.len());
        for (low, high) in ranges.iter().copied() {
            match joined.last_mut() {
                Some((_, end)) if low <= *end + 1 => *end = high.max(*end),
                _ => joined.push((low, high)),
            }
        }
        let uids = joined
            .into_iter()
            .map(|(low, high)| Some((*self.uids.get(low)?, *self.uids.get(high)?)));
        uids.collect::<Option<Vec<_>>>().map(UidSet::from_ranges)
    }

    /// Remembers a change that this session made, so that it is not told again.
    pub(crate) fn remember_own(&mut self, modseq: ModSeq, uids: &UidSet) {
        self.forget_changes(modseq, uids);
        if self.own.len() >= OWN_CHANGES_MAX {
            self.own.pop_front();
        }
        self.own.push_back((modseq, uids.clone()));
    }

    /// As [`Self::remember_own`], for one message of many.
    pub(crate) fn remember_own_row(&mut self, modseq: ModSeq, uid: Uid) {
        match self.own.back_mut() {
            Some((last, uids)) if *last == modseq => uids.insert(uid),
            _ => self.remember_own(modseq, &UidSet::range(uid, uid)),
        }
        if self
            .changed
            .get(&uid)
            .is_some_and(|row| row.modseq <= modseq)
        {
            self.changed.remove(&uid);
        }
    }

    fn forget_changes(&mut self, modseq: ModSeq, uids: &UidSet) {
        self.changed
            .retain(|uid, row| row.modseq > modseq || !uids.contains(*uid));
    }

    /// Whether a change of one of these messages waits to be told.
    pub(crate) fn has_news_of(&self, uids: &UidSet) -> bool {
        self.changed.keys().any(|uid| uids.contains(*uid))
    }

    fn is_own(&self, row: &FlagsRow) -> bool {
        self.own
            .iter()
            .any(|(modseq, uids)| *modseq == row.modseq && uids.contains(row.uid))
    }

    /// Keeps news for the next point at which it may be told.
    pub(crate) fn learn(&mut self, update: MailboxUpdate) {
        for row in update.changed {
            if row.modseq > self.known_modseq && !self.is_own(&row) {
                self.changed.insert(row.uid, row);
            }
        }
        if update.keywords.is_some() {
            self.keywords = update.keywords;
        }
        self.next = Some(Next {
            uids: update.uids,
            modseq: update.modseq,
        });
    }

    /// Writes the news that may be told now and makes it the client's view.
    pub(crate) fn tell(&mut self, expunge_allowed: bool, enabled: Enabled, out: &mut BytesMut) {
        self.tell_keywords(out);
        if let Some(next) = self.next.take() {
            let grown_only = next.uids.get(..self.uids.len()) == Some(&*self.uids);
            if grown_only || expunge_allowed {
                self.advance(next, grown_only, enabled, out);
            } else {
                self.next = Some(next);
            }
        }
        self.tell_flags(enabled, out);
    }

    /// Writes the keywords in use where one is new. May come at any time, and comes before a message has it.
    pub(crate) fn tell_keywords(&mut self, out: &mut BytesMut) {
        if let Some(keywords) = self.keywords.take() {
            write::flags_in_use(out, &keywords, self.permitted);
        }
    }

    fn advance(&mut self, next: Next, grown_only: bool, enabled: Enabled, out: &mut BytesMut) {
        let arrivals = if grown_only {
            next.uids.len() > self.uids.len()
        } else {
            if enabled.tells_vanished() {
                tell_vanished(&self.uids, &next.uids, out);
            } else {
                tell_expunges(&self.uids, &next.uids, out);
            }
            next.uids.last() > self.uids.last()
        };
        self.uids = next.uids;
        self.told_modseq = self.told_modseq.max(next.modseq);
        if arrivals {
            write::count(out, self.exists(), "EXISTS");
            if enabled.tells_recent() {
                write::count(out, self.recent(), "RECENT");
            }
        }
    }

    /// A change of a message that is gone, or that the client does not know yet, is not told.
    fn tell_flags(&mut self, enabled: Enabled, out: &mut BytesMut) {
        let mut hint = 0;
        for row in std::mem::take(&mut self.changed).into_values() {
            if let Some(seq) = self.seq_of(row.uid, &mut hint) {
                let news = FlagsNews {
                    seq,
                    uid: row.uid,
                    tells_uid: true,
                    flags: Some(&row.flags),
                    recent: self.is_recent(row.uid),
                    modseq: row.modseq,
                };
                write::fetch_flags(out, &news, enabled);
            }
        }
    }

    /// Drops changes of flags that the client does not want to be told of.
    pub(crate) fn forget_flag_news(&mut self) {
        let earliest = self.changed.values().map(|row| row.modseq).min();
        self.withheld = [self.withheld, earliest].into_iter().flatten().min();
        self.changed.clear();
    }

    /// Whether it is known of messages that came or went what the client was not told.
    pub(crate) const fn has_kept_back(&self) -> bool {
        self.next.is_some()
    }

    /// The message's flags were written: news of them is stale.
    pub(crate) fn told_flags(&mut self, uid: Uid, modseq: ModSeq, flags: &FlagList) {
        let stale = |row: &FlagsRow| row.modseq <= modseq && row.flags == *flags;
        if self.changed.get(&uid).is_some_and(stale) {
            self.changed.remove(&uid);
        }
    }
}

/// The place of a UID, sought upwards from `hint` in steps that double: what is named in order lies near.
fn place_from(uids: &[Uid], hint: usize, uid: Uid) -> Option<usize> {
    let rest = uids.get(hint..).unwrap_or_default();
    if rest.first().is_none_or(|first| *first > uid) {
        return uids.binary_search(&uid).ok();
    }
    let mut step = 1;
    while rest.get(step).is_some_and(|at| *at < uid) {
        step *= 2;
    }
    let near = rest.get(step / 2..rest.len().min(step + 1))?;
    let place = near.binary_search(&uid).ok()?;
    Some(hint + step / 2 + place)
}

/// Writes VANISHED with every UID of `old` that `new` lacks.
fn tell_vanished(old: &[Uid], new: &[Uid], out: &mut BytesMut) {
    let mut kept = new.iter().peekable();
    let mut gone = UidSet::default();
    for uid in old {
        while kept.next_if(|next| *next < uid).is_some() {}
        if kept.next_if_eq(&uid).is_none() {
            gone.insert(*uid);
        }
    }
    write::vanished(out, false, &gone);
}

/// Writes an EXPUNGE for each UID of `old` that `new` lacks, each with the number it has at that moment.
fn tell_expunges(old: &[Uid], new: &[Uid], out: &mut BytesMut) {
    let mut kept = new.iter().peekable();
    let mut seq = 1;
    for uid in old {
        while kept.next_if(|next| *next < uid).is_some() {}
        if kept.next_if(|next| *next == uid).is_some() {
            seq += 1;
        } else {
            write::count(out, seq, "EXPUNGE");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_is_found_from_wherever_it_is_sought(
            numbers in proptest::collection::btree_set(1u32..400, 0..200),
            hint in 0usize..220,
            sought in 1u32..400,
        ) {
            let uids: Vec<Uid> = numbers.iter().filter_map(|number| Uid::new(*number)).collect();
            let sought = Uid::new(sought).unwrap();
            prop_assert_eq!(place_from(&uids, hint, sought), uids.binary_search(&sought).ok());
        }
    }
}
