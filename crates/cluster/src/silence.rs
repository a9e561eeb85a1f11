//! How long other nodes have been silent, by this node's own clock.
//!
//! A node is silent while its heartbeat row stays the same from one look to the next. Looks that follow each other
//! closely count; when this node itself was away between two of them (paused, or without the store) everybody's
//! silence begins anew, because their heartbeats may have been held up by the same thing.

use std::collections::HashMap;

use nightmail_engine::Value;
use tokio::time::{Duration, Instant};

use crate::name::NodeName;
use crate::rows::Session;
use crate::view::View;

/// The last change that was seen of one node.
struct Seen {
    session: Session,
    beat: Option<Value>,
    since: Instant,
}

/// What this node has seen of the others.
pub(crate) struct Silence {
    /// The longest pause between two looks after which silence is still believed.
    pause_max: Duration,
    seen: HashMap<NodeName, Seen>,
    last_look: Option<Instant>,
}

impl Silence {
    /// Nobody has been seen yet.
    pub fn new(pause_max: Duration) -> Self {
        Self {
            pause_max,
            seen: HashMap::new(),
            last_look: None,
        }
    }

    /// This node could not look, or could not write its own heartbeat: what it believes of others may be its own doing.
    pub fn forget_all(&mut self) {
        self.seen.clear();
        self.last_look = None;
    }

    /// Takes note of a look that began and ended at these times. Returns the nodes that have been silent for `lease`.
    pub fn look(
        &mut self,
        view: &View,
        own: &NodeName,
        lease: Duration,
        (began, ended): (Instant, Instant),
    ) -> Vec<NodeName> {
        let paused = |last: Instant| ended.duration_since(last) > self.pause_max;
        if self.last_look.is_none_or(paused) {
            self.seen.clear();
        }
        self.last_look = Some(ended);
        self.seen
            .retain(|name, _| view.nodes.get(name).is_some_and(|node| node.row.is_live()));
        let mut expired = Vec::new();
        for (name, node) in view.live().filter(|(name, _)| *name != own) {
            let session = node.row.session;
            let beat = view.beats.get(name).map(|beat| beat.bytes.clone());
            match self.seen.get(name) {
                Some(seen) if seen.session == session && seen.beat == beat => {
                    if began.saturating_duration_since(seen.since) >= lease {
                        expired.push(name.clone());
                    }
                }
                _ => {
                    let since = ended;
                    self.seen.insert(
                        name.clone(),
                        Seen {
                            session,
                            beat,
                            since,
                        },
                    );
                }
            }
        }
        expired
    }
}
