//! Change events: hints that something under a topic has changed. The data is read from the store.
//!
//! A subscription compares version numbers, so a lost or doubled wake-up is healed by the next look.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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
}

/// Hands out subscriptions and wakes them.
#[derive(Clone, Default)]
pub struct EventHub {
    topics: Arc<Mutex<HashMap<Topic, Arc<TopicState>>>>,
}

impl EventHub {
    /// Subscribes to a topic from now on.
    pub fn subscribe(&self, topic: Topic) -> Subscription {
        let state = Arc::clone(self.topics.lock().entry(topic).or_default());
        let seen = state.version.load(Ordering::Acquire);
        Subscription {
            hub: self.clone(),
            topic,
            state,
            seen,
        }
    }

    /// Wakes every subscriber of each topic.
    pub fn publish(&self, topics: impl IntoIterator<Item = Topic>) {
        for topic in topics {
            let state = self.topics.lock().get(&topic).cloned();
            if let Some(state) = state {
                state.version.fetch_add(1, Ordering::AcqRel);
                state.notify.notify_waiters();
            }
        }
    }

    /// Topics that somebody listens to.
    pub fn topics(&self) -> usize {
        self.topics.lock().len()
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
        let mut topics = self.hub.topics.lock();
        // The map and this subscription hold the last two references: nobody else listens.
        if Arc::strong_count(&self.state) <= 2 {
            topics.remove(&self.topic);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
