//! A new message in a mailbox: by delivery or by APPEND.

use bytes::Bytes;
use nightmail_commit::{Owner, Tx};
use nightmail_core::{BlobId, Flags, MailboxId, ModSeq, Timestamp, Uid, UidValidity};

use super::{Applied, get_state, get_usage, intern_keywords, put_state, put_usage};
use crate::error::StoreError;
use crate::row::{AccountUsage, MailboxState, MessageRow, message_key};

/// What an account may hold. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quota {
    /// Octets of all messages.
    pub bytes: Option<u64>,
    /// Messages.
    pub messages: Option<u64>,
    /// Mailboxes.
    pub mailboxes: Option<u64>,
}

impl Quota {
    /// Whether `usage` may grow by that much.
    pub fn allows(self, usage: &AccountUsage, bytes: u64, messages: u64) -> bool {
        self.bytes
            .is_none_or(|limit| usage.bytes.saturating_add(bytes) <= limit)
            && self
                .messages
                .is_none_or(|limit| usage.messages.saturating_add(messages) <= limit)
    }
}

/// A message as it comes into a mailbox.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// Where it goes.
    pub mailbox: MailboxId,
    /// Its system flags.
    pub flags: Flags,
    /// Its keywords, in any case.
    pub keywords: Vec<String>,
    /// Its INTERNALDATE.
    pub internal_date: Timestamp,
    /// Header fields for this recipient only, each with its CRLF; put before the bytes.
    pub prefix: Bytes,
    /// Octets of the bytes without the prefix.
    pub blob_size: u64,
    /// Octets that the bytes grow by when every line ends in CRLF.
    pub missing_line_ends: u64,
}

/// Where a message ended up (RFC 4315 APPENDUID).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Appended {
    /// UIDVALIDITY of the mailbox.
    pub uid_validity: UidValidity,
    /// The message's UID.
    pub uid: Uid,
    /// Its modification sequence.
    pub modseq: ModSeq,
}

/// Puts blob `blob` of the intent into a mailbox: row, counters and quota in one step.
pub fn append(
    tx: &mut Tx<'_>,
    quota: Quota,
    blob: usize,
    message: &NewMessage,
) -> Applied<Appended> {
    put(tx, quota, message, |tx, owner| {
        tx.link_new_blob(blob, owner)
    })
}

/// The same with a blob that is in the store already.
pub fn append_stored(
    tx: &mut Tx<'_>,
    quota: Quota,
    blob: BlobId,
    message: &NewMessage,
) -> Applied<Appended> {
    put(tx, quota, message, |tx, owner| {
        tx.link_blob(blob, owner)?;
        Ok(blob)
    })
}

fn put(
    tx: &mut Tx<'_>,
    quota: Quota,
    message: &NewMessage,
    link: impl FnOnce(&mut Tx<'_>, Owner) -> Applied<BlobId>,
) -> Applied<Appended> {
    let mailbox = message.mailbox;
    let mut state = get_state(tx, mailbox)?;
    let size = message
        .blob_size
        .saturating_add(message.prefix.len() as u64);
    charge(tx, &state, quota, size, 1)?;
    let (uid, modseq) = next_uid(&mut state)?;
    let keywords = intern_keywords(tx, state.account, &message.keywords)?;
    let blob = link(tx, Owner::Message(mailbox, uid))?;
    let email_id = email_id(blob);
    let row = MessageRow {
        modseq,
        created_modseq: modseq,
        flags: message.flags,
        internal_date: message.internal_date,
        save_date: tx.now(),
        size,
        missing_line_ends: message.missing_line_ends,
        blob,
        thread_id: email_id,
        email_id,
        keywords,
        prefix: message.prefix.clone(),
    };
    state.count_in(uid.get(), row.flags, row.size);
    tx.put(message_key(mailbox, uid.get()), row.encode());
    put_state(tx, mailbox, &state);
    Ok(Appended {
        uid_validity: state.uid_validity,
        uid,
        modseq,
    })
}

/// Adds to the account's usage, unless its quota forbids.
pub(super) fn charge(
    tx: &mut Tx<'_>,
    state: &MailboxState,
    quota: Quota,
    bytes: u64,
    messages: u64,
) -> Applied<()> {
    let mut usage = get_usage(tx, state.account)?;
    if !quota.allows(&usage, bytes, messages) {
        return Err(StoreError::OverQuota.into());
    }
    usage.bytes = usage.bytes.saturating_add(bytes);
    usage.messages = usage.messages.saturating_add(messages);
    put_usage(tx, state.account, &usage);
    Ok(())
}

/// Takes the next UID together with the next modification sequence.
pub(super) fn next_uid(state: &mut MailboxState) -> Result<(Uid, ModSeq), StoreError> {
    let uid = Uid::new(state.uid_next).ok_or(StoreError::UidsExhausted)?;
    state.uid_next = state.uid_next.wrapping_add(1);
    state.highest_modseq = state.highest_modseq.next();
    Ok((uid, state.highest_modseq))
}

/// The same bytes are the same email (RFC 8474 §5.1).
fn email_id(blob: BlobId) -> u64 {
    blob.as_bytes()
        .first_chunk::<8>()
        .map_or(0, |head| u64::from_be_bytes(*head))
}
