//! Removing messages that have been in a folder for as long as it keeps them.
//!
//! Messages come into a mailbox in the order of their UIDs, so the old ones are the first ones: a look ends at the first
//! that is not old. They go as if they had been expunged, and can be brought back for as long.

use std::collections::HashMap;

use nightmail_core::{AccountId, MailboxId, Timestamp};
use nightmail_store::{FolderSettings, SpecialUse, Store, StoreError};

use crate::services::SharedServices;

/// Messages looked at, and removed, in one commit.
const STEP: usize = 500;
const DAY_MILLIS: i64 = 86_400_000;

/// How long folders keep their messages.
#[derive(Clone, Debug, Default)]
pub(super) struct Settings {
    pub(super) of_folders: HashMap<MailboxId, FolderSettings>,
    /// Days, in folders without settings of their own; 0: for ever.
    pub(super) trash_days: u32,
    pub(super) junk_days: u32,
}

impl Settings {
    pub(super) async fn load(services: &SharedServices) -> Result<Self, StoreError> {
        let of_folders = services.store.folders_with_settings().await?;
        Ok(Self {
            of_folders: of_folders.into_iter().collect(),
            trash_days: services.config.mailboxes.trash_days,
            junk_days: services.config.mailboxes.junk_days,
        })
    }

    /// Whether every folder keeps its messages for ever.
    pub(super) fn are_none(&self) -> bool {
        self.of_folders.is_empty() && self.trash_days == 0 && self.junk_days == 0
    }

    /// What holds for a folder: its own days, else those for folders of its use.
    fn of(&self, mailbox: MailboxId, special_use: Option<SpecialUse>) -> FolderSettings {
        let own = self.of_folders.get(&mailbox).copied().unwrap_or_default();
        let days = match special_use {
            Some(SpecialUse::Trash) => self.trash_days,
            Some(SpecialUse::Junk) => self.junk_days,
            _ => 0,
        };
        FolderSettings {
            expire_after_days: own.expire_after_days.or((days > 0).then_some(days)),
            ..own
        }
    }
}

/// Removes what is old from all folders of an account. Returns how many messages.
pub(super) async fn expire(
    store: &Store,
    account: AccountId,
    settings: &Settings,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let mut removed = 0;
    for listed in store.list(account).await? {
        let entry = listed.entry;
        let of_folder = settings.of(entry.mailbox, entry.special_use);
        let expired = Box::pin(expire_folder(store, account, entry.mailbox, of_folder, now)).await;
        removed += match expired {
            // It has been deleted meanwhile.
            Err(StoreError::NoSuchMailbox) => 0,
            expired => expired?,
        };
    }
    Ok(removed)
}

async fn expire_folder(
    store: &Store,
    account: AccountId,
    mailbox: MailboxId,
    settings: FolderSettings,
    now: Timestamp,
) -> Result<usize, StoreError> {
    let Some(days) = settings.expire_after_days else {
        return Ok(0);
    };
    let until = now.millis().saturating_sub(i64::from(days) * DAY_MILLIS);
    let keep = settings.keep_at_least.unwrap_or(0) as usize;
    if store.state(mailbox).await?.exists == 0 {
        return Ok(0);
    }
    let uids = store.snapshot(mailbox).await?.raw_uids();
    let candidates = uids.len().saturating_sub(keep);
    let candidates = uids.get(..candidates).unwrap_or_default();
    let mut removed = 0;
    for page in candidates.chunks(STEP) {
        let rows = store.rows(mailbox, page).await?;
        let is_old = |row: &nightmail_store::MessageRow| row.save_date.millis() <= until;
        let old: Vec<u32> = rows
            .iter()
            .take_while(|(_, row)| is_old(row))
            .map(|(uid, _)| *uid)
            .collect();
        removed += store.remove(account, mailbox, &old).await?.len();
        if old.len() < rows.len() {
            break;
        }
    }
    Ok(removed)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use nightmail_commit::{CommitLimits, Committer, Intent, NewBlob};
    use nightmail_core::Flags;
    use nightmail_engine::MemoryEngine;
    use nightmail_heap::{BlobBuilder, Heap, HeapOptions};
    use nightmail_store::{MailboxName, NewMessage, Quota, StoreOptions};

    use super::*;

    const ACCOUNT: AccountId = AccountId::new(1);

    async fn store(dir: &tempfile::TempDir) -> Store {
        let heap = Heap::open(dir.path(), HeapOptions::default()).unwrap();
        let engine = Arc::new(MemoryEngine::new());
        let committer = Committer::start(engine, heap, CommitLimits::default());
        let made = Intent::synced(move |tx| nightmail_store::tx::create_account(tx, ACCOUNT));
        committer.submit(made).await.unwrap();
        Store::new(committer, &StoreOptions::default())
    }

    async fn mailbox(store: &Store, name: &str) -> MailboxId {
        let name = MailboxName::parse(name).unwrap();
        store.lookup(ACCOUNT, &name).await.unwrap().mailbox
    }

    async fn fill(store: &Store, mailbox: MailboxId, messages: usize) {
        for _ in 0..messages {
            let text = b"Subject: x\r\n\r\nx\r\n";
            let mut builder = BlobBuilder::new(store.heap());
            builder.push(text).unwrap();
            let blob = NewBlob {
                blob: builder.finish().unwrap(),
                envelope: Bytes::new(),
                meta: nightmail_mime::scan(text).encode().into(),
            };
            let message = NewMessage {
                mailbox,
                flags: Flags::EMPTY,
                keywords: Vec::new(),
                internal_date: Timestamp::from_millis(0),
                prefix: Bytes::new(),
                blob_size: text.len() as u64,
                missing_line_ends: 0,
            };
            let none = Quota::default();
            store.append(ACCOUNT, none, blob, message).await.unwrap();
        }
    }

    async fn left(store: &Store, mailbox: MailboxId) -> u32 {
        store.state(mailbox).await.unwrap().exists
    }

    fn after_days(days: i64) -> Timestamp {
        nightmail_commit::now().plus_millis(days * DAY_MILLIS + 60_000)
    }

    #[tokio::test]
    async fn messages_leave_a_folder_when_they_have_been_in_it_for_its_days() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let (inbox, trash) = (
            mailbox(&store, "INBOX").await,
            mailbox(&store, "Trash").await,
        );
        fill(&store, inbox, 3).await;
        fill(&store, trash, 3).await;
        let settings = Settings {
            trash_days: 30,
            ..Settings::default()
        };
        let expire = async |days| expire(&store, ACCOUNT, &settings, after_days(days)).await;
        assert_eq!(expire(29).await.unwrap(), 0);
        assert_eq!(expire(30).await.unwrap(), 3);
        assert_eq!(
            (left(&store, inbox).await, left(&store, trash).await),
            (3, 0)
        );
        let long_ago = Timestamp::from_millis(0);
        let back = store.undelete(ACCOUNT, None, long_ago).await.unwrap();
        assert_eq!(back.len(), 3);
        // They have come in anew.
        assert_eq!(left(&store, trash).await, 3);
    }

    #[tokio::test]
    async fn a_folders_own_settings_go_before_those_of_its_use() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let (inbox, trash) = (
            mailbox(&store, "INBOX").await,
            mailbox(&store, "Trash").await,
        );
        fill(&store, inbox, 5).await;
        fill(&store, trash, 2).await;
        let own = FolderSettings {
            expire_after_days: Some(7),
            keep_at_least: Some(2),
        };
        store.set_folder_settings(inbox, own).await.unwrap();
        let only_keep = FolderSettings {
            expire_after_days: None,
            keep_at_least: Some(1),
        };
        store.set_folder_settings(trash, only_keep).await.unwrap();
        let of_folders = store.folders_with_settings().await.unwrap();
        let settings = Settings {
            of_folders: of_folders.into_iter().collect(),
            trash_days: 1,
            junk_days: 1,
        };
        let removed = expire(&store, ACCOUNT, &settings, after_days(7)).await;
        assert_eq!(removed.unwrap(), 4);
        assert_eq!(
            (left(&store, inbox).await, left(&store, trash).await),
            (2, 1)
        );
        let uids = store.snapshot(inbox).await.unwrap().raw_uids();
        assert_eq!(uids, [4, 5]);
    }

    #[tokio::test]
    async fn more_messages_than_go_at_once_all_go() {
        let dir = tempfile::tempdir().unwrap();
        let store = store(&dir).await;
        let inbox = mailbox(&store, "INBOX").await;
        fill(&store, inbox, STEP + 3).await;
        let settings = Settings {
            of_folders: HashMap::from([(
                inbox,
                FolderSettings {
                    expire_after_days: Some(1),
                    keep_at_least: None,
                },
            )]),
            ..Settings::default()
        };
        let removed = expire(&store, ACCOUNT, &settings, after_days(1)).await;
        assert_eq!(removed.unwrap(), STEP + 3);
        assert_eq!(left(&store, inbox).await, 0);
    }
}
