//! Change events: hints that something under a topic has changed. The data is read from the store.
//!
//! A subscription compares version numbers, so a lost or doubled wake-up is healed by the next look. Where several
//! nodes share a store, an [`Outbox`] hands on what this node's commits were about, and what others tell comes in by
//! [`EventHub::publish_remote`]; no commit ever waits for either.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use nightmail_core::{AccountId, MailboxId};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// What an event is about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Topic {
    /// Messages or flags of one mailbox.
    Mailbox(MailboxId),
    /// The list of an account's mailboxes, or its subscriptions.
    MailboxList(AccountId),
    /// The outbound queue.
    Queue,
    /// Domains, accounts or aliases.
    Directory,
}

#[derive(Default)]
struct TopicState {
    version: AtomicU64,
    notify: Notify,
    /// Those who listen to this topic among others.
    watchers: Mutex<Vec<Arc<Bell>>>,
}

impl TopicState {
    fn wake(&self) {
        self.version.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_waiters();
        for bell in &*self.watchers.lock() {
            bell.ring();
        }
    }
}

/// Rings when one of several topics changes.
#[derive(Default)]
struct Bell {
    rung: AtomicU64,
    notify: Notify,
}

impl Bell {
    fn ring(&self) {
        self.rung.fetch_add(1, Ordering::AcqRel);
        self.notify.notify_waiters();
    }
}

/// A topic that somebody listens to.
#[derive(Default)]
struct Entry {
    state: Arc<TopicState>,
    listeners: usize,
}

#[derive(Default)]
struct Shared {
    topics: Mutex<HashMap<Topic, Entry>>,
    /// Whether there is a tap: all that a hub without one pays for it.
    attached: AtomicBool,
    tap: Mutex<Option<Arc<Tap>>>,
}

/// Hands out subscriptions and wakes them.
#[derive(Clone, Default)]
pub struct EventHub {
    shared: Arc<Shared>,
}

impl EventHub {
    /// Subscribes to a topic from now on.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let state = self.listen(topic);
        let seen = state.version.load(Ordering::Acquire);
        Subscription {
            hub: self.clone(),
            topic,
            state,
            seen,
        }
    }

    /// A listener to many topics, which listens to none yet.
    pub fn watch(&self) -> Watch {
        Watch {
            hub: self.clone(),
            bell: Arc::default(),
            heard: 0,
            topics: HashMap::new(),
        }
    }

    fn listen(&self, topic: Topic) -> Arc<TopicState> {
        let mut topics = self.shared.topics.lock();
        let entry = topics.entry(topic).or_default();
        entry.listeners += 1;
        Arc::clone(&entry.state)
    }

    /// A listener of a topic is gone.
    fn forget(&self, topic: Topic) {
        let mut topics = self.shared.topics.lock();
        let Some(entry) = topics.get_mut(&topic) else {
            return;
        };
        entry.listeners -= 1;
        if entry.listeners == 0 {
            topics.remove(&topic);
        }
    }

    /// Wakes every subscriber of each topic of a commit, and puts the topics into the outbox where there is one.
    /// Returns at once.
    pub fn publish(&self, topics: impl IntoIterator<Item = Topic>) {
        if !self.shared.attached.load(Ordering::Acquire) {
            return self.publish_remote(topics);
        }
        let topics: Vec<Topic> = topics.into_iter().collect();
        self.publish_remote(topics.iter().copied());
        let tap = self.shared.tap.lock().clone();
        if let Some(tap) = tap {
            tap.put(&topics);
        }
    }

    /// Wakes every subscriber of each topic, and nobody else: for what another node committed.
    pub fn publish_remote(&self, topics: impl IntoIterator<Item = Topic>) {
        for topic in topics {
            let state = {
                let topics = self.shared.topics.lock();
                topics.get(&topic).map(|entry| Arc::clone(&entry.state))
            };
            if let Some(state) = state {
                state.wake();
            }
        }
    }

    /// Wakes every subscriber of this node: for when it is not known what other nodes committed.
    pub fn publish_all(&self) {
        let states: Vec<Arc<TopicState>> = {
            let topics = self.shared.topics.lock();
            topics
                .values()
                .map(|entry| Arc::clone(&entry.state))
                .collect()
        };
        for state in states {
            state.wake();
        }
    }

    /// The outbox of this node: what is published from now on. A hub has one; it takes the place of one attached
    /// before, in which nothing more appears. Dropped, it is detached.
    pub fn attach(&self) -> Outbox {
        let tap = Arc::new(Tap::default());
        *self.shared.tap.lock() = Some(Arc::clone(&tap));
        self.shared.attached.store(true, Ordering::Release);
        Outbox {
            hub: self.clone(),
            tap,
        }
    }

    /// Topics that somebody listens to.
    pub fn topics(&self) -> usize {
        self.shared.topics.lock().len()
    }
}

/// One listener's place in a topic.
pub struct Subscription {
    hub: EventHub,
    topic: Topic,
    state: Arc<TopicState>,
    seen: u64,
}

impl Subscription {
    /// Whether something happened since the last [`Self::mark_seen`].
    pub fn has_changed(&self) -> bool {
        self.state.version.load(Ordering::Acquire) != self.seen
    }

    /// Takes note of everything that has happened until now. Call it before reading the store.
    pub fn mark_seen(&mut self) {
        self.seen = self.state.version.load(Ordering::Acquire);
    }

    /// Waits until something happens that has not been seen. Cancel-safe; does not mark it seen.
    pub async fn changed(&self) {
        loop {
            let notified = self.state.notify.notified();
            if self.has_changed() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.forget(self.topic);
    }
}

/// One listener's places in many topics. Waiting costs the same however many there are.
pub struct Watch {
    hub: EventHub,
    bell: Arc<Bell>,
    /// How often the bell had rung at the last look.
    heard: u64,
    topics: HashMap<Topic, Watched>,
}

struct Watched {
    state: Arc<TopicState>,
    seen: u64,
}

impl Watch {
    /// Listens to a topic from now on.
    pub fn add(&mut self, topic: Topic) {
        if self.topics.contains_key(&topic) {
            return;
        }
        let state = self.hub.listen(topic);
        state.watchers.lock().push(Arc::clone(&self.bell));
        let seen = state.version.load(Ordering::Acquire);
        self.topics.insert(topic, Watched { state, seen });
    }

    /// Listens only to those topics that are `wanted`.
    pub fn retain(&mut self, wanted: impl Fn(Topic) -> bool) {
        let unwanted: Vec<Topic> = self
            .topics
            .keys()
            .copied()
            .filter(|t| !wanted(*t))
            .collect();
        for topic in unwanted {
            if let Some(watched) = self.topics.remove(&topic) {
                self.leave(topic, &watched.state);
            }
        }
    }

    fn leave(&self, topic: Topic, state: &TopicState) {
        let is_ours = |bell: &Arc<Bell>| Arc::ptr_eq(bell, &self.bell);
        state.watchers.lock().retain(|bell| !is_ours(bell));
        self.hub.forget(topic);
    }

    /// Topics listened to.
    pub fn len(&self) -> usize {
        self.topics.len()
    }

    /// Whether none is listened to.
    pub fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Takes note of everything that has happened until now, and says under which topics. Call it before reading
    /// the store.
    pub fn take_changed(&mut self) -> Vec<Topic> {
        self.heard = self.bell.rung.load(Ordering::Acquire);
        let mut changed = Vec::new();
        for (topic, watched) in &mut self.topics {
            let version = watched.state.version.load(Ordering::Acquire);
            if std::mem::replace(&mut watched.seen, version) != version {
                changed.push(*topic);
            }
        }
        changed
    }

    /// Whether something happened since the last [`Self::take_changed`].
    pub fn has_changed(&self) -> bool {
        self.bell.rung.load(Ordering::Acquire) != self.heard
    }

    /// Waits until something happens that was not taken. Cancel-safe.
    pub async fn changed(&self) {
        loop {
            let notified = self.bell.notify.notified();
            if self.has_changed() {
                return;
            }
            notified.await;
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        for (topic, watched) in std::mem::take(&mut self.topics) {
            self.leave(topic, &watched.state);
        }
    }
}

/// What this node's commits were about, for the other nodes. Bounded: it holds each topic once, and when there are
/// more than [`Outbox::TOPICS_MAX`] it holds "everything" instead.
pub struct Outbox {
    hub: EventHub,
    tap: Arc<Tap>,
}

/// What was taken out of an outbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outgoing {
    /// How many commits were published since the outbox was attached.
    pub commit: u64,
    /// What those since the last look changed.
    pub changed: Changed,
}

/// What commits have changed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Changed {
    /// These topics, each named once, in no order.
    Topics(Vec<Topic>),
    /// More than can be named.
    Everything,
}

impl Outbox {
    /// Topics that wait to be taken out.
    pub const TOPICS_MAX: usize = 8192;

    /// Waits until there is something and takes all of it. Cancel-safe.
    pub async fn next(&mut self) -> Outgoing {
        loop {
            if let Some(outgoing) = self.tap.take() {
                return outgoing;
            }
            self.tap.filled.notified().await;
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut tap = self.hub.shared.tap.lock();
        if tap.as_ref().is_some_and(|tap| Arc::ptr_eq(tap, &self.tap)) {
            *tap = None;
            self.hub.shared.attached.store(false, Ordering::Release);
        }
    }
}

/// The end of an outbox that a hub holds.
#[derive(Default)]
struct Tap {
    waiting: Mutex<Waiting>,
    filled: Notify,
}

#[derive(Default)]
struct Waiting {
    commit: u64,
    topics: HashSet<Topic>,
    everything: bool,
}

impl Tap {
    fn put(&self, topics: &[Topic]) {
        if topics.is_empty() {
            return;
        }
        self.waiting.lock().put(topics);
        self.filled.notify_one();
    }

    fn take(&self) -> Option<Outgoing> {
        let mut waiting = self.waiting.lock();
        let topics = std::mem::take(&mut waiting.topics);
        let changed = match std::mem::take(&mut waiting.everything) {
            true => Changed::Everything,
            false if topics.is_empty() => return None,
            false => Changed::Topics(topics.into_iter().collect()),
        };
        Some(Outgoing {
            commit: waiting.commit,
            changed,
        })
    }
}

impl Waiting {
    fn put(&mut self, topics: &[Topic]) {
        self.commit += 1;
        if self.everything {
            return;
        }
        self.topics.extend(topics);
        if self.topics.len() > Outbox::TOPICS_MAX {
            self.topics = HashSet::new();
            self.everything = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn mailbox(raw: u64) -> Topic {
        Topic::Mailbox(MailboxId::new(raw))
    }

    #[tokio::test]
    async fn a_change_between_looking_and_waiting_is_not_lost() {
        let hub = EventHub::default();
        let topic = Topic::Mailbox(MailboxId::new(1));
        let mut subscription = hub.subscribe(topic);
        assert!(!subscription.has_changed());
        hub.publish([topic, Topic::Queue]);
        subscription.changed().await;
        subscription.mark_seen();
        assert!(!subscription.has_changed());
    }

    #[tokio::test]
    async fn one_watch_hears_of_every_topic_it_listens_to() {
        let hub = EventHub::default();
        let mut watch = hub.watch();
        for id in 0..3 {
            watch.add(mailbox(id));
        }
        watch.add(mailbox(0));
        assert_eq!((watch.len(), hub.topics()), (3, 3));
        hub.publish([mailbox(9)]);
        assert!(!watch.has_changed());
        hub.publish([mailbox(1), Topic::Queue]);
        watch.changed().await;
        assert_eq!(watch.take_changed(), [mailbox(1)]);
        assert!(!watch.has_changed() && watch.take_changed().is_empty());
        watch.retain(|topic| topic == mailbox(2));
        hub.publish([mailbox(1)]);
        assert!(!watch.has_changed());
        hub.publish_all();
        assert_eq!(watch.take_changed(), [mailbox(2)]);
        drop(watch);
        assert_eq!(hub.topics(), 0);
    }

    #[tokio::test]
    async fn a_watch_that_waits_is_woken() {
        let hub = EventHub::default();
        let mut watch = hub.watch();
        watch.add(mailbox(1));
        let waiting = tokio::spawn(async move {
            watch.changed().await;
            watch.take_changed()
        });
        tokio::task::yield_now().await;
        hub.publish([mailbox(1)]);
        assert_eq!(waiting.await.unwrap(), [mailbox(1)]);
    }

    #[test]
    fn topics_without_listeners_are_forgotten() {
        let hub = EventHub::default();
        let first = hub.subscribe(Topic::Queue);
        let second = hub.subscribe(Topic::Queue);
        drop(first);
        hub.publish([Topic::Queue]);
        assert!(second.has_changed());
        drop(second);
        assert_eq!(hub.topics(), 0);
    }

    #[tokio::test]
    async fn commits_that_queue_up_leave_the_outbox_together() {
        let hub = EventHub::default();
        let mut outbox = hub.attach();
        hub.publish([Topic::Queue, mailbox(1)]);
        hub.publish([]);
        hub.publish([Topic::Queue]);
        let outgoing = outbox.next().await;
        assert_eq!(outgoing.commit, 2);
        let Changed::Topics(topics) = outgoing.changed else {
            panic!("two topics can be named");
        };
        assert_eq!(topics.len(), 2);
        assert!(topics.contains(&Topic::Queue) && topics.contains(&mailbox(1)));
        assert!(outbox.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn what_another_node_tells_is_not_sent_on() {
        let hub = EventHub::default();
        let mut outbox = hub.attach();
        let mut subscription = hub.subscribe(Topic::Queue);
        hub.publish_remote([Topic::Queue]);
        assert!(subscription.has_changed());
        subscription.mark_seen();
        hub.publish_all();
        assert!(subscription.has_changed());
        assert!(outbox.next().now_or_never().is_none());
    }

    #[test]
    fn publish_all_wakes_every_topic() {
        let hub = EventHub::default();
        let listeners: Vec<Subscription> = (0..100).map(|id| hub.subscribe(mailbox(id))).collect();
        let list = hub.subscribe(Topic::MailboxList(AccountId::new(1)));
        hub.publish_all();
        assert!(list.has_changed() && listeners.iter().all(Subscription::has_changed));
    }

    #[tokio::test]
    async fn an_outbox_that_nobody_empties_ends_up_with_everything() {
        let hub = EventHub::default();
        let mut outbox = hub.attach();
        let past_the_bound = Outbox::TOPICS_MAX as u64 + 10;
        for id in 0..past_the_bound {
            hub.publish([mailbox(id)]);
        }
        assert!(outbox.tap.waiting.lock().topics.is_empty());
        let everything = Outgoing {
            commit: past_the_bound,
            changed: Changed::Everything,
        };
        assert_eq!(outbox.next().await, everything);
        hub.publish([Topic::Directory]);
        let after = outbox.next().await;
        assert_eq!(after.changed, Changed::Topics(vec![Topic::Directory]));
    }

    #[tokio::test]
    async fn a_dropped_outbox_is_detached_and_a_replaced_one_is_silent() {
        let hub = EventHub::default();
        let mut first = hub.attach();
        let mut second = hub.attach();
        hub.publish([Topic::Queue]);
        assert!(first.next().now_or_never().is_none());
        assert_eq!(second.next().await.commit, 1);
        drop(first);
        hub.publish([Topic::Queue]);
        assert_eq!(second.next().await.commit, 2);
        drop(second);
        assert!(!hub.shared.attached.load(Ordering::Acquire));
        hub.publish([Topic::Queue]);
    }

    #[tokio::test]
    async fn a_waiting_outbox_is_woken() {
        let hub = EventHub::default();
        let mut outbox = hub.attach();
        let waiting = tokio::spawn(async move { outbox.next().await });
        tokio::task::yield_now().await;
        hub.publish([Topic::Queue]);
        assert_eq!(waiting.await.unwrap().commit, 1);
    }
}
