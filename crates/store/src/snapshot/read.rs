//! Reading snapshots from rows, and bringing them up to date.

use std::collections::HashMap;
use std::sync::Arc;

use nightmail_commit::CommitFailure;
use nightmail_core::{MailboxId, ModSeq, Uid};
use nightmail_engine::{Engine, KeyRange, Order, Space};

use super::marks::{Chunk, ChunkBuilder, Marks};
use super::{PAGE, Snapshot};
use crate::error::StoreError;
use crate::row::{
    Base, Block, MailboxState, block_key, block_of, change_range, message_range, parse_block_key,
    parse_change_key, parse_message_key,
};

type Blocks = HashMap<u32, Block>;

/// UIDs that are not worth a task of their own.
const UIDS_OF_A_TASK_MIN: u64 = 16 * 1024;
/// Tasks that read a mailbox.
const TASKS_MAX: u64 = 16;

impl Snapshot {
    /// Reads the whole mailbox.
    pub(crate) async fn load(
        engine: &Arc<dyn Engine>,
        mailbox: MailboxId,
        state: &MailboxState,
    ) -> Result<Self, StoreError> {
        let blocks = Arc::new(all_blocks(engine.as_ref(), mailbox).await?);
        let until = end(state.uid_next);
        let share = until.div_ceil(TASKS_MAX).max(UIDS_OF_A_TASK_MIN);
        // Ranges begin with a block, so that no block is in two.
        let share = share.next_multiple_of(256);
        let starts = (0..until).step_by(usize::try_from(share).unwrap_or(usize::MAX));
        let mut tasks = Vec::new();
        for from in starts {
            let read = read_chunks(
                Arc::clone(engine),
                mailbox,
                from,
                until.min(from + share),
                Arc::clone(&blocks),
            );
            tasks.push(tokio::spawn(read));
        }
        let mut chunks = Vec::new();
        for task in tasks {
            let read = task.await.map_err(|error| {
                StoreError::Failed(CommitFailure::Unavailable(error.to_string()))
            })?;
            chunks.extend(read?);
        }
        let marks = Marks::new(chunks);
        let uids = marks.uids();
        Ok(Self::with_uids(mailbox, state, marks, uids))
    }

    /// The snapshot of `state`, made from this older one.
    pub(crate) async fn advance(
        &self,
        engine: &Arc<dyn Engine>,
        state: &MailboxState,
    ) -> Result<Self, StoreError> {
        let blocks = changed_blocks(engine.as_ref(), self.mailbox, self.modseq).await?;
        let blocks = Arc::new(blocks);
        let fresh = match self.uid_next == state.uid_next {
            true => Vec::new(),
            false => {
                let (from, until) = (u64::from(self.uid_next), end(state.uid_next));
                let engine = Arc::clone(engine);
                read_chunks(engine, self.mailbox, from, until, Arc::clone(&blocks)).await?
            }
        };
        let new: Vec<Uid> = fresh.iter().flat_map(Chunk::uids).collect();
        let marks = self.marks.advanced(&blocks, fresh);
        let uids = match marks.len() == self.uids.len() + new.len() {
            // Nothing is gone: sessions go on sharing the list that they have.
            true if new.is_empty() => Arc::clone(&self.uids),
            true => [&*self.uids, &new].concat().into(),
            false => marks.uids(),
        };
        Ok(Self::with_uids(self.mailbox, state, marks, uids))
    }
}

/// The UID after the last there may be. A `uid_next` of zero means that the last one has been used.
fn end(uid_next: u32) -> u64 {
    match uid_next {
        0 => 1 << 32,
        next => u64::from(next),
    }
}

async fn all_blocks(engine: &dyn Engine, mailbox: MailboxId) -> Result<Blocks, StoreError> {
    let mut blocks = Blocks::new();
    let mut range = KeyRange::prefix(&mailbox.to_be_bytes());
    loop {
        let page = engine
            .scan(Space::Mark, range.clone(), Order::Ascending, PAGE)
            .await?;
        for (key, row) in &page {
            if let Some((_, number)) = parse_block_key(key) {
                blocks.insert(number, Block::decode(row)?);
            }
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => range = range.beyond(last, Order::Ascending),
            _ => return Ok(blocks),
        }
    }
}

/// The blocks that changed after `since`. Each stands once in the change index, and moves upwards only: none is missed
/// that moves while this reads.
async fn changed_blocks(
    engine: &dyn Engine,
    mailbox: MailboxId,
    since: ModSeq,
) -> Result<Blocks, StoreError> {
    let mut numbers = Vec::new();
    let mut range = change_range(mailbox, since);
    loop {
        let page = engine
            .scan(Space::Change, range.clone(), Order::Ascending, PAGE)
            .await?;
        let rows = page.iter().filter_map(|(key, _)| parse_change_key(key));
        numbers.extend(rows.map(|(_, _, number)| number));
        match page.last() {
            Some((last, _)) if page.len() == PAGE => range = range.beyond(last, Order::Ascending),
            _ => break,
        }
    }
    read_blocks(engine, mailbox, numbers).await
}

/// The blocks of these numbers that there are.
pub(crate) async fn read_blocks(
    engine: &dyn Engine,
    mailbox: MailboxId,
    numbers: impl IntoIterator<Item = u32>,
) -> Result<Blocks, StoreError> {
    let numbers: Vec<u32> = numbers.into_iter().collect();
    if numbers.is_empty() {
        return Ok(Blocks::new());
    }
    let keys: Vec<_> = numbers
        .iter()
        .map(|number| block_key(mailbox, *number))
        .collect();
    let rows = engine.get_many(&keys).await?;
    let rows = numbers.into_iter().zip(rows);
    rows.filter_map(|(number, row)| Some((number, row?)))
        .map(|(number, row)| Ok((number, Block::decode(&row)?)))
        .collect()
}

/// The messages with UIDs from `from` up to, not including, `until`.
async fn read_chunks(
    engine: Arc<dyn Engine>,
    mailbox: MailboxId,
    from: u64,
    until: u64,
    blocks: Arc<Blocks>,
) -> Result<Vec<Chunk>, StoreError> {
    let key = |uid: u64| message_range(mailbox, u32::try_from(uid).unwrap_or(u32::MAX));
    let mut range = key(from);
    if until <= u64::from(u32::MAX) {
        range.to = Some(key(until).from);
    }
    let mut chunks = Vec::new();
    let mut builder = ChunkBuilder::new(0);
    loop {
        let page = engine
            .scan(Space::Message, range.clone(), Order::Ascending, PAGE)
            .await?;
        for (key, row) in &page {
            let Some((_, uid)) = parse_message_key(key) else {
                continue;
            };
            let number = block_of(uid);
            if number != builder.number() {
                let full = std::mem::replace(&mut builder, ChunkBuilder::new(number));
                chunks.extend(full.finish());
            }
            builder.add(uid, &Base::decode(row)?, blocks.get(&number));
        }
        match page.last() {
            Some((last, _)) if page.len() == PAGE => range = range.beyond(last, Order::Ascending),
            _ => break,
        }
    }
    chunks.extend(builder.finish());
    Ok(chunks)
}
