//! Reading a blob's plain bytes.

use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use crate::HeapError;
use crate::builder::Stored;
use crate::chunk::{Chunk, ChunkTable};
use crate::heap::{INLINE_BYTES, Shared, blocking};
use crate::packs::PackSource;

/// Reads a range of a blob chunk by chunk, holding one chunk at a time; over a pack, one stretch of 512 KiB as well.
///
/// Over a segment it keeps the file open, and reads on although the segment is removed meanwhile. Over a pack that is
/// removed it fails with [`HeapError::Gone`]: look the location up again and go on from there.
pub struct BlobReader(Inner);

enum Inner {
    Local(LocalReader),
    // Boxed, so that whoever reads segments does not pay for it.
    Pack(Box<PackReader>),
}

struct PackReader {
    cursor: Cursor,
    source: PackSource,
}

impl BlobReader {
    pub(crate) fn local(reader: LocalReader) -> Self {
        Self(Inner::Local(reader))
    }

    /// Reads a record of a pack.
    pub(crate) async fn over_pack(
        mut source: PackSource,
        range: Range<u64>,
    ) -> Result<Self, HeapError> {
        let cursor = Cursor::new(source.table().await?, range);
        source.want(cursor.stored_end(), false);
        Ok(Self(Inner::Pack(Box::new(PackReader { cursor, source }))))
    }

    /// Plain bytes of the whole blob.
    pub fn size(&self) -> u64 {
        match &self.0 {
            Inner::Local(reader) => reader.cursor.table.size,
            Inner::Pack(reader) => reader.cursor.table.size,
        }
    }

    /// The next plain bytes, at most 256 KiB; `None` after the last.
    pub async fn next_chunk(&mut self) -> Result<Option<Bytes>, HeapError> {
        match &mut self.0 {
            Inner::Local(reader) => reader.next_chunk().await,
            Inner::Pack(reader) => Box::pin(reader.next_chunk()).await,
        }
    }

    /// All bytes that are left.
    pub async fn read_to_end(self) -> Result<Bytes, HeapError> {
        match self.0 {
            Inner::Local(reader) if reader.is_inline() => reader.read_now(),
            Inner::Local(reader) => blocking(move || reader.read_now()).await,
            Inner::Pack(reader) => Box::pin(reader.read_to_end()).await,
        }
    }
}

impl PackReader {
    async fn next_chunk(&mut self) -> Result<Option<Bytes>, HeapError> {
        let Some(wanted) = self.cursor.next() else {
            return Ok(None);
        };
        let plain = self.source.chunk(wanted.chunk, wanted.plain_len).await?;
        Ok(Some(wanted.cut(&plain)))
    }

    async fn read_to_end(mut self: Box<Self>) -> Result<Bytes, HeapError> {
        self.source.want(self.cursor.stored_end(), true);
        let mut joined = Joined::new(self.cursor.octets_left());
        while let Some(chunk) = self.next_chunk().await? {
            joined.push(chunk);
        }
        Ok(joined.finish())
    }
}

/// Reads a blob that lies in memory or in a local file.
pub(crate) struct LocalReader {
    shared: Arc<Shared>,
    stored: Stored,
    cursor: Cursor,
}

impl LocalReader {
    pub fn new(shared: Arc<Shared>, table: ChunkTable, stored: Stored, range: Range<u64>) -> Self {
        Self {
            shared,
            stored,
            cursor: Cursor::new(table, range),
        }
    }

    fn is_inline(&self) -> bool {
        self.cursor.table.size <= INLINE_BYTES
    }

    async fn next_chunk(&mut self) -> Result<Option<Bytes>, HeapError> {
        let Some(wanted) = self.cursor.next() else {
            return Ok(None);
        };
        if self.is_inline() {
            return read_chunk(&self.shared, &self.stored, wanted).map(Some);
        }
        let (shared, stored) = (Arc::clone(&self.shared), self.stored.clone());
        blocking(move || read_chunk(&shared, &stored, wanted).map(Some)).await
    }

    /// All bytes that are left; blocks.
    pub fn read_now(mut self) -> Result<Bytes, HeapError> {
        let mut joined = Joined::new(self.cursor.octets_left());
        while let Some(wanted) = self.cursor.next() {
            joined.push(read_chunk(&self.shared, &self.stored, wanted)?);
        }
        Ok(joined.finish())
    }
}

/// What is wanted of one chunk; blocks.
fn read_chunk(shared: &Shared, stored: &Stored, wanted: Wanted) -> Result<Bytes, HeapError> {
    let chunk = wanted.chunk;
    let bytes = stored.read(chunk.start, chunk.len as usize)?;
    let plain = shared.coders.unpack(chunk, bytes, wanted.plain_len);
    let plain = plain.map_err(|what| stored.corrupt(what))?;
    Ok(wanted.cut(&plain))
}

/// The chunks that are still to be read.
struct Cursor {
    table: ChunkTable,
    range: Range<u64>,
    next: Range<usize>,
}

/// A chunk, and which of its plain bytes are asked for.
struct Wanted {
    chunk: Chunk,
    plain_len: usize,
    cut: Range<usize>,
}

impl Wanted {
    fn cut(&self, plain: &Bytes) -> Bytes {
        plain.slice(self.cut.clone())
    }
}

impl Cursor {
    fn new(table: ChunkTable, range: Range<u64>) -> Self {
        let range = range.start.min(table.size)..range.end.min(table.size);
        let spanned = table.spanned(&range);
        Self {
            next: spanned.start..spanned.end.min(table.chunks.len()),
            table,
            range,
        }
    }

    fn next(&mut self) -> Option<Wanted> {
        let index = self.next.next()?;
        let chunk = *self.table.chunks.get(index)?;
        let plain_len = self.table.plain_len(index);
        let start = self.table.plain_start(index);
        let from = self.range.start.saturating_sub(start) as usize;
        let to = (self.range.end.saturating_sub(start) as usize).min(plain_len);
        Some(Wanted {
            chunk,
            plain_len,
            cut: from.min(to)..to,
        })
    }

    /// Plain bytes that are still to come, before anything was read.
    fn octets_left(&self) -> usize {
        (self.range.end - self.range.start.min(self.range.end)) as usize
    }

    /// Where in the body the stored bytes of the last wanted chunk end.
    fn stored_end(&self) -> u64 {
        let last = self.next.end.checked_sub(1);
        let last = last.and_then(|last| self.table.chunks.get(last));
        last.map_or(0, |chunk| chunk.start + u64::from(chunk.len))
    }
}

/// Puts chunks together; a single one is not copied.
struct Joined {
    first: Option<Bytes>,
    all: BytesMut,
    octets_max: usize,
}

impl Joined {
    fn new(octets_max: usize) -> Self {
        Self {
            first: None,
            all: BytesMut::new(),
            octets_max,
        }
    }

    fn push(&mut self, chunk: Bytes) {
        match self.first.take() {
            None if self.all.is_empty() => self.first = Some(chunk),
            None => self.all.extend_from_slice(&chunk),
            Some(first) => {
                self.all.reserve(self.octets_max);
                self.all.extend_from_slice(&first);
                self.all.extend_from_slice(&chunk);
            }
        }
    }

    fn finish(self) -> Bytes {
        self.first.unwrap_or_else(|| self.all.freeze())
    }
}
