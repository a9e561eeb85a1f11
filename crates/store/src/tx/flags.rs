//! STORE: flags and keywords of messages.

use nightmail_commit::Tx;
use nightmail_core::{Flags, MailboxId, ModSeq};

use super::{Applied, get_message, get_state, intern_keywords, put_message, put_state};
use crate::row::{KeywordId, MessageRow};

/// What STORE does with the flags it names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FlagOperation {
    /// `+FLAGS`
    Add,
    /// `-FLAGS`
    Remove,
    /// `FLAGS`
    Replace,
    /// `FLAGS` of whoever may change only some.
    ReplaceAmong {
        /// The system flags that may be changed.
        flags: Flags,
        /// Whether keywords may be.
        keywords: bool,
    },
}

/// A message's flags after STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredFlags {
    /// The message.
    pub uid: u32,
    /// Its system flags now.
    pub flags: Flags,
    /// Its keywords now.
    pub keywords: Vec<KeywordId>,
    /// When its row last changed.
    pub modseq: ModSeq,
    /// Whether this STORE changed it; all that it changed share one `modseq`.
    pub changed: bool,
}

/// Changes the flags of the messages of `uids` that exist. A message whose flags stay as they were is not written.
pub fn store_flags(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    uids: &[u32],
    operation: FlagOperation,
    flags: Flags,
    keywords: &[String],
) -> Applied<Vec<StoredFlags>> {
    let mut state = get_state(tx, mailbox)?;
    let keywords = intern_keywords(tx, state.account, keywords)?;
    let modseq = state.highest_modseq.next();
    let mut stored = Vec::with_capacity(uids.len());
    for uid in uids {
        let Some(old) = get_message(tx, mailbox, *uid)? else {
            continue;
        };
        let mut row = MessageRow {
            modseq,
            ..old.clone()
        };
        apply(&mut row, operation, flags, &keywords);
        if row.flags == old.flags && row.keywords == old.keywords {
            stored.push(summary(*uid, old, false));
            continue;
        }
        state.count_flags_out(*uid, &old);
        state.count_flags_in(*uid, &row);
        state.highest_modseq = modseq;
        put_message(tx, mailbox, *uid, &row, Some(old.modseq));
        stored.push(summary(*uid, row, true));
    }
    if state.highest_modseq == modseq {
        put_state(tx, mailbox, &state);
    }
    Ok(stored)
}

fn summary(uid: u32, row: MessageRow, changed: bool) -> StoredFlags {
    StoredFlags {
        uid,
        flags: row.flags,
        keywords: row.keywords,
        modseq: row.modseq,
        changed,
    }
}

fn apply(row: &mut MessageRow, operation: FlagOperation, flags: Flags, keywords: &[KeywordId]) {
    match operation {
        FlagOperation::Replace => {
            row.flags = flags;
            row.keywords = keywords.to_vec();
        }
        FlagOperation::ReplaceAmong {
            flags: among,
            keywords: replaced,
        } => {
            row.flags = (row.flags & !among) | (flags & among);
            if replaced {
                row.keywords = keywords.to_vec();
            }
        }
        FlagOperation::Add => {
            row.flags = row.flags | flags;
            row.keywords.extend_from_slice(keywords);
            row.keywords.sort_unstable();
            row.keywords.dedup();
        }
        FlagOperation::Remove => {
            row.flags = row.flags & !flags;
            row.keywords.retain(|keyword| !keywords.contains(keyword));
        }
    }
}
