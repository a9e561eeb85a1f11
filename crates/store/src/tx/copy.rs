//! COPY and MOVE: new rows on the same bytes.

use nightmail_commit::{Owner, Tx};
use nightmail_core::{MailboxId, UidValidity};

use super::append::{Quota, charge, next_uid};
use super::expunge::remove;
use super::{Applied, get_message, get_state, put_message, put_state};
use crate::row::MessageRow;

/// What was copied (RFC 4315 COPYUID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// Source UID and target UID of each message, ascending by both.
    pub uids: Vec<(u32, u32)>,
}

/// Copies the messages of `uids` that exist. All or nothing: over quota copies none.
pub fn copy(
    tx: &mut Tx<'_>,
    quota: Quota,
    source: MailboxId,
    target: MailboxId,
    uids: &[u32],
) -> Applied<Copied> {
    let messages = read(tx, source, uids)?;
    let mut state = get_state(tx, target)?;
    let bytes = messages.iter().map(|(_, row)| row.size).sum();
    charge(tx, &state, quota, bytes, messages.len() as u64)?;
    let mut copied = Copied {
        uid_validity: state.uid_validity,
        uids: Vec::with_capacity(messages.len()),
    };
    for (from, row) in messages {
        let (uid, modseq) = next_uid(&mut state)?;
        tx.link_blob(row.blob, Owner::Message(target, uid))?;
        let row = MessageRow {
            modseq,
            created_modseq: modseq,
            save_date: tx.now(),
            ..row
        };
        state.count_in(uid.get(), &row);
        put_message(tx, target, uid.get(), &row, None);
        copied.uids.push((from, uid.get()));
    }
    put_state(tx, target, &state);
    Ok(copied)
}

/// Moves the messages of `uids` that exist: copies them and removes the originals in the same step.
pub fn move_messages(
    tx: &mut Tx<'_>,
    source: MailboxId,
    target: MailboxId,
    uids: &[u32],
) -> Applied<Copied> {
    // What moves within an account leaves its usage as it was.
    let copied = copy(tx, Quota::default(), source, target, uids)?;
    let moved: Vec<u32> = copied.uids.iter().map(|(from, _)| *from).collect();
    remove(tx, source, &moved)?;
    Ok(copied)
}

fn read(tx: &mut Tx<'_>, mailbox: MailboxId, uids: &[u32]) -> Applied<Vec<(u32, MessageRow)>> {
    get_state(tx, mailbox)?;
    let mut messages = Vec::with_capacity(uids.len());
    for uid in uids {
        if let Some(row) = get_message(tx, mailbox, *uid)? {
            messages.push((*uid, row));
        }
    }
    Ok(messages)
}
