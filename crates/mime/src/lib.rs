//! Message structure: what a message is made of, found once at delivery and kept beside its bytes.
//!
//! Owns the MIME part tree, the envelope, their byte form, and what IMAP, search, trace and delivery reports
//! read from them. Never holds a whole message: the [`Scanner`] is fed as the bytes pass by, and everything it
//! finds is kept as offsets and short values. Nothing here fails on odd mail: every byte sequence has a structure.

pub mod address;
pub mod casemap;
pub mod charset;
mod codec;
pub mod content;
pub mod date;
pub mod encoded_word;
pub mod envelope;
#[doc(hidden)]
pub mod fuzzing;
pub mod header;
pub mod html;
pub mod imap;
mod lex;
mod line_ends;
pub mod preview;
pub mod report;
mod scanner;
pub mod search;
mod structure;
pub mod subject;
pub mod thread;
pub mod trace;
pub mod transfer;

pub use address::{ListItem, Mailbox};
pub use content::{Disposition, MediaType, Parameter, decoded_parameter};
pub use date::SentDate;
pub use envelope::Envelope;
pub use line_ends::LineEnds;
pub use report::{Report, generate_report};
pub use scanner::{Limits, Scanner, scan};
pub use structure::{Content, Message, Part, Parts, SectionKind, Structure};
pub use trace::{KnownField, Trace};
