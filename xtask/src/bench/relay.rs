//! What is relayed: in by SMTP, durable, out by SMTP to a sink that takes everything. Through one smarthost, as the peer
//! does it; to many domains; and while a thousand destinations never answer.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;

use nightmail_testbed::dns::NameServer;

use super::load::{Client, Figures, Scale, figure};
use super::nightmail::start_with;
use super::subject::{Subject, wait_for};
use crate::error::TaskError;

/// Messages relayed a second, from the first in to the last out.
pub(super) const RELAY: &str = "relay to a smarthost, 64 connections, messages/s";
pub(super) const RELAY_DOMAINS: &str = "relay to 1,000 domains, 64 connections, messages/s";
/// Messages relayed a second while destinations never answer, for each one when there are none.
pub(super) const HOLES: &str = "relay beside 1,000 black holes, times that without";

/// Where what is relayed goes: not one of the server's own addresses, to which it sends no mail.
pub(super) const SINK: SocketAddr = SocketAddr::new(IpAddr::V4(HOST), PORT);
pub(super) const HOST: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
const PORT: u16 = 13_600;
/// The first address that never answers.
const FIRST_HOLE: Ipv4Addr = Ipv4Addr::new(127, 9, 0, 1);
const HOLE_COUNT: u32 = 1_000;
const DOMAINS: u32 = 1_000;
/// Messages for each destination that never answers.
const MESSAGES_PER_HOLE: u32 = 5;
/// Runs of which the best counts, as what else the machine does only ever slows a run.
const RUNS: usize = 2;

/// The names that loads send from are in no DNS, and whoever comes from this machine may relay.
pub(super) const OPEN: &str = r#"
[receiving]
trusted = ["127.0.0.0/8"]
early_talker = "off"
sender_domain = "off"
reverse_dns = "off"

[authentication]
spf = "off"
dkim = false
dmarc = "off"
arc = false
"#;

/// Measures Nightmail.
pub(super) fn measure(
    program: &Path,
    client: &Client,
    scale: &Scale,
) -> Result<Figures, TaskError> {
    let mut figures = Figures::new();
    println!("relay");
    let settings = format!("{OPEN}\n[smarthost]\naddress = \"{SINK}\"\ntls = \"none\"\n");
    let subject = start_with(program, 0, &settings)?;
    figures.insert(RELAY, relayed(client, &subject, scale)?);
    drop(subject);

    println!("relay to many domains");
    let names = names();
    let settings = format!(
        "{OPEN}\n[delivery]\nport = {PORT}\ndns_servers = [\"{}\"]\n",
        names.address()
    );
    let subject = start_with(program, 0, &settings)?;
    let to_domains = format!("--domains={DOMAINS} --spread=zipf");
    let alone = best(client, &subject, scale, &to_domains)?;
    figures.insert(RELAY_DOMAINS, alone);

    println!("relay beside black holes");
    let _holes = client.spawn(&format!(
        "hole --listen {FIRST_HOLE}:{PORT} --count {HOLE_COUNT} --seconds 3600"
    ))?;
    wait_for(&format!("{FIRST_HOLE}:{PORT}"))?;
    let into_holes = format!(
        "source {{smtp}} -c16 -n{} -t120 --domains={HOLE_COUNT} --suffix=hole.test --seed=2",
        HOLE_COUNT * MESSAGES_PER_HOLE
    );
    client.run(&subject, scale, &into_holes)?;
    let beside = best(client, &subject, scale, &format!("{to_domains} --seed=3"))?;
    figures.insert(HOLES, beside / alone);
    Ok(figures)
}

/// Messages a second through a server that hands everything to the sink; all must come out.
pub(super) fn relayed(client: &Client, subject: &Subject, scale: &Scale) -> Result<f64, TaskError> {
    best(client, subject, scale, "")
}

fn best(client: &Client, subject: &Subject, scale: &Scale, more: &str) -> Result<f64, TaskError> {
    let mut best: f64 = 0.0;
    for _ in 0..RUNS {
        best = best.max(once(client, subject, scale, more)?);
    }
    Ok(best)
}

fn once(client: &Client, subject: &Subject, scale: &Scale, more: &str) -> Result<f64, TaskError> {
    let load = format!("relay {{smtp}} --listen {SINK} -c64 -n{{count}} -t180 {more}");
    let report = client.run(subject, scale, &load)?;
    let value = |pointer: &str| figure(&report, pointer).unwrap_or(0.0);
    let (sent, arrived) = (value("/delivered/expected"), value("/delivered/arrived"));
    if sent < f64::from(scale.count) || arrived < sent {
        let what = format!(
            "of {} messages {sent} went in and {arrived} came out",
            scale.count
        );
        return Err(TaskError::Found(what));
    }
    let out = value("/delivered/per_second");
    println!(
        "    {:.1} in, {out:.1} in and out",
        value("/messages_per_second")
    );
    Ok(out)
}

/// A name server for domains that the sink serves, and for ones that nobody does.
fn names() -> NameServer {
    let names = NameServer::start();
    names.keep_for(3600, 3600);
    names.a("mx.far.test", HOST);
    for number in 1..=DOMAINS {
        names.mx(&format!("d{number:05}.far.test"), 10, "mx.far.test");
    }
    for number in 1..=HOLE_COUNT {
        let host = format!("mx{number:05}.hole.test");
        names.a(&host, Ipv4Addr::from(u32::from(FIRST_HOLE) + number - 1));
        names.mx(&format!("d{number:05}.hole.test"), 10, &host);
    }
    names
}
