//! Events between nodes: hints that something changed, carried by PostgreSQL or NATS.
//!
//! Owns what one node tells the others after its commits. A [`Bridge`] takes it out of the node's hub, numbers it and
//! hands it to a [`Bus`]; what comes in wakes this node's subscriptions. A hint carries the number of the commit it
//! speaks of and never data. The numbers show what was lost, doubled or late, and it is healed by waking everybody:
//! correctness needs no message to arrive, and no commit waits for one.
//!
//! **Invariant:** nothing that a message says is taken for the state of anything; the store is asked.

mod bridge;
mod bus;
mod channel;
mod memory;
mod nats;
mod peers;
mod postgres;
mod wire;

pub use bridge::{Bridge, BridgeOptions, BridgeStatus};
pub use bus::{Bus, BusError, Connectivity, Received};
pub use channel::{Channel, ChannelError};
pub use memory::{Faults, MemoryBus, MemoryNetwork};
pub use nats::{NatsAddressError, NatsBus, NatsLogin, NatsOptions, NatsTls};
pub use peers::PeerStatus;
pub use postgres::PostgresBus;
pub use wire::{MESSAGE_BYTES_MAX, Message, News, NodeId, WireError};
