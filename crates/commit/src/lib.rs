//! Intents and group commit (DESIGN §4): the one way by which anything in the store changes.
//!
//! Owns the committer of a node, the rows that say where a blob lies and who refers to it, and the events that
//! follow a commit. Knows nothing of mailboxes, queues or directories: they bring their rows as intents.
//!
//! **Invariant:** no row names a blob whose bytes were not synced before that row was committed.

mod blob;
mod committer;
mod compact;
mod event;
mod gather;
mod intent;
mod job;
mod pack_writer;
mod reclaim;
mod row_map;
mod stage;
mod tx;
mod waiting;

pub use blob::{BlobRow, Owner};
pub use committer::{CommitLimits, Committer};
pub use compact::{CompactionReport, Compactor};
pub use event::{Changed, EventHub, Outbox, Outgoing, Subscription, Topic, Watch};
pub use intent::{Abort, CommitFailure, Intent, NewBlob, SubmitError};
pub use pack_writer::next_pack_writer;
pub use reclaim::{ReclaimOptions, ReclaimReport, Reclaimer};
pub use tx::{LinkError, Need, Tx};

use nightmail_core::Timestamp;

/// The wall clock, for the layers that may read one.
pub fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
