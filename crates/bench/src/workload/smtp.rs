//! The SMTP load: connections that send messages one after the other, and the wait until they are delivered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Args;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::slow::Dawdlers;
use super::smtp_client::{Outcome, SmtpClient};
use crate::args::LoadArgs;
use crate::corpus::Corpus;
use crate::delivered::{DeliveredArgs, Poller};
use crate::error::BenchError;
use crate::procfs::Watch;
use crate::report::Report;
use crate::run::{Done, Patience, Run};
use crate::sign::{SignAs, Signer};
use crate::wire::Endpoint;

/// How to send.
#[derive(Debug, Clone, Args)]
pub struct SmtpArgs {
    /// Host and port of the server.
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// How much, from whom.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Speak LMTP.
    #[arg(long)]
    pub lmtp: bool,
    /// Messages a connection carries before it is closed and opened anew; 0 is no limit.
    #[arg(long, default_value_t = 500)]
    pub messages_per_connection: u64,
    /// Recipients of each message.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub recipients: u32,
    /// Sign messages by DKIM, under a key that everybody knows; the report tells its DNS record.
    #[arg(long, value_name = "SELECTOR@DOMAIN")]
    pub sign: Option<SignAs>,
    /// Further connections that only dawdle meanwhile, an octet a second.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=50_000))]
    pub slow_connections: u32,
    /// The reverse-path.
    #[arg(long, default_value = "bench@sender.example.org")]
    pub sender: String,
    /// Authenticate as the user of the connection's turn, with this password.
    #[arg(long, value_name = "PASSWORD")]
    pub auth_password: Option<String>,
    /// Whether and where to see messages delivered.
    #[command(flatten)]
    pub delivered: DeliveredArgs,
}

/// What the connections share.
struct Shared {
    args: SmtpArgs,
    endpoint: Arc<Endpoint>,
    corpus: Corpus,
    signer: Option<Signer>,
    run: Arc<Run>,
    /// Copies accepted, for each user.
    accepted: Vec<AtomicU64>,
}

/// Sends until count or time is used up, then waits for delivery where that is asked for.
pub async fn run(args: SmtpArgs) -> Result<Report, BenchError> {
    let endpoint = Arc::new(Endpoint::resolve(&args.target, args.load.tls).await?);
    let slow = Dawdlers::start(&endpoint, args.slow_connections, &args.load.user(0)).await?;
    let poller = Poller::start(&args.delivered, &args.load).await?;
    let watch = Watch::start(&args.load.server_pid)?;
    let corpus = Corpus::new(args.load.seed);
    let signer = args.sign.clone().map(Signer::new).transpose()?;
    let name = if args.lmtp { "lmtp" } else { "smtp" };
    let run = Run::start(name.to_owned(), args.load.count, args.load.seconds);
    let users = if poller.is_some() { args.load.users } else { 0 };
    let shared = Arc::new(Shared {
        endpoint,
        corpus,
        signer,
        run: Arc::clone(&run),
        accepted: (0..users).map(|_| AtomicU64::new(0)).collect(),
        args,
    });
    let mut tasks = JoinSet::new();
    for index in 0..shared.args.load.connections {
        tasks.spawn(connection(Arc::clone(&shared), u64::from(index)));
    }
    run.finish(tasks, shared.args.load.quiet).await;
    let mut report = run.report(&shared.args.target, &shared.args.load);
    if let Some(poller) = poller {
        let expected = shared.accepted.iter().map(|n| n.load(Ordering::Relaxed));
        report.delivered = Some(poller.wait(expected.collect(), run.began()).await?);
    }
    report.slow_lost = slow.lost();
    report.dkim_record = shared.signer.as_ref().map(Signer::record);
    Ok(report.with_servers(watch.finish()?))
}

async fn connection(shared: Arc<Shared>, index: u64) {
    let run = &shared.run;
    let mut message = Vec::new();
    let mut patience = Patience::default();
    while run.open()
        && patience
            .lasts(run, session(&shared, index, &mut message).await)
            .await
    {}
}

async fn session(shared: &Shared, index: u64, message: &mut Vec<u8>) -> Result<(), BenchError> {
    let args = &shared.args;
    let mut client = SmtpClient::open(&shared.endpoint, args.lmtp).await?;
    if let Some(password) = &args.auth_password {
        let user = args.load.user(index);
        client.authenticate(&user, password).await?;
    }
    let limit = match args.messages_per_connection {
        0 => u64::MAX,
        limit => limit,
    };
    for _ in 0..limit {
        let Some(number) = shared.run.claim() else {
            break;
        };
        send(shared, &mut client, number, message).await?;
    }
    client.quit().await
}

/// Sends message `number` and counts what became of it.
async fn send(
    shared: &Shared,
    client: &mut SmtpClient,
    number: u64,
    message: &mut Vec<u8>,
) -> Result<(), BenchError> {
    let Shared { args, run, .. } = shared;
    let copies = u64::from(args.recipients);
    let turns = number * copies..(number + 1) * copies;
    let recipients: Vec<String> = turns.clone().map(|turn| args.load.user(turn)).collect();
    let to = recipients.first().map_or("", String::as_str);
    shared
        .corpus
        .write_message(number, &args.sender, to, message);
    if let Some(signer) = &shared.signer {
        signer.sign(message);
    }
    let bytes = message.len() as u64;
    message.extend_from_slice(b".\r\n");
    let began = Instant::now();
    let outcome = client.transact(&args.sender, &recipients, message).await?;
    run.replied(outcome.code);
    if outcome.accepted.contains(&true) {
        let messages = 1;
        run.done(Done {
            began,
            messages,
            bytes,
        });
        shared.note_accepted(turns, &outcome);
    } else {
        run.refused();
    }
    Ok(())
}

impl Shared {
    fn note_accepted(&self, turns: std::ops::Range<u64>, outcome: &Outcome) {
        if self.accepted.is_empty() {
            return;
        }
        for (turn, _) in turns.zip(&outcome.accepted).filter(|(_, yes)| **yes) {
            let user = self.args.load.user_index(turn) as usize;
            if let Some(accepted) = self.accepted.get(user) {
                accepted.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}
