//! The grammar of the command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use nightmail_bench::BenchCommand;

use crate::commands::access::AccessCommand;
use crate::commands::account::AccountCommand;
use crate::commands::alias::AliasCommand;
use crate::commands::certificate::CertificateCommand;
use crate::commands::dkim::DkimCommand;
use crate::commands::dns::DnsCommand;
use crate::commands::domain::DomainCommand;
use crate::commands::greylist::GreylistCommand;
use crate::commands::mailbox::MailboxCommand;
use crate::commands::node::NodeCommand;
use crate::commands::queue::QueueCommand;
use crate::commands::quota::QuotaCommand;
use crate::commands::trace::TraceArgs;
use crate::demo::DemoArgs;
use crate::error::CommandError;
use crate::rehearse::RehearseCommand;

/// A whole Internet mail service in one program.
#[derive(Debug, Parser)]
#[command(name = "nightmail", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) place: Place,
    /// Print answers as JSON.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which server is meant.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Place {
    /// The server's configuration.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The server's data directory.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The admin socket of a running server.
    #[arg(long, global = true, value_name = "PATH")]
    pub(crate) socket: Option<PathBuf>,
}

impl Place {
    /// Fails where two places are named, also when one stands before the command and the other after it.
    pub(crate) fn require_one(&self) -> Result<(), CommandError> {
        match [&self.config, &self.data, &self.socket]
            .into_iter()
            .flatten()
            .count()
        {
            0 | 1 => Ok(()),
            _ => Err(CommandError::Usage(
                "--config, --data and --socket exclude one another; give one".to_owned(),
            )),
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Try everything out: a complete server on loopback ports, without any configuration.
    Demo(DemoArgs),
    /// Run the server.
    Serve,
    /// Check a configuration, or print a complete one.
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Domains whose mail this server takes.
    #[command(subcommand)]
    Domain(DomainCommand),
    /// Users.
    #[command(subcommand)]
    Account(AccountCommand),
    /// Addresses that stand for others.
    #[command(subcommand)]
    Alias(AliasCommand),
    /// Keys that sign the mail of our domains.
    #[command(subcommand)]
    Dkim(DkimCommand),
    /// What other sites find in DNS about our domains.
    #[command(subcommand)]
    Dns(DnsCommand),
    /// Rules about who may hand mail in.
    #[command(subcommand)]
    Access(AccessCommand),
    /// Clients that have to come back, and those that have.
    #[command(subcommand)]
    Greylist(GreylistCommand),
    /// Say where mail to an address goes.
    Resolve {
        /// The address.
        address: String,
    },
    /// Mailboxes of an account.
    #[command(subcommand)]
    Mailbox(MailboxCommand),
    /// Bounds of an account's mail.
    #[command(subcommand)]
    Quota(QuotaCommand),
    /// Mail waiting to be sent elsewhere.
    #[command(subcommand)]
    Queue(QueueCommand),
    /// Show what became of messages: when each was accepted, delivered, tried, sent or given up.
    Trace(TraceArgs),
    /// Certificates of this server.
    #[command(subcommand)]
    Certificate(CertificateCommand),
    /// The nodes that share one store.
    #[command(subcommand)]
    Node(NodeCommand),
    /// The store that nodes share.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Compare everything that is stored; exits with 1 where something does not agree.
    Check(CheckArgs),
    /// Check, and mend what can be mended.
    Repair(CheckArgs),
    /// Give the space of removed messages back.
    #[command(visible_alias = "compact")]
    Reclaim,
    /// Show the server at a glance.
    Status,
    /// Put load on any mail server, or take mail in and count it.
    #[command(subcommand)]
    Bench(Box<BenchCommand>),
    /// Make a queue of any size, for measurements.
    #[command(subcommand, hide = true)]
    Rehearse(RehearseCommand),
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Say everything that is wrong with a configuration and with this machine for it.
    Check {
        /// The file; that of --config when absent.
        file: Option<PathBuf>,
    },
    /// Print a complete configuration with every key explained.
    Example,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Make the tables of the shared store, or bring them up to date. Safe to repeat.
    Init,
}

#[derive(Debug, Args)]
pub(crate) struct CheckArgs {
    /// Also read every message and compare it with its checksum.
    #[arg(long)]
    pub(crate) read_messages: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_grammar_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_place_may_stand_before_or_after_the_command() {
        for line in [
            &["nightmail", "--data", "d", "account", "list"][..],
            &["nightmail", "account", "list", "--data", "d"],
        ] {
            let cli = Cli::try_parse_from(line).unwrap();
            assert_eq!(cli.place.data.as_deref(), Some(std::path::Path::new("d")));
        }
        let both = ["nightmail", "--data", "d", "status", "--config", "c"];
        let cli = Cli::try_parse_from(both).unwrap();
        assert_eq!(cli.place.require_one().unwrap_err().exit_code(), 2);
    }
}
