//! Removing messages from a mailbox, and removing for good what was removed.

use nightmail_commit::{Owner, Tx};
use nightmail_core::{Flags, MailboxId, Uid};

use super::marks::{OpenBlock, by_block, size_of};
use super::{Applied, damaged, get_state, get_usage, put_state, put_usage};
use crate::error::StoreError;
use crate::row::{
    Change, Fate, Leave, LogEntry, MailboxState, PRESENT, blob_and_size, expunge_key, low,
    message_key, purge_key, ranges_of,
};
use crate::snapshot::Snapshot;

/// Removes those of `uids` that carry `\Deleted` when this runs. Returns the removed UIDs, ascending.
pub fn expunge(tx: &mut Tx<'_>, snapshot: &Snapshot, uids: &[u32]) -> Applied<Vec<u32>> {
    let marked = |flags: Flags| flags.contains(Flags::DELETED);
    leave(tx, snapshot, uids, Leave::Expunged, marked)
}

/// Removes those of `uids` that exist, whatever their flags, with one entry in the expunge log.
/// Returns the removed UIDs, ascending.
pub fn remove(tx: &mut Tx<'_>, snapshot: &Snapshot, uids: &[u32]) -> Applied<Vec<u32>> {
    leave(tx, snapshot, uids, Leave::Expunged, |_| true)
}

/// Takes messages out of a mailbox: marks, log, counters and usage in one step. Their rows stay until they are purged.
pub(super) fn leave(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    uids: &[u32],
    leave: Leave,
    leaves: impl Fn(Flags) -> bool,
) -> Applied<Vec<u32>> {
    let mailbox = snapshot.mailbox;
    let mut state = get_state(tx, mailbox)?;
    let mut usage = get_usage(tx, state.account)?;
    let modseq = state.highest_modseq.next();
    let mut removed: Vec<u32> = Vec::with_capacity(uids.len());
    for (number, uids) in by_block(uids) {
        let mut open = OpenBlock::read(tx, mailbox, number)?;
        let before = removed.len();
        for uid in uids {
            let live = open.live(tx, snapshot, *uid)?;
            let Some(live) = live.filter(|live| leaves(live.flags)) else {
                continue;
            };
            let (flags, keywords) = (live.flags, live.keywords.into_owned());
            let size = size_of(tx, mailbox, snapshot, *uid)?;
            open.expunge(*uid, modseq, flags, keywords);
            state.count_out(*uid, flags, size);
            usage.bytes = usage.bytes.saturating_sub(size);
            usage.messages = usage.messages.saturating_sub(1);
            removed.push(*uid);
        }
        if removed.len() > before {
            open.write(tx);
        }
    }
    if removed.is_empty() {
        return Ok(removed);
    }
    removed.sort_unstable();
    state.highest_modseq = modseq;
    log(tx, mailbox, &state, leave, &removed);
    put_usage(tx, state.account, &usage);
    put_state(tx, mailbox, &state);
    Ok(removed)
}

/// Enters what left into the log, and into the list of what is to be purged: at once where it is elsewhere.
fn log(tx: &mut Tx<'_>, mailbox: MailboxId, state: &MailboxState, leave: Leave, removed: &[u32]) {
    let at = tx.now();
    let entry = LogEntry {
        leave,
        at,
        ranges: ranges_of(removed.iter().copied()),
    };
    let modseq = state.highest_modseq;
    tx.put(expunge_key(mailbox, modseq), entry.encode());
    let since = match leave {
        Leave::Expunged => at,
        Leave::Moved => nightmail_core::Timestamp::from_millis(0),
    };
    tx.put(purge_key(since, mailbox, modseq), PRESENT);
}

/// Removes the rows of those of `uids` that were expunged. Returns how many there were.
pub(crate) fn purge(tx: &mut Tx<'_>, mailbox: MailboxId, uids: &[u32]) -> Applied<usize> {
    let mut purged = 0;
    for (number, uids) in by_block(uids) {
        let mut open = OpenBlock::read(tx, mailbox, number)?;
        // The block keeps its place in the change index: what was purged was gone before.
        let gone = Change::purged(open.block.highest());
        let mut written = false;
        for uid in uids {
            let change = open.block.get(low(*uid));
            if change.is_none_or(|change| change.fate != Fate::Expunged) {
                continue;
            }
            purged += usize::from(drop_message(tx, mailbox, *uid)?);
            open.block.set(low(*uid), gone.clone());
            written = true;
        }
        if written {
            open.write(tx);
        }
    }
    Ok(purged)
}

/// Removes rows of a mailbox that has been deleted: its counters and quota are settled already.
pub(crate) fn remove_doomed_messages(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    uids: &[u32],
) -> Applied<()> {
    for uid in uids {
        drop_message(tx, mailbox, *uid)?;
    }
    Ok(())
}

/// Removes a message's row and its hold on its bytes. False where there is no row.
pub(super) fn drop_message(tx: &mut Tx<'_>, mailbox: MailboxId, uid: u32) -> Applied<bool> {
    let key = message_key(mailbox, uid);
    let (Some(row), Some(id)) = (tx.get(&key)?, Uid::new(uid)) else {
        return Ok(false);
    };
    let (blob, _) =
        blob_and_size(&row).ok_or(StoreError::Damaged(nightmail_core::codec::RowError::Short))?;
    tx.delete(key);
    tx.unlink_blob(blob, Owner::Message(mailbox, id));
    Ok(true)
}

/// The entry of the log for what left at a modification sequence.
pub(crate) fn log_entry(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    modseq: nightmail_core::ModSeq,
) -> Applied<Option<LogEntry>> {
    let row = tx.get(&expunge_key(mailbox, modseq))?;
    row.map(|row| LogEntry::decode(&row))
        .transpose()
        .map_err(damaged)
}
