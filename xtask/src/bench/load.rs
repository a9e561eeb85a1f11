//! The loads, and the figures taken from their reports.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::subject::{Stop, Subject, succeed};
use crate::error::TaskError;

/// Users that the loads are spread over where there is a peer: so many does the peer have.
const USERS: u32 = 100;
/// Every user's password, at the peer too.
pub(super) const PASSWORD: &str = "pass";
/// Counters whose sum is the times something was brought to stable storage.
const SYNC_COUNTERS: [&str; 2] = ["nightmail_engine_syncs_total", "nightmail_heap_syncs_total"];
const METRICS_WAIT: Duration = Duration::from_secs(5);

/// The name of user `number`, as the load program writes it by default.
pub(super) fn user(number: u32) -> String {
    format!("u{number:04}@example.test")
}

/// Figures by the name of their measure.
pub(super) type Figures = BTreeMap<&'static str, f64>;

/// A load that both servers get.
pub(super) struct Measure {
    pub(super) name: &'static str,
    /// What the load program is told; `{smtp}`, `{imap}`, `{pop3}`, `{count}` and `{seconds}` are filled in.
    arguments: &'static str,
    /// Where in the report the figure is.
    figure: &'static str,
    /// How many times the best peer's figure is wanted.
    pub(super) target: f64,
}

/// In the order they are run: what is read later has been sent before.
pub(super) const MEASURES: [Measure; 7] = [
    Measure {
        name: "SMTP, accepted and delivered, 64 connections, messages/s",
        arguments: "smtp {smtp} -c64 -n{count} -t180 --wait-delivered {imap}",
        figure: "/delivered/per_second",
        target: 15.0,
    },
    Measure {
        name: "IMAP LOGIN, SELECT, LOGOUT, sessions/s",
        arguments: "imap login {imap} -c16 -n1000000 -t{seconds}",
        figure: "/operations_per_second",
        target: 6.0,
    },
    Measure {
        name: "IMAP FETCH one by one, messages/s",
        arguments: "imap fetch {imap} -c16 -n10000000 -t{seconds}",
        figure: "/messages_per_second",
        target: 1.5,
    },
    Measure {
        name: "IMAP FETCH all at once, messages/s",
        arguments: "imap fetch-all {imap} -c16 -n10000000 -t{seconds}",
        figure: "/messages_per_second",
        target: 1.0,
    },
    Measure {
        name: "IMAP STORE, messages/s",
        arguments: "imap store {imap} -c16 -n10000000 -t{seconds}",
        figure: "/operations_per_second",
        target: 2.0,
    },
    Measure {
        name: "IMAP APPEND, messages/s",
        arguments: "imap append {imap} -c16 -n10000000 -t{seconds}",
        figure: "/messages_per_second",
        target: 2.0,
    },
    Measure {
        name: "POP3 RETR and DELE, messages/s",
        arguments: "pop3 retr-dele {pop3} -c16 -n10000000 -t{seconds}",
        figure: "/messages_per_second",
        target: 2.0,
    },
];

/// Deliveries by a node that shares its store, compared with the peer's.
pub(super) const SHARED: &str = "SMTP through PostgreSQL, 64 connections, messages/s";
pub(super) const ROUND_TRIPS: &str = "SQL round trips for each message delivered";
pub(super) const TWO_NODES: &str =
    "two nodes against one, 64 connections each, PostgreSQL 6 ms away";
/// The measure that [`SHARED`] is compared with.
pub(super) const DELIVERIES: &Measure = {
    let [deliveries, ..] = &MEASURES;
    deliveries
};
const ROUND_TRIP_COUNTER: &str = "nightmail_postgres_round_trips_total";

/// Messages a second with every check on, for each one with none.
pub(super) const CHECKS: &str = "SMTP with every check on, times that with none";
/// A careful sender's latency while 5,000 clients dawdle, and without them: their ratio.
pub(super) const DAWDLERS: &str = "latency of a sender among 5,000 slow ones, times that alone";

pub(super) const RSS: &str = "memory after many messages, MB";
pub(super) const IDLE: &str = "memory of an idle IMAP connection, KB";
pub(super) const WRITTEN: &str = "bytes written for each byte accepted";
pub(super) const SYNCS: &str = "syncs for each message";

/// How much load.
pub(super) struct Scale {
    /// Users that the loads are spread over.
    pub(super) users: u32,
    /// Messages sent to both servers.
    pub(super) count: u32,
    /// Seconds of each other load.
    seconds: u32,
    /// Messages sent to Nightmail alone.
    many: u32,
    /// Idle connections.
    idle: u32,
    /// Messages that wait in a large queue, and in a small one.
    pub(super) deferred: [u32; 2],
    /// Seconds for which an idle server is watched.
    pub(super) watch: u32,
}

impl Scale {
    /// The same load over other users.
    pub(super) fn over(&self, users: u32) -> Self {
        Self { users, ..*self }
    }

    pub(super) fn new(quick: bool) -> Self {
        match quick {
            true => Self {
                users: USERS,
                count: 3_000,
                seconds: 2,
                many: 10_000,
                idle: 500,
                deferred: [100_000, 10_000],
                watch: 10,
            },
            false => Self {
                users: USERS,
                count: 20_000,
                seconds: 8,
                many: 100_000,
                idle: 2_000,
                deferred: [1_000_000, 10_000],
                watch: 30,
            },
        }
    }
}

/// The program that makes the load.
pub(super) struct Client {
    program: PathBuf,
    first: &'static [&'static str],
}

impl Client {
    pub(super) fn new(program: PathBuf, first: &'static [&'static str]) -> Self {
        Self { program, first }
    }

    /// Starts a part of the load program that is to go on beside others; it ends when dropped.
    pub(super) fn spawn(&self, arguments: &str) -> Result<Stop, TaskError> {
        println!("  {arguments}");
        let mut command = Command::new(&self.program);
        command.args(self.first).args(arguments.split_whitespace());
        let child = command.spawn().map_err(|source| TaskError::Start {
            program: arguments.to_owned(),
            source,
        })?;
        Ok(Stop::Process(child))
    }

    /// Runs one load and reads its report.
    pub(super) fn run(
        &self,
        subject: &Subject,
        scale: &Scale,
        arguments: &str,
    ) -> Result<Value, TaskError> {
        let filled = arguments
            .replace("{smtp}", &subject.smtp)
            .replace("{imap}", &subject.imap)
            .replace("{pop3}", &subject.pop3)
            .replace("{count}", &scale.count.to_string())
            .replace("{many}", &scale.many.to_string())
            .replace("{idle}", &scale.idle.to_string())
            .replace("{seconds}", &scale.seconds.to_string());
        println!("  {filled}");
        let mut command = Command::new(&self.program);
        command.args(self.first).args(filled.split_whitespace());
        command
            .arg(format!("-u{}", scale.users))
            .args(["--json", "--quiet"]);
        if let Some(pid) = subject.pid {
            command.arg(format!("--server-pid={pid}"));
        }
        let output = succeed(&mut command, &filled)?;
        let report: Value =
            serde_json::from_slice(&output.stdout).map_err(|source| TaskError::Json {
                program: filled,
                source,
            })?;
        if let Some(failed) = report.get("failed").filter(|failed| **failed != 0) {
            println!(
                "    {failed} failed: {}",
                report.get("errors").unwrap_or(&Value::Null)
            );
        }
        Ok(report)
    }
}

/// A number in a report.
pub(super) fn figure(report: &Value, pointer: &str) -> Option<f64> {
    report.pointer(pointer)?.as_f64()
}

/// Every load that is compared, run once.
pub(super) fn compared(
    client: &Client,
    subject: &Subject,
    scale: &Scale,
) -> Result<Figures, TaskError> {
    let mut figures = Figures::new();
    for measure in &MEASURES {
        let report = client.run(subject, scale, measure.arguments)?;
        if let Some(value) = figure(&report, measure.figure) {
            println!("    {value:.1}");
            figures.insert(measure.name, value);
        }
    }
    Ok(figures)
}

/// What has a bound of its own: memory, writing, syncs.
pub(super) fn alone(
    client: &Client,
    subject: &Subject,
    scale: &Scale,
) -> Result<Figures, TaskError> {
    let mut figures = Figures::new();
    if subject.pid.is_none() {
        println!("memory and writing skipped: the server's process is not known");
        return Ok(figures);
    }
    let syncs_before = syncs(subject);
    let sent = client.run(subject, scale, "smtp {smtp} -c64 -n{many} -t600")?;
    let sync_growth = syncs(subject)
        .zip(syncs_before)
        .map(|(after, before)| after - before);
    let messages = figure(&sent, "/messages").unwrap_or(0.0);
    let per_message = sync_growth.map(|growth| growth / messages.max(1.0));
    let rss = figure(&sent, "/servers/0/after/rss_bytes").map(|bytes| bytes / 1e6);
    let written = figure(&sent, "/written_per_byte");
    let idle = client.run(subject, scale, "imap idle {imap} -c{idle} -t5")?;
    let idle = figure(&idle, "/idle/rss_bytes_per_connection").map(|bytes| bytes / 1e3);
    let dawdlers = dawdlers(client, subject, scale)?;
    for (name, value) in [
        (DAWDLERS, dawdlers),
        (RSS, rss),
        (WRITTEN, written),
        (SYNCS, per_message),
        (IDLE, idle),
    ] {
        match value {
            Some(value) => {
                figures.insert(name, value);
            }
            None => println!("{name}: skipped, the server does not tell"),
        }
    }
    Ok(figures)
}

/// What slow clients cost a good one.
pub(super) fn dawdlers(
    client: &Client,
    subject: &Subject,
    scale: &Scale,
) -> Result<Option<f64>, TaskError> {
    let latency = |more: &str| -> Result<Option<f64>, TaskError> {
        let arguments = format!("smtp {{smtp}} -c4 -n1000000 -t{{seconds}} {more}");
        let report = client.run(subject, scale, &arguments)?;
        Ok(figure(&report, "/latency/p50_ms"))
    };
    let alone = latency("")?;
    let among = latency("--slow-connections=5000")?;
    Ok(among.zip(alone).map(|(among, alone)| among / alone))
}

/// What a load of deliveries came to.
pub(super) struct Delivered {
    pub(super) messages: f64,
    pub(super) per_second: f64,
}

/// The load of deliveries: 64 connections to each of the nodes, the messages spread over them.
pub(super) fn deliveries(
    client: &Client,
    nodes: &[Subject],
    scale: &Scale,
) -> Result<Delivered, TaskError> {
    let count = scale.count as usize / nodes.len().max(1);
    let arguments = format!("smtp {{smtp}} -c64 -n{count} -t180");
    let began = Instant::now();
    let reports: Vec<Value> = std::thread::scope(|scope| {
        let runs: Vec<_> = nodes
            .iter()
            .map(|node| scope.spawn(|| client.run(node, scale, &arguments)))
            .collect();
        runs.into_iter()
            .filter_map(|run| run.join().ok())
            .collect::<Result<_, _>>()
    })?;
    let messages: f64 = reports
        .iter()
        .filter_map(|report| figure(report, "/messages"))
        .sum();
    let per_second = messages / began.elapsed().as_secs_f64();
    println!("    {per_second:.1} with {}", nodes.len());
    Ok(Delivered {
        messages,
        per_second,
    })
}

/// Deliveries of signed messages to one server, all of which must be taken.
pub(super) fn signed(
    client: &Client,
    subject: &Subject,
    scale: &Scale,
    sign: &str,
) -> Result<Delivered, TaskError> {
    let report = client.run(
        subject,
        scale,
        &format!("smtp {{smtp}} -c64 -n{{count}} -t180 {sign}"),
    )?;
    let value = |pointer: &str| figure(&report, pointer).unwrap_or(0.0);
    if value("/failed") > 0.0 {
        return Err(TaskError::Found(format!("messages were refused: {report}")));
    }
    println!("    {:.1}", value("/messages_per_second"));
    Ok(Delivered {
        messages: value("/messages"),
        per_second: value("/messages_per_second"),
    })
}

/// How often the server has brought something to stable storage, if it tells.
fn syncs(subject: &Subject) -> Option<f64> {
    counted(subject, &SYNC_COUNTERS)
}

/// How often the nodes have waited for an answer of the database, if they tell.
pub(super) fn round_trips(nodes: &[Subject]) -> Option<f64> {
    let counts = nodes
        .iter()
        .map(|node| counted(node, &[ROUND_TRIP_COUNTER]));
    counts.sum()
}

/// The sum of some counters.
pub(super) fn counted(subject: &Subject, counters: &[&str]) -> Option<f64> {
    let text = metrics(subject.metrics.as_deref()?)?;
    let values = text.lines().filter_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        counters
            .contains(&name)
            .then(|| value.parse::<f64>().ok())?
    });
    values.reduce(|sum, value| sum + value)
}

fn metrics(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(METRICS_WAIT)).ok()?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
