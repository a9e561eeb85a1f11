//! Messages that are to be sent elsewhere: durable records with a state for each recipient (DESIGN §7).
//!
//! Owns the rows of the `Queue` and `Due` spaces. `Queue`: queue id → [`QueueMessage`]. `Due`: time, queue id →
//! priority; every message in the queue has exactly one row there, at the earliest next attempt of its recipients.
//! A message that is held back is queued whole, for recipients here too; whoever routes mail lets it go.
//! The functions in [`tx`] are the changes and compose with other crates' in one intent; [`Queue`] submits them,
//! reads, and hands out work. Knows no protocol: who is reached how is the channels' business.
//!
//! Of several nodes, each sends the messages of some *shards* (a hash of the queue id), under leases
//! (`nightmail_cluster`): what an attempt decided is recorded only while the lease that it began under is held.
//!
//! **Invariant:** a recipient is retired once; the message goes, with its reference to the blob, in the commit that
//! retires the last.

mod claim;
mod due;
mod error;
mod hurry;
mod ids;
mod queue;
mod record;
mod row;
pub mod tx;

pub use claim::Claim;
pub use error::QueueError;
pub use hurry::HurryTarget;
pub use ids::QueueIds;
pub use queue::{Queue, QueueStats, Work};
pub use record::{
    Attempt, BodyType, DIAGNOSTIC_BYTES_MAX, DeliverBy, Demands, Notify, QueueMessage, Recipient,
    RecipientState, Ret, Source, Unrouted,
};
pub use tx::{Content, NewQueueMessage, NewRecipient, RecipientOutcome, Recorded, Verdict};
