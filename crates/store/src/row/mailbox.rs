//! The mailbox state row, from which SELECT, STATUS and quota are answered.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq, UidValidity};
use nightmail_engine::{RowKey, Space};

use super::MessageRow;

const VERSION: u8 = 1;

/// A mailbox's counters; agree with its message rows after every commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxState {
    /// Whose mailbox it is.
    pub account: AccountId,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The UID the next message gets; zero once all are used.
    pub uid_next: u32,
    /// Messages.
    pub exists: u32,
    /// Messages without `\Seen`.
    pub unseen: u32,
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Octets of all messages.
    pub bytes: u64,
    /// The highest modification sequence given out.
    pub highest_modseq: ModSeq,
    /// Expunges up to this modification sequence are no longer in the log.
    pub expunge_floor: ModSeq,
    /// Messages from this UID on have not been announced as recent to any session.
    pub recent_floor: u32,
    /// The sum of [`MessageRow::digest`] over all messages.
    pub digest: u64,
}

impl MailboxState {
    /// An empty mailbox.
    pub const fn new(account: AccountId, uid_validity: UidValidity) -> Self {
        Self {
            account,
            uid_validity,
            uid_next: 1,
            exists: 0,
            unseen: 0,
            deleted: 0,
            bytes: 0,
            highest_modseq: ModSeq::new(1),
            expunge_floor: ModSeq::new(1),
            recent_floor: 1,
            digest: 0,
        }
    }

    /// The byte form.
    pub fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        row.u64(self.account.get())
            .u32(self.uid_validity.get())
            .u32(self.uid_next)
            .u32(self.exists)
            .u32(self.unseen)
            .u32(self.deleted)
            .u64(self.bytes)
            .u64(self.highest_modseq.get())
            .u64(self.expunge_floor.get())
            .u32(self.recent_floor)
            .u64(self.digest);
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        Ok(Self {
            account: AccountId::new(reader.u64()?),
            uid_validity: UidValidity::new(reader.u32()?)
                .ok_or(RowError::Invalid("uidvalidity"))?,
            uid_next: reader.u32()?,
            exists: reader.u32()?,
            unseen: reader.u32()?,
            deleted: reader.u32()?,
            bytes: reader.u64()?,
            highest_modseq: ModSeq::new(reader.u64()?),
            expunge_floor: ModSeq::new(reader.u64()?),
            recent_floor: reader.u32()?,
            digest: reader.u64()?,
        })
    }

    /// Counts a message in.
    pub fn count_in(&mut self, uid: u32, row: &MessageRow) {
        self.exists = self.exists.saturating_add(1);
        self.bytes = self.bytes.saturating_add(row.size);
        self.count_flags_in(uid, row);
    }

    /// Counts a message out.
    pub fn count_out(&mut self, uid: u32, row: &MessageRow) {
        self.exists = self.exists.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(row.size);
        self.count_flags_out(uid, row);
    }

    /// Counts what the flags of a message in the mailbox contribute.
    pub fn count_flags_in(&mut self, uid: u32, row: &MessageRow) {
        self.unseen = self
            .unseen
            .saturating_add(u32::from(!row.flags.contains(Flags::SEEN)));
        self.deleted = self
            .deleted
            .saturating_add(u32::from(row.flags.contains(Flags::DELETED)));
        self.digest = self.digest.wrapping_add(row.digest(uid));
    }

    /// Takes back what the flags of a message contributed.
    pub fn count_flags_out(&mut self, uid: u32, row: &MessageRow) {
        self.unseen = self
            .unseen
            .saturating_sub(u32::from(!row.flags.contains(Flags::SEEN)));
        self.deleted = self
            .deleted
            .saturating_sub(u32::from(row.flags.contains(Flags::DELETED)));
        self.digest = self.digest.wrapping_sub(row.digest(uid));
    }
}

pub(crate) fn mailbox_key(mailbox: MailboxId) -> RowKey {
    RowKey {
        space: Space::Mailbox,
        key: mailbox.to_be_bytes().to_vec(),
    }
}

/// Lists a mailbox that has no name any more and whose messages are still to be removed.
pub(crate) fn doomed_key(mailbox: MailboxId) -> RowKey {
    let mut key = doomed_prefix();
    key.extend_from_slice(&mailbox.to_be_bytes());
    RowKey {
        space: Space::Meta,
        key,
    }
}

pub(crate) fn doomed_prefix() -> Vec<u8> {
    b"doomed-mailbox:".to_vec()
}
