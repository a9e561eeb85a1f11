//! Faults on both sides of the relay.

use std::time::Duration;

use nightmail_bench::{Fate, Fault, SinkFault, SourceFault};

use crate::reckoning::reckon;
use crate::world::World;

/// Messages of the ordinary run.
const MESSAGES: u64 = 3_000;
/// How long everything may take to come to its end, beside a while for each message.
const SETTLE: Duration = Duration::from_secs(60);
const SETTLE_EACH: Duration = Duration::from_millis(5);

fn from_environment(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap())
}

fn odds<F: Fault>(of: f64) -> Vec<String> {
    let odds = |fault: &F| format!("--fault={}={of}", fault.name());
    F::ALL.iter().map(odds).collect()
}

#[test]
fn every_recipient_of_a_relay_among_faults_is_accounted_for() {
    let messages = from_environment("NIGHTMAIL_RELAY_MESSAGES").unwrap_or(MESSAGES);
    let seed =
        from_environment("NIGHTMAIL_RELAY_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("relay: NIGHTMAIL_RELAY_MESSAGES={messages} NIGHTMAIL_RELAY_SEED={seed}");
    let mut world = World::new(&odds::<SinkFault>(0.02), seed);
    world.site.start();
    let mut load = odds::<SourceFault>(0.02);
    load.extend([
        "-c16".to_owned(),
        "--drip-millis=1".to_owned(),
        format!("-n{messages}"),
        "-t3600".to_owned(),
        format!("--seed={seed}"),
    ]);
    let sending = world.send(&load);
    let report = world.runtime.block_on(sending).unwrap();
    assert_eq!(report.faults.len(), SourceFault::ALL.len(), "{report}");
    let each = SETTLE_EACH * u32::try_from(messages).unwrap();
    world.settle(SETTLE + each);
    let reckoning = reckon(&world);
    for fate in [Fate::Accepted, Fate::Unknown, Fate::Refused, Fate::Broken] {
        println!("{fate:?}: {} messages", world.offered.count(fate));
    }
    println!("{reckoning:?}");
    assert_eq!(reckoning.repeated_after_kill, 0);
    let accepted = world.offered.count(Fate::Accepted) as u64;
    assert!(
        accepted > messages / 2,
        "only {accepted} of {messages} accepted"
    );
    assert!(
        reckoning.bounced > 0 && reckoning.repeated > 0,
        "{reckoning:?}"
    );
    world.site.stop();
}
