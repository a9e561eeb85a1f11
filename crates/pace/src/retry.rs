//! How long mail waits between attempts.

use std::time::Duration;

/// The waits between attempts at one destination.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Retry {
    /// After the n-th failed attempt, n² times the first pause.
    Quadratic {
        /// The pause after the first attempt.
        first: Duration,
        /// No pause is longer than this, before jitter.
        max: Duration,
        /// By how much of itself a pause is lengthened or shortened at random, in percent from 0 to 100.
        jitter_percent: u8,
    },
    /// Pauses one by one; the last repeats.
    Steps {
        /// The pauses after the first, second, … failed attempt. Without any, an hour.
        pauses: Vec<Duration>,
        /// By how much of itself a pause is lengthened or shortened at random, in percent from 0 to 100.
        jitter_percent: u8,
    },
}

impl Default for Retry {
    /// 5, 20, 45, 80, … minutes, up to 4 hours, a fifth more or less. RFC 5321 §4.5.4.1 asks for at least 30 minutes in
    /// the long run, with more attempts soon after the first.
    fn default() -> Self {
        Self::Quadratic {
            first: Duration::from_secs(5 * 60),
            max: Duration::from_secs(4 * 3600),
            jitter_percent: 20,
        }
    }
}

impl Retry {
    /// The pause after `attempts` failed ones, 1 being the first. `random` is any number, evenly spread over its range.
    pub fn pause(&self, attempts: u32, random: u64) -> Duration {
        let attempts = attempts.max(1);
        let (pause, jitter_percent) = match self {
            Self::Quadratic {
                first,
                max,
                jitter_percent,
            } => {
                let times = attempts.saturating_mul(attempts);
                (first.saturating_mul(times).min(*max), *jitter_percent)
            }
            Self::Steps {
                pauses,
                jitter_percent,
            } => {
                let index = usize::try_from(attempts - 1).unwrap_or(usize::MAX);
                let pause = pauses.get(index).or(pauses.last()).copied();
                (pause.unwrap_or(Duration::from_secs(3600)), *jitter_percent)
            }
        };
        jittered(pause, jitter_percent, random)
    }
}

/// `pause`, lengthened or shortened by at most `percent` of itself.
fn jittered(pause: Duration, percent: u8, random: u64) -> Duration {
    let pause_millis = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    let most = u128::from(pause_millis) * u128::from(percent.min(100)) / 100;
    // The upper half of the product spreads `random` evenly over 0..=2·most.
    let spread = (u128::from(random) * (2 * most + 1)) >> 64;
    let millis = u128::from(pause_millis) - most + spread;
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn quadratic_pauses_grow_up_to_their_bound() {
        let retry = Retry::Quadratic {
            first: 5 * MINUTE,
            max: 240 * MINUTE,
            jitter_percent: 0,
        };
        let pauses: Vec<u64> = [0, 1, 2, 3, 6, 7, u32::MAX]
            .map(|attempts| retry.pause(attempts, 7).as_secs() / 60)
            .into();
        assert_eq!(pauses, [5, 5, 20, 45, 180, 240, 240]);
    }

    #[test]
    fn the_last_step_repeats() {
        let retry = Retry::Steps {
            pauses: vec![MINUTE, 2 * MINUTE],
            jitter_percent: 0,
        };
        assert_eq!(retry.pause(1, 0), MINUTE);
        assert_eq!(retry.pause(9, 0), 2 * MINUTE);
    }

    #[test]
    fn jitter_reaches_both_ends_and_is_even() {
        let retry = Retry::Steps {
            pauses: vec![Duration::from_secs(100)],
            jitter_percent: 20,
        };
        assert_eq!(retry.pause(1, 0), Duration::from_secs(80));
        assert_eq!(retry.pause(1, u64::MAX), Duration::from_secs(120));
        assert_eq!(retry.pause(1, 1 << 63), Duration::from_secs(100));
    }

    proptest! {
        #[test]
        fn a_pause_stays_within_its_jitter(
            attempts: u32, random: u64, first in 1u64..1_000_000, jitter_percent in 0u8..=255,
        ) {
            let max = Duration::from_secs(14_400);
            let first = Duration::from_millis(first);
            let plain = Retry::Quadratic { first, max, jitter_percent: 0 }.pause(attempts, random);
            let pause = Retry::Quadratic { first, max, jitter_percent }.pause(attempts, random);
            let most = plain * u32::from(jitter_percent.min(100)) / 100;
            prop_assert!(plain <= max);
            prop_assert!(pause >= plain - most && pause <= plain + most);
        }
    }
}
