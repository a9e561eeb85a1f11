//! Looking names up: what a receiving and a sending site ask of DNS, with answers that part "no" from "not known".
//!
//! Owns the resolver and its cache. Nothing here decides about mail: an answer is a fact, or [`Nothing`] and why.

mod answer;
pub mod audit;
mod dns;
mod links;
mod options;
mod secure;
mod validate;

pub use answer::{Mx, Nothing};
pub use dns::Dns;
pub use options::{DnsOptions, DnsSetupError};
pub use secure::{Secure, Tlsa};
