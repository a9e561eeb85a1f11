//! The relay load: a source, the server, and a sink that takes everything, all in one run.

use std::time::Duration;

use clap::Args;
use tokio::time::{Instant, timeout};

use super::sink::{Sink, SinkArgs, Taken};
use super::source::{Source, SourceArgs};
use crate::error::BenchError;
use crate::report::{Delivered, Report};

/// How to relay.
#[derive(Debug, Clone, Args)]
pub struct RelayArgs {
    /// What goes in.
    #[command(flatten)]
    pub source: SourceArgs,
    /// Where what comes out is taken; the server is to be set up to send everything there.
    #[arg(long, default_value = "127.0.0.1:2600")]
    pub listen: String,
    /// Offer no CHUNKING there.
    #[arg(long)]
    pub no_chunking: bool,
    /// Seconds to wait at most, after the last message went in, for all to come out.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub settle: u64,
}

/// Sends until count or time is used up, and waits until every copy that was accepted has come out.
///
/// The report tells of what went in; its `delivered` of what came out, from the first message in to the last copy out.
pub async fn run(args: RelayArgs) -> Result<Report, BenchError> {
    let sink = Sink::bind(sink_args(&args)).await?;
    let taken = sink.taken();
    let serving = tokio::spawn(sink.serve());
    let source = Source::new(args.source, None).await?;
    let (copies, began) = (source.copies(), source.began());
    let mut report = source.send().await?;
    let expected = copies();
    let settle = Duration::from_secs(args.settle);
    // What has not come out by then is missing in the report.
    let _ = timeout(settle, taken.wait_for(expected)).await;
    report.delivered = Some(delivered(&taken, expected, began()));
    report.workload = "relay".to_owned();
    serving.abort();
    Ok(report)
}

fn delivered(taken: &Taken, expected: u64, began: Instant) -> Delivered {
    let arrived = taken.copies();
    let seconds = began.elapsed().as_secs_f64().max(1e-6);
    Delivered {
        expected,
        arrived,
        seconds,
        per_second: arrived as f64 / seconds,
    }
}

fn sink_args(args: &RelayArgs) -> SinkArgs {
    let load = &args.source.load;
    SinkArgs {
        listen: args.listen.clone(),
        seconds: load.seconds.saturating_add(args.settle).saturating_add(60),
        count: 0,
        defer_percent: 0,
        faults: Vec::new(),
        seed: load.seed,
        stall_seconds: 0.0,
        drip_millis: 0,
        starttls: false,
        no_chunking: args.no_chunking,
        ledger: None,
        json: load.json,
        quiet: true,
    }
}
