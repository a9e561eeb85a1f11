//! How events are gathered and how long they are kept.

use std::time::Duration;

/// How the log of events works. The default keeps nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalOptions {
    /// How long events are kept; zero: none are noted, and those there are go with the next sweep.
    pub retention: Duration,
    /// How long an event waits at most before it is written; what a crash loses.
    pub flush_every: Duration,
    /// Events of a full block.
    pub block_events: usize,
    /// Octets of events that wait in memory; further ones are dropped and counted.
    pub memory_max: usize,
    /// The name of this node.
    pub node: String,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self {
            retention: Duration::ZERO,
            flush_every: Duration::from_secs(1),
            block_events: 1024,
            memory_max: 16 << 20,
            node: String::new(),
        }
    }
}
