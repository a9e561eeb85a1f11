//! Connections that wait in IDLE: what each holds of the server's memory, and what it costs to wake one of them.

use std::net::{IpAddr, Ipv4Addr};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::ImapClient;
use super::imap::Shared;
use crate::error::BenchError;
use crate::histogram::Histogram;
use crate::procfs::{ServerCost, Watch};
use crate::report::{IdleCost, Latency, Report, WakeCost};
use crate::run::Done;

/// Connections that are opened at the same time.
const OPENING_MAX: usize = 32;
/// One connection of so many comes before the counted ones.
const WARMING: u64 = 20;
/// Connections from one loopback address: there are ports for few more than these.
const PER_ADDRESS: u64 = 5_000;

/// Opens all connections, waits until the time is over, and reads what they cost while they are held. The first ones
/// are not counted: with them comes what the server holds only once.
pub(super) async fn hold(shared: &Arc<Shared>, watch: Watch) -> Result<Report, BenchError> {
    let all = u64::from(shared.args.load.connections);
    let mut held = open(shared, 0..all.div_ceil(WARMING)).await;
    let warm = held.len();
    let settle = Duration::from_secs(shared.args.load.seconds);
    sleep(settle).await;
    let further = Watch::start(&shared.args.load.server_pid)?;
    held.extend(open(shared, all.div_ceil(WARMING)..all).await);
    let mut report = shared.run.report(&shared.args.target, &shared.args.load);
    sleep(settle).await;
    let growth: u64 = further
        .finish()?
        .iter()
        .map(ServerCost::rss_growth_bytes)
        .sum();
    let servers = watch.finish()?;
    let wake = match shared.args.wake {
        0 => None,
        messages => Some(wake(shared, messages).await?),
    };
    let counted = held.len().saturating_sub(warm).max(1);
    report.idle = Some(IdleCost {
        connections: held.len() as u64,
        rss_bytes_per_connection: growth as f64 / counted as f64,
        wake,
    });
    drop(held);
    Ok(report.with_servers(servers))
}

/// Opens the connections of these numbers; what fails is counted.
async fn open(shared: &Arc<Shared>, numbers: Range<u64>) -> Vec<ImapClient> {
    let gate = Arc::new(Semaphore::new(OPENING_MAX));
    let mut tasks = JoinSet::new();
    for index in numbers {
        let (shared, gate) = (Arc::clone(shared), Arc::clone(&gate));
        tasks.spawn(async move { Box::pin(idle_one(&shared, &gate, index)).await });
    }
    let mut held = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        match ended.map_err(|error| BenchError::Unexpected(error.to_string())) {
            Ok(Ok(client)) => held.push(client),
            Ok(Err(error)) | Err(error) => shared.run.failed(&error),
        }
    }
    held
}

async fn idle_one(shared: &Shared, gate: &Semaphore, index: u64) -> Result<ImapClient, BenchError> {
    let closed = |_| BenchError::Unexpected("the run was stopped".into());
    let _permit = gate.acquire().await.map_err(closed)?;
    let began = Instant::now();
    let user = shared.args.load.user(index);
    let client = idling(shared, &user, source(shared, index)).await?;
    shared.run.done(Done {
        began,
        messages: 0,
        bytes: 0,
    });
    Ok(client)
}

async fn idling(
    shared: &Shared,
    user: &str,
    from: Option<IpAddr>,
) -> Result<ImapClient, BenchError> {
    let mut client = shared.login_as(user, from).await?;
    client.select().await?;
    client.idle().await?;
    client.shrink();
    Ok(client)
}

/// The address that a connection is made from, where the server is on this machine.
fn source(shared: &Shared, index: u64) -> Option<IpAddr> {
    match shared.endpoint.address().ip() {
        IpAddr::V4(server) if server.is_loopback() => {
            let number = u8::try_from(2 + index / PER_ADDRESS).unwrap_or(u8::MAX);
            Some(Ipv4Addr::new(127, 0, 0, number).into())
        }
        _ => None,
    }
}

/// Appends messages for a user who has one idling connection, and waits each time until that has been told.
async fn wake(shared: &Shared, messages: u32) -> Result<WakeCost, BenchError> {
    let load = &shared.args.load;
    let user = load.user_template.render(u64::from(load.users) + 1);
    let mut waiting = idling(shared, &user, None).await?;
    let mut appending = shared.login_as(&user, None).await?;
    let mut message = Vec::new();
    let mut latency = Histogram::default();
    let watch = Watch::start(&load.server_pid)?;
    for number in 0..messages {
        let corpus = &shared.corpus;
        let from = "bench@sender.example.org";
        corpus.write_message(u64::from(number), from, &user, &mut message);
        let began = Instant::now();
        appending.append(&message).await?;
        waiting.told_of_message().await?;
        latency.record(began.elapsed());
    }
    let servers = watch.finish()?;
    let cpu: f64 = servers.iter().map(ServerCost::cpu_seconds).sum();
    Ok(WakeCost {
        messages,
        cpu_micros_per_message: cpu * 1e6 / f64::from(messages.max(1)),
        latency: Latency::of(&latency),
    })
}
