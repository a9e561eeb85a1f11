//! Removing messages from a mailbox.

use nightmail_commit::{Owner, Tx};
use nightmail_core::{Flags, MailboxId, ModSeq, Uid};

use super::{Applied, get_message, get_state, get_usage, put_state, put_usage};
use crate::row::{MessageRow, change_key, encode_uids, expunge_key, message_key};

/// Removes those of `uids` that carry `\Deleted` when this runs. Returns the removed UIDs, ascending.
pub fn expunge(tx: &mut Tx<'_>, mailbox: MailboxId, uids: &[u32]) -> Applied<Vec<u32>> {
    let mut doomed = Vec::new();
    for uid in uids {
        if get_message(tx, mailbox, *uid)?.is_some_and(|row| row.flags.contains(Flags::DELETED)) {
            doomed.push(*uid);
        }
    }
    remove(tx, mailbox, &doomed)
}

/// Removes those of `uids` that exist, whatever their flags, with one entry in the expunge log.
/// Returns the removed UIDs, ascending.
pub fn remove(tx: &mut Tx<'_>, mailbox: MailboxId, uids: &[u32]) -> Applied<Vec<u32>> {
    let mut state = get_state(tx, mailbox)?;
    let mut usage = get_usage(tx, state.account)?;
    let mut removed: Vec<Uid> = Vec::with_capacity(uids.len());
    for uid in uids {
        let (Some(row), Some(id)) = (get_message(tx, mailbox, *uid)?, Uid::new(*uid)) else {
            continue;
        };
        drop_message(tx, mailbox, id, &row);
        state.count_out(*uid, &row);
        usage.bytes = usage.bytes.saturating_sub(row.size);
        usage.messages = usage.messages.saturating_sub(1);
        removed.push(id);
    }
    if removed.is_empty() {
        return Ok(Vec::new());
    }
    removed.sort_unstable();
    state.highest_modseq = state.highest_modseq.next();
    tx.put(
        expunge_key(mailbox, state.highest_modseq),
        encode_uids(&removed),
    );
    put_usage(tx, state.account, &usage);
    put_state(tx, mailbox, &state);
    Ok(removed.into_iter().map(Uid::get).collect())
}

/// Removes rows of a mailbox that has been deleted: its counters and quota are settled already.
pub fn remove_doomed_messages(tx: &mut Tx<'_>, mailbox: MailboxId, uids: &[u32]) -> Applied<()> {
    for uid in uids {
        if let (Some(row), Some(id)) = (get_message(tx, mailbox, *uid)?, Uid::new(*uid)) {
            drop_message(tx, mailbox, id, &row);
        }
    }
    Ok(())
}

fn drop_message(tx: &mut Tx<'_>, mailbox: MailboxId, uid: Uid, row: &MessageRow) {
    let modseq: ModSeq = row.modseq;
    tx.delete(message_key(mailbox, uid.get()));
    tx.delete(change_key(mailbox, modseq, uid.get()));
    tx.unlink_blob(row.blob, Owner::Message(mailbox, uid));
}
