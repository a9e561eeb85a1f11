//! Taking a message in: hash, compress, and hold until its group is appended.

use std::fs::File;
use std::io::ErrorKind;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::BlobId;

use crate::blob::LocalReader;
use crate::chunk::{CHUNK_BYTES, ChunkTable};
use crate::heap::Shared;
use crate::record::BLOB_BYTES_MAX;
use crate::{Heap, HeapError};

/// Compressed bytes of one blob kept in memory; what is more goes to an unlinked file.
const SPILL_BYTES: usize = 1 << 20;

/// Takes a blob's bytes in, piece by piece, in bounded memory: one chunk of plain bytes and about
/// 1 MiB of compressed ones.
pub struct BlobBuilder {
    shared: Arc<Shared>,
    hasher: blake3::Hasher,
    plain: Vec<u8>,
    packed: Vec<u8>,
    spilled: Option<Spill>,
    table: ChunkTable,
}

struct Spill {
    file: File,
    len: u64,
}

impl BlobBuilder {
    /// Begins a blob for `heap`.
    pub fn new(heap: &Heap) -> Self {
        Self {
            hasher: blake3::Hasher::new_keyed(heap.shared.key.as_bytes()),
            shared: Arc::clone(&heap.shared),
            plain: Vec::new(),
            packed: Vec::new(),
            spilled: None,
            table: ChunkTable {
                size: 0,
                chunk_bytes: CHUNK_BYTES as u32,
                chunks: Vec::new(),
            },
        }
    }

    /// Appends `bytes`. About 1 ms of work per full chunk of 256 KiB, hardly any otherwise.
    ///
    /// After an error the blob cannot be finished.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), HeapError> {
        self.table.size = self.table.size.saturating_add(bytes.len() as u64);
        if self.table.size > BLOB_BYTES_MAX {
            return Err(HeapError::TooLarge {
                what: "blob",
                limit: BLOB_BYTES_MAX,
            });
        }
        self.hasher.update(bytes);
        while !bytes.is_empty() {
            let room = CHUNK_BYTES - self.plain.len();
            let (head, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
            self.plain.extend_from_slice(head);
            bytes = rest;
            if self.plain.len() == CHUNK_BYTES {
                self.pack()?;
            }
        }
        Ok(())
    }

    /// Plain bytes taken in so far.
    pub fn size(&self) -> u64 {
        self.table.size
    }

    /// Ends the blob. Nothing is on stable storage yet: that is [`Heap::append_group`]'s part.
    pub fn finish(mut self) -> Result<PreparedBlob, HeapError> {
        if !self.plain.is_empty() {
            self.pack()?;
        }
        let id = BlobId::new(*self.hasher.finalize().as_bytes());
        let source = match self.spilled.take() {
            None => Source::Memory(std::mem::take(&mut self.packed).into()),
            Some(mut spill) => {
                spill.append(&mut self.packed)?;
                Source::File(Arc::new(spill.file), 0)
            }
        };
        let stored = Stored {
            source,
            place: (0, 0),
        };
        Ok(PreparedBlob::new(self.shared, id, self.table, stored))
    }

    fn pack(&mut self) -> Result<(), HeapError> {
        let start = self.table.stored_bytes();
        let mut chunk = self.shared.coders.pack(&self.plain, &mut self.packed)?;
        chunk.start = start;
        self.table.chunks.push(chunk);
        self.plain.clear();
        if self.packed.len() > SPILL_BYTES {
            self.spill()?;
        }
        Ok(())
    }

    fn spill(&mut self) -> Result<(), HeapError> {
        let spill = match &mut self.spilled {
            Some(spill) => spill,
            empty => empty.insert(Spill {
                file: tempfile::tempfile_in(&self.shared.spill_dir)?,
                len: 0,
            }),
        };
        spill.append(&mut self.packed)
    }
}

impl Spill {
    fn append(&mut self, bytes: &mut Vec<u8>) -> Result<(), HeapError> {
        self.file.write_all_at(bytes, self.len)?;
        self.len += bytes.len() as u64;
        bytes.clear();
        Ok(())
    }
}

/// A blob that is ready to be appended. Cloning it copies nothing.
#[derive(Clone)]
pub struct PreparedBlob {
    inner: Arc<Prepared>,
}

struct Prepared {
    shared: Arc<Shared>,
    id: BlobId,
    table: ChunkTable,
    stored: Stored,
}

/// The stored bytes of a blob, and where their record lies.
#[derive(Clone)]
pub(crate) struct Stored {
    pub source: Source,
    /// Segment and offset of the record; zeros while there is none.
    pub place: (u64, u64),
}

/// Where stored bytes are.
#[derive(Clone)]
pub(crate) enum Source {
    /// In memory.
    Memory(Bytes),
    /// In a file, from an offset.
    File(Arc<File>, u64),
}

impl Stored {
    /// Reads `len` stored bytes from `start`.
    pub fn read(&self, start: u64, len: usize) -> Result<Bytes, HeapError> {
        match &self.source {
            Source::Memory(bytes) => {
                let from = start as usize;
                let to = from.saturating_add(len);
                if to > bytes.len() {
                    return Err(self.corrupt("body ends early"));
                }
                Ok(bytes.slice(from..to))
            }
            Source::File(file, offset) => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset + start)
                    .map_err(|error| match error.kind() {
                        ErrorKind::UnexpectedEof => self.corrupt("body ends early"),
                        _ => error.into(),
                    })?;
                Ok(bytes.into())
            }
        }
    }

    /// The error for a record that is not what it says it is.
    pub fn corrupt(&self, what: &'static str) -> HeapError {
        let (segment, offset) = self.place;
        HeapError::Corrupt {
            segment,
            offset,
            what,
        }
    }
}

impl PreparedBlob {
    pub(crate) fn new(shared: Arc<Shared>, id: BlobId, table: ChunkTable, stored: Stored) -> Self {
        Self {
            inner: Arc::new(Prepared {
                shared,
                id,
                table,
                stored,
            }),
        }
    }

    /// The blob's id: the keyed BLAKE3 of its plain bytes.
    pub fn id(&self) -> BlobId {
        self.inner.id
    }

    /// Plain bytes.
    pub fn size(&self) -> u64 {
        self.inner.table.size
    }

    /// Bytes as stored, without the record's header.
    pub fn stored_size(&self) -> u64 {
        self.inner.table.stored_bytes()
    }

    /// The plain bytes of `range`, cut to what there is. Blocks while a large blob is read from its file.
    pub fn read(&self, range: Range<u64>) -> Result<Bytes, HeapError> {
        let reader = LocalReader::new(
            Arc::clone(&self.inner.shared),
            self.inner.table.clone(),
            self.inner.stored.clone(),
            range,
        );
        reader.read_now()
    }

    pub(crate) fn table(&self) -> &ChunkTable {
        &self.inner.table
    }

    pub(crate) fn stored(&self) -> &Stored {
        &self.inner.stored
    }
}

impl std::fmt::Debug for PreparedBlob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PreparedBlob({}, {} bytes)", self.id(), self.size())
    }
}
