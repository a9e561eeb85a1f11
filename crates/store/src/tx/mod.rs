//! The changes of the store, as functions over a [`Tx`]. They compose with other crates' in one intent.
//!
//! **Invariant:** a function that refuses has written nothing that outlives the refusal: the committer drops the
//! writes of a refused intent.

mod account;
mod append;
mod copy;
mod expunge;
mod flags;
mod mailboxes;

pub use account::create_account;
pub use append::{Appended, NewMessage, Quota, append, append_stored};
pub use copy::{Copied, copy, move_messages};
pub use expunge::{expunge, remove, remove_doomed_messages};
pub use flags::{FlagOperation, StoredFlags, store_flags};
pub use mailboxes::{
    create_mailbox, delete_account, delete_mailbox, rename_mailbox, set_subscribed, take_recent,
};

use nightmail_commit::{Abort, Tx};
use nightmail_core::{AccountId, MailboxId, ModSeq};

use crate::error::StoreError;
use crate::row::{
    AccountUsage, Keywords, MailboxState, MessageRow, PRESENT, change_key, keywords_key,
    mailbox_key, message_key, usage_key,
};

pub(crate) type Applied<T> = Result<T, Abort<StoreError>>;

pub(crate) fn damaged(error: nightmail_core::codec::RowError) -> Abort<StoreError> {
    Abort::Refused(StoreError::Damaged(error))
}

pub(crate) fn get_state(tx: &mut Tx<'_>, mailbox: MailboxId) -> Applied<MailboxState> {
    let row = tx
        .get(&mailbox_key(mailbox))?
        .ok_or(StoreError::NoSuchMailbox)?;
    MailboxState::decode(&row).map_err(damaged)
}

pub(crate) fn put_state(tx: &mut Tx<'_>, mailbox: MailboxId, state: &MailboxState) {
    tx.put(mailbox_key(mailbox), state.encode());
    tx.publish(nightmail_commit::Topic::Mailbox(mailbox));
}

pub(crate) fn get_usage(tx: &mut Tx<'_>, account: AccountId) -> Applied<AccountUsage> {
    let row = tx
        .get(&usage_key(account))?
        .ok_or(StoreError::NoSuchAccount)?;
    AccountUsage::decode(&row).map_err(damaged)
}

pub(crate) fn put_usage(tx: &mut Tx<'_>, account: AccountId, usage: &AccountUsage) {
    tx.put(usage_key(account), usage.encode());
}

pub(crate) fn get_keywords(tx: &mut Tx<'_>, account: AccountId) -> Applied<Keywords> {
    match tx.get(&keywords_key(account))? {
        Some(row) => Keywords::decode(&row).map_err(damaged),
        None => Ok(Keywords::default()),
    }
}

/// The places of keywords in the account's table, which grows where one is new. Ascending, without doubles.
pub(crate) fn intern_keywords(
    tx: &mut Tx<'_>,
    account: AccountId,
    names: &[String],
) -> Applied<Vec<crate::row::KeywordId>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut table = get_keywords(tx, account)?;
    let known = table.names().len();
    let mut places = names
        .iter()
        .map(|name| table.intern(name).ok_or(StoreError::Limit("keywords")))
        .collect::<Result<Vec<_>, _>>()?;
    if table.names().len() > known {
        tx.put(keywords_key(account), table.encode());
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

pub(crate) fn get_message(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    uid: u32,
) -> Applied<Option<MessageRow>> {
    match tx.get(&message_key(mailbox, uid))? {
        Some(row) => MessageRow::decode(&row).map(Some).map_err(damaged),
        None => Ok(None),
    }
}

/// Writes a message row and its place in the change index, taking back the place it had.
pub(crate) fn put_message(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    uid: u32,
    row: &MessageRow,
    was: Option<ModSeq>,
) {
    if let Some(was) = was {
        tx.delete(change_key(mailbox, was, uid));
    }
    tx.put(message_key(mailbox, uid), row.encode());
    tx.put(change_key(mailbox, row.modseq, uid), PRESENT);
}
