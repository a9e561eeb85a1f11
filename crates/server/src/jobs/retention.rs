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

    /// What holds for a folder: its own settings, else those for folders of its use.
    fn of(&self, mailbox: MailboxId, special_use: Option<SpecialUse>) -> FolderSettings {
        if let Some(settings) = self.of_folders.get(&mailbox) {
            return *settings;
        }
        let days = match special_use {
            Some(SpecialUse::Trash) => self.trash_days,
            Some(SpecialUse::Junk) => self.junk_days,
            _ => 0,
        };
        FolderSettings {
            expire_after_days: (days > 0).then_some(days),
            keep_at_least: None,
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
