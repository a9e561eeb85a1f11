//! IMAP4rev1 (RFC 3501) and extensions, as a machine without I/O.
//!
//! Owns the grammar, the session, and the session's view of the selected mailbox: which message has which sequence
//! number. Never sees a socket, a store or a clock: octets, answers and times go into a [`Session`]; octets, questions
//! and parts of messages come out. ENVELOPE, BODYSTRUCTURE and section bytes are the driver's to give.
//!
//! **Invariant:** a capability is announced only when all of it is there.

mod capability;
pub mod command;
pub mod enabled;
pub mod flag;
#[doc(hidden)]
pub mod fuzzing;
pub mod io;
pub mod limits;
pub mod mutf7;
pub mod name;
mod outputs;
pub mod parse;
pub mod pattern;
mod reader;
pub mod refusal;
mod session;
pub mod set;
pub mod url;
mod view;
mod write;

pub use enabled::{Enabled, Extension};
pub use flag::{FlagList, Keyword};
pub use io::{Answer, Ask, Input, Output};
pub use limits::{ClientRule, Config, Limits};
pub use name::MailboxName;
pub use pattern::ListPattern;
pub use refusal::{Refusal, RefusalKind};
pub use session::Session;
pub use set::UidSet;
pub use view::Messages;
