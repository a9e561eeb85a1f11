//! STORE: flags and keywords of messages.

use nightmail_commit::Tx;
use nightmail_core::{Flags, ModSeq};

use super::marks::{Live, OpenBlock, by_block};
use super::{Applied, get_state, intern_keywords, put_state};
use crate::row::{Change, Fate, KeywordId, low};
use crate::snapshot::Snapshot;

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

/// A change of flags.
#[derive(Clone, Debug)]
pub struct FlagUpdate {
    /// What is done with those named.
    pub operation: FlagOperation,
    /// System flags.
    pub flags: Flags,
    /// Keywords, in any case.
    pub keywords: Vec<String>,
    /// Messages that changed after this are left alone (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
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
    /// When the message last changed.
    pub modseq: ModSeq,
    /// Whether this STORE changed it; all that it changed share one `modseq`.
    pub changed: bool,
}

/// What became of the messages that STORE named. Those that are not there are in neither list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stored {
    /// The messages that have the flags now, ascending.
    pub rows: Vec<StoredFlags>,
    /// Those left alone because they had changed, ascending.
    pub modified: Vec<u32>,
}

/// Changes the flags of the messages of `uids` that exist. A message whose flags stay as they were is not written.
///
/// What `snapshot`, any of the mailbox, says of a message as it came need not be read again.
pub fn store_flags(
    tx: &mut Tx<'_>,
    snapshot: &Snapshot,
    uids: &[u32],
    update: &FlagUpdate,
) -> Applied<Stored> {
    let mailbox = snapshot.mailbox;
    let mut state = get_state(tx, mailbox)?;
    let keywords = intern_keywords(tx, state.account, &update.keywords)?;
    let modseq = state.highest_modseq.next();
    let mut stored = Stored::default();
    stored.rows.reserve(uids.len());
    for (number, uids) in by_block(uids) {
        let mut open = OpenBlock::read(tx, mailbox, number)?;
        let before = stored.rows.len();
        for uid in uids {
            let Some(live) = open.live(tx, snapshot, *uid)? else {
                continue;
            };
            if update
                .unchanged_since
                .is_some_and(|since| live.modseq > since)
            {
                stored.modified.push(*uid);
                continue;
            }
            let old = live.flags;
            let row = update.apply(*uid, live, &keywords, modseq);
            if row.changed {
                state.count_flags_out(*uid, old);
                state.count_flags_in(*uid, row.flags);
                open.block.set(low(*uid), row.change());
            }
            stored.rows.push(row);
        }
        let rows = stored.rows.get(before..).unwrap_or_default();
        if rows.iter().any(|row| row.changed) {
            state.highest_modseq = modseq;
            open.write(tx);
        }
    }
    if state.highest_modseq == modseq {
        put_state(tx, mailbox, &state);
    }
    Ok(stored)
}

impl StoredFlags {
    fn change(&self) -> Change {
        Change {
            modseq: self.modseq,
            fate: Fate::Live,
            flags: self.flags,
            keywords: self.keywords.clone(),
        }
    }
}

impl FlagUpdate {
    /// A message after the change, which happens at `modseq` if it changes anything.
    fn apply(&self, uid: u32, live: Live<'_>, named: &[KeywordId], modseq: ModSeq) -> StoredFlags {
        let mut keywords = live.keywords.to_vec();
        let flags = match self.operation {
            FlagOperation::Replace => {
                keywords = named.to_vec();
                self.flags
            }
            FlagOperation::ReplaceAmong {
                flags: among,
                keywords: replaced,
            } => {
                if replaced {
                    keywords = named.to_vec();
                }
                (live.flags & !among) | (self.flags & among)
            }
            FlagOperation::Add => {
                keywords.extend_from_slice(named);
                keywords.sort_unstable();
                keywords.dedup();
                live.flags | self.flags
            }
            FlagOperation::Remove => {
                keywords.retain(|keyword| !named.contains(keyword));
                live.flags & !self.flags
            }
        };
        let changed = flags != live.flags || keywords != *live.keywords;
        StoredFlags {
            uid,
            flags,
            keywords,
            modseq: if changed { modseq } else { live.modseq },
            changed,
        }
    }
}
