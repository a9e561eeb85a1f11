//! A relay that is killed again and again under load.

use std::time::{Duration, Instant};

use crate::common::eventually;
use crate::reckoning::reckon;
use crate::world::World;
use nightmail_bench::Fate;

const KILLS: u64 = 15;
/// Where the loop ends on a machine that is too slow for all of them.
const TIME_MAX: Duration = Duration::from_secs(40);
const KILLS_MIN: u64 = 5;
/// Copies that may be under way when the server is killed: those of all connections, and those whose outcome is being
/// recorded.
const UNDER_WAY_MAX: usize = 1_000;

#[test]
fn a_relay_that_is_killed_loses_nothing_and_repeats_only_what_was_under_way() {
    let mut world = World::new(&[], 1);
    let began = Instant::now();
    let mut kills = 0;
    while kills < KILLS && began.elapsed() < TIME_MAX {
        world.site.start();
        let before = world.kept.len();
        let load = [
            "-c8".to_owned(),
            "-n1000000".to_owned(),
            "-t60".to_owned(),
            format!("--first={}", kills * 1_000_000),
        ];
        let sending = world.send(&load);
        let wanted = before + 100 + (kills * 397 % 1_600) as usize;
        eventually("mail goes out", || {
            (world.kept.len() >= wanted).then_some(())
        });
        world.site.kill();
        world.kept.next_epoch();
        sending.abort();
        kills += 1;
    }
    assert!(kills >= KILLS_MIN, "only {kills} kills in {TIME_MAX:?}");
    world.site.start();
    world.settle(Duration::from_secs(60));
    let reckoning = reckon(&world);
    println!(
        "{kills} kills, {} messages accepted, {reckoning:?}",
        world.offered.count(Fate::Accepted)
    );
    assert_eq!(reckoning.bounced, 0);
    assert!(reckoning.furthest < UNDER_WAY_MAX, "{reckoning:?}");
    world.site.stop();
}
