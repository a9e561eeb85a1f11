//! `cargo xtask bench`: the same loads against Nightmail and against a peer in one run, and what their ratios
//! should be.
//!
//! The peer is brought up by the `peer-up.sh` of a folder that is named, once for each of its mailbox formats;
//! Nightmail is compared with the best of them.

mod checks;
mod load;
mod mailboxes;
mod nightmail;
mod nodes;
mod peer;
mod queue;
mod relay;
mod subject;
mod table;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use clap::Args;

use crate::error::TaskError;
use load::{Client, Scale};
use subject::Subject;

/// What to compare.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// Folder with `peer-up.sh` and `peer-down.sh`; without it nothing is compared.
    #[arg(long, value_name = "DIR")]
    peer_dir: Option<PathBuf>,
    /// Only nodes that share a store, without the other loads.
    #[arg(long, conflicts_with = "running")]
    nodes: bool,
    /// Only what slow clients and the checks of incoming mail cost.
    #[arg(long, conflicts_with_all = ["running", "nodes"])]
    checks: bool,
    /// Only what is relayed, and what waits in the queue.
    #[arg(long, conflicts_with_all = ["running", "nodes", "checks"])]
    relay: bool,
    /// Only what one client does to large mailboxes.
    #[arg(long, conflicts_with_all = ["running", "nodes", "checks", "relay"])]
    mailboxes: bool,
    /// Fewer messages and shorter loads: a first look, not a figure.
    #[arg(long)]
    quick: bool,
    /// The program to measure; else it is built here.
    #[arg(long, value_name = "PROGRAM")]
    program: Option<PathBuf>,
    /// Measure a server that runs already: its SMTP, IMAP and POP3 addresses, parted by commas.
    #[arg(long, value_name = "SMTP,IMAP,POP3")]
    running: Option<Running>,
    /// Process of the server that runs already.
    #[arg(long, value_name = "PID", requires = "running")]
    running_pid: Option<u32>,
    /// Where the server that runs already serves /metrics.
    #[arg(long, value_name = "HOST:PORT", requires = "running")]
    running_metrics: Option<String>,
    /// Program that makes the load, called with `smtp`, `imap` or `pop3`; else `nightmail bench` as built here.
    #[arg(long, value_name = "PROGRAM")]
    client: Option<PathBuf>,
}

/// Addresses of a server that runs already.
#[derive(Debug, Clone)]
struct Running {
    smtp: String,
    imap: String,
    pop3: String,
}

impl FromStr for Running {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split(',').map(str::to_owned);
        match (parts.next(), parts.next(), parts.next(), parts.next()) {
            (Some(smtp), Some(imap), Some(pop3), None) => Ok(Self { smtp, imap, pop3 }),
            _ => Err("three addresses are wanted".to_owned()),
        }
    }
}

/// Builds, measures and prints the table. Fails when a target is missed.
pub(crate) fn run(root: &Path, args: &BenchArgs) -> Result<(), TaskError> {
    if args.program.is_none() && (args.running.is_none() || args.client.is_none()) {
        build(root)?;
    }
    let built = || root.join("target/release/nightmail");
    let program = args.program.clone().unwrap_or_else(built);
    let client = match &args.client {
        Some(client) => Client::new(client.clone(), &[]),
        None => Client::new(program.clone(), &["bench"]),
    };
    if args.mailboxes {
        let measured = mailboxes::measure(&program, &client, args)?;
        return judge(&table::mailbox_rows(&measured));
    }
    let scale = Scale::new(args.quick);
    let mut peers = measure_peers(args, &client, &scale)?;
    let mut compared = load::Figures::new();
    let mut alone = load::Figures::new();
    if args.running.is_none() && !args.nodes && !args.checks {
        let relayed = relay::measure(&program, &client, &scale)?;
        alone.extend(relayed);
        alone.extend(queue::measure(&program, &scale)?);
        peers.extend(measure_peer_relay(args, &client, &scale)?);
    }
    if args.relay {
        return conclude(&compared, &peers, &alone);
    }
    if args.checks {
        let subject = nightmail::start(&program, scale.users)?;
        let cost = load::dawdlers(&client, &subject, &scale)?;
        alone.extend(cost.map(|cost| (load::DAWDLERS, cost)));
    } else if !args.nodes {
        let subject = match &args.running {
            Some(running) => subject_running(running, args),
            None => nightmail::start(&program, scale.users)?,
        };
        compared = load::compared(&client, &subject, &scale)?;
        alone = load::alone(&client, &subject, &scale)?;
    }
    if args.running.is_none() && !args.nodes {
        alone.insert(load::CHECKS, checks::measure(&program, &client, &scale)?);
    }
    if args.running.is_none() && !args.checks {
        alone.extend(nodes::measure(&program, &client, &scale)?);
    }
    conclude(&compared, &peers, &alone)
}

/// Prints the table. Fails when a target is missed.
fn conclude(
    compared: &load::Figures,
    peers: &[(String, load::Figures)],
    alone: &load::Figures,
) -> Result<(), TaskError> {
    judge(&table::rows(compared, peers, alone))
}

fn judge(rows: &[table::Row]) -> Result<(), TaskError> {
    print!("{}", table::render(rows));
    match rows.iter().filter(|row| row.missed()).count() {
        0 => Ok(()),
        count => Err(TaskError::Found(format!("bench: {count} targets missed"))),
    }
}

fn build(root: &Path) -> Result<(), TaskError> {
    let arguments = ["build", "--release", "-p", "nightmail"];
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(arguments).current_dir(root);
    subject::succeed(&mut cargo, "cargo build --release").map(drop)
}

fn subject_running(running: &Running, args: &BenchArgs) -> Subject {
    Subject {
        name: "nightmail".to_owned(),
        smtp: running.smtp.clone(),
        imap: running.imap.clone(),
        pop3: running.pop3.clone(),
        pid: args.running_pid,
        metrics: args.running_metrics.clone(),
        stop: None,
        folder: None,
    }
}

/// Figures of the peer in each of its formats; none, and why, where it cannot be brought up.
fn measure_peers(
    args: &BenchArgs,
    client: &Client,
    scale: &Scale,
) -> Result<Vec<(String, load::Figures)>, TaskError> {
    let folder = match peer::available(args.peer_dir.as_deref()) {
        Ok(folder) => folder,
        Err(why) => {
            println!("peer skipped: {why}");
            return Ok(Vec::new());
        }
    };
    let mut figures = Vec::new();
    if args.relay {
        return Ok(figures);
    }
    for format in peer::FORMATS {
        let subject = peer::start(folder, format)?;
        figures.push((
            subject.name.clone(),
            load::compared(client, &subject, scale)?,
        ));
    }
    Ok(figures)
}

/// What the peer relays; nothing where it cannot be brought up, which has been said by then.
fn measure_peer_relay(
    args: &BenchArgs,
    client: &Client,
    scale: &Scale,
) -> Result<Option<(String, load::Figures)>, TaskError> {
    let Ok(folder) = peer::available(args.peer_dir.as_deref()) else {
        return Ok(None);
    };
    let subject = peer::start_relay(folder, relay::SINK)?;
    let relayed = relay::relayed(client, &subject, scale)?;
    Ok(Some((
        "postfix".to_owned(),
        load::Figures::from([(relay::RELAY, relayed)]),
    )))
}
