//! Who a client is: passwords, what SCRAM needs of them, tokens, certificates, and how often it may be wrong.
//!
//! The mechanisms themselves are machines in `nightmail-sasl`; here their questions are answered, for all protocols by
//! [`Services::authenticate`](crate::services::Services::authenticate).

mod attempts;
mod binding;
mod certificate;
mod jwt;
mod keys;
mod login;
mod password;
mod scram;
mod token;

pub use login::{Authenticated, Caller, LoggedIn, LoginError, Logins};
pub use password::{
    AuthError, HashParams, PASSWORD_OCTETS_MAX, Verifier, hash_password, new_password,
};
