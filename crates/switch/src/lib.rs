//! The message switch: where each recipient's copy goes, and the one intent that accepts a message.
//!
//! Owns routing: addresses resolve through the directory to accounts here, which are delivered to in the accepting
//! intent, or to addresses elsewhere, which are queued in the same intent. Who asked to hear of a delivery is told in
//! that intent too. A message that is held back is queued whole and routed when it is let go. Never speaks a protocol.
//!
//! **Invariant:** a message is either accepted for every recipient that was promised, or for none.

mod envelope;
mod error;
mod notice;
mod plan;
pub mod report;
mod switch;

pub use envelope::{Body, Envelope, EnvelopeRecipient, Receipt, Routed};
pub use error::{Refusal, SwitchError};
pub use nightmail_queue::{DeliverBy, Demands};
pub use plan::{Applied, Outcome, Plan, QuotaPolicy};
pub use switch::Switch;
