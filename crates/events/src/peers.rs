//! The other nodes as this one hears them: what their numbers say about what was lost.
//!
//! Owns, per peer, the last number heard. Whatever cannot be told from a loss counts as one.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::time::Duration;

use nightmail_commit::Topic;
use nightmail_core::Timestamp;
use tokio::time::Instant;

use crate::wire::{Message, News, NodeId};

/// Peers kept at most; one beyond it is healed with each of its messages.
const PEERS_MAX: usize = 1024;

/// Another node, for the operator.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// Its run.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// The last of its commits that it spoke of.
    pub commit: u64,
    /// When it was last heard.
    pub heard: Timestamp,
}

/// Why all subscriptions of this node are woken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// A number is missing.
    Gap,
    /// A node is heard for the first time, and has spoken before.
    Met,
    /// A node says that more changed than it can name.
    Told,
    /// A node is heard no more: its last commits may never have been spoken of.
    Silent,
    /// A message that this program cannot read, perhaps of a newer one.
    Unreadable,
    /// The bus is connected again.
    Reconnected,
}

impl Cause {
    /// The word for it in metrics and logs.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Gap => "gap",
            Self::Met => "met",
            Self::Told => "told",
            Self::Silent => "silent",
            Self::Unreadable => "unreadable",
            Self::Reconnected => "reconnected",
        }
    }
}

/// What a message asks for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Verdict {
    /// Nothing: it is this node's own, old, or nothing but a sign of life.
    Nothing,
    /// To wake these.
    Wake(Vec<Topic>),
    /// To wake all.
    WakeAll(Cause),
}

struct Peer {
    name: String,
    number: u64,
    commit: u64,
    heard: Timestamp,
    silent_at: Instant,
}

/// The peers of a node.
pub(crate) struct Peers {
    own: NodeId,
    silence: Duration,
    peers: HashMap<NodeId, Peer>,
}

impl Peers {
    /// Of the node `own`, which takes a peer for gone after `silence` without a message.
    pub(crate) fn new(own: NodeId, silence: Duration) -> Self {
        Self {
            own,
            silence,
            peers: HashMap::new(),
        }
    }

    /// Takes note of a message and says what it asks for.
    pub(crate) fn hear(&mut self, message: Message, now: Instant) -> Verdict {
        if message.node == self.own {
            return Verdict::Nothing;
        }
        let silent_at = now + self.silence;
        let heard = nightmail_commit::now();
        let full = self.peers.len() >= PEERS_MAX;
        let last = match self.peers.entry(message.node) {
            Entry::Occupied(mut known) => {
                let peer = known.get_mut();
                let last = peer.number;
                peer.number = last.max(message.number);
                peer.commit = peer.commit.max(message.commit);
                (peer.heard, peer.silent_at) = (heard, silent_at);
                Some(last)
            }
            Entry::Vacant(_) if full => None,
            Entry::Vacant(place) => {
                tracing::info!(node = %message.node, name = message.name, "another node is heard");
                place.insert(Peer {
                    name: message.name,
                    number: message.number,
                    commit: message.commit,
                    heard,
                    silent_at,
                });
                None
            }
        };
        judge(last, message.number, message.news)
    }

    /// Forgets the peers that fell silent. True when there were any.
    pub(crate) fn forget_silent(&mut self, now: Instant) -> bool {
        let before = self.peers.len();
        self.peers.retain(|node, peer| {
            let heard = peer.silent_at > now;
            if !heard {
                tracing::warn!(%node, name = peer.name, "another node is heard no more");
            }
            heard
        });
        self.peers.len() < before
    }

    /// When the next peer falls silent, unless it is heard before.
    pub(crate) fn next_silence(&self) -> Option<Instant> {
        self.peers.values().map(|peer| peer.silent_at).min()
    }

    /// The peers by name.
    pub(crate) fn status(&self) -> Vec<PeerStatus> {
        let mut status: Vec<PeerStatus> = self
            .peers
            .iter()
            .map(|(node, peer)| PeerStatus {
                node: *node,
                name: peer.name.clone(),
                commit: peer.commit,
                heard: peer.heard,
            })
            .collect();
        status.sort_by(|a, b| (&a.name, a.node.0).cmp(&(&b.name, b.node.0)));
        status
    }
}

/// What a message of `number` asks for, when the last one heard of its node was `last`.
fn judge(last: Option<u64>, number: u64, news: News) -> Verdict {
    // A heartbeat repeats a number: what it says has been heard up to there, or is missing.
    let expected = match news {
        News::Heartbeat => number,
        News::Topics(_) | News::Everything => number.saturating_sub(1),
    };
    match last {
        None if expected > 0 => return Verdict::WakeAll(Cause::Met),
        Some(last) if expected > last => return Verdict::WakeAll(Cause::Gap),
        Some(last) if expected < last => return Verdict::Nothing,
        _ => {}
    }
    match news {
        News::Heartbeat => Verdict::Nothing,
        News::Topics(topics) => Verdict::Wake(topics),
        News::Everything => Verdict::WakeAll(Cause::Told),
    }
}

#[cfg(test)]
mod tests {
    use nightmail_core::MailboxId;
    use proptest::prelude::*;

    use super::*;

    const SILENCE: Duration = Duration::from_secs(10);

    fn topic(number: u64) -> Topic {
        Topic::Mailbox(MailboxId::new(number))
    }

    fn message(node: u64, number: u64, news: News) -> Message {
        Message {
            node: NodeId(node),
            name: format!("n{node}"),
            number,
            commit: number,
            news,
        }
    }

    fn event(number: u64) -> Message {
        message(2, number, News::Topics(vec![topic(number)]))
    }

    fn heartbeat(number: u64) -> Message {
        message(2, number, News::Heartbeat)
    }

    fn peers() -> Peers {
        Peers::new(NodeId(1), SILENCE)
    }

    #[test]
    fn events_in_order_wake_their_topics_alone() {
        let (mut peers, now) = (peers(), Instant::now());
        assert_eq!(peers.hear(heartbeat(0), now), Verdict::Nothing);
        for number in 1..5 {
            let wake = Verdict::Wake(vec![topic(number)]);
            assert_eq!(peers.hear(event(number), now), wake);
            assert_eq!(peers.hear(heartbeat(number), now), Verdict::Nothing);
        }
    }

    #[test]
    fn a_gap_wakes_all_once_and_late_and_doubled_events_nobody() {
        let (mut peers, now) = (peers(), Instant::now());
        peers.hear(event(1), now);
        let gap = Verdict::WakeAll(Cause::Gap);
        assert_eq!(peers.hear(event(3), now), gap);
        for old in [3, 2, 1] {
            assert_eq!(peers.hear(event(old), now), Verdict::Nothing);
        }
        assert_eq!(peers.hear(heartbeat(2), now), Verdict::Nothing);
        assert_eq!(peers.hear(event(4), now), Verdict::Wake(vec![topic(4)]));
        assert_eq!(peers.hear(heartbeat(5), now), gap);
        assert_eq!(peers.hear(heartbeat(5), now), Verdict::Nothing);
        assert_eq!(peers.hear(event(5), now), Verdict::Nothing);
    }

    #[test]
    fn a_node_met_in_the_middle_of_its_run_wakes_all() {
        let now = Instant::now();
        let met = Verdict::WakeAll(Cause::Met);
        assert_eq!(peers().hear(event(7), now), met);
        assert_eq!(peers().hear(heartbeat(7), now), met);
        assert_eq!(peers().hear(event(1), now), Verdict::Wake(vec![topic(1)]));
    }

    #[test]
    fn own_messages_ask_for_nothing() {
        let (mut peers, now) = (peers(), Instant::now());
        let own = message(1, 5, News::Everything);
        assert_eq!(peers.hear(own, now), Verdict::Nothing);
        assert!(peers.status().is_empty());
    }

    #[test]
    fn a_node_that_falls_silent_is_forgotten_and_met_again() {
        let (mut peers, start) = (peers(), Instant::now());
        assert_eq!(peers.next_silence(), None);
        peers.hear(event(1), start);
        assert_eq!(peers.next_silence(), Some(start + SILENCE));
        assert!(!peers.forget_silent(start + SILENCE / 2));
        assert_eq!(peers.status().len(), 1);
        assert!(peers.forget_silent(start + SILENCE));
        assert!(!peers.forget_silent(start + SILENCE));
        let again = peers.hear(event(2), start + SILENCE);
        assert_eq!(again, Verdict::WakeAll(Cause::Met));
    }

    #[test]
    fn a_flood_of_nodes_is_bounded_and_healed() {
        let (mut peers, now) = (peers(), Instant::now());
        for node in 0..PEERS_MAX as u64 + 10 {
            peers.hear(message(node + 2, 1, News::Heartbeat), now);
        }
        assert_eq!(peers.status().len(), PEERS_MAX);
        let beyond = message(u64::MAX, 3, News::Topics(vec![Topic::Queue]));
        assert_eq!(peers.hear(beyond, now), Verdict::WakeAll(Cause::Met));
    }

    proptest! {
        /// Messages 1 to `count` are sent in order; each is delivered at any times after it was sent, or never. After
        /// the heartbeat at the end, each was woken by itself or by a waking of all that came after it was sent.
        #[test]
        fn nothing_that_was_sent_goes_unnoticed(
            count in 1_u64..30,
            deliveries in prop::collection::vec((1_u64..30, 0_u64..30), 0..60),
        ) {
            let (mut peers, now) = (peers(), Instant::now());
            peers.hear(heartbeat(0), now);
            let mut noticed = vec![false; count as usize + 1];
            // What is delivered at one time, after the message of that number was sent.
            for time in 1..=count + 30 {
                let sent = time.min(count);
                for (number, delay) in &deliveries {
                    if *number <= count && number + delay == time {
                        note(peers.hear(event(*number), now), sent, &mut noticed);
                    }
                }
            }
            note(peers.hear(heartbeat(count), now), count, &mut noticed);
            prop_assert!(noticed.iter().skip(1).all(|noticed| *noticed));
        }
    }

    fn note(verdict: Verdict, sent: u64, noticed: &mut [bool]) {
        match verdict {
            Verdict::Nothing => {}
            Verdict::Wake(topics) => {
                for (number, noticed) in noticed.iter_mut().enumerate() {
                    *noticed |= topics.contains(&topic(number as u64));
                }
            }
            Verdict::WakeAll(_) => noticed[..=sent as usize].fill(true),
        }
    }
}
