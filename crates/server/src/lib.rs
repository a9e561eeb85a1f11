//! The frame around the protocol machines: configuration, TLS, listeners, connections, logins, log, metrics,
//! and stopping.
//!
//! Owns sockets, clocks and randomness, so that the layers below need none. Knows no mail: the drivers bring the
//! protocol machines, and the store answers them.

pub mod auth;
pub mod backend;
pub mod config;
pub mod drivers;
pub mod error;
pub mod gate;
pub mod http;
mod jobs;
mod journal;
pub mod log;
mod membership;
pub mod metrics;
pub mod net;
pub mod node;
mod outbound;
mod outbound_tls;
mod reports;
pub mod services;
pub mod shared;
pub mod shutdown;
pub mod system;
#[cfg(test)]
mod test_services;
pub mod tls;
mod trace_fields;

pub use error::ServerError;
pub use outbound::SMARTHOST;
