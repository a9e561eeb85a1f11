//! POP3 as a server machine without I/O (RFC 1939; RFC 2449 CAPA, RFC 2595 STLS, RFC 5034 AUTH).
//!
//! Owns the grammar of commands and replies, the states of a session and the framing of messages. Bytes, answers
//! and time go in; bytes, questions and message numbers come out. Never opens a socket, reads a clock or holds a
//! message: the driver streams it through a [`DotStuffer`].
//!
//! **Invariant:** only QUIT in the TRANSACTION state removes messages. A session that ends in any other way
//! leaves the maildrop as it was.

mod command;
mod config;
#[doc(hidden)]
pub mod fuzzing;
mod io;
mod replies;
mod session;
mod stuff;

pub use config::{Config, Limits};
pub use io::{
    Answer, Ask, Input, LoginRefusal, Maildrop, MessageEntry, MessageIndex, Output, RetrieveMode,
    UniqueId,
};
pub use session::Session;
pub use stuff::{DotStuffer, retrieved_octets};
