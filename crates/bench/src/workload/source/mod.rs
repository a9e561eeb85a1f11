//! A client that sends messages for other sites, each to recipients of its own; or one that does wrong what it is told
//! to, and keeps account of what it was promised.

mod faults;
mod ledger;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clap::Args;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::smtp_client::{Outcome, SmtpClient};
use crate::args::LoadArgs;
use crate::corpus::{Corpus, Rng};
use crate::error::BenchError;
use crate::odds::{Chance, Fault as _, Odds};
use crate::population::Population;
use crate::procfs::Watch;
use crate::report::Report;
use crate::run::{Done, Patience, Run};
use crate::wire::Endpoint;

pub use faults::SourceFault;
pub use ledger::{Fate, Offered, SourceLedger};

/// How to send mail for other sites.
#[derive(Debug, Clone, Args)]
pub struct SourceArgs {
    /// Host and port of the server.
    #[arg(value_name = "HOST:PORT")]
    pub target: String,
    /// How much.
    #[command(flatten)]
    pub load: LoadArgs,
    /// To whom.
    #[command(flatten)]
    pub population: Population,
    /// The reverse-path.
    #[arg(long, default_value = "bench@sender.example.org")]
    pub sender: String,
    /// Messages a connection carries before it is closed and opened anew; 0 is no limit.
    #[arg(long, default_value_t = 500)]
    pub messages_per_connection: u64,
    /// Something that goes wrong, and how often: mail, rcpt, cut, unheard, rset, drip or half, with odds between 0 and 1
    /// for each message (repeatable).
    #[arg(long = "fault", value_name = "KIND=ODDS")]
    pub faults: Vec<Chance<SourceFault>>,
    /// Milliseconds between the octets of `drip`.
    #[arg(long, default_value_t = 2)]
    pub drip_millis: u64,
    /// Write what became of each message to this file at the end.
    #[arg(long, value_name = "FILE")]
    pub ledger: Option<PathBuf>,
}

/// A source, before it sends.
pub struct Source {
    shared: Arc<Shared>,
    watch: Watch,
}

/// What the connections share.
struct Shared {
    args: SourceArgs,
    endpoint: Endpoint,
    corpus: Corpus,
    run: Arc<Run>,
    odds: Odds<SourceFault>,
    ledger: Option<Arc<SourceLedger>>,
    /// Recipients that the server is responsible for.
    copies: AtomicU64,
    made: Mutex<BTreeMap<&'static str, u64>>,
}

/// Sends until count or time is used up.
pub async fn run(args: SourceArgs) -> Result<Report, BenchError> {
    let ledger = args.ledger.is_some().then(Arc::default);
    Source::new(args, ledger).await?.send().await
}

impl Source {
    /// Resolves the server's name, and starts the clock.
    pub async fn new(
        args: SourceArgs,
        ledger: Option<Arc<SourceLedger>>,
    ) -> Result<Self, BenchError> {
        let watch = Watch::start(&args.load.server_pid)?;
        let shared = Arc::new(Shared {
            endpoint: Endpoint::resolve(&args.target, args.load.tls).await?,
            corpus: Corpus::new(args.load.seed),
            odds: Odds::new(&args.faults)?,
            run: Run::start("source".to_owned(), args.load.count, args.load.seconds),
            ledger,
            copies: AtomicU64::new(0),
            made: Mutex::default(),
            args,
        });
        Ok(Self { shared, watch })
    }

    /// Recipients of messages that were answered with 250, from now on.
    pub(crate) fn copies(&self) -> impl Fn() -> u64 + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.copies.load(Ordering::Relaxed)
    }

    /// When the first message began, once it is asked for afterwards.
    pub(crate) fn began(&self) -> impl Fn() -> Instant + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.run.began()
    }

    /// Sends until count or time is used up. An operation is one message.
    pub async fn send(self) -> Result<Report, BenchError> {
        let Self { shared, watch } = self;
        let mut tasks = JoinSet::new();
        for index in 0..shared.args.load.connections {
            tasks.spawn(connection(Arc::clone(&shared), u64::from(index)));
        }
        shared.run.finish(tasks, shared.args.load.quiet).await;
        if let Some((ledger, file)) = shared.ledger.as_ref().zip(shared.args.ledger.as_ref()) {
            ledger.write(file)?;
        }
        let mut report = shared.run.report(&shared.args.target, &shared.args.load);
        report.faults = shared.made.lock().clone();
        Ok(report.with_servers(watch.finish()?))
    }
}

async fn connection(shared: Arc<Shared>, index: u64) {
    let run = &shared.run;
    let mut patience = Patience::default();
    let mut sender = Sender {
        rng: Rng::new(shared.args.load.seed ^ (index << 32)),
        shared: &shared,
        message: Vec::new(),
    };
    while run.open() && patience.lasts(run, sender.session().await).await {}
}

/// One of the connections, which is opened anew as often as it ends.
struct Sender<'a> {
    shared: &'a Shared,
    rng: Rng,
    message: Vec<u8>,
}

impl Sender<'_> {
    async fn session(&mut self) -> Result<(), BenchError> {
        let shared = self.shared;
        let mut client = SmtpClient::open(&shared.endpoint, false).await?;
        let limit = match shared.args.messages_per_connection {
            0 => u64::MAX,
            limit => limit,
        };
        for _ in 0..limit {
            let Some(number) = shared.run.claim() else {
                break;
            };
            let population = &shared.args.population;
            let to = population.recipients(shared.args.load.seed, number);
            let fault = shared.odds.draw(&mut self.rng);
            if let Some(fault) = fault {
                *shared.made.lock().entry(fault.name()).or_default() += 1;
            }
            if !self.send(&mut client, number, to, fault).await? {
                return Ok(());
            }
        }
        client.quit().await
    }

    /// Sends message `number`; whether the connection goes on.
    async fn send(
        &mut self,
        client: &mut SmtpClient,
        number: u64,
        to: Vec<String>,
        fault: Option<SourceFault>,
    ) -> Result<bool, BenchError> {
        let shared = self.shared;
        let began = Instant::now();
        let opened = self.open(client, &to, fault).await;
        let (mut outcome, ready) = match opened {
            Ok(Some(opened)) => opened,
            Ok(None) => {
                shared.note(Fate::Broken, to);
                return Ok(false);
            }
            Err(error) => {
                shared.note(Fate::Broken, to);
                return Err(error);
            }
        };
        if !ready || !outcome.accepted.contains(&true) {
            shared.refused(outcome.code, to);
            // A server that has said 354 to nobody's message waits for it.
            return Ok(!ready);
        }
        let first = to.first().map_or("", String::as_str);
        let (corpus, sender) = (&shared.corpus, &shared.args.sender);
        corpus.write_message(number, sender, first, &mut self.message);
        let bytes = self.message.len() as u64;
        self.message.extend_from_slice(b".\r\n");
        if fault == Some(SourceFault::Cut) {
            let half = self.message.len() / 2;
            let _ = client
                .wire()
                .send(self.message.get(..half).unwrap_or_default())
                .await;
            shared.note(Fate::Broken, to);
            return Ok(false);
        }
        let answered = self.finish(client, &mut outcome, fault).await;
        let to = taken(to, &outcome);
        match answered {
            Ok(true) if outcome.accepted.contains(&true) => {
                shared.run.replied(250);
                shared.accepted(
                    Done {
                        began,
                        messages: 1,
                        bytes,
                    },
                    to,
                );
            }
            Ok(true) => shared.refused(outcome.code, to),
            Ok(false) => shared.note(Fate::Unknown, to),
            Err(error) => {
                shared.note(Fate::Unknown, to);
                return Err(error);
            }
        }
        Ok(fault != Some(SourceFault::Unheard))
    }

    /// The commands before the message; `None` where a fault ended them.
    async fn open(
        &self,
        client: &mut SmtpClient,
        to: &[String],
        fault: Option<SourceFault>,
    ) -> Result<Option<(Outcome, bool)>, BenchError> {
        let sender = &self.shared.args.sender;
        let mail = format!("MAIL FROM:<{sender}>");
        let rcpt = to.first().map_or("", String::as_str);
        match fault {
            Some(SourceFault::Mail) => {
                client.say(&mail).await?;
                return Ok(None);
            }
            Some(SourceFault::Rcpt) => {
                client.say(&mail).await?;
                client.say(&format!("RCPT TO:<{rcpt}>")).await?;
                return Ok(None);
            }
            Some(SourceFault::Half) => {
                client.say(&mail).await?;
                client.wire().send(b"RCPT TO:<unfini").await?;
                return Ok(None);
            }
            Some(SourceFault::Rset) => {
                client.say(&mail).await?;
                client.say(&format!("RCPT TO:<{rcpt}>")).await?;
                client.reset().await?;
            }
            Some(SourceFault::Drip) => {
                let pace = Duration::from_millis(self.shared.args.drip_millis);
                client.wire().dawdle(Some(pace));
            }
            Some(SourceFault::Cut | SourceFault::Unheard) | None => {}
        }
        let opened = client.envelope(sender, to).await;
        client.wire().dawdle(None);
        opened.map(Some)
    }

    /// Sends the message; whether its answer was waited for.
    async fn finish(
        &self,
        client: &mut SmtpClient,
        outcome: &mut Outcome,
        fault: Option<SourceFault>,
    ) -> Result<bool, BenchError> {
        client.wire().send(&self.message).await?;
        if fault == Some(SourceFault::Unheard) {
            return Ok(false);
        }
        client.take_answers(outcome).await?;
        Ok(true)
    }
}

/// The recipients that the server has taken, or all where it took none.
fn taken(to: Vec<String>, outcome: &Outcome) -> Vec<String> {
    if !outcome.accepted.contains(&true) {
        return to;
    }
    let both = to.into_iter().zip(&outcome.accepted);
    both.filter(|(_, taken)| **taken)
        .map(|(to, _)| to)
        .collect()
}

impl Shared {
    fn note(&self, fate: Fate, recipients: Vec<String>) {
        if let Some(ledger) = &self.ledger {
            ledger.note(fate, recipients);
        }
    }

    fn accepted(&self, done: Done, recipients: Vec<String>) {
        self.copies
            .fetch_add(recipients.len() as u64, Ordering::Relaxed);
        self.run.done(done);
        self.note(Fate::Accepted, recipients);
    }

    fn refused(&self, code: u16, recipients: Vec<String>) {
        self.run.replied(code);
        self.run.refused();
        self.note(Fate::Refused, recipients);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::args::BenchCommand;
    use crate::args::tests::parse;
    use crate::workload::sink::{Sink, SinkArgs, SinkLedger};

    fn sink_args(more: &[&str]) -> SinkArgs {
        let line = [
            "sink",
            "--listen=127.0.0.1:0",
            "--quiet",
            "--stall-seconds=0.05",
            "--drip-millis=1",
        ];
        let BenchCommand::Sink(args) = parse(line.iter().chain(more).copied()) else {
            panic!("not a sink");
        };
        args
    }

    fn source_args(target: &str, more: &[&str]) -> SourceArgs {
        let line = ["source", target, "--quiet", "-t60", "--drip-millis=1"];
        let BenchCommand::Source(args) = parse(line.iter().chain(more).copied()) else {
            panic!("not a source");
        };
        args
    }

    /// Sends straight to a sink; what both noted.
    async fn exchange(
        sink: &[&str],
        source: &[&str],
    ) -> (Arc<SinkLedger>, Arc<SourceLedger>, Report) {
        let kept = Arc::new(SinkLedger::default());
        let sink = Sink::with_ledger(sink_args(sink), Some(Arc::clone(&kept)))
            .await
            .unwrap();
        let args = source_args(&sink.address().to_string(), source);
        let serving = tokio::spawn(sink.serve());
        let offered = Arc::new(SourceLedger::default());
        let source = Source::new(args, Some(Arc::clone(&offered))).await.unwrap();
        let report = source.send().await.unwrap();
        serving.abort();
        (kept, offered, report)
    }

    #[tokio::test]
    async fn ledgers_agree_where_nothing_goes_wrong() {
        let load = ["-c4", "-n200", "--recipients=3", "--domains=10"];
        let (kept, offered, report) = exchange(&[], &load).await;
        assert_eq!((report.messages, report.failed), (200, 0));
        let kept: BTreeSet<String> = kept
            .kept()
            .iter()
            .map(|kept| kept.recipient.to_string())
            .collect();
        let offered = offered.offered();
        assert!(offered.iter().all(|offered| offered.fate == Fate::Accepted));
        let sent: BTreeSet<String> = offered
            .into_iter()
            .flat_map(|offered| offered.recipients)
            .collect();
        assert_eq!(kept, sent);
    }

    #[tokio::test]
    async fn faults_of_both_sides_leave_nothing_unaccounted_for() {
        let sink: Vec<String> = SinkFaultNames::all()
            .map(|name| format!("--fault={name}=0.04"))
            .collect();
        let source: Vec<String> = SourceFault::ALL
            .iter()
            .map(|fault| format!("--fault={}=0.05", fault.name()))
            .collect();
        let mut load = vec![
            "-c8",
            "-n600",
            "--recipients=3",
            "--messages-per-connection=20",
        ];
        load.extend(source.iter().map(String::as_str));
        let sink: Vec<&str> = sink.iter().map(String::as_str).collect();
        let (kept, offered, report) = exchange(&sink, &load).await;
        assert_eq!(
            report.faults.len(),
            SourceFault::ALL.len(),
            "{:?}",
            report.faults
        );
        let mut copies: BTreeMap<String, usize> = BTreeMap::new();
        for kept in kept.kept() {
            *copies.entry(kept.recipient.to_string()).or_default() += 1;
        }
        let answered: BTreeSet<String> = kept
            .kept()
            .into_iter()
            .filter(|kept| kept.answered)
            .map(|kept| kept.recipient.to_string())
            .collect();
        for offered in offered.offered() {
            for to in &offered.recipients {
                let count = copies.get(to).copied().unwrap_or(0);
                match offered.fate {
                    Fate::Accepted => assert_eq!((count, answered.contains(to)), (1, true), "{to}"),
                    Fate::Unknown => assert!(count <= 1, "{to}"),
                    Fate::Refused | Fate::Broken => assert_eq!(count, 0, "{to}"),
                }
            }
        }
        for fate in [Fate::Accepted, Fate::Unknown, Fate::Refused, Fate::Broken] {
            assert!(offered.count(fate) > 0, "{fate:?}");
        }
    }

    /// The names of all faults of a sink that strike without TLS.
    struct SinkFaultNames;

    impl SinkFaultNames {
        fn all() -> impl Iterator<Item = &'static str> {
            use crate::workload::sink::SinkFault;
            let plain = SinkFault::ALL
                .iter()
                .filter(|fault| **fault != SinkFault::Tls);
            plain.map(|fault| fault.name())
        }
    }
}
