//! Blocks of marks against the change index and message rows.

use std::collections::{BTreeSet, HashMap};
use std::fmt;

use nightmail_core::{Flags, MailboxId, ModSeq};
use nightmail_engine::{KeyRange, Space};

use super::{CheckReport, Problem};
use crate::error::StoreError;
use crate::row::{
    Block, Change, Fate, MailboxState, MessageRow, PRESENT, block_key, block_of, change_key, low,
    mailbox_key, message_key, parse_block_key, parse_change_key,
};
use crate::store::Store;

/// What is wrong with a block of marks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MarksProblem {
    /// The change index does not have it where it belongs, or has it elsewhere too.
    Index,
    /// It marks a message as being there that has no row.
    NoRow(u32),
    /// It changed after the mailbox did.
    Ahead(ModSeq),
}

impl fmt::Display for MarksProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Index => write!(f, "the change index says something else"),
            Self::NoRow(uid) => write!(f, "UID {uid} is marked and has no row"),
            Self::Ahead(modseq) => write!(
                f,
                "changed at {}, which the mailbox has not reached",
                modseq.get()
            ),
        }
    }
}

/// All blocks, and which messages they take for there.
pub(super) struct Marks {
    blocks: HashMap<(MailboxId, u32), Block>,
    without_row: BTreeSet<(MailboxId, u32)>,
}

impl Marks {
    /// The flags of a message; `None` for one that was expunged. Its row has been seen then.
    pub fn flags(&mut self, mailbox: MailboxId, uid: u32, row: &MessageRow) -> Option<Flags> {
        self.without_row.remove(&(mailbox, uid));
        let block = self.blocks.get(&(mailbox, block_of(uid)));
        match block.and_then(|block| block.get(low(uid))) {
            Some(change) => (change.fate == Fate::Live).then_some(change.flags),
            None => Some(row.flags),
        }
    }

    /// What is marked as being there and was not seen.
    pub fn report_missing(self, report: &mut CheckReport) {
        let missing = self.without_row.into_iter();
        report.problems.extend(missing.map(|(mailbox, uid)| {
            Problem::Marks(mailbox, block_of(uid), MarksProblem::NoRow(uid))
        }));
    }
}

impl Store {
    /// Reads all blocks, and holds them against the change index and the mailboxes.
    pub(super) async fn check_marks(
        &self,
        states: &std::collections::BTreeMap<MailboxId, MailboxState>,
        report: &mut CheckReport,
    ) -> Result<Marks, StoreError> {
        let mut marks = Marks {
            blocks: HashMap::new(),
            without_row: BTreeSet::new(),
        };
        for (key, row) in self.scan_all(Space::Mark, KeyRange::all()).await? {
            let place = parse_block_key(&key).filter(|(mailbox, _)| states.contains_key(mailbox));
            let Some((mailbox, number)) = place else {
                // What is left of a mailbox that is being removed.
                continue;
            };
            match Block::decode(&row) {
                Ok(block) => {
                    let live = block.iter().filter(|(_, change)| change.fate == Fate::Live);
                    let uids = live.map(|(low, _)| (number << 8) | u32::from(low));
                    marks.without_row.extend(uids.map(|uid| (mailbox, uid)));
                    marks.blocks.insert((mailbox, number), block);
                }
                Err(error) => {
                    let what = format!("mailbox {mailbox} block {number}: {error}");
                    report.problems.push(Problem::Damaged("mark", what));
                }
            }
        }
        self.check_index(states, &marks, report).await?;
        Ok(marks)
    }

    async fn check_index(
        &self,
        states: &std::collections::BTreeMap<MailboxId, MailboxState>,
        marks: &Marks,
        report: &mut CheckReport,
    ) -> Result<(), StoreError> {
        let mut indexed: BTreeSet<(MailboxId, u32, ModSeq)> = BTreeSet::new();
        for (key, _) in self.scan_all(Space::Change, KeyRange::all()).await? {
            let place = parse_change_key(&key);
            let place = place.filter(|(mailbox, ..)| states.contains_key(mailbox));
            indexed.extend(place.map(|(mailbox, modseq, number)| (mailbox, number, modseq)));
        }
        let wanted: BTreeSet<(MailboxId, u32, ModSeq)> = marks
            .blocks
            .iter()
            .map(|((mailbox, number), block)| (*mailbox, *number, block.highest()))
            .collect();
        let different: BTreeSet<(MailboxId, u32)> = indexed
            .symmetric_difference(&wanted)
            .map(|(mailbox, number, _)| (*mailbox, *number))
            .collect();
        let different = different
            .into_iter()
            .map(|(mailbox, number)| Problem::Marks(mailbox, number, MarksProblem::Index));
        report.problems.extend(different);
        for (mailbox, number, modseq) in wanted {
            let reached = states.get(&mailbox).map(|state| state.highest_modseq);
            if reached.is_some_and(|reached| reached < modseq) {
                let what = MarksProblem::Ahead(modseq);
                report.problems.push(Problem::Marks(mailbox, number, what));
            }
        }
        Ok(())
    }

    /// Mends a block. True when it was mended.
    pub(super) async fn repair_marks(
        &self,
        mailbox: MailboxId,
        number: u32,
        what: MarksProblem,
    ) -> Result<bool, StoreError> {
        match what {
            MarksProblem::Index => self.index_again(mailbox, number).await,
            MarksProblem::NoRow(uid) => self.mark_as_gone(mailbox, uid).await,
            MarksProblem::Ahead(modseq) => {
                self.mend(move |tx| {
                    let key = mailbox_key(mailbox);
                    let Some(row) = tx.get(&key)? else {
                        return Ok(false);
                    };
                    let mut state = MailboxState::decode(&row).map_err(StoreError::from)?;
                    let behind = state.highest_modseq < modseq;
                    if behind {
                        state.highest_modseq = modseq;
                        tx.put(key, state.encode());
                    }
                    Ok(behind)
                })
                .await
            }
        }
    }

    /// Gives a block its one place in the change index.
    async fn index_again(&self, mailbox: MailboxId, number: u32) -> Result<bool, StoreError> {
        let range = KeyRange::prefix(&mailbox.to_be_bytes());
        let rows = self.scan_all(Space::Change, range).await?;
        let places = rows.iter().filter_map(|(key, _)| parse_change_key(key));
        let places: Vec<ModSeq> = places
            .filter(|(_, _, found)| *found == number)
            .map(|(_, modseq, _)| modseq)
            .collect();
        self.mend(move |tx| {
            if tx.get(&mailbox_key(mailbox))?.is_none() {
                return Ok(false);
            }
            let row = tx.get(&block_key(mailbox, number))?;
            let block = row.map(|row| Block::decode(&row)).transpose();
            let highest = block
                .map_err(StoreError::from)?
                .map(|block| block.highest());
            let mut mended = false;
            for wrong in places.iter().filter(|place| Some(**place) != highest) {
                let key = change_key(mailbox, *wrong, number);
                mended |= tx.get(&key)?.is_some();
                tx.delete(key);
            }
            if let Some(highest) = highest {
                let key = change_key(mailbox, highest, number);
                mended |= tx.get(&key)?.is_none();
                tx.put(key, PRESENT);
            }
            Ok(mended)
        })
        .await
    }

    /// Marks a message without a row as gone.
    async fn mark_as_gone(&self, mailbox: MailboxId, uid: u32) -> Result<bool, StoreError> {
        self.mend(move |tx| {
            let key = block_key(mailbox, block_of(uid));
            let row = tx.get(&key)?;
            if tx.get(&message_key(mailbox, uid))?.is_some() {
                return Ok(false);
            }
            let block = row.map(|row| Block::decode(&row)).transpose();
            let Some(mut block) = block.map_err(StoreError::from)? else {
                return Ok(false);
            };
            let live = block
                .get(low(uid))
                .is_some_and(|change| change.fate == Fate::Live);
            if live {
                // Its place in the change index stays right.
                let gone = Change::purged(block.highest());
                block.set(low(uid), gone);
                tx.put(key, block.encode().1);
            }
            Ok(live)
        })
        .await
    }
}
