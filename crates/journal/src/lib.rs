//! The log of what became of messages, kept in the store for a time.
//!
//! Owns the rows of [`Space::Journal`](nightmail_engine::Space): *blocks* of many events each, packed, and beside each
//! block a *filter* that says which addresses, domains, Message-IDs and queue ids may stand in it. Whoever looks for one
//! of them reads the filters, newest first, and only the blocks that may hold it.
//!
//! Events are gathered in memory and written as blocks that are full or have waited for
//! [`JournalOptions::flush_every`]; the writing need not be synced. A crash loses what had not been written, and a store
//! that stays away longer than memory lasts loses what comes then, which is counted: noting never delays mail.
//! Nodes write blocks of their own under keys that no other process uses; small ones are joined later.
//!
//! What is kept of a message: when, the reverse-path and recipients, Message-ID and queue id, the client or host, the
//! replies. Nothing of its content, and nothing of who reads it.

mod block;
mod error;
mod event;
mod filter;
mod find;
mod journal;
mod key;
mod merge;
mod options;
mod sweep;
mod term;
mod writer;

pub use error::JournalError;
pub use event::{Event, EventKind};
pub use find::{Found, Query, Reads, by_message};
pub use journal::Journal;
pub use options::JournalOptions;
