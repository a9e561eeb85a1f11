//! Rates: how much one key may do in a window of time.
//!
//! Time is counted in slots, twelve to a window, and the slots that a window can touch are summed. So no window, wherever
//! it begins, holds more than its limit; what is spent comes back at the latest a slot after its window has ended.
//!
//! Keys are bounded in number: those least used go first, and a key that goes has spent nothing when it comes back.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::unsync::Cache;
use thiserror::Error;

/// Slots in a window.
const SLOTS: usize = 12;
/// Parts of the table, each under a lock of its own.
const SHARDS: usize = 16;

/// How long it takes until what was asked for can be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Error)]
#[error("too much; again in {} s", .0.as_secs().max(1))]
pub struct Wait(pub Duration);

/// What a key has spent, by slot. One slot more than a window has: the one it begins in counts whole.
#[derive(Clone, Copy, Default)]
struct Spent {
    /// The number of the newest slot.
    slot: u64,
    /// The newest slot's sum first.
    sums: [u32; SLOTS + 1],
}

impl Spent {
    /// Moves on to slot `now`; a clock that went back changes nothing.
    fn advance(&mut self, now: u64) {
        let Some(passed) = now.checked_sub(self.slot) else {
            return;
        };
        let passed = usize::try_from(passed).map_or(self.sums.len(), |p| p.min(self.sums.len()));
        self.sums.rotate_right(passed);
        self.sums.iter_mut().take(passed).for_each(|sum| *sum = 0);
        self.slot = now;
    }

    fn total(&self) -> u32 {
        let sums = self.sums.iter();
        sums.fold(0, |total: u32, sum| total.saturating_add(*sum))
    }

    fn add(&mut self, cost: u32) {
        if let Some(newest) = self.sums.first_mut() {
            *newest = newest.saturating_add(cost);
        }
    }

    /// Slots from the newest one until `needed` of what was spent has come back; `None` when never.
    fn slots_until(&self, needed: u32) -> Option<u64> {
        let mut back = 0u32;
        for (age, sum) in self.sums.iter().enumerate().rev() {
            back = back.saturating_add(*sum);
            if back >= needed {
                return u64::try_from(self.sums.len() - age).ok();
            }
        }
        None
    }
}

/// Counters by key. Never waits and has no task of its own.
pub struct Rates<K> {
    begin: Instant,
    hasher: RandomState,
    shards: Vec<Mutex<Cache<K, Spent>>>,
}

impl<K: Hash + Eq + Clone> Rates<K> {
    /// Counters for at most `keys_max` keys, rounded up to a multiple of 16.
    pub fn new(keys_max: usize) -> Self {
        let each = keys_max.div_ceil(SHARDS).max(1);
        Self {
            begin: Instant::now(),
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(Cache::new(each))).collect(),
        }
    }

    /// Spends `cost` of the `limit` that `key` has in each `window`, or says how long until it could. What is refused is
    /// not counted. A limit of 0 is none. A key keeps to one window.
    pub fn take(
        &self,
        key: &K,
        cost: u32,
        limit: u32,
        window: Duration,
        now: Instant,
    ) -> Result<(), Wait> {
        if limit == 0 {
            return Ok(());
        }
        let slot_length = slot_length(window);
        let Some(shard) = self.shard(key) else {
            return Ok(());
        };
        let mut shard = shard.lock();
        let mut spent = shard.get(key).copied().unwrap_or_default();
        spent.advance(self.slot(slot_length, now));
        let total = spent.total();
        let result = match total.checked_add(cost).is_some_and(|sum| sum <= limit) {
            true => {
                spent.add(cost);
                Ok(())
            }
            false => {
                let over = total.saturating_add(cost).saturating_sub(limit);
                let end = spent.slots_until(over).map(|slots| {
                    let slot = spent.slot.saturating_add(slots);
                    let end = slot_length.saturating_mul(u32::try_from(slot).unwrap_or(u32::MAX));
                    end.saturating_sub(now.saturating_duration_since(self.begin))
                });
                // What is more than a whole window allows is never to be had; a window is as good an answer as any.
                Err(Wait(end.unwrap_or(window)))
            }
        };
        match shard.get_mut(key) {
            Some(mut known) => *known = spent,
            None => shard.insert(key.clone(), spent),
        }
        result
    }

    /// What `key` has spent of its window.
    pub fn spent(&self, key: &K, window: Duration, now: Instant) -> u32 {
        let Some(shard) = self.shard(key) else {
            return 0;
        };
        let known = shard.lock().get(key).copied();
        known.map_or(0, |mut spent| {
            spent.advance(self.slot(slot_length(window), now));
            spent.total()
        })
    }

    /// Whether `key` has nothing left. A limit of 0 is never spent.
    pub fn is_spent(&self, key: &K, limit: u32, window: Duration, now: Instant) -> bool {
        limit > 0 && self.spent(key, window, now) >= limit
    }

    /// Keys that are remembered now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn shard(&self, key: &K) -> Option<&Mutex<Cache<K, Spent>>> {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default();
        self.shards.get(hash % SHARDS)
    }

    fn slot(&self, slot_length: Duration, now: Instant) -> u64 {
        let passed = now.saturating_duration_since(self.begin).as_nanos();
        u64::try_from(passed / slot_length.as_nanos().max(1)).unwrap_or(u64::MAX)
    }
}

fn slot_length(window: Duration) -> Duration {
    const PARTS: u32 = SLOTS as u32;
    (window / PARTS).max(Duration::from_nanos(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const WINDOW: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_spent_comes_back_after_the_wait_that_was_told() {
        let rates = Rates::new(100);
        let begin = rates.begin;
        for _ in 0..3 {
            rates.take(&1, 1, 3, WINDOW, begin).unwrap();
        }
        assert!(rates.is_spent(&1, 3, WINDOW, begin));
        let wait = rates.take(&1, 1, 3, WINDOW, begin).unwrap_err().0;
        assert!(wait >= WINDOW && wait <= WINDOW + WINDOW / 12 + WINDOW / 12);
        let before = begin + wait - Duration::from_millis(1);
        assert!(rates.take(&1, 1, 3, WINDOW, before).is_err());
        assert_eq!(rates.take(&1, 3, 3, WINDOW, begin + wait), Ok(()));
        assert_eq!(rates.take(&2, 1, 3, WINDOW, begin), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_is_none_and_more_than_a_window_allows_is_never_had() {
        let rates = Rates::new(100);
        let now = rates.begin;
        assert_eq!(rates.take(&1, u32::MAX, 0, WINDOW, now), Ok(()));
        assert!(!rates.is_spent(&1, 0, WINDOW, now));
        assert_eq!(rates.take(&1, 4, 3, WINDOW, now), Err(Wait(WINDOW)));
        assert_eq!(rates.spent(&1, WINDOW, now), 0);
    }

    #[test]
    fn keys_are_bounded_and_one_in_use_outlives_those_that_come_once() {
        let rates = Rates::new(160);
        let now = rates.begin;
        rates.take(&u32::MAX, 5, 5, WINDOW, now).unwrap();
        for key in 0..100_000 {
            let _ = rates.take(&key, 1, 5, WINDOW, now);
            assert!(rates.take(&u32::MAX, 1, 5, WINDOW, now).is_err(), "{key}");
        }
        assert!(rates.len() <= 160, "{}", rates.len());
    }

    proptest! {
        #[test]
        fn no_window_holds_more_than_its_limit(
            limit in 1u32..20,
            steps in proptest::collection::vec((0u64..20_000, 1u32..5), 1..300),
        ) {
            let rates = Rates::new(10);
            let mut now = rates.begin;
            let mut taken: Vec<(Instant, u32)> = Vec::new();
            for (millis, cost) in steps {
                now += Duration::from_millis(millis);
                if rates.take(&(), cost, limit, WINDOW, now).is_ok() {
                    taken.push((now, cost));
                }
                let since = |at: &Instant| now.duration_since(*at) < WINDOW;
                let sum: u32 = taken.iter().filter(|(at, _)| since(at)).map(|(_, cost)| cost).sum();
                prop_assert!(sum <= limit);
            }
        }

        #[test]
        fn whoever_waits_as_told_gets_it(
            limit in 1u32..20,
            steps in proptest::collection::vec(0u64..20_000, 1..100),
        ) {
            let rates = Rates::new(10);
            let mut now = rates.begin;
            for millis in steps {
                now += Duration::from_millis(millis);
                if let Err(Wait(wait)) = rates.take(&(), 1, limit, WINDOW, now) {
                    prop_assert!(wait <= WINDOW + WINDOW / 6);
                    now += wait;
                    prop_assert_eq!(rates.take(&(), 1, limit, WINDOW, now), Ok(()));
                }
            }
        }
    }
}
