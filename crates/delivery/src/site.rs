//! A site: the hosts that mail for one or more destinations goes to, and what is known of them in memory.
//!
//! Destinations with the same hosts, reached in the same way under the same settings, share a site: its connections, the
//! number it takes of them, and the pause after it could not be reached. A site that stalls holds what is its own and
//! nothing else: its connections, and a place in the queue of what is being connected to.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_core::Timestamp;
use nightmail_pace::{Concurrency, Settings};
use nightmail_queue::{Destination, Queue, QueueMessage, Rank};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::attempt::Wanted;
use crate::route::Route;
use crate::trouble::Trouble;

/// Destinations of a site that are looked at for mail of one kind, where there is no room for the other.
const LOOKED_AT_MAX: usize = 1_000;

/// None of a site's hosts could be reached.
#[derive(Clone, Debug)]
pub(crate) struct Dead {
    /// Until when no connection is tried.
    pub until: Instant,
    /// When that was found.
    pub since: Timestamp,
    /// Why.
    pub trouble: Trouble,
    /// The host that said or did it.
    pub host: Option<String>,
}

struct State {
    /// Destinations with work that is due, by the rank of their best.
    ready: BTreeSet<(Rank, Destination)>,
    ranks: HashMap<Destination, Rank>,
    concurrency: Concurrency,
    workers: usize,
    /// Workers with an open connection.
    connected: usize,
    /// Those of them who wait for mail.
    resting: usize,
    /// Whether a host has ever been ready for mail, and none has been unreachable since.
    proven: bool,
    dead: Option<Dead>,
    /// Until when nothing new is begun, as a reply has asked for.
    slowed_until: Option<Instant>,
    /// Until when there is one connection.
    single_until: Option<Instant>,
    /// Whether somebody wakes the site when it may go on.
    has_alarm: bool,
    used: Instant,
}

/// What is to be done for a site that has work.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Staffing {
    /// Nothing: all that may work do, or there is nothing to do.
    Enough,
    /// One who rests is to be woken.
    Wake,
    /// One more may work.
    Hire,
    /// It is to be asked again after that time.
    Later(Duration),
}

/// A site.
pub(crate) struct Site {
    pub name: String,
    pub route: Route,
    pub settings: Arc<Settings>,
    state: Mutex<State>,
    /// Wakes those who rest.
    pub news: Notify,
}

impl Site {
    pub fn new(route: Route, settings: Arc<Settings>) -> Self {
        Self {
            name: route.name(),
            state: Mutex::new(State {
                ready: BTreeSet::new(),
                ranks: HashMap::new(),
                concurrency: Concurrency::new(settings.connections_start, settings.connections_max),
                workers: 0,
                connected: 0,
                resting: 0,
                proven: false,
                dead: None,
                slowed_until: None,
                single_until: None,
                has_alarm: false,
                used: Instant::now(),
            }),
            route,
            settings,
            news: Notify::new(),
        }
    }

    /// Takes note that a destination may have work.
    pub fn add(&self, queue: &Queue, destination: &Destination) {
        let mut state = self.state.lock();
        state.used = Instant::now();
        state.rank(queue, destination);
    }

    /// The destination whose next message of these kinds goes soonest.
    pub fn next_destination(
        &self,
        queue: &Queue,
        (pending, deferred): (bool, bool),
    ) -> Option<Destination> {
        let state = self.state.lock();
        let mut soonest = state.ready.iter().take(LOOKED_AT_MAX);
        let found = match pending && deferred {
            true => soonest.next(),
            false => soonest.find(|(_, one)| queue.has_more_of(one, pending, deferred)),
        };
        found.map(|(_, destination)| destination.clone())
    }

    /// Takes note that messages have been taken for a destination.
    pub fn taken(&self, queue: &Queue, destination: &Destination) {
        self.state.lock().rank(queue, destination);
    }

    /// Leaves a destination alone.
    pub fn remove(&self, destination: &Destination) {
        self.state.lock().remove(destination);
    }

    /// Whether there is mail for it.
    pub fn has_work(&self) -> bool {
        !self.state.lock().ready.is_empty()
    }

    /// What its work needs. Whoever is told to hire does so.
    pub fn staff(&self) -> Staffing {
        let mut state = self.state.lock();
        if state.ready.is_empty() {
            return Staffing::Enough;
        }
        let now = Instant::now();
        if let Some(until) = state.slowed_until.filter(|until| *until > now) {
            if std::mem::replace(&mut state.has_alarm, true) {
                return Staffing::Enough;
            }
            return Staffing::Later(until.duration_since(now));
        }
        if state.resting > 0 {
            return Staffing::Wake;
        }
        if state.workers >= state.allowed(now) {
            return Staffing::Enough;
        }
        state.workers += 1;
        Staffing::Hire
    }

    /// A worker leaves.
    pub fn leave(&self) {
        let mut state = self.state.lock();
        state.workers = state.workers.saturating_sub(1);
        state.used = Instant::now();
    }

    /// The time has come that somebody was to wait for.
    pub fn alarm_is_over(&self) {
        self.state.lock().has_alarm = false;
    }

    /// Whether there are more workers than the site takes.
    pub fn has_too_many(&self) -> bool {
        let state = self.state.lock();
        state.workers > state.allowed(Instant::now())
    }

    /// A host is ready for mail.
    pub fn connected(&self) {
        let mut state = self.state.lock();
        state.connected += 1;
        state.proven = true;
        state.dead = None;
        let in_use = state.connected;
        state.concurrency.on_success(in_use);
    }

    /// A connection has ended.
    pub fn disconnected(&self) {
        let mut state = self.state.lock();
        state.connected = state.connected.saturating_sub(1);
    }

    /// A message was handed over.
    pub fn succeeded(&self) {
        let mut state = self.state.lock();
        let in_use = state.connected;
        state.concurrency.on_success(in_use);
    }

    /// A worker begins or ends to rest.
    pub fn rests(&self, begins: bool) {
        let mut state = self.state.lock();
        state.resting = match begins {
            true => state.resting + 1,
            false => state.resting.saturating_sub(1),
        };
    }

    /// Whether a host has been ready for mail lately.
    pub fn is_proven(&self) -> bool {
        self.state.lock().proven
    }

    /// No host could be reached. Where other connections are open, fewer are tried and `false` is returned; otherwise
    /// the site is dead for `pause`.
    pub fn unreachable(&self, trouble: &Trouble, host: Option<&str>, pause: Duration) -> bool {
        let mut state = self.state.lock();
        state.concurrency.on_failure();
        if state.connected > 0 {
            return false;
        }
        state.proven = false;
        state.concurrency.on_dead(Instant::now(), pause);
        state.die(trouble, host, pause);
        true
    }

    /// Tries no connection for that long.
    pub fn pause(&self, trouble: &Trouble, host: Option<&str>, pause: Duration) {
        self.state.lock().die(trouble, host, pause);
    }

    /// Why no connection is tried now.
    pub fn dead(&self) -> Option<Dead> {
        let state = self.state.lock();
        let now = Instant::now();
        state.dead.clone().filter(|dead| dead.until > now)
    }

    /// Why no connection is tried now for this message. One that may go without TLS is not kept by the lack of it.
    pub fn dead_for(&self, message: &QueueMessage) -> Option<Dead> {
        let is_optional = Wanted::of(message) == Wanted::Nothing;
        self.dead()
            .filter(|dead| !(is_optional && dead.trouble.about_tls))
    }

    /// Tries the site again at once, where it died before `asked`.
    pub fn revive(&self, asked: Timestamp) {
        let mut state = self.state.lock();
        if state.dead.as_ref().is_some_and(|dead| dead.since < asked) {
            state.dead = None;
            state.concurrency.revive();
        }
    }

    /// Tries the site again at once, whatever it has said or done.
    pub fn forgive(&self) {
        let mut state = self.state.lock();
        state.dead = None;
        state.slowed_until = None;
        state.concurrency.revive();
    }

    /// Whether most of what is taken now is only put off or given up.
    pub fn only_puts_off(&self, now: Timestamp) -> bool {
        let is_closed = self
            .settings
            .schedule
            .as_ref()
            .is_some_and(|schedule| !schedule.is_open(now));
        is_closed
            || self.settings.on_request
            || matches!(self.route, Route::Nowhere(_))
            || self.dead().is_some()
    }

    /// Begins nothing new for that long, as a bound of our own wants it.
    pub fn wait(&self, time: Duration) {
        let mut state = self.state.lock();
        let until = Instant::now() + time;
        state.slowed_until = Some(state.slowed_until.map_or(until, |known| known.max(until)));
    }

    /// Begins nothing new for that long.
    pub fn slow(&self, time: Duration) {
        let mut state = self.state.lock();
        let until = Instant::now() + time;
        state.slowed_until = Some(state.slowed_until.map_or(until, |known| known.max(until)));
        state.concurrency.on_failure();
    }

    /// Keeps to one connection for that long.
    pub fn keep_single(&self, time: Duration) {
        self.state.lock().single_until = Some(Instant::now() + time);
    }

    /// How long nothing new is begun.
    pub fn slowed(&self) -> Option<Duration> {
        let state = self.state.lock();
        let left = state.slowed_until?.checked_duration_since(Instant::now())?;
        (!left.is_zero()).then_some(left)
    }

    /// Whether nothing is lost when it is forgotten.
    pub fn is_idle(&self, since: Duration) -> bool {
        let state = self.state.lock();
        let now = Instant::now();
        let lasts = |until: Option<Instant>| until.is_some_and(|until| until > now);
        let dead = state.dead.as_ref().map(|dead| dead.until);
        state.workers == 0
            && state.ready.is_empty()
            && !lasts(dead)
            && !lasts(state.slowed_until)
            && !lasts(state.single_until)
            && state.used.elapsed() >= since
    }

    /// What there is to tell of it.
    pub fn condition(&self) -> Condition {
        let state = self.state.lock();
        let now = Instant::now();
        let left =
            |until: Option<Instant>| until.and_then(|until| until.checked_duration_since(now));
        Condition {
            connections: state.connected,
            connecting: state.workers.saturating_sub(state.connected),
            allowed: state.allowed(now),
            dead: left(state.dead.as_ref().map(|dead| dead.until)),
            trouble: state.dead.as_ref().map(|dead| dead.trouble.text.clone()),
            slowed: left(state.slowed_until),
        }
    }
}

/// What there is to tell of a site.
pub(crate) struct Condition {
    pub connections: usize,
    pub connecting: usize,
    pub allowed: usize,
    pub dead: Option<Duration>,
    pub trouble: Option<String>,
    pub slowed: Option<Duration>,
}

impl State {
    fn die(&mut self, trouble: &Trouble, host: Option<&str>, pause: Duration) {
        self.dead = Some(Dead {
            until: Instant::now() + pause,
            since: nightmail_commit::now(),
            trouble: trouble.clone(),
            host: host.map(str::to_owned),
        });
    }

    /// Workers that it may have: one until it has answered.
    fn allowed(&self, now: Instant) -> usize {
        let is_single = self.single_until.is_some_and(|until| until > now);
        match self.proven && !is_single {
            true => self.concurrency.allowed(),
            false => 1,
        }
    }

    fn remove(&mut self, destination: &Destination) {
        if let Some(known) = self.ranks.remove(destination) {
            self.ready.remove(&(known, destination.clone()));
        }
    }

    /// Enters a destination by the rank of its best message, or takes it out where it has none.
    fn rank(&mut self, queue: &Queue, destination: &Destination) {
        let worst = Rank {
            band: u8::MAX,
            key: i64::MAX,
        };
        // What is only in the store has no rank yet.
        let rank = queue
            .best(destination)
            .or_else(|| queue.has_more(destination).then_some(worst));
        let known = self.ranks.get(destination).copied();
        if known == rank {
            return;
        }
        self.remove(destination);
        if let Some(rank) = rank {
            self.ready.insert((rank, destination.clone()));
            self.ranks.insert(destination.clone(), rank);
        }
    }
}
