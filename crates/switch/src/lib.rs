//! The message switch: where each recipient's copy goes, and the one intent that accepts a message.
//!
//! Owns routing: addresses resolve through the directory to accounts here, which are delivered to in the accepting
//! intent, or to addresses elsewhere, which are queued in the same intent. Never speaks a protocol.
//!
//! **Invariant:** a message is either accepted for every recipient that was promised, or for none.

mod error;
mod plan;
mod switch;

pub use error::{Refusal, SwitchError};
pub use plan::{Applied, Outcome, Plan, QuotaPolicy};
pub use switch::{Envelope, EnvelopeRecipient, Receipt, Routed, Switch};
