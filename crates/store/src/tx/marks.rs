//! Messages as an intent sees them: their rows under what became of them since.
//!
//! A message's row never changes, so it may have been read before the intent, into a [`Snapshot`]; only the block of
//! its UID is read, and checked at the commit.

use std::borrow::Cow;

use nightmail_commit::Tx;
use nightmail_core::{Flags, MailboxId, ModSeq};

use super::{Applied, damaged};
use crate::row::{
    Base, Block, Change, Fate, KeywordId, block_key, block_of, change_key, low, message_key,
};
use crate::snapshot::Snapshot;

/// A block, and what it was when the intent read it.
pub(super) struct OpenBlock {
    mailbox: MailboxId,
    number: u32,
    /// Its place in the change index; none for a block that is new.
    was: Option<ModSeq>,
    pub block: Block,
}

/// A message that is there.
pub(super) struct Live<'a> {
    pub flags: Flags,
    pub keywords: Cow<'a, [KeywordId]>,
    pub modseq: ModSeq,
}

/// UIDs by their blocks.
pub(super) fn by_block(uids: &[u32]) -> impl Iterator<Item = (u32, &[u32])> {
    let chunks = uids.chunk_by(|a, b| block_of(*a) == block_of(*b));
    chunks.filter_map(|chunk| chunk.first().map(|uid| (block_of(*uid), chunk)))
}

impl OpenBlock {
    pub fn read(tx: &mut Tx<'_>, mailbox: MailboxId, number: u32) -> Applied<Self> {
        let row = tx.get(&block_key(mailbox, number))?;
        let block = row
            .map(|row| Block::decode(&row))
            .transpose()
            .map_err(damaged)?;
        Ok(Self {
            mailbox,
            number,
            was: block.as_ref().map(Block::highest),
            block: block.unwrap_or_default(),
        })
    }

    /// Writes the block and its place in the change index.
    pub fn write(self, tx: &mut Tx<'_>) {
        let (highest, row) = self.block.encode();
        if let Some(was) = self.was.filter(|was| *was != highest) {
            tx.delete(change_key(self.mailbox, was, self.number));
        }
        if self.was != Some(highest) {
            let key = change_key(self.mailbox, highest, self.number);
            tx.put(key, crate::row::PRESENT);
        }
        tx.put(block_key(self.mailbox, self.number), row);
    }

    /// A message of the block as it is now, unless it is gone.
    pub fn live<'a>(
        &'a self,
        tx: &mut Tx<'_>,
        snapshot: &'a Snapshot,
        uid: u32,
    ) -> Applied<Option<Live<'a>>> {
        if let Some(change) = self.block.get(low(uid)) {
            return Ok((change.fate == Fate::Live).then(|| Live {
                flags: change.flags,
                keywords: Cow::Borrowed(&change.keywords),
                modseq: change.modseq,
            }));
        }
        if snapshot.covers(uid) {
            return Ok(snapshot.mark(uid).map(|mark| Live {
                flags: mark.flags,
                keywords: Cow::Borrowed(mark.keywords),
                modseq: mark.modseq,
            }));
        }
        Ok(read_base(tx, self.mailbox, uid)?.map(|base| Live {
            flags: base.flags,
            keywords: Cow::Owned(base.keywords),
            modseq: base.modseq,
        }))
    }

    /// Notes that a message left, with the flags it had.
    pub fn expunge(&mut self, uid: u32, modseq: ModSeq, flags: Flags, keywords: Vec<KeywordId>) {
        let change = Change {
            modseq,
            fate: Fate::Expunged,
            flags,
            keywords,
        };
        self.block.set(low(uid), change);
    }
}

/// Octets of a message.
pub(super) fn size_of(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    snapshot: &Snapshot,
    uid: u32,
) -> Applied<u64> {
    match snapshot.mark(uid).and_then(|mark| mark.size()) {
        Some(size) => Ok(size),
        None => Ok(read_base(tx, mailbox, uid)?.map_or(0, |base| base.size)),
    }
}

fn read_base(tx: &mut Tx<'_>, mailbox: MailboxId, uid: u32) -> Applied<Option<Base>> {
    let row = tx.get(&message_key(mailbox, uid))?;
    row.map(|row| Base::decode(&row))
        .transpose()
        .map_err(damaged)
}
