//! SMTP, submission and LMTP as machines without I/O (RFC 5321, RFC 6409, RFC 2033).
//!
//! Owns the grammar of commands and replies, the server and client sessions built on it, and the framing of
//! message data. Bytes, answers and time go in; bytes, questions and body chunks come out. Never opens a
//! socket, reads a clock or holds a whole message.
//!
//! * [`server::Server`] speaks for a receiving MTA, an MSA or an LMTP server.
//! * [`client::Client`] delivers to another site or to an LMTP server.
//! * [`replies`] is the only place that knows reply codes.

pub mod body;
pub mod client;
pub mod command;
#[doc(hidden)]
pub mod fuzzing;
pub mod replies;
pub mod reply;
pub mod server;
pub mod stuff;
pub mod tls;

pub use nightmail_sasl as sasl;

pub use command::{BodyType, Command, CommandError, Mail, MailParams, Rcpt, RcptParams};
pub use reply::{EnhancedCode, Reply, ReplyReader};
pub use tls::TlsFacts;
