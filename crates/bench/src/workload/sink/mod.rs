//! A server that accepts every message and forgets it, for loads that are relayed; or one that does wrong what it is
//! told to, and keeps account of what it has taken.
//!
//! Owns no mail: it counts messages, bytes and copies.

mod faults;
mod ledger;
mod session;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::args::{LoadArgs, TlsMode, UserTemplate};
use crate::error::BenchError;
use crate::odds::{Chance, Fault as _, Odds};
use crate::report::Report;
use crate::run::{Done, Run};
use crate::tls;

pub use faults::SinkFault;
pub use ledger::{Kept, SinkLedger};
use session::Session;

/// Connections served at once; more wait.
const CONNECTIONS_MAX: usize = 4_096;
/// How long open connections may go on when time or count is used up.
const LAST_WORDS: Duration = Duration::from_secs(1);
const NAME: &str = "sink.example.org";

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
    /// Something that goes wrong, and how often: drop, stall, 4xx, 5xx, 421, half, drip, tls, cut, unheard or bye, with
    /// odds between 0 and 1 for each connection or message (repeatable).
    #[arg(long = "fault", value_name = "KIND=ODDS")]
    pub faults: Vec<Chance<SinkFault>>,
    /// Seed of everything that is left to chance.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Seconds that `stall` says nothing for.
    #[arg(long, default_value_t = 30.0)]
    pub stall_seconds: f64,
    /// Milliseconds between the octets of `drip`.
    #[arg(long, default_value_t = 20)]
    pub drip_millis: u64,
    /// Offer STARTTLS, with a certificate that nobody vouches for.
    #[arg(long)]
    pub starttls: bool,
    /// Do not offer CHUNKING.
    #[arg(long)]
    pub no_chunking: bool,
    /// Write what was kept, copy by copy, to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
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
    shared: Arc<Shared>,
}

/// What a sink has taken so far; it goes on counting while the sink serves.
#[derive(Clone)]
pub struct Taken(Arc<Shared>);

/// What the connections share.
struct Shared {
    run: Arc<Run>,
    /// Told when the count is reached.
    full: Notify,
    odds: Odds<SinkFault>,
    ledger: Option<Arc<SinkLedger>>,
    acceptor: Option<TlsAcceptor>,
    chunking: bool,
    stall: Duration,
    drip: Duration,
    defer_percent: u64,
    copies: AtomicU64,
    /// Told of every message.
    arrived: Notify,
    made: Mutex<BTreeMap<&'static str, u64>>,
}

/// Listens and serves.
pub async fn run(args: SinkArgs) -> Result<Report, BenchError> {
    Sink::bind(args).await?.serve().await
}

impl Sink {
    /// Takes the port, and starts the clock. Copies are accounted for where a ledger is wanted.
    pub async fn bind(args: SinkArgs) -> Result<Self, BenchError> {
        let ledger = args.ledger.is_some().then(Arc::default);
        Self::with_ledger(args, ledger).await
    }

    /// The same with a ledger of the caller's.
    pub async fn with_ledger(
        args: SinkArgs,
        ledger: Option<Arc<SinkLedger>>,
    ) -> Result<Self, BenchError> {
        let failed = |source| BenchError::Listen {
            address: args.listen.clone(),
            source,
        };
        let listener = TcpListener::bind(&args.listen).await.map_err(failed)?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(&args, ledger)?);
        Ok(Self {
            args,
            listener,
            address,
            shared,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it takes.
    pub fn taken(&self) -> Taken {
        Taken(Arc::clone(&self.shared))
    }

    /// Accepts mail until time or count is used up. An operation is one message, from DATA to its answer.
    pub async fn serve(self) -> Result<Report, BenchError> {
        let shared = Arc::clone(&self.shared);
        let load = self.load();
        let target = self.address.to_string();
        let (quiet, file) = (self.args.quiet, self.args.ledger.clone());
        let mut tasks = JoinSet::new();
        tasks.spawn(self.accept());
        shared.run.finish(tasks, quiet).await;
        if let Some((ledger, file)) = shared.ledger.as_ref().zip(file) {
            ledger.write(&file)?;
        }
        let mut report = shared.run.report(&target, &load);
        report.faults = shared.made.lock().clone();
        Ok(report)
    }

    async fn accept(self) {
        let shared = &self.shared;
        let mut sessions = JoinSet::new();
        let mut seed = self.args.seed.wrapping_mul(0x1_0000_0000);
        while shared.run.open() {
            let room = sessions.len() < CONNECTIONS_MAX;
            tokio::select! {
                accepted = self.listener.accept(), if room => {
                    let Ok((stream, _)) = accepted else { continue };
                    seed = seed.wrapping_add(1);
                    sessions.spawn(Session::new(stream, Arc::clone(shared), seed).serve());
                }
                _ = sessions.join_next(), if !sessions.is_empty() => {}
                () = shared.full.notified() => {}
                () = shared.run.ended() => {}
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

impl Taken {
    /// Copies taken and answered for: recipients of all messages.
    pub fn copies(&self) -> u64 {
        self.0.copies.load(Ordering::Relaxed)
    }

    /// Waits until so many copies have been taken.
    pub async fn wait_for(&self, copies: u64) {
        loop {
            let arrived = self.0.arrived.notified();
            if self.copies() >= copies {
                return;
            }
            arrived.await;
        }
    }
}

impl Shared {
    fn new(args: &SinkArgs, ledger: Option<Arc<SinkLedger>>) -> Result<Self, BenchError> {
        let limit = match args.count {
            0 => u64::MAX,
            count => count,
        };
        Ok(Self {
            run: Run::start("sink".to_owned(), limit, args.seconds),
            full: Notify::new(),
            odds: Odds::new(&args.faults)?,
            ledger,
            acceptor: args.starttls.then(|| tls::acceptor(NAME)).transpose()?,
            chunking: !args.no_chunking,
            stall: Duration::try_from_secs_f64(args.stall_seconds)
                .map_err(|error| BenchError::Usage(format!("--stall-seconds: {error}")))?,
            drip: Duration::from_millis(args.drip_millis),
            defer_percent: args.defer_percent,
            copies: AtomicU64::new(0),
            arrived: Notify::new(),
            made: Mutex::default(),
        })
    }

    /// The answer to EHLO.
    fn offer(&self, encrypted: bool) -> Vec<u8> {
        let mut offer = format!("250-{NAME}\r\n");
        if self.chunking {
            offer += "250-CHUNKING\r\n";
        }
        if self.acceptor.is_some() && !encrypted {
            offer += "250-STARTTLS\r\n";
        }
        offer += "250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n";
        offer.into_bytes()
    }

    /// Whether things may go wrong.
    fn faulty(&self) -> bool {
        self.ledger.is_some()
    }

    /// Counts a fault.
    fn struck(&self, fault: SinkFault) {
        *self.made.lock().entry(fault.name()).or_default() += 1;
    }

    /// Counts a message that was kept and answered.
    fn took(&self, copies: usize, done: Done) {
        self.copies.fetch_add(copies as u64, Ordering::Relaxed);
        self.arrived.notify_waiters();
        // The count is only a mark at which to end: a message that comes after it is accepted too.
        let _ = self.run.claim();
        self.run.done(done);
        self.run.replied(250);
        if !self.run.open() {
            self.full.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;
    use crate::args::BenchCommand;
    use crate::args::tests::parse;
    use crate::wire::Wire;

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
    async fn messages_in_pieces_are_counted_whole() {
        let ledger = Arc::new(SinkLedger::default());
        let line = ["sink", "--listen", "127.0.0.1:0", "--quiet"];
        let BenchCommand::Sink(args) = parse(line) else {
            panic!("not a sink");
        };
        let sink = Sink::with_ledger(args, Some(Arc::clone(&ledger))).await;
        let sink = sink.unwrap();
        let (address, taken) = (sink.address(), sink.taken());
        let serving = tokio::spawn(sink.serve());
        let mut wire = Wire::plain(TcpStream::connect(address).await.unwrap());
        let sent = b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<a@b> NOTIFY=NEVER\r\nBDAT 4\r\nab\r\nBDAT 0 LAST\r\nQUIT\r\n";
        wire.send(sent).await.unwrap();
        let mut last = Vec::new();
        while !last.starts_with(b"221") {
            last = wire.line().await.unwrap().to_vec();
            assert!(last.starts_with(b"2"), "{}", String::from_utf8_lossy(&last));
        }
        taken.wait_for(1).await;
        let kept = ledger.kept();
        assert_eq!(
            (&*kept[0].recipient, kept[0].answered, kept.len()),
            ("a@b", true, 1)
        );
        serving.abort();
    }

    #[tokio::test]
    async fn messages_come_over_tls_where_the_handshake_is_let_through() {
        let sink = ["--count=40", "--starttls", "--fault=tls=0.3"];
        let load = [
            "-c2",
            "-n1000",
            "--tls=starttls",
            "--messages-per-connection=5",
        ];
        let (sent, sunk) = relay(&sink, &load).await;
        assert!(sunk.messages >= 40 && sent.failed > 0);
        assert_eq!(sunk.faults.keys().copied().collect::<Vec<_>>(), ["tls"]);
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
