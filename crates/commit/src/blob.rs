//! Where blobs lie and who refers to them.
//!
//! `Blob`: blob id → [`BlobRow`]. `BlobMeta`: blob id → encoded structure. `Link`: blob id, owner → nothing.
//! `Condemned`: time, blob id → nothing, the list of blobs that lost a reference and may have no other.

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{BlobId, MailboxId, QueueId, Timestamp, Uid};
use nightmail_engine::{RowKey, Space};
use nightmail_heap::Location;

const VERSION: u8 = 1;

/// The row that locates a blob.
#[derive(Clone, Debug, PartialEq)]
pub struct BlobRow {
    /// Where its record lies.
    pub location: Location,
    /// Its plain size in bytes.
    pub size: u64,
    /// How often it was marked for deletion by the reclaimer, which found no link, or taken back by whoever linked it
    /// again: marked when odd. It only grows, so that a row never again is what a slow reclaimer once saw.
    pub marks: u64,
}

impl BlobRow {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.varint(self.marks)
            .varint(self.size)
            .bytes(&self.location.encode());
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let marks = reader.varint()?;
        let size = reader.varint()?;
        let location = Location::decode(reader.bytes()?)?;
        Ok(Self {
            location,
            size,
            marks,
        })
    }

    /// Whether it is marked for deletion.
    pub const fn is_condemned(&self) -> bool {
        self.marks % 2 == 1
    }

    /// The row with its mark set, or taken back.
    #[must_use]
    pub const fn with_mark_changed(self) -> Self {
        Self {
            marks: self.marks.wrapping_add(1),
            ..self
        }
    }

    /// The key of a blob's row.
    pub fn key(blob: BlobId) -> RowKey {
        RowKey {
            space: Space::Blob,
            key: blob.as_bytes().to_vec(),
        }
    }
}

/// The key of a blob's metadata.
pub(crate) fn meta_key(blob: BlobId) -> RowKey {
    RowKey {
        space: Space::BlobMeta,
        key: blob.as_bytes().to_vec(),
    }
}

/// A row that refers to a blob.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Owner {
    /// A message in a mailbox.
    Message(MailboxId, Uid),
    /// A message in the queue.
    Queue(QueueId),
}

impl Owner {
    /// The key of the link row from `blob` to this owner.
    pub fn link_key(self, blob: BlobId) -> RowKey {
        let mut key = Vec::with_capacity(45);
        key.extend_from_slice(blob.as_bytes());
        match self {
            Self::Message(mailbox, uid) => {
                key.push(1);
                key.extend_from_slice(&mailbox.to_be_bytes());
                key.extend_from_slice(&uid.get().to_be_bytes());
            }
            Self::Queue(id) => {
                key.push(2);
                key.extend_from_slice(&id.to_be_bytes());
            }
        }
        RowKey {
            space: Space::Link,
            key,
        }
    }

    /// Reads a link key back.
    pub fn from_link_key(key: &[u8]) -> Option<(BlobId, Self)> {
        let (blob, rest) = key.split_first_chunk::<32>()?;
        let (kind, rest) = rest.split_first()?;
        let (id, rest) = rest.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*id);
        let owner = match kind {
            1 => Self::Message(
                MailboxId::new(id),
                Uid::new(u32::from_be_bytes(rest.try_into().ok()?))?,
            ),
            2 if rest.is_empty() => Self::Queue(QueueId::new(id)),
            _ => return None,
        };
        Some((BlobId::new(*blob), owner))
    }
}

/// The key that lists `blob` as possibly unreferenced since `since`.
pub(crate) fn condemned_key(since: Timestamp, blob: BlobId) -> RowKey {
    let mut key = Vec::with_capacity(40);
    key.extend_from_slice(&since.millis().max(0).to_be_bytes());
    key.extend_from_slice(blob.as_bytes());
    RowKey {
        space: Space::Condemned,
        key,
    }
}

/// Reads a key of the condemned list.
pub(crate) fn parse_condemned_key(key: &[u8]) -> Option<(Timestamp, BlobId)> {
    let (since, blob) = key.split_first_chunk::<8>()?;
    Some((
        Timestamp::from_millis(i64::from_be_bytes(*since)),
        BlobId::new(blob.try_into().ok()?),
    ))
}

/// The value of rows whose key says everything.
pub(crate) const PRESENT: Bytes = Bytes::from_static(&[1]);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_that_was_marked_and_taken_back_is_another_row() {
        let row = BlobRow {
            location: Location {
                segment: 1,
                offset: 2,
                length: 3,
                header: 1,
                size: 4,
            },
            size: 4,
            marks: 0,
        };
        let marked = row.clone().with_mark_changed();
        let taken_back = marked.clone().with_mark_changed();
        assert!(!row.is_condemned() && marked.is_condemned() && !taken_back.is_condemned());
        assert_ne!(row.encode(), taken_back.encode());
        assert_eq!(BlobRow::decode(&taken_back.encode()), Ok(taken_back));
    }

    #[test]
    fn link_keys_name_their_owner() {
        let blob = BlobId::new([7; 32]);
        for owner in [
            Owner::Message(MailboxId::new(3), Uid::FIRST),
            Owner::Queue(QueueId::new(9)),
        ] {
            assert_eq!(
                Owner::from_link_key(&owner.link_key(blob).key),
                Some((blob, owner))
            );
        }
        assert_eq!(Owner::from_link_key(&[0; 40]), None);
    }
}
