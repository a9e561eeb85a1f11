//! The hosts that mail is for, who sends it, and the server in between.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Parser;
use nightmail_bench::{BenchCommand, Sink, SinkArgs, SinkLedger, Source, SourceArgs, SourceLedger};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::common::dns::NameServer;
use crate::common::site::own_addresses;
use crate::common::{Service, Site};

/// Hosts that take mail, each with a quarter of the domains.
const HOSTS: u8 = 4;
/// Domains that mail is for.
pub const DOMAINS: u32 = 40;
/// The names that loads send from are in no DNS.
const UNCHECKED: &str = "[receiving]\nearly_talker = \"off\"\nsender_domain = \"off\"\nreverse_dns = \"off\"\n\
                         tarpit_step = \"0s\"\ntrusted = [\"127.0.0.0/8\"]\n";

/// Everything. The server is not started yet.
pub struct World {
    pub site: Site,
    /// What all hosts have kept.
    pub kept: Arc<SinkLedger>,
    /// What the source was told.
    pub offered: Arc<SourceLedger>,
    pub runtime: Runtime,
    _dns: NameServer,
}

#[derive(Parser)]
struct Line {
    #[command(subcommand)]
    command: BenchCommand,
}

fn parse(words: &[String]) -> BenchCommand {
    let line = std::iter::once("bench").chain(words.iter().map(String::as_str));
    Line::try_parse_from(line).unwrap().command
}

impl World {
    /// Hosts that do wrong what `faults` say, as the command line names them.
    pub fn new(faults: &[String], seed: u64) -> Self {
        let (first, port) = own_addresses();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let kept = Arc::new(SinkLedger::default());
        let dns = NameServer::start();
        for number in 0..HOSTS {
            let ip = neighbour(first, 1 + number);
            dns.host(&format!("mx{number}.far.test"), ip);
            let args = sink_args(ip, port, seed + u64::from(number), faults);
            let sink = Sink::with_ledger(args, Some(Arc::clone(&kept)));
            let sink = runtime.block_on(sink).unwrap();
            runtime.spawn(sink.serve());
        }
        // Nobody listens there.
        dns.host("down.far.test", neighbour(first, 1 + HOSTS));
        for domain in 1..=DOMAINS {
            let name = format!("d{domain:05}.far.test");
            let host = domain % u32::from(HOSTS);
            if host == 0 {
                dns.mx(&name, 5, "down.far.test");
            }
            dns.mx(&name, 10, &format!("mx{host}.far.test"));
        }
        let settings = format!(
            "{UNCHECKED}[delivery]\nport = {port}\nretry_waits = [\"1s\"]\n{}",
            dns.setting()
        );
        Self {
            site: Site::new(&settings),
            kept,
            offered: Arc::default(),
            runtime,
            _dns: dns,
        }
    }

    /// Begins to send messages of alice's as the command line says; ended early when the handle is told so.
    pub fn send(&self, more: &[String]) -> JoinHandle<nightmail_bench::Report> {
        let target = self.site.address(Service::Smtp).to_string();
        let mut words = vec![
            "source".to_owned(),
            target,
            "--quiet".to_owned(),
            "--sender=alice@example.test".to_owned(),
            format!("--domains={DOMAINS}"),
            "--recipients=4".to_owned(),
        ];
        words.extend_from_slice(more);
        let BenchCommand::Source(args) = parse(&words) else {
            panic!("not a source");
        };
        self.runtime.spawn(send(args, Arc::clone(&self.offered)))
    }

    /// Waits until nothing is queued any more.
    pub fn settle(&self, wait: Duration) {
        let began = Instant::now();
        loop {
            let listed = self.site.admin(&["queue", "list"]);
            let queued = listed["items"].as_array().unwrap();
            let Some(first) = queued.first() else {
                return;
            };
            assert!(
                began.elapsed() < wait,
                "{} messages are stuck, such as {first}",
                queued.len()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    }
}

async fn send(args: SourceArgs, ledger: Arc<SourceLedger>) -> nightmail_bench::Report {
    let source = Source::new(args, Some(ledger)).await.unwrap();
    source.send().await.unwrap()
}

fn sink_args(ip: Ipv4Addr, port: u16, seed: u64, faults: &[String]) -> SinkArgs {
    let mut words = vec![
        "sink".to_owned(),
        format!("--listen={ip}:{port}"),
        format!("--seed={seed}"),
        "--seconds=86400".to_owned(),
        "--quiet".to_owned(),
        "--starttls".to_owned(),
        "--stall-seconds=0.3".to_owned(),
        "--drip-millis=2".to_owned(),
    ];
    words.extend_from_slice(faults);
    match parse(&words) {
        BenchCommand::Sink(args) => args,
        _ => panic!("not a sink"),
    }
}

/// Another address of this test's own: the second octet of its first one tells nothing, as process numbers are short.
fn neighbour(ip: Ipv4Addr, number: u8) -> Ipv4Addr {
    let [a, b, c, d] = ip.octets();
    Ipv4Addr::new(a, b + number, c, d)
}
