//! What an account has in the store from its first moment.

use nightmail_commit::{Topic, Tx};
use nightmail_core::AccountId;

use super::{Applied, create_mailbox, put_usage, set_subscribed};
use crate::error::StoreError;
use crate::name::MailboxName;
use crate::row::{AccountUsage, SpecialUse, usage_key};

const FIRST_MAILBOXES: [(&str, Option<SpecialUse>); 6] = [
    ("INBOX", None),
    ("Archive", Some(SpecialUse::Archive)),
    ("Drafts", Some(SpecialUse::Drafts)),
    ("Junk", Some(SpecialUse::Junk)),
    ("Sent", Some(SpecialUse::Sent)),
    ("Trash", Some(SpecialUse::Trash)),
];

/// Gives a new account its usage row, INBOX and the special-use mailboxes, all subscribed.
pub fn create_account(tx: &mut Tx<'_>, account: AccountId) -> Applied<()> {
    if tx.get(&usage_key(account))?.is_some() {
        return Err(StoreError::AlreadyExists.into());
    }
    put_usage(tx, account, &AccountUsage::default());
    for (name, special_use) in FIRST_MAILBOXES {
        let name = MailboxName::parse(name).map_err(|_| StoreError::NoSuchMailbox)?;
        create_mailbox(tx, account, &name, special_use)?;
        set_subscribed(tx, account, &name, true);
    }
    tx.publish(Topic::MailboxList(account));
    Ok(())
}
