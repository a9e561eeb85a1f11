//! Accounts' mailboxes: their names, messages, flags, counters and history (DESIGN §6).
//!
//! Owns the rows of the `Account`, `Name`, `Mailbox`, `Message`, `Mark`, `Change`, `Expunge` and `Attribute` spaces. Every
//! change is an intent, so that UID, MODSEQ, row, counters, quota and change log move together. The functions in [`tx`] are those
//! changes; they compose with other crates' in one intent. [`Store`] submits them and reads.
//!
//! **Invariant:** no change of any kind bumps a UIDVALIDITY; a repair gives new UIDs.

mod access;
mod acl;
mod append;
mod check;
mod error;
mod maildrop;
mod messages;
mod metadata;
mod name;
mod purge;
mod read;
mod rights;
mod row;
mod snapshot;
mod states;
mod store;
mod structures;
pub mod tx;
mod urlauth;

pub use access::Shared;
pub use acl::{Acl, AclEntry, Grantee, RightsChange};
pub use append::Replaced;
pub use check::{CheckOptions, CheckReport, MarksProblem, Problem};
pub use error::StoreError;
pub use maildrop::UniqueIds;
pub use metadata::Annotation;
pub use name::{MailboxName, NameError, SEPARATOR};
pub use purge::{Deleted, Undeleted};
pub use read::MessageReader;
pub use rights::{Rights, UnknownRight};
pub use row::{
    AccountUsage, FolderSettings, KeywordId, Keywords, MailboxEntry, MailboxState, MessageRow,
    SpecialUse,
};
pub use snapshot::{Changes, FlagChange, Mark, Snapshot};
pub use store::{Listed, MailboxStatus, Store, StoreOptions, append_reads, removal_reads};
pub use tx::{Appended, Copied, FlagOperation, FlagUpdate, NewMessage, Quota, Stored, StoredFlags};
pub use urlauth::URL_KEY_OCTETS;
