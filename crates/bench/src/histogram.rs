//! Latencies in a fixed number of counters.
//!
//! Values below 128 microseconds are exact; above, each power of two is divided into 64 steps, so a
//! percentile is at most 1.6 % above the truth, and never below it.

use std::time::Duration;

const STEPS_LOG2: u32 = 6;
const STEPS: u64 = 1 << STEPS_LOG2;
/// Longest time told apart from longer ones: 2^36 microseconds, about 19 hours.
const OCTAVES_MAX: u64 = 36;
const COUNTERS: usize = ((OCTAVES_MAX - STEPS_LOG2 as u64 + 1) * STEPS) as usize;

/// Counts of durations by size.
#[derive(Debug, Clone)]
pub struct Histogram {
    counters: Vec<u64>,
    count: u64,
    sum_micros: u128,
    max_micros: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counters: vec![0; COUNTERS],
            count: 0,
            sum_micros: 0,
            max_micros: 0,
        }
    }
}

impl Histogram {
    /// Counts one duration, in whole microseconds.
    pub fn record(&mut self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        if let Some(counter) = self.counters.get_mut(slot(micros)) {
            *counter += 1;
        }
        self.count += 1;
        self.sum_micros += u128::from(micros);
        self.max_micros = self.max_micros.max(micros);
    }

    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The longest duration; zero when there is none.
    pub fn max(&self) -> Duration {
        Duration::from_micros(self.max_micros)
    }

    /// The arithmetic mean; zero when there is none.
    pub fn mean(&self) -> Duration {
        let mean = self.sum_micros / u128::from(self.count.max(1));
        Duration::from_micros(u64::try_from(mean).unwrap_or(u64::MAX))
    }

    /// The duration that `percent` of all do not exceed; zero when there is none.
    pub fn percentile(&self, percent: f64) -> Duration {
        let rank = (percent / 100.0 * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, counter) in self.counters.iter().enumerate() {
            seen += counter;
            if seen >= rank {
                let micros = highest_of(index).min(self.max_micros);
                return Duration::from_micros(micros);
            }
        }
        self.max()
    }
}

/// The counter that a value falls in.
fn slot(micros: u64) -> usize {
    if micros < STEPS {
        return micros as usize;
    }
    let octave = u64::from(micros.ilog2()).min(OCTAVES_MAX - 1);
    let step = (micros >> (octave - u64::from(STEPS_LOG2))) & (STEPS - 1);
    let step = if micros >> OCTAVES_MAX == 0 {
        step
    } else {
        STEPS - 1
    };
    ((octave - u64::from(STEPS_LOG2) + 1) * STEPS + step) as usize
}

/// The highest value that falls in a counter.
fn highest_of(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    ((STEPS + index % STEPS + 1) << shift) - 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: impl IntoIterator<Item = u64>) -> Histogram {
        let mut histogram = Histogram::default();
        for micros in values {
            histogram.record(Duration::from_micros(micros));
        }
        histogram
    }

    #[test]
    fn percentiles_of_a_ramp_are_within_two_percent() {
        let histogram = of(1..=100_000);
        for percent in [1.0, 50.0, 95.0, 99.0, 99.9] {
            let truth = percent * 1000.0;
            let told = histogram.percentile(percent).as_micros() as f64;
            assert!(told >= truth && told <= truth * 1.016, "{percent}: {told}");
        }
        assert_eq!(histogram.max(), Duration::from_micros(100_000));
        assert_eq!(histogram.mean(), Duration::from_micros(50_000));
    }

    #[test]
    fn short_times_are_exact() {
        let histogram = of([3, 3, 3, 90]);
        assert_eq!(histogram.percentile(75.0), Duration::from_micros(3));
        assert_eq!(histogram.percentile(100.0), Duration::from_micros(90));
    }

    #[test]
    fn nothing_counted_is_zero() {
        let histogram = Histogram::default();
        assert_eq!(histogram.percentile(99.0), Duration::ZERO);
        assert_eq!(histogram.mean(), Duration::ZERO);
    }

    #[test]
    fn a_time_beyond_the_last_counter_is_still_counted() {
        let histogram = of([u64::MAX]);
        assert_eq!(histogram.counters.iter().sum::<u64>(), 1);
    }

    proptest! {
        #[test]
        fn a_value_lies_in_its_counter(micros in 0..1_u64 << OCTAVES_MAX) {
            let highest = highest_of(slot(micros));
            prop_assert!(highest >= micros);
            prop_assert!((highest - micros) as f64 <= micros as f64 / STEPS as f64);
            prop_assert_eq!(slot(highest), slot(micros));
        }
    }
}
