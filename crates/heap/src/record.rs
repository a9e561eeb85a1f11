//! The form of a record, and [`Location`], which names one.
//!
//! A record is a header and a body; all numbers are big-endian:
//!
//! | bytes | field |
//! |------:|-------|
//! | 4 | version 1, then `NMR` |
//! | 8 | the segment's tag, derived from the heap key |
//! | 4 | bytes of the header, checksum included |
//! | 8 | bytes of the body |
//! | 8 | when it was accepted, milliseconds since 1970 |
//! | 32 | blob id |
//! | 8 | plain bytes of the blob |
//! | 4 | plain bytes in every chunk but the last |
//! | 4 | bytes of the envelope |
//! | 4 | number of chunks |
//! | n | the envelope |
//! | 8 each | per chunk: stored bytes (high bit: stored plain), CRC-32 of the stored bytes |
//! | 4 | CRC-32 of the header up to here |
//!
//! The body is the chunks' stored bytes, one after the other.

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{BlobId, Timestamp};

use crate::HeapError;
use crate::chunk::{CHUNK_BYTES, Chunk, ChunkTable};

/// The most bytes an envelope may have.
pub const ENVELOPE_BYTES_MAX: usize = 4 << 20;
/// The most bytes a blob may have.
pub const BLOB_BYTES_MAX: u64 = 16 << 30;

pub(crate) const VERSION: u8 = 1;
pub(crate) const MAGIC: [u8; 3] = *b"NMR";
/// Bytes of the header before the envelope.
pub(crate) const FIXED_BYTES: usize = 84;
const CHECKSUM_BYTES: usize = 4;
const CHUNK_ENTRY_BYTES: usize = 8;
const RAW_BIT: u32 = 1 << 31;
const CHUNKS_MAX: usize = (BLOB_BYTES_MAX / CHUNK_BYTES as u64) as usize;
/// The most bytes a header may have.
pub(crate) const HEADER_BYTES_MAX: usize =
    FIXED_BYTES + ENVELOPE_BYTES_MAX + CHUNKS_MAX * CHUNK_ENTRY_BYTES + CHECKSUM_BYTES;

/// Where a record lies: what a blob's row holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct Location {
    /// The segment's number.
    pub segment: u64,
    /// Where the record begins, in bytes from the start of the segment.
    pub offset: u64,
    /// Bytes of the whole record.
    pub length: u64,
    /// Bytes of the record's header.
    pub header: u32,
    /// Plain bytes of the blob.
    pub size: u64,
}

impl Location {
    const VERSION: u8 = 1;

    /// The byte form kept in rows.
    pub fn encode(&self) -> Vec<u8> {
        RowWriter::new(Self::VERSION)
            .varint(self.segment)
            .varint(self.offset)
            .varint(self.length)
            .varint(u64::from(self.header))
            .varint(self.size)
            .finish()
    }

    /// Reads what [`Location::encode`] wrote; what follows it is left alone.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, Self::VERSION)?;
        Ok(Self {
            segment: reader.varint()?,
            offset: reader.varint()?,
            length: reader.varint()?,
            header: u32::try_from(reader.varint()?).map_err(|_| RowError::Invalid("header"))?,
            size: reader.varint()?,
        })
    }
}

/// A record's header.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Header {
    pub blob: BlobId,
    pub created: Timestamp,
    pub envelope: Bytes,
    pub table: ChunkTable,
}

/// The lengths that a header's fixed part announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Lengths {
    pub header: u32,
    pub body: u64,
}

impl Lengths {
    pub fn total(self) -> u64 {
        u64::from(self.header).saturating_add(self.body)
    }
}

impl Header {
    /// Appends the header to `out`; returns its length and the body's.
    pub fn encode(&self, tag: [u8; 8], out: &mut Vec<u8>) -> Result<Lengths, HeapError> {
        if self.envelope.len() > ENVELOPE_BYTES_MAX {
            return Err(HeapError::TooLarge {
                what: "envelope",
                limit: ENVELOPE_BYTES_MAX as u64,
            });
        }
        let header = FIXED_BYTES
            + self.envelope.len()
            + self.table.chunks.len() * CHUNK_ENTRY_BYTES
            + CHECKSUM_BYTES;
        let lengths = Lengths {
            header: header as u32,
            body: self.table.stored_bytes(),
        };
        let mut row = RowWriter::new(VERSION);
        row.fixed(&MAGIC)
            .fixed(&tag)
            .u32(lengths.header)
            .u64(lengths.body)
            .i64(self.created.millis())
            .fixed(self.blob.as_bytes())
            .u64(self.table.size)
            .u32(self.table.chunk_bytes)
            .u32(self.envelope.len() as u32)
            .u32(self.table.chunks.len() as u32)
            .fixed(&self.envelope);
        for chunk in &self.table.chunks {
            let raw = if chunk.raw { RAW_BIT } else { 0 };
            row.u32(chunk.len | raw).u32(chunk.crc);
        }
        let row = row.finish();
        out.extend_from_slice(&row);
        out.extend_from_slice(&crc32fast::hash(&row).to_be_bytes());
        Ok(lengths)
    }

    /// The lengths of the record that begins with `fixed`, unless it is no record of a segment with this tag.
    pub fn peek(fixed: &[u8], tag: [u8; 8]) -> Option<Lengths> {
        let (mut reader, _) = RowReader::new(fixed, VERSION).ok()?;
        if reader.array::<3>().ok()? != MAGIC || reader.array::<8>().ok()? != tag {
            return None;
        }
        let lengths = Lengths {
            header: reader.u32().ok()?,
            body: reader.u64().ok()?,
        };
        let plausible = FIXED_BYTES + CHECKSUM_BYTES..=HEADER_BYTES_MAX;
        plausible
            .contains(&(lengths.header as usize))
            .then_some(lengths)
    }

    /// Reads a whole header; fails with what does not hold.
    pub fn decode(bytes: &[u8], tag: [u8; 8]) -> Result<Self, &'static str> {
        let lengths = Self::peek(bytes, tag).ok_or("no record here")?;
        let (header, _) = bytes
            .split_at_checked(lengths.header as usize)
            .ok_or("header ends early")?;
        let (fields, crc) = header
            .split_last_chunk::<CHECKSUM_BYTES>()
            .ok_or("header ends early")?;
        if crc32fast::hash(fields) != u32::from_be_bytes(*crc) {
            return Err("header checksum");
        }
        let header = Self::fields(fields).map_err(|_| "header fields")?;
        if header.table.stored_bytes() != lengths.body {
            return Err("body length");
        }
        Ok(header)
    }

    /// Reads the header of the record that `location` names; fails where another record is.
    pub fn decode_at(
        bytes: &[u8],
        tag: [u8; 8],
        location: &Location,
    ) -> Result<Self, &'static str> {
        let header = Self::decode(bytes, tag)?;
        let lengths = Self::peek(bytes, tag).ok_or("no record here")?;
        if lengths.header != location.header
            || lengths.total() != location.length
            || header.table.size != location.size
        {
            return Err("another record is here");
        }
        Ok(header)
    }

    fn fields(fields: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(fields, VERSION)?;
        reader.fixed(MAGIC.len() + 8 + 4 + 8)?;
        let created = Timestamp::from_millis(reader.i64()?);
        let blob = BlobId::new(reader.array()?);
        let size = reader.u64()?;
        let chunk_bytes = reader.u32()?;
        let envelope_len = reader.u32()? as usize;
        let count = reader.u32()? as usize;
        let envelope = Bytes::copy_from_slice(reader.fixed(envelope_len)?);
        let entries = reader.rest();
        let expected = size.div_ceil(u64::from(chunk_bytes.max(1)));
        if entries.len() != count.saturating_mul(CHUNK_ENTRY_BYTES) || expected != count as u64 {
            return Err(RowError::Invalid("chunks"));
        }
        let mut chunks = Vec::with_capacity(count);
        let mut start = 0u64;
        for _ in 0..count {
            let stored = reader.u32()?;
            let chunk = Chunk {
                start,
                len: stored & !RAW_BIT,
                raw: stored & RAW_BIT != 0,
                crc: reader.u32()?,
            };
            start += u64::from(chunk.len);
            chunks.push(chunk);
        }
        Ok(Self {
            blob,
            created,
            envelope,
            table: ChunkTable {
                size,
                chunk_bytes,
                chunks,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TAG: [u8; 8] = *b"segment1";

    fn header(envelope: Vec<u8>, lens: &[(u32, bool)]) -> Header {
        let mut start = 0;
        let chunks = lens
            .iter()
            .map(|&(len, raw)| {
                let chunk = Chunk {
                    start,
                    len,
                    raw,
                    crc: len ^ 7,
                };
                start += u64::from(len);
                chunk
            })
            .collect();
        Header {
            blob: BlobId::new([9; 32]),
            created: Timestamp::from_millis(1_795_364_520_123),
            envelope: envelope.into(),
            table: ChunkTable {
                size: lens.len() as u64 * 100,
                chunk_bytes: 100,
                chunks,
            },
        }
    }

    proptest! {
        #[test]
        fn a_header_reads_back_as_written(
            envelope: Vec<u8>,
            lens in proptest::collection::vec((0u32..1 << 30, any::<bool>()), 0..20),
        ) {
            let header = header(envelope, &lens);
            let mut bytes = Vec::new();
            let lengths = header.encode(TAG, &mut bytes).unwrap();
            prop_assert_eq!(bytes.len(), lengths.header as usize);
            prop_assert_eq!(Header::peek(&bytes, TAG), Some(lengths));
            prop_assert_eq!(Header::decode(&bytes, TAG).unwrap(), header);
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = Header::decode(&bytes, TAG);
            let _ = Location::decode(&bytes);
        }

        #[test]
        fn a_location_reads_back_as_written(segment: u64, offset: u64, length: u64, header: u32, size: u64) {
            let location = Location { segment, offset, length, header, size };
            prop_assert_eq!(Location::decode(&location.encode()).unwrap(), location);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_header_is_seen() {
        let mut bytes = Vec::new();
        header(b"<a@b>".to_vec(), &[(10, false), (100, true)])
            .encode(TAG, &mut bytes)
            .unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Header::decode(&bad, TAG).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_is_no_record_here() {
        let mut bytes = Vec::new();
        header(Vec::new(), &[]).encode(TAG, &mut bytes).unwrap();
        assert_eq!(Header::decode(&bytes, *b"segment2"), Err("no record here"));
    }
}
