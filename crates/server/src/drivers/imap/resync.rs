//! What happened in a mailbox since a client knew it: for SELECT (RFC 7162 §3.2.5) and FETCH (§3.1.4.1, §3.2.6).
//!
//! A client that knows everything costs nothing here, however large the mailbox is.

use nightmail_core::{MailboxId, ModSeq, Uid};
use nightmail_imap::UidSet;
use nightmail_imap::io::{FlagsRow, MatchedRun, Resync, Resynced};
use nightmail_store::Snapshot;

use super::ImapSession;
use super::failure::Failure;
use super::flags::KeywordTable;

impl ImapSession {
    /// The difference to what a client knows; none where it knows another mailbox of that name.
    pub(super) async fn resynced(
        &self,
        snapshot: &Snapshot,
        resync: &Resync,
        table: &KeywordTable,
    ) -> Result<Option<Resynced>, Failure> {
        if resync.uid_validity != snapshot.uid_validity {
            return Ok(None);
        }
        if resync.modseq == snapshot.modseq {
            return Ok(Some(Resynced::default()));
        }
        // A client may know more than a mailbox that was restored: nothing that it knows counts then.
        let since = match resync.modseq > snapshot.modseq {
            true => ModSeq::default(),
            false => resync.modseq,
        };
        let used = used(Uid::new(snapshot.uid_next));
        let known = match &resync.known {
            Some(known) => known.intersection(&used),
            None => used,
        };
        let gone = self
            .gone(&snapshot.uids, snapshot.mailbox, since, &known)
            .await?;
        let vanished = match gone {
            Gone::Logged(gone) => gone,
            Gone::Absent(absent) => above(absent, proven(&snapshot.uids, &resync.matched)),
        };
        let changed = snapshot.changed_since(since).filter_map(|(uid, mark)| {
            let uid = Uid::new(uid).filter(|uid| known.contains(*uid))?;
            Some(FlagsRow {
                uid,
                flags: table.flag_list(mark.flags, mark.keywords),
                modseq: mark.modseq,
            })
        });
        Ok(Some(Resynced {
            vanished,
            changed: changed.collect(),
        }))
    }

    /// Those of some messages, ascending, that changed after `since`.
    pub(super) async fn changed_since(
        &self,
        uids: &[u32],
        since: ModSeq,
    ) -> Result<Vec<u32>, Failure> {
        let mailbox = self.current()?.mailbox;
        let snapshot = self.store().snapshot(mailbox).await;
        let snapshot = snapshot.map_err(Failure::of_selected)?;
        let mut uids = uids.iter().copied().peekable();
        let changed = snapshot.changed_since(since).filter_map(|(uid, _)| {
            while uids.next_if(|next| *next < uid).is_some() {}
            uids.next_if_eq(&uid)
        });
        Ok(changed.collect())
    }

    /// Those UIDs of a set that were expunged after `since`. Where nobody knows when, those that are not there.
    pub(super) async fn vanished_since(
        &self,
        asked: &UidSet,
        since: ModSeq,
    ) -> Result<UidSet, Failure> {
        let selected = self.current()?;
        let asked = asked.intersection(&used(selected.uid_next()));
        let present = self.machine.latest_uids().map_or(&[][..], |uids| &**uids);
        let gone = self.gone(present, selected.mailbox, since, &asked).await?;
        let (Gone::Logged(uids) | Gone::Absent(uids)) = gone;
        Ok(uids)
    }

    async fn gone(
        &self,
        present: &[Uid],
        mailbox: MailboxId,
        since: ModSeq,
        asked: &UidSet,
    ) -> Result<Gone, Failure> {
        let logged = self.store().vanished(mailbox, since).await;
        let Some(ranges) = logged.map_err(Failure::of_selected)? else {
            return Ok(Gone::Absent(asked.without(present)));
        };
        let ranges = ranges.into_iter();
        let ranges = ranges.filter_map(|(low, high)| Some((Uid::new(low)?, Uid::new(high)?)));
        let logged = UidSet::from_ranges(ranges).intersection(asked);
        // What was expunged after `present` was read is not gone yet for whoever is told of the rest.
        Ok(Gone::Logged(logged.without(present)))
    }
}

/// UIDs that are gone.
enum Gone {
    /// By the log of expunges: exactly those.
    Logged(UidSet),
    /// By their absence: they may have been gone long before.
    Absent(UidSet),
}

/// What of a set is greater than `floor`.
fn above(set: UidSet, floor: Option<Uid>) -> UidSet {
    let (Some(floor), Some(top)) = (floor, Uid::new(u32::MAX)) else {
        return set;
    };
    let first = floor.get().checked_add(1).and_then(Uid::new);
    first.map_or_else(UidSet::default, |first| {
        set.intersection(&UidSet::range(first, top))
    })
}

/// Every UID that a message may have had.
fn used(next: Option<Uid>) -> UidSet {
    let last = match next {
        Some(next) => Uid::new(next.get() - 1),
        None => Uid::new(u32::MAX),
    };
    last.map_or_else(UidSet::default, |last| UidSet::range(Uid::FIRST, last))
}

/// The greatest UID that has the sequence number that the client knows: up to it, no message is gone.
fn proven(uids: &[Uid], matched: &[MatchedRun]) -> Option<Uid> {
    matched.iter().rev().find_map(|run| {
        let start = usize::try_from(run.seq).ok()?.checked_sub(1)?;
        let count = usize::try_from(run.count).ok()?;
        let end = start.saturating_add(count).min(uids.len());
        let numbered = uids.get(start..end)?;
        // Messages that are gone move the others to lower numbers, so the distance only grows.
        let first = run.uid.get();
        let is_below =
            |index: usize, uid: &Uid| u64::from(uid.get()) <= u64::from(first) + index as u64;
        let reach = partition_indexed(numbered, is_below).checked_sub(1)?;
        let uid = *numbered.get(reach)?;
        (u64::from(uid.get()) == u64::from(first) + reach as u64).then_some(uid)
    })
}

/// As `partition_point`, with the index of each element.
fn partition_indexed<T>(sorted: &[T], is_before: impl Fn(usize, &T) -> bool) -> usize {
    let (mut low, mut high) = (0, sorted.len());
    while low < high {
        let middle = low + (high - low) / 2;
        match sorted.get(middle) {
            Some(element) if is_before(middle, element) => low = middle + 1,
            _ => high = middle,
        }
    }
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uids(raw: &[u32]) -> Vec<Uid> {
        raw.iter().filter_map(|raw| Uid::new(*raw)).collect()
    }

    fn run(seq: u32, first: u32, count: u32) -> MatchedRun {
        MatchedRun {
            seq,
            uid: Uid::new(first).unwrap(),
            count,
        }
    }

    #[test]
    fn a_number_that_is_right_proves_all_below_it() {
        let known = uids(&[1, 2, 3, 7, 8, 12]);
        let proven = |runs: &[MatchedRun]| proven(&known, runs).map(Uid::get);
        assert_eq!(
            proven(&[run(1, 1, 1), run(4, 7, 1), run(6, 13, 1)]),
            Some(7)
        );
        assert_eq!(proven(&[run(1, 1, 6)]), Some(3));
        assert_eq!(proven(&[run(4, 7, 3)]), Some(8));
        assert_eq!(proven(&[run(6, 12, 9)]), Some(12));
        assert_eq!(proven(&[run(7, 12, 1)]), None);
        assert_eq!(proven(&[run(2, 1, 1)]), None);
        assert_eq!(proven(&[]), None);
    }

    #[test]
    fn a_mailbox_that_has_used_its_last_uid_has_used_all() {
        assert_eq!(used(None).to_string(), "1:4294967295");
        assert_eq!(used(Uid::new(1)), UidSet::default());
        assert_eq!(used(Uid::new(5)).to_string(), "1:4");
    }
}
