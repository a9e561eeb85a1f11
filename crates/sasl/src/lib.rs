//! SASL mechanisms as machines without I/O (RFC 4422): what a client says, what the server has to ask, what it answers.
//!
//! An [`Exchange`] is one authentication. The protocol around it carries its octets and its base64; the driver answers
//! its [`Question`]s. Never knows an account, draws no randomness: nonces and secrets come with the answers.
//!
//! **Invariant:** nothing here shows a password, a token or a key by `Debug`.
//! **Invariant:** an exchange that has failed never succeeds.

mod channel;
pub mod client;
mod encoding;
mod exchange;
mod mechanism;
mod oauth;
mod password;
mod plain;
mod prepare;
mod scram;
mod secret;

pub use channel::Channel;
pub use encoding::{decode, decode_initial, encode};
pub use exchange::{Answer, Exchange, Failure, Question, Step};
pub use mechanism::{Mechanism, MechanismSet};
pub use password::Password;
pub use prepare::prepare;
pub use secret::{ScramHash, ScramSecret};
