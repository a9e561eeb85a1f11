//! How many connections a site takes, found out by trying.
//!
//! What a site allows is not told, so it is felt for: each round of successes with all connections in use allows one more,
//! and a failure to connect or shake hands takes back what was just tried. A failure at a number that had held before
//! halves it, once for each round, as connections that were opened together fail together. After each number that failed
//! the next try comes later, up to [`PATIENCE_MAX`] rounds, so that a site with a fixed bound is asked for more seldom.

use std::time::{Duration, Instant};

/// Rounds at most before more is tried where it failed.
const PATIENCE_MAX: usize = 64;

/// The number of connections that a site is allowed now.
#[derive(Clone, Debug)]
pub struct Concurrency {
    allowed: usize,
    max: usize,
    /// The largest number that a whole round of successes has held for, or 0.
    proven: usize,
    /// Successes with all in use since the number last changed.
    successes: usize,
    /// Rounds of successes needed before one more is tried.
    patience: usize,
    /// Failures that still belong to the round that took the number down.
    echoes: usize,
    /// Failures since the last success.
    failures: u32,
    dead_until: Option<Instant>,
}

impl Concurrency {
    /// Allows `start` connections, and never more than `max`; at least 1 of both.
    pub fn new(start: usize, max: usize) -> Self {
        let max = max.max(1);
        Self {
            allowed: start.clamp(1, max),
            max,
            proven: 0,
            successes: 0,
            patience: 1,
            echoes: 0,
            failures: 0,
            dead_until: None,
        }
    }

    /// Connections allowed at once: at least 1.
    pub const fn allowed(&self) -> usize {
        self.allowed
    }

    /// Failures since the last success.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// A transaction was carried out, or a connection opened, with `in_use` connections open. More are allowed only where
    /// all that are have been in use: what has not been tried is not known.
    pub fn on_success(&mut self, in_use: usize) {
        self.failures = 0;
        self.dead_until = None;
        if in_use < self.allowed {
            return;
        }
        self.successes += 1;
        if self.successes >= self.allowed {
            self.proven = self.proven.max(self.allowed);
            self.echoes = 0;
        }
        if self.successes >= self.allowed.saturating_mul(self.patience) && self.allowed < self.max {
            self.allowed += 1;
            self.successes = 0;
        }
    }

    /// No connection came about, or its greeting or handshake failed.
    pub fn on_failure(&mut self) {
        self.failures = self.failures.saturating_add(1);
        if self.echoes > 0 {
            self.echoes -= 1;
            return;
        }
        self.echoes = self.allowed - 1;
        self.successes = 0;
        self.allowed = if self.proven > 0 && self.proven < self.allowed {
            self.patience = (self.patience * 2).min(PATIENCE_MAX);
            self.proven
        } else {
            self.patience = 1;
            (self.allowed / 2).max(1)
        };
        // What has held must be shown again: a second failure in a row halves.
        self.proven = 0;
    }

    /// None of the site's hosts could be reached: nothing is tried before `pause` has passed, and then with one
    /// connection.
    pub fn on_dead(&mut self, now: Instant, pause: Duration) {
        self.dead_until = now.checked_add(pause);
        self.allowed = 1;
        self.proven = 0;
        self.successes = 0;
        self.patience = 1;
        self.echoes = 0;
    }

    /// Until when the site is taken as dead; `None` when it is not, or not any more.
    pub fn dead_until(&self, now: Instant) -> Option<Instant> {
        self.dead_until.filter(|until| *until > now)
    }

    /// Tries the site again at once.
    pub const fn revive(&mut self) {
        self.dead_until = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A peer that takes at most `bound` connections, and us, who send `messages` over each of them in turns.
    struct World {
        concurrency: Concurrency,
        bound: usize,
        open: usize,
        refused: usize,
    }

    impl World {
        fn new(start: usize, max: usize, bound: usize) -> Self {
            Self {
                concurrency: Concurrency::new(start, max),
                bound,
                open: 0,
                refused: 0,
            }
        }

        /// Opens what is allowed, and sends a message over each connection.
        fn turn(&mut self) {
            self.open = self.open.min(self.concurrency.allowed());
            let missing = self.concurrency.allowed() - self.open;
            for _ in 0..missing {
                if self.open < self.bound {
                    self.open += 1;
                } else {
                    self.refused += 1;
                    self.concurrency.on_failure();
                }
            }
            for _ in 0..self.open {
                self.concurrency.on_success(self.open);
            }
        }
    }

    #[test]
    fn it_finds_what_a_peer_takes_and_asks_for_more_seldom() {
        for bound in [1, 2, 3, 7, 10, 25] {
            let mut world = World::new(5, 50, bound);
            for _ in 0..200 {
                world.turn();
            }
            world.refused = 0;
            let mut used = Vec::new();
            for _ in 0..1000 {
                world.turn();
                used.push(world.open);
            }
            let mean = used.iter().sum::<usize>() as f64 / used.len() as f64;
            assert!(mean > 0.9 * bound as f64, "{mean} of {bound}");
            let least = *used.iter().min().unwrap();
            assert!(2 * least >= bound, "fell to {least} of {bound}");
            let seldom = used.len() / 20;
            assert!(
                (1..=seldom).contains(&world.refused),
                "{bound}: {}",
                world.refused
            );
        }
    }

    #[test]
    fn it_follows_a_peer_that_takes_less_or_more_than_before() {
        let mut world = World::new(5, 50, 20);
        for _ in 0..300 {
            world.turn();
        }
        world.bound = 4;
        world.open = 4;
        for _ in 0..300 {
            world.turn();
        }
        assert!((2..=5).contains(&world.concurrency.allowed()));
        world.bound = 30;
        for _ in 0..3000 {
            world.turn();
        }
        assert!(
            world.concurrency.allowed() >= 27,
            "{}",
            world.concurrency.allowed()
        );
    }

    #[test]
    fn connections_opened_together_and_refused_together_halve_once() {
        let mut concurrency = Concurrency::new(20, 20);
        for _ in 0..20 {
            concurrency.on_failure();
        }
        assert_eq!(concurrency.allowed(), 10);
        concurrency.on_failure();
        assert_eq!(concurrency.allowed(), 5);
    }

    #[test]
    fn what_is_not_used_allows_no_more() {
        let mut concurrency = Concurrency::new(5, 50);
        for _ in 0..1000 {
            concurrency.on_success(1);
        }
        assert_eq!(concurrency.allowed(), 5);
    }

    #[test]
    fn a_dead_site_comes_back_with_one_connection() {
        let mut concurrency = Concurrency::new(5, 50);
        let now = Instant::now();
        let pause = Duration::from_secs(60);
        concurrency.on_dead(now, pause);
        assert_eq!(concurrency.dead_until(now), Some(now + pause));
        assert_eq!(concurrency.dead_until(now + pause), None);
        assert_eq!(concurrency.allowed(), 1);
        concurrency.on_success(1);
        assert_eq!(
            (concurrency.allowed(), concurrency.dead_until(now)),
            (2, None)
        );
    }

    proptest! {
        #[test]
        fn the_number_stays_within_its_bounds(
            start in 0usize..100, max in 0usize..50,
            steps in proptest::collection::vec((any::<bool>(), 0usize..60), 0..500),
        ) {
            let mut concurrency = Concurrency::new(start, max);
            for (success, in_use) in steps {
                let before = concurrency.allowed();
                match success {
                    true => concurrency.on_success(in_use),
                    false => concurrency.on_failure(),
                }
                let after = concurrency.allowed();
                prop_assert!((1..=max.max(1)).contains(&after));
                match success {
                    true => prop_assert!(after == before || after == before + 1),
                    false => prop_assert!(after <= before && after >= before / 2),
                }
            }
        }
    }
}
