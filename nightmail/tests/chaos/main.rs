//! A site under load while things go wrong: whatever was promised to a client is kept.
//!
//! `NIGHTMAIL_CHAOS_SEED` repeats the choices of a run, `NIGHTMAIL_CHAOS_MINUTES` makes it last longer; what
//! happens in between them is up to the machine.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod faults;
mod ledger;
mod readers;
mod reckoning;
mod rng;
mod senders;
mod world;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use common::cluster::{ClusterSite, Plan};
use common::dns::NameServer;
use common::sink::Sink;
use common::site::own_addresses;

use faults::Faults;
use ledger::MAILBOXES;
use world::{World, login};

const USERS: usize = 5;
const LOCAL_SENDERS: usize = 4;
const REMOTE_SENDERS: usize = 2;
const APPENDERS: usize = 2;
const WATCHERS: usize = 2;
/// How long things go wrong, unless the environment says otherwise.
const CLUSTER_TIME: Duration = Duration::from_secs(40);
const MACHINE_TIME: Duration = Duration::from_secs(15);
/// Packs that are older and that nobody refers to must be gone.
const PACK_AGE_MAX: Duration = Duration::from_secs(22 * 60);
/// Broken promises that are shown.
const SHOWN_MAX: usize = 40;

#[test]
fn a_cluster_in_chaos_keeps_every_promise() {
    let seed = seed();
    let plan = Plan {
        nodes: 3,
        replica: true,
        garage: seed.is_multiple_of(2),
        nats: seed % 4 < 2,
        ..plan()
    };
    run("cluster", plan, seed, CLUSTER_TIME);
}

#[test]
fn one_machine_in_chaos_keeps_every_promise() {
    let plan = Plan {
        nodes: 1,
        shared: false,
        ..plan()
    };
    run("one machine", plan, seed(), MACHINE_TIME);
}

fn plan() -> Plan {
    Plan {
        reclaim_grace: "20s",
        users: (0..USERS).map(login).collect(),
        ..Plan::default()
    }
}

/// The seed that the environment names, else any.
fn seed() -> u64 {
    let named = std::env::var("NIGHTMAIL_CHAOS_SEED").ok();
    let any = || {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_millis() as u64
            % 1_000_000
    };
    named.map_or_else(any, |seed| seed.parse().unwrap())
}

fn time(short: Duration) -> Duration {
    let named = std::env::var("NIGHTMAIL_CHAOS_MINUTES").ok();
    named.map_or(short, |minutes| {
        Duration::from_secs_f64(60.0 * minutes.parse::<f64>().unwrap())
    })
}

fn run(what: &str, plan: Plan, seed: u64, short: Duration) {
    println!("chaos: {what}, NIGHTMAIL_CHAOS_SEED={seed}");
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let dns = NameServer::start();
    dns.mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let plan = Plan {
        settings: format!(
            "[delivery]\nport = {port}\nretry_waits = [\"1s\"]\n{}",
            dns.setting()
        ),
        ..plan
    };
    let Some(mut cluster) = ClusterSite::start(plan) else {
        return;
    };
    make_mailboxes(&cluster);
    let world = World::new(&cluster, seed, USERS);
    let summary = under_load(&mut cluster, &world, &sink, time(short));
    println!("{summary}");
    reckoning::await_quiet(&mut cluster);
    let broken = reckoning::reckon(&cluster, &world, &sink);
    let shown = &broken[..broken.len().min(SHOWN_MAX)];
    assert!(
        broken.is_empty(),
        "NIGHTMAIL_CHAOS_SEED={seed}: {} promises broken:\n{}\n{summary}",
        broken.len(),
        shown.join("\n")
    );
    println!(
        "{} deliveries to the other site came more than once",
        reckoning::repeated(&sink)
    );
    cluster.check();
    leave_nothing(&mut cluster);
    for node in &cluster.nodes {
        let log = node.log();
        let bug = log.lines().find(|line| line.contains("panicked at"));
        assert_eq!(bug, None, "on {}", node.name);
    }
    cluster.stop();
}

fn make_mailboxes(cluster: &ClusterSite) {
    for user in 0..USERS {
        let mut imap = cluster.nodes[0].imap(&login(user), "INBOX");
        for mailbox in &MAILBOXES[1..] {
            imap.say(&format!("CREATE \"{mailbox}\"")).unwrap().ok();
        }
    }
}

/// Runs all clients while things go wrong; what happened, in words.
fn under_load(cluster: &mut ClusterSite, world: &World, sink: &Sink, time: Duration) -> String {
    std::thread::scope(|scope| {
        for number in 0..LOCAL_SENDERS {
            scope.spawn(move || senders::local(world, number));
        }
        for number in 0..REMOTE_SENDERS {
            scope.spawn(move || senders::remote(world, number));
        }
        for number in 0..APPENDERS {
            scope.spawn(move || senders::append(world, number));
        }
        for user in 0..USERS {
            scope.spawn(move || readers::keep(world, user));
        }
        for number in 0..WATCHERS {
            scope.spawn(move || readers::watch(world, number));
        }
        let _stopping = StopAtEnd(world);
        let mut faults = Faults::new(cluster, world, sink);
        faults.run(time);
        world.stop();
        let made = faults
            .made
            .iter()
            .map(|(fault, times)| format!("{fault} {times}"));
        let made = made.collect::<Vec<_>>().join(", ");
        let mut ledger = world.ledger.lock().unwrap();
        ledger.measure_gap();
        format!(
            "faults: {made}\nmessages and changes: {:?}\nlongest time without an accepted message: {:.1} s\n\
             refusals: {:#?}\n{}",
            ledger.tally,
            ledger.longest_gap.as_secs_f64(),
            ledger.refusals,
            faults.diary.join("\n")
        )
    })
}

/// Lets the clients end also where making faults fails, so that the test does.
struct StopAtEnd<'a>(&'a World);

impl Drop for StopAtEnd<'_> {
    fn drop(&mut self) {
        self.0.stop();
    }
}

/// When all messages are removed, no bytes of them are left.
fn leave_nothing(cluster: &mut ClusterSite) {
    reckoning::remove_all(cluster, USERS);
    cluster.stop();
    cluster.set_reclaim_grace("0s");
    for node in &mut cluster.nodes {
        node.start();
    }
    // One run condemns, the next one deletes, and what that leaves in packs goes with a third.
    let node = &cluster.nodes[0];
    for _ in 0..3 {
        println!("reclaimed: {}", node.admin(&["reclaim"]));
    }
    cluster.check();
    let checked = node.admin(&["check"]);
    assert_eq!(checked["blobs"], 0, "{checked}");
    let status = node.admin(&["status"]);
    println!(
        "left: {} files of {} bytes",
        status["segments"], status["segment_bytes"]
    );
    let kept = cluster.packs();
    println!(
        "left in packs: {} of {} bytes",
        kept.len(),
        kept.iter().map(|pack| pack.bytes).sum::<u64>()
    );
    // What was written lately may be on its way into the database, so that no grace period makes packs go sooner.
    let old = kept.iter().find(|pack| pack.age > PACK_AGE_MAX);
    assert!(old.is_none(), "a pack that nobody refers to: {old:?}");
}
