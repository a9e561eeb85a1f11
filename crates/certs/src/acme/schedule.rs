//! When a certificate is renewed, and when an attempt that failed is repeated. Nothing here looks at a clock.

use std::time::Duration;

use nightmail_core::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

/// The wait after the first attempt that failed; it doubles with each further one.
pub const RETRY_MIN: Duration = Duration::from_secs(10 * 60);
/// The longest wait between attempts.
const RETRY_MAX: Duration = Duration::from_secs(12 * 3600);

/// When the certificate `id` with this life is to be renewed: `renew_before` its end, or in the last third of its life
/// where that is shorter; later by up to a tenth of that, so that certificates made together part company.
pub(super) fn renewal(
    id: &str,
    not_before: Timestamp,
    not_after: Timestamp,
    renew_before: Duration,
) -> Timestamp {
    let life = not_after.millis().saturating_sub(not_before.millis());
    let window = millis(renew_before).min(life / 3).max(0);
    let spread = u64::try_from(window / 10).unwrap_or(0).max(1);
    let seed = format!("{id} {}", not_after.millis());
    let later = i64::try_from(xxh3_64(seed.as_bytes()) % spread).unwrap_or(0);
    Timestamp::from_millis(
        not_after
            .millis()
            .saturating_sub(window)
            .saturating_add(later),
    )
}

/// The wait after so many attempts that failed in a row.
pub(super) fn retry_after(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    RETRY_MIN.saturating_mul(1 << doublings).min(RETRY_MAX)
}

pub(super) fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DAY: i64 = 86_400_000;

    fn at(day: i64) -> Timestamp {
        Timestamp::from_millis(day * DAY)
    }

    #[test]
    fn a_long_life_is_renewed_the_configured_time_before_its_end() {
        let month = Duration::from_secs(30 * 86_400);
        let due = renewal("a", at(0), at(365), month);
        assert!(due >= at(335) && due < at(338), "{due}");
    }

    #[test]
    fn a_short_life_is_renewed_in_its_last_third() {
        let month = Duration::from_secs(30 * 86_400);
        let due = renewal("a", at(0), at(6), month);
        assert!(due >= at(4) && due < at(5), "{due}");
    }

    #[test]
    fn certificates_made_together_are_renewed_apart() {
        let month = Duration::from_secs(30 * 86_400);
        let due = |id: &str| renewal(id, at(0), at(90), month);
        assert_ne!(due("a"), due("b"));
        assert_eq!(due("a"), due("a"));
    }

    #[test]
    fn an_hour_holds_few_attempts_however_often_they_fail() {
        let mut time = Duration::ZERO;
        let mut attempts = 0;
        while time < Duration::from_secs(3600) {
            attempts += 1;
            time += retry_after(attempts);
        }
        assert!(attempts <= 4, "{attempts}");
        assert_eq!(retry_after(u32::MAX), RETRY_MAX);
    }

    proptest! {
        #[test]
        fn a_certificate_is_renewed_while_it_is_valid(life in 1..4000 * DAY, before in 0..200 * DAY as u64) {
            let begin = at(20_000);
            let end = begin.plus_millis(life);
            let due = renewal("a", begin, end, Duration::from_millis(before));
            prop_assert!(due > begin && due <= end);
        }
    }
}
