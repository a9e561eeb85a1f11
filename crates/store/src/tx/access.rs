//! Access control lists, annotations and settings of mailboxes, and the index by whom something was given.

use bytes::Bytes;
use nightmail_commit::{Topic, Tx};
use nightmail_core::{AccountId, MailboxId};

use super::{Applied, damaged, get_state};
use crate::acl::{Acl, Grantee, RightsChange};
use crate::error::StoreError;
use crate::row::{
    FolderSettings, PRESENT, acl_key, grant_key, metadata_key, settings_key, url_key,
};

/// Changes one entry of a mailbox's list. `domain` is that of the mailbox's owner. Returns the list as it is then.
pub fn set_acl(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    domain: &str,
    grantee: Grantee,
    negative: bool,
    change: RightsChange,
) -> Applied<Acl> {
    let owner = get_state(tx, mailbox)?.account;
    let old = get_acl(tx, mailbox)?;
    let mut new = old.clone();
    new.domain = domain.into();
    if !new.change(grantee, negative, change) {
        return Err(StoreError::Limit("entries of an access list").into());
    }
    put_acl(tx, mailbox, owner, &old, &new);
    Ok(new)
}

/// Takes what an account was given of mailboxes.
pub fn forget_grantee(
    tx: &mut Tx<'_>,
    account: AccountId,
    mailboxes: &[(AccountId, MailboxId)],
) -> Applied<()> {
    let grantee = Grantee::Account(account);
    for (owner, mailbox) in mailboxes {
        let old = get_acl(tx, *mailbox)?;
        let mut new = old.clone();
        new.forget(grantee);
        put_acl(tx, *mailbox, *owner, &old, &new);
        tx.delete(grant_key(grantee, "", *owner, *mailbox));
    }
    Ok(())
}

/// Lets `anyone` stand for another domain: the one that the owner of these mailboxes has moved to.
pub fn set_acl_domain(tx: &mut Tx<'_>, mailboxes: &[MailboxId], domain: &str) -> Applied<()> {
    for mailbox in mailboxes {
        let old = get_acl(tx, *mailbox)?;
        if old.entries().is_empty() {
            continue;
        }
        let owner = get_state(tx, *mailbox)?.account;
        let mut new = old.clone();
        new.domain = domain.into();
        put_acl(tx, *mailbox, owner, &old, &new);
    }
    Ok(())
}

/// Gives a new mailbox the list of the one above it.
pub(super) fn inherit_acl(
    tx: &mut Tx<'_>,
    owner: AccountId,
    above: MailboxId,
    mailbox: MailboxId,
) -> Applied<()> {
    let acl = get_acl(tx, above)?;
    if !acl.entries().is_empty() {
        put_acl(tx, mailbox, owner, &Acl::default(), &acl);
    }
    Ok(())
}

/// Removes the list and the settings of a mailbox that is deleted. Its annotations follow with its messages.
pub(super) fn drop_attributes(
    tx: &mut Tx<'_>,
    owner: AccountId,
    mailbox: MailboxId,
) -> Applied<()> {
    let acl = get_acl(tx, mailbox)?;
    if !acl.entries().is_empty() {
        put_acl(tx, mailbox, owner, &acl, &Acl::default());
    }
    tx.delete(settings_key(mailbox));
    tx.delete(url_key(mailbox));
    Ok(())
}

pub(super) fn get_acl(tx: &mut Tx<'_>, mailbox: MailboxId) -> Applied<Acl> {
    match tx.get(&acl_key(mailbox))? {
        Some(row) => Acl::decode(&row).map_err(damaged),
        None => Ok(Acl::default()),
    }
}

fn put_acl(tx: &mut Tx<'_>, mailbox: MailboxId, owner: AccountId, old: &Acl, new: &Acl) {
    for grantee in old.grantees() {
        tx.delete(grant_key(grantee, &old.domain, owner, mailbox));
    }
    for grantee in new.grantees() {
        tx.put(grant_key(grantee, &new.domain, owner, mailbox), PRESENT);
    }
    match new.entries().is_empty() {
        true => tx.delete(acl_key(mailbox)),
        false => tx.put(acl_key(mailbox), new.encode()),
    }
    tx.publish(Topic::Mailbox(mailbox));
    tx.publish(Topic::MailboxList(owner));
    for entry in old.entries().iter().chain(new.entries()) {
        tx.publish(match entry.grantee {
            Grantee::Account(account) => Topic::MailboxList(account),
            // Nobody is named whose list it is that changes.
            Grantee::Anyone => Topic::Directory,
        });
    }
}

/// Sets what is done with a folder's messages as time passes; nothing where nothing is to be done.
pub fn set_folder_settings(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    settings: FolderSettings,
) -> Applied<()> {
    get_state(tx, mailbox)?;
    match settings == FolderSettings::default() {
        true => tx.delete(settings_key(mailbox)),
        false => tx.put(settings_key(mailbox), settings.encode()),
    }
    Ok(())
}

/// Sets annotations of a mailbox, or of the server, or removes those without a value. Each name is that below
/// `/shared`, or below `/private` of an account.
pub fn set_metadata(
    tx: &mut Tx<'_>,
    mailbox: Option<MailboxId>,
    annotations: &[(Option<AccountId>, String, Option<Bytes>)],
) -> Applied<()> {
    if let Some(mailbox) = mailbox {
        let owner = get_state(tx, mailbox)?.account;
        tx.publish(Topic::MailboxList(owner));
    }
    for (private, entry, value) in annotations {
        match (mailbox, private) {
            (None, Some(account)) => tx.publish(Topic::MailboxList(*account)),
            (None, None) => tx.publish(Topic::Directory),
            _ => {}
        }
        let key = metadata_key(mailbox, *private, entry);
        match value {
            Some(value) => tx.put(key, value.clone()),
            None => tx.delete(key),
        }
    }
    Ok(())
}
