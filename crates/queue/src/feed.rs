//! What is ready to go, as far as it is kept in memory.
//!
//! For each destination with work there is a *window*: messages that are due, ordered by rank, at most so many; what
//! does not fit stays in the store, and the window knows from which place of the index on. Taking from a window refills
//! it from there. So memory holds what is being worked on, however much is queued.
//!
//! Windows are filled in two ways: by the node's own commits, which say what they have queued, and by looking at the
//! index of times. Looks go on from where the last one ended. What appears there late (a commit that took long, another
//! node's clock) is found by looking back: a little every [`LOOK_MILLIS`] while things change, and further
//! [`LOOK_FURTHER_MILLIS`] after a change. A lease gained brings messages that were passed over: all is looked at.
//!
//! Of several nodes each takes only messages of the shards whose leases it holds.

use std::collections::{BTreeMap, HashMap, HashSet, hash_map};
use std::sync::Arc;

use nightmail_cluster::{LeaseHold, LeaseName, Leases, Shard};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::Key;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::destination::Destination;
use crate::index::{Entry, Kind, Place, due_start};
use crate::rank::Rank;

/// How much of what is ready is kept in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WindowLimits {
    /// Messages, over all destinations, as far as each has its least.
    pub entries_max: usize,
    /// Messages for which each destination has room, whatever the others have.
    pub window_min: usize,
    /// Messages for which one destination has room.
    pub window_max: usize,
    /// Destinations before looks pause; before twice as many, what is announced for others is left to later looks.
    pub destinations_max: usize,
}

impl Default for WindowLimits {
    fn default() -> Self {
        Self {
            entries_max: 40_000,
            window_min: 16,
            window_max: 2_000,
            destinations_max: 50_000,
        }
    }
}

/// Of so many that are taken, where both kinds wait, one is deferred.
const DEFERRED_EVERY: u32 = 4;

/// How often what has appeared late is looked for, while things change.
pub(crate) const LOOK_MILLIS: i64 = 4_000;
/// How far that goes back: the time a commit may take.
const LOOK_BACK_MILLIS: i64 = 6_000;
/// The same among several nodes: how far clocks may differ.
const LOOK_BACK_AMONG_NODES_MILLIS: i64 = 60_000;
/// How far every look after a change goes back: the time that a commit usually takes.
const OVERLAP_MILLIS: i64 = 100;
/// The same among several nodes: what another has queued is not announced here.
const OVERLAP_AMONG_NODES_MILLIS: i64 = 2_000;
/// How long after a change it is looked for further back.
pub(crate) const LOOK_FURTHER_MILLIS: i64 = 60_000;
/// How far that goes back.
const LOOK_FURTHER_BACK_MILLIS: i64 = 900_000;

#[derive(Default)]
struct State {
    limits: WindowLimits,
    windows: HashMap<Destination, Window>,
    /// Entries in all windows.
    entries: usize,
    /// Destinations that got entries otherwise than by a look.
    announced: HashSet<Destination>,
    /// Where the next look begins.
    floor: Key,
    /// The earliest that was announced and found no room: a look begins there.
    put_aside: Option<Timestamp>,
    /// When to look back a little; `None` while nothing has changed since the last time.
    look_due: Option<Timestamp>,
    /// When to look back further; likewise.
    look_further_due: Option<Timestamp>,
    /// Whether there was a change since the last look.
    changed: bool,
    /// The set of leases that the last look knew.
    generation: u64,
}

#[derive(Default)]
struct Window {
    pending: Ready,
    deferred: Ready,
    /// Messages that somebody works on.
    in_hand: HashMap<QueueId, InHand>,
    /// Counts what was taken, to let both kinds have their share.
    turns: u32,
}

/// A message that somebody works on.
struct InHand {
    /// As it was when it was taken.
    entry: Entry,
    /// As it has been found since, where that is different: it may be ready again when it is let go.
    changed: Option<Entry>,
}

impl InHand {
    const fn new(entry: Entry) -> Self {
        Self {
            entry,
            changed: None,
        }
    }
}

/// What is ready of one kind.
#[derive(Default)]
struct Ready {
    entries: BTreeMap<(Rank, QueueId), Entry>,
    /// The lowest place of the index at which there may be more that is due.
    more_from: Option<Place>,
}

impl Ready {
    fn leave_out(&mut self, order: Place) {
        self.more_from = Some(self.more_from.map_or(order, |known| known.min(order)));
    }

    /// The rank of its best; of what is only in the store, as far as its place tells.
    fn best(&self, kind: Kind) -> Option<Rank> {
        let first = self.entries.first_key_value().map(|((rank, _), _)| *rank);
        first.or_else(|| self.more_from.map(|from| from.rank(kind)))
    }
}

impl Window {
    const fn ready(&mut self, kind: Kind) -> &mut Ready {
        match kind {
            Kind::Pending => &mut self.pending,
            Kind::Deferred => &mut self.deferred,
        }
    }

    fn len(&self) -> usize {
        self.pending.entries.len() + self.deferred.entries.len()
    }

    fn is_done(&self) -> bool {
        self.len() == 0
            && self.in_hand.is_empty()
            && self.pending.more_from.is_none()
            && self.deferred.more_from.is_none()
    }

    /// Takes an entry in, in place of the last of its kind where there is no room. A message is ready in one kind only:
    /// what was known of it before goes.
    fn put(&mut self, entry: Entry, room: usize) {
        if let Some(in_hand) = self.in_hand.get_mut(&entry.id) {
            if in_hand.entry != entry {
                in_hand.changed = Some(entry);
            }
            return;
        }
        let place = (entry.rank, entry.id);
        let other = match entry.kind {
            Kind::Pending => &mut self.deferred,
            Kind::Deferred => &mut self.pending,
        };
        other.entries.remove(&place);
        let is_full = self.len() >= room;
        let ready = self.ready(entry.kind);
        // What was left out before it goes first, and the refill that brings that brings this one too.
        let is_behind = ready.more_from.is_some_and(|from| entry.order() >= from);
        if is_behind || ready.entries.contains_key(&place) {
            return;
        }
        if !is_full {
            ready.entries.insert(place, entry);
            return;
        }
        match ready.entries.last_key_value() {
            Some((last, _)) if place < *last => {
                if let Some((_, last)) = ready.entries.pop_last() {
                    ready.leave_out(last.order());
                }
                ready.entries.insert(place, entry);
            }
            _ => ready.leave_out(entry.order()),
        }
    }

    /// Takes the next of the kinds asked for in hand.
    fn pop(&mut self, pending: bool, deferred: bool) -> Option<Entry> {
        loop {
            let kind = self.next_kind(pending, deferred)?;
            let (_, entry) = self.ready(kind).entries.pop_first()?;
            if let hash_map::Entry::Vacant(free) = self.in_hand.entry(entry.id) {
                free.insert(InHand::new(entry));
                return Some(entry);
            }
        }
    }

    /// Of which kind the next one is.
    fn next_kind(&mut self, pending: bool, deferred: bool) -> Option<Kind> {
        let pending = pending && !self.pending.entries.is_empty();
        let deferred = deferred && !self.deferred.entries.is_empty();
        match (pending, deferred) {
            (true, true) => {
                self.turns = self.turns.wrapping_add(1);
                let is_turn = self.turns.is_multiple_of(DEFERRED_EVERY);
                Some(if is_turn {
                    Kind::Deferred
                } else {
                    Kind::Pending
                })
            }
            (true, false) => Some(Kind::Pending),
            (false, true) => Some(Kind::Deferred),
            (false, false) => None,
        }
    }
}

impl State {
    fn room(&self) -> usize {
        let limits = &self.limits;
        let share = limits.entries_max / self.windows.len().max(1);
        share.min(limits.window_max).max(limits.window_min)
    }

    fn put(&mut self, destination: &Destination, entry: Entry) {
        let room = self.room();
        let window = match self.windows.get_mut(destination) {
            Some(window) => window,
            None => self.windows.entry(destination.clone()).or_default(),
        };
        let before = window.len();
        window.put(entry, room);
        self.entries = self.entries + window.len() - before;
    }

    /// Leaves what was announced to a look, where memory is full of other destinations.
    fn puts_aside(&mut self, destination: &Destination, entry: &Entry) -> bool {
        let is_full = self.windows.len() >= self.limits.destinations_max.saturating_mul(2);
        let is_put_aside = is_full && !self.windows.contains_key(destination);
        if is_put_aside {
            let known = self.put_aside.unwrap_or(entry.due);
            self.put_aside = Some(known.min(entry.due));
        }
        is_put_aside
    }

    fn drop_if_done(&mut self, destination: &Destination) {
        if self.windows.get(destination).is_some_and(Window::is_done) {
            self.windows.remove(destination);
        }
    }

    /// When to look although nothing is due and nothing has changed.
    fn next_look(&self) -> Option<Timestamp> {
        self.look_due.into_iter().chain(self.look_further_due).min()
    }
}

/// The windows of one node.
#[derive(Clone)]
pub(crate) struct Feed {
    state: Arc<Mutex<State>>,
    leases: Leases,
    news: Arc<Notify>,
}

impl Feed {
    /// Windows on what is done under these leases.
    pub fn new(leases: Leases) -> Self {
        Self {
            state: Arc::default(),
            leases,
            news: Arc::default(),
        }
    }

    /// Other bounds for what is taken in from now on.
    pub fn limit(&self, limits: WindowLimits) {
        self.state.lock().limits = limits;
    }

    /// The leases.
    pub const fn leases(&self) -> &Leases {
        &self.leases
    }

    fn is_ours(&self, id: QueueId) -> bool {
        // A hold is taken and given back: whether the lease is to be worked under.
        self.leases
            .hold(LeaseName::Queue(Shard::of(id.get())))
            .is_some()
    }

    /// Where a look at `now` begins.
    pub fn look_from(&self, now: Timestamp) -> Key {
        // Read before the look: a lease that is gained while it runs makes the next one look at everything.
        let generation = self.leases.generation();
        let among_nodes = !self.leases.is_single();
        let mut state = self.state.lock();
        if state.generation != generation {
            state.generation = generation;
            state.floor.clear();
        }
        let mut back = None;
        // A time further ahead than that was set before the clock was put back.
        let is_over = |due: Option<Timestamp>, ahead: i64| {
            due.is_some_and(|due| due <= now || due > now.plus_millis(ahead))
        };
        if is_over(state.look_further_due, LOOK_FURTHER_MILLIS) {
            state.look_further_due = among_nodes.then(|| now.plus_millis(LOOK_FURTHER_MILLIS));
            back = Some(LOOK_FURTHER_BACK_MILLIS);
        }
        if is_over(state.look_due, LOOK_MILLIS) {
            state.look_due = None;
            let usual = match among_nodes {
                true => LOOK_BACK_AMONG_NODES_MILLIS,
                false => LOOK_BACK_MILLIS,
            };
            back = Some(back.map_or(usual, |back: i64| back.max(usual)));
        }
        // What another node has queued may not have been heard of.
        if among_nodes {
            let next = now.plus_millis(LOOK_MILLIS);
            state.look_due.get_or_insert(next);
            let further = now.plus_millis(LOOK_FURTHER_MILLIS);
            state.look_further_due.get_or_insert(further);
        }
        if std::mem::take(&mut state.changed) {
            back.get_or_insert(match among_nodes {
                true => OVERLAP_AMONG_NODES_MILLIS,
                false => OVERLAP_MILLIS,
            });
        }
        // The clock may have been put back since the last look.
        let from = due_start(now.plus_millis(-back.unwrap_or(0)));
        let from = match state.put_aside.take() {
            Some(aside) => from.min(due_start(aside)),
            None => from,
        };
        from.min(state.floor.clone())
    }

    /// Whether there are so many destinations in memory that a look is better put off.
    pub fn is_crowded(&self) -> bool {
        let state = self.state.lock();
        state.windows.len() >= state.limits.destinations_max
    }

    /// Takes note of where the next look begins: everything below has been looked at.
    pub fn raise_floor(&self, floor: Key) {
        self.state.lock().floor = floor;
    }

    /// Takes note of a change, behind which more may appear late.
    pub fn note_change(&self, now: Timestamp) {
        let mut state = self.state.lock();
        state.changed = true;
        state.look_due.get_or_insert(now.plus_millis(LOOK_MILLIS));
        state
            .look_further_due
            .get_or_insert(now.plus_millis(LOOK_FURTHER_MILLIS));
    }

    /// When to look although nothing is due and nothing has changed.
    pub fn next_look(&self) -> Option<Timestamp> {
        self.state.lock().next_look()
    }

    /// Takes in what was found due; `false` where it is another node's.
    pub fn put(&self, destination: &Destination, entry: Entry) -> bool {
        let is_ours = self.is_ours(entry.id);
        if is_ours {
            self.state.lock().put(destination, entry);
        }
        is_ours
    }

    /// Takes in what was queued just now, or given back, and wakes whoever sends.
    pub fn announce<'a>(
        &self,
        entries: impl IntoIterator<Item = &'a (Destination, Entry)>,
        now: Timestamp,
    ) {
        let mut any = false;
        for (destination, entry) in entries {
            let is_due = entry.due <= now && self.is_ours(entry.id);
            if is_due && !self.state.lock().puts_aside(destination, entry) {
                self.state.lock().put(destination, *entry);
                let mut state = self.state.lock();
                if !state.announced.contains(destination) {
                    state.announced.insert(destination.clone());
                }
                any = true;
            }
        }
        if any {
            self.news.notify_one();
        }
    }

    /// Returns when there are announced destinations, now or later.
    pub async fn announced(&self) {
        self.news.notified().await;
    }

    /// The destinations that got entries by announcements since the last call.
    pub fn drain_announced(&self) -> Vec<Destination> {
        self.state.lock().announced.drain().collect()
    }

    /// The rank of what is to be taken next.
    pub fn best(&self, destination: &Destination) -> Option<Rank> {
        let state = self.state.lock();
        let window = state.windows.get(destination)?;
        let pending = window.pending.best(Kind::Pending);
        let ranks = pending
            .into_iter()
            .chain(window.deferred.best(Kind::Deferred));
        ranks.min()
    }

    /// Whether a destination has work of these kinds that nobody has taken, in memory or in the store.
    pub fn has_more(&self, destination: &Destination, pending: bool, deferred: bool) -> bool {
        let state = self.state.lock();
        state.windows.get(destination).is_some_and(|window| {
            let of = |ready: &Ready| !ready.entries.is_empty() || ready.more_from.is_some();
            (pending && of(&window.pending)) || (deferred && of(&window.deferred))
        })
    }

    /// Of which kinds a window is to be refilled before `limit` are taken, and from where in the index.
    pub fn wants(
        &self,
        destination: &Destination,
        limit: usize,
        pending: bool,
        deferred: bool,
    ) -> Vec<(Kind, Place)> {
        let mut state = self.state.lock();
        let Some(window) = state.windows.get_mut(destination) else {
            return Vec::new();
        };
        let wanted = [(Kind::Pending, pending), (Kind::Deferred, deferred)];
        let mut wants = Vec::new();
        for (kind, _) in wanted.into_iter().filter(|(_, asked)| *asked) {
            let ready = window.ready(kind);
            if ready.entries.len() < limit
                && let Some(from) = ready.more_from.take()
            {
                wants.push((kind, from));
            }
        }
        wants
    }

    /// Takes in rows of the index that follow each other. Returns whether there is room for more.
    pub fn refill(&self, destination: &Destination, found: &[Entry]) -> bool {
        let ours: Vec<&Entry> = found
            .iter()
            .filter(|entry| self.is_ours(entry.id))
            .collect();
        let mut state = self.state.lock();
        for entry in ours {
            state.put(destination, *entry);
        }
        let room = state.room();
        state
            .windows
            .get(destination)
            .is_none_or(|window| window.len() < room)
    }

    /// There is more of a kind from that place on.
    pub fn leave_out(&self, destination: &Destination, kind: Kind, from: Place) {
        let mut state = self.state.lock();
        let window = state.windows.entry(destination.clone()).or_default();
        window.ready(kind).leave_out(from);
    }

    /// Takes at most `limit`, the best first, of the kinds asked for.
    pub fn take(
        &self,
        destination: &Destination,
        limit: usize,
        pending: bool,
        deferred: bool,
    ) -> Vec<Ticket> {
        let mut taken = Vec::new();
        while taken.len() < limit {
            let Some(entry) = self.pop(destination, pending, deferred) else {
                break;
            };
            taken.extend(self.ticket(destination, entry));
        }
        taken
    }

    fn pop(&self, destination: &Destination, pending: bool, deferred: bool) -> Option<Entry> {
        let mut state = self.state.lock();
        let window = state.windows.get_mut(destination)?;
        let before = window.len();
        let entry = window.pop(pending, deferred);
        let taken = before - window.len();
        state.entries -= taken;
        if entry.is_none() {
            state.drop_if_done(destination);
        }
        entry
    }

    /// The ticket of an entry that is in hand; `None`, and the entry is let go, where the lease is not held any more.
    fn ticket(&self, destination: &Destination, entry: Entry) -> Option<Ticket> {
        let Some(hold) = self
            .leases
            .hold(LeaseName::Queue(Shard::of(entry.id.get())))
        else {
            self.let_go(destination, entry.id);
            return None;
        };
        Some(Ticket {
            feed: self.clone(),
            destination: destination.clone(),
            entry,
            due: Some(entry.due),
            hold,
        })
    }

    /// Takes one message for one destination, ready or not; `None` while somebody works on it, or when its lease is not
    /// held.
    pub fn take_one(&self, destination: &Destination, entry: Entry) -> Option<Ticket> {
        {
            let mut state = self.state.lock();
            let window = state.windows.entry(destination.clone()).or_default();
            match window.in_hand.entry(entry.id) {
                hash_map::Entry::Occupied(_) => return None,
                hash_map::Entry::Vacant(free) => free.insert(InHand::new(entry)),
            };
            let place = (entry.rank, entry.id);
            let removed = [Kind::Pending, Kind::Deferred]
                .into_iter()
                .filter(|kind| window.ready(*kind).entries.remove(&place).is_some())
                .count();
            state.entries -= removed;
        }
        self.ticket(destination, entry)
    }

    /// Gives how it has been found since it was taken, where that is different.
    fn let_go(&self, destination: &Destination, id: QueueId) -> Option<Entry> {
        let mut state = self.state.lock();
        let window = state.windows.get_mut(destination)?;
        let in_hand = window.in_hand.remove(&id);
        state.drop_if_done(destination);
        in_hand.and_then(|in_hand| in_hand.changed)
    }

    /// Messages that are being worked on, counted once for each destination.
    pub fn in_hand(&self) -> usize {
        let state = self.state.lock();
        state
            .windows
            .values()
            .map(|window| window.in_hand.len())
            .sum()
    }

    /// Whether somebody works on `id`.
    pub fn holds(&self, id: QueueId) -> bool {
        let state = self.state.lock();
        state
            .windows
            .values()
            .any(|window| window.in_hand.contains_key(&id))
    }

    /// Whether somebody works on `id` for that destination.
    pub fn holds_for(&self, id: QueueId, destination: &Destination) -> bool {
        let state = self.state.lock();
        let window = state.windows.get(destination);
        window.is_some_and(|window| window.in_hand.contains_key(&id))
    }

    /// Entries kept in memory, and destinations that have any.
    pub fn size(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.entries, state.windows.len())
    }
}

/// The right to work on one message for one destination. Dropped, it gives the message back.
pub struct Ticket {
    feed: Feed,
    destination: Destination,
    entry: Entry,
    due: Option<Timestamp>,
    hold: LeaseHold,
}

impl Ticket {
    /// The message.
    pub const fn id(&self) -> QueueId {
        self.entry.id
    }

    /// Where it is to go.
    pub const fn destination(&self) -> &Destination {
        &self.destination
    }

    /// Its place among those that are ready.
    pub const fn rank(&self) -> Rank {
        self.entry.rank
    }

    /// Whether it is fresh mail.
    pub const fn is_pending(&self) -> bool {
        matches!(self.entry.kind, Kind::Pending)
    }

    /// The lease it is worked on under. What is decided is recorded under its guard.
    pub const fn hold(&self) -> &LeaseHold {
        &self.hold
    }

    /// Takes note of when this destination of the message is due now; `None` when nothing is pending for it.
    pub const fn set_due(&mut self, due: Option<Timestamp>) {
        self.due = due;
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let changed = self.feed.let_go(&self.destination, self.entry.id);
        // What was put off is found by its time; what was not worked on is ready as it was.
        let unchanged = (self.due == Some(self.entry.due)).then_some(self.entry);
        if let Some(entry) = changed.or(unchanged) {
            let again = (self.destination.clone(), entry);
            self.feed.announce([&again], entry.due);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW_MAX: usize = 2_000;
    const NOW: Timestamp = Timestamp::from_secs(1_000_000);

    fn entry(id: u64, kind: Kind, key: i64) -> Entry {
        Entry {
            id: QueueId::new(id),
            kind,
            due: NOW,
            rank: Rank { band: 4, key },
        }
    }

    fn far() -> Destination {
        Destination::Domain("far.test".parse().unwrap())
    }

    fn feed(entries: &[Entry]) -> Feed {
        let feed = Feed::new(Leases::everything());
        for entry in entries {
            assert!(feed.put(&far(), *entry));
        }
        feed
    }

    fn ids(tickets: &[Ticket]) -> Vec<u64> {
        tickets.iter().map(|ticket| ticket.id().get()).collect()
    }

    #[test]
    fn the_best_is_taken_first_and_once() {
        let feed = feed(&[
            entry(1, Kind::Pending, 30),
            entry(2, Kind::Pending, 10),
            entry(3, Kind::Pending, 20),
        ]);
        let taken = feed.take(&far(), 2, true, true);
        assert_eq!(ids(&taken), [2, 3]);
        assert!(!feed.put(&far(), entry(2, Kind::Pending, 10)) || feed.size().0 == 1);
        assert_eq!(ids(&feed.take(&far(), 9, true, true)), [1]);
    }

    #[test]
    fn what_is_given_back_is_ready_again_and_what_was_put_off_is_not() {
        let feed = feed(&[entry(1, Kind::Pending, 1), entry(2, Kind::Pending, 2)]);
        let mut taken = feed.take(&far(), 2, true, true);
        assert!(feed.drain_announced().is_empty());
        taken[1].set_due(Some(NOW.plus_millis(60_000)));
        drop(taken);
        assert_eq!(feed.drain_announced(), [far()]);
        assert_eq!(ids(&feed.take(&far(), 9, true, true)), [1]);
        assert_eq!(feed.size(), (1, 1));
    }

    #[test]
    fn a_window_without_work_goes() {
        let feed = feed(&[entry(1, Kind::Pending, 1)]);
        let mut taken = feed.take(&far(), 1, true, true);
        taken[0].set_due(None);
        drop(taken);
        assert_eq!(feed.size(), (0, 0));
    }

    #[test]
    fn both_kinds_have_their_share() {
        let feed = feed(&[]);
        for id in 0..8 {
            feed.put(&far(), entry(id, Kind::Pending, 5));
            feed.put(&far(), entry(100 + id, Kind::Deferred, 1));
        }
        let taken = feed.take(&far(), 8, true, true);
        assert_eq!(ids(&taken), [0, 1, 2, 100, 3, 4, 5, 101]);
        assert_eq!(ids(&feed.take(&far(), 9, true, false)), [6, 7]);
        assert!(!feed.take(&far(), 1, false, true)[0].is_pending());
    }

    #[test]
    fn a_full_window_keeps_the_best_and_knows_where_the_rest_begins() {
        let feed = feed(&[]);
        for id in 0..2 * WINDOW_MAX as u64 {
            feed.put(&far(), entry(id, Kind::Pending, 10_000 - id as i64));
        }
        assert_eq!(feed.size().0, WINDOW_MAX);
        let best = feed.take(&far(), 1, true, true);
        assert_eq!(ids(&best), [2 * WINDOW_MAX as u64 - 1]);
        // The lowest of those that were left out.
        let left_out = entry(
            WINDOW_MAX as u64 - 1,
            Kind::Pending,
            10_001 - WINDOW_MAX as i64,
        );
        assert_eq!(
            feed.wants(&far(), WINDOW_MAX, true, true),
            [(Kind::Pending, left_out.order())]
        );
        assert!(feed.wants(&far(), WINDOW_MAX, true, true).is_empty());
    }

    /// Both kinds of one message were ready at a time after an operator's retry, and two took it.
    #[test]
    fn a_message_that_changes_its_kind_is_taken_once() {
        let feed = feed(&[entry(1, Kind::Pending, 1)]);
        feed.put(&far(), entry(1, Kind::Deferred, 1));
        let taken = feed.take(&far(), 9, true, true);
        assert_eq!(ids(&taken), [1]);
        assert!(!taken[0].is_pending());
        assert_eq!(feed.size(), (0, 1));
    }

    #[test]
    fn what_changes_while_it_is_in_hand_is_ready_when_it_is_let_go() {
        let feed = feed(&[entry(1, Kind::Pending, 1)]);
        let mut taken = feed.take(&far(), 9, true, true);
        feed.put(&far(), entry(1, Kind::Pending, 1));
        let asked_for = Entry {
            due: NOW.plus_millis(10),
            ..entry(1, Kind::Deferred, 1)
        };
        feed.put(&far(), asked_for);
        assert!(feed.take(&far(), 9, true, true).is_empty());
        taken[0].set_due(None);
        drop(taken);
        assert_eq!(feed.drain_announced(), [far()]);
        assert!(!feed.take(&far(), 9, true, true)[0].is_pending());
    }

    #[test]
    fn what_was_left_out_is_not_overtaken_by_what_comes_later() {
        let feed = feed(&[]);
        feed.limit(WindowLimits {
            window_min: 2,
            window_max: 2,
            ..WindowLimits::default()
        });
        for id in 1..=3 {
            feed.put(&far(), entry(id, Kind::Pending, id as i64));
        }
        let first = feed.take(&far(), 1, true, true);
        feed.put(&far(), entry(4, Kind::Pending, 4));
        let second = feed.take(&far(), 9, true, true);
        assert_eq!((ids(&first), ids(&second)), (vec![1], vec![2]));
        // The third and the fourth are the store's, and it is known how good the third is.
        assert_eq!(feed.best(&far()), Some(Rank { band: 4, key: 3 }));
        let from = entry(3, Kind::Pending, 3).order();
        assert_eq!(feed.wants(&far(), 1, true, true), [(Kind::Pending, from)]);
    }

    #[test]
    fn what_is_announced_when_memory_is_full_of_destinations_is_left_to_a_look() {
        let feed = feed(&[entry(1, Kind::Pending, 1)]);
        feed.limit(WindowLimits {
            destinations_max: 0,
            ..WindowLimits::default()
        });
        feed.raise_floor(due_start(NOW.plus_millis(1)));
        let near = Destination::Domain("near.test".parse().unwrap());
        let later = NOW.plus_millis(50_000);
        feed.announce([&(near.clone(), entry(2, Kind::Pending, 1))], later);
        assert!(feed.is_crowded() && feed.drain_announced().is_empty());
        assert_eq!(feed.look_from(later), due_start(NOW));
        assert!(feed.look_from(later) > due_start(NOW));
    }

    #[test]
    fn looks_go_on_from_where_the_last_one_ended_and_back_after_a_change() {
        let feed = feed(&[]);
        assert_eq!(feed.look_from(NOW), Key::new());
        feed.raise_floor(due_start(NOW));
        assert_eq!(
            (feed.look_from(NOW), feed.next_look()),
            (due_start(NOW), None)
        );
        feed.note_change(NOW);
        let soon = NOW.plus_millis(LOOK_MILLIS);
        assert_eq!(feed.next_look(), Some(soon));
        let back = due_start(soon.plus_millis(-LOOK_BACK_MILLIS));
        assert_eq!(feed.look_from(soon), back);
        let later = NOW.plus_millis(LOOK_FURTHER_MILLIS);
        assert_eq!(feed.next_look(), Some(later));
        let back = due_start(later.plus_millis(-LOOK_FURTHER_BACK_MILLIS));
        assert_eq!(feed.look_from(later), back);
        assert_eq!(feed.next_look(), None);
    }

    #[test]
    fn a_clock_put_back_does_not_put_off_the_next_look() {
        let feed = feed(&[]);
        feed.raise_floor(due_start(NOW));
        feed.note_change(NOW);
        let back = NOW.plus_millis(-3_600_000);
        assert!(feed.look_from(back) < due_start(back));
        assert_eq!(feed.next_look(), None);
    }

    #[test]
    fn another_destination_of_a_message_is_taken_along_once() {
        let near = Destination::Domain("near.test".parse().unwrap());
        let feed = feed(&[]);
        feed.put(&near, entry(1, Kind::Pending, 1));
        let taken = feed.take_one(&near, entry(1, Kind::Pending, 1)).unwrap();
        assert!(feed.take_one(&near, entry(1, Kind::Pending, 1)).is_none());
        assert!(feed.take(&near, 1, true, true).is_empty());
        assert!(feed.holds(QueueId::new(1)) && feed.in_hand() == 1);
        drop(taken);
        assert_eq!(feed.take(&near, 1, true, true).len(), 1);
    }
}
