//! Chunks: the pieces a blob is compressed and checked in.
//!
//! Each chunk is one zstd frame of at most [`CHUNK_BYTES`] plain bytes, or the plain bytes themselves where
//! zstd does not make them smaller. Any chunk can be read without the others.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::Mutex;
use zstd::bulk::{Compressor, Decompressor};

use crate::HeapError;

/// Plain bytes in every chunk but the last.
pub(crate) const CHUNK_BYTES: usize = 256 * 1024;
const LEVEL: i32 = 1;
const IDLE_CODERS_MAX: usize = 8;

/// One chunk as stored.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Chunk {
    /// Where its stored bytes begin in the record's body.
    pub start: u64,
    /// Stored bytes.
    pub len: u32,
    /// Whether the stored bytes are the plain bytes.
    pub raw: bool,
    /// CRC-32 of the stored bytes.
    pub crc: u32,
}

/// The chunks of one blob.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct ChunkTable {
    /// Plain bytes of the blob.
    pub size: u64,
    /// Plain bytes in every chunk but the last.
    pub chunk_bytes: u32,
    /// The chunks in order.
    pub chunks: Vec<Chunk>,
}

impl ChunkTable {
    /// Stored bytes of all chunks.
    pub fn stored_bytes(&self) -> u64 {
        self.chunks
            .last()
            .map_or(0, |chunk| chunk.start + u64::from(chunk.len))
    }

    /// Plain bytes before chunk `index`.
    pub fn plain_start(&self, index: usize) -> u64 {
        index as u64 * u64::from(self.chunk_bytes)
    }

    /// Plain bytes of chunk `index`.
    pub fn plain_len(&self, index: usize) -> usize {
        let rest = self.size.saturating_sub(self.plain_start(index));
        rest.min(u64::from(self.chunk_bytes)) as usize
    }

    /// The chunks that hold the plain bytes `range`.
    pub fn spanned(&self, range: &Range<u64>) -> Range<usize> {
        let unit = u64::from(self.chunk_bytes.max(1));
        if range.is_empty() {
            return 0..0;
        }
        let first = range.start / unit;
        let last = range.end.div_ceil(unit);
        first as usize..last as usize
    }
}

/// Compression and decompression contexts, kept for the next caller.
#[derive(Default)]
pub(crate) struct Coders {
    idle_compressors: Mutex<Vec<Packer>>,
    idle_decompressors: Mutex<Vec<Decompressor<'static>>>,
}

struct Packer {
    context: Compressor<'static>,
    output: Vec<u8>,
}

impl Coders {
    /// Appends the stored form of `plain` to `stored`.
    pub fn pack(&self, plain: &[u8], stored: &mut Vec<u8>) -> Result<Chunk, HeapError> {
        let idle = self.idle_compressors.lock().pop();
        let mut packer = match idle {
            Some(packer) => packer,
            None => Packer {
                context: Compressor::new(LEVEL)?,
                output: Vec::new(),
            },
        };
        packer.output.clear();
        packer
            .output
            .reserve(zstd::zstd_safe::compress_bound(plain.len()));
        packer
            .context
            .compress_to_buffer(plain, &mut packer.output)?;
        let raw = packer.output.len() >= plain.len();
        let bytes = if raw { plain } else { &packer.output };
        let chunk = Chunk {
            start: 0,
            len: bytes.len() as u32,
            raw,
            crc: crc32fast::hash(bytes),
        };
        stored.extend_from_slice(bytes);
        keep(&self.idle_compressors, packer);
        Ok(chunk)
    }

    /// The plain bytes of a chunk; fails with what does not hold.
    pub fn unpack(
        &self,
        chunk: Chunk,
        stored: Bytes,
        plain_len: usize,
    ) -> Result<Bytes, &'static str> {
        if crc32fast::hash(&stored) != chunk.crc {
            return Err("chunk checksum");
        }
        let plain = if chunk.raw {
            stored
        } else {
            self.decompress(&stored, plain_len)?.into()
        };
        if plain.len() != plain_len {
            return Err("chunk length");
        }
        Ok(plain)
    }

    fn decompress(&self, stored: &[u8], plain_len: usize) -> Result<Vec<u8>, &'static str> {
        let idle = self.idle_decompressors.lock().pop();
        let mut context = match idle {
            Some(context) => context,
            None => Decompressor::new().map_err(|_| "no memory for a zstd context")?,
        };
        let plain = context
            .decompress(stored, plain_len)
            .map_err(|_| "zstd frame")?;
        keep(&self.idle_decompressors, context);
        Ok(plain)
    }
}

fn keep<T>(idle: &Mutex<Vec<T>>, coder: T) {
    let mut idle = idle.lock();
    if idle.len() < IDLE_CODERS_MAX {
        idle.push(coder);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bytes_that_do_not_compress_are_stored_as_they_are() {
        let plain = blake3::hash(b"noise").as_bytes().to_vec();
        let mut stored = Vec::new();
        let chunk = Coders::default().pack(&plain, &mut stored).unwrap();
        assert!(chunk.raw);
        assert_eq!(stored, plain);
    }

    #[test]
    fn a_flipped_bit_is_an_error() {
        let coders = Coders::default();
        let mut stored = Vec::new();
        let chunk = coders.pack(&[b'a'; 5000], &mut stored).unwrap();
        assert!(!chunk.raw && stored.len() < 100);
        for index in 0..stored.len() {
            let mut bad = stored.clone();
            bad[index] ^= 1;
            assert!(coders.unpack(chunk, bad.into(), 5000).is_err());
        }
    }

    proptest! {
        #[test]
        fn what_is_packed_unpacks(plain in proptest::collection::vec(0u8..4, 0..3000)) {
            let coders = Coders::default();
            let mut stored = Vec::new();
            let chunk = coders.pack(&plain, &mut stored).unwrap();
            prop_assert_eq!(coders.unpack(chunk, stored.into(), plain.len()).unwrap(), plain);
        }
    }
}
