//! Reading the queue, changing it for an operator, and handing out work.

use std::collections::HashSet;

use nightmail_cluster::{LeaseGuard, Leases};
use nightmail_commit::{Abort, Committer, Intent, Subscription, Topic, Tx};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Key, KeyRange, Order, RowKey, Space, Value};

use crate::destination::Destination;
use crate::error::QueueError;
use crate::feed::{Feed, Ticket, WindowLimits};
use crate::ids::QueueIds;
use crate::index::{Kind, Place, due_start, entries, read_due, read_outbound, split_due_key};
use crate::rank::{Rank, Weights};
use crate::record::QueueMessage;
use crate::row::{message_key, parse_message_key};
use crate::tx::{self, Enqueued, RecipientOutcome, Recorded, Verdict};

/// Rows read from an index at once.
pub(crate) const PAGE_ROWS: usize = 512;
/// Pages read by one look. More are another look's.
const LOOK_PAGES_MAX: usize = 16;

/// How long a look is put off where memory is full of destinations.
const CROWDED_MILLIS: i64 = 500;

/// What a look has found.
#[derive(Debug, Default)]
pub struct Look {
    /// Destinations that have got work.
    pub ready: Vec<Destination>,
    /// Whether there is more to look at: look again at once.
    pub more: bool,
    /// When to look again, if nothing changes before; `None`: only when something changes.
    pub look_again: Option<Timestamp>,
}

/// What an attempt decided for some recipients of a message.
pub struct Attempted {
    /// The message.
    pub id: QueueId,
    /// What it was worked on under.
    pub guard: LeaseGuard,
    /// What was decided.
    pub outcomes: Vec<RecipientOutcome>,
}

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

/// The outbound queue of a store. One per node: what is in hand is its own, and of several nodes each hands out the
/// messages of the shards whose leases it holds. Everything else works on every message from every node.
pub struct Queue {
    committer: Committer,
    ids: QueueIds,
    feed: Feed,
    weights: Weights,
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
            feed: Feed::new(leases),
            weights: Weights::default(),
            committer,
        }
    }

    /// The queue, with other coefficients for what is queued from now on.
    #[must_use]
    pub fn with_weights(self, weights: Weights) -> Self {
        Self { weights, ..self }
    }

    /// The queue, with other bounds for what is kept in memory.
    #[must_use]
    pub fn with_windows(self, limits: WindowLimits) -> Self {
        self.feed.limit(limits);
        self
    }

    /// The coefficients of the weight.
    pub const fn weights(&self) -> &Weights {
        &self.weights
    }

    /// The leases under which work is handed out. When their set changes, look at once.
    pub const fn leases(&self) -> &Leases {
        self.feed.leases()
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
        self.feed.note_change(now);
    }

    /// Looks at what has become due, and takes it into memory as far as there is room. What another node is to send is
    /// passed over.
    pub async fn look(&self, now: Timestamp) -> Result<Look, QueueError> {
        if self.feed.is_crowded() {
            return Ok(Look {
                look_again: Some(now.plus_millis(CROWDED_MILLIS)),
                ..Look::default()
            });
        }
        let from = self.feed.look_from(now);
        let look = self.look_on(from.clone(), now).await;
        if look.is_err() {
            // What has been found so far is not made known: the next look finds it again.
            self.feed.raise_floor(from);
        }
        look
    }

    async fn look_on(&self, from: Key, now: Timestamp) -> Result<Look, QueueError> {
        let mut ready: HashSet<Destination> = HashSet::new();
        let end = due_start(now.plus_millis(1));
        let to = Some(end.clone());
        let mut range = KeyRange { from, to };
        let mut more = true;
        for _ in 0..LOOK_PAGES_MAX {
            let rows = self.page(Space::Due, &range).await?;
            self.take_in(&rows, &mut ready);
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                    self.feed.raise_floor(range.from.clone());
                }
                _ => {
                    self.feed.raise_floor(end.clone());
                    more = false;
                    break;
                }
            }
        }
        let upcoming = match more {
            true => Some(now),
            false => self.first_due(end).await?,
        };
        Ok(Look {
            ready: ready.into_iter().collect(),
            more,
            look_again: upcoming.into_iter().chain(self.feed.next_look()).min(),
        })
    }

    /// Takes in rows that are due.
    fn take_in(&self, rows: &[(Key, Value)], ready: &mut HashSet<Destination>) {
        for (key, value) in rows {
            match read_due(key, value) {
                Ok((destination, entry)) => {
                    if self.feed.put(&destination, entry) && !ready.contains(&destination) {
                        ready.insert(destination);
                    }
                }
                Err(error) => {
                    tracing::error!(?key, %error, "a row of the queue's index is damaged and is passed over");
                }
            }
        }
    }

    /// The time of the first row from `key` on.
    async fn first_due(&self, key: Key) -> Result<Option<Timestamp>, QueueError> {
        let range = KeyRange {
            from: key,
            to: None,
        };
        let engine = self.committer.engine();
        let rows = engine.scan(Space::Due, range, Order::Ascending, 1).await?;
        Ok(rows
            .first()
            .and_then(|(key, _)| split_due_key(key).ok())
            .map(|(at, ..)| at))
    }

    /// Makes known what an intent has queued, once it is committed, so that it is sent without a look.
    pub fn announce(&self, enqueued: &Enqueued) {
        self.feed.announce(&enqueued.0, nightmail_commit::now());
    }

    /// Returns when destinations have got work without a look: [`Queue::drain_announced`].
    pub async fn announced(&self) {
        self.feed.announced().await;
    }

    /// The destinations that have got work without a look since the last call.
    pub fn drain_announced(&self) -> Vec<Destination> {
        self.feed.drain_announced()
    }

    /// The rank of the next message for a destination, as far as it is in memory.
    pub fn best(&self, destination: &Destination) -> Option<Rank> {
        self.feed.best(destination)
    }

    /// Whether a destination has work that is due and that nobody has taken, in memory or in the store.
    pub fn has_more(&self, destination: &Destination) -> bool {
        self.feed.has_more(destination, true, true)
    }

    /// The same for the kinds asked for alone.
    pub fn has_more_of(&self, destination: &Destination, pending: bool, deferred: bool) -> bool {
        self.feed.has_more(destination, pending, deferred)
    }

    /// Takes at most `limit` messages that are due for a destination, the best first, of the kinds asked for.
    ///
    /// A message may have changed since its row was read: read it, and leave alone what is not due.
    pub async fn take(
        &self,
        destination: &Destination,
        now: Timestamp,
        limit: usize,
        pending: bool,
        deferred: bool,
    ) -> Result<Vec<Ticket>, QueueError> {
        let mut wanted = Wanted {
            feed: &self.feed,
            destination,
            places: self.feed.wants(destination, limit, pending, deferred),
        };
        while let Some((kind, from)) = wanted.places.last().copied() {
            self.refill(destination, now, kind, from).await?;
            wanted.places.pop();
        }
        Ok(self.feed.take(destination, limit, pending, deferred))
    }

    /// Fills the window of a destination from the index, from that place on.
    async fn refill(
        &self,
        destination: &Destination,
        now: Timestamp,
        kind: Kind,
        from: Place,
    ) -> Result<(), QueueError> {
        let name = destination.key();
        let mut of_kind = name.clone();
        of_kind.push(kind.number());
        let mut range = KeyRange {
            from: from.key(name, kind),
            ..KeyRange::prefix(&of_kind)
        };
        loop {
            let rows = self.page(Space::Outbound, &range).await?;
            let mut found = Vec::with_capacity(rows.len());
            for (key, value) in &rows {
                let entry = match read_outbound(key, value) {
                    Ok((_, entry)) => entry,
                    Err(error) => {
                        tracing::error!(?key, %error, "a row of the queue's index is damaged and is passed over");
                        continue;
                    }
                };
                // What is deferred is ordered by time: from here on nothing is due.
                if kind == Kind::Deferred && entry.due > now {
                    self.feed.refill(destination, &found);
                    return Ok(());
                }
                found.push(entry);
            }
            let has_room = self.feed.refill(destination, &found);
            let Some((last, _)) = rows.last().filter(|_| rows.len() == PAGE_ROWS) else {
                return Ok(());
            };
            if let Some(entry) = found.last().filter(|_| !has_room) {
                self.feed.leave_out(destination, kind, entry.order().next());
                return Ok(());
            }
            range = range.beyond(last, Order::Ascending);
        }
    }

    /// Takes another destination of a message that is being worked on, so that it goes along; `None` where it is not
    /// due, somebody works on it, or the message is another node's.
    pub fn take_also(
        &self,
        id: QueueId,
        message: &QueueMessage,
        destination: &Destination,
        now: Timestamp,
    ) -> Option<Ticket> {
        let entry = entries(id, message).remove(destination)?;
        if entry.due > now {
            return None;
        }
        self.feed.take_one(destination, entry)
    }

    /// When a destination of a message is due; `None` when nothing is pending for it.
    pub fn due_for(
        id: QueueId,
        message: &QueueMessage,
        destination: &Destination,
    ) -> Option<Timestamp> {
        entries(id, message).get(destination).map(|entry| entry.due)
    }

    /// Messages by their ids; `None` for those that are not in the queue, or whose row is damaged.
    pub async fn load(&self, ids: &[QueueId]) -> Result<Vec<Option<QueueMessage>>, QueueError> {
        let keys: Vec<RowKey> = ids.iter().map(|id| message_key(*id)).collect();
        let rows = self.committer.engine().get_many(&keys).await?;
        let read = |(id, row): (&QueueId, Option<Value>)| {
            let message = QueueMessage::decode(&row?);
            message
                .inspect_err(|error| {
                    tracing::error!(queue_id = %id, %error, "a queued message's row is damaged and is passed over");
                })
                .ok()
        };
        Ok(ids.iter().zip(rows).map(read).collect())
    }

    /// Messages that are being worked on, on this node, counted once for each destination.
    pub fn in_hand(&self) -> usize {
        self.feed.in_hand()
    }

    /// Whether a message is being worked on for that destination, on this node.
    pub fn is_in_hand_for(&self, id: QueueId, destination: &Destination) -> bool {
        self.feed.holds_for(id, destination)
    }

    /// Whether a message is being worked on, on this node.
    pub fn is_in_hand(&self, id: QueueId) -> bool {
        self.feed.holds(id)
    }

    /// Entries of the queue that are in memory, and destinations that have any.
    pub fn in_memory(&self) -> (usize, usize) {
        self.feed.size()
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

    /// Records what an attempt decided, under the guard of the lease it was made under; see [`tx::record_attempt`].
    pub async fn record_attempt(
        &self,
        id: QueueId,
        guard: &LeaseGuard,
        outcomes: Vec<RecipientOutcome>,
    ) -> Result<Recorded, QueueError> {
        let guard = guard.clone();
        let attempted = vec![Attempted {
            id,
            guard,
            outcomes,
        }];
        let mut recorded = self.record_many(attempted).await?;
        recorded.pop().unwrap_or(Err(QueueError::NoSuchMessage))
    }

    /// Records what attempts decided, all in one commit, each under the guard of the lease it was made under. One that
    /// cannot be recorded does not keep the others from it; see [`tx::record_attempt`].
    pub async fn record_many(
        &self,
        attempted: Vec<Attempted>,
    ) -> Result<Vec<Result<Recorded, QueueError>>, QueueError> {
        // To lose a deferral in a crash is to try once more; a retirement must not be lost.
        let outcomes = attempted.iter().flat_map(|attempted| &attempted.outcomes);
        let is_deferral = |verdict: &Verdict| matches!(verdict, Verdict::Deferred { .. });
        let deferred_only = outcomes.map(|outcome| &outcome.verdict).all(is_deferral);
        let guards = attempted
            .iter()
            .filter_map(|attempted| attempted.guard.row());
        let messages = attempted.iter().map(|attempted| message_key(attempted.id));
        let reads: Vec<RowKey> = guards.cloned().chain(messages).collect();
        let apply = move |tx: &mut Tx<'_>| {
            let record = |attempted: &Attempted, tx: &mut Tx<'_>| {
                let Attempted {
                    id,
                    guard,
                    outcomes,
                } = attempted;
                match tx::record_attempt::<QueueError>(tx, *id, guard, outcomes) {
                    Ok(recorded) => Ok(Ok(recorded)),
                    Err(Abort::Refused(refused)) => Ok(Err(refused)),
                    Err(Abort::Need(need)) => Err(Abort::Need(need)),
                }
            };
            attempted
                .iter()
                .map(|attempted| record(attempted, tx))
                .collect::<Result<Vec<_>, Abort<QueueError>>>()
        };
        let intent = if deferred_only {
            Intent::soon(apply)
        } else {
            Intent::synced(apply)
        };
        Ok(self.committer.submit(intent.reading(reads)).await?)
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
                let (at, _) = split_due_key(key).map(|(at, id, _)| (at, id))?;
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

/// Places from which a window is to be refilled. Those that are not are kept in mind.
struct Wanted<'a> {
    feed: &'a Feed,
    destination: &'a Destination,
    places: Vec<(Kind, Place)>,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        for (kind, from) in self.places.drain(..) {
            self.feed.leave_out(self.destination, kind, from);
        }
    }
}
