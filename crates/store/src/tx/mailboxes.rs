//! Mailboxes as such: CREATE, DELETE, RENAME, subscriptions and the recent floor.

use nightmail_commit::{Topic, Tx};
use nightmail_core::{AccountId, MailboxId, UidValidity};

use super::access::{drop_attributes, inherit_acl};
use super::append::Quota;
use super::{Applied, damaged, get_state, get_usage, put_state, put_usage};
use crate::error::StoreError;
use crate::name::MailboxName;
use crate::row::{
    MailboxEntry, MailboxState, PRESENT, SpecialUse, doomed_key, keywords_key, mailbox_key,
    name_key, next_mailbox_key, pop3_login_key, subscription_key, usage_key,
};

/// Mailboxes one account may have.
const MAILBOXES_MAX: u32 = 10_000;

/// Creates a mailbox, and the mailboxes above it that do not exist (RFC 3501 §6.3.3).
pub fn create_mailbox(
    tx: &mut Tx<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
) -> Applied<MailboxId> {
    if tx.get(&name_key(account, name))?.is_some() {
        return Err(StoreError::AlreadyExists.into());
    }
    create_parents(tx, account, name)?;
    create_one(tx, account, name, special_use)
}

/// [`create_mailbox`] for an account of which `quota` bounds the mailboxes; all it needs above count too.
pub fn create_mailbox_within(
    tx: &mut Tx<'_>,
    quota: Quota,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
) -> Applied<MailboxId> {
    let mailbox = create_mailbox(tx, account, name, special_use)?;
    let mailboxes = u64::from(get_usage(tx, account)?.mailboxes);
    match quota.mailboxes.is_some_and(|limit| mailboxes > limit) {
        true => Err(StoreError::OverQuota.into()),
        false => Ok(mailbox),
    }
}

fn create_parents(tx: &mut Tx<'_>, account: AccountId, name: &MailboxName) -> Applied<()> {
    let mut missing = Vec::new();
    let mut above = name.parent();
    while let Some(parent) = above {
        if tx.get(&name_key(account, &parent))?.is_some() {
            break;
        }
        above = parent.parent();
        missing.push(parent);
    }
    for parent in missing.iter().rev() {
        create_one(tx, account, parent, None)?;
    }
    Ok(())
}

fn create_one(
    tx: &mut Tx<'_>,
    account: AccountId,
    name: &MailboxName,
    special_use: Option<SpecialUse>,
) -> Applied<MailboxId> {
    let mut usage = get_usage(tx, account)?;
    if usage.mailboxes >= MAILBOXES_MAX {
        return Err(StoreError::Limit("mailboxes").into());
    }
    let mailbox = next_mailbox_id(tx)?;
    // Seconds since the epoch where they are new: a mailbox made again under an old name gets a greater value.
    let clock = u32::try_from(tx.now().secs()).unwrap_or(u32::MAX);
    usage.last_uid_validity = clock.max(usage.last_uid_validity.saturating_add(1));
    usage.mailboxes += 1;
    let uid_validity =
        UidValidity::new(usage.last_uid_validity).ok_or(StoreError::UidsExhausted)?;
    put_usage(tx, account, &usage);
    put_state(tx, mailbox, &MailboxState::new(account, uid_validity));
    tx.put(
        name_key(account, name),
        MailboxEntry {
            mailbox,
            special_use,
        }
        .encode(),
    );
    if let Some(above) = name.parent()
        && let Some(row) = tx.get(&name_key(account, &above))?
    {
        let above = MailboxEntry::decode(&row).map_err(damaged)?.mailbox;
        inherit_acl(tx, account, above, mailbox)?;
    }
    tx.publish(Topic::MailboxList(account));
    Ok(mailbox)
}

fn next_mailbox_id(tx: &mut Tx<'_>) -> Applied<MailboxId> {
    let key = next_mailbox_key();
    let next = match tx.get(&key)? {
        Some(row) => u64::from_be_bytes(
            row.as_ref()
                .try_into()
                .map_err(|_| damaged(nightmail_core::codec::RowError::Short))?,
        ),
        None => 1,
    };
    tx.put(key, next.saturating_add(1).to_be_bytes().to_vec());
    Ok(MailboxId::new(next))
}

/// Deletes a mailbox. Its counters leave the account's usage now, its messages are removed afterwards.
pub fn delete_mailbox(
    tx: &mut Tx<'_>,
    account: AccountId,
    name: &MailboxName,
) -> Applied<MailboxId> {
    if name.is_inbox() {
        return Err(StoreError::CannotDelete.into());
    }
    drop_mailbox(tx, account, name)
}

fn drop_mailbox(tx: &mut Tx<'_>, account: AccountId, name: &MailboxName) -> Applied<MailboxId> {
    let row = tx
        .get(&name_key(account, name))?
        .ok_or(StoreError::NoSuchMailbox)?;
    let mailbox = MailboxEntry::decode(&row).map_err(damaged)?.mailbox;
    let state = get_state(tx, mailbox)?;
    let mut usage = get_usage(tx, account)?;
    usage.bytes = usage.bytes.saturating_sub(state.bytes);
    usage.messages = usage.messages.saturating_sub(u64::from(state.exists));
    usage.mailboxes = usage.mailboxes.saturating_sub(1);
    put_usage(tx, account, &usage);
    drop_attributes(tx, account, mailbox)?;
    tx.delete(name_key(account, name));
    tx.delete(mailbox_key(mailbox));
    tx.put(doomed_key(mailbox), PRESENT);
    tx.publish(Topic::Mailbox(mailbox));
    tx.publish(Topic::MailboxList(account));
    Ok(mailbox)
}

/// Deletes everything an account has. `names` are its mailboxes and subscriptions as listed before; a mailbox
/// created since then makes it refuse.
pub fn delete_account(
    tx: &mut Tx<'_>,
    account: AccountId,
    names: &[MailboxName],
    subscriptions: &[MailboxName],
) -> Applied<()> {
    for name in names {
        drop_mailbox(tx, account, name)?;
    }
    if get_usage(tx, account)?.mailboxes != 0 {
        return Err(StoreError::CannotDelete.into());
    }
    for name in subscriptions {
        tx.delete(subscription_key(account, name));
    }
    tx.delete(usage_key(account));
    tx.delete(keywords_key(account));
    tx.delete(pop3_login_key(account));
    Ok(())
}

/// Renames a mailbox and those below it, as listed before in `below`. The names above the new one are created.
/// INBOX is not renamed here: its messages move and it stays (RFC 3501 §6.3.5).
pub fn rename_mailbox(
    tx: &mut Tx<'_>,
    account: AccountId,
    old: &MailboxName,
    new: &MailboxName,
    below: &[MailboxName],
) -> Applied<()> {
    if new.is_below(old) || old.is_inbox() {
        return Err(StoreError::CannotRename.into());
    }
    let mut moved = Vec::new();
    for name in std::iter::once(old).chain(below) {
        let target = name.rebased(old, new).ok_or(StoreError::CannotRename)?;
        let row = tx.get(&name_key(account, name))?;
        if tx.get(&name_key(account, &target))?.is_some() {
            return Err(StoreError::AlreadyExists.into());
        }
        moved.extend(row.map(|row| (name.clone(), target, row)));
    }
    if moved.is_empty() {
        return Err(StoreError::NoSuchMailbox.into());
    }
    create_parents(tx, account, new)?;
    for (name, target, row) in moved {
        tx.delete(name_key(account, &name));
        tx.put(name_key(account, &target), row);
    }
    tx.publish(Topic::MailboxList(account));
    Ok(())
}

/// Subscribes to a name or ends the subscription. The mailbox need not exist (RFC 3501 §6.3.6).
pub fn set_subscribed(tx: &mut Tx<'_>, account: AccountId, name: &MailboxName, subscribed: bool) {
    let key = subscription_key(account, name);
    match subscribed {
        true => tx.put(key, PRESENT),
        false => tx.delete(key),
    }
    tx.publish(Topic::MailboxList(account));
}

/// Takes the messages that no session has been told of as recent, and returns the first such UID.
pub fn take_recent(tx: &mut Tx<'_>, mailbox: MailboxId) -> Applied<u32> {
    let mut state = get_state(tx, mailbox)?;
    let floor = state.recent_floor;
    if floor != state.uid_next {
        state.recent_floor = state.uid_next;
        tx.put(mailbox_key(mailbox), state.encode());
    }
    Ok(floor)
}

/// Sets the digest of a mailbox whose state an earlier version wrote, if it is still at this modification sequence.
pub(crate) fn adopt_digest(
    tx: &mut Tx<'_>,
    mailbox: MailboxId,
    modseq: nightmail_core::ModSeq,
    digest: u64,
) -> Applied<()> {
    let mut state = get_state(tx, mailbox)?;
    if state.digest.is_none() && state.highest_modseq == modseq {
        state.digest = Some(digest);
        tx.put(mailbox_key(mailbox), state.encode());
    }
    Ok(())
}
