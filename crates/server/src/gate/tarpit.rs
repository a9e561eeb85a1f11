//! Tarpitting: each error of a session makes its next reply come later.
//!
//! Owns the count of errors and the replies that are held back. No task and no timer: whoever drives the session waits
//! until [`Tarpit::until`], and reads nothing meanwhile.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::metrics;

/// How late replies come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Errors that delay nothing.
    pub(crate) free: u32,
    /// By how much each error delays the next reply.
    pub(crate) step: Duration,
    /// The longest delay.
    pub(crate) max: Duration,
}

/// The errors of a session so far.
#[derive(Debug, Default)]
pub(crate) struct Tarpit {
    errors: u32,
    held: Option<(Instant, Bytes)>,
}

impl Tarpit {
    /// Takes replies that are to be sent: gives them back when they may go at once, or holds them.
    pub(crate) fn pass(&mut self, pace: Pace, replies: Bytes, now: Instant) -> Option<Bytes> {
        let errors = errors_in(&replies);
        if errors == 0 {
            return Some(replies);
        }
        self.errors = self.errors.saturating_add(errors);
        let counted = self.errors.saturating_sub(pace.free);
        let delay = pace.step.saturating_mul(counted).min(pace.max);
        if delay.is_zero() {
            return Some(replies);
        }
        metrics::plain_counter(metrics::TARPIT_DELAYS).increment(1);
        self.held = Some((now + delay, replies));
        None
    }

    /// Until when nothing is sent or read.
    pub(crate) fn until(&self) -> Option<Instant> {
        self.held.as_ref().map(|(until, _)| *until)
    }

    /// What was held, to be sent now.
    pub(crate) fn release(&mut self) -> Option<Bytes> {
        self.held.take().map(|(_, replies)| replies)
    }
}

/// Final lines of replies that refuse something.
fn errors_in(replies: &[u8]) -> u32 {
    let refusals = replies.split(|octet| *octet == b'\n').filter(|line| {
        matches!(line.first(), Some(b'4' | b'5')) && line.get(3).is_some_and(|next| *next != b'-')
    });
    u32::try_from(refusals.count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        free: 1,
        step: Duration::from_secs(2),
        max: Duration::from_secs(5),
    };

    #[test]
    fn each_error_adds_a_step_up_to_the_bound() {
        let mut tarpit = Tarpit::default();
        let now = Instant::now();
        let good = Bytes::from_static(b"250 2.0.0 Ok\r\n");
        let bad = Bytes::from_static(b"550-5.1.1 No\r\n550 5.1.1 such user\r\n");
        assert_eq!(tarpit.pass(PACE, good.clone(), now), Some(good.clone()));
        assert_eq!(tarpit.pass(PACE, bad.clone(), now), Some(bad.clone()));
        for seconds in [2, 4, 5, 5] {
            assert_eq!(tarpit.pass(PACE, bad.clone(), now), None);
            assert_eq!(tarpit.until(), Some(now + Duration::from_secs(seconds)));
            assert_eq!(tarpit.release(), Some(bad.clone()));
            assert_eq!(tarpit.until(), None);
        }
        assert_eq!(tarpit.pass(PACE, good.clone(), now), Some(good));
    }

    #[test]
    fn pipelined_errors_count_each() {
        assert_eq!(
            errors_in(b"250 Ok\r\n550 No\r\n450-a\r\n450 b\r\n354 go\r\n"),
            2
        );
        assert_eq!(errors_in(b""), 0);
    }

    #[test]
    fn without_a_step_nothing_is_held() {
        let pace = Pace {
            step: Duration::ZERO,
            ..PACE
        };
        let bad = Bytes::from_static(b"550 No\r\n");
        let mut tarpit = Tarpit::default();
        assert_eq!(tarpit.pass(pace, bad.clone(), Instant::now()), Some(bad));
    }
}
