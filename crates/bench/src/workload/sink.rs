//! A server that accepts every message and forgets it, for loads that are relayed.
//!
//! Owns no mail: it counts messages and bytes. It may be told to defer a share of the recipients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use crate::args::{LoadArgs, TlsMode, UserTemplate};
use crate::corpus::Rng;
use crate::error::BenchError;
use crate::report::Report;
use crate::run::{Done, Run};
use crate::wire::Wire;

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 4_096;
/// How long open connections may go on when time or count is used up.
const LAST_WORDS: Duration = Duration::from_secs(1);
const GREETING: &[u8] = b"220 sink.example.org ESMTP\r\n";
const EHLO: &[u8] =
    b"250-sink.example.org\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n";

/// How to sink mail.
#[derive(Debug, Clone, Args)]
pub struct SinkArgs {
    /// Address and port to listen on.
    #[arg(long, default_value = "127.0.0.1:2600")]
    pub listen: String,
    /// Seconds to serve.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub seconds: u64,
    /// End after this many messages; 0 is no limit.
    #[arg(long, default_value_t = 0)]
    pub count: u64,
    /// Of 100 recipients, how many are put off with 451.
    #[arg(long, default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=100))]
    pub defer_percent: u64,
    /// Seed of the choice of recipients that are put off.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    /// Show no progress on standard error.
    #[arg(long)]
    pub quiet: bool,
}

/// A sink that listens.
pub struct Sink {
    args: SinkArgs,
    listener: TcpListener,
    address: SocketAddr,
}

/// Listens and serves.
pub async fn run(args: SinkArgs) -> Result<Report, BenchError> {
    Sink::bind(args).await?.serve().await
}

impl Sink {
    /// Takes the port.
    pub async fn bind(args: SinkArgs) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Listen {
            address: args.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&args.listen).await.map_err(failed)?;
        let address = listener.local_addr()?;
        Ok(Self {
            args,
            listener,
            address,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts mail until time or count is used up. An operation is one message, from DATA to its answer.
    pub async fn serve(self) -> Result<Report, BenchError> {
        let limit = match self.args.count {
            0 => u64::MAX,
            count => count,
        };
        let run = Run::start("sink".to_owned(), limit, self.args.seconds);
        let load = self.load();
        let target = self.address.to_string();
        let quiet = self.args.quiet;
        let mut tasks = JoinSet::new();
        tasks.spawn(self.accept(Arc::clone(&run)));
        run.finish(tasks, quiet).await;
        Ok(run.report(&target, &load))
    }

    async fn accept(self, run: Arc<Run>) {
        let full = Arc::new(Notify::new());
        let mut sessions = JoinSet::new();
        let mut index = self.args.seed;
        while run.open() {
            let room = sessions.len() < CONNECTIONS_MAX;
            tokio::select! {
                accepted = self.listener.accept(), if room => {
                    let Ok((stream, _)) = accepted else { continue };
                    index = index.wrapping_add(1);
                    let mut session = Session::new(stream, Arc::clone(&run), Arc::clone(&full));
                    session.rng = Rng::new(index);
                    session.defer_percent = self.args.defer_percent;
                    sessions.spawn(session.serve());
                }
                _ = sessions.join_next(), if !sessions.is_empty() => {}
                () = full.notified() => {}
                () = run.ended() => {}
            }
        }
        let last = async { while sessions.join_next().await.is_some() {} };
        // Whoever has not said QUIT by then is cut off.
        let _ = timeout(LAST_WORDS, last).await;
    }

    /// What the report says of the load: the sink does not choose it.
    fn load(&self) -> LoadArgs {
        LoadArgs {
            connections: 0,
            count: self.args.count,
            seconds: self.args.seconds,
            users: 0,
            user_template: UserTemplate::default(),
            tls: TlsMode::None,
            seed: self.args.seed,
            server_pid: Vec::new(),
            json: self.args.json,
            quiet: self.args.quiet,
        }
    }
}

/// One connection.
struct Session {
    wire: Wire,
    run: Arc<Run>,
    /// Told when the count is reached.
    full: Arc<Notify>,
    rng: Rng,
    defer_percent: u64,
    lmtp: bool,
    recipients: usize,
    replies: Vec<u8>,
}

impl Session {
    fn new(stream: TcpStream, run: Arc<Run>, full: Arc<Notify>) -> Self {
        // Without it replies may only come later.
        let _ = stream.set_nodelay(true);
        Self {
            wire: Wire::plain(stream),
            run,
            full,
            rng: Rng::new(0),
            defer_percent: 0,
            lmtp: false,
            recipients: 0,
            replies: GREETING.to_vec(),
        }
    }

    async fn serve(mut self) {
        if let Err(error) = self.converse().await
            && !matches!(error, BenchError::Closed)
        {
            self.run.failed(&error);
        }
    }

    /// Answers commands; answers to pipelined commands leave in one write.
    async fn converse(&mut self) -> Result<(), BenchError> {
        loop {
            if !self.wire.has_line() {
                self.wire.send(&self.replies).await?;
                self.replies.clear();
            }
            let line = self.wire.line().await?;
            let verb = line.get(..4).unwrap_or(line).to_ascii_uppercase();
            match verb.as_slice() {
                b"DATA" if self.recipients > 0 => self.data().await?,
                b"QUIT" => {
                    self.replies.extend_from_slice(b"221 2.0.0 Bye\r\n");
                    return self.wire.send(&self.replies).await;
                }
                verb => self.simple(verb),
            }
        }
    }

    fn simple(&mut self, verb: &[u8]) {
        let reply: &[u8] = match verb {
            b"EHLO" | b"LHLO" => {
                self.lmtp = verb == b"LHLO";
                EHLO
            }
            b"RCPT" if self.rng.below(100) < self.defer_percent => b"451 4.3.0 Later\r\n",
            b"RCPT" => {
                self.recipients += 1;
                b"250 2.1.5 Ok\r\n"
            }
            b"MAIL" | b"RSET" => {
                self.recipients = 0;
                b"250 2.1.0 Ok\r\n"
            }
            b"HELO" | b"NOOP" => b"250 2.0.0 Ok\r\n",
            b"DATA" => b"503 5.5.1 No recipient\r\n",
            _ => b"502 5.5.1 Not here\r\n",
        };
        self.replies.extend_from_slice(reply);
    }

    async fn data(&mut self) -> Result<(), BenchError> {
        let began = Instant::now();
        self.replies.extend_from_slice(b"354 Go on\r\n");
        self.wire.send(&self.replies).await?;
        self.replies.clear();
        let bytes = self.wire.skip_text().await?;
        let answers = if self.lmtp { self.recipients } else { 1 };
        for _ in 0..answers {
            self.replies.extend_from_slice(b"250 2.0.0 Ok\r\n");
        }
        self.recipients = 0;
        // The count is only a mark at which to end: a message that comes after it is accepted too.
        let _ = self.run.claim();
        self.run.done(Done {
            began,
            messages: 1,
            bytes,
        });
        self.run.replied(250);
        if !self.run.open() {
            self.full.notify_one();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::BenchCommand;
    use crate::args::tests::parse;

    async fn relay(sink: &[&str], load: &[&str]) -> (Report, Report) {
        let line = ["sink", "--listen", "127.0.0.1:0", "--quiet"];
        let BenchCommand::Sink(args) = parse(line.iter().chain(sink).copied()) else {
            panic!("not a sink");
        };
        let sink = Sink::bind(args).await.unwrap();
        let target = sink.address().to_string();
        let line = ["smtp", &target, "--quiet", "-t20"];
        let command = parse(line.iter().chain(load).copied());
        let serve = tokio::spawn(sink.serve());
        let sent = crate::run(command).await.unwrap();
        (sent, serve.await.unwrap().unwrap())
    }

    #[tokio::test]
    async fn every_message_sent_is_counted_with_its_bytes() {
        let (sent, sunk) = relay(&["--count=300"], &["-c8", "-n300"]).await;
        assert_eq!((sent.messages, sent.failed), (300, 0));
        assert_eq!(sent.messages, sunk.messages);
        assert_eq!(sent.bytes, sunk.bytes);
        assert_eq!(sent.replies.get(&250), Some(&300));
        assert_eq!(
            sent.latency.max_ms.max(sent.latency.p50_ms),
            sent.latency.max_ms
        );
    }

    #[tokio::test]
    async fn connections_are_opened_anew_when_that_is_asked_for() {
        let load = ["-c2", "-n50", "--messages-per-connection=5"];
        let (sent, sunk) = relay(&["--count=50"], &load).await;
        assert_eq!((sent.messages, sunk.messages, sent.failed), (50, 50, 0));
    }

    #[tokio::test]
    async fn lmtp_has_an_answer_for_each_recipient() {
        let load = ["-c2", "-n20", "--lmtp", "--recipients=3"];
        let (sent, sunk) = relay(&["--count=20"], &load).await;
        assert_eq!((sent.messages, sunk.messages, sent.failed), (20, 20, 0));
    }

    #[tokio::test]
    async fn deferred_recipients_are_told_by_reply_code() {
        let sink = ["--seconds=2", "--defer-percent=50"];
        let (sent, sunk) = relay(&sink, &["-c1", "-n40"]).await;
        assert_eq!(sent.messages, sunk.messages);
        assert_eq!(sent.messages + sent.failed, 40);
        assert_eq!(sent.replies.get(&451), Some(&sent.failed));
        assert!(sent.failed > 0 && sent.messages > 0);
    }
}
