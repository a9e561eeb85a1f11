//! A message on its way into the heap: hashed, packed and looked through as its octets pass by.

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_heap::{BlobBuilder, Heap, HeapError};
use nightmail_mime::{LineEnds, Scanner, Structure};

/// Takes the octets of one message. Holds a chunk of it at most.
pub(super) struct IncomingMessage {
    builder: BlobBuilder,
    scanner: Scanner,
    line_ends: LineEnds,
    failed: Option<HeapError>,
}

/// A message that has come in whole.
pub(super) struct Received {
    pub(super) blob: NewBlob,
    pub(super) structure: Structure,
    /// Octets that it grows by when every line ends in CRLF.
    pub(super) missing_line_ends: u64,
}

impl IncomingMessage {
    /// Before the first octet.
    pub(super) fn new(heap: &Heap) -> Self {
        Self {
            builder: BlobBuilder::new(heap),
            scanner: Scanner::new(nightmail_mime::Limits::default()),
            line_ends: LineEnds::default(),
            failed: None,
        }
    }

    /// Takes octets. What fails is told at the end.
    pub(super) fn push(&mut self, octets: &[u8]) {
        if self.failed.is_none() {
            self.scanner.push(octets);
            self.line_ends.push(octets);
            self.failed = self.builder.push(octets).err();
        }
    }

    /// Ends the message. `envelope` says whom it was accepted for, should the index ever be lost.
    pub(super) fn finish(self, envelope: Bytes) -> Result<Received, HeapError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        let structure = self.scanner.finish();
        Ok(Received {
            blob: NewBlob {
                blob: self.builder.finish()?,
                envelope,
                meta: structure.encode().into(),
            },
            structure,
            missing_line_ends: self.line_ends.missing(),
        })
    }
}
