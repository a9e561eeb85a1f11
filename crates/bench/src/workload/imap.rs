//! The IMAP loads: logins, whole messages one by one or all at once, APPEND, STORE, SELECT, a mixture, and
//! connections that idle.

use std::net::IpAddr;
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::{ImapClient, idle};
use crate::args::LoadArgs;
use crate::corpus::{Corpus, Rng};
use crate::error::BenchError;
use crate::procfs::Watch;
use crate::report::Report;
use crate::run::{Done, Patience, Run};
use crate::wire::Endpoint;

/// What to do over IMAP.
#[derive(Debug, Clone, Args)]
pub struct ImapArgs {
    /// What is repeated.
    #[arg(value_enum)]
    pub workload: ImapWorkload,
    /// Host and port of the server.
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// How much, from whom.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Every user's password.
    #[arg(long, default_value = "pass")]
    pub password: String,
    /// `idle`: messages then appended, one after the other, for one further user who idles as well.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000_000))]
    pub wake: u32,
}

/// What an IMAP connection repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ImapWorkload {
    /// Connect, LOGIN, SELECT INBOX, LOGOUT.
    Login,
    /// Whole messages one by one: FETCH n BODY.PEEK[].
    Fetch,
    /// All messages in one FETCH 1:* BODY.PEEK[].
    FetchAll,
    /// APPEND to INBOX.
    Append,
    /// STORE +FLAGS and -FLAGS (\Seen) in turn.
    Store,
    /// SELECT INBOX again and again.
    Select,
    /// Of ten operations: six fetches, two stores, an append, a select; now and then a new login.
    Mixed,
    /// Hold connections in IDLE until the time is over.
    Idle,
}

impl ImapWorkload {
    fn name(self) -> String {
        let value = self.to_possible_value();
        let name = value.as_ref().map_or("", |value| value.get_name());
        format!("imap {name}")
    }
}

/// What the connections share.
pub(super) struct Shared {
    pub(super) args: ImapArgs,
    pub(super) endpoint: Endpoint,
    pub(super) corpus: Corpus,
    pub(super) run: Arc<Run>,
}

/// Runs the workload until count or time is used up.
pub async fn run(args: ImapArgs) -> Result<Report, BenchError> {
    let endpoint = Endpoint::resolve(&args.target, args.load.tls).await?;
    let corpus = Corpus::new(args.load.seed);
    let watch = Watch::start(&args.load.server_pid)?;
    let idle = args.workload == ImapWorkload::Idle;
    let limit = match idle {
        true => u64::from(args.load.connections),
        false => args.load.count,
    };
    let run = Run::start(args.workload.name(), limit, args.load.seconds);
    let shared = Arc::new(Shared {
        args,
        endpoint,
        corpus,
        run: Arc::clone(&run),
    });
    if idle {
        return idle::hold(&shared, watch).await;
    }
    let mut tasks = JoinSet::new();
    for index in 0..shared.args.load.connections {
        tasks.spawn(connection(Arc::clone(&shared), u64::from(index)));
    }
    run.finish(tasks, shared.args.load.quiet).await;
    let report = run.report(&shared.args.target, &shared.args.load);
    Ok(report.with_servers(watch.finish()?))
}

async fn connection(shared: Arc<Shared>, index: u64) {
    let run = &shared.run;
    let mut patience = Patience::default();
    while run.open() {
        let ended = match shared.args.workload {
            ImapWorkload::Login => logins(&shared).await,
            _ => Session::run(&shared, index).await,
        };
        if !patience.lasts(run, ended).await {
            break;
        }
    }
}

/// A whole session is the operation; each takes the next user.
async fn logins(shared: &Shared) -> Result<(), BenchError> {
    while let Some(number) = shared.run.claim() {
        let began = Instant::now();
        let mut client = shared.login(number).await?;
        client.select().await?;
        client.logout().await?;
        shared.run.done(Done {
            began,
            messages: 0,
            bytes: 0,
        });
    }
    Ok(())
}

impl Shared {
    async fn login(&self, turn: u64) -> Result<ImapClient, BenchError> {
        self.login_as(&self.args.load.user(turn), None).await
    }

    /// Logs a user in, from an address of this machine where one is named.
    pub(super) async fn login_as(
        &self,
        user: &str,
        from: Option<IpAddr>,
    ) -> Result<ImapClient, BenchError> {
        let mut client = ImapClient::open_from(&self.endpoint, from).await?;
        client.login(user, &self.args.password).await?;
        Ok(client)
    }
}

/// One logged-in connection with INBOX selected.
struct Session<'a> {
    shared: &'a Shared,
    client: ImapClient,
    user: String,
    exists: u64,
    /// Operations done here, for the turn of messages and signs.
    turn: u64,
    rng: Rng,
    message: Vec<u8>,
}

impl<'a> Session<'a> {
    /// Repeats the operation until nothing is left to claim. In `mixed` a session ends after some operations.
    async fn run(shared: &'a Shared, index: u64) -> Result<(), BenchError> {
        let mut client = shared.login(index).await?;
        let exists = client.select().await?;
        let seed = shared.args.load.seed.wrapping_add(index << 32);
        let mut session = Self {
            shared,
            client,
            user: shared.args.load.user(index),
            exists,
            turn: 0,
            rng: Rng::new(seed),
            message: Vec::new(),
        };
        session.check_messages()?;
        while let Some(number) = shared.run.claim() {
            let began = Instant::now();
            let (messages, bytes) = session.operation(shared.args.workload, number).await?;
            session.turn += 1;
            shared.run.done(Done {
                began,
                messages,
                bytes,
            });
            if shared.args.workload == ImapWorkload::Mixed && session.turn == 20 {
                break;
            }
        }
        session.client.logout().await
    }

    /// Reading and storing need messages.
    fn check_messages(&self) -> Result<(), BenchError> {
        let needs = matches!(
            self.shared.args.workload,
            ImapWorkload::Fetch | ImapWorkload::FetchAll | ImapWorkload::Store
        );
        if needs && self.exists == 0 {
            let text = format!("INBOX of {} is empty: send messages first", self.user);
            return Err(BenchError::Usage(text));
        }
        Ok(())
    }

    /// One operation: how many messages, and bytes of them, it moved.
    async fn operation(
        &mut self,
        workload: ImapWorkload,
        number: u64,
    ) -> Result<(u64, u64), BenchError> {
        match workload {
            ImapWorkload::Fetch => {
                let one = format!(" {} BODY.PEEK[]", self.turn % self.exists + 1);
                self.fetch(&one, 1).await
            }
            ImapWorkload::FetchAll => self.fetch(" 1:* BODY.PEEK[]", self.exists).await,
            ImapWorkload::Append => self.append(number).await,
            ImapWorkload::Store => self.store().await,
            ImapWorkload::Select => {
                self.exists = self.client.select().await?;
                Ok((0, 0))
            }
            ImapWorkload::Mixed => Box::pin(self.mixed(number)).await,
            ImapWorkload::Login | ImapWorkload::Idle => Ok((0, 0)),
        }
    }

    async fn mixed(&mut self, number: u64) -> Result<(u64, u64), BenchError> {
        let workload = match self.rng.below(10) {
            _ if self.exists == 0 => ImapWorkload::Append,
            0..6 => ImapWorkload::Fetch,
            6..8 => ImapWorkload::Store,
            8 => ImapWorkload::Append,
            _ => ImapWorkload::Select,
        };
        let moved = self.operation(workload, number).await?;
        if self.exists == 0 {
            self.exists = self.client.select().await?;
        }
        Ok(moved)
    }

    async fn fetch(&mut self, arguments: &str, wanted: u64) -> Result<(u64, u64), BenchError> {
        let seen = self.client.command("FETCH", arguments).await?;
        if seen.literals < wanted {
            let text = format!("FETCH gave {} of {wanted} messages", seen.literals);
            return Err(BenchError::Unexpected(text));
        }
        Ok((seen.literals, seen.literal_bytes))
    }

    async fn append(&mut self, number: u64) -> Result<(u64, u64), BenchError> {
        let corpus = &self.shared.corpus;
        corpus.write_message(
            number,
            "bench@sender.example.org",
            &self.user,
            &mut self.message,
        );
        self.client.append(&self.message).await?;
        Ok((1, self.message.len() as u64))
    }

    /// Sets the flag on a message, and the next time takes it away again.
    async fn store(&mut self) -> Result<(u64, u64), BenchError> {
        let message = self.turn / 2 % self.exists + 1;
        let sign = if self.turn.is_multiple_of(2) {
            '+'
        } else {
            '-'
        };
        let arguments = format!(" {message} {sign}FLAGS (\\Seen)");
        self.client.command("STORE", &arguments).await?;
        Ok((0, 0))
    }
}
