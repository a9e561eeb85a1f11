//! Sockets: listeners that bound who may connect, and connections that cost little while idle.

mod deflate;
pub mod listener;
pub mod outgoing;
pub mod proxy;
pub mod sockets;
pub mod stream;
pub mod transport;
pub mod turned;

pub use listener::{Refusal, Service, ServiceOptions};
pub use sockets::{BindError, BoundListener, Sockets};
pub use stream::{Peer, Stream};
pub use transport::{Ready, Received, Recv, RecvOr, TlsInfo, Transport};
pub use turned::Turned;
