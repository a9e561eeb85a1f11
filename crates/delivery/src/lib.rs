//! The outbound SMTP channel: hands queued messages to other sites (DESIGN §7).
//!
//! Owns the way from a queued message to the replies of other hosts: DNS, connections, TLS, transactions, retries,
//! and the reports to senders; and when mail that was held back is let go. What is to be sent, and what became of it,
//! is the queue's. Where a report or a message that is let go goes is decided by whoever routes mail ([`Reports`]).
//!
//! Mail waits by destination. Destinations whose mail goes to the same hosts, in the same way, are a *site*, which has
//! workers, each with one connection, as many as it proves to take. A worker takes messages, the most urgent first, and
//! sends them one after the other; what it decides is recorded beside it. What cannot be sent now is put off, many
//! messages at a time.
//!
//! **Invariant:** a recipient is retired, and its sender told, in one commit, after the host's reply and never before.

mod attempt;
mod channel;
mod connection;
mod content;
mod dns;
mod envelope;
mod error;
mod explain;
mod fit;
mod flights;
mod options;
mod pickup;
mod random;
mod reach;
mod release;
mod replies;
mod report;
mod retry;
mod route;
mod schedule;
mod secure;
mod settle;
mod share;
mod site;
mod sites;
mod tls;
mod trouble;
mod turn;
mod verp;
mod wire;
mod work;

pub use channel::Delivery;
pub use error::DeliveryError;
pub use nightmail_smtp::client::Timeouts;
pub use options::{
    ClientCertificate, DeliveryLimits, DeliveryOptions, DoubleBounces, Login, Relay, SmarthostTls,
    Verp,
};
pub use report::{Release, ReportChange, Reports, Unroutable};
pub use turn::TurnReport;
pub use wire::AsyncStream;
