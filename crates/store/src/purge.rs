//! Removing for good, in bounded steps and in the background: deleted mailboxes, and messages that were expunged.
//!
//! Owns what is left of a mailbox without a name, and the list of what was expunged. Goes on where a crash left it.

use std::time::Duration;

use nightmail_commit::{Abort, Intent};
use nightmail_core::{AccountId, BlobId, MailboxId, ModSeq, Timestamp};
use nightmail_engine::{KeyRange, Order, RowKey, Space};
use nightmail_mime::encoded_word::decode_words;

use crate::error::StoreError;
use crate::messages::block_keys;
use crate::row::{
    Leave, LogEntry, MessageRow, doomed_key, doomed_prefix, expunge_range, mailbox_key,
    message_key, message_range, parse_change_key, parse_message_key, parse_purge_key, purge_range,
    usage_key,
};
use crate::snapshot::PAGE;
use crate::store::Store;
use crate::tx;

type Found<T> = Result<T, StoreError>;

/// Messages purged or brought back in one step.
const STEP: usize = 500;

/// A message that was brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Undeleted {
    /// Where it was and is again.
    pub mailbox: MailboxId,
    /// The UID it had.
    pub old_uid: u32,
    /// The UID it has.
    pub new_uid: u32,
}

/// A message that was expunged and can be brought back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deleted {
    /// Where it was.
    pub mailbox: MailboxId,
    /// The UID it had.
    pub uid: u32,
    /// When it was expunged.
    pub at: Timestamp,
    /// Its bytes.
    pub blob: BlobId,
}

impl Store {
    /// Messages of an account, or of one of its mailboxes, that were expunged at or after `since` and can be brought
    /// back, by mailbox and time. Messages that were moved are not among them.
    pub async fn deleted(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        since: Timestamp,
    ) -> Found<Vec<Deleted>> {
        let mailboxes = match mailbox {
            Some(mailbox) => vec![mailbox],
            None => {
                let listed = self.list(account).await?;
                listed.iter().map(|listed| listed.entry.mailbox).collect()
            }
        };
        let mut deleted = Vec::new();
        for mailbox in mailboxes {
            for uids in self.deleted_uids(mailbox, since).await? {
                let (at, uids) = uids;
                let there = self.expunged_rows(mailbox, uids).await?;
                deleted.extend(there.into_iter().map(|(uid, blob)| Deleted {
                    mailbox,
                    uid,
                    at,
                    blob,
                }));
            }
        }
        Ok(deleted)
    }

    /// The subjects of messages that were expunged, in their order; empty where there is none.
    pub async fn deleted_subjects(&self, deleted: &[Deleted]) -> Found<Vec<String>> {
        let mut subjects = Vec::with_capacity(deleted.len());
        for page in deleted.chunks(PAGE) {
            let blobs: Vec<BlobId> = page.iter().map(|one| one.blob).collect();
            let structures = self.structures(&blobs).await?.into_iter();
            subjects.extend(structures.map(|structure| {
                let subject = structure.message.envelope.subject.unwrap_or_default();
                decode_words(&subject)
            }));
        }
        Ok(subjects)
    }

    async fn deleted_uids(
        &self,
        mailbox: MailboxId,
        since: Timestamp,
    ) -> Found<Vec<(Timestamp, Vec<u32>)>> {
        let rows = self
            .scan_all(Space::Expunge, expunge_range(mailbox, ModSeq::default()))
            .await?;
        let mut found = Vec::new();
        for (_, row) in &rows {
            let entry = LogEntry::decode(row)?;
            if entry.leave == Leave::Expunged && entry.at >= since {
                found.push((entry.at, entry.uids().collect()));
            }
        }
        Ok(found)
    }

    /// Those of `uids`, which left the mailbox, whose rows are still there, and their blobs.
    async fn expunged_rows(&self, mailbox: MailboxId, uids: Vec<u32>) -> Found<Vec<(u32, BlobId)>> {
        let mut there = Vec::new();
        for page in uids.chunks(PAGE) {
            let keys: Vec<_> = page.iter().map(|uid| message_key(mailbox, *uid)).collect();
            let rows = self.engine().get_many(&keys).await?;
            for (uid, row) in page.iter().zip(rows) {
                if let Some(row) = row {
                    there.push((*uid, MessageRow::decode(&row)?.blob));
                }
            }
        }
        Ok(there)
    }

    /// Brings messages of an account, or of one of its mailboxes, back that were expunged at or after `since`: each
    /// into the mailbox it was in, under a new UID and without `\Deleted`. Quotas do not keep them out.
    pub async fn undelete(
        &self,
        account: AccountId,
        mailbox: Option<MailboxId>,
        since: Timestamp,
    ) -> Found<Vec<Undeleted>> {
        let mut undeleted = Vec::new();
        let deleted = self.deleted(account, mailbox, since).await?;
        for one in deleted.chunk_by(|a, b| a.mailbox == b.mailbox) {
            let Some(Deleted { mailbox, .. }) = one.first().copied() else {
                continue;
            };
            let mut uids: Vec<u32> = one.iter().map(|deleted| deleted.uid).collect();
            uids.sort_unstable();
            for step in uids.chunks(STEP) {
                let restored = self.undelete_step(account, mailbox, step.to_vec()).await?;
                undeleted.extend(restored.into_iter().map(|(old_uid, new_uid)| Undeleted {
                    mailbox,
                    old_uid,
                    new_uid,
                }));
            }
        }
        Ok(undeleted)
    }

    async fn undelete_step(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: Vec<u32>,
    ) -> Found<Vec<(u32, u32)>> {
        let messages = uids.iter().map(|uid| message_key(mailbox, *uid));
        let reads: Vec<_> = block_keys(mailbox, uids.iter().copied())
            .chain([mailbox_key(mailbox), usage_key(account)])
            .chain(messages)
            .collect();
        let intent = Intent::synced(move |tx| tx::undelete(tx, mailbox, &uids));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Removes the rows of messages that were expunged longer than `window` before `now`, and of those that were moved
    /// away; about `budget` of them at most. Returns how many: there may be more where it is `budget` or above.
    pub async fn purge_expunged(
        &self,
        now: Timestamp,
        window: Duration,
        budget: usize,
    ) -> Found<usize> {
        let window = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
        let until = Timestamp::from_millis(now.millis().saturating_sub(window).saturating_add(1));
        let listed = self
            .engine()
            .scan(
                Space::Meta,
                purge_range(until),
                Order::Ascending,
                budget.max(1),
            )
            .await?;
        let mut purged = 0;
        for (key, _) in listed {
            if purged >= budget {
                break;
            }
            if let Some((mailbox, modseq)) = parse_purge_key(&key) {
                let key = RowKey::new(Space::Meta, key);
                purged += self.purge_entry(mailbox, modseq, key).await?.max(1);
            }
        }
        metrics::counter!("nightmail_store_messages_purged_total").increment(purged as u64);
        Ok(purged)
    }

    /// Removes the rows of the messages that left at one modification sequence.
    async fn purge_entry(
        &self,
        mailbox: MailboxId,
        modseq: ModSeq,
        listed: RowKey,
    ) -> Found<usize> {
        let read = Intent::soon(move |tx| tx::log_entry(tx, mailbox, modseq));
        let entry = self.committer().submit(read).await?;
        let uids: Vec<u32> = entry.iter().flat_map(LogEntry::uids).collect();
        let mut purged = 0;
        for step in uids.chunks(STEP) {
            let step = step.to_vec();
            let messages = step.iter().map(|uid| message_key(mailbox, *uid));
            let reads: Vec<_> = block_keys(mailbox, step.iter().copied())
                .chain(messages)
                .collect();
            let intent = Intent::soon(move |tx| tx::purge(tx, mailbox, &step));
            purged += self.committer().submit(intent.reading(reads)).await?;
        }
        self.delete_rows(vec![listed]).await?;
        Ok(purged)
    }

    pub(crate) async fn delete_rows(&self, keys: Vec<RowKey>) -> Found<()> {
        let intent = Intent::soon(move |tx| {
            keys.iter().cloned().for_each(|key| tx.delete(key));
            Ok::<_, Abort<StoreError>>(())
        });
        Ok(self.committer().submit(intent).await?)
    }

    /// Removes the messages of a mailbox that has been deleted, in bounded steps. Goes on where a crash left it.
    pub async fn purge(&self, mailbox: MailboxId) -> Found<()> {
        for space in [Space::Expunge, Space::Change, Space::Mark] {
            self.purge_space(space, mailbox).await?;
        }
        self.forget_metadata(Some(mailbox), None).await?;
        self.forget_unique_ids(mailbox).await?;
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
            self.committer().submit(intent.reading(reads)).await?;
            if done {
                return Ok(());
            }
        }
    }

    /// Removes the rows of a space that belong to a mailbox that has been deleted.
    async fn purge_space(&self, space: Space, mailbox: MailboxId) -> Found<()> {
        loop {
            let range = KeyRange::prefix(&mailbox.to_be_bytes());
            let page = self
                .engine()
                .scan(space, range, Order::Ascending, PAGE)
                .await?;
            let full = page.len() == PAGE;
            let keys = page.into_iter().map(|(key, _)| RowKey { space, key });
            self.delete_rows(keys.collect()).await?;
            if !full {
                return Ok(());
            }
        }
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
        self.drop_single_changes().await?;
        Ok(doomed.len())
    }

    /// Removes what earlier versions wrote into the change index, a row for each message; once for a store.
    async fn drop_single_changes(&self) -> Found<()> {
        let done = RowKey::new(Space::Meta, b"changes-in-blocks".as_slice());
        if self.engine().get_many(std::slice::from_ref(&done)).await? != [None] {
            return Ok(());
        }
        let mut range = KeyRange::all();
        loop {
            let page = self
                .engine()
                .scan(Space::Change, range.clone(), Order::Ascending, PAGE)
                .await?;
            let last = page.last().map(|(key, _)| key.clone());
            let full = page.len() == PAGE;
            let single = page.into_iter().map(|(key, _)| key);
            let single = single.filter(|key| parse_change_key(key).is_none());
            let keys = single.map(|key| RowKey::new(Space::Change, key));
            self.delete_rows(keys.collect()).await?;
            match last {
                Some(last) if full => range = range.beyond(&last, Order::Ascending),
                _ => break,
            }
        }
        let intent = Intent::soon(move |tx| {
            tx.put(done.clone(), crate::row::PRESENT);
            Ok::<_, Abort<StoreError>>(())
        });
        Ok(self.committer().submit(intent).await?)
    }
}
