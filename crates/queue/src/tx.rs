//! The changes of the queue, for use inside an intent: alone, or together with other crates' changes.
//!
//! Each is generic over the error of the intent it runs in, as long as that can hold a [`QueueError`].

use std::collections::BTreeMap;

use bytes::Bytes;
use nightmail_cluster::LeaseGuard;
use nightmail_commit::{Abort, Owner, Topic, Tx};
use nightmail_core::{Address, BlobId, QueueId, ReversePath, Timestamp};

use crate::destination::{Destination, RelayName};
use crate::error::QueueError;
use crate::index::{Entry, entries};
use crate::rank::Rank;
use crate::record::{
    Attempt, BodyType, Demands, Notify, QueueMessage, Recipient, RecipientState, Ret, Source,
    Unrouted, Waiting,
};
use crate::row::message_key;

/// A recipient of a message to be queued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewRecipient {
    /// The forward-path.
    pub address: Address,
    /// When the sender wants to hear of it.
    pub notify: Notify,
    /// The original recipient, `addr-type;xtext` as it was given.
    pub orcpt: Option<String>,
}

impl NewRecipient {
    /// A recipient without DSN parameters.
    pub const fn plain(address: Address) -> Self {
        Self {
            address,
            notify: Notify::Unspecified,
            orcpt: None,
        }
    }
}

/// A message to be queued.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewQueueMessage {
    /// Where its reports go.
    pub reverse_path: ReversePath,
    /// What goes in front of the blob: the trace fields of this hop, each ended by CRLF.
    pub prefix: Bytes,
    /// Octets of the blob.
    pub blob_size: u64,
    /// How its body is encoded.
    pub body: BodyType,
    /// Whether it needs SMTPUTF8.
    pub smtputf8: bool,
    /// How much of it a report returns.
    pub ret: Option<Ret>,
    /// The envelope id, in xtext as it was given.
    pub envid: Option<String>,
    /// Where it came from.
    pub source: Source,
    /// At least one.
    pub recipients: Vec<NewRecipient>,
    /// What the sender asks of its way.
    pub demands: Demands,
    /// For a message that is held back: the recipients are as the sender named them.
    pub unrouted: Option<Unrouted>,
    /// The strict band that it goes in; see [`Rank`].
    pub band: u8,
    /// How much later than its acceptance it is ranked, in milliseconds; see [`crate::Weights`].
    pub handicap_millis: i64,
}

/// Where the bytes of a message to be queued are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Content {
    /// The blob that the intent brings along, by its place.
    New(usize),
    /// A blob that is in the store.
    Stored(BlobId),
}

/// What an attempt decided for a recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// The peer has taken responsibility.
    Delivered,
    /// Given up.
    Failed,
    /// To be tried again.
    Deferred {
        /// When.
        next_attempt: Timestamp,
        /// Whether the sender is told of the delay in this commit.
        delay_reported: bool,
        /// What it waits for.
        waiting: Waiting,
    },
    /// To be tried when an operator releases it.
    Held {
        /// Why.
        reason: Box<str>,
    },
}

/// The outcome of an attempt for one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecipientOutcome {
    /// Its place in [`QueueMessage::recipients`].
    pub index: usize,
    /// What was decided.
    pub verdict: Verdict,
    /// What happened; `None` where nothing was tried (no slot was free), which is not counted as an attempt.
    pub attempt: Option<Attempt>,
}

/// What is left of a message after an attempt was recorded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Recorded {
    /// The next attempt; `None` when every recipient is retired and the message is gone.
    pub due: Option<Timestamp>,
}

/// What an operator changes for recipients that are pending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Alteration {
    /// They are not tried until they are released. The reason is kept.
    Hold(Box<str>),
    /// Those that are held are tried again, at once.
    Release,
    /// They are tried at once, whatever they wait for; those that are held stay so.
    Retry,
    /// They go to that relay, or again where the configuration says. They are tried at once, unless they are held.
    Reroute(Option<RelayName>),
    /// They leave the queue. Nobody is told.
    Drop,
}

/// What an enqueued message brings to those who send: see [`crate::Queue::announce`].
#[derive(Clone, Debug, Default)]
pub struct Enqueued(pub(crate) Vec<(Destination, Entry)>);

impl Enqueued {
    /// Adds what another message brings.
    pub fn extend(&mut self, more: Self) {
        self.0.extend(more.0);
    }
}

/// Puts a message into the queue, due at once, or when it is no longer held back. The bytes are linked in the same
/// commit.
///
/// Fails with [`QueueError::NoSuchRecipient`] when there is none, and [`QueueError::IdInUse`].
pub fn enqueue<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    content: Content,
    new: &NewQueueMessage,
) -> Result<Enqueued, Abort<E>> {
    lift(put_new(tx, id, content, new))
}

/// Records what an attempt decided. When it retires the last recipient the message leaves the queue and its
/// reference to the blob ends.
///
/// Nothing is recorded, and [`QueueError::LeaseLost`] returned, when `guard` no longer holds;
/// [`QueueError::AlreadyRetired`], when any recipient named is not pending; a message that was removed meanwhile is
/// [`QueueError::NoSuchMessage`].
pub fn record_attempt<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    guard: &LeaseGuard,
    outcomes: &[RecipientOutcome],
) -> Result<Recorded, Abort<E>> {
    lift(record(tx, id, guard, outcomes))
}

/// Changes the pending recipients that `whom` picks. Returns how many were changed; a message that has no pending
/// recipient left leaves the queue.
pub fn alter<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    alteration: &Alteration,
    whom: impl Fn(&QueueMessage, &Recipient) -> bool,
) -> Result<u64, Abort<E>> {
    lift(change(tx, id, alteration, whom))
}

/// Takes a message out of the queue, whatever is pending, and returns it. Nobody is told.
pub fn remove<E: From<QueueError>>(tx: &mut Tx<'_>, id: QueueId) -> Result<QueueMessage, Abort<E>> {
    lift(take_out(tx, id))
}

fn lift<T, E: From<QueueError>>(result: Result<T, Abort<QueueError>>) -> Result<T, Abort<E>> {
    result.map_err(|abort| match abort {
        Abort::Need(need) => Abort::Need(need),
        Abort::Refused(error) => Abort::Refused(error.into()),
    })
}

fn put_new(
    tx: &mut Tx<'_>,
    id: QueueId,
    content: Content,
    new: &NewQueueMessage,
) -> Result<Enqueued, Abort<QueueError>> {
    if new.recipients.is_empty() {
        return Err(QueueError::NoSuchRecipient.into());
    }
    if tx.get(&message_key(id))?.is_some() {
        return Err(QueueError::IdInUse.into());
    }
    let owner = Owner::Queue(id);
    let blob = match content {
        Content::New(index) => tx.link_new_blob::<QueueError>(index, owner)?,
        Content::Stored(blob) => {
            tx.link_blob::<QueueError>(blob, owner)?;
            blob
        }
    };
    let now = tx.now();
    let held = new.demands.hold_until.filter(|_| new.unrouted.is_some());
    let due = held.unwrap_or(now).max(now);
    let message = QueueMessage {
        created: now,
        reverse_path: new.reverse_path.clone(),
        blob,
        prefix: new.prefix.clone(),
        blob_size: new.blob_size,
        body: new.body,
        smtputf8: new.smtputf8,
        ret: new.ret,
        envid: new.envid.clone(),
        source: new.source,
        recipients: new
            .recipients
            .iter()
            .map(|recipient| first_state(recipient, due))
            .collect(),
        demands: new.demands,
        unrouted: new.unrouted,
        rank: Rank::new(new.band, now, new.handicap_millis),
    };
    let entries = put_message(tx, id, &BTreeMap::new(), &message);
    Ok(Enqueued(entries.into_iter().collect()))
}

fn first_state(new: &NewRecipient, next_attempt: Timestamp) -> Recipient {
    Recipient {
        address: new.address.clone(),
        notify: new.notify,
        orcpt: new.orcpt.clone(),
        state: RecipientState::Pending { next_attempt },
        attempts: 0,
        last: None,
        delay_reported: false,
        waiting: Waiting::Fresh,
        relay: None,
        hold: None,
    }
}

fn load(tx: &mut Tx<'_>, id: QueueId) -> Result<QueueMessage, Abort<QueueError>> {
    let row = tx.get(&message_key(id))?.ok_or(QueueError::NoSuchMessage)?;
    Ok(QueueMessage::decode(&row).map_err(QueueError::from)?)
}

/// Writes the message and its rows in the index, where these differ from `old`, and returns what is in the index then;
/// deletes all when nothing is pending.
fn put_message(
    tx: &mut Tx<'_>,
    id: QueueId,
    old: &BTreeMap<Destination, Entry>,
    message: &QueueMessage,
) -> BTreeMap<Destination, Entry> {
    let new = entries(id, message);
    for (destination, entry) in old {
        if new.get(destination) != Some(entry) {
            delete_entry(tx, destination, entry);
        }
    }
    for (destination, entry) in &new {
        if old.get(destination) != Some(entry) {
            put_entry(tx, destination, entry);
        }
    }
    if message.pending().next().is_some() {
        tx.put(message_key(id), message.encode());
    } else {
        tx.delete(message_key(id));
        tx.unlink_blob(message.blob, Owner::Queue(id));
    }
    tx.publish(Topic::Queue);
    new
}

fn put_entry(tx: &mut Tx<'_>, destination: &Destination, entry: &Entry) {
    for (key, value) in entry.rows(destination) {
        tx.put(key, value);
    }
}

fn delete_entry(tx: &mut Tx<'_>, destination: &Destination, entry: &Entry) {
    for key in entry.keys(destination) {
        tx.delete(key);
    }
}

/// Writes the rows that the index is to have for a message that is in the queue.
pub(crate) fn put_entries(tx: &mut Tx<'_>, id: QueueId) -> Result<(), Abort<QueueError>> {
    match load(tx, id) {
        Ok(message) => {
            for (destination, entry) in entries(id, &message) {
                put_entry(tx, &destination, &entry);
            }
            Ok(())
        }
        Err(Abort::Refused(QueueError::NoSuchMessage)) => Ok(()),
        Err(error) => Err(error),
    }
}

fn record(
    tx: &mut Tx<'_>,
    id: QueueId,
    guard: &LeaseGuard,
    outcomes: &[RecipientOutcome],
) -> Result<Recorded, Abort<QueueError>> {
    if !guard.holds(tx)? {
        return Err(QueueError::LeaseLost.into());
    }
    let mut message = load(tx, id)?;
    let old = entries(id, &message);
    for outcome in outcomes {
        let recipient = message
            .recipients
            .get_mut(outcome.index)
            .ok_or(QueueError::NoSuchRecipient)?;
        apply(recipient, outcome)?;
    }
    put_message(tx, id, &old, &message);
    Ok(Recorded { due: message.due() })
}

fn apply(recipient: &mut Recipient, outcome: &RecipientOutcome) -> Result<(), QueueError> {
    if recipient.next_attempt().is_none() {
        return Err(QueueError::AlreadyRetired);
    }
    recipient.state = match &outcome.verdict {
        Verdict::Delivered => RecipientState::Delivered,
        Verdict::Failed => RecipientState::Failed,
        Verdict::Deferred {
            next_attempt,
            delay_reported,
            waiting,
        } => {
            recipient.delay_reported |= delay_reported;
            recipient.waiting = *waiting;
            RecipientState::Pending {
                next_attempt: *next_attempt,
            }
        }
        Verdict::Held { reason } => {
            recipient.hold = Some(reason.clone());
            recipient.state
        }
    };
    if let Some(attempt) = &outcome.attempt {
        recipient.attempts = recipient.attempts.saturating_add(1);
        recipient.last = Some(attempt.clone());
    }
    Ok(())
}

fn change(
    tx: &mut Tx<'_>,
    id: QueueId,
    alteration: &Alteration,
    whom: impl Fn(&QueueMessage, &Recipient) -> bool,
) -> Result<u64, Abort<QueueError>> {
    let was = load(tx, id)?;
    let mut message = was.clone();
    let now = tx.now();
    let mut changed = 0;
    for recipient in &mut message.recipients {
        if recipient.next_attempt().is_some() && whom(&was, recipient) {
            changed += u64::from(change_one(recipient, alteration, now));
        }
    }
    if changed > 0 {
        put_message(tx, id, &entries(id, &was), &message);
    }
    Ok(changed)
}

/// Whether there was anything to change.
fn change_one(recipient: &mut Recipient, alteration: &Alteration, now: Timestamp) -> bool {
    match alteration {
        Alteration::Hold(reason) => recipient.hold = Some(reason.clone()),
        Alteration::Release if recipient.hold.is_none() => return false,
        Alteration::Release => {
            recipient.hold = None;
            make_due(recipient, now);
        }
        Alteration::Retry if recipient.hold.is_some() => return false,
        Alteration::Retry => {
            make_due(recipient, now);
            recipient.waiting = Waiting::Hurried;
        }
        Alteration::Reroute(relay) => {
            recipient.relay.clone_from(relay);
            make_due(recipient, now);
        }
        Alteration::Drop => recipient.state = RecipientState::Failed,
    }
    true
}

fn make_due(recipient: &mut Recipient, now: Timestamp) {
    recipient.state = RecipientState::Pending { next_attempt: now };
    if recipient.waiting != Waiting::Fresh {
        recipient.waiting = Waiting::Hurried;
    }
}

fn take_out(tx: &mut Tx<'_>, id: QueueId) -> Result<QueueMessage, Abort<QueueError>> {
    let message = load(tx, id)?;
    for (destination, entry) in entries(id, &message) {
        delete_entry(tx, &destination, &entry);
    }
    tx.delete(message_key(id));
    tx.unlink_blob(message.blob, Owner::Queue(id));
    tx.publish(Topic::Queue);
    Ok(message)
}
