//! The store as sessions use it: questions answered from rows, changes submitted as intents.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{Committer, Intent, NewBlob};
use nightmail_core::{AccountId, BlobId, Flags, MailboxId};
use nightmail_engine::{Engine, KeyRange, Order, RowKey, Space};
use nightmail_heap::{Heap, Location};
use nightmail_mime::{Scanner, Structure};
use parking_lot::Mutex;
use quick_cache::sync::Cache;

use crate::error::StoreError;
use crate::name::MailboxName;
use crate::row::{
    AccountUsage, Keywords, MailboxEntry, MailboxState, MessageRow, SpecialUse, doomed_key,
    doomed_prefix, keywords_key, mailbox_key, message_key, message_range, name_key, names_prefix,
    next_mailbox_key, parse_message_key, parse_name_key, parse_subscription_key,
    subscriptions_prefix, usage_key,
};
use crate::snapshot::{Changes, PAGE, Snapshot, SnapshotCache};
use crate::tx::{self, Appended, Copied, FlagOperation, NewMessage, Quota, StoredFlags};

/// Bounds of the store's memory.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    /// UIDs kept in UID maps, over all mailboxes; four bytes each.
    pub cached_uids_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            cached_uids_max: 4 << 20,
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
    /// Where blobs were found. A segment's number is never used again, so an old place is right or gone.
    places: Cache<BlobId, Location>,
    /// An account keeps its INBOX for life, so that a known one need not be looked up.
    inboxes: Mutex<HashMap<AccountId, MailboxId>>,
}

/// Places of blobs kept in memory.
const PLACES_MAX: usize = 32_768;
/// Messages removed in one step where many are.
const REMOVED_AT_ONCE: usize = 1000;
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
        let snapshots = SnapshotCache::new(options.cached_uids_max);
        Self {
            committer,
            shared: Arc::new(Shared {
                snapshots,
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

    pub(crate) fn engine(&self) -> &dyn Engine {
        self.committer.engine().as_ref()
    }

    async fn get(&self, key: RowKey) -> Found<Option<Bytes>> {
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

    /// The UID map of a mailbox as of now.
    pub async fn snapshot(&self, mailbox: MailboxId) -> Found<Arc<Snapshot>> {
        let state = match self.state(mailbox).await {
            Ok(state) => state,
            Err(error) => {
                self.shared.snapshots.forget(mailbox);
                return Err(error);
            }
        };
        let snapshot = match self.shared.snapshots.get(mailbox) {
            Some(known) if known.modseq >= state.highest_modseq => return Ok(known),
            Some(known) if known.modseq >= state.expunge_floor => {
                known.advance(self.engine(), &state).await?
            }
            _ => Arc::new(Snapshot::load(self.engine(), mailbox, &state).await?),
        };
        Ok(self.shared.snapshots.keep(snapshot))
    }

    /// What happened in a mailbox since `known`.
    pub async fn changes(&self, known: &Snapshot) -> Found<Changes> {
        let newer = self.snapshot(known.mailbox).await?;
        known.changes_to(self.engine(), newer).await
    }

    /// Message rows by UID; those that do not exist are left out.
    pub async fn rows(&self, mailbox: MailboxId, uids: &[u32]) -> Found<Vec<(u32, MessageRow)>> {
        let (Some(first), Some(last)) = (uids.first(), uids.last()) else {
            return Ok(Vec::new());
        };
        let span = last.saturating_sub(*first) as usize;
        if uids.len() > 8 && span < uids.len() * 2 {
            return self.rows_by_scan(mailbox, uids, *first, span + 1).await;
        }
        let keys: Vec<_> = uids.iter().map(|uid| message_key(mailbox, *uid)).collect();
        let rows = self.engine().get_many(&keys).await?;
        uids.iter()
            .zip(rows)
            .filter_map(|(uid, row)| row.map(|row| (uid, row)))
            .map(|(uid, row)| Ok((*uid, MessageRow::decode(&row)?)))
            .collect()
    }

    async fn rows_by_scan(
        &self,
        mailbox: MailboxId,
        uids: &[u32],
        first: u32,
        span: usize,
    ) -> Found<Vec<(u32, MessageRow)>> {
        let limit = PAGE.min(span);
        let mut found = Vec::with_capacity(uids.len());
        let mut from = first;
        let mut wanted = uids.iter().copied().peekable();
        while wanted.peek().is_some() {
            let page = self
                .engine()
                .scan(
                    Space::Message,
                    message_range(mailbox, from),
                    Order::Ascending,
                    limit,
                )
                .await?;
            for (key, row) in &page {
                let Some((_, uid)) = parse_message_key(key) else {
                    continue;
                };
                while wanted.next_if(|next| *next < uid).is_some() {}
                if wanted.next_if_eq(&uid).is_some() {
                    found.push((uid, MessageRow::decode(row)?));
                }
                from = uid.saturating_add(1);
            }
            if page.len() < limit {
                break;
            }
        }
        Ok(found)
    }

    /// UIDs among `uids` of messages whose flags satisfy `wanted`, at most `limit` of them.
    pub async fn uids_where(
        &self,
        mailbox: MailboxId,
        uids: &[u32],
        limit: usize,
        wanted: impl Fn(Flags) -> bool + Send,
    ) -> Found<Vec<u32>> {
        let mut found = Vec::new();
        for page in uids.chunks(PAGE) {
            for (uid, row) in self.rows(mailbox, page).await? {
                if wanted(row.flags) {
                    found.push(uid);
                }
                if found.len() >= limit {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }

    /// The structure of a blob: as kept, or computed anew where the kept form is missing or from another version.
    pub async fn structure(&self, blob: BlobId) -> Found<Structure> {
        Ok(self.structures(&[blob]).await?.pop().unwrap_or_default())
    }

    /// The structures of several blobs, in their order.
    pub async fn structures(&self, blobs: &[BlobId]) -> Found<Vec<Structure>> {
        let keys: Vec<_> = blobs
            .iter()
            .map(|blob| RowKey {
                space: Space::BlobMeta,
                key: blob.as_bytes().to_vec(),
            })
            .collect();
        let rows = self.engine().get_many(&keys).await?;
        let mut found = Vec::with_capacity(blobs.len());
        for (blob, row) in blobs.iter().zip(rows) {
            match row.and_then(|row| Structure::decode(&row).ok()) {
                Some(structure) => found.push(structure),
                None => found.push(self.scan_structure(*blob).await?),
            }
        }
        Ok(found)
    }

    async fn scan_structure(&self, blob: BlobId) -> Found<Structure> {
        let mut scanner = Scanner::new(nightmail_mime::Limits::default());
        let mut reader = crate::MessageReader::new(self.clone(), &Bytes::new(), blob, 0..u64::MAX);
        while let Some(chunk) = reader.next_chunk().await? {
            scanner.push(&chunk);
        }
        Ok(scanner.finish())
    }

    /// Puts a message into a mailbox (APPEND).
    pub async fn append(
        &self,
        account: AccountId,
        quota: Quota,
        blob: NewBlob,
        message: NewMessage,
    ) -> Found<Appended> {
        let reads = append_reads(account, message.mailbox);
        let intent = Intent::synced(move |tx| tx::append(tx, quota, 0, &message))
            .with_blob(blob)
            .reading(reads);
        Ok(self.committer.submit(intent).await?)
    }

    /// Copies messages to another mailbox of the same account.
    pub async fn copy(
        &self,
        account: AccountId,
        quota: Quota,
        source: MailboxId,
        target: MailboxId,
        uids: Vec<u32>,
    ) -> Found<Copied> {
        let reads = self.copy_reads(account, source, target, &uids).await?;
        let intent =
            Intent::synced(move |tx| tx::copy(tx, quota, source, target, &uids)).reading(reads);
        Ok(self.committer.submit(intent).await?)
    }

    /// Moves messages to another mailbox of the same account.
    pub async fn move_messages(
        &self,
        account: AccountId,
        source: MailboxId,
        target: MailboxId,
        uids: Vec<u32>,
    ) -> Found<Copied> {
        let reads = self.copy_reads(account, source, target, &uids).await?;
        let intent =
            Intent::synced(move |tx| tx::move_messages(tx, source, target, &uids)).reading(reads);
        Ok(self.committer.submit(intent).await?)
    }

    async fn copy_reads(
        &self,
        account: AccountId,
        source: MailboxId,
        target: MailboxId,
        uids: &[u32],
    ) -> Found<Vec<RowKey>> {
        let rows = self.rows(source, uids).await?;
        let blobs = rows
            .iter()
            .map(|(_, row)| nightmail_commit::BlobRow::key(row.blob));
        let messages = uids.iter().map(|uid| message_key(source, *uid));
        Ok(append_reads(account, source)
            .into_iter()
            .chain([mailbox_key(target)])
            .chain(messages)
            .chain(blobs)
            .collect())
    }

    /// Changes flags. Answered before the sync: a crash may undo it, never reorder it.
    pub async fn store_flags(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: Vec<u32>,
        operation: FlagOperation,
        flags: Flags,
        keywords: Vec<String>,
    ) -> Found<Vec<StoredFlags>> {
        let messages = uids.iter().map(|uid| message_key(mailbox, *uid));
        let table = (!keywords.is_empty()).then(|| keywords_key(account));
        let reads: Vec<_> = messages
            .chain([mailbox_key(mailbox)])
            .chain(table)
            .collect();
        let intent = Intent::soon(move |tx| {
            tx::store_flags(tx, mailbox, &uids, operation, flags, &keywords)
        });
        Ok(self.committer.submit(intent.reading(reads)).await?)
    }

    /// Removes those of `uids` that carry `\Deleted`. Returns the removed UIDs.
    pub async fn expunge(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
    ) -> Found<Vec<u32>> {
        if self.state(mailbox).await?.deleted == 0 {
            return Ok(Vec::new());
        }
        let doomed = self
            .uids_where(mailbox, uids, usize::MAX, |flags| {
                flags.contains(Flags::DELETED)
            })
            .await?;
        if doomed.is_empty() {
            return Ok(doomed);
        }
        let messages = doomed.iter().map(|uid| message_key(mailbox, *uid));
        let reads: Vec<_> = messages
            .chain([mailbox_key(mailbox), usage_key(account)])
            .collect();
        let intent = Intent::synced(move |tx| tx::expunge(tx, mailbox, &doomed)).reading(reads);
        Ok(self.committer.submit(intent).await?)
    }

    /// Removes messages whatever their flags (POP3 UPDATE), many in several steps. Returns the UIDs that were there.
    pub async fn remove(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
    ) -> Found<Vec<u32>> {
        let mut removed = Vec::with_capacity(uids.len());
        for step in uids.chunks(REMOVED_AT_ONCE) {
            let step = step.to_vec();
            let messages = step.iter().map(|uid| message_key(mailbox, *uid));
            let reads: Vec<_> = messages
                .chain([mailbox_key(mailbox), usage_key(account)])
                .collect();
            let intent = Intent::synced(move |tx| tx::remove(tx, mailbox, &step)).reading(reads);
            removed.extend(self.committer.submit(intent).await?);
        }
        Ok(removed)
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
        let reads = [
            name_key(account, &name),
            usage_key(account),
            next_mailbox_key(),
        ];
        let intent = Intent::synced(move |tx| tx::create_mailbox(tx, account, &name, special_use))
            .reading(reads);
        Ok(self.committer.submit(intent).await?)
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
        let intent = Intent::synced(move |tx| tx::rename_mailbox(tx, account, &old, &new, &below));
        Ok(self.committer.submit(intent).await?)
    }

    async fn rename_inbox(&self, account: AccountId, new: MailboxName) -> Found<()> {
        let inbox = self.lookup(account, &MailboxName::inbox()).await?.mailbox;
        let target = self.create_mailbox(account, new, None).await?;
        let uids = self.snapshot(inbox).await?.raw_uids();
        if !uids.is_empty() {
            self.move_messages(account, inbox, target, uids).await?;
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

    /// Removes the messages of a mailbox that has been deleted, in bounded steps. Goes on where a crash left it.
    pub async fn purge(&self, mailbox: MailboxId) -> Found<()> {
        const STEP: usize = 500;
        self.purge_log(mailbox).await?;
        loop {
            let range = message_range(mailbox, 0);
            let page = self
                .engine()
                .scan(Space::Message, range, Order::Ascending, STEP)
                .await?;
            let uids: Vec<u32> = page
                .iter()
                .filter_map(|(key, _)| parse_message_key(key))
                .map(|(_, uid)| uid)
                .collect();
            let done = page.len() < STEP;
            let reads: Vec<_> = uids.iter().map(|uid| message_key(mailbox, *uid)).collect();
            let intent = Intent::synced(move |tx| {
                if done {
                    tx.delete(doomed_key(mailbox));
                }
                tx::remove_doomed_messages(tx, mailbox, &uids)
            });
            self.committer.submit(intent.reading(reads)).await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Removes the expunge log of a mailbox that has been deleted.
    async fn purge_log(&self, mailbox: MailboxId) -> Found<()> {
        let rows = self
            .scan_all(Space::Expunge, KeyRange::prefix(&mailbox.to_be_bytes()))
            .await?;
        let keys: Vec<_> = rows
            .into_iter()
            .map(|(key, _)| RowKey {
                space: Space::Expunge,
                key,
            })
            .collect();
        let intent = Intent::soon(move |tx| {
            keys.iter().cloned().for_each(|key| tx.delete(key));
            Ok::<_, nightmail_commit::Abort<StoreError>>(())
        });
        Ok(self.committer.submit(intent).await?)
    }

    /// Goes on with the removal of mailboxes that a crash interrupted. Called once at start.
    pub async fn purge_doomed(&self) -> Found<usize> {
        let rows = self
            .scan_all(Space::Meta, KeyRange::prefix(&doomed_prefix()))
            .await?;
        let doomed: Vec<MailboxId> = rows
            .iter()
            .filter_map(|(key, _)| {
                key.strip_prefix(doomed_prefix().as_slice())?
                    .try_into()
                    .ok()
            })
            .map(|id| MailboxId::new(u64::from_be_bytes(id)))
            .collect();
        for mailbox in &doomed {
            self.purge(*mailbox).await?;
        }
        Ok(doomed.len())
    }
}

/// The rows that an append to a mailbox of `account` reads, for an intent to declare.
pub fn append_reads(account: AccountId, mailbox: MailboxId) -> Vec<RowKey> {
    vec![
        mailbox_key(mailbox),
        usage_key(account),
        keywords_key(account),
    ]
}
