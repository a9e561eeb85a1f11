//! What operators and customers ask of the queue: changes of many messages, and what waits where.

use std::collections::HashSet;

use nightmail_commit::{Abort, Intent, Tx};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{KeyRange, Order, RowKey, Space};

use crate::destination::Destination;
use crate::error::QueueError;
use crate::index::{Kind, read_outbound, split_due_key};
use crate::queue::{PAGE_ROWS, Queue};
use crate::record::{QueueMessage, Recipient};
use crate::row::message_key;
use crate::tx::{self, Alteration};

/// Messages changed in one commit.
const BATCH: usize = 128;

/// What waits for one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DestinationStats {
    /// Which.
    pub destination: Destination,
    /// Messages that have not been tried.
    pub pending: u64,
    /// Messages that wait for a later time.
    pub deferred: u64,
    /// The least id, which is the message that was accepted first.
    pub oldest: QueueId,
    /// The earliest next attempt.
    pub next_due: Timestamp,
}

impl Queue {
    /// Changes the pending recipients of a message that `whom` picks; see [`tx::alter`]. Returns how many were changed:
    /// none, where the message is not in the queue.
    pub async fn alter(
        &self,
        id: QueueId,
        alteration: Alteration,
        whom: impl Fn(&QueueMessage, &Recipient) -> bool + Send + Clone + 'static,
    ) -> Result<u64, QueueError> {
        let whom = move |_: QueueId, message: &QueueMessage, recipient: &Recipient| {
            whom(message, recipient)
        };
        Ok(self
            .alter_many(vec![id], alteration, whom)
            .await?
            .recipients)
    }

    /// Does so with many messages, some in each commit. A crash right after may undo what makes mail due sooner; mail
    /// that is held or dropped stays so.
    pub async fn alter_many(
        &self,
        ids: Vec<QueueId>,
        alteration: Alteration,
        whom: impl Fn(QueueId, &QueueMessage, &Recipient) -> bool + Send + Clone + 'static,
    ) -> Result<Altered, QueueError> {
        let mut altered = Altered::default();
        for ids in ids.chunks(BATCH) {
            let reads: Vec<RowKey> = ids.iter().map(|id| message_key(*id)).collect();
            let (ids, alteration_of, whom) = (ids.to_vec(), alteration.clone(), whom.clone());
            let apply = move |tx: &mut Tx<'_>| {
                let mut altered = Altered::default();
                for id in &ids {
                    let whom = |message: &QueueMessage, recipient: &Recipient| {
                        whom(*id, message, recipient)
                    };
                    match tx::alter::<QueueError>(tx, *id, &alteration_of, whom) {
                        Ok(changed) => altered.add(changed),
                        Err(Abort::Refused(QueueError::NoSuchMessage)) => {}
                        Err(abort) => return Err(abort),
                    }
                }
                Ok(altered)
            };
            let intent = match alteration {
                Alteration::Retry | Alteration::Release => Intent::soon(apply),
                Alteration::Hold(_) | Alteration::Reroute(_) | Alteration::Drop => {
                    Intent::synced(apply)
                }
            };
            let done: Result<Altered, QueueError> =
                Ok(self.committer().submit(intent.reading(reads)).await?);
            let done = done?;
            altered.messages += done.messages;
            altered.recipients += done.recipients;
        }
        Ok(altered)
    }

    /// Makes a message due now, and lets it go where it is held back. A crash right after may undo it.
    ///
    /// Fails with [`QueueError::NoSuchMessage`] when it is not in the queue.
    pub async fn retry(&self, id: QueueId) -> Result<(), QueueError> {
        match self.alter(id, Alteration::Retry, |_, _| true).await? {
            0 if self.show(id).await?.is_none() => Err(QueueError::NoSuchMessage),
            _ => Ok(()),
        }
    }

    /// Makes every message due now but those that are held back or held, and returns how many were not.
    pub async fn retry_all(&self) -> Result<u64, QueueError> {
        let now = nightmail_commit::now();
        let mut range = KeyRange {
            from: crate::index::due_start(now.plus_millis(1)),
            to: None,
        };
        let mut moved = 0;
        // What is moved may come to lie ahead again.
        let mut seen = HashSet::new();
        loop {
            let rows = self.page(Space::Due, &range).await?;
            let ids = rows.iter().map(|(key, _)| Ok(split_due_key(key)?.1));
            let mut ids = ids.collect::<Result<Vec<_>, QueueError>>()?;
            ids.retain(|id| seen.insert(*id));
            let routed = |_, message: &QueueMessage, _: &Recipient| message.unrouted.is_none();
            moved += self
                .alter_many(ids, Alteration::Retry, routed)
                .await?
                .messages;
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => return Ok(moved),
            }
        }
    }

    /// The messages that wait for a destination and are not held, after `after` in the index: at most `limit` of them,
    /// and where to go on.
    pub async fn list_destination(
        &self,
        destination: &Destination,
        after: Option<Vec<u8>>,
        limit: usize,
    ) -> Result<(Vec<QueueId>, Option<Vec<u8>>), QueueError> {
        let range = KeyRange::prefix(&destination.key());
        let range = match after {
            Some(after) => range.beyond(&after, Order::Ascending),
            None => range,
        };
        let engine = self.committer().engine();
        let rows = engine
            .scan(Space::Outbound, range, Order::Ascending, limit)
            .await?;
        let ids = rows
            .iter()
            .map(|(key, value)| Ok(read_outbound(key, value)?.1.id));
        let ids = ids.collect::<Result<Vec<_>, QueueError>>()?;
        let next = rows.last().filter(|_| rows.len() == limit);
        Ok((ids, next.map(|(key, _)| key.clone())))
    }

    /// What waits for each destination after `after`: at most `limit` of them. Reads the index of all of these.
    pub async fn destinations(
        &self,
        after: Option<&Destination>,
        limit: usize,
    ) -> Result<Vec<DestinationStats>, QueueError> {
        let mut range = KeyRange::all();
        if let Some(after) = after {
            range.from = KeyRange::prefix(&after.key()).to.unwrap_or_default();
        }
        let mut found: Vec<DestinationStats> = Vec::new();
        loop {
            let rows = self.page(Space::Outbound, &range).await?;
            for (key, value) in &rows {
                let (destination, entry) = read_outbound(key, value)?;
                let is_full = found.len() == limit;
                match found.last_mut() {
                    Some(stats) if stats.destination == destination => {
                        stats.add(entry.kind, entry.id, entry.due)
                    }
                    _ if is_full => return Ok(found),
                    _ => {
                        let mut stats = DestinationStats {
                            destination,
                            pending: 0,
                            deferred: 0,
                            oldest: entry.id,
                            next_due: entry.due,
                        };
                        stats.add(entry.kind, entry.id, entry.due);
                        found.push(stats);
                    }
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => return Ok(found),
            }
        }
    }
}

/// What was changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Altered {
    /// Messages with a recipient that was changed.
    pub messages: u64,
    /// Those recipients.
    pub recipients: u64,
}

impl Altered {
    fn add(&mut self, recipients: u64) {
        self.messages += u64::from(recipients > 0);
        self.recipients += recipients;
    }
}

impl DestinationStats {
    fn add(&mut self, kind: Kind, id: QueueId, due: Timestamp) {
        match kind {
            Kind::Pending => self.pending += 1,
            Kind::Deferred => self.deferred += 1,
        }
        self.oldest = self.oldest.min(id);
        self.next_due = self.next_due.min(due);
    }
}
