//! What is kept about mailboxes beside their messages: access control lists, who was given access, annotations and
//! settings.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{RowKey, Space};

use crate::acl::Grantee;

const ACL: u8 = b'a';
const GRANT: u8 = b'g';
const METADATA: u8 = b'm';
const SETTINGS: u8 = b's';
const UNIQUE_ID: u8 = b'i';
const URL: u8 = b'u';
const SHARED: u8 = b's';
const PRIVATE: u8 = b'p';
const VERSION: u8 = 1;

/// What is done with the messages of a folder as time passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct FolderSettings {
    /// Messages that have been in it for so many days are removed; none: they stay.
    pub expire_after_days: Option<u32>,
    /// So many messages stay however old they are; those that came last.
    pub keep_at_least: Option<u32>,
}

impl FolderSettings {
    /// The byte form.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = RowWriter::new(VERSION);
        for value in [self.expire_after_days, self.keep_at_least] {
            row.u8(u8::from(value.is_some()))
                .u32(value.unwrap_or_default());
        }
        row.finish()
    }

    /// Reads the byte form.
    pub(crate) fn decode(row: &[u8]) -> Result<Self, RowError> {
        let (mut reader, _) = RowReader::new(row, VERSION)?;
        let mut value = || -> Result<Option<u32>, RowError> {
            let (is_there, value) = (reader.u8()? != 0, reader.u32()?);
            Ok(is_there.then_some(value))
        };
        Ok(Self {
            expire_after_days: value()?,
            keep_at_least: value()?,
        })
    }
}

fn keyed(key: Vec<u8>) -> RowKey {
    RowKey {
        space: Space::Attribute,
        key,
    }
}

fn of_mailbox(kind: u8, mailbox: MailboxId) -> Vec<u8> {
    let mut key = vec![kind];
    key.extend_from_slice(&mailbox.to_be_bytes());
    key
}

/// A mailbox's access control list.
pub(crate) fn acl_key(mailbox: MailboxId) -> RowKey {
    keyed(of_mailbox(ACL, mailbox))
}

/// What is done with a folder's messages as time passes.
pub(crate) fn settings_key(mailbox: MailboxId) -> RowKey {
    keyed(of_mailbox(SETTINGS, mailbox))
}

/// The key with which URLs of a mailbox are authorized.
pub(crate) fn url_key(mailbox: MailboxId) -> RowKey {
    keyed(of_mailbox(URL, mailbox))
}

/// The unique ids that messages of a mailbox brought along.
pub(crate) fn unique_ids_prefix(mailbox: MailboxId) -> Vec<u8> {
    of_mailbox(UNIQUE_ID, mailbox)
}

/// The unique id that a message brought along.
pub(crate) fn unique_id_key(mailbox: MailboxId, uid: u32) -> RowKey {
    let mut key = unique_ids_prefix(mailbox);
    key.extend_from_slice(&uid.to_be_bytes());
    keyed(key)
}

/// All settings of folders.
pub(crate) fn settings_prefix() -> Vec<u8> {
    vec![SETTINGS]
}

/// The mailbox of a settings row.
pub(crate) fn parse_settings_key(key: &[u8]) -> Option<MailboxId> {
    let id = key.strip_prefix(&[SETTINGS])?.try_into().ok()?;
    Some(MailboxId::new(u64::from_be_bytes(id)))
}

/// What a grantee was given. `domain`: that of the owner, for which [`Grantee::Anyone`] stands.
pub(crate) fn grants_prefix(grantee: Grantee, domain: &str) -> Vec<u8> {
    let mut key = vec![GRANT];
    match grantee {
        Grantee::Account(account) => {
            key.push(1);
            key.extend_from_slice(&account.to_be_bytes());
        }
        Grantee::Anyone => {
            key.push(0);
            key.extend_from_slice(domain.as_bytes());
            key.push(0);
        }
    }
    key
}

/// That a grantee was given something of a mailbox.
pub(crate) fn grant_key(
    grantee: Grantee,
    domain: &str,
    owner: AccountId,
    mailbox: MailboxId,
) -> RowKey {
    let mut key = grants_prefix(grantee, domain);
    key.extend_from_slice(&owner.to_be_bytes());
    key.extend_from_slice(&mailbox.to_be_bytes());
    keyed(key)
}

/// The owner and the mailbox of a grant.
pub(crate) fn parse_grant_key(key: &[u8]) -> Option<(AccountId, MailboxId)> {
    let (rest, mailbox) = key.split_last_chunk::<8>()?;
    let (_, owner) = rest.split_last_chunk::<8>()?;
    Some((
        AccountId::new(u64::from_be_bytes(*owner)),
        MailboxId::new(u64::from_be_bytes(*mailbox)),
    ))
}

/// What annotations are about: a mailbox, or the server.
const fn subject(mailbox: Option<MailboxId>) -> MailboxId {
    match mailbox {
        Some(mailbox) => mailbox,
        None => MailboxId::new(0),
    }
}

/// All annotations of a mailbox, or of the server.
pub(crate) fn metadata_prefix(mailbox: Option<MailboxId>) -> Vec<u8> {
    of_mailbox(METADATA, subject(mailbox))
}

/// Those annotations that everybody sees, or those that one account sees.
pub(crate) fn metadata_scope(mailbox: Option<MailboxId>, private: Option<AccountId>) -> Vec<u8> {
    let mut key = metadata_prefix(mailbox);
    match private {
        None => key.push(SHARED),
        Some(account) => {
            key.push(PRIVATE);
            key.extend_from_slice(&account.to_be_bytes());
        }
    }
    key
}

/// One annotation. `entry` is its name below `/shared` or `/private`.
pub(crate) fn metadata_key(
    mailbox: Option<MailboxId>,
    private: Option<AccountId>,
    entry: &str,
) -> RowKey {
    let mut key = metadata_scope(mailbox, private);
    key.extend_from_slice(entry.as_bytes());
    keyed(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn settings_are_read_as_written(days: Option<u32>, least: Option<u32>) {
            let settings = FolderSettings { expire_after_days: days, keep_at_least: least };
            prop_assert_eq!(FolderSettings::decode(&settings.encode()), Ok(settings));
        }

        #[test]
        fn grants_name_their_owner_and_mailbox(owner: u64, mailbox: u64, account: Option<u64>) {
            let (owner, mailbox) = (AccountId::new(owner), MailboxId::new(mailbox));
            let grantee = account.map_or(Grantee::Anyone, |id| Grantee::Account(AccountId::new(id)));
            let key = grant_key(grantee, "example.org", owner, mailbox);
            prop_assert!(key.key.starts_with(&grants_prefix(grantee, "example.org")));
            prop_assert_eq!(parse_grant_key(&key.key), Some((owner, mailbox)));
        }
    }
}
