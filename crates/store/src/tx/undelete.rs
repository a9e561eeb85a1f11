//! Bringing back what was expunged.

use nightmail_commit::{Owner, Tx};
use nightmail_core::{Flags, MailboxId};

use super::append::{Quota, charge, next_uid};
use super::expunge::drop_message;
use super::marks::{OpenBlock, by_block};
use super::{Applied, damaged, get_state, put_state};
use crate::row::{Change, Fate, MessageRow, low, message_key};

/// Puts those of `uids` that were expunged and are not purged yet back into the mailbox, under new UIDs and without
/// `\Deleted`. The quota does not keep them out. Returns the old and the new UID of each.
pub(crate) fn undelete(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    uids: &[u32],
) -> Applied<Vec<(u32, u32)>> {
    let mut state = get_state(tx, mailbox)?;
    let now = tx.now();
    let mut restored = Vec::with_capacity(uids.len());
    for (number, uids) in by_block(uids) {
        let mut open = OpenBlock::read(tx, mailbox, number)?;
        let gone = Change::purged(open.block.highest());
        for uid in uids {
            let change = open.block.get(low(*uid)).cloned();
            let Some(change) = change.filter(|change| change.fate == Fate::Expunged) else {
                continue;
            };
            let Some(row) = tx.get(&message_key(mailbox, *uid))? else {
                continue;
            };
            let row = MessageRow::decode(&row).map_err(damaged)?;
            let (new, modseq) = next_uid(&mut state)?;
            charge(tx, &state, Quota::default(), row.size, 1)?;
            tx.link_again(row.blob, Owner::Message(mailbox, new));
            drop_message(tx, mailbox, *uid)?;
            open.block.set(low(*uid), gone.clone());
            let row = MessageRow {
                modseq,
                created_modseq: modseq,
                save_date: now,
                flags: change.flags & !Flags::DELETED,
                keywords: change.keywords,
                ..row
            };
            state.count_in(new.get(), row.flags, row.size);
            tx.put(message_key(mailbox, new.get()), row.encode());
            restored.push((*uid, new.get()));
        }
        open.write(tx);
    }
    if !restored.is_empty() {
        put_state(tx, mailbox, &state);
    }
    Ok(restored)
}
