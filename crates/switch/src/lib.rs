//! The message switch: where each recipient's copy goes, and the one intent that accepts a message.
//!
//! Owns routing: addresses resolve through the directory to accounts here, which are delivered to in the accepting
//! intent, or to addresses elsewhere, which are queued in the same intent. Who asked to hear of a delivery is told in
//! that intent too, and so is whoever gets an automatic reply. Mail that an account sends on goes in that account's name,
//! so that what fails comes back to it and its host may send it (SPF); what has no sender keeps none, and nobody is told
//! of its failure. A message that has been sent on by an account before is kept by it. A message that is held back is
//! queued whole and routed when it is let go. Never speaks a protocol.
//!
//! **Invariant:** a message is either accepted for every recipient that was promised, or for none.

mod apart;
mod copies;
mod envelope;
mod error;
mod grown;
mod notice;
mod plan;
pub mod report;
mod services;
mod switch;
mod vacation;

pub use envelope::{Body, Envelope, EnvelopeRecipient, Receipt, Routed};
pub use error::{Refusal, SwitchError};
pub use grown::Grown;
pub use nightmail_queue::{DeliverBy, Demands};
pub use plan::{Applied, Outcome, Plan, QuotaPolicy};
pub use switch::{SignReply, Switch};
