//! Reading the queue, changing it for an operator, and handing out work.

use nightmail_cluster::{LeaseGuard, Leases};
use nightmail_commit::{Committer, Intent, Subscription, Topic, Tx};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Key, KeyRange, Order, RowKey, Space, Value};

use crate::claim::{Claim, Claims};
use crate::due::{due_priority, parse_due_key};
use crate::error::QueueError;
use crate::ids::QueueIds;
use crate::record::QueueMessage;
use crate::row::{message_key, parse_message_key};
use crate::tx::{self, RecipientOutcome, Recorded, Verdict};

/// Rows read from an index at once.
pub(crate) const PAGE_ROWS: usize = 512;

/// What is in the queue.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct QueueStats {
    /// Messages with a pending recipient.
    pub messages: u64,
    /// Those that are due.
    pub due: u64,
    /// The earliest next attempt.
    pub earliest_due: Option<Timestamp>,
}

/// Work found by [`Queue::claim_due`].
pub struct Work {
    /// Messages that are due, each claimed for the caller.
    pub claims: Vec<Claim>,
    /// Whether the limit was reached: more may be due.
    pub more: bool,
    /// When to look again, if nothing changes before; `None`: only when something changes.
    pub look_again: Option<Timestamp>,
}

/// The outbound queue of a store. One per node: the claims are its own, and of several nodes each hands out the
/// messages of the shards whose leases it holds. Everything else works on every message from every node.
pub struct Queue {
    committer: Committer,
    ids: QueueIds,
    claims: Claims,
}

impl Queue {
    /// The queue of the store behind `committer`, on a single machine.
    pub fn new(committer: Committer) -> Self {
        Self::in_cluster(committer, Leases::everything())
    }

    /// The queue of the store behind `committer`, for one of several nodes: it hands out work under `leases`.
    pub fn in_cluster(committer: Committer, leases: Leases) -> Self {
        Self {
            ids: QueueIds::new(committer.clone()),
            claims: Claims::new(leases),
            committer,
        }
    }

    /// The leases under which work is handed out. When their set changes, look at once.
    pub const fn leases(&self) -> &Leases {
        self.claims.leases()
    }

    /// The committer, for intents that change the queue together with other things.
    pub const fn committer(&self) -> &Committer {
        &self.committer
    }

    /// An id for a message to be queued.
    pub async fn next_id(&self) -> Result<QueueId, QueueError> {
        self.ids.next().await
    }

    /// Listens for changes of the queue.
    pub fn subscribe(&self) -> Subscription {
        self.committer.events().subscribe(Topic::Queue)
    }

    /// Takes note that something changed, so that what it brings is found even if it appears late.
    pub fn note_change(&self, now: Timestamp) {
        self.claims.note_change(now);
    }

    /// Claims at most `limit` messages that are due at `now`, of the shards held now: the longest due first, but where
    /// not all fit, those of the highest priority among the next [`PAGE_ROWS`].
    ///
    /// A claimed message may have changed since its row was read: read it, and leave alone what is not due.
    pub async fn claim_due(&self, now: Timestamp, limit: usize) -> Result<Work, QueueError> {
        let mut work = Work {
            claims: Vec::new(),
            more: limit == 0,
            look_again: None,
        };
        let mut range = KeyRange {
            from: self.claims.scan_from(now),
            to: None,
        };
        while !work.more {
            let rows = self.page(Space::Due, &range).await?;
            let Some((last, _)) = rows.last() else { break };
            range = range.beyond(last, Order::Ascending);
            let floor = self.claim_rows(&rows, now, limit, &mut work);
            let at_end = rows.len() < PAGE_ROWS || floor.is_some();
            self.claims
                .raise_floor(floor.unwrap_or_else(|| range.from.clone()));
            if at_end {
                break;
            }
        }
        work.look_again = work
            .look_again
            .into_iter()
            .chain(self.claims.next_look())
            .min();
        Ok(work)
    }

    /// Claims what is due among `rows`. Returns the key to go on from, when that is not behind the last row.
    fn claim_rows(
        &self,
        rows: &[(Key, Value)],
        now: Timestamp,
        limit: usize,
        work: &mut Work,
    ) -> Option<Key> {
        let mut due = Vec::with_capacity(rows.len());
        let mut left: Option<&Key> = None;
        for (key, value) in rows {
            let Ok((at, id)) = parse_due_key(key) else {
                tracing::error!(?key, "a row of the due index is damaged and is passed over");
                continue;
            };
            if at > now {
                work.look_again = Some(at);
                left = Some(key);
                break;
            }
            due.push((due_priority(value), key, at, id));
        }
        if work.claims.len() + due.len() > limit {
            // The sort is stable: the longest due stay first among equals.
            due.sort_by_key(|(priority, ..)| std::cmp::Reverse(*priority));
        }
        for (_, key, at, id) in due {
            if work.claims.len() < limit {
                work.claims.extend(self.claims.claim(id, at));
            } else {
                work.more = true;
                left = Some(left.map_or(key, |left| left.min(key)));
            }
        }
        left.cloned()
    }

    /// Messages that are being worked on, on this node.
    pub fn claimed(&self) -> usize {
        self.claims.len()
    }

    /// Whether a message is being worked on, on this node.
    pub fn is_claimed(&self, id: QueueId) -> bool {
        self.claims.holds(id)
    }

    /// Claims one message, due or not; `None` while somebody works on it, or when its shard is not held.
    pub fn claim(&self, id: QueueId) -> Option<Claim> {
        self.claims.claim(id, Timestamp::default())
    }

    /// The ids that are due at `now`, claimed or not, the longest due first.
    pub async fn next_due(
        &self,
        now: Timestamp,
        limit: usize,
    ) -> Result<Vec<(Timestamp, QueueId)>, QueueError> {
        let mut found = Vec::new();
        let mut range = KeyRange::all();
        loop {
            let rows = self.page(Space::Due, &range).await?;
            for (key, _) in &rows {
                let entry = parse_due_key(key)?;
                if entry.0 > now || found.len() >= limit {
                    return Ok(found);
                }
                found.push(entry);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending)
                }
                _ => return Ok(found),
            }
        }
    }

    /// Messages in the order of their acceptance, after `after`; at most `limit`.
    pub async fn list(
        &self,
        after: Option<QueueId>,
        limit: usize,
    ) -> Result<Vec<(QueueId, QueueMessage)>, QueueError> {
        let range = match after {
            Some(id) => KeyRange::all().beyond(&id.to_be_bytes(), Order::Ascending),
            None => KeyRange::all(),
        };
        let rows = self
            .committer
            .engine()
            .scan(Space::Queue, range, Order::Ascending, limit)
            .await?;
        rows.iter()
            .map(|(key, row)| Ok((parse_message_key(key)?, QueueMessage::decode(row)?)))
            .collect()
    }

    /// One message; `None` when it is not in the queue.
    pub async fn show(&self, id: QueueId) -> Result<Option<QueueMessage>, QueueError> {
        let row = self
            .committer
            .engine()
            .get_many(&[message_key(id)])
            .await?
            .pop()
            .flatten();
        Ok(row.map(|row| QueueMessage::decode(&row)).transpose()?)
    }

    /// Records what an attempt decided, under the guard of the claim's lease; see [`tx::record_attempt`].
    pub async fn record_attempt(
        &self,
        id: QueueId,
        guard: &LeaseGuard,
        outcomes: Vec<RecipientOutcome>,
    ) -> Result<Recorded, QueueError> {
        // To lose a deferral in a crash is to try once more; a retirement must not be lost.
        let deferred_only = outcomes
            .iter()
            .all(|outcome| matches!(outcome.verdict, Verdict::Deferred { .. }));
        let reads: Vec<RowKey> = [message_key(id)]
            .into_iter()
            .chain(guard.row().cloned())
            .collect();
        let guard = guard.clone();
        let apply =
            move |tx: &mut Tx<'_>| tx::record_attempt::<QueueError>(tx, id, &guard, &outcomes);
        let intent = if deferred_only {
            Intent::soon(apply)
        } else {
            Intent::synced(apply)
        };
        Ok(self.committer.submit(intent.reading(reads)).await?)
    }

    /// Makes a message due now, and lets it go where it is held back. A crash right after may undo it.
    pub async fn retry(&self, id: QueueId) -> Result<(), QueueError> {
        let intent = Intent::soon(move |tx| {
            let now = tx.now();
            tx::reschedule::<QueueError>(tx, id, now)
        });
        Ok(self
            .committer
            .submit(intent.reading([message_key(id)]))
            .await?)
    }

    /// Makes every message due now but those that are held back, and returns how many were not.
    pub async fn retry_all(&self) -> Result<u64, QueueError> {
        let now = nightmail_commit::now();
        let mut moved = 0;
        let mut range = KeyRange {
            from: crate::due::due_start(now.plus_millis(1)),
            to: None,
        };
        loop {
            let rows = self.page(Space::Due, &range).await?;
            for (key, _) in &rows {
                let (_, id) = parse_due_key(key)?;
                let message = self.show(id).await?;
                if message.is_none_or(|message| message.unrouted.is_some()) {
                    continue;
                }
                match self.retry(id).await {
                    Ok(()) => moved += 1,
                    Err(QueueError::NoSuchMessage) => {}
                    Err(error) => return Err(error),
                }
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending)
                }
                _ => return Ok(moved),
            }
        }
    }

    /// Takes a message out of the queue and returns it. Nobody is told; an attempt that runs ends unrecorded.
    pub async fn remove(&self, id: QueueId) -> Result<QueueMessage, QueueError> {
        let intent = Intent::synced(move |tx| tx::remove::<QueueError>(tx, id));
        Ok(self
            .committer
            .submit(intent.reading([message_key(id)]))
            .await?)
    }

    /// Counts the queue; reads the whole due index.
    pub async fn stats(&self, now: Timestamp) -> Result<QueueStats, QueueError> {
        let mut stats = QueueStats::default();
        let mut range = KeyRange::all();
        loop {
            let rows = self.page(Space::Due, &range).await?;
            for (key, _) in &rows {
                let (at, _) = parse_due_key(key)?;
                stats.messages += 1;
                stats.due += u64::from(at <= now);
                stats.earliest_due.get_or_insert(at);
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending)
                }
                _ => return Ok(stats),
            }
        }
    }

    pub(crate) async fn page(
        &self,
        space: Space,
        range: &KeyRange,
    ) -> Result<Vec<(Key, Value)>, QueueError> {
        Ok(self
            .committer
            .engine()
            .scan(space, range.clone(), Order::Ascending, PAGE_ROWS)
            .await?)
    }
}
