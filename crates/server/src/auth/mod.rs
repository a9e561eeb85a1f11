//! Who a client is: passwords and what SCRAM needs of them.

mod password;
mod scram;

pub use password::{
    AuthError, HashParams, PASSWORD_OCTETS_MAX, Verifier, hash_password, new_password,
};
