//! Token buckets by key.
//!
//! A bucket holds as many tokens as its rate has messages and is filled evenly in the rate's time. All that is kept of it
//! is when it will be full (the generic cell rate algorithm, ITU-T I.371), so a bucket that is full is the same as none.
//!
//! Keys are bounded in number: those least used go first, and a key that goes has a full bucket when it comes back.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hash};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use quick_cache::unsync::Cache;

use crate::settings::Rate;

/// Parts of the table, each under a lock of its own.
const SHARDS: usize = 16;

/// Token buckets by key. Never waits and has no task of its own.
pub struct Buckets<K> {
    hasher: RandomState,
    /// When each bucket will be full.
    shards: Vec<Mutex<Cache<K, Instant>>>,
}

impl<K: Hash + Eq + Clone> Buckets<K> {
    /// Buckets for at most `entries_max` keys, rounded up to a multiple of 16.
    pub fn new(entries_max: usize) -> Self {
        let each = entries_max.div_ceil(SHARDS).max(1);
        Self {
            hasher: RandomState::new(),
            shards: (0..SHARDS).map(|_| Mutex::new(Cache::new(each))).collect(),
        }
    }

    /// Takes `n` tokens from the bucket of `key`, or none and says how long until they are there. More than a whole bucket
    /// is taken from a full one, which then lacks the rest for longer. A key keeps to one rate; a rate of no messages or
    /// no time is no bound.
    pub fn take(&self, key: &K, rate: &Rate, n: u32, now: Instant) -> Result<(), Duration> {
        let Some((each, shard)) = self.bucket(key, rate) else {
            return Ok(());
        };
        let mut shard = shard.lock();
        let full_at = shard.get(key).copied().unwrap_or(now).max(now);
        let lacks = full_at.duration_since(now);
        let after = lacks.saturating_add(each.saturating_mul(n));
        if after > rate.per && !lacks.is_zero() {
            return Err(after.saturating_sub(rate.per).min(lacks));
        }
        set(&mut shard, key, now.checked_add(after).unwrap_or(full_at));
        Ok(())
    }

    /// Puts back `n` tokens that were taken and not used.
    pub fn give_back(&self, key: &K, rate: &Rate, n: u32) {
        let Some((each, shard)) = self.bucket(key, rate) else {
            return;
        };
        let mut shard = shard.lock();
        if let Some(mut full_at) = shard.get_mut(key) {
            let earlier = full_at.checked_sub(each.saturating_mul(n));
            *full_at = earlier.unwrap_or(*full_at);
        }
    }

    /// How long until `n` tokens are there; takes none.
    pub fn wait(&self, key: &K, rate: &Rate, n: u32, now: Instant) -> Duration {
        let Some((each, shard)) = self.bucket(key, rate) else {
            return Duration::ZERO;
        };
        let full_at = shard.lock().get(key).copied().unwrap_or(now);
        let lacks = full_at.saturating_duration_since(now);
        let after = lacks.saturating_add(each.saturating_mul(n));
        after.saturating_sub(rate.per).min(lacks)
    }

    /// Keys that are remembered now.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// Whether no key is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The time that one token takes, and where the bucket is kept; `None` when the rate is no bound.
    fn bucket(&self, key: &K, rate: &Rate) -> Option<(Duration, &Mutex<Cache<K, Instant>>)> {
        let each = rate.per.checked_div(rate.messages)?;
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or_default();
        let shard = self.shards.get(hash % SHARDS)?;
        (!rate.per.is_zero()).then_some((each, shard))
    }
}

fn set<K: Hash + Eq + Clone>(shard: &mut Cache<K, Instant>, key: &K, full_at: Instant) {
    match shard.get_mut(key) {
        Some(mut known) => *known = full_at,
        None => shard.insert(key.clone(), full_at),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const RATE: Rate = Rate {
        messages: 6,
        per: Duration::from_secs(60),
    };

    #[test]
    fn a_bucket_gives_all_at_once_and_then_one_after_the_other() {
        let buckets = Buckets::new(100);
        let begin = Instant::now();
        for _ in 0..6 {
            assert_eq!(buckets.take(&1, &RATE, 1, begin), Ok(()));
        }
        let wait = Duration::from_secs(10);
        assert_eq!(buckets.take(&1, &RATE, 1, begin), Err(wait));
        assert_eq!(buckets.wait(&1, &RATE, 2, begin), 2 * wait);
        assert_eq!(buckets.take(&1, &RATE, 1, begin + wait), Ok(()));
        assert_eq!(buckets.take(&1, &RATE, 1, begin + wait), Err(wait));
        assert_eq!(buckets.take(&2, &RATE, 6, begin), Ok(()), "keys are apart");
        assert_eq!(buckets.take(&1, &RATE, 6, begin + 10 * wait), Ok(()));
    }

    #[test]
    fn tokens_not_used_go_back() {
        let buckets = Buckets::new(100);
        let now = Instant::now();
        buckets.take(&1, &RATE, 6, now).unwrap();
        buckets.give_back(&1, &RATE, 2);
        assert_eq!(buckets.take(&1, &RATE, 2, now), Ok(()));
        assert!(buckets.take(&1, &RATE, 1, now).is_err());
    }

    #[test]
    fn more_than_a_bucket_waits_until_it_is_full_and_is_paid_off_afterwards() {
        let buckets = Buckets::new(100);
        let now = Instant::now();
        buckets.take(&1, &RATE, 1, now).unwrap();
        let wait = buckets.take(&1, &RATE, 12, now).unwrap_err();
        assert_eq!(wait, Duration::from_secs(10));
        assert_eq!(buckets.take(&1, &RATE, 12, now + wait), Ok(()));
        let owed = buckets.take(&1, &RATE, 1, now + wait).unwrap_err();
        assert_eq!(owed, Duration::from_secs(70));
    }

    #[test]
    fn no_messages_or_no_time_is_no_bound() {
        let buckets = Buckets::new(100);
        let now = Instant::now();
        for (messages, secs) in [(0, 60), (6, 0)] {
            let rate = Rate {
                messages,
                per: Duration::from_secs(secs),
            };
            assert_eq!(buckets.take(&1, &rate, u32::MAX, now), Ok(()));
            assert_eq!(buckets.take(&1, &rate, u32::MAX, now), Ok(()));
        }
        assert!(buckets.is_empty());
    }

    #[test]
    fn keys_are_bounded() {
        let buckets = Buckets::new(160);
        let now = Instant::now();
        for key in 0..100_000 {
            let _ = buckets.take(&key, &RATE, 1, now);
        }
        assert!(buckets.len() <= 160, "{}", buckets.len());
    }

    proptest! {
        #[test]
        fn whoever_waits_as_told_gets_it_and_the_rate_holds(
            messages in 1u32..20,
            steps in proptest::collection::vec((0u64..20_000, 1u32..4), 1..200),
        ) {
            let rate = Rate { messages, per: Duration::from_secs(60) };
            let buckets = Buckets::new(10);
            let begin = Instant::now();
            let (mut now, mut taken) = (begin, 0u64);
            for (millis, n) in steps {
                now += Duration::from_millis(millis);
                let n = n.min(messages);
                if let Err(wait) = buckets.take(&(), &rate, n, now) {
                    prop_assert!(!wait.is_zero());
                    prop_assert!(buckets.take(&(), &rate, n, now + wait - Duration::from_nanos(1)).is_err());
                    now += wait;
                    prop_assert_eq!(buckets.take(&(), &rate, n, now), Ok(()));
                }
                taken += u64::from(n);
                let passed = now.duration_since(begin).as_secs_f64();
                let allowed = f64::from(messages) * (1.0 + passed / 60.0) + 0.01;
                prop_assert!(taken as f64 <= allowed, "{} of {}", taken, allowed);
            }
        }
    }
}
