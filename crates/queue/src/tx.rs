//! The changes of the queue, for use inside an intent: alone, or together with other crates' changes.
//!
//! Each is generic over the error of the intent it runs in, as long as that can hold a [`QueueError`].

use bytes::Bytes;
use nightmail_cluster::LeaseGuard;
use nightmail_commit::{Abort, Owner, Topic, Tx};
use nightmail_core::{Address, BlobId, QueueId, ReversePath, Timestamp};

use crate::due::{due_key, due_value};
use crate::error::QueueError;
use crate::record::{
    Attempt, BodyType, Demands, Notify, QueueMessage, Recipient, RecipientState, Ret, Source,
    Unrouted,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
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

/// Puts a message into the queue, due at once, or when it is no longer held back. The bytes are linked in the same
/// commit.
///
/// Fails with [`QueueError::NoSuchRecipient`] when there is none, and [`QueueError::IdInUse`].
pub fn enqueue<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    content: Content,
    new: &NewQueueMessage,
) -> Result<(), Abort<E>> {
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

/// Makes every pending recipient due at `at`.
pub fn reschedule<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    at: Timestamp,
) -> Result<(), Abort<E>> {
    lift(move_some(tx, id, at, |_| true))
}

/// Makes the pending recipients that `whom` picks due at `at`.
pub fn reschedule_some<E: From<QueueError>>(
    tx: &mut Tx<'_>,
    id: QueueId,
    at: Timestamp,
    whom: impl Fn(&Recipient) -> bool,
) -> Result<(), Abort<E>> {
    lift(move_some(tx, id, at, whom))
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
) -> Result<(), Abort<QueueError>> {
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
    };
    put_message(tx, id, None, &message);
    Ok(())
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
    }
}

fn load(tx: &mut Tx<'_>, id: QueueId) -> Result<QueueMessage, Abort<QueueError>> {
    let row = tx.get(&message_key(id))?.ok_or(QueueError::NoSuchMessage)?;
    Ok(QueueMessage::decode(&row).map_err(QueueError::from)?)
}

/// Writes the message and moves its due row from `was_due`; deletes both when nothing is pending.
fn put_message(tx: &mut Tx<'_>, id: QueueId, was_due: Option<Timestamp>, message: &QueueMessage) {
    let due = message.due();
    if let Some(was) = was_due.filter(|was| Some(*was) != due) {
        tx.delete(due_key(was, id));
    }
    match due {
        Some(at) => {
            tx.put(due_key(at, id), due_value(message.demands.priority));
            tx.put(message_key(id), message.encode());
        }
        None => {
            tx.delete(message_key(id));
            tx.unlink_blob(message.blob, Owner::Queue(id));
        }
    }
    tx.publish(Topic::Queue);
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
    let was_due = message.due();
    for outcome in outcomes {
        let recipient = message
            .recipients
            .get_mut(outcome.index)
            .ok_or(QueueError::NoSuchRecipient)?;
        apply(recipient, outcome)?;
    }
    put_message(tx, id, was_due, &message);
    Ok(Recorded { due: message.due() })
}

fn apply(recipient: &mut Recipient, outcome: &RecipientOutcome) -> Result<(), QueueError> {
    if recipient.next_attempt().is_none() {
        return Err(QueueError::AlreadyRetired);
    }
    recipient.state = match outcome.verdict {
        Verdict::Delivered => RecipientState::Delivered,
        Verdict::Failed => RecipientState::Failed,
        Verdict::Deferred {
            next_attempt,
            delay_reported,
        } => {
            recipient.delay_reported |= delay_reported;
            RecipientState::Pending { next_attempt }
        }
    };
    if let Some(attempt) = &outcome.attempt {
        recipient.attempts = recipient.attempts.saturating_add(1);
        recipient.last = Some(attempt.clone());
    }
    Ok(())
}

fn move_some(
    tx: &mut Tx<'_>,
    id: QueueId,
    at: Timestamp,
    whom: impl Fn(&Recipient) -> bool,
) -> Result<(), Abort<QueueError>> {
    let mut message = load(tx, id)?;
    let was_due = message.due();
    for recipient in &mut message.recipients {
        if recipient.next_attempt().is_some() && whom(recipient) {
            recipient.state = RecipientState::Pending { next_attempt: at };
        }
    }
    put_message(tx, id, was_due, &message);
    Ok(())
}

fn take_out(tx: &mut Tx<'_>, id: QueueId) -> Result<QueueMessage, Abort<QueueError>> {
    let message = load(tx, id)?;
    if let Some(due) = message.due() {
        tx.delete(due_key(due, id));
    }
    tx.delete(message_key(id));
    tx.unlink_blob(message.blob, Owner::Queue(id));
    tx.publish(Topic::Queue);
    Ok(message)
}
