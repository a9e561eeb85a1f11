//! What is done to large mailboxes, over one connection, each command timed by itself.
//!
//! Other loads ask how many clients a server bears; this one asks how long one client waits.

mod access;
mod fill;
mod folders;
mod raw;

use std::collections::BTreeMap;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use self::access::Bench;
use self::raw::Raw;
use crate::args::LoadArgs;
use crate::error::BenchError;
use crate::procfs::Watch;
use crate::report::Report;
use crate::run::Run;

/// What to do to a mailbox.
#[derive(Debug, Clone, Args)]
pub struct MailboxArgs {
    /// What is done.
    #[arg(value_enum)]
    pub workload: MailboxWorkload,
    /// Host and port of the server.
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// How much; the count is one of messages or of folders, the connections are those that fill.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Number of the user.
    #[arg(long, default_value_t = 1)]
    pub user: u64,
    /// The user's password.
    #[arg(long, default_value = "pass")]
    pub password: String,
    /// The mailbox, as IMAP writes it.
    #[arg(long, default_value = "INBOX")]
    pub mailbox: String,
    /// Size of a message in octets, about.
    #[arg(long, default_value_t = 1500, value_parser = clap::value_parser!(u32).range(500..=1_000_000))]
    pub octets: u32,
    /// How often each command is timed.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// Seconds from the last command until the server's memory is read.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=600))]
    pub settle: u64,
}

/// What is done to a mailbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum MailboxWorkload {
    /// Append messages until there are so many.
    Fill,
    /// SELECT, FETCH, SEARCH, STORE, COPY and EXPUNGE of all messages.
    Access,
    /// SEARCH in headers and texts.
    Find,
    /// SELECT and FETCH 1:* (UID FLAGS).
    Open,
    /// SELECT of an unchanged mailbox by QRESYNC.
    Resync,
    /// STATUS of many folders.
    Folders,
}

/// How long one command took.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Timing {
    /// How often it was run.
    pub times: usize,
    /// Messages, folders or commands that it was about.
    pub units: u64,
    /// The first time, when things may have been cold, in milliseconds.
    pub first_ms: f64,
    /// The shortest time, in milliseconds.
    pub min_ms: f64,
    /// The time in the middle, in milliseconds.
    pub median_ms: f64,
    /// Units a second in the shortest time.
    pub per_second: f64,
}

/// Times by the names of commands.
#[derive(Debug, Default)]
struct Timings(BTreeMap<&'static str, (u64, Vec<Duration>)>);

impl Timings {
    fn add(&mut self, name: &'static str, took: Duration, units: u64) {
        let entry = self.0.entry(name).or_default();
        entry.0 = units;
        entry.1.push(took);
    }

    fn summary(self) -> BTreeMap<&'static str, Timing> {
        let entries = self.0.into_iter();
        entries
            .map(|(name, (units, times))| (name, Timing::of(units, &times)))
            .collect()
    }
}

impl Timing {
    fn of(units: u64, times: &[Duration]) -> Self {
        let mut sorted = times.to_vec();
        sorted.sort_unstable();
        let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
        let min_ms = ms(sorted.first());
        Self {
            times: times.len(),
            units,
            first_ms: ms(times.first()),
            min_ms,
            median_ms: ms(sorted.get(sorted.len() / 2)),
            per_second: units as f64 / min_ms.max(1e-6) * 1e3,
        }
    }
}

impl MailboxArgs {
    fn login(&self) -> Result<Raw, BenchError> {
        let user = self.load.user_template.render(self.user);
        Raw::login(&self.target, &user, &self.password)
    }

    fn name(&self) -> String {
        let value = self.workload.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        format!("mailbox {name}")
    }
}

/// Runs it. The client blocks: reading what comes must cost less than writing it.
pub async fn run(args: MailboxArgs) -> Result<Report, BenchError> {
    let watch = Watch::start(&args.load.server_pid)?;
    let run = Run::start(args.name(), args.load.count, args.load.seconds);
    let (args, measured) = tokio::task::spawn_blocking(move || {
        let measured = measure(&args);
        (args, measured)
    })
    .await
    .map_err(|error| BenchError::Unexpected(error.to_string()))?;
    let (timings, held) = measured?;
    tokio::time::sleep(Duration::from_secs(args.settle)).await;
    let servers = watch.finish()?;
    drop(held);
    let mut report = run.report(&args.target, &args.load);
    report.timings = timings.summary();
    Ok(report.with_servers(servers))
}

/// The times, and the connection where it is to last until memory has been read.
fn measure(args: &MailboxArgs) -> Result<(Timings, Option<Raw>), BenchError> {
    let timings = match args.workload {
        MailboxWorkload::Fill => {
            let mut timings = Timings::default();
            timings.add("fill", fill::fill(args)?, args.load.count);
            timings
        }
        MailboxWorkload::Access => Bench::open(args)?.access()?,
        MailboxWorkload::Find => Bench::open(args)?.find()?,
        MailboxWorkload::Open => {
            let (timings, held) = Bench::opened(args)?;
            return Ok((timings, Some(held)));
        }
        MailboxWorkload::Resync => Bench::open(args)?.resync()?,
        MailboxWorkload::Folders => folders::folders(args)?,
    };
    Ok((timings, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_and_the_middle_time_are_told() {
        let times = [30, 10, 20].map(Duration::from_millis);
        let timing = Timing::of(100, &times);
        let told = (timing.first_ms, timing.min_ms, timing.median_ms);
        assert_eq!(told, (30.0, 10.0, 20.0));
        assert_eq!((timing.times, timing.per_second), (3, 10_000.0));
    }
}
