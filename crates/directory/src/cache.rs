//! Rows read lately. RCPT and login ask for the same few again and again.
//!
//! Emptied whenever the directory changes on this node, and after [`DirectoryCache::AGE_MAX`] for the sake of changes
//! made on others. Bounded: two generations of rows, the older of which is dropped when the younger is full.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nightmail_commit::{EventHub, Subscription, Topic};
use nightmail_engine::{Key, RowKey, Value};
use parking_lot::Mutex;

/// The rows and what keeps them true.
pub(crate) struct DirectoryCache {
    state: Mutex<State>,
    rows_max: usize,
}

struct State {
    changes: Subscription,
    /// Grows whenever the rows are dropped.
    epoch: u64,
    since: Instant,
    young: HashMap<Key, Option<Value>>,
    old: HashMap<Key, Option<Value>>,
}

/// The state of the directory that a read began in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

impl DirectoryCache {
    /// How long a change made on another node may go unseen.
    pub(crate) const AGE_MAX: Duration = Duration::from_secs(10);

    pub(crate) fn new(events: &EventHub, rows_max: usize) -> Self {
        let state = State {
            changes: events.subscribe(Topic::Directory),
            epoch: 0,
            since: Instant::now(),
            young: HashMap::new(),
            old: HashMap::new(),
        };
        Self {
            state: Mutex::new(state),
            rows_max,
        }
    }

    /// What is known of `keys`, each `None` when nothing is; and the epoch to insert the rest under.
    pub(crate) fn look_up(&self, keys: &[RowKey]) -> (Epoch, Vec<Option<Option<Value>>>) {
        let mut state = self.state.lock();
        state.drop_stale();
        let known = keys.iter().map(|key| state.get(&key.key)).collect();
        (Epoch(state.epoch), known)
    }

    /// Keeps rows that were read after `epoch` was given, unless the directory has changed since.
    pub(crate) fn insert(&self, epoch: Epoch, rows: impl Iterator<Item = (Key, Option<Value>)>) {
        let mut state = self.state.lock();
        state.drop_stale();
        if Epoch(state.epoch) != epoch {
            return;
        }
        for (key, value) in rows {
            if state.young.len() >= self.rows_max / 2 {
                state.old = std::mem::take(&mut state.young);
            }
            state.young.insert(key, value);
        }
    }
}

impl State {
    fn drop_stale(&mut self) {
        if self.changes.has_changed() || self.since.elapsed() > DirectoryCache::AGE_MAX {
            self.changes.mark_seen();
            self.epoch += 1;
            self.since = Instant::now();
            self.young.clear();
            self.old.clear();
        }
    }

    fn get(&self, key: &Key) -> Option<Option<Value>> {
        self.young.get(key).or_else(|| self.old.get(key)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_engine::Space;

    fn key(name: &str) -> RowKey {
        RowKey::new(Space::Directory, name)
    }

    fn row(name: &str) -> (Key, Option<Value>) {
        (name.into(), Some(Value::from_static(b"row")))
    }

    #[test]
    fn a_row_read_before_a_change_is_not_kept_after_it() {
        let events = EventHub::default();
        let cache = DirectoryCache::new(&events, 8);
        let (epoch, known) = cache.look_up(&[key("a")]);
        assert_eq!(known, [None]);
        events.publish([Topic::Directory]);
        cache.insert(epoch, [row("a")].into_iter());
        assert_eq!(cache.look_up(&[key("a")]).1, [None]);
    }

    #[test]
    fn a_change_drops_what_was_known() {
        let events = EventHub::default();
        let cache = DirectoryCache::new(&events, 8);
        let (epoch, _) = cache.look_up(&[]);
        cache.insert(epoch, [row("a"), ("b".into(), None)].into_iter());
        let known = cache.look_up(&[key("a"), key("b"), key("c")]).1;
        assert_eq!(known, [Some(row("a").1), Some(None), None]);
        events.publish([Topic::Directory]);
        assert_eq!(cache.look_up(&[key("a")]).1, [None]);
    }

    #[test]
    fn the_cache_stays_within_its_bound() {
        let cache = DirectoryCache::new(&EventHub::default(), 8);
        let (epoch, _) = cache.look_up(&[]);
        for number in 0..100 {
            cache.insert(epoch, [row(&number.to_string())].into_iter());
        }
        let state = cache.state.lock();
        assert!(state.young.len() + state.old.len() <= 8);
        assert!(state.get(&"99".into()).is_some());
    }
}
