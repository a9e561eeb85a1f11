//! The words every layer shares: ids, addresses, flags, times and the row codec.
//!
//! Owns types and their byte forms. Never does I/O, reads a clock or draws randomness.

pub mod address;
pub mod codec;
pub mod flags;
pub mod id;
pub mod net;
pub mod time;

pub use address::{Address, AddressError, Domain, ForwardPath, LocalPart, ReversePath};
pub use flags::Flags;
pub use id::{AccountId, BlobId, MailboxId, ModSeq, QueueId, SessionId, Uid, UidValidity};
pub use time::Timestamp;
