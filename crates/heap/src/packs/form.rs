//! The form of a pack, and the numbers of packs.
//!
//! A pack begins as a segment file does (`NMHEAPS1`, number, tag) and holds records of the same form. After them come
//! a footer and a trailer, so that one small read at the end tells what is in it. All numbers are big-endian:
//!
//! | bytes | footer |
//! |------:|--------|
//! | 1 | version 1 |
//! | 68 each | per record: blob id (32), offset (8), length (8), header length (4), plain bytes (8), created (8) |
//!
//! | bytes | trailer |
//! |------:|---------|
//! | 1 | version 1 |
//! | 7 | `NMPACKI` |
//! | 8 | the pack's tag, derived from the heap key |
//! | 8 | where the footer begins |
//! | 4 | number of records |
//! | 4 | CRC-32 of the footer and of the trailer up to here |

use std::sync::atomic::{AtomicU64, Ordering};

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{BlobId, Timestamp};

use crate::{HeapError, Location};

/// Bytes of the trailer.
pub(crate) const TRAILER_BYTES: u64 = 32;
const VERSION: u8 = 1;
const MAGIC: [u8; 7] = *b"NMPACKI";
const ENTRY_BYTES: u64 = 68;
/// Bits of a pack's number that name its writer.
pub(crate) const WRITER_BITS: u32 = 20;

/// A record as the index of its segment names it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexEntry {
    /// The blob's id.
    pub blob: BlobId,
    /// Where the record lies.
    pub location: Location,
    /// When the message was accepted.
    pub created: Timestamp,
}

/// Draws numbers for new packs: 44 bits of milliseconds since 1970, then the writer's 20 bits.
///
/// One writer never draws a number twice: its milliseconds run ahead of the clock where they have to.
pub(crate) struct Numbers {
    writer: u64,
    last_millis: AtomicU64,
}

impl Numbers {
    /// The numbers of `writer`, of which 20 bits count; drawn at random when there is none.
    pub fn of(writer: Option<u32>) -> Result<Self, HeapError> {
        let writer = match writer {
            Some(writer) => writer,
            None => {
                let mut random = [0; 4];
                getrandom::fill(&mut random).map_err(|error| HeapError::Io(error.to_string()))?;
                u32::from_be_bytes(random)
            }
        };
        Ok(Self {
            writer: u64::from(writer) & ((1 << WRITER_BITS) - 1),
            last_millis: AtomicU64::new(0),
        })
    }

    /// The next number, drawn at `now`.
    pub fn draw(&self, now: Timestamp) -> u64 {
        let now = now.millis().max(0) as u64;
        let next = |last: u64| now.max(last + 1);
        let last = self
            .last_millis
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| {
                Some(next(last))
            });
        let millis = next(last.unwrap_or_else(|last| last));
        millis << WRITER_BITS | self.writer
    }
}

/// When the number of a pack was drawn, by the clock of the node that wrote it.
pub fn pack_time(pack: u64) -> Timestamp {
    Timestamp::from_millis((pack >> WRITER_BITS) as i64)
}

/// Appends footer and trailer for `entries`, whose records end at `records_end`.
pub(crate) fn encode_index(
    entries: &[IndexEntry],
    tag: [u8; 8],
    records_end: u64,
    out: &mut Vec<u8>,
) {
    let mut row = RowWriter::new(VERSION);
    for entry in entries {
        row.fixed(entry.blob.as_bytes())
            .u64(entry.location.offset)
            .u64(entry.location.length)
            .u32(entry.location.header)
            .u64(entry.location.size)
            .i64(entry.created.millis());
    }
    let mut index = row.finish();
    let mut trailer = RowWriter::new(VERSION);
    trailer
        .fixed(&MAGIC)
        .fixed(&tag)
        .u64(records_end)
        .u32(entries.len() as u32);
    index.extend_from_slice(&trailer.finish());
    out.extend_from_slice(&index);
    out.extend_from_slice(&crc32fast::hash(&index).to_be_bytes());
}

/// What a trailer announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Trailer {
    tag: [u8; 8],
    records_end: u64,
    count: u32,
    crc: u32,
}

/// Why an index does not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum IndexFault {
    /// It was written under another key, or for another pack.
    WrongTag,
    /// It is not whole.
    Damaged(&'static str),
}

impl From<RowError> for IndexFault {
    fn from(_: RowError) -> Self {
        Self::Damaged("index fields")
    }
}

impl Trailer {
    /// Reads the trailer at the end of `tail`, the last bytes of a pack of `pack_bytes`.
    pub fn read(tail: &[u8], pack_bytes: u64) -> Result<Self, IndexFault> {
        let bytes = tail
            .last_chunk::<{ TRAILER_BYTES as usize }>()
            .ok_or(IndexFault::Damaged("no trailer"))?;
        let (mut reader, _) = RowReader::new(bytes, VERSION)?;
        if reader.fixed(MAGIC.len())? != MAGIC.as_slice() {
            return Err(IndexFault::Damaged("no trailer"));
        }
        let trailer = Self {
            tag: reader.array()?,
            records_end: reader.u64()?,
            count: reader.u32()?,
            crc: reader.u32()?,
        };
        match trailer.records_end.checked_add(trailer.index_bytes()) {
            Some(end) if end == pack_bytes => Ok(trailer),
            _ => Err(IndexFault::Damaged("index length")),
        }
    }

    /// Bytes of footer and trailer.
    pub fn index_bytes(&self) -> u64 {
        1 + u64::from(self.count) * ENTRY_BYTES + TRAILER_BYTES
    }

    /// The entries of `index`, footer and trailer of pack `pack`.
    pub fn entries(
        &self,
        index: &[u8],
        pack: u64,
        tag: [u8; 8],
    ) -> Result<Vec<IndexEntry>, IndexFault> {
        let (checked, crc) = index
            .split_last_chunk::<4>()
            .ok_or(IndexFault::Damaged("index length"))?;
        if crc32fast::hash(checked) != u32::from_be_bytes(*crc) || *crc != self.crc.to_be_bytes() {
            return Err(IndexFault::Damaged("index checksum"));
        }
        if self.tag != tag {
            return Err(IndexFault::WrongTag);
        }
        let (mut reader, _) = RowReader::new(checked, VERSION)?;
        (0..self.count)
            .map(|_| Ok(entry(&mut reader, pack)?))
            .collect()
    }
}

fn entry(reader: &mut RowReader<'_>, pack: u64) -> Result<IndexEntry, RowError> {
    let blob = BlobId::new(reader.array()?);
    let location = Location {
        segment: pack,
        offset: reader.u64()?,
        length: reader.u64()?,
        header: reader.u32()?,
        size: reader.u64()?,
    };
    Ok(IndexEntry {
        blob,
        location,
        created: Timestamp::from_millis(reader.i64()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: [u8; 8] = *b"pack tag";

    fn entries(numbers: &[(u64, u64, u32)]) -> Vec<IndexEntry> {
        let entry = |&(offset, length, header): &(u64, u64, u32)| IndexEntry {
            blob: BlobId::new([length as u8; 32]),
            location: Location {
                segment: 7,
                offset,
                length,
                header,
                size: length ^ offset,
            },
            created: Timestamp::from_millis(offset as i64),
        };
        numbers.iter().map(entry).collect()
    }

    fn decode(pack: &[u8]) -> Result<Vec<IndexEntry>, IndexFault> {
        let trailer = Trailer::read(pack, pack.len() as u64)?;
        let start = pack.len() - trailer.index_bytes() as usize;
        trailer.entries(&pack[start..], 7, TAG)
    }

    proptest! {
        #[test]
        fn an_index_reads_back_as_written(
            numbers in proptest::collection::vec(any::<(u64, u64, u32)>(), 0..30),
            before in 0usize..100,
        ) {
            let entries = entries(&numbers);
            let mut pack = vec![1; before];
            encode_index(&entries, TAG, before as u64, &mut pack);
            prop_assert_eq!(decode(&pack).unwrap(), entries);
        }

        #[test]
        fn no_bytes_make_the_index_reader_panic(bytes: Vec<u8>, len: u64) {
            let _ = Trailer::read(&bytes, len);
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn every_flipped_bit_of_an_index_is_seen() {
        let mut pack = Vec::new();
        encode_index(
            &entries(&[(24, 100, 84), (124, 200, 90)]),
            TAG,
            0,
            &mut pack,
        );
        for bit in 0..pack.len() * 8 {
            let mut bad = pack.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn the_index_of_another_key_is_told_from_a_damaged_one() {
        let mut pack = Vec::new();
        encode_index(&[], *b"another!", 0, &mut pack);
        assert_eq!(decode(&pack), Err(IndexFault::WrongTag));
    }

    #[test]
    fn numbers_rise_with_the_clock_and_without_it_and_say_when_they_were_drawn() {
        let numbers = Numbers::of(Some(77)).unwrap();
        let now = Timestamp::from_millis(1_795_364_520_123);
        let drawn = [now, now, now.plus_millis(-5000), now.plus_millis(1000)];
        let drawn = drawn.map(|now| numbers.draw(now));
        assert!(drawn.is_sorted_by(|a, b| a < b));
        let since = drawn.map(|pack| pack_time(pack).millis() - now.millis());
        assert_eq!(since, [0, 1, 2, 1000]);
        let another = Numbers::of(Some(78)).unwrap();
        assert_ne!(another.draw(now), drawn[0]);
    }
}
