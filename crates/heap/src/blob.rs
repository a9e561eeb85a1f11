//! Reading a blob's plain bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::HeapError;
use crate::builder::Stored;
use crate::chunk::ChunkTable;
use crate::heap::Shared;

/// Reads a range of a blob chunk by chunk, holding one chunk at a time.
///
/// It keeps its file open, so that it reads on although the segment is removed meanwhile.
pub struct BlobReader {
    shared: Arc<Shared>,
    table: ChunkTable,
    stored: Stored,
    range: Range<u64>,
    next: Range<usize>,
}

impl BlobReader {
    pub(crate) fn new(
        shared: Arc<Shared>,
        table: ChunkTable,
        stored: Stored,
        range: Range<u64>,
    ) -> Self {
        let range = range.start.min(table.size)..range.end.min(table.size);
        Self {
            next: table.spanned(&range),
            shared,
            table,
            stored,
            range,
        }
    }

    /// Plain bytes of the whole blob.
    pub fn size(&self) -> u64 {
        self.table.size
    }

    /// The next plain bytes, at most 256 KiB; `None` after the last.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, HeapError> {
        let Some(index) = self.next.next() else {
            return Ok(None);
        };
        let chunk = *self
            .table
            .chunks
            .get(index)
            .ok_or_else(|| self.stored.corrupt("chunk table"))?;
        let stored = self.stored.read(chunk.start, chunk.len as usize)?;
        let plain = self
            .shared
            .coders
            .unpack(chunk, stored, self.table.plain_len(index))
            .map_err(|what| self.stored.corrupt(what))?;
        let start = self.table.plain_start(index);
        let from = self.range.start.saturating_sub(start) as usize;
        let to = (self.range.end.saturating_sub(start) as usize).min(plain.len());
        Ok(Some(plain.slice(from.min(to)..to)))
    }

    /// All bytes that are left.
    pub fn read_to_end(mut self) -> Result<Bytes, HeapError> {
        let Some(first) = self.next_chunk()? else {
            return Ok(Bytes::new());
        };
        if self.next.is_empty() {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity((self.range.end - self.range.start) as usize);
        all.extend_from_slice(&first);
        while let Some(chunk) = self.next_chunk()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }
}
