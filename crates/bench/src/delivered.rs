//! When accepted messages are in their mailboxes: each user's INBOX is counted over IMAP before and after.
//!
//! One connection for each user, opened before the load and reused; a round asks only for the users whose
//! messages have not all been seen.

use std::time::Duration;

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::args::{LoadArgs, TlsMode};
use crate::error::BenchError;
use crate::report::Delivered;
use crate::wire::Endpoint;
use crate::workload::ImapClient;

/// Users that are watched at most: each takes a connection.
const USERS_MAX: u32 = 2_000;
/// Between the rounds.
const PAUSE: Duration = Duration::from_millis(200);

/// Whether and where to see messages delivered.
#[derive(Debug, Clone, Args)]
pub struct DeliveredArgs {
    /// IMAP server at which to wait until every accepted message is in its INBOX.
    #[arg(long, value_name = "HOST:PORT")]
    pub wait_delivered: Option<String>,
    /// Every user's IMAP password.
    #[arg(long, default_value = "pass")]
    pub imap_password: String,
    /// Seconds to wait for delivery at most.
    #[arg(long, default_value_t = 120, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub wait_seconds: u64,
}

/// Watches the users' INBOXes.
pub(crate) struct Poller {
    inboxes: Vec<Inbox>,
    limit: Duration,
}

struct Inbox {
    client: ImapClient,
    before: u64,
    now: u64,
}

impl Poller {
    /// Opens the connections and counts what is there; `None` when delivery is not to be waited for.
    pub(crate) async fn start(
        args: &DeliveredArgs,
        load: &LoadArgs,
    ) -> Result<Option<Self>, BenchError> {
        let Some(target) = &args.wait_delivered else {
            return Ok(None);
        };
        if load.users > USERS_MAX {
            let text = format!("--wait-delivered watches at most {USERS_MAX} users");
            return Err(BenchError::Usage(text));
        }
        let endpoint = Endpoint::resolve(target, TlsMode::None).await?;
        let mut inboxes = Vec::new();
        for turn in 0..u64::from(load.users) {
            let mut client = ImapClient::open(&endpoint).await?;
            client.login(&load.user(turn), &args.imap_password).await?;
            let before = client.inbox_messages().await?;
            inboxes.push(Inbox {
                client,
                before,
                now: before,
            });
        }
        let limit = Duration::from_secs(args.wait_seconds);
        Ok(Some(Self { inboxes, limit }))
    }

    /// Waits until each user's INBOX has grown by what `expected` says, or the wait is over.
    pub(crate) async fn wait(
        mut self,
        expected: Vec<u64>,
        started: Instant,
    ) -> Result<Delivered, BenchError> {
        let deadline = Instant::now() + self.limit;
        let mut waiting: Vec<(Inbox, u64)> = self.inboxes.drain(..).zip(expected.clone()).collect();
        let mut arrived = 0;
        loop {
            let round = round(waiting).await?;
            let seconds = started.elapsed().as_secs_f64();
            let (there, missing): (Vec<_>, Vec<_>) = round
                .into_iter()
                .partition(|(inbox, expected)| inbox.growth() >= *expected);
            arrived += there.iter().map(|(inbox, _)| inbox.growth()).sum::<u64>();
            if missing.is_empty() || Instant::now() >= deadline {
                arrived += missing.iter().map(|(inbox, _)| inbox.growth()).sum::<u64>();
                return Ok(Delivered {
                    expected: expected.iter().sum(),
                    arrived,
                    seconds,
                    per_second: arrived as f64 / seconds,
                });
            }
            waiting = missing;
            sleep(PAUSE).await;
        }
    }
}

impl Inbox {
    fn growth(&self) -> u64 {
        self.now.saturating_sub(self.before)
    }
}

/// Asks for all of `waiting` at once.
async fn round(waiting: Vec<(Inbox, u64)>) -> Result<Vec<(Inbox, u64)>, BenchError> {
    let mut tasks = JoinSet::new();
    for (mut inbox, expected) in waiting {
        tasks.spawn(async move {
            inbox.now = inbox.client.inbox_messages().await?;
            Ok::<_, BenchError>((inbox, expected))
        });
    }
    let mut round = Vec::new();
    while let Some(ended) = tasks.join_next().await {
        round.push(ended.map_err(|error| BenchError::Unexpected(error.to_string()))??);
    }
    Ok(round)
}
