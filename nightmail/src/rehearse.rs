//! `nightmail rehearse`: a queue of any size made at once, and how long picking from it takes. For measurements of this
//! program on a store of their own; no server may run on it.

use std::process::ExitCode;
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, Subcommand};
use nightmail_cluster::LeaseGuard;
use nightmail_commit::{Intent, NewBlob, SubmitError, now};
use nightmail_core::{Address, QueueId, ReversePath, Timestamp};
use nightmail_heap::BlobBuilder;
use nightmail_queue::{
    Attempt, BodyType, Content, Demands, NewQueueMessage, NewRecipient, Queue, QueueError, Rank,
    RecipientOutcome, Source, Verdict, Waiting, tx,
};
use nightmail_server::backend::Backend;
use tokio::task::JoinSet;

use crate::cli::Place;
use crate::error::CommandError;
use crate::operator::load_config;
use crate::output;

/// Messages that are being queued at once; the committer puts them together.
const UNDER_WAY: usize = 1_000;
/// Between the times at which deferred messages are due, in milliseconds.
const SPACING_MILLIS: i64 = 10;
const CONTENT: &[u8] =
    b"From: <bench@sender.example.org>\r\nSubject: waiting\r\n\r\nThis one waits.\r\n";

/// What to rehearse.
#[derive(Debug, Subcommand)]
pub(crate) enum RehearseCommand {
    /// Queue messages that have been tried once and wait for their next attempt.
    Fill(FillArgs),
    /// Pick messages one after the other as they become due, and print how long that takes as JSON.
    Pick(PickArgs),
}

/// What to queue.
#[derive(Debug, Args)]
pub(crate) struct FillArgs {
    /// How many messages.
    #[arg(long)]
    messages: u64,
    /// Domains that they are for: d00001 and so on.
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    domains: u64,
    /// What the names of domains end with.
    #[arg(long, default_value = "far.test")]
    suffix: String,
    /// Seconds until the first is due; the others follow a hundredth of a second after one another.
    #[arg(long, default_value_t = 3_600)]
    due_in: i64,
    /// How many are due at once instead.
    #[arg(long, default_value_t = 0)]
    due_now: u64,
}

/// What to pick.
#[derive(Debug, Args)]
pub(crate) struct PickArgs {
    /// How many.
    #[arg(long, default_value_t = 2_000)]
    count: u32,
}

/// Carries the command out.
pub(crate) async fn run(command: RehearseCommand, place: &Place) -> Result<ExitCode, CommandError> {
    let backend = Backend::open(&load_config(place)?).await?;
    match command {
        RehearseCommand::Fill(args) => fill(&backend, &args).await?,
        RehearseCommand::Pick(args) => {
            output::print(&format!("{}\n", pick(&backend.queue, &args).await?))?;
        }
    }
    let synced = backend.engine.sync().await;
    synced.map_err(|error| failed(&error))?;
    Ok(ExitCode::SUCCESS)
}

fn failed(error: &dyn std::error::Error) -> CommandError {
    nightmail_admin::AdminError::failed(error.to_string()).into()
}

async fn fill(backend: &Backend, args: &FillArgs) -> Result<(), CommandError> {
    let began = now();
    let queue = &backend.queue;
    // As a server does with a new store.
    queue.prepare().await.map_err(|error| failed(&error))?;
    let first = Waits::new(queue, 0, began, args).await?;
    let id = first.id;
    let intent = first.intent(Content::New(0)).with_blob(content(backend)?);
    let committed = queue.committer().submit(intent).await;
    committed.map_err(|error| failed(&error))?;
    let queued = queue.show(id).await.map_err(|error| failed(&error))?;
    let blob = queued.map(|message| message.blob);
    let blob = blob.ok_or_else(|| failed(&QueueError::NoSuchMessage))?;
    let mut commits = JoinSet::new();
    for number in 1..args.messages {
        let waits = Waits::new(queue, number, began, args).await?;
        let committer = queue.committer().clone();
        commits.spawn(async move { committer.submit(waits.intent(Content::Stored(blob))).await });
        if commits.len() >= UNDER_WAY {
            join(&mut commits).await?;
        }
    }
    while !commits.is_empty() {
        join(&mut commits).await?;
    }
    Ok(())
}

/// Waits for one of the commits.
async fn join(
    commits: &mut JoinSet<Result<(), SubmitError<QueueError>>>,
) -> Result<(), CommandError> {
    let Some(ended) = commits.join_next().await else {
        return Ok(());
    };
    let committed = ended.map_err(|error| failed(&error))?;
    committed.map_err(|error| failed(&error))
}

/// The bytes of every message.
fn content(backend: &Backend) -> Result<NewBlob, CommandError> {
    let mut content = BlobBuilder::new(&backend.heap);
    content.push(CONTENT).map_err(|error| failed(&error))?;
    Ok(NewBlob {
        blob: content.finish().map_err(|error| failed(&error))?,
        envelope: Bytes::new(),
        meta: Bytes::new(),
    })
}

/// A message that has been tried once.
struct Waits {
    id: QueueId,
    message: NewQueueMessage,
    outcome: RecipientOutcome,
}

impl Waits {
    async fn new(
        queue: &Queue,
        number: u64,
        began: Timestamp,
        args: &FillArgs,
    ) -> Result<Self, CommandError> {
        let domain = 1 + number % args.domains;
        let address = |text: &str| {
            let parsed = text.parse::<Address>();
            parsed.map_err(|error| CommandError::Usage(format!("{text}: {error}")))
        };
        let recipient = address(&format!("w{number}@d{domain:05}.{}", args.suffix))?;
        let waits = match number.checked_sub(args.due_now) {
            Some(place) => {
                let place = i64::try_from(place).unwrap_or(i64::MAX / SPACING_MILLIS);
                args.due_in * 1_000 + place * SPACING_MILLIS
            }
            None => 0,
        };
        let id = queue.next_id().await.map_err(|error| failed(&error))?;
        let attempt = Attempt::new(began, None, "4.4.1", None, "no connection");
        Ok(Self {
            id,
            message: new_message(address("bench@sender.example.org")?, recipient),
            outcome: RecipientOutcome {
                index: 0,
                verdict: Verdict::Deferred {
                    next_attempt: began.plus_millis(waits),
                    delay_reported: false,
                    waiting: Waiting::Retry,
                },
                attempt: Some(attempt),
            },
        })
    }

    fn intent(self, content: Content) -> Intent<(), QueueError> {
        Intent::soon(move |tx| {
            tx::enqueue::<QueueError>(tx, self.id, content, &self.message)?;
            let outcomes = std::slice::from_ref(&self.outcome);
            tx::record_attempt::<QueueError>(tx, self.id, &LeaseGuard::none(), outcomes)?;
            Ok(())
        })
    }
}

fn new_message(sender: Address, recipient: Address) -> NewQueueMessage {
    NewQueueMessage {
        reverse_path: ReversePath::Address(sender),
        prefix: Bytes::from_static(b"Received: from client.example.org; now\r\n"),
        blob_size: CONTENT.len() as u64,
        body: BodyType::SevenBit,
        smtputf8: false,
        ret: None,
        envid: None,
        source: Source::Relay,
        recipients: vec![NewRecipient::plain(recipient)],
        demands: Demands::default(),
        unrouted: None,
        band: Rank::NORMAL,
        handicap_millis: 0,
    }
}

/// Lets time go on as messages become due, and takes each as soon as it is. What is taken is given back at the end.
async fn pick(queue: &Queue, args: &PickArgs) -> Result<serde_json::Value, CommandError> {
    let began = Instant::now();
    let look = queue.look(now()).await.map_err(|error| failed(&error))?;
    let first_look = began.elapsed();
    let mut at = look.look_again;
    let mut taken = Vec::new();
    let mut micros = Vec::new();
    while let Some(due) = at
        && micros.len() < args.count as usize
    {
        let began = Instant::now();
        let look = queue.look(due).await.map_err(|error| failed(&error))?;
        for destination in &look.ready {
            let picked = queue.take(destination, due, 1, true, true).await;
            taken.extend(picked.map_err(|error| failed(&error))?);
        }
        micros.push(began.elapsed().as_secs_f64() * 1e6);
        at = look.look_again.filter(|next| *next > due);
    }
    micros.sort_by(f64::total_cmp);
    let middle = micros.get(micros.len() / 2).copied().unwrap_or_default();
    Ok(serde_json::json!({
        "first_look_micros": first_look.as_secs_f64() * 1e6,
        "picked": taken.len(),
        "median_micros": middle,
    }))
}
