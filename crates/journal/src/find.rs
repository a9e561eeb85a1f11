//! Finding events, and the rest of the life of the messages that they are about.

use std::collections::{BTreeMap, HashMap, HashSet};

use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Engine, Key, KeyRange, Order, Space, Value};
use tracing::error;

use crate::block::{Plain, stored_filter};
use crate::error::{BlockError, JournalError};
use crate::event::Event;
use crate::filter::may_hold;
use crate::journal::Journal;
use crate::key::{BlockId, filters};
use crate::merge::WINDOW_MILLIS;
use crate::term::{asked, each_term, hash};

/// Filters read at once.
const PAGE: usize = 512;
/// Blocks read at once.
const BLOCKS_AT_ONCE: usize = 16;
/// Messages are followed from event to event so many times: from a recipient to the queue, from there to the
/// Message-ID, and on to the copies in mailboxes.
const ROUNDS: usize = 3;
/// Message-IDs and queue ids followed.
const FOLLOWED_MAX: usize = 256;
/// Events that following adds.
const FOLLOWED_EVENTS_MAX: usize = 10_000;
/// How far before and after what was found the rest of a message's life is looked for: longer than any queue keeps mail.
const LIFE_MILLIS: i64 = 30 * 86_400_000;
/// A block is closed no later than this after its first event, unless the store was away for longer.
const CLOSED_WITHIN_MILLIS: i64 = 2 * WINDOW_MILLIS as i64;
/// Times a look is repeated because blocks were joined while it read.
const AGAIN_MAX: usize = 3;

/// What is asked.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Query {
    /// An address (sender or recipient), a domain written `@example.org`, a Message-ID with or without brackets, or a
    /// queue id. Case makes no difference.
    pub text: String,
    /// From then on.
    pub since: Option<Timestamp>,
    /// Before then.
    pub until: Option<Timestamp>,
    /// Events that fit, at most, the newest; the rest of their messages' lives comes with them.
    pub limit: usize,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The events, the oldest first.
    pub events: Vec<Event>,
    /// There are more that fit, or that belong to what was found.
    pub more: bool,
    /// What was read for it.
    pub reads: Reads,
}

/// Rows read.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Reads {
    /// Filters.
    pub filters: u64,
    /// Blocks.
    pub blocks: u64,
}

/// Where an event stands: its block, and its place there. This is the order of time, nearly.
type Place = (BlockId, usize);

struct Search<'a> {
    engine: &'a dyn Engine,
    events: BTreeMap<Place, Event>,
    reads: Reads,
    more: bool,
    /// A block was gone when it was to be read.
    missed: bool,
}

/// What a look through the log is for.
struct Look {
    terms: HashSet<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    /// Events to add at most.
    limit: usize,
}

impl Journal {
    /// Finds events, and whatever else is known of the messages that they are about. Sees everything that this node has
    /// noted before, and what other nodes have written.
    ///
    /// # Errors
    /// The store cannot be read. A damaged block is logged and passed over.
    pub async fn find(&self, query: &Query) -> Result<Found, JournalError> {
        let Some(inner) = &self.inner else {
            return Ok(Found::default());
        };
        if let Err(error) = self.flush().await {
            error!(%error, "what was noted last cannot be found");
        }
        let mut search = Search {
            engine: inner.committer.engine().as_ref(),
            events: BTreeMap::new(),
            reads: Reads::default(),
            more: false,
            missed: false,
        };
        let mut known = HashSet::from([asked(&query.text)]);
        let first = Look {
            terms: known.clone(),
            since: query.since,
            until: query.until,
            limit: query.limit,
        };
        search.look_well(&first).await?;
        for _ in 0..ROUNDS {
            let Some(next) = search.next_look(&mut known) else {
                break;
            };
            search.look_well(&next).await?;
        }
        Ok(Found {
            events: once(search.events),
            more: search.more,
            reads: search.reads,
        })
    }
}

impl Search<'_> {
    /// What to look for after what has been found; `None` when there is nothing new.
    fn next_look(&mut self, known: &mut HashSet<String>) -> Option<Look> {
        let mut terms = HashSet::new();
        for event in self.events.values().rev() {
            let queue_id = event.queue_id.map(|id| id.to_string());
            let message_id = event.message_id.as_deref().map(asked);
            for term in [queue_id, message_id].into_iter().flatten() {
                if term.is_empty() || known.contains(&term) {
                    continue;
                }
                if known.len() > FOLLOWED_MAX {
                    self.more = true;
                    break;
                }
                known.insert(term.clone());
                terms.insert(term);
            }
        }
        let times = || self.events.values().map(|event| event.at);
        let (first, last) = (times().min()?, times().max()?);
        let limit = FOLLOWED_EVENTS_MAX.saturating_sub(self.events.len());
        (!terms.is_empty() && limit > 0).then(|| Look {
            terms,
            since: Some(first.plus_millis(-LIFE_MILLIS)),
            until: Some(last.plus_millis(LIFE_MILLIS)),
            limit,
        })
    }

    /// Looks until no block was joined with others, or swept, under its hands.
    async fn look_well(&mut self, look: &Look) -> Result<(), JournalError> {
        for _ in 0..AGAIN_MAX {
            self.missed = false;
            self.look(look).await?;
            if !self.missed {
                break;
            }
        }
        Ok(())
    }

    /// Reads the filters, the newest first, and the blocks that may hold what is looked for.
    async fn look(&mut self, look: &Look) -> Result<(), JournalError> {
        let hashes: Vec<u64> = look.terms.iter().map(|term| hash(term)).collect();
        let closed_until = look
            .until
            .map(|until| until.plus_millis(CLOSED_WITHIN_MILLIS));
        let mut range = filters(look.since, closed_until);
        let mut left = look.limit;
        loop {
            let page = self.page(&range).await?;
            let Some((last, _)) = page.last() else {
                return Ok(());
            };
            range = range.beyond(last, Order::Descending);
            let is_last = page.len() < PAGE;
            let wanted: Vec<BlockId> = page
                .iter()
                .filter(|(_, filter)| fits(filter, &hashes))
                .filter_map(|(key, _)| BlockId::of_filter(key))
                .collect();
            for blocks in wanted.chunks(BLOCKS_AT_ONCE) {
                self.read_blocks(blocks, look, &mut left).await?;
                if left == 0 {
                    self.more = true;
                    return Ok(());
                }
            }
            if is_last {
                return Ok(());
            }
        }
    }

    async fn page(&mut self, range: &KeyRange) -> Result<Vec<(Key, Value)>, JournalError> {
        let range = range.clone();
        let scan = self
            .engine
            .scan(Space::Journal, range, Order::Descending, PAGE);
        let page = scan.await?;
        self.reads.filters += page.len() as u64;
        Ok(page)
    }

    async fn read_blocks(
        &mut self,
        blocks: &[BlockId],
        look: &Look,
        left: &mut usize,
    ) -> Result<(), JournalError> {
        let keys: Vec<_> = blocks.iter().map(|id| id.block()).collect();
        let values = self.engine.get_many(&keys).await?;
        for (id, value) in blocks.iter().zip(values) {
            let Some(value) = value else {
                self.missed = true;
                continue;
            };
            self.reads.blocks += 1;
            match hits(&value, look) {
                Ok(hits) => self.add(*id, hits, left),
                Err(error) => {
                    error!(block = ?id, %error, "a block of the log of events is damaged and is passed over");
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, id: BlockId, hits: Vec<(usize, Event)>, left: &mut usize) {
        for (place, event) in hits.into_iter().rev() {
            if *left == 0 {
                return;
            }
            if self.events.insert((id, place), event).is_none() {
                *left -= 1;
            }
        }
    }
}

/// The events, the oldest first. One that stands in two blocks was seen before and after these were joined.
fn once(events: BTreeMap<Place, Event>) -> Vec<Event> {
    let mut blocks = HashMap::new();
    let mut events: Vec<Event> = events
        .into_iter()
        .filter(|((block, _), event)| *blocks.entry(event.clone()).or_insert(*block) == *block)
        .map(|(_, event)| event)
        .collect();
    events.sort_by_key(|event| event.at);
    events
}

/// Whether any of the terms may be in the block of this filter. One that does not read says nothing.
fn fits(stored: &[u8], hashes: &[u64]) -> bool {
    match stored_filter(stored) {
        Ok(filter) => hashes.iter().any(|hash| may_hold(filter, *hash)),
        Err(_) => true,
    }
}

/// The events of a block that are looked for, with their places.
fn hits(stored: &[u8], look: &Look) -> Result<Vec<(usize, Event)>, BlockError> {
    let plain = Plain::unpack(stored)?;
    let mut events = plain.events()?;
    let mut hits = Vec::new();
    let mut room = String::new();
    let mut place = 0;
    while let Some(event) = events.next()? {
        let in_time = look.since.is_none_or(|since| event.at >= since)
            && look.until.is_none_or(|until| event.at < until);
        if in_time {
            let mut is_hit = false;
            each_term(&event, &mut room, |term| {
                is_hit |= look.terms.contains(term);
            });
            if is_hit {
                hits.push((place, event.to_event()));
            }
        }
        place += 1;
    }
    Ok(hits)
}

/// The events by message: those that share a queue id or a Message-ID belong together, those without either stand alone.
/// Messages and events keep their order.
pub fn by_message(events: Vec<Event>) -> Vec<Vec<Event>> {
    let mut groups = Groups::default();
    for event in &events {
        groups.add(event);
    }
    let mut numbers = HashMap::new();
    let mut messages: Vec<Vec<Event>> = Vec::new();
    for (index, event) in events.into_iter().enumerate() {
        let number = *numbers
            .entry(groups.root(index))
            .or_insert_with(|| messages.len());
        if number == messages.len() {
            messages.push(Vec::new());
        }
        if let Some(message) = messages.get_mut(number) {
            message.push(event);
        }
    }
    messages
}

/// Which events belong together: each points to an earlier one of its message, or to itself.
#[derive(Default)]
struct Groups {
    parents: Vec<usize>,
    queue_ids: HashMap<QueueId, usize>,
    message_ids: HashMap<String, usize>,
}

impl Groups {
    fn add(&mut self, event: &Event) {
        let index = self.parents.len();
        self.parents.push(index);
        if let Some(id) = event.queue_id {
            let first = *self.queue_ids.entry(id).or_insert(index);
            self.join(first, index);
        }
        if let Some(id) = event.message_id.as_deref().map(asked)
            && !id.is_empty()
        {
            let first = *self.message_ids.entry(id).or_insert(index);
            self.join(first, index);
        }
    }

    fn root(&self, mut index: usize) -> usize {
        while let Some(&parent) = self.parents.get(index)
            && parent != index
        {
            index = parent;
        }
        index
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.root(one), self.root(other));
        if let Some(parent) = self.parents.get_mut(one.max(other)) {
            *parent = one.min(other);
        }
    }
}
