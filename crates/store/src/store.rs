//! The store as sessions use it: questions answered from rows, changes submitted as intents.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{Committer, Intent};
use nightmail_core::{AccountId, BlobId, MailboxId};
use nightmail_engine::{Engine, KeyRange, Order, RowKey, Space};
use nightmail_heap::{Heap, Location};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::error::StoreError;
use crate::name::MailboxName;
use crate::row::{
    AccountUsage, Keywords, MailboxEntry, MailboxState, SpecialUse, acl_key, keywords_key,
    mailbox_key, name_key, names_prefix, next_mailbox_key, parse_name_key, parse_subscription_key,
    subscriptions_prefix, usage_key,
};
use crate::snapshot::{PAGE, SnapshotCache};
use crate::structures::{Kept, Renderings, kept, renderings};
use crate::tx::{self, Quota};

/// Bounds of the store's memory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// Bytes of snapshots kept, over all mailboxes; a message takes about 20. The last one used is kept whatever it takes.
    pub cached_bytes_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cached_bytes_max: 64 << 20,
        }
    }
}

/// Mailboxes over an engine and a heap. Cheap to clone.
#[derive(Clone)]
pub struct Store {
    committer: Committer,
    shared: Arc<Shared>,
}

struct Shared {
    snapshots: SnapshotCache,
    structures: Kept,
    renderings: Renderings,
    /// Where blobs were found. A segment's number is never used again, so an old place is right or gone.
    places: Cache<BlobId, Location>,
    /// An account keeps its INBOX for life, so that a known one need not be looked up.
    inboxes: Mutex<HashMap<AccountId, MailboxId>>,
}

/// Places of blobs kept in memory.
const PLACES_MAX: usize = 32_768;
/// INBOX ids kept in memory; the table starts afresh beyond it.
const INBOXES_MAX: usize = 200_000;

/// A mailbox as LIST sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its name.
    pub name: MailboxName,
    /// The mailbox, and what it is for.
    pub entry: MailboxEntry,
}

/// A mailbox as STATUS sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailboxStatus {
    /// The mailbox.
    pub mailbox: MailboxId,
    /// Its counters.
    pub state: MailboxState,
}

type Found<T> = Result<T, StoreError>;

impl Store {
    /// A store over the rows that `committer` writes.
    pub fn new(committer: Committer, options: &StoreOptions) -> Self {
        let snapshots = SnapshotCache::new(options.cached_bytes_max);
        Self {
            committer,
            shared: Arc::new(Shared {
                snapshots,
                structures: kept(),
                renderings: renderings(),
                places: Cache::new(PLACES_MAX),
                inboxes: Mutex::default(),
            }),
        }
    }

    /// The committer, for intents that join several crates' changes.
    pub fn committer(&self) -> &Committer {
        &self.committer
    }

    /// The heap, for preparing blobs.
    pub fn heap(&self) -> &Heap {
        self.committer.heap()
    }

    pub(crate) fn places(&self) -> &Cache<BlobId, Location> {
        &self.shared.places
    }

    pub(crate) fn kept_structures(&self) -> &Kept {
        &self.shared.structures
    }

    pub(crate) fn kept_renderings(&self) -> &Renderings {
        &self.shared.renderings
    }

    pub(crate) fn snapshots(&self) -> &SnapshotCache {
        &self.shared.snapshots
    }

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.committer.engine().as_ref()
    }

    pub(crate) async fn get(&self, key: RowKey) -> Found<Option<Bytes>> {
        Ok(self.engine().get_many(&[key]).await?.pop().flatten())
    }

    /// What an account holds.
    pub async fn usage(&self, account: AccountId) -> Found<AccountUsage> {
        let row = self
            .get(usage_key(account))
            .await?
            .ok_or(StoreError::NoSuchAccount)?;
        Ok(AccountUsage::decode(&row)?)
    }

    /// The keywords an account has used.
    pub async fn keywords(&self, account: AccountId) -> Found<Keywords> {
        let row = self.get(keywords_key(account)).await?;
        Ok(row
            .map(|row| Keywords::decode(&row))
            .transpose()?
            .unwrap_or_default())
    }

    /// The mailbox of a name.
    pub async fn lookup(&self, account: AccountId, name: &MailboxName) -> Found<MailboxEntry> {
        let row = self
            .get(name_key(account, name))
            .await?
            .ok_or(StoreError::NoSuchMailbox)?;
        Ok(MailboxEntry::decode(&row)?)
    }

    /// The account's INBOX.
    pub async fn inbox(&self, account: AccountId) -> Found<MailboxId> {
        let known = self.shared.inboxes.lock().get(&account).copied();
        if let Some(known) = known {
            return Ok(known);
        }
        let inbox = self.lookup(account, &MailboxName::inbox()).await?.mailbox;
        let mut inboxes = self.shared.inboxes.lock();
        if inboxes.len() >= INBOXES_MAX {
            inboxes.clear();
        }
        inboxes.insert(account, inbox);
        Ok(inbox)
    }

    /// A mailbox's counters.
    pub async fn state(&self, mailbox: MailboxId) -> Found<MailboxState> {
        let row = self
            .get(mailbox_key(mailbox))
            .await?
            .ok_or(StoreError::NoSuchMailbox)?;
        Ok(MailboxState::decode(&row)?)
    }

    /// A mailbox's counters, by name.
    pub async fn status(&self, account: AccountId, name: &MailboxName) -> Found<MailboxStatus> {
        let mailbox = self.lookup(account, name).await?.mailbox;
        Ok(MailboxStatus {
            mailbox,
            state: self.state(mailbox).await?,
        })
    }

    /// All mailboxes of an account, by name.
    pub async fn list(&self, account: AccountId) -> Found<Vec<Listed>> {
        let rows = self
            .scan_all(Space::Name, KeyRange::prefix(&names_prefix(account)))
            .await?;
        rows.iter()
            .filter_map(|(key, row)| parse_name_key(key).map(|(_, name)| (name, row)))
            .map(|(name, row)| {
                Ok(Listed {
                    name,
                    entry: MailboxEntry::decode(row)?,
                })
            })
            .collect()
    }

    /// All names an account is subscribed to, mailboxes or not.
    pub async fn subscriptions(&self, account: AccountId) -> Found<Vec<MailboxName>> {
        let rows = self
            .scan_all(
                Space::Name,
                KeyRange::prefix(&subscriptions_prefix(account)),
            )
            .await?;
        Ok(rows
            .iter()
            .filter_map(|(key, _)| parse_subscription_key(key))
            .map(|(_, name)| name)
            .collect())
    }

    pub(crate) async fn scan_all(
        &self,
        space: Space,
        mut range: KeyRange,
    ) -> Found<Vec<(Vec<u8>, Bytes)>> {
        let mut rows = Vec::new();
        loop {
            let page = self
                .engine()
                .scan(space, range.clone(), Order::Ascending, PAGE)
                .await?;
            let full = page.len() == PAGE;
            rows.extend(page);
            let (true, Some((last, _))) = (full, rows.last()) else {
                return Ok(rows);
            };
            range.from = last.clone();
            range.from.push(0);
        }
    }

    /// Takes the recent messages of a mailbox for one session; returns the first recent UID.
    pub async fn take_recent(&self, mailbox: MailboxId) -> Found<u32> {
        let state = self.state(mailbox).await?;
        if state.recent_floor == state.uid_next {
            return Ok(state.recent_floor);
        }
        let intent =
            Intent::soon(move |tx| tx::take_recent(tx, mailbox)).reading([mailbox_key(mailbox)]);
        Ok(self.committer.submit(intent).await?)
    }

    /// Creates a mailbox and those above it.
    pub async fn create_mailbox(
        &self,
        account: AccountId,
        name: MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Found<MailboxId> {
        self.create_mailbox_within(Quota::default(), account, name, special_use)
            .await
    }

    /// [`Self::create_mailbox`] for an account of which `quota` bounds the mailboxes.
    pub async fn create_mailbox_within(
        &self,
        quota: Quota,
        account: AccountId,
        name: MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Found<MailboxId> {
        let reads = [
            name_key(account, &name),
            usage_key(account),
            next_mailbox_key(),
        ];
        let intent = Intent::synced(move |tx| {
            tx::create_mailbox_within(tx, quota, account, &name, special_use)
        });
        Ok(self.committer.submit(intent.reading(reads)).await?)
    }

    /// Deletes a mailbox and its messages.
    pub async fn delete_mailbox(&self, account: AccountId, name: MailboxName) -> Found<()> {
        let intent = Intent::synced(move |tx| tx::delete_mailbox(tx, account, &name));
        let mailbox = self.committer.submit(intent).await?;
        self.shared.snapshots.forget(mailbox);
        self.purge(mailbox).await
    }

    /// Renames a mailbox and those below it. Renaming INBOX moves its messages to the new name.
    pub async fn rename_mailbox(
        &self,
        account: AccountId,
        old: MailboxName,
        new: MailboxName,
    ) -> Found<()> {
        if old.is_inbox() {
            return self.rename_inbox(account, new).await;
        }
        let below: Vec<_> = self
            .list(account)
            .await?
            .into_iter()
            .map(|listed| listed.name)
            .filter(|name| name.is_below(&old))
            .collect();
        // Read at once: what an intent has not declared is read row by row, and it runs again after each.
        let names = std::iter::once(&old).chain(&below);
        let targets = names.clone().filter_map(|name| name.rebased(&old, &new));
        let reads: Vec<RowKey> = names.map(|name| name_key(account, name)).collect();
        let reads = reads.into_iter();
        let reads: Vec<RowKey> = reads
            .chain(targets.map(|name| name_key(account, &name)))
            .collect();
        let intent = Intent::synced(move |tx| tx::rename_mailbox(tx, account, &old, &new, &below));
        Ok(self.committer.submit(intent.reading(reads)).await?)
    }

    async fn rename_inbox(&self, account: AccountId, new: MailboxName) -> Found<()> {
        let inbox = self.lookup(account, &MailboxName::inbox()).await?.mailbox;
        let target = self.create_mailbox(account, new, None).await?;
        let uids = self.snapshot(inbox).await?.raw_uids();
        if !uids.is_empty() {
            self.move_messages(account, Quota::default(), inbox, target, uids)
                .await?;
        }
        Ok(())
    }

    /// Subscribes to a name or ends the subscription.
    pub async fn set_subscribed(
        &self,
        account: AccountId,
        name: MailboxName,
        subscribed: bool,
    ) -> Found<()> {
        let intent = Intent::synced(move |tx| {
            tx::set_subscribed(tx, account, &name, subscribed);
            Ok(())
        });
        Ok(self.committer.submit(intent).await?)
    }
}

/// The rows that removing an account with these mailboxes reads, for an intent to declare.
pub fn removal_reads(account: AccountId, listed: &[Listed]) -> Vec<RowKey> {
    let of_one = |listed: &Listed| {
        let mailbox = listed.entry.mailbox;
        let name = name_key(account, &listed.name);
        [name, mailbox_key(mailbox), acl_key(mailbox)]
    };
    let mut reads: Vec<RowKey> = listed.iter().flat_map(of_one).collect();
    reads.push(usage_key(account));
    reads
}

/// The rows that an append to a mailbox of `account` reads, for an intent to declare.
pub fn append_reads(account: AccountId, mailbox: MailboxId) -> Vec<RowKey> {
    vec![
        mailbox_key(mailbox),
        usage_key(account),
        keywords_key(account),
    ]
}
