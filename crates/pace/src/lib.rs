//! How fast, when and by which way mail leaves: decisions without I/O.
//!
//! Owns what holds for a destination ([`Policies`]), when it is tried again ([`Retry`]) and when it may be tried at all
//! ([`Schedule`]), what follows from a reply ([`ReplyRules`]), how many connections a site takes ([`Concurrency`]), how
//! many messages may pass in a time ([`Buckets`], [`Rates`]) and how urgent a message is ([`Precedences`]). Never reads a
//! clock and never draws randomness: the time and random numbers are given.

mod buckets;
mod concurrency;
mod pattern;
mod policies;
mod precedence;
mod rates;
mod reply;
mod retry;
mod schedule;
mod sender;
mod settings;
mod wildcard;

pub use buckets::Buckets;
pub use concurrency::Concurrency;
pub use pattern::{Pattern, PatternError};
pub use policies::{DestinationRule, Policies};
pub use precedence::{MailSource, Precedence, PrecedenceRule, Precedences};
pub use rates::{RateOf, RateRule, Rates};
pub use reply::{CodePattern, CodePatternError, Facts, ReplyAction, ReplyRule, ReplyRules, Stage};
pub use retry::Retry;
pub use schedule::{Offset, Schedule, ScheduleError, Weekday, Window};
pub use sender::{SenderPattern, SenderPatternError};
pub use settings::{PartialSettings, Rate, Settings, TlsRule, Via};
pub use wildcard::Wildcard;
