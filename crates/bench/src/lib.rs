//! Load for mail servers: SMTP, LMTP, IMAP and POP3 against any host and port; sources and sinks for what is relayed,
//! which make faults where that is wanted and keep account of every copy.
//!
//! Owns the generator's clients, its message corpus, its figures and their rendering. Speaks only the wire
//! protocols, so that the same load measures Nightmail and any other server.
//!
//! **Invariant:** every run is bounded in operations and in time, and every buffer in size.

pub mod args;
pub mod corpus;
pub mod delivered;
pub mod error;
pub mod histogram;
pub mod odds;
pub mod population;
pub mod procfs;
mod progress;
pub mod report;
mod run;
mod sign;
mod tls;
mod wire;
pub mod workload;

pub use args::{BenchCommand, LoadArgs, TlsMode, UserTemplate};
pub use error::BenchError;
pub use odds::{Chance, Fault};
pub use population::{Population, Spread};
pub use report::Report;
pub use sign::SignAs;
pub use workload::hole::HoleArgs;
pub use workload::imap::{ImapArgs, ImapWorkload};
pub use workload::mailbox::{MailboxArgs, MailboxWorkload, Timing};
pub use workload::pop3::{Pop3Args, Pop3Workload};
pub use workload::relay::RelayArgs;
pub use workload::sink::{Kept, Sink, SinkArgs, SinkFault, SinkLedger, Taken};
pub use workload::smtp::SmtpArgs;
pub use workload::source::{Fate, Offered, Source, SourceArgs, SourceFault, SourceLedger};

/// Runs one workload to its end.
///
/// A runtime with one thread (`new_current_thread`) costs the machine least when client and server share it.
pub async fn run(command: BenchCommand) -> Result<Report, BenchError> {
    match command {
        BenchCommand::Smtp(args) => workload::smtp::run(args).await,
        BenchCommand::Imap(args) => workload::imap::run(args).await,
        BenchCommand::Mailbox(args) => workload::mailbox::run(args).await,
        BenchCommand::Pop3(args) => workload::pop3::run(args).await,
        BenchCommand::Source(args) => workload::source::run(args).await,
        BenchCommand::Sink(args) => workload::sink::run(args).await,
        BenchCommand::Relay(args) => workload::relay::run(args).await,
        BenchCommand::Hole(args) => workload::hole::run(args).await,
    }
}
