//! In which order mail leaves.
//!
//! The weight of a message is *precedence · Mp + size band · Ms − age band · Md*; the lower goes sooner. As it falls
//! alike for all with every moment that passes, the order of two messages never changes: it is kept as the time at
//! which the message came in, put later by what its precedence and its size weigh ([`Weights::handicap_millis`]). So a
//! message waits for whatever comes in until its handicap has passed, and for nothing that comes in after that: bulk
//! is put behind, and never for ever.

use nightmail_core::Timestamp;

/// The place of a message among those that are ready to go. Lower goes sooner.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct Rank {
    /// The strict band: nothing of a higher band goes while something of a lower one is ready.
    pub band: u8,
    /// Milliseconds since 1970 of its acceptance, with the handicap.
    pub key: i64,
}

impl Rank {
    /// The band of mail that goes before all other.
    pub const URGENT: u8 = 0;
    /// The band of mail that says nothing.
    pub const NORMAL: u8 = 4;
    /// The band of mail that goes when nothing else is ready.
    pub const IDLE: u8 = 8;

    /// The rank of a message accepted at `created`.
    pub const fn new(band: u8, created: Timestamp, handicap_millis: i64) -> Self {
        let key = created.millis().saturating_add(handicap_millis);
        Self { band, key }
    }
}

/// The coefficients of the weight.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Weights {
    /// Mp: what a step of precedence weighs.
    pub precedence: u32,
    /// Ms: what a size band weighs.
    pub size: u32,
    /// Md: what an age band weighs; at least 1.
    pub age: u32,
    /// How long an age band is, in milliseconds.
    pub age_band_millis: u32,
}

impl Default for Weights {
    fn default() -> Self {
        Self {
            precedence: 1,
            size: 2,
            age: 1,
            age_band_millis: 60_000,
        }
    }
}

/// Messages up to this size are of band 0; each band above is four times as large.
const FIRST_BAND_OCTETS: u64 = 16 << 10;

impl Weights {
    /// How much later than its acceptance a message of this precedence and size is ranked, in milliseconds.
    pub fn handicap_millis(&self, precedence: i32, size_octets: u64) -> i64 {
        let weight = i64::from(precedence) * i64::from(self.precedence)
            + size_band(size_octets) * i64::from(self.size);
        weight.saturating_mul(i64::from(self.age_band_millis)) / i64::from(self.age.max(1))
    }
}

/// The size band of a message: 0 up to 16 KiB, 1 up to 64 KiB, 2 up to 256 KiB, …
pub fn size_band(octets: u64) -> i64 {
    let units = octets.saturating_sub(1) / FIRST_BAND_OCTETS;
    units.checked_ilog(4).map_or(0, |log| i64::from(log) + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_grow_fourfold() {
        let bands = [0, 1, 16 << 10, (16 << 10) + 1, 64 << 10, (64 << 10) + 1];
        assert_eq!(bands.map(size_band), [0, 0, 0, 1, 1, 2]);
        assert_eq!(size_band(10 << 20), 5);
        assert!(size_band(u64::MAX) < 32);
    }

    /// The order is that of the formula at any moment.
    #[test]
    fn the_order_by_rank_is_the_order_by_weight() {
        let weights = Weights {
            precedence: 3,
            size: 5,
            age: 2,
            age_band_millis: 1_000,
        };
        let weight = |precedence: i64, size: u64, created: i64, now: i64| {
            // In thousandths, so that ages within a band count as well.
            (precedence * 3 + size_band(size) * 5) * 1_000 - (now - created) * 2
        };
        let messages = [
            (0, 100, 0),
            (7, 100, 3_000),
            (0, 1 << 20, 9_000),
            (-4, 50_000, 20_000),
        ];
        let rank = |(precedence, size, created): (i32, u64, i64)| {
            let created = Timestamp::from_millis(created);
            Rank::new(4, created, weights.handicap_millis(precedence, size))
        };
        for one in messages {
            for other in messages {
                for now in [20_000, 500_000] {
                    let sooner = weight(one.0.into(), one.1, one.2, now)
                        < weight(other.0.into(), other.1, other.2, now);
                    assert!(!sooner || rank(one) < rank(other), "{one:?} {other:?}");
                }
            }
        }
    }

    /// What waits in a simulation: one message leaves every 10 ms.
    struct Simulation {
        waiting: std::collections::BTreeMap<(Rank, u64), i64>,
        waited_max: [i64; 2],
    }

    impl Simulation {
        const BULK: u64 = 1 << 32;

        fn put(&mut self, number: u64, now: i64) {
            let weights = Weights::default();
            let bulk = number >= Self::BULK;
            let (precedence, size) = if bulk { (60, 100_000) } else { (0, 4_000) };
            let handicap = weights.handicap_millis(precedence, size);
            let rank = Rank::new(Rank::NORMAL, Timestamp::from_millis(now), handicap);
            self.waiting.insert((rank, number), now);
        }

        fn send(&mut self, now: i64) {
            if let Some(((_, number), came)) = self.waiting.pop_first() {
                let kind = usize::from(number >= Self::BULK);
                self.waited_max[kind] = self.waited_max[kind].max(now - came);
            }
        }
    }

    /// 100,000 pieces of bulk come at once; small fresh mail fills 95 % of what leaves.
    #[test]
    fn small_fresh_mail_does_not_wait_for_bulk_and_bulk_does_not_wait_for_ever() {
        let mut simulation = Simulation {
            waiting: Default::default(),
            waited_max: [0; 2],
        };
        for number in 0..100_000 {
            simulation.put(Simulation::BULK + number, 0);
        }
        let handicap = Weights::default().handicap_millis(60, 100_000);
        let ticks = handicap / 10 - 1;
        for tick in 0..ticks {
            if tick % 20 != 0 {
                simulation.put(tick as u64, tick * 10);
            }
            simulation.send(tick * 10);
        }
        // Until the bulk is as heavy as what is fresh, the fresh passes at once.
        assert!(simulation.waited_max[0] <= 20);
        // From then on the bulk goes first, although fresh mail keeps coming faster than both can leave.
        for tick in ticks..ticks + 110_000 {
            simulation.put(tick as u64, tick * 10);
            simulation.send(tick * 10);
        }
        let bulk_left = simulation
            .waiting
            .keys()
            .any(|(_, number)| *number >= Simulation::BULK);
        assert!(!bulk_left);
    }

    #[test]
    fn a_lower_band_goes_first_whatever_the_weight() {
        let now = Timestamp::from_millis(1_000_000);
        let urgent = Rank::new(Rank::URGENT, now, 1_000_000_000);
        assert!(urgent < Rank::new(Rank::NORMAL, Timestamp::default(), 0));
    }
}
