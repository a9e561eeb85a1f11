//! Reading messages in batches: rows, then what more is needed of them.
//!
//! Owns how much is read at once. A message that cannot be read is left out, so that it does not hide the others.

use std::collections::VecDeque;
use std::ops::Range;

use bytes::{Bytes, BytesMut};
use nightmail_core::{MailboxId, Uid};
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::command::section::Section;
use nightmail_mime::Structure;
use nightmail_store::{MessageReader, MessageRow, Store, StoreError};

use super::{Body, cut};

/// Rows read at once.
const ROWS_MAX: usize = 512;
/// Messages whose structure is read at once.
const STRUCTURES_MAX: usize = 256;
/// Messages whose content is read at once.
const CONTENTS_MAX: usize = 64;
/// And so many octets of them.
const CONTENT_OCTETS_MAX: u64 = 256 * 1024;
/// A longer message is not held as a whole.
const WHOLE_OCTETS_MAX: u64 = 128 * 1024;

/// What is needed of each message besides its row.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(in crate::drivers::imap) struct Needs {
    pub(in crate::drivers::imap) structure: bool,
    pub(in crate::drivers::imap) content: bool,
}

impl Needs {
    /// A whole message has no need of its structure.
    pub(in crate::drivers::imap) fn of(plan: &FetchPlan) -> Self {
        let is_part = |section: &Section| *section != Section::ALL;
        let rendered = plan.envelope || plan.body || plan.body_structure;
        let decoded = !plan.binaries.is_empty();
        Self {
            structure: rendered || decoded || plan.preview || plan.sections.iter().any(is_part),
            content: !plan.sections.is_empty() || decoded || plan.preview,
        }
    }
}

/// A message.
pub(in crate::drivers::imap) struct Item {
    pub(in crate::drivers::imap) uid: Uid,
    pub(in crate::drivers::imap) row: MessageRow,
    /// Of what follows the prefix; empty unless it was needed.
    pub(in crate::drivers::imap) structure: Structure,
    pub(in crate::drivers::imap) body: Body,
    /// Whether `\Seen` was set just now.
    pub(in crate::drivers::imap) flags_changed: bool,
}

impl Item {
    fn new(uid: Uid, row: MessageRow) -> Self {
        Self {
            uid,
            body: Body::Stored(row.blob),
            structure: Structure::default(),
            flags_changed: false,
            row,
        }
    }

    /// The same once nothing more is rendered of it.
    pub(super) fn without_structure(mut self) -> Self {
        self.structure = Structure::default();
        self
    }

    pub(in crate::drivers::imap) fn prefix_len(&self) -> u64 {
        self.row.prefix.len() as u64
    }

    fn body_len(&self) -> u64 {
        self.row.size.saturating_sub(self.prefix_len())
    }

    /// Where the message's own header lies: the fields of the prefix belong to it.
    pub(in crate::drivers::imap) fn header_range(&self) -> Range<u64> {
        0..self.prefix_len() + self.structure.root().header.end
    }

    /// A range of the structure as one of the message.
    pub(in crate::drivers::imap) fn shifted(&self, range: &Range<u64>) -> Range<u64> {
        let by = self.prefix_len();
        range.start + by..range.end + by
    }

    /// Octets of the message, if they lie together in memory.
    pub(in crate::drivers::imap) fn slice(&self, range: &Range<u64>) -> Option<Bytes> {
        let before = self.prefix_len();
        match &self.body {
            _ if range.end <= before => Some(cut(&self.row.prefix, range.start, range.end)),
            Body::Loaded(body) if range.start >= before => {
                Some(cut(body, range.start - before, range.end - before))
            }
            _ => None,
        }
    }

    /// Octets of the message, at most `octets_max` from the start of the range.
    pub(in crate::drivers::imap) async fn read(
        &self,
        store: &Store,
        range: Range<u64>,
        octets_max: u64,
    ) -> Result<Bytes, StoreError> {
        let range = range.start..range.end.min(range.start.saturating_add(octets_max));
        if let Some(slice) = self.slice(&range) {
            return Ok(slice);
        }
        let mut octets = BytesMut::new();
        if let Body::Loaded(body) = &self.body {
            let before = self.prefix_len();
            octets.extend_from_slice(&cut(&self.row.prefix, range.start, range.end));
            octets.extend_from_slice(&cut(body, 0, range.end.saturating_sub(before)));
            return Ok(octets.freeze());
        }
        let mut reader = MessageReader::new(store.clone(), &self.row.prefix, self.row.blob, range);
        while let Some(chunk) = Box::pin(reader.next_chunk()).await? {
            octets.extend_from_slice(&chunk);
        }
        Ok(octets.freeze())
    }
}

/// Messages of a mailbox, batch by batch.
pub(in crate::drivers::imap) struct Loader {
    store: Store,
    mailbox: MailboxId,
    needs: Needs,
    uids: Vec<u32>,
    /// How many of `uids` have been looked for.
    looked: usize,
    rows: VecDeque<Item>,
    /// How many of them are not there.
    pub(in crate::drivers::imap) missing: usize,
    /// Why a message was left out.
    pub(in crate::drivers::imap) failed: Option<StoreError>,
}

impl Loader {
    pub(in crate::drivers::imap) fn new(
        store: Store,
        mailbox: MailboxId,
        uids: Vec<u32>,
        needs: Needs,
    ) -> Self {
        Self {
            store,
            mailbox,
            needs,
            uids,
            looked: 0,
            rows: VecDeque::new(),
            missing: 0,
            failed: None,
        }
    }

    /// The next messages; none after the last.
    pub(in crate::drivers::imap) async fn next(&mut self) -> Result<Option<Vec<Item>>, StoreError> {
        loop {
            if self.rows.is_empty() && !self.read_rows().await? {
                return Ok(None);
            }
            let batch = self.take_batch();
            let filled = self.fill(batch, self.needs).await;
            if !filled.is_empty() {
                return Ok(Some(filled));
            }
        }
    }

    /// Whether there were UIDs left to look for.
    async fn read_rows(&mut self) -> Result<bool, StoreError> {
        let rest = self.uids.get(self.looked..).unwrap_or_default();
        let page = rest.get(..ROWS_MAX).unwrap_or(rest);
        if page.is_empty() {
            return Ok(false);
        }
        let rows = self.store.rows(self.mailbox, page).await?;
        self.looked += page.len();
        self.missing += page.len() - rows.len();
        let items = rows.into_iter();
        self.rows = items
            .filter_map(|(uid, row)| Uid::new(uid).map(|uid| Item::new(uid, row)))
            .collect();
        Ok(true)
    }

    /// As many of the rows as may be in memory with their content.
    fn take_batch(&mut self) -> Vec<Item> {
        if !self.needs.structure && !self.needs.content {
            return std::mem::take(&mut self.rows).into();
        }
        let mut octets = 0u64;
        let mut count = 0;
        if !self.needs.content {
            count = self.rows.len().min(STRUCTURES_MAX);
            return self.rows.drain(..count).collect();
        }
        for item in self.rows.iter().take(CONTENTS_MAX) {
            octets += item.body_len().min(WHOLE_OCTETS_MAX);
            if count > 0 && octets > CONTENT_OCTETS_MAX {
                break;
            }
            count += 1;
        }
        self.rows.drain(..count).collect()
    }

    /// Reads what is needed. Where that fails, message by message, to find those that can be read.
    pub(in crate::drivers::imap) async fn fill(
        &mut self,
        mut batch: Vec<Item>,
        needs: Needs,
    ) -> Vec<Item> {
        if fill(&self.store, &mut batch, needs).await.is_ok() {
            return batch;
        }
        let mut filled = Vec::with_capacity(batch.len());
        for mut item in batch {
            let one = std::slice::from_mut(&mut item);
            match Box::pin(fill(&self.store, one, needs)).await {
                Ok(()) => filled.push(item),
                Err(error) => self.failed = Some(error),
            }
        }
        filled
    }
}

async fn fill(store: &Store, batch: &mut [Item], needs: Needs) -> Result<(), StoreError> {
    if needs.structure {
        let blobs: Vec<_> = batch.iter().map(|item| item.row.blob).collect();
        let structures = Box::pin(store.structures(&blobs)).await?;
        for (item, structure) in batch.iter_mut().zip(structures) {
            item.structure = structure;
        }
    }
    if needs.content {
        let small = |item: &&mut Item| item.body_len() <= WHOLE_OCTETS_MAX;
        let blobs: Vec<_> = batch
            .iter_mut()
            .filter(small)
            .map(|item| item.row.blob)
            .collect();
        let bodies = store.read_blobs(&blobs).await?;
        for (item, body) in batch.iter_mut().filter(small).zip(bodies) {
            item.body = Body::Loaded(body);
        }
    }
    Ok(())
}

/// Runs what takes long on a blocking thread.
pub(in crate::drivers::imap) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        StoreError::Failed(nightmail_commit::CommitFailure::Unavailable(
            error.to_string(),
        ))
    })
}
