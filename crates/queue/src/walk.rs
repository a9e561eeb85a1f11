//! Going through the messages that a match expression may mean, a page at a time.
//!
//! Where the expression names a destination, and what is held is not asked for, only the messages that the index has for
//! it are read, and those for the relays that mail may have been rerouted to; otherwise the whole queue is.

use std::collections::VecDeque;

use nightmail_core::{QueueId, Timestamp};

use crate::destination::{Destination, RelayName};
use crate::error::QueueError;
use crate::queue::{PAGE_ROWS, Queue};
use crate::record::{QueueMessage, Recipient};
use crate::select::Selection;

/// Sorts before the name of every relay that can be configured.
const BEFORE_RELAYS: &str = "\u{1}";

/// A set of messages to be read.
enum Way {
    Messages(Vec<QueueId>),
    Destination(Destination, Option<Vec<u8>>),
    Everything(Option<QueueId>),
}

/// Messages that an expression may mean. Changes while they are read may or may not be seen.
pub struct Walk<'a> {
    queue: &'a Queue,
    selection: &'a Selection,
    ways: VecDeque<Way>,
    /// Ways that have been gone: what lies on one of them has been seen.
    gone: Vec<Destination>,
}

/// A message and how many of its pending recipients are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// Its id.
    pub id: QueueId,
    /// The message.
    pub message: QueueMessage,
    /// At least one.
    pub recipients: u64,
}

impl Queue {
    /// Begins to go through what `selection` may mean; with `held`, also what is held.
    pub async fn walk<'a>(
        &'a self,
        selection: &'a Selection,
        held: bool,
    ) -> Result<Walk<'a>, QueueError> {
        let ways = match (selection.ids(), selection.destination()) {
            (Some(ids), _) => vec![Way::Messages(ids)],
            (None, Some(destination)) if !(held && selection.may_be_held()) => {
                self.ways_to(destination).await?
            }
            (None, _) => vec![Way::Everything(None)],
        };
        Ok(Walk {
            queue: self,
            selection,
            ways: ways.into(),
            gone: Vec::new(),
        })
    }

    /// To a destination, and for a domain to all relays and to what is held back: its mail may be there.
    async fn ways_to(&self, destination: Destination) -> Result<Vec<Way>, QueueError> {
        let mut ways = Vec::new();
        if matches!(destination, Destination::Domain(_)) {
            let mut after = RelayName::new(BEFORE_RELAYS).map(Destination::Relay);
            loop {
                let found = self.destinations(after.as_ref(), PAGE_ROWS).await?;
                let Some(last) = found.last() else { break };
                after = Some(last.destination.clone());
                let names = found.into_iter().map(|stats| stats.destination);
                ways.extend(names.map(|name| Way::Destination(name, None)));
            }
        }
        ways.insert(0, Way::Destination(destination, None));
        Ok(ways)
    }
}

impl Walk<'_> {
    /// The next messages of which recipients are meant at `now`; they may be none. `None` at the end.
    pub async fn next(&mut self, now: Timestamp) -> Result<Option<Vec<Selected>>, QueueError> {
        let Some(way) = self.ways.pop_front() else {
            return Ok(None);
        };
        let found = match way {
            Way::Messages(ids) => self.load(ids).await?,
            Way::Everything(after) => {
                let found = self.queue.list(after, PAGE_ROWS).await?;
                if let Some((last, _)) = found.last() {
                    self.ways.push_front(Way::Everything(Some(*last)));
                }
                found
            }
            Way::Destination(destination, after) => self.along(destination, after).await?,
        };
        let found = found.into_iter();
        let selected = found.filter_map(|(id, message)| self.select(id, message, now));
        Ok(Some(selected.collect()))
    }

    async fn load(&self, ids: Vec<QueueId>) -> Result<Vec<(QueueId, QueueMessage)>, QueueError> {
        let messages = self.queue.load(&ids).await?;
        let found = ids.into_iter().zip(messages);
        Ok(found
            .filter_map(|(id, message)| Some((id, message?)))
            .collect())
    }

    async fn along(
        &mut self,
        destination: Destination,
        after: Option<Vec<u8>>,
    ) -> Result<Vec<(QueueId, QueueMessage)>, QueueError> {
        let (ids, next) = self
            .queue
            .list_destination(&destination, after, PAGE_ROWS)
            .await?;
        let messages = self.queue.load(&ids).await?;
        let found = ids.into_iter().zip(messages);
        let found = found.filter_map(|(id, message)| Some((id, message?)));
        let unseen = found
            .filter(|(_, message)| !self.was_seen(message))
            .collect();
        match next {
            Some(next) => self
                .ways
                .push_front(Way::Destination(destination, Some(next))),
            None => self.gone.push(destination),
        }
        Ok(unseen)
    }

    /// Whether the message lies on a way that has been gone.
    fn was_seen(&self, message: &QueueMessage) -> bool {
        let mut waiting = message
            .pending()
            .filter(|(_, recipient)| recipient.hold.is_none());
        waiting.any(|(_, recipient)| match message.unrouted {
            Some(_) => self.gone.contains(&Destination::Unrouted),
            None => self.gone.contains(&recipient.destination()),
        })
    }

    fn select(&self, id: QueueId, message: QueueMessage, now: Timestamp) -> Option<Selected> {
        let fits = |recipient: &Recipient| self.selection.fits(&message, id, recipient, now);
        let meant = message.pending().filter(|(_, recipient)| fits(recipient));
        let recipients = meant.count() as u64;
        (recipients > 0).then_some(Selected {
            id,
            message,
            recipients,
        })
    }
}
