//! The keys about the log of events.

use std::time::Duration;

use super::define::section;
use super::value::ByteSize;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

section! {
    /// The log of events in the store, which `nightmail trace` reads: for each message that was accepted, refused,
    /// delivered, sent, put off or given up, when that was, sender and recipient, Message-ID, the client or host, and
    /// what was replied. Nothing of what a message says, and nothing about who reads it.
    Journal {
        /// How long events are kept. "0s": no events are noted, and those there are go.
        keep: Duration = 7 * DAY, within Duration::ZERO..=3650 * DAY;
        /// Events wait in memory for each other no longer than this, then they are written. A crash loses them.
        flush_interval: Duration = SECOND, within Duration::from_millis(10)..=MINUTE;
        /// Memory for events while the store does not take them; what comes beyond is counted and not kept.
        memory: ByteSize = ByteSize::mib(16), within ByteSize::mib(1)..=ByteSize::mib(1024);
    }
}
