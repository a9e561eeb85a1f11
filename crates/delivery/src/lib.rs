//! The outbound SMTP channel: hands queued messages to other sites (DESIGN §7).
//!
//! Owns the way from a queued message to the replies of other hosts: DNS, connections, TLS, transactions, retries,
//! and the reports to senders; and when mail that was held back is let go. What is to be sent, and what became of it,
//! is the queue's. Where a report or a message that is let go goes is decided by whoever routes mail ([`Reports`]).
//!
//! **Invariant:** a recipient is retired, and its sender told, in one commit, after the host's reply and never before.

mod attempt;
mod channel;
mod content;
mod dns;
mod envelope;
mod error;
mod lanes;
mod options;
mod random;
mod release;
mod report;
mod retry;
mod route;
mod session;
mod share;
mod tls;
mod work;

pub use channel::Delivery;
pub use error::DeliveryError;
pub use nightmail_smtp::client::Timeouts;
pub use options::{DeliveryLimits, DeliveryOptions, Login, RetryPolicy, Smarthost, SmarthostTls};
pub use report::{Release, ReportChange, Reports, Unroutable};
