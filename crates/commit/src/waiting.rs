//! How long intents wait: the age of the oldest that has not been answered.
//!
//! Owns a number and a time for each intent under way, in the order they were submitted. Whoever takes in new work asks
//! it before a store that falls behind is given still more.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The intents under way. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting(Arc<Mutex<Line>>);

/// Those that wait, oldest first; `None` where one has left before those ahead of it.
#[derive(Debug, Default)]
struct Line {
    /// The number of the first entry.
    first: u64,
    entries: VecDeque<Option<Instant>>,
}

/// A place in the line, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    waiting: Waiting,
    number: u64,
}

impl Waiting {
    /// Takes the last place.
    pub fn enter(&self, now: Instant) -> Place {
        let mut line = self.0.lock();
        let number = line.first + line.entries.len() as u64;
        line.entries.push_back(Some(now));
        Place {
            waiting: self.clone(),
            number,
        }
    }

    /// For how long the first in the line has been waiting; zero where nobody is.
    pub fn oldest(&self, now: Instant) -> Duration {
        let line = self.0.lock();
        let first = line.entries.front().copied().flatten();
        first.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut line = self.waiting.0.lock();
        let index = usize::try_from(self.number - line.first).unwrap_or(usize::MAX);
        if let Some(entry) = line.entries.get_mut(index) {
            *entry = None;
        }
        while let Some(None) = line.entries.front() {
            line.entries.pop_front();
            line.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_is_still_there_counts() {
        let waiting = Waiting::default();
        let start = Instant::now();
        let at = |secs| start + Duration::from_secs(secs);
        assert_eq!(waiting.oldest(at(9)), Duration::ZERO);
        let first = waiting.enter(at(0));
        let second = waiting.enter(at(3));
        let third = waiting.enter(at(5));
        assert_eq!(waiting.oldest(at(9)), Duration::from_secs(9));
        drop(second);
        assert_eq!(waiting.oldest(at(9)), Duration::from_secs(9));
        drop(first);
        assert_eq!(waiting.oldest(at(9)), Duration::from_secs(4));
        drop(third);
        assert_eq!(waiting.oldest(at(9)), Duration::ZERO);
        assert!(waiting.0.lock().entries.is_empty());
    }
}
