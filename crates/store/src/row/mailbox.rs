//! The mailbox state row, from which SELECT, STATUS and quota are answered.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq, UidValidity};
use nightmail_engine::{RowKey, Space};

/// Version 1 had another digest, which is not kept up.
const VERSION: u8 = 2;

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
    /// The sum of a mix of UID and flags over all messages. `None`: an earlier version, which mixed in the size, wrote
    /// the row, and nobody has read the whole mailbox since.
    pub digest: Option<u64>,
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
            digest: Some(0),
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
            .u8(u8::from(self.digest.is_some()))
            .u64(self.digest.unwrap_or_default());
        row.finish()
    }

    /// Reads the byte form.
    pub fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, version) = RowReader::new(row, VERSION)?;
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
            digest: match version {
                1 => None,
                _ => read_digest(&mut reader)?,
            },
        })
    }

    /// Counts a message in.
    pub fn count_in(&mut self, uid: u32, flags: Flags, size: u64) {
        self.exists = self.exists.saturating_add(1);
        self.bytes = self.bytes.saturating_add(size);
        self.count_flags_in(uid, flags);
    }

    /// Counts a message out.
    pub fn count_out(&mut self, uid: u32, flags: Flags, size: u64) {
        self.exists = self.exists.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
        self.count_flags_out(uid, flags);
    }

    /// Counts what the flags of a message in the mailbox contribute.
    pub fn count_flags_in(&mut self, uid: u32, flags: Flags) {
        let (unseen, deleted) = counted(flags);
        self.unseen = self.unseen.saturating_add(unseen);
        self.deleted = self.deleted.saturating_add(deleted);
        self.digest = self.digest.map(|sum| sum.wrapping_add(digest(uid, flags)));
    }

    /// Takes back what the flags of a message contributed.
    pub fn count_flags_out(&mut self, uid: u32, flags: Flags) {
        let (unseen, deleted) = counted(flags);
        self.unseen = self.unseen.saturating_sub(unseen);
        self.deleted = self.deleted.saturating_sub(deleted);
        self.digest = self.digest.map(|sum| sum.wrapping_sub(digest(uid, flags)));
    }
}

fn read_digest(reader: &mut RowReader<'_>) -> Result<Option<u64>, RowError> {
    let known = reader.u8()? != 0;
    let digest = reader.u64()?;
    Ok(known.then_some(digest))
}

/// What a message adds to the counts of the unseen and of the deleted.
fn counted(flags: Flags) -> (u32, u32) {
    let unseen = u32::from(!flags.contains(Flags::SEEN));
    (unseen, u32::from(flags.contains(Flags::DELETED)))
}

/// What a message adds to its mailbox's digest.
pub(crate) const fn digest(uid: u32, flags: Flags) -> u64 {
    let seed = ((uid as u64) << 32) ^ ((flags.bits() as u64) << 24);
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_earlier_versions_are_read_without_their_digest() {
        let mut old = RowWriter::new(1);
        old.u64(7).u32(1000).u32(12).u32(3).u32(2).u32(1).u64(999);
        old.u64(44).u64(1).u32(10).u64(0xfeed);
        let state = MailboxState::decode(&old.finish()).unwrap();
        let expected = MailboxState {
            uid_next: 12,
            exists: 3,
            unseen: 2,
            deleted: 1,
            bytes: 999,
            highest_modseq: ModSeq::new(44),
            recent_floor: 10,
            digest: None,
            ..MailboxState::new(AccountId::new(7), UidValidity::new(1000).unwrap())
        };
        assert_eq!(state, expected);
        for state in [
            state,
            MailboxState {
                digest: Some(5),
                ..expected
            },
        ] {
            assert_eq!(MailboxState::decode(&state.encode()).unwrap(), state);
        }
    }

    #[test]
    fn what_is_counted_out_was_as_if_never_counted_in() {
        let empty = MailboxState::new(AccountId::new(7), UidValidity::new(1).unwrap());
        let mut state = empty.clone();
        state.count_in(1, Flags::SEEN, 10);
        state.count_in(2, Flags::DELETED, 20);
        assert_eq!(
            (state.exists, state.unseen, state.deleted, state.bytes),
            (2, 1, 1, 30)
        );
        assert_ne!(state.digest, empty.digest);
        state.count_out(1, Flags::SEEN, 10);
        state.count_out(2, Flags::DELETED, 20);
        assert_eq!(state, empty);
    }
}
