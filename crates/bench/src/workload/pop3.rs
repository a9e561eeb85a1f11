//! The POP3 loads (RFC 1939): maildrops read and emptied, or only opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::{Args, ValueEnum};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::args::{LoadArgs, TlsMode};
use crate::error::BenchError;
use crate::procfs::Watch;
use crate::report::Report;
use crate::run::{Done, Patience, Run};
use crate::wire::{Endpoint, Wire};

/// What to do over POP3.
#[derive(Debug, Clone, Args)]
pub struct Pop3Args {
    /// What is repeated.
    #[arg(value_enum)]
    pub workload: Pop3Workload,
    /// Host and port of the server.
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// How much, from whom.
    #[command(flatten)]
    pub load: LoadArgs,
    /// Every user's password.
    #[arg(long, default_value = "pass")]
    pub password: String,
}

/// What POP3 connections repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pop3Workload {
    /// Log in, STAT, UIDL, RETR and DELE of every message, QUIT: each user once. An operation is one message,
    /// from RETR to the answer to DELE.
    RetrDele,
    /// Log in, STAT, QUIT.
    Login,
}

struct Shared {
    args: Pop3Args,
    endpoint: Endpoint,
    run: Arc<Run>,
    /// The next maildrop: two sessions at one would lock each other out.
    next_user: AtomicU64,
}

/// Runs the workload until count, time or maildrops are used up.
pub async fn run(args: Pop3Args) -> Result<Report, BenchError> {
    let endpoint = Endpoint::resolve(&args.target, args.load.tls).await?;
    let watch = Watch::start(&args.load.server_pid)?;
    let name = match args.workload {
        Pop3Workload::RetrDele => "pop3 retr-dele",
        Pop3Workload::Login => "pop3 login",
    };
    let run = Run::start(name.to_owned(), args.load.count, args.load.seconds);
    let shared = Arc::new(Shared {
        endpoint,
        run: Arc::clone(&run),
        next_user: AtomicU64::new(0),
        args,
    });
    // No more than there are maildrops, each of which is open once at a time.
    let connections = shared.args.load.connections.min(shared.args.load.users);
    let mut tasks = JoinSet::new();
    for index in 0..u64::from(connections) {
        tasks.spawn(connection(Arc::clone(&shared), index, connections));
    }
    run.finish(tasks, shared.args.load.quiet).await;
    let report = run.report(&shared.args.target, &shared.args.load);
    Ok(report.with_servers(watch.finish()?))
}

async fn connection(shared: Arc<Shared>, index: u64, connections: u32) {
    let run = &shared.run;
    let mut patience = Patience::default();
    // Login: each connection has its own users, so that maildrops are never contended.
    let mut turn = index;
    while run.open() {
        let ended = match shared.args.workload {
            Pop3Workload::Login => login_once(&shared, turn).await,
            Pop3Workload::RetrDele => {
                let user = shared.next_user.fetch_add(1, Ordering::Relaxed);
                if user >= u64::from(shared.args.load.users) {
                    return;
                }
                empty_maildrop(&shared, user).await
            }
        };
        let users = u64::from(shared.args.load.users);
        turn += u64::from(connections);
        if turn >= users {
            turn = index;
        }
        if !patience.lasts(run, ended).await {
            return;
        }
    }
}

async fn login_once(shared: &Shared, turn: u64) -> Result<(), BenchError> {
    if shared.run.claim().is_none() {
        return Ok(());
    }
    let began = Instant::now();
    let mut client = shared.login(turn).await?;
    client.messages().await?;
    client.command("QUIT", "").await?;
    shared.run.done(Done {
        began,
        messages: 0,
        bytes: 0,
    });
    Ok(())
}

/// Reads and removes every message of one maildrop, as far as count and time go.
async fn empty_maildrop(shared: &Shared, user: u64) -> Result<(), BenchError> {
    let mut client = shared.login(user).await?;
    let messages = client.messages().await?;
    client.command("UIDL", "").await?;
    client.wire.skip_text().await?;
    for number in 1..=messages {
        if shared.run.claim().is_none() {
            break;
        }
        let began = Instant::now();
        client.command("RETR", &format!(" {number}")).await?;
        let bytes = client.wire.skip_text().await?;
        client.command("DELE", &format!(" {number}")).await?;
        shared.run.done(Done {
            began,
            messages: 1,
            bytes,
        });
    }
    client.command("QUIT", "").await.map(drop)
}

impl Shared {
    async fn login(&self, user: u64) -> Result<Pop3Client, BenchError> {
        let mut client = Pop3Client::open(&self.endpoint).await?;
        let name = self.args.load.user(user);
        client.command("USER", &format!(" {name}")).await?;
        let password = &self.args.password;
        client.command("PASS", &format!(" {password}")).await?;
        Ok(client)
    }
}

/// One POP3 session.
struct Pop3Client {
    wire: Wire,
}

impl Pop3Client {
    async fn open(endpoint: &Endpoint) -> Result<Self, BenchError> {
        let wire = endpoint.connect().await?;
        let mut client = Self { wire };
        client.answer("greeting").await?;
        if endpoint.tls == TlsMode::Starttls {
            client.command("STLS", "").await?;
            client.wire = endpoint.encrypt(client.wire).await?;
        }
        Ok(client)
    }

    /// Sends a command; the text after `+OK`. `arguments` starts with a space, or is empty.
    async fn command(&mut self, name: &'static str, arguments: &str) -> Result<&[u8], BenchError> {
        let line = format!("{name}{arguments}\r\n");
        self.wire.send(line.as_bytes()).await?;
        self.answer(name).await
    }

    /// STAT: how many messages there are.
    async fn messages(&mut self) -> Result<u64, BenchError> {
        let text = self.command("STAT", "").await?;
        std::str::from_utf8(text)
            .ok()
            .and_then(|text| text.split_whitespace().next()?.parse().ok())
            .ok_or_else(|| BenchError::Unexpected("STAT told no number".into()))
    }

    async fn answer(&mut self, command: &'static str) -> Result<&[u8], BenchError> {
        let line = self.wire.line().await?;
        line.strip_prefix(b"+OK")
            .ok_or_else(|| BenchError::refused(command, line))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BenchCommand;
    use crate::args::tests::parse;
    use crate::wire::tests::scripted;

    fn args(target: &str) -> Pop3Args {
        let line = ["pop3", "retr-dele", target, "-c1", "-u1", "-t5", "--quiet"];
        match parse(line) {
            BenchCommand::Pop3(args) => args,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_maildrop_is_read_and_emptied() {
        let target = scripted(&[
            b"+OK ready\r\n",
            b"+OK\r\n",
            b"+OK in\r\n",
            b"+OK 2 30\r\n",
            b"+OK\r\n1 a\r\n2 b\r\n.\r\n",
            b"+OK\r\nx\r\n\r\n.\r\n",
            b"+OK gone\r\n",
            b"+OK\r\n.\r\n",
            b"+OK gone\r\n",
            b"+OK bye\r\n",
        ])
        .await;
        let report = run(args(&target)).await.unwrap();
        assert_eq!((report.messages, report.bytes, report.failed), (2, 5, 0));
    }

    #[tokio::test]
    async fn a_refused_password_is_a_failure_told_by_command() {
        let target = scripted(&[b"+OK ready\r\n", b"+OK\r\n", b"-ERR no\r\n"]).await;
        let report = run(args(&target)).await.unwrap();
        assert_eq!(report.failed, 1);
        assert!(report.errors.contains_key("PASS was answered: -ERR no"));
    }
}
