//! The memory engine: for tests and simulation. It can lose power, fail, be slow and be full.
//!
//! It keeps two states: what is visible, and what a power loss leaves (the *durable* state). A sync makes the
//! second equal to the first; a power loss keeps of what was not synced the first few commits, whole and in
//! order, as many as a seed says.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::time::Duration;

use parking_lot::Mutex;

use crate::{
    Batch, BoxFuture, CommitError, Durability, Engine, EngineError, EngineStats, Key, KeyRange,
    Order, RowKey, Space, Value, Write,
};

#[cfg(test)]
mod tests;

/// An engine in memory.
#[derive(Default)]
pub struct MemoryEngine {
    state: Mutex<State>,
}

#[derive(Default, Clone)]
struct State {
    visible: Rows,
    durable: Rows,
    /// The writes of each commit since the last sync.
    unsynced: Vec<Vec<Write>>,
    stats: EngineStats,
    faults: Faults,
}

#[derive(Default, Clone)]
struct Rows {
    spaces: BTreeMap<Space, BTreeMap<Key, Value>>,
}

/// What is to go wrong.
#[derive(Default, Clone)]
struct Faults {
    /// Calls that fail without effect.
    fail_next: u64,
    /// Commits from now until the one that fails without effect, then none.
    fail_commit: Option<u64>,
    /// Commits from now until the one that takes effect and is answered with an error.
    hide_commit: Option<u64>,
    /// Syncs from now until the one at which power is lost.
    crash_sync: Option<u64>,
    crashed: bool,
    full: bool,
    delay: Option<Duration>,
}

impl MemoryEngine {
    /// An empty engine without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The next `calls` calls of any kind fail with [`EngineError::Unavailable`] and do nothing.
    pub fn fail_next(&self, calls: u64) {
        self.state.lock().faults.fail_next = calls;
    }

    /// The `nth` commit from now (1 is the next) fails and is not applied.
    pub fn fail_commit(&self, nth: u64) {
        self.state.lock().faults.fail_commit = Some(nth);
    }

    /// The `nth` commit from now (1 is the next) is applied, and synced if it asks for that, but answered with
    /// an error: the caller cannot know its outcome.
    pub fn fail_commit_after_applying(&self, nth: u64) {
        self.state.lock().faults.hide_commit = Some(nth);
    }

    /// While `full`, commits fail with [`EngineError::Full`].
    pub fn set_full(&self, full: bool) {
        self.state.lock().faults.full = full;
    }

    /// Every commit and sync takes this long (in the runtime's time).
    pub fn set_delay(&self, delay: Option<Duration>) {
        self.state.lock().faults.delay = delay;
    }

    /// Power is lost at the `nth` sync from now (1 is the next), before it takes effect.
    ///
    /// It and everything after it fails until [`MemoryEngine::restart`].
    pub fn crash_at_sync(&self, nth: u64) {
        self.state.lock().faults.crash_sync = Some(nth);
    }

    /// Power is lost now: everything fails until [`MemoryEngine::restart`].
    pub fn crash(&self) {
        self.state.lock().faults.crashed = true;
    }

    /// Whether power was lost and has not come back.
    pub fn is_crashed(&self) -> bool {
        self.state.lock().faults.crashed
    }

    /// Power comes back, and every fault is over. Of the commits that were not synced, the first few are there,
    /// as many as `seed` says.
    pub fn restart(&self, seed: u64) {
        let mut state = self.state.lock();
        let kept = state.after_power_loss(seed);
        *state = kept;
    }

    /// A new engine with the state that a power loss now would leave under `seed`; this one goes on.
    pub fn after_power_loss(&self, seed: u64) -> Self {
        Self {
            state: Mutex::new(self.state.lock().after_power_loss(seed)),
        }
    }

    /// Commits that a power loss now could take away.
    pub fn unsynced_commits(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    async fn delay(&self) {
        let delay = self.state.lock().faults.delay;
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
    }
}

impl State {
    fn after_power_loss(&self, seed: u64) -> Self {
        let mut rows = self.durable.clone();
        let choices = self.unsynced.len() as u64 + 1;
        let kept = scramble(seed) % choices;
        for writes in self.unsynced.iter().take(kept as usize) {
            rows.apply(writes);
        }
        Self {
            visible: rows.clone(),
            durable: rows,
            stats: self.stats,
            ..Self::default()
        }
    }

    fn enter(&mut self) -> Result<(), EngineError> {
        if self.faults.crashed {
            return Err(EngineError::Unavailable("power is lost".to_owned()));
        }
        if self.faults.fail_next > 0 {
            self.faults.fail_next -= 1;
            self.stats.failures += 1;
            return Err(EngineError::Unavailable("told to fail".to_owned()));
        }
        Ok(())
    }

    fn commit(&mut self, batch: Batch, durability: Durability) -> Result<(), CommitError> {
        self.enter()?;
        if self.faults.full {
            self.stats.failures += 1;
            return Err(EngineError::Full("told to be full".to_owned()).into());
        }
        if comes_now(&mut self.faults.fail_commit) {
            self.stats.failures += 1;
            return Err(EngineError::Io("told to fail".to_owned()).into());
        }
        let hidden = comes_now(&mut self.faults.hide_commit);
        self.apply(batch)?;
        if durability == Durability::Synced {
            self.sync()?;
        }
        if hidden {
            self.stats.failures += 1;
            return Err(EngineError::Io("told to hide the outcome".to_owned()).into());
        }
        self.stats.commits += 1;
        Ok(())
    }

    fn apply(&mut self, batch: Batch) -> Result<(), CommitError> {
        for check in &batch.checks {
            if self.visible.get(&check.key) != check.expected.as_ref() {
                self.stats.conflicts += 1;
                return Err(CommitError::Conflict {
                    key: check.key.clone(),
                });
            }
        }
        self.stats.bytes_written += batch.write_bytes();
        self.visible.apply(&batch.writes);
        if !batch.writes.is_empty() {
            self.unsynced.push(batch.writes);
        }
        Ok(())
    }

    fn sync(&mut self) -> Result<(), EngineError> {
        if comes_now(&mut self.faults.crash_sync) {
            self.faults.crashed = true;
            return Err(EngineError::Unavailable("power is lost".to_owned()));
        }
        for writes in std::mem::take(&mut self.unsynced) {
            self.durable.apply(&writes);
        }
        self.stats.syncs += 1;
        Ok(())
    }
}

impl Rows {
    fn get(&self, key: &RowKey) -> Option<&Value> {
        self.spaces.get(&key.space)?.get(&key.key)
    }

    fn apply(&mut self, writes: &[Write]) {
        for Write { key, value } in writes {
            let space = self.spaces.entry(key.space).or_default();
            match value {
                Some(value) => space.insert(key.key.clone(), value.clone()),
                None => space.remove(&key.key),
            };
        }
    }

    fn scan(&self, space: Space, range: KeyRange, order: Order, limit: usize) -> Vec<(Key, Value)> {
        let Some(rows) = self.spaces.get(&space).filter(|_| !range.is_empty()) else {
            return Vec::new();
        };
        let to = range.to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = rows.range((Bound::Included(range.from), to));
        let own = |(key, value): (&Key, &Value)| (key.clone(), value.clone());
        match order {
            Order::Ascending => rows.take(limit).map(own).collect(),
            Order::Descending => rows.rev().take(limit).map(own).collect(),
        }
    }
}

/// Counts down; whether the time has come.
fn comes_now(countdown: &mut Option<u64>) -> bool {
    let Some(left) = countdown.as_mut() else {
        return false;
    };
    *left = left.saturating_sub(1);
    let now = *left == 0;
    if now {
        *countdown = None;
    }
    now
}

/// The finalizer of SplitMix64, so that neighbouring seeds choose unlike states.
fn scramble(seed: u64) -> u64 {
    let mut bits = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Engine for MemoryEngine {
    fn get_many<'a>(
        &'a self,
        keys: &'a [RowKey],
    ) -> BoxFuture<'a, Result<Vec<Option<Value>>, EngineError>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            state.enter()?;
            let rows = &state.visible;
            Ok(keys.iter().map(|key| rows.get(key).cloned()).collect())
        })
    }

    fn scan<'a>(
        &'a self,
        space: Space,
        range: KeyRange,
        order: Order,
        limit: usize,
    ) -> BoxFuture<'a, Result<Vec<(Key, Value)>, EngineError>> {
        Box::pin(async move {
            let mut state = self.state.lock();
            state.enter()?;
            Ok(state.visible.scan(space, range, order, limit))
        })
    }

    fn commit<'a>(
        &'a self,
        batch: Batch,
        durability: Durability,
    ) -> BoxFuture<'a, Result<(), CommitError>> {
        Box::pin(async move {
            batch.check_sizes()?;
            self.delay().await;
            self.state.lock().commit(batch, durability)
        })
    }

    fn sync<'a>(&'a self) -> BoxFuture<'a, Result<(), EngineError>> {
        Box::pin(async move {
            self.delay().await;
            let mut state = self.state.lock();
            state.enter()?;
            state.sync()
        })
    }

    fn stats(&self) -> EngineStats {
        self.state.lock().stats
    }
}
