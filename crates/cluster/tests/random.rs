//! Nodes that come, pause, are cut off, leave and crash at random, while all of them work under their leases.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::sync::Arc;
use std::time::Duration;

use nightmail_cluster::{LeaseName, Leases};
use nightmail_engine::{Durability, Engine, MemoryEngine, Value};
use support::{Gate, Node, eventually, get, row, share_all};
use tokio::task::JoinHandle;
use tokio::time::sleep;

const SLOTS: usize = 4;
const STEPS: usize = 60;

/// A small generator (SplitMix64): a seed is all that is needed to run a schedule again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (bits ^ (bits >> 31)) % limit
    }

    fn millis(&mut self, limit: u64) -> Duration {
        Duration::from_millis(self.below(limit))
    }
}

/// A node and somebody who works under its leases.
struct Busy {
    node: Node,
    worker: JoinHandle<()>,
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.worker.abort();
    }
}

async fn start(engine: &Arc<MemoryEngine>, slot: usize, life: u64) -> Busy {
    let node = Node::start(engine, &format!("node{slot}")).await;
    let work = work(
        node.cluster.engine(),
        node.cluster.leases().clone(),
        Arc::clone(engine),
        life,
    );
    let worker = tokio::spawn(work);
    Busy { node, worker }
}

/// Takes a lease in use, thinks for a while, and commits under it. Whoever was first under an epoch owns it.
async fn work(commits: Arc<dyn Engine>, leases: Leases, engine: Arc<MemoryEngine>, life: u64) {
    let mut dice = Dice(life);
    loop {
        let names: Vec<LeaseName> = LeaseName::all().collect();
        let name = names[dice.below(names.len() as u64) as usize];
        let Some(hold) = leases.hold(name) else {
            sleep(dice.millis(300)).await;
            continue;
        };
        let guard = hold.guard().clone();
        let epoch = guard.epoch().unwrap().get();
        // Some think so long that they are overtaken; some give the lease up while they still think.
        let hold = (dice.below(2) == 0).then_some(hold);
        let owner = format!("{name} {epoch}");
        let seen = get(engine.as_ref(), &owner).await;
        let thinking = if dice.below(4) == 0 { 20_000 } else { 500 };
        sleep(dice.millis(thinking)).await;
        let mut batch = nightmail_engine::Batch::new();
        guard.check(&mut batch);
        batch.put(row(&owner), Value::from(life.to_string()));
        if commits.commit(batch, Durability::Synced).await.is_ok() {
            let seen = seen.unwrap_or_else(|| life.to_string());
            assert_eq!(seen, life.to_string(), "two worked under {owner}");
            assert_eq!(
                get(engine.as_ref(), &owner).await.unwrap(),
                life.to_string()
            );
            let newest = get(engine.as_ref(), &name.to_string()).await;
            let newest: u64 = newest.map_or(0, |text| text.parse().unwrap());
            assert!(newest <= epoch, "{owner} after {newest}");
            let done = support::put(&name.to_string(), &epoch.to_string());
            engine.commit(done, Durability::Synced).await.unwrap();
        }
        drop(hold);
    }
}

async fn schedule(seed: u64) {
    let mut dice = Dice(seed);
    let engine = Arc::new(MemoryEngine::new());
    let mut slots: Vec<Option<Busy>> = (0..SLOTS).map(|_| None).collect();
    let mut lives = seed << 32;
    for _ in 0..STEPS {
        sleep(dice.millis(8_000)).await;
        let slot = dice.below(SLOTS as u64) as usize;
        match (&slots[slot], dice.below(8)) {
            (None, _) => {
                lives += 1;
                slots[slot] = Some(start(&engine, slot, lives).await);
            }
            (Some(busy), _) if busy.worker.is_finished() => break,
            // A machine restarts under its name while the old process may be paused.
            (Some(_), 0) => {
                lives += 1;
                let new = start(&engine, slot, lives).await;
                let old = slots[slot].replace(new);
                tokio::spawn(async move {
                    sleep(Duration::from_secs(30)).await;
                    drop(old);
                });
            }
            (Some(_), 1) => slots[slot] = None,
            (Some(busy), 2) if busy.node.way.gate() == Gate::Open => {
                busy.node.cluster.leave().await.unwrap();
                slots[slot] = None;
            }
            (Some(busy), 3 | 4) => busy.node.way.set(Gate::Held),
            (Some(busy), 5) => busy.node.way.set(Gate::Broken),
            (Some(busy), _) => busy.node.way.set(Gate::Open),
        }
    }
    let left: Vec<&Busy> = slots.iter().flatten().collect();
    for busy in &left {
        busy.node.way.set(Gate::Open);
    }
    let nodes: Vec<&Node> = left.iter().map(|busy| &busy.node).collect();
    if !nodes.is_empty() {
        eventually("every lease is held", || share_all(&nodes)).await;
    }
    for busy in left {
        assert!(
            !busy.worker.is_finished(),
            "seed {seed}: a worker found a fault"
        );
    }
}

#[test]
fn whatever_happens_no_epoch_has_two_workers_and_every_lease_is_held_in_the_end() {
    for seed in 1..=60 {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(schedule(seed));
    }
}
