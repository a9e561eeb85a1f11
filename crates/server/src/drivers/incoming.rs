//! A message on its way into the heap: hashed, packed and looked through as its octets pass by.
//!
//! What is kept is the message without the fields that only this server may write; what signatures are checked against
//! is the message as it came.

use bytes::{Bytes, BytesMut};
use nightmail_commit::NewBlob;
use nightmail_heap::{BlobBuilder, Heap, HeapError};
use nightmail_mime::{LineEnds, Scanner, Structure};
use nightmail_trust::{HeaderFilter, Inspected, Inspector};

/// Takes the octets of one message. Holds a chunk of it at most, and its header where it is inspected.
pub(crate) struct IncomingMessage {
    content: Content,
    inspector: Option<Box<Inspector>>,
    filter: Option<Box<HeaderFilter>>,
}

/// What is kept of a message.
struct Content {
    builder: BlobBuilder,
    scanner: Scanner,
    line_ends: LineEnds,
    failed: Option<HeapError>,
}

/// A message that has come in whole.
pub(crate) struct Received {
    pub(crate) blob: NewBlob,
    pub(crate) structure: Structure,
    /// Octets that it grows by when every line ends in CRLF.
    pub(crate) missing_line_ends: u64,
    /// What sender authentication or a signature needs of it.
    pub(crate) inspected: Option<Inspected>,
}

impl IncomingMessage {
    /// Before the first octet.
    pub(crate) fn new(heap: &Heap) -> Self {
        Self {
            content: Content {
                builder: BlobBuilder::new(heap),
                scanner: Scanner::new(nightmail_mime::Limits::default()),
                line_ends: LineEnds::default(),
                failed: None,
            },
            inspector: None,
            filter: None,
        }
    }

    /// Lets `inspector` see the message as it comes.
    pub(crate) fn inspected_by(self, inspector: Inspector) -> Self {
        Self {
            inspector: Some(Box::new(inspector)),
            ..self
        }
    }

    /// Drops what `filter` does not let through.
    pub(crate) fn filtered_by(self, filter: HeaderFilter) -> Self {
        Self {
            filter: Some(Box::new(filter)),
            ..self
        }
    }

    /// Takes octets. What fails is told at the end.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        if let Some(inspector) = &mut self.inspector {
            inspector.push(octets);
        }
        match &mut self.filter {
            None => self.content.push(octets),
            Some(filter) if filter.is_done() => self.content.push(octets),
            Some(filter) => {
                let mut passed = BytesMut::with_capacity(octets.len());
                filter.push(octets, &mut passed);
                self.content.push(&passed);
            }
        }
    }

    /// Ends the message. `envelope` says whom it was accepted for, should the index ever be lost.
    pub(crate) fn finish(mut self, envelope: Bytes) -> Result<Received, HeapError> {
        if let Some(mut filter) = self.filter.take() {
            let mut rest = BytesMut::new();
            filter.finish(&mut rest);
            self.content.push(&rest);
        }
        let content = self.content;
        if let Some(error) = content.failed {
            return Err(error);
        }
        let structure = content.scanner.finish();
        Ok(Received {
            blob: NewBlob {
                blob: content.builder.finish()?,
                envelope,
                meta: structure.encode().into(),
            },
            structure,
            missing_line_ends: content.line_ends.missing(),
            inspected: self.inspector.map(|inspector| inspector.finish()),
        })
    }
}

impl Content {
    fn push(&mut self, octets: &[u8]) {
        if self.failed.is_none() && !octets.is_empty() {
            self.scanner.push(octets);
            self.line_ends.push(octets);
            self.failed = self.builder.push(octets).err();
        }
    }
}
