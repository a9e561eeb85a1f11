//! The message row. It is written once, when the message comes; what changes later stands in blocks.

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{BlobId, Flags, MailboxId, ModSeq, Timestamp};
use nightmail_engine::{KeyRange, RowKey, Space};

use super::KeywordId;

const VERSION: u8 = 1;

/// A message in a mailbox. The fixed part comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// When the message last changed.
    pub modseq: ModSeq,
    /// When the message came into this mailbox, as a modification sequence.
    pub created_modseq: ModSeq,
    /// System flags.
    pub flags: Flags,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// When the message came into this mailbox (RFC 8514).
    pub save_date: Timestamp,
    /// Octets a client sees: prefix and blob.
    pub size: u64,
    /// Octets it grows by when every line ends in CRLF, as POP3 sends it.
    pub missing_line_ends: u64,
    /// The bytes after the prefix.
    pub blob: BlobId,
    /// The conversation it belongs to; equal to `email_id` until threads are kept.
    pub thread_id: u64,
    /// Names the same message in every mailbox it was copied to.
    pub email_id: u64,
    /// Keywords, ascending.
    pub keywords: Vec<KeywordId>,
    /// Header fields of this recipient only, put before the blob.
    pub prefix: Bytes,
}

impl MessageRow {
    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.modseq.get())
            .u64(self.created_modseq.get())
            .u8(self.flags.bits())
            .i64(self.internal_date.millis())
            .i64(self.save_date.millis())
            .u64(self.size)
            .u64(self.missing_line_ends)
            .fixed(self.blob.as_bytes())
            .u64(self.thread_id)
            .u64(self.email_id)
            .varint(self.keywords.len() as u64);
        for keyword in &self.keywords {
            row.varint(u64::from(keyword.get()));
        }
        row.bytes(&self.prefix);
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &Bytes) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let modseq = ModSeq::new(reader.u64()?);
        let created_modseq = ModSeq::new(reader.u64()?);
        let flags = Flags::from_bits(reader.u8()?);
        let internal_date = Timestamp::from_millis(reader.i64()?);
        let save_date = Timestamp::from_millis(reader.i64()?);
        let size = reader.u64()?;
        let missing_line_ends = reader.u64()?;
        let blob = BlobId::new(reader.array()?);
        let thread_id = reader.u64()?;
        let email_id = reader.u64()?;
        let count = reader.varint()?;
        let keywords = (0..count)
            .map(|_| {
                let raw =
                    u16::try_from(reader.varint()?).map_err(|_| RowError::Invalid("keyword"))?;
                Ok(KeywordId::new(raw))
            })
            .collect::<Result<_, RowError>>()?;
        let prefix = row.slice_ref(reader.bytes()?);
        Ok(Self {
            modseq,
            created_modseq,
            flags,
            internal_date,
            save_date,
            size,
            missing_line_ends,
            blob,
            thread_id,
            email_id,
            keywords,
            prefix,
        })
    }
}

/// What a message's row says of what may change later, and its size.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Base {
    pub modseq: ModSeq,
    pub flags: Flags,
    pub size: u64,
    pub keywords: Vec<KeywordId>,
}

impl Base {
    /// Reads no more of an encoded row than it has to.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let modseq = ModSeq::new(reader.u64()?);
        reader.fixed(FLAGS - CREATED)?;
        let flags = Flags::from_bits(reader.u8()?);
        reader.fixed(SIZE - INTERNAL_DATE)?;
        let size = reader.u64()?;
        reader.fixed(KEYWORDS - MISSING)?;
        let count = reader.varint()?;
        let keyword = |raw| u16::try_from(raw).map_err(|_| RowError::Invalid("keyword"));
        let keywords = (0..count)
            .map(|_| reader.varint().and_then(keyword).map(KeywordId::new))
            .collect::<Result<_, RowError>>()?;
        Ok(Self {
            modseq,
            flags,
            size,
            keywords,
        })
    }
}

/// Where the fields of the fixed part of an encoded row begin.
const MODSEQ: usize = 1;
const CREATED: usize = 9;
const FLAGS: usize = 17;
const INTERNAL_DATE: usize = 18;
const SAVE_DATE: usize = 26;
const SIZE: usize = 34;
const MISSING: usize = 42;
const BLOB: usize = 50;
const KEYWORDS: usize = 98;

/// The blob and the size of an encoded row.
pub(crate) fn blob_and_size(row: &[u8]) -> Option<(BlobId, u64)> {
    let blob = row.get(BLOB..)?.first_chunk::<32>()?;
    let size = row.get(SIZE..)?.first_chunk::<8>()?;
    Some((BlobId::new(*blob), u64::from_be_bytes(*size)))
}

/// Whether an encoded row has keywords.
pub(crate) fn has_keywords(row: &[u8]) -> bool {
    row.get(KEYWORDS).is_some_and(|count| *count != 0)
}

/// An encoded row as that of a copy: the same but for when it came, and its flags. `None` for what is no row.
pub(crate) fn copy_of(
    row: &[u8],
    modseq: ModSeq,
    saved: Timestamp,
    flags: Flags,
) -> Option<Vec<u8>> {
    let mut copy = row.to_vec();
    let modseq = modseq.get().to_be_bytes();
    copy.get_mut(MODSEQ..CREATED)?.copy_from_slice(&modseq);
    copy.get_mut(CREATED..FLAGS)?.copy_from_slice(&modseq);
    *copy.get_mut(FLAGS)? = flags.bits();
    copy.get_mut(SAVE_DATE..SIZE)?
        .copy_from_slice(&saved.millis().to_be_bytes());
    Some(copy)
}

pub(crate) fn message_key(mailbox: MailboxId, uid: u32) -> RowKey {
    let mut key = Vec::with_capacity(12);
    key.extend_from_slice(&mailbox.to_be_bytes());
    key.extend_from_slice(&uid.to_be_bytes());
    RowKey {
        space: Space::Message,
        key,
    }
}

/// The keys of the messages whose UID is at least `from`.
pub(crate) fn message_range(mailbox: MailboxId, from: u32) -> KeyRange {
    KeyRange {
        from: message_key(mailbox, from).key,
        to: KeyRange::prefix(&mailbox.to_be_bytes()).to,
    }
}

pub(crate) fn parse_message_key(key: &[u8]) -> Option<(MailboxId, u32)> {
    let (mailbox, uid) = key.split_first_chunk::<8>()?;
    Some((
        MailboxId::new(u64::from_be_bytes(*mailbox)),
        u32::from_be_bytes(uid.try_into().ok()?),
    ))
}

pub(super) fn log_key(mailbox: MailboxId, modseq: ModSeq) -> Vec<u8> {
    let mut key = mailbox.to_be_bytes().to_vec();
    key.extend_from_slice(&modseq.get().to_be_bytes());
    key
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn in_range(range: &KeyRange, key: &[u8]) -> bool {
        *key >= *range.from && range.to.as_ref().is_none_or(|to| key < to.as_slice())
    }

    fn row() -> impl Strategy<Value = MessageRow> {
        (
            any::<(u64, u64, u8, i64, i64, u64)>(),
            any::<[u8; 32]>(),
            any::<Vec<u16>>(),
            any::<Vec<u8>>(),
        )
            .prop_map(
                |((modseq, created, flags, internal, saved, size), blob, keywords, prefix)| {
                    MessageRow {
                        modseq: ModSeq::new(modseq),
                        created_modseq: ModSeq::new(created),
                        flags: Flags::from_bits(flags),
                        internal_date: Timestamp::from_millis(internal),
                        save_date: Timestamp::from_millis(saved),
                        size,
                        missing_line_ends: size / 2,
                        blob: BlobId::new(blob),
                        thread_id: size,
                        email_id: created,
                        keywords: keywords.into_iter().map(KeywordId::new).collect(),
                        prefix: prefix.into(),
                    }
                },
            )
    }

    proptest! {
        #[test]
        fn rows_read_back_as_written(row in row()) {
            let encoded = Bytes::from(row.encode());
            let base = Base {
                modseq: row.modseq,
                flags: row.flags,
                size: row.size,
                keywords: row.keywords.clone(),
            };
            prop_assert_eq!(Base::decode(&encoded).unwrap(), base);
            prop_assert_eq!(blob_and_size(&encoded), Some((row.blob, row.size)));
            prop_assert_eq!(has_keywords(&encoded), !row.keywords.is_empty());
            prop_assert_eq!(MessageRow::decode(&encoded).unwrap(), row);
        }

        #[test]
        fn a_copy_differs_in_when_it_came_and_in_its_flags(row in row(), modseq: u64, at: i64) {
            let modseq = ModSeq::new(modseq);
            let saved = Timestamp::from_millis(at);
            let copy = copy_of(&row.encode(), modseq, saved, Flags::DRAFT).unwrap();
            let expected = MessageRow {
                modseq,
                created_modseq: modseq,
                save_date: saved,
                flags: Flags::DRAFT,
                ..row
            };
            prop_assert_eq!(MessageRow::decode(&copy.into()).unwrap(), expected);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = MessageRow::decode(&Bytes::from(bytes.clone()));
            let _ = Base::decode(&bytes);
            let _ = copy_of(&bytes, ModSeq::new(1), Timestamp::from_millis(1), Flags::EMPTY);
        }
    }

    #[test]
    fn ranges_hold_their_mailbox_only() {
        let mailbox = MailboxId::new(5);
        let range = message_range(mailbox, 10);
        assert!(in_range(&range, &message_key(mailbox, 10).key));
        assert!(in_range(&range, &message_key(mailbox, u32::MAX).key));
        assert!(!in_range(&range, &message_key(mailbox, 9).key));
        assert!(!in_range(&range, &message_key(MailboxId::new(6), 10).key));
    }
}
