//! Messages that are to be sent elsewhere: durable records with a state for each recipient (DESIGN §7).
//!
//! Owns the rows of the `Queue`, `Due` and `Outbound` spaces. `Queue`: queue id → [`QueueMessage`]. The others are its
//! index: for every message and every [`Destination`] of its pending recipients one row by time and one by
//! destination. What is *pending* is fresh mail, in the order of its [`Rank`]; what is *deferred* waits for a time.
//! Recipients that are held are in no index. A message that is held back is queued whole, for recipients here too;
//! whoever routes mail lets it go.
//!
//! The functions in [`tx`] are the changes and compose with other crates' in one intent; [`Queue`] submits them,
//! reads, and hands out work: by destination, from windows in memory that are refilled from the index. Knows no
//! protocol: who is reached how is the channels' business.
//!
//! Of several nodes, each sends the messages of some *shards* (a hash of the queue id), under leases
//! (`nightmail_cluster`): what an attempt decided is recorded only while the lease that it began under is held.
//!
//! **Invariants:** a recipient is retired once; the message goes, with its reference to the blob, in the commit that
//! retires the last. The index says of a message what follows from its row, and nothing else.

mod destination;
mod error;
mod feed;
mod hurry;
mod ids;
mod index;
mod operator;
mod queue;
mod rank;
mod record;
mod row;
mod select;
mod standing;
pub mod tx;
mod upgrade;
mod walk;

pub use destination::{Destination, RelayName};
pub use error::QueueError;
pub use feed::{Ticket, WindowLimits};
pub use hurry::HurryTarget;
pub use ids::{QueueIds, accepted_at};
pub use index::Kind;
pub use operator::{Altered, DestinationStats};
pub use queue::{Attempted, Look, Queue, QueueStats};
pub use rank::{Rank, Weights, size_band};
pub use record::{
    Attempt, BodyType, DIAGNOSTIC_BYTES_MAX, DeliverBy, Demands, Notify, QueueMessage, Recipient,
    RecipientState, Ret, Source, Unrouted, Waiting,
};
pub use select::{SELECTION_OCTETS_MAX, Selection, SelectionError};
pub use standing::{
    RULE_NAME_OCTETS_MAX, RULES_AGE_MAX, RULES_MAX, RuleBook, RuleError, StandingAction,
    StandingRule, StandingRules,
};
pub use tx::{
    Alteration, Content, Enqueued, NewQueueMessage, NewRecipient, RecipientOutcome, Recorded,
    Verdict,
};
pub use walk::{Selected, Walk};
