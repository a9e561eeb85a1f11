//! Blocks: what became of messages since they came, for 256 UIDs at a time.
//!
//! A message's own row is never written again. Its flags, keywords and modification sequence, and whether it was
//! expunged, stand in the block of its UID as soon as they differ from the row. A block is kept as ascending runs of
//! UIDs that fared alike, so that what is done to a whole mailbox costs a few bytes for each 256 messages.
//!
//! **Invariant:** a UID that a block covers stays covered for ever, so whoever knows the row of a message and the
//! block of its UID knows the message.

use std::ops::RangeInclusive;

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{Flags, MailboxId, ModSeq};
use nightmail_engine::{KeyRange, RowKey, Space};

use super::KeywordId;
use super::message::log_key;

const VERSION: u8 = 1;
/// UIDs of a block.
const WIDTH: usize = 256;
/// No mark.
const NONE: u16 = u16::MAX;
/// Tells the keys of blocks in the change index from those of single messages, which earlier versions wrote.
const OF_BLOCK: u32 = 1 << 31;

const FLAG_BITS: u8 = 0x1f;
const HAS_KEYWORDS: u8 = 0x20;
const FATE_SHIFT: u32 = 6;

/// Whether a message is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Fate {
    /// It is.
    Live,
    /// It was expunged; its row is kept for a while.
    Expunged,
    /// Its row is gone, too.
    Purged,
}

/// What became of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Change {
    /// When it changed last.
    pub modseq: ModSeq,
    pub fate: Fate,
    /// Its flags; of one that was expunged, those it had.
    pub flags: Flags,
    /// Its keywords, ascending.
    pub keywords: Vec<KeywordId>,
}

impl Change {
    /// What is left to say of a message whose row is gone.
    pub fn purged(modseq: ModSeq) -> Self {
        Self {
            modseq,
            fate: Fate::Purged,
            flags: Flags::EMPTY,
            keywords: Vec::new(),
        }
    }

    fn state(&self) -> u8 {
        let keywords = match self.keywords.is_empty() {
            true => 0,
            false => HAS_KEYWORDS,
        };
        self.flags.bits() | keywords | (self.fate as u8) << FATE_SHIFT
    }
}

/// The changes of the messages of one block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Block {
    /// Places in `changes` by the low byte of the UID.
    places: [u16; WIDTH],
    changes: Vec<Change>,
}

impl Default for Block {
    fn default() -> Self {
        Self {
            places: [NONE; WIDTH],
            changes: Vec::new(),
        }
    }
}

/// The number of the block of a UID.
pub(crate) const fn block_of(uid: u32) -> u32 {
    uid >> 8
}

/// The place of a UID in its block.
pub(crate) const fn low(uid: u32) -> u8 {
    uid as u8
}

impl Block {
    /// What became of a message; `None` while it is as it came.
    pub fn get(&self, low: u8) -> Option<&Change> {
        let place = self.places.get(usize::from(low))?;
        self.changes.get(usize::from(*place))
    }

    /// Notes what became of a message.
    pub fn set(&mut self, low: u8, change: Change) {
        // Neighbours mostly fare alike: the last one is looked at first.
        let place = match self.changes.iter().rposition(|known| *known == change) {
            Some(known) => known,
            None => {
                self.changes.push(change);
                self.changes.len() - 1
            }
        };
        if let Some(slot) = self.places.get_mut(usize::from(low)) {
            *slot = u16::try_from(place).unwrap_or(NONE);
        }
    }

    /// Notes that a message fared as `like` did.
    pub fn set_like(&mut self, low: u8, like: u8) {
        let place = self.places.get(usize::from(like)).copied();
        if let (Some(slot), Some(place)) = (self.places.get_mut(usize::from(low)), place) {
            *slot = place;
        }
    }

    /// The UIDs covered and what became of them, by the low byte.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &Change)> {
        (0..=u8::MAX).filter_map(|low| Some((low, self.get(low)?)))
    }

    /// When a message of the block changed last; the start where none did.
    pub fn highest(&self) -> ModSeq {
        self.iter()
            .map(|(_, change)| change.modseq)
            .max()
            .unwrap_or_default()
    }

    fn runs(&self) -> Vec<(RangeInclusive<u8>, &Change)> {
        let mut runs: Vec<(RangeInclusive<u8>, &Change)> = Vec::new();
        let mut first = 0;
        for places in self.places.chunk_by(|a, b| a == b) {
            let (from, to) = (first as u8, (first + places.len() - 1) as u8);
            first += places.len();
            let place = places.first().copied().unwrap_or(NONE);
            let Some(change) = self.changes.get(usize::from(place)) else {
                continue;
            };
            match runs.last_mut() {
                Some((range, same))
                    if range.end().checked_add(1) == Some(from) && *same == change =>
                {
                    *range = *range.start()..=to;
                }
                _ => runs.push((from..=to, change)),
            }
        }
        runs
    }

    /// When a message of the block changed last, and the byte form.
    pub fn encode(&self) -> (ModSeq, Vec<u8>) {
        let runs = self.runs();
        let modseqs = runs.iter().map(|(_, change)| change.modseq);
        let highest = modseqs.max().unwrap_or_default();
        let mut row = RowWriter::new(VERSION);
        row.varint(highest.get()).varint(runs.len() as u64);
        for (range, change) in runs {
            row.u8(*range.start())
                .u8(*range.end())
                .u8(change.state())
                .varint(highest.get().saturating_sub(change.modseq.get()));
            if !change.keywords.is_empty() {
                row.varint(change.keywords.len() as u64);
                for keyword in &change.keywords {
                    row.varint(u64::from(keyword.get()));
                }
            }
        }
        (highest, row.finish())
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let highest = reader.varint()?;
        let count = reader.varint()?;
        let mut block = Self::default();
        block.changes.reserve(WIDTH.min(count as usize));
        let mut free = 0u16;
        for place in 0..count {
            let (first, last) = (reader.u8()?, reader.u8()?);
            if u16::from(first) < free || last < first {
                return Err(RowError::Invalid("run"));
            }
            free = u16::from(last) + 1;
            let change = read_change(&mut reader, highest)?;
            block.changes.push(change);
            let run = block
                .places
                .get_mut(usize::from(first)..=usize::from(last))
                .unwrap_or_default();
            // Runs do not overlap, so there are at most as many as UIDs.
            run.fill(place as u16);
        }
        Ok(block)
    }
}

fn read_change(reader: &mut RowReader<'_>, highest: u64) -> Result<Change, RowError> {
    let state = reader.u8()?;
    let fate = match state >> FATE_SHIFT {
        0 => Fate::Live,
        1 => Fate::Expunged,
        2 => Fate::Purged,
        _ => return Err(RowError::Invalid("fate")),
    };
    let behind = reader.varint()?;
    let modseq = highest
        .checked_sub(behind)
        .ok_or(RowError::Invalid("modseq"))?;
    let keyword = |raw| u16::try_from(raw).map_err(|_| RowError::Invalid("keyword"));
    let keywords = match state & HAS_KEYWORDS {
        0 => Vec::new(),
        _ => (0..reader.varint()?)
            .map(|_| reader.varint().and_then(keyword).map(KeywordId::new))
            .collect::<Result<_, _>>()?,
    };
    Ok(Change {
        modseq: ModSeq::new(modseq),
        fate,
        flags: Flags::from_bits(state & FLAG_BITS),
        keywords,
    })
}

pub(crate) fn block_key(mailbox: MailboxId, number: u32) -> RowKey {
    let mut key = mailbox.to_be_bytes().to_vec();
    key.extend_from_slice(&number.to_be_bytes());
    RowKey {
        space: Space::Mark,
        key,
    }
}

pub(crate) fn parse_block_key(key: &[u8]) -> Option<(MailboxId, u32)> {
    let (mailbox, number) = key.split_first_chunk::<8>()?;
    Some((
        MailboxId::new(u64::from_be_bytes(*mailbox)),
        u32::from_be_bytes(number.try_into().ok()?),
    ))
}

/// The place of a block in the change index, where there is one row for each block.
pub(crate) fn change_key(mailbox: MailboxId, highest: ModSeq, number: u32) -> RowKey {
    let mut key = log_key(mailbox, highest);
    key.extend_from_slice(&(number | OF_BLOCK).to_be_bytes());
    RowKey {
        space: Space::Change,
        key,
    }
}

/// The changes after `since`.
pub(crate) fn change_range(mailbox: MailboxId, since: ModSeq) -> KeyRange {
    KeyRange {
        from: log_key(mailbox, since.next()),
        to: KeyRange::prefix(&mailbox.to_be_bytes()).to,
    }
}

/// The mailbox, modification sequence and block of a row of the change index; `None` for one that an earlier version
/// wrote for a message.
pub(crate) fn parse_change_key(key: &[u8]) -> Option<(MailboxId, ModSeq, u32)> {
    let (mailbox, rest) = key.split_first_chunk::<8>()?;
    let (modseq, number) = rest.split_first_chunk::<8>()?;
    let number = u32::from_be_bytes(number.try_into().ok()?);
    (number & OF_BLOCK != 0).then_some((
        MailboxId::new(u64::from_be_bytes(*mailbox)),
        ModSeq::new(u64::from_be_bytes(*modseq)),
        number & !OF_BLOCK,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn change() -> impl Strategy<Value = Change> {
        let fate = prop_oneof![Just(Fate::Live), Just(Fate::Expunged), Just(Fate::Purged)];
        // Few values, so that neighbours are alike.
        (
            1..4u64,
            fate,
            0..3u8,
            proptest::collection::vec(0..3u16, 0..2),
        )
            .prop_map(|(modseq, fate, flags, keywords)| Change {
                modseq: ModSeq::new(modseq << 40),
                fate,
                flags: Flags::from_bits(flags),
                keywords: keywords.into_iter().map(KeywordId::new).collect(),
            })
    }

    fn listed(block: &Block) -> Vec<(u8, Change)> {
        block
            .iter()
            .map(|(low, change)| (low, change.clone()))
            .collect()
    }

    proptest! {
        #[test]
        fn blocks_read_back_as_written(sets in proptest::collection::vec((any::<u8>(), 0..40u8, change()), 0..30)) {
            let mut block = Block::default();
            let mut plain = std::collections::BTreeMap::new();
            for (first, len, change) in sets {
                for low in first..=first.saturating_add(len) {
                    block.set(low, change.clone());
                    plain.insert(low, change.clone());
                }
            }
            let expected: Vec<(u8, Change)> = plain.into_iter().collect();
            prop_assert_eq!(&listed(&block), &expected);
            let read = Block::decode(&block.encode().1).unwrap();
            prop_assert_eq!(&listed(&read), &expected);
            prop_assert_eq!(read.highest(), block.highest());
            prop_assert_eq!(read.encode(), block.encode());
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let mut row = vec![VERSION];
            row.extend(&bytes);
            for row in [row, bytes] {
                if let Ok(block) = Block::decode(&row) {
                    prop_assert_eq!(listed(&Block::decode(&block.encode().1).unwrap()), listed(&block));
                }
            }
        }
    }

    #[test]
    fn what_fared_alike_is_one_run_and_a_change_in_its_midst_splits_it() {
        let seen = Change {
            modseq: ModSeq::new(9),
            fate: Fate::Live,
            flags: Flags::SEEN,
            keywords: Vec::new(),
        };
        let mut block = Block::default();
        (0..=u8::MAX).for_each(|low| block.set(low, seen.clone()));
        assert_eq!(block.runs().len(), 1);
        assert!(block.encode().1.len() < 10);
        let expunged = Change {
            modseq: ModSeq::new(10),
            fate: Fate::Expunged,
            ..seen.clone()
        };
        block.set(100, expunged.clone());
        assert_eq!(block.runs().len(), 3);
        block.set(100, seen);
        assert_eq!(block.runs().len(), 1, "{:?}", block.runs());
        block.set(255, expunged);
        assert_eq!(block.runs().len(), 2);
    }

    #[test]
    fn rows_of_single_messages_are_no_blocks() {
        let mailbox = MailboxId::new(3);
        let key = change_key(mailbox, ModSeq::new(7), 12).key;
        assert_eq!(parse_change_key(&key), Some((mailbox, ModSeq::new(7), 12)));
        let mut old = log_key(mailbox, ModSeq::new(7));
        old.extend_from_slice(&12u32.to_be_bytes());
        assert_eq!(parse_change_key(&old), None);
    }
}
