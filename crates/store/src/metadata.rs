//! Annotations of mailboxes and of the server (RFC 5464), and what is done with folders as time passes.

use bytes::Bytes;
use nightmail_commit::{Abort, Intent};
use nightmail_core::{AccountId, MailboxId};
use nightmail_engine::{KeyRange, RowKey, Space};

use crate::error::StoreError;
use crate::row::{
    FolderSettings, mailbox_key, metadata_key, metadata_prefix, metadata_scope, parse_settings_key,
    settings_key, settings_prefix,
};
use crate::store::Store;
use crate::tx;

type Found<T> = Result<T, StoreError>;

/// Annotations that everybody sees of one mailbox, or that one account sees of it.
const ANNOTATIONS_MAX: usize = 100;
const SHARED: &str = "/shared";
const PRIVATE: &str = "/private";

/// An annotation: its whole name in lower case, such as `/private/comment`, and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Annotation {
    /// The name.
    pub entry: String,
    /// The value; none takes the annotation away.
    pub value: Option<Bytes>,
}

impl Store {
    /// The annotations of a mailbox, or of the server, that an account sees, by name.
    pub async fn metadata(
        &self,
        mailbox: Option<MailboxId>,
        viewer: AccountId,
    ) -> Found<Vec<Annotation>> {
        let mut found = Vec::new();
        for (private, above) in [(Some(viewer), PRIVATE), (None, SHARED)] {
            let prefix = metadata_scope(mailbox, private);
            let range = KeyRange::prefix(&prefix);
            for (key, value) in self.scan_all(Space::Attribute, range).await? {
                let entry = key.strip_prefix(prefix.as_slice()).unwrap_or_default();
                found.push(Annotation {
                    entry: format!("{above}{}", String::from_utf8_lossy(entry)),
                    value: Some(value),
                });
            }
        }
        Ok(found)
    }

    /// The values of `entries`, whole names in lower case, for each of several mailboxes; in their order.
    pub async fn metadata_many(
        &self,
        mailboxes: &[MailboxId],
        viewer: AccountId,
        entries: &[String],
    ) -> Found<Vec<Vec<Annotation>>> {
        let mut keys = Vec::with_capacity(mailboxes.len() * entries.len());
        for mailbox in mailboxes {
            for entry in entries {
                let (private, below) = scope(entry, viewer);
                keys.push(metadata_key(Some(*mailbox), private, below));
            }
        }
        let mut values = self.engine().get_many(&keys).await?.into_iter();
        let of_one = |_: &MailboxId| {
            let named = entries.iter().zip(values.by_ref());
            let annotations = named.map(|(entry, value)| Annotation {
                entry: entry.clone(),
                value,
            });
            annotations.collect()
        };
        Ok(mailboxes.iter().map(of_one).collect())
    }

    /// Sets annotations of a mailbox, or of the server, as an account sees them.
    ///
    /// Fails with [`StoreError::Limit`] where there would be too many.
    pub async fn set_metadata(
        &self,
        mailbox: Option<MailboxId>,
        viewer: AccountId,
        annotations: Vec<Annotation>,
    ) -> Found<()> {
        let set: Vec<_> = annotations
            .into_iter()
            .map(|Annotation { entry, value }| {
                let (private, below) = scope(&entry, viewer);
                (private, below.to_owned(), value)
            })
            .collect();
        if set.iter().any(|(_, _, value)| value.is_some()) {
            for private in [Some(viewer), None] {
                self.require_room(mailbox, private, &set).await?;
            }
        }
        let intent = Intent::synced(move |tx| tx::set_metadata(tx, mailbox, &set));
        let reads = mailbox.map(mailbox_key);
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    async fn require_room(
        &self,
        mailbox: Option<MailboxId>,
        private: Option<AccountId>,
        set: &[(Option<AccountId>, String, Option<Bytes>)],
    ) -> Found<()> {
        let of_scope = set.iter().filter(|(scope, ..)| *scope == private);
        let added: Vec<RowKey> = of_scope
            .filter(|(_, _, value)| value.is_some())
            .map(|(_, entry, _)| metadata_key(mailbox, private, entry))
            .collect();
        if added.is_empty() {
            return Ok(());
        }
        let range = KeyRange::prefix(&metadata_scope(mailbox, private));
        let there = self.scan_all(Space::Attribute, range).await?;
        let is_new = |new: &&RowKey| !there.iter().any(|(known, _)| *known == new.key);
        let new = added.iter().filter(is_new).count();
        match there.len() + new > ANNOTATIONS_MAX && new > 0 {
            true => Err(StoreError::Limit("annotations")),
            false => Ok(()),
        }
    }

    /// Removes the annotations of a mailbox, or of the server: all, or those that one account sees alone.
    pub(crate) async fn forget_metadata(
        &self,
        mailbox: Option<MailboxId>,
        private: Option<AccountId>,
    ) -> Found<()> {
        let prefix = match private {
            Some(account) => metadata_scope(mailbox, Some(account)),
            None => metadata_prefix(mailbox),
        };
        let rows = self
            .scan_all(Space::Attribute, KeyRange::prefix(&prefix))
            .await?;
        if rows.is_empty() {
            return Ok(());
        }
        let intent = Intent::soon(move |tx| {
            for (key, _) in &rows {
                tx.delete(RowKey {
                    space: Space::Attribute,
                    key: key.clone(),
                });
            }
            Ok::<_, Abort<StoreError>>(())
        });
        Ok(self.committer().submit(intent).await?)
    }

    /// What is done with a folder's messages as time passes.
    pub async fn folder_settings(&self, mailbox: MailboxId) -> Found<FolderSettings> {
        let row = self.get(settings_key(mailbox)).await?;
        let settings = row.map(|row| FolderSettings::decode(&row)).transpose()?;
        Ok(settings.unwrap_or_default())
    }

    /// Sets what is done with a folder's messages as time passes.
    pub async fn set_folder_settings(
        &self,
        mailbox: MailboxId,
        settings: FolderSettings,
    ) -> Found<()> {
        let intent = Intent::synced(move |tx| tx::set_folder_settings(tx, mailbox, settings))
            .reading([mailbox_key(mailbox)]);
        Ok(self.committer().submit(intent).await?)
    }

    /// Every folder with settings of its own.
    pub async fn folders_with_settings(&self) -> Found<Vec<(MailboxId, FolderSettings)>> {
        let range = KeyRange::prefix(&settings_prefix());
        let rows = self.scan_all(Space::Attribute, range).await?;
        rows.iter()
            .filter_map(|(key, row)| parse_settings_key(key).map(|mailbox| (mailbox, row)))
            .map(|(mailbox, row)| Ok((mailbox, FolderSettings::decode(row)?)))
            .collect()
    }
}

/// Whose an annotation is, and its name there.
fn scope(entry: &str, viewer: AccountId) -> (Option<AccountId>, &str) {
    match entry.strip_prefix(PRIVATE) {
        Some(below) => (Some(viewer), below),
        None => (None, entry.strip_prefix(SHARED).unwrap_or(entry)),
    }
}
