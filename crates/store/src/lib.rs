//! Accounts' mailboxes: their names, messages, flags, counters and history (DESIGN §6).
//!
//! Owns the rows of the `Account`, `Name`, `Mailbox`, `Message`, `Change` and `Expunge` spaces. Every change is an
//! intent, so that UID, MODSEQ, row, counters, quota and change log move together. The functions in [`tx`] are those
//! changes; they compose with other crates' in one intent. [`Store`] submits them and reads.
//!
//! **Invariant:** no change of any kind bumps a UIDVALIDITY; a repair gives new UIDs.

mod check;
mod error;
mod maildrop;
mod name;
mod read;
mod rights;
mod row;
mod snapshot;
mod store;
pub mod tx;

pub use check::{CheckOptions, CheckReport, Problem};
pub use error::StoreError;
pub use maildrop::UniqueIds;
pub use name::{MailboxName, NameError, SEPARATOR};
pub use read::MessageReader;
pub use rights::{Rights, UnknownRight};
pub use row::{
    AccountUsage, KeywordId, Keywords, MailboxEntry, MailboxState, MessageRow, SpecialUse,
};
pub use snapshot::{Changes, FlagChange, Snapshot};
pub use store::{Listed, MailboxStatus, Store, StoreOptions, append_reads};
pub use tx::{Appended, Copied, FlagOperation, NewMessage, Quota, StoredFlags};
