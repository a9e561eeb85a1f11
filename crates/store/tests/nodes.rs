//! Several nodes over one store: sessions on each do what clients do, all at once, with reclaiming and compaction in
//! between; whatever happens, what clients were told stays true.
//!
//! One checker for every engine and heap. `NIGHTMAIL_SEED` repeats the choices of a run, `NIGHTMAIL_STEPS` sets how
//! many things each session does.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod nodes {
    pub mod ground;
    pub mod ledger;
    pub mod random;
    pub mod session;
    pub mod verdict;
    pub mod view;
    pub mod world;
}

use std::sync::Arc;

use nodes::ground::{Ground, NODES};
use nodes::random::{Random, number};
use nodes::session::Session;
use nodes::verdict::judge;
use nodes::world::World;

const SESSIONS_PER_NODE: usize = 6;

/// Runs the sessions over what `make` gives, and judges.
fn check(name: &str, steps: usize, make: impl AsyncFnOnce(&mut Random) -> Option<Ground>) {
    let seed = Random::seed();
    println!("{name}: NIGHTMAIL_SEED={seed}");
    let mut random = Random::new(seed);
    let steps = number("NIGHTMAIL_STEPS").map_or(steps, |steps| steps as usize);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let Some(ground) = make(&mut random).await else {
            return;
        };
        let world = Arc::new(World::new(ground).await);
        let sessions: Vec<_> = (0..SESSIONS_PER_NODE * NODES)
            .map(|place| Session::new(&world, place % NODES, random.fork()))
            .map(|session| tokio::spawn(session.run(steps)))
            .collect();
        let mut views = Vec::new();
        for session in sessions {
            views.extend(session.await.unwrap());
        }
        Box::pin(judge(&world, views)).await;
    });
}

#[test]
fn nodes_over_rows_in_memory_agree() {
    check("memory", 800, async |random| Some(Ground::memory(random)));
}

#[test]
fn nodes_over_packs_agree() {
    check("packs", 600, async |random| Some(Ground::packs(random)));
}

#[test]
fn what_fails_leaves_whole_changes_or_none() {
    check("failing", 600, async |random| Some(Ground::failing(random)));
}

#[test]
fn nodes_over_rows_on_disk_agree() {
    check("embedded", 200, async |_| Some(Ground::embedded()));
}

#[test]
fn nodes_over_postgres_agree() {
    check("PostgreSQL", 60, async |_| Ground::postgres().await);
}
