//! COPY and MOVE: new rows on the same bytes, in a mailbox of the same account or of another.

use std::collections::HashMap;

use bytes::Bytes;
use nightmail_commit::{Owner, Tx};
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq, UidValidity};

use super::append::{Quota, charge, next_uid};
use super::expunge::leave;
use super::marks::{OpenBlock, by_block};
use super::{Applied, damaged, get_keywords, get_state, intern_one, put_keywords, put_state};
use crate::error::StoreError;
use crate::row::{
    Fate, KeywordId, Keywords, Leave, MessageRow, blob_and_size, copy_of, has_keywords, low,
    message_key,
};
use crate::snapshot::Snapshot;

/// What was copied (RFC 4315 COPYUID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// UIDVALIDITY of the target.
    pub uid_validity: UidValidity,
    /// Source UID and target UID of each message, ascending by both.
    pub uids: Vec<(u32, u32)>,
}

/// Message rows by UID, ascending, as they were read: they never change, and a message that is there has its row.
pub(crate) type RawRows = Vec<(u32, Bytes)>;

/// A message that is there, with the flags it has now.
struct Original<'a> {
    uid: u32,
    row: &'a Bytes,
    flags: Flags,
    /// Where they are not those of the row.
    keywords: Option<Vec<KeywordId>>,
}

/// Copies the messages of `rows` that exist. All or nothing: over quota copies none.
pub(crate) fn copy(
    tx: &mut Tx<'_>,
    quota: Quota,
    source: MailboxId,
    target: MailboxId,
    rows: &[(u32, Bytes)],
) -> Applied<Copied> {
    let owner = get_state(tx, source)?.account;
    let mut state = get_state(tx, target)?;
    let messages = originals(tx, source, rows)?;
    let bytes = messages.iter().map(|message| message.size()).sum();
    charge(tx, &state, quota, bytes, messages.len() as u64)?;
    let mut words = Words::read(tx, owner, state.account)?;
    let mut copied = Copied {
        uid_validity: state.uid_validity,
        uids: Vec::with_capacity(messages.len()),
    };
    let now = tx.now();
    // A row for each and a link.
    tx.will_add(2 * messages.len());
    for message in messages {
        let (uid, modseq) = next_uid(&mut state)?;
        let (blob, size) = blob_and_size(message.row).ok_or(damaged_row())?;
        // The original is there, as its block says, and so is its link: the blob cannot go meanwhile.
        tx.link_again(blob, Owner::Message(target, uid));
        let row = match message.keywords.is_some() || has_keywords(message.row) {
            true => message.with_keywords(modseq, now, &mut words)?,
            false => copy_of(message.row, modseq, now, message.flags).ok_or(damaged_row())?,
        };
        state.count_in(uid.get(), message.flags, size);
        tx.add(message_key(target, uid.get()), row);
        copied.uids.push((message.uid, uid.get()));
    }
    words.write(tx);
    put_state(tx, target, &state);
    Ok(copied)
}

/// Moves the messages of `rows` that exist: copies them and removes the originals in the same step.
pub(crate) fn move_messages(
    tx: &mut Tx<'_>,
    quota: Quota,
    snapshot: &Snapshot,
    target: MailboxId,
    rows: &[(u32, Bytes)],
) -> Applied<Copied> {
    let source = snapshot.mailbox;
    // What moves within an account leaves its usage as it was.
    let same = get_state(tx, source)?.account == get_state(tx, target)?.account;
    let quota = if same { Quota::default() } else { quota };
    let copied = copy(tx, quota, source, target, rows)?;
    let moved: Vec<u32> = copied.uids.iter().map(|(from, _)| *from).collect();
    leave(tx, snapshot, &moved, Leave::Moved, |_| true)?;
    Ok(copied)
}

/// Those of `rows` whose messages are there.
fn originals<'a>(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    rows: &'a [(u32, Bytes)],
) -> Applied<Vec<Original<'a>>> {
    let uids: Vec<u32> = rows.iter().map(|(uid, _)| *uid).collect();
    let mut found = Vec::with_capacity(rows.len());
    let mut rows = rows.iter();
    for (number, uids) in by_block(&uids) {
        let open = OpenBlock::read(tx, mailbox, number)?;
        for (uid, row) in rows.by_ref().take(uids.len()) {
            let (flags, keywords) = match open.block.get(low(*uid)) {
                Some(change) if change.fate != Fate::Live => continue,
                Some(change) => (change.flags, Some(change.keywords.clone())),
                None => (crate::row::Base::decode(row).map_err(damaged)?.flags, None),
            };
            found.push(Original {
                uid: *uid,
                row,
                flags,
                keywords: keywords.filter(|now| !now.is_empty() || has_keywords(row)),
            });
        }
    }
    Ok(found)
}

const fn damaged_row() -> StoreError {
    StoreError::Damaged(nightmail_core::codec::RowError::Short)
}

impl Original<'_> {
    fn size(&self) -> u64 {
        blob_and_size(self.row).map_or(0, |(_, size)| size)
    }

    /// The copy's row where keywords are to be written.
    fn with_keywords(
        &self,
        modseq: ModSeq,
        now: nightmail_core::Timestamp,
        words: &mut Words,
    ) -> Applied<Vec<u8>> {
        let row = MessageRow::decode(self.row).map_err(damaged)?;
        let keywords = self
            .keywords
            .clone()
            .unwrap_or_else(|| row.keywords.clone());
        Ok(MessageRow {
            modseq,
            created_modseq: modseq,
            save_date: now,
            flags: self.flags,
            keywords: words.translate(keywords)?,
            ..row
        }
        .encode())
    }
}

/// Keywords on their way from one account's table to another's.
struct Words {
    /// None where both are one.
    tables: Option<(Keywords, Keywords)>,
    target: AccountId,
    known: HashMap<KeywordId, KeywordId>,
    grown: bool,
}

impl Words {
    fn read(tx: &mut Tx<'_>, source: AccountId, target: AccountId) -> Applied<Self> {
        let tables = match source == target {
            true => None,
            false => Some((get_keywords(tx, source)?, get_keywords(tx, target)?)),
        };
        Ok(Self {
            tables,
            target,
            known: HashMap::new(),
            grown: false,
        })
    }

    fn translate(&mut self, keywords: Vec<KeywordId>) -> Applied<Vec<KeywordId>> {
        let Some((from, to)) = &mut self.tables else {
            return Ok(keywords);
        };
        let mut translated = Vec::with_capacity(keywords.len());
        for id in keywords {
            let place = match (self.known.get(&id), from.name(id)) {
                (Some(known), _) => *known,
                (None, Some(name)) => {
                    let place = intern_one(to, name, &mut self.grown)?;
                    self.known.insert(id, place);
                    place
                }
                (None, None) => continue,
            };
            translated.push(place);
        }
        translated.sort_unstable();
        translated.dedup();
        Ok(translated)
    }

    fn write(self, tx: &mut Tx<'_>) {
        if let Some((_, table)) = self.tables.filter(|_| self.grown) {
            put_keywords(tx, self.target, &table);
        }
    }
}
