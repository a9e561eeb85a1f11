//! The changes of the store, as functions over a [`Tx`]. They compose with other crates' in one intent.
//!
//! **Invariant:** a function that refuses has written nothing that outlives the refusal: the committer drops the
//! writes of a refused intent.

mod access;
mod account;
mod append;
mod copy;
mod expunge;
mod flags;
mod mailboxes;
mod marks;
mod undelete;

pub use access::{forget_grantee, set_acl, set_acl_domain, set_folder_settings, set_metadata};
pub use account::create_account;
pub use append::{Appended, NewMessage, Quota, append, append_stored};
pub use copy::Copied;
pub use expunge::{expunge, remove};
pub use flags::{FlagOperation, FlagUpdate, Stored, StoredFlags, store_flags};
pub use mailboxes::{
    create_mailbox, create_mailbox_within, delete_account, delete_mailbox, rename_mailbox,
    set_subscribed, take_recent,
};

pub(crate) use copy::{RawRows, copy, move_messages};
pub(crate) use expunge::{log_entry, purge, remove_doomed_messages};
pub(crate) use mailboxes::adopt_digest;
pub(crate) use undelete::undelete;

use nightmail_commit::{Abort, Tx};
use nightmail_core::{AccountId, MailboxId};

use crate::error::StoreError;
use crate::row::{
    AccountUsage, KeywordId, Keywords, MailboxState, keywords_key, mailbox_key, usage_key,
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
) -> Applied<Vec<KeywordId>> {
    if names.is_empty() {
        return Ok(Vec::new());
    }
    let mut table = get_keywords(tx, account)?;
    let mut grown = false;
    let mut places = names
        .iter()
        .map(|name| intern_one(&mut table, name, &mut grown))
        .collect::<Result<Vec<_>, _>>()?;
    if grown {
        put_keywords(tx, account, &table);
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

/// The place of a keyword in a table; `grown` tells whether it is new there.
pub(crate) fn intern_one(
    table: &mut Keywords,
    name: &str,
    grown: &mut bool,
) -> Result<KeywordId, StoreError> {
    let known = table.names().len();
    let place = table.intern(name).ok_or(StoreError::Limit("keywords"))?;
    *grown |= table.names().len() > known;
    Ok(place)
}

pub(crate) fn put_keywords(tx: &mut Tx<'_>, account: AccountId, table: &Keywords) {
    tx.put(keywords_key(account), table.encode());
}
