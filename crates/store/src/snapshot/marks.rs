//! Flags, keywords, modification sequence and size of every message of a mailbox, in memory.
//!
//! Kept in chunks of 256 UIDs that snapshots share, so that a change copies one chunk. A message costs 12 bytes.

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use nightmail_core::{Flags, ModSeq, Uid};

use crate::row::{Base, Block, Fate, KeywordId, block_of, digest, low};

/// What a snapshot knows of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mark<'a> {
    /// When the message changed last.
    pub modseq: ModSeq,
    /// Its system flags.
    pub flags: Flags,
    /// Its keywords, ascending.
    pub keywords: &'a [KeywordId],
    size: u32,
}

impl Mark<'_> {
    /// Octets as a client sees them; `None` for 4 GiB and more, which the row tells.
    pub fn size(&self) -> Option<u64> {
        (self.size != u32::MAX).then(|| u64::from(self.size))
    }
}

/// A message of a chunk.
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// How far its modification sequence is above the chunk's lowest; [`LATE`] where it stands apart.
    since: u32,
    size: u32,
    /// Place in `Chunk::words`; zero for none.
    words: u16,
    low: u8,
    flags: Flags,
}

/// The modification sequence of a message is so far above those of its neighbours that it is in `Chunk::late`.
const LATE: u32 = u32::MAX;

/// A message of a chunk that is being made.
#[derive(Clone, Copy)]
struct Gathered {
    modseq: ModSeq,
    size: u32,
    words: u16,
    low: u8,
    flags: Flags,
}

/// The messages of one block that are there.
#[derive(Debug)]
pub(crate) struct Chunk {
    number: u32,
    /// Whether a message of it lacks `\Seen`.
    unseen: bool,
    lowest: ModSeq,
    highest: ModSeq,
    digest: u64,
    entries: Box<[Entry]>,
    /// By the low byte of their UIDs.
    late: Box<[(u8, ModSeq)]>,
    /// The sets of keywords there are, the empty one first where there are others.
    words: Box<[Box<[KeywordId]>]>,
}

/// The messages of a mailbox, by block.
#[derive(Clone, Debug, Default)]
pub(crate) struct Marks {
    chunks: Vec<Arc<Chunk>>,
}

/// Makes a chunk, message by message in ascending order.
pub(crate) struct ChunkBuilder {
    number: u32,
    unseen: bool,
    highest: ModSeq,
    digest: u64,
    entries: Vec<Gathered>,
    words: Vec<Box<[KeywordId]>>,
}

impl ChunkBuilder {
    pub fn new(number: u32) -> Self {
        Self {
            number,
            unseen: false,
            highest: ModSeq::default(),
            digest: 0,
            entries: Vec::new(),
            words: Vec::new(),
        }
    }

    pub fn number(&self) -> u32 {
        self.number
    }

    /// Adds a message as its row and its block tell, if it is there.
    pub fn add(&mut self, uid: u32, base: &Base, block: Option<&Block>) {
        let size = u32::try_from(base.size).unwrap_or(u32::MAX);
        match block.and_then(|block| block.get(low(uid))) {
            Some(change) if change.fate != Fate::Live => {}
            Some(change) => self.push(uid, change.flags, &change.keywords, change.modseq, size),
            None => self.push(uid, base.flags, &base.keywords, base.modseq, size),
        }
    }

    fn push(&mut self, uid: u32, flags: Flags, keywords: &[KeywordId], modseq: ModSeq, size: u32) {
        let words = self.words_place(keywords);
        self.unseen |= !flags.contains(Flags::SEEN);
        self.highest = self.highest.max(modseq);
        self.digest = self.digest.wrapping_add(digest(uid, flags));
        self.entries.push(Gathered {
            modseq,
            size,
            words,
            low: low(uid),
            flags,
        });
    }

    fn words_place(&mut self, keywords: &[KeywordId]) -> u16 {
        if keywords.is_empty() {
            return 0;
        }
        if self.words.is_empty() {
            self.words.push(Box::default());
        }
        let known = self.words.iter().position(|known| **known == *keywords);
        let place = known.unwrap_or_else(|| {
            self.words.push(keywords.into());
            self.words.len() - 1
        });
        u16::try_from(place).unwrap_or(0)
    }

    /// The chunk, unless it is empty.
    pub fn finish(self) -> Option<Chunk> {
        let gathered = &self.entries;
        let lowest = gathered.iter().map(|message| message.modseq).min()?;
        let since = |modseq: ModSeq| {
            let since = modseq.get().saturating_sub(lowest.get());
            u32::try_from(since).unwrap_or(LATE)
        };
        let late = gathered
            .iter()
            .filter(|message| since(message.modseq) == LATE);
        let entries = gathered.iter().map(|message| Entry {
            since: since(message.modseq),
            size: message.size,
            words: message.words,
            low: message.low,
            flags: message.flags,
        });
        Some(Chunk {
            number: self.number,
            unseen: self.unseen,
            lowest,
            highest: self.highest,
            digest: self.digest,
            entries: entries.collect(),
            late: late.map(|message| (message.low, message.modseq)).collect(),
            words: self.words.into(),
        })
    }
}

impl Chunk {
    /// The chunk after its block changed. `more` are messages that came since, ascending.
    fn changed(&self, block: Option<&Block>, more: Option<&Self>) -> Option<Self> {
        let mut builder = ChunkBuilder::new(self.number);
        let added = more.map_or(0, |more| more.entries.len());
        builder.entries.reserve_exact(self.entries.len() + added);
        let entries = self.iter().chain(more.into_iter().flat_map(Self::iter));
        for (uid, mark) in entries {
            match block.and_then(|block| block.get(low(uid))) {
                Some(change) if change.fate != Fate::Live => {}
                Some(change) => {
                    builder.push(
                        uid,
                        change.flags,
                        &change.keywords,
                        change.modseq,
                        mark.size,
                    );
                }
                None => builder.push(uid, mark.flags, mark.keywords, mark.modseq, mark.size),
            }
        }
        builder.finish()
    }

    fn iter(&self) -> impl DoubleEndedIterator<Item = (u32, Mark<'_>)> {
        self.entries
            .iter()
            .map(|entry| (self.uid(entry), self.mark(entry)))
    }

    /// The UIDs.
    pub fn uids(&self) -> impl Iterator<Item = Uid> {
        let uids = self.entries.iter().map(|entry| self.uid(entry));
        uids.filter_map(Uid::new)
    }

    fn uid(&self, entry: &Entry) -> u32 {
        (self.number << 8) | u32::from(entry.low)
    }

    fn mark(&self, entry: &Entry) -> Mark<'_> {
        let keywords = self.words.get(usize::from(entry.words));
        let modseq = match entry.since {
            LATE => self.late_modseq(entry.low),
            since => ModSeq::new(self.lowest.get() + u64::from(since)),
        };
        Mark {
            modseq,
            flags: entry.flags,
            keywords: keywords.map_or(&[], |words| words),
            size: entry.size,
        }
    }

    fn late_modseq(&self, low: u8) -> ModSeq {
        let place = self.late.binary_search_by_key(&low, |(of, _)| *of);
        let found = place.ok().and_then(|place| self.late.get(place));
        found.map_or(self.highest, |(_, modseq)| *modseq)
    }

    fn get(&self, low: u8) -> Option<Mark<'_>> {
        // Where nothing is missing the place is the low byte itself.
        let guess = self.entries.get(usize::from(low));
        if let Some(entry) = guess.filter(|entry| entry.low == low) {
            return Some(self.mark(entry));
        }
        let place = self.entries.binary_search_by_key(&low, |entry| entry.low);
        let entry = self.entries.get(place.ok()?)?;
        Some(self.mark(entry))
    }

    fn bytes(&self) -> usize {
        let words: usize = self.words.iter().map(|set| 16 + 2 * set.len()).sum();
        size_of::<Self>() + size_of_val(&*self.entries) + size_of_val(&*self.late) + words
    }
}

impl Marks {
    pub fn new(chunks: impl IntoIterator<Item = Chunk>) -> Self {
        Self {
            chunks: chunks.into_iter().map(Arc::new).collect(),
        }
    }

    fn chunk(&self, number: u32) -> Option<&Arc<Chunk>> {
        // UIDs that begin at 1 and have no great gaps: the place is the number, or a little below.
        let guess = self.chunks.get(number as usize);
        if let Some(chunk) = guess.filter(|chunk| chunk.number == number) {
            return Some(chunk);
        }
        let place = self
            .chunks
            .binary_search_by_key(&number, |chunk| chunk.number);
        self.chunks.get(place.ok()?)
    }

    pub fn get(&self, uid: u32) -> Option<Mark<'_>> {
        self.chunk(block_of(uid))?.get(low(uid))
    }

    /// The messages with these UIDs, ascending.
    pub fn range(&self, uids: RangeInclusive<u32>) -> impl Iterator<Item = (Uid, Mark<'_>)> {
        let first = block_of(*uids.start());
        let last = block_of(*uids.end());
        let from = self.chunks.partition_point(|chunk| chunk.number < first);
        let chunks = self.chunks.get(from..).unwrap_or_default().iter();
        chunks
            .take_while(move |chunk| chunk.number <= last)
            .flat_map(|chunk| chunk.iter())
            .filter(move |(uid, _)| uids.contains(uid))
            .filter_map(|(uid, mark)| Some((Uid::new(uid)?, mark)))
    }

    /// The first message without `\Seen`.
    pub fn first_unseen(&self) -> Option<Uid> {
        let mut chunks = self.chunks.iter();
        let mut messages = chunks.find(|chunk| chunk.unseen)?.iter();
        let (uid, _) = messages.find(|(_, mark)| !mark.flags.contains(Flags::SEEN))?;
        Uid::new(uid)
    }

    /// The messages that changed after `since`, ascending.
    pub fn changed_since(&self, since: ModSeq) -> impl Iterator<Item = (u32, Mark<'_>)> {
        let chunks = self
            .chunks
            .iter()
            .filter(move |chunk| chunk.highest > since);
        chunks
            .flat_map(|chunk| chunk.iter())
            .filter(move |(_, mark)| mark.modseq > since)
    }

    /// How many messages there are.
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|chunk| chunk.entries.len()).sum()
    }

    /// All UIDs.
    pub fn uids(&self) -> Arc<[Uid]> {
        // Made in its place: a list of a million that is copied leaves as much memory behind.
        let mut uids: Arc<[Uid]> = std::iter::repeat_n(Uid::FIRST, self.len()).collect();
        let known = self.chunks.iter().flat_map(|chunk| chunk.uids());
        if let Some(places) = Arc::get_mut(&mut uids) {
            places.iter_mut().zip(known).for_each(|(at, uid)| *at = uid);
        }
        uids
    }

    /// The same after blocks changed and messages came.
    pub fn advanced(&self, blocks: &HashMap<u32, Block>, fresh: Vec<Chunk>) -> Self {
        let mut fresh = fresh.into_iter().peekable();
        let mut chunks = Vec::with_capacity(self.chunks.len() + fresh.len());
        for chunk in &self.chunks {
            let block = blocks.get(&chunk.number);
            let more = fresh.next_if(|more| more.number == chunk.number);
            match block.is_none() && more.is_none() {
                true => chunks.push(Arc::clone(chunk)),
                false => chunks.extend(chunk.changed(block, more.as_ref()).map(Arc::new)),
            }
        }
        chunks.extend(fresh.map(Arc::new));
        Self { chunks }
    }

    /// The digest as the mailbox's state has it.
    pub fn digest(&self) -> u64 {
        let digests = self.chunks.iter().map(|chunk| chunk.digest);
        digests.fold(0, u64::wrapping_add)
    }

    /// Bytes of memory.
    pub fn bytes(&self) -> usize {
        let chunks = self.chunks.iter().map(|chunk| chunk.bytes() + 24);
        chunks.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::Change;

    fn base(flags: Flags, keywords: &[u16]) -> Base {
        Base {
            modseq: ModSeq::new(3),
            flags,
            size: 100,
            keywords: keywords.iter().copied().map(KeywordId::new).collect(),
        }
    }

    fn chunk(uids: impl IntoIterator<Item = u32>) -> Chunk {
        let mut uids = uids.into_iter().peekable();
        let mut builder = ChunkBuilder::new(block_of(*uids.peek().unwrap()));
        for uid in uids {
            let keywords: &[u16] = if uid % 2 == 0 { &[1, 4] } else { &[] };
            builder.add(uid, &base(Flags::SEEN, keywords), None);
        }
        builder.finish().unwrap()
    }

    #[test]
    fn an_entry_is_small() {
        assert_eq!(size_of::<Entry>(), 12);
        let marks = Marks::new((0..40).map(|number| chunk(number * 256..number * 256 + 256)));
        assert!(marks.bytes() < 40 * 256 * 14, "{}", marks.bytes());
    }

    #[test]
    fn modification_sequences_may_be_far_apart() {
        let modseqs = [
            5,
            u64::from(u32::MAX) + 4,
            u64::from(u32::MAX) + 5,
            u64::MAX,
            7,
        ];
        let mut builder = ChunkBuilder::new(0);
        for (uid, modseq) in (1..).zip(modseqs) {
            let base = Base {
                modseq: ModSeq::new(modseq),
                ..base(Flags::SEEN, &[])
            };
            builder.add(uid, &base, None);
        }
        let marks = Marks::new(builder.finish());
        for (uid, modseq) in (1..).zip(modseqs) {
            assert_eq!(marks.get(uid).unwrap().modseq.get(), modseq);
        }
    }

    #[test]
    fn the_first_message_that_nobody_saw_is_found() {
        let unseen = |uid: u32| {
            let mut builder = ChunkBuilder::new(block_of(uid));
            builder.add(uid - 1, &base(Flags::SEEN, &[]), None);
            builder.add(uid, &base(Flags::DRAFT, &[]), None);
            builder.finish().unwrap()
        };
        let mut chunks = vec![chunk(1..=255), chunk(256..=300)];
        assert_eq!(Marks::new(chunks.split_off(1)).first_unseen(), None);
        chunks.extend([unseen(600), unseen(900)]);
        assert_eq!(Marks::new(chunks).first_unseen(), Uid::new(600));
    }

    #[test]
    fn marks_are_found_by_uid_and_by_range() {
        let marks = Marks::new([chunk([1, 2, 9]), chunk([600, 601]), chunk([700_000])]);
        let found = |range| {
            marks
                .range(range)
                .map(|(uid, _)| uid.get())
                .collect::<Vec<_>>()
        };
        assert_eq!(found(0..=u32::MAX), [1, 2, 9, 600, 601, 700_000]);
        assert_eq!(found(2..=600), [2, 9, 600]);
        assert!(found(602..=699_999).is_empty());
        assert_eq!(marks.uids().len(), 6);
        for uid in [1, 2, 9, 600, 601, 700_000] {
            let keywords = marks.get(uid).unwrap().keywords;
            assert_eq!(keywords.is_empty(), uid % 2 == 1, "{uid}");
        }
        for uid in [0, 3, 257, 602, 699_999, u32::MAX] {
            assert!(marks.get(uid).is_none(), "{uid}");
        }
    }

    #[test]
    fn a_change_touches_its_chunk_alone() {
        let marks = Marks::new([chunk(1..=255), chunk(256..=300)]);
        let mut block = Block::default();
        let change = |fate, flags| Change {
            modseq: ModSeq::new(8),
            fate,
            flags,
            keywords: Vec::new(),
        };
        block.set(low(260), change(Fate::Live, Flags::DRAFT));
        block.set(low(261), change(Fate::Expunged, Flags::SEEN));
        block.set(low(301), change(Fate::Live, Flags::FLAGGED));
        let fresh = vec![chunk([301, 302]), chunk([512])];
        let newer = marks.advanced(&HashMap::from([(1, block)]), fresh);
        assert!(Arc::ptr_eq(&marks.chunks[0], &newer.chunks[0]));
        assert_eq!(newer.uids().len(), 300 - 1 + 3);
        assert_eq!(newer.get(260).unwrap().flags, Flags::DRAFT);
        assert!(newer.get(260).unwrap().keywords.is_empty());
        assert!(newer.get(261).is_none());
        assert_eq!(newer.get(301).unwrap().flags, Flags::FLAGGED);
        assert_eq!(newer.get(302).unwrap().flags, Flags::SEEN);
        let changed: Vec<u32> = newer
            .changed_since(ModSeq::new(3))
            .map(|(uid, _)| uid)
            .collect();
        assert_eq!(changed, [260, 301]);
        let plain = newer.range(0..=u32::MAX);
        let sum = plain.fold(0u64, |sum, (uid, mark)| {
            sum.wrapping_add(digest(uid.get(), mark.flags))
        });
        assert_eq!(newer.digest(), sum);
    }
}
