//! The message row, the change index and the expunge log.

use bytes::Bytes;
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{BlobId, Flags, MailboxId, ModSeq, Timestamp, Uid};
use nightmail_engine::{KeyRange, RowKey, Space};

use super::KeywordId;

const VERSION: u8 = 1;

/// A message in a mailbox. The fixed part comes first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageRow {
    /// When the row last changed.
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

    /// Only the flags of an encoded row: they lie in its fixed part.
    pub fn decode_flags(row: &[u8]) -> Result<Flags, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        reader.fixed(16)?;
        Ok(Flags::from_bits(reader.u8()?))
    }

    /// What this message adds to its mailbox's digest: a mix of UID, flags and size.
    pub fn digest(&self, uid: u32) -> u64 {
        let seed = (u64::from(uid) << 32) ^ (u64::from(self.flags.bits()) << 24) ^ self.size;
        let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
    }
}

pub(crate) fn message_key(mailbox: MailboxId, uid: u32) -> RowKey {
    let mut key = mailbox.to_be_bytes().to_vec();
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

pub(crate) fn change_key(mailbox: MailboxId, modseq: ModSeq, uid: u32) -> RowKey {
    let mut key = log_key(mailbox, modseq);
    key.extend_from_slice(&uid.to_be_bytes());
    RowKey {
        space: Space::Change,
        key,
    }
}

/// The changes after `since`.
pub(crate) fn change_range(mailbox: MailboxId, since: ModSeq) -> KeyRange {
    KeyRange {
        from: log_key(mailbox, since.next()),
        to: KeyRange::prefix(&mailbox.to_be_bytes()).to,
    }
}

pub(crate) fn parse_change_key(key: &[u8]) -> Option<(ModSeq, u32)> {
    let (_, rest) = key.split_first_chunk::<8>()?;
    let (modseq, uid) = rest.split_first_chunk::<8>()?;
    Some((
        ModSeq::new(u64::from_be_bytes(*modseq)),
        u32::from_be_bytes(uid.try_into().ok()?),
    ))
}

pub(crate) fn expunge_key(mailbox: MailboxId, modseq: ModSeq) -> RowKey {
    RowKey {
        space: Space::Expunge,
        key: log_key(mailbox, modseq),
    }
}

/// The expunges after `since`.
pub(crate) fn expunge_range(mailbox: MailboxId, since: ModSeq) -> KeyRange {
    KeyRange {
        from: log_key(mailbox, since.next()),
        to: KeyRange::prefix(&mailbox.to_be_bytes()).to,
    }
}

pub(crate) fn parse_expunge_key(key: &[u8]) -> Option<ModSeq> {
    let (_, modseq) = key.split_first_chunk::<8>()?;
    Some(ModSeq::new(u64::from_be_bytes(modseq.try_into().ok()?)))
}

fn log_key(mailbox: MailboxId, modseq: ModSeq) -> Vec<u8> {
    let mut key = mailbox.to_be_bytes().to_vec();
    key.extend_from_slice(&modseq.get().to_be_bytes());
    key
}

/// Ascending UIDs as differences.
pub(crate) fn encode_uids(uids: &[Uid]) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.varint(uids.len() as u64);
    let mut last = 0;
    for uid in uids {
        row.varint(u64::from(uid.get().wrapping_sub(last)));
        last = uid.get();
    }
    row.finish()
}

pub(crate) fn decode_uids(row: &[u8]) -> Result<Vec<u32>, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    let count = reader.varint()?;
    let mut last = 0u32;
    (0..count)
        .map(|_| {
            let step = u32::try_from(reader.varint()?).map_err(|_| RowError::Invalid("uid"))?;
            last = last.wrapping_add(step);
            Ok(last)
        })
        .collect()
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
            prop_assert_eq!(MessageRow::decode_flags(&encoded).unwrap(), row.flags);
            prop_assert_eq!(MessageRow::decode(&encoded).unwrap(), row);
        }

        #[test]
        fn uid_lists_read_back_as_written(mut raw in proptest::collection::vec(1u32.., 0..50)) {
            raw.sort_unstable();
            let uids: Vec<Uid> = raw.iter().filter_map(|uid| Uid::new(*uid)).collect();
            prop_assert_eq!(decode_uids(&encode_uids(&uids)).unwrap(), raw);
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(bytes: Vec<u8>) {
            let _ = MessageRow::decode(&Bytes::from(bytes.clone()));
            let _ = decode_uids(&bytes);
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
