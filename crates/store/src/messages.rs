//! Messages of mailboxes: reading them, and every change of them.
//!
//! Changes of many messages rely on what a snapshot knows of the messages as they came, and read only blocks.

use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{CommitFailure, Intent, NewBlob};
use nightmail_core::{AccountId, Flags, MailboxId, ModSeq};
use nightmail_engine::{Order, RowKey, Space};

use crate::error::StoreError;
use crate::row::{
    Block, Fate, LogEntry, MessageRow, block_key, block_of, expunge_range, keywords_key, low,
    mailbox_key, message_key, message_range, parse_message_key, usage_key,
};
use crate::snapshot::{Changes, PAGE, Snapshot, read_blocks};
use crate::store::{Store, append_reads};
use crate::tx::{self, Appended, Copied, FlagUpdate, NewMessage, Quota, RawRows, Stored};

/// UIDs that are not worth a task of their own.
const UIDS_OF_A_TASK_MIN: usize = 16 * 1024;
/// Tasks that read rows for one change.
const TASKS_MAX: usize = 8;

type Found<T> = Result<T, StoreError>;

impl Store {
    /// The messages of a mailbox as of now.
    pub async fn snapshot(&self, mailbox: MailboxId) -> Found<Arc<Snapshot>> {
        let state = match self.state(mailbox).await {
            Ok(state) => state,
            Err(error) => {
                self.snapshots().forget(mailbox);
                return Err(error);
            }
        };
        let engine = self.committer().engine();
        let advanced = match self.snapshots().get(mailbox) {
            Some(known) if known.modseq > state.highest_modseq => return Ok(known),
            Some(known) if known.modseq == state.highest_modseq => {
                if known.agrees(&state) {
                    return Ok(known);
                }
                None
            }
            Some(known) => Some(Box::pin(known.advance(engine, &state)).await?),
            None => None,
        };
        let snapshot = match advanced {
            Some(advanced) if advanced.agrees(&state) || !self.is_now(mailbox, &state).await? => {
                advanced
            }
            // Nothing was known, or what was known is not what the store says: it has lost the last changes.
            _ => {
                self.snapshots().forget(mailbox);
                let mut loaded = Box::pin(Snapshot::load(engine, mailbox, &state)).await?;
                match state.digest {
                    None => self.adopt_digest(&loaded).await?,
                    // Where they differ now, `check` has to find out why; there is nothing better to read.
                    Some(digest) => loaded.digest = digest,
                }
                loaded
            }
        };
        Ok(self.snapshots().keep(Arc::new(snapshot)))
    }

    async fn is_now(&self, mailbox: MailboxId, state: &crate::MailboxState) -> Found<bool> {
        Ok(self.state(mailbox).await? == *state)
    }

    /// Gives a mailbox whose state an earlier version wrote its digest, unless it has changed since.
    async fn adopt_digest(&self, snapshot: &Snapshot) -> Found<()> {
        let (mailbox, modseq) = (snapshot.mailbox, snapshot.modseq);
        let digest = snapshot.digest;
        let intent = Intent::soon(move |tx| tx::adopt_digest(tx, mailbox, modseq, digest));
        Ok(self
            .committer()
            .submit(intent.reading([mailbox_key(mailbox)]))
            .await?)
    }

    /// What happened in a mailbox since `known`.
    pub async fn changes(&self, known: &Snapshot) -> Found<Changes> {
        Ok(known.changes_to(self.snapshot(known.mailbox).await?))
    }

    /// UIDs that left a mailbox after `since`, as first and last of those that follow each other, ascending. `None`
    /// where the log does not reach back that far (RFC 7162 §3.2.5).
    pub async fn vanished(
        &self,
        mailbox: MailboxId,
        since: ModSeq,
    ) -> Found<Option<Vec<(u32, u32)>>> {
        if since < self.state(mailbox).await?.expunge_floor {
            return Ok(None);
        }
        let rows = self
            .scan_all(Space::Expunge, expunge_range(mailbox, since))
            .await?;
        let mut ranges = Vec::new();
        for (_, row) in &rows {
            ranges.extend(LogEntry::decode(row)?.ranges);
        }
        ranges.sort_unstable();
        Ok(Some(joined(ranges)))
    }

    /// Rows of messages by UID; those that do not exist are left out.
    pub async fn rows(&self, mailbox: MailboxId, uids: &[u32]) -> Found<Vec<(u32, MessageRow)>> {
        let raw = self.raw_rows(mailbox, uids).await?;
        let mut numbers: Vec<u32> = raw.iter().map(|(uid, _)| block_of(*uid)).collect();
        numbers.dedup();
        let blocks = read_blocks(self.engine(), mailbox, numbers).await?;
        let mut rows = Vec::with_capacity(raw.len());
        for (uid, row) in raw {
            let block = blocks.get(&block_of(uid));
            let row = MessageRow::decode(&row)?;
            rows.extend(merged(uid, row, block).map(|row| (uid, row)));
        }
        Ok(rows)
    }

    /// Rows as they came, those of messages that were expunged but not purged among them.
    async fn raw_rows(&self, mailbox: MailboxId, uids: &[u32]) -> Found<RawRows> {
        let (Some(first), Some(last)) = (uids.first(), uids.last()) else {
            return Ok(Vec::new());
        };
        let span = last.saturating_sub(*first) as usize;
        if uids.len() > 8 && span < uids.len().saturating_mul(2) {
            return match uids.len() > 2 * UIDS_OF_A_TASK_MIN {
                true => self.raw_rows_by_tasks(mailbox, uids).await,
                false => self.raw_rows_by_scan(mailbox, uids).await,
            };
        }
        let mut found = Vec::with_capacity(uids.len());
        for page in uids.chunks(PAGE) {
            let keys: Vec<_> = page.iter().map(|uid| message_key(mailbox, *uid)).collect();
            let rows = page.iter().zip(self.engine().get_many(&keys).await?);
            found.extend(rows.filter_map(|(uid, row)| Some((*uid, row?))));
        }
        Ok(found)
    }

    /// Scans parts of many UIDs at the same time.
    async fn raw_rows_by_tasks(&self, mailbox: MailboxId, uids: &[u32]) -> Found<RawRows> {
        let share = uids.len().div_ceil(TASKS_MAX).max(UIDS_OF_A_TASK_MIN);
        let tasks: Vec<_> = uids
            .chunks(share)
            .map(|part| {
                let (store, part) = (self.clone(), part.to_vec());
                tokio::spawn(async move { store.raw_rows_by_scan(mailbox, &part).await })
            })
            .collect();
        let mut found = Vec::with_capacity(uids.len());
        for task in tasks {
            let read = task.await.map_err(|error| {
                StoreError::Failed(CommitFailure::Unavailable(error.to_string()))
            })?;
            found.extend(read?);
        }
        Ok(found)
    }

    async fn raw_rows_by_scan(&self, mailbox: MailboxId, uids: &[u32]) -> Found<RawRows> {
        let (Some(first), Some(last)) = (uids.first().copied(), uids.last()) else {
            return Ok(Vec::new());
        };
        let limit = PAGE.min(last.saturating_sub(first) as usize + 1);
        let mut found = Vec::with_capacity(uids.len());
        let mut range = message_range(mailbox, first);
        let mut wanted = uids.iter().copied().peekable();
        while wanted.peek().is_some() {
            let page = self
                .engine()
                .scan(Space::Message, range.clone(), Order::Ascending, limit)
                .await?;
            let full = page.len() == limit;
            for (key, row) in page {
                let Some((_, uid)) = parse_message_key(&key) else {
                    continue;
                };
                while wanted.next_if(|next| *next < uid).is_some() {}
                if wanted.next_if_eq(&uid).is_some() {
                    found.push((uid, row));
                }
                range.from = key;
            }
            if !full {
                break;
            }
            range.from.push(0);
        }
        Ok(found)
    }

    /// UIDs among `uids`, which ascend, of messages whose flags satisfy `wanted`, at most `limit` of them.
    pub async fn uids_where(
        &self,
        mailbox: MailboxId,
        uids: &[u32],
        limit: usize,
        wanted: impl Fn(Flags) -> bool + Send,
    ) -> Found<Vec<u32>> {
        let snapshot = self.snapshot(mailbox).await?;
        let there = |uid: &&u32| snapshot.mark(**uid).is_some_and(|mark| wanted(mark.flags));
        Ok(uids.iter().filter(there).take(limit).copied().collect())
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
        Ok(self.committer().submit(intent).await?)
    }

    /// Copies messages to another mailbox, of the same account or of another. `account` is the target's owner, whose
    /// quota it is. All or nothing.
    pub async fn copy(
        &self,
        account: AccountId,
        quota: Quota,
        source: MailboxId,
        target: MailboxId,
        uids: Vec<u32>,
    ) -> Found<Copied> {
        let rows = self.raw_rows(source, &uids).await?;
        let reads = transfer_reads(account, source, target, &rows);
        let intent = Intent::synced(move |tx| tx::copy(tx, quota, source, target, &rows));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Moves messages to another mailbox, of the same account or of another. `account` is the target's owner, whose
    /// quota counts where they come from another account. All or nothing.
    pub async fn move_messages(
        &self,
        account: AccountId,
        quota: Quota,
        source: MailboxId,
        target: MailboxId,
        uids: Vec<u32>,
    ) -> Found<Copied> {
        let snapshot = self.snapshot(source).await?;
        let rows = self.raw_rows(source, &uids).await?;
        let reads = transfer_reads(account, source, target, &rows);
        let intent =
            Intent::synced(move |tx| tx::move_messages(tx, quota, &snapshot, target, &rows));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Changes flags. Answered before the sync: a crash may undo it, never reorder it.
    pub async fn store_flags(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: Vec<u32>,
        update: FlagUpdate,
    ) -> Found<Stored> {
        let snapshot = self.snapshot(mailbox).await?;
        let table = (!update.keywords.is_empty()).then(|| keywords_key(account));
        let reads: Vec<_> = block_keys(mailbox, uids.iter().copied())
            .chain([mailbox_key(mailbox)])
            .chain(table)
            .collect();
        let intent = Intent::soon(move |tx| tx::store_flags(tx, &snapshot, &uids, &update));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Removes those of `uids`, which ascend, that carry `\Deleted`. Returns the removed UIDs.
    pub async fn expunge(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
    ) -> Found<Vec<u32>> {
        if self.state(mailbox).await?.deleted == 0 {
            return Ok(Vec::new());
        }
        let marked = |flags: Flags| flags.contains(Flags::DELETED);
        let doomed = self.uids_where(mailbox, uids, usize::MAX, marked).await?;
        if doomed.is_empty() {
            return Ok(doomed);
        }
        let snapshot = self.snapshot(mailbox).await?;
        let reads = removal_reads(account, mailbox, &doomed);
        let intent = Intent::synced(move |tx| tx::expunge(tx, &snapshot, &doomed));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Removes messages whatever their flags (POP3 UPDATE). Returns the UIDs that were there.
    pub async fn remove(
        &self,
        account: AccountId,
        mailbox: MailboxId,
        uids: &[u32],
    ) -> Found<Vec<u32>> {
        if uids.is_empty() {
            return Ok(Vec::new());
        }
        let snapshot = self.snapshot(mailbox).await?;
        let reads = removal_reads(account, mailbox, uids);
        let uids = uids.to_vec();
        let intent = Intent::synced(move |tx| tx::remove(tx, &snapshot, &uids));
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }
}

/// A row under what became of the message; `None` where it is gone.
fn merged(uid: u32, row: MessageRow, block: Option<&Block>) -> Option<MessageRow> {
    match block.and_then(|block| block.get(low(uid))) {
        Some(change) if change.fate != Fate::Live => None,
        Some(change) => Some(MessageRow {
            modseq: change.modseq,
            flags: change.flags,
            keywords: change.keywords.clone(),
            ..row
        }),
        None => Some(row),
    }
}

/// Ranges that ascend, with those joined that touch.
fn joined(ranges: Vec<(u32, u32)>) -> Vec<(u32, u32)> {
    let mut joined: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match joined.last_mut() {
            Some((_, last)) if low <= last.saturating_add(1) => *last = high.max(*last),
            _ => joined.push((low, high)),
        }
    }
    joined
}

/// The keys of the blocks of UIDs.
pub(crate) fn block_keys(
    mailbox: MailboxId,
    uids: impl Iterator<Item = u32>,
) -> impl Iterator<Item = RowKey> {
    let mut numbers: Vec<u32> = uids.map(block_of).collect();
    numbers.dedup();
    numbers
        .into_iter()
        .map(move |number| block_key(mailbox, number))
}

fn removal_reads(account: AccountId, mailbox: MailboxId, uids: &[u32]) -> Vec<RowKey> {
    block_keys(mailbox, uids.iter().copied())
        .chain([mailbox_key(mailbox), usage_key(account)])
        .collect()
}

fn transfer_reads(
    account: AccountId,
    source: MailboxId,
    target: MailboxId,
    rows: &[(u32, Bytes)],
) -> Vec<RowKey> {
    block_keys(source, rows.iter().map(|(uid, _)| *uid))
        .chain([mailbox_key(source), mailbox_key(target), usage_key(account)])
        .collect()
}
