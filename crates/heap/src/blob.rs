//! Reading a blob's plain bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::HeapError;
use crate::builder::Stored;
use crate::chunk::{Chunk, ChunkTable};
use crate::heap::{INLINE_BYTES, Shared, blocking};

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
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, HeapError> {
        let Some(index) = self.next.next() else {
            return Ok(None);
        };
        let chunk = self.chunk(index)?;
        let plain = match self.is_inline() {
            true => chunk.read()?,
            false => blocking(move || chunk.read()).await?,
        };
        Ok(Some(self.cut(index, &plain)))
    }

    /// All bytes that are left.
    pub async fn read_to_end(self) -> Result<Bytes, HeapError> {
        match self.is_inline() {
            true => self.read_now(),
            false => blocking(move || self.read_now()).await,
        }
    }

    fn is_inline(&self) -> bool {
        self.table.size <= INLINE_BYTES
    }

    /// All bytes that are left; blocks.
    pub(crate) fn read_now(mut self) -> Result<Bytes, HeapError> {
        let Some(first) = self.next_now()? else {
            return Ok(Bytes::new());
        };
        if self.next.is_empty() {
            return Ok(first);
        }
        let mut all = BytesMut::with_capacity((self.range.end - self.range.start) as usize);
        all.extend_from_slice(&first);
        while let Some(chunk) = self.next_now()? {
            all.extend_from_slice(&chunk);
        }
        Ok(all.freeze())
    }

    fn next_now(&mut self) -> Result<Option<Bytes>, HeapError> {
        let Some(index) = self.next.next() else {
            return Ok(None);
        };
        let plain = self.chunk(index)?.read()?;
        Ok(Some(self.cut(index, &plain)))
    }

    fn chunk(&self, index: usize) -> Result<StoredChunk, HeapError> {
        let chunk = self.table.chunks.get(index);
        Ok(StoredChunk {
            chunk: *chunk.ok_or_else(|| self.stored.corrupt("chunk table"))?,
            plain_len: self.table.plain_len(index),
            stored: self.stored.clone(),
            shared: Arc::clone(&self.shared),
        })
    }

    /// What of chunk `index` lies in the range.
    fn cut(&self, index: usize, plain: &Bytes) -> Bytes {
        let start = self.table.plain_start(index);
        let from = self.range.start.saturating_sub(start) as usize;
        let to = (self.range.end.saturating_sub(start) as usize).min(plain.len());
        plain.slice(from.min(to)..to)
    }
}

/// A chunk on its way from where it is stored.
struct StoredChunk {
    chunk: Chunk,
    plain_len: usize,
    stored: Stored,
    shared: Arc<Shared>,
}

impl StoredChunk {
    /// The plain bytes; blocks.
    fn read(self) -> Result<Bytes, HeapError> {
        let stored = self
            .stored
            .read(self.chunk.start, self.chunk.len as usize)?;
        self.shared
            .coders
            .unpack(self.chunk, stored, self.plain_len)
            .map_err(|what| self.stored.corrupt(what))
    }
}
