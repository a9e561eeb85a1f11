//! SASL PLAIN (RFC 4616) and LOGIN, as AUTH carries them (RFC 5034).
//!
//! Owns the messages of both mechanisms and their base64. Never knows whether a password is right.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::io::Password;

/// The mechanisms spoken here, as CAPA lists them.
pub(crate) const MECHANISMS: [&str; 2] = ["PLAIN", "LOGIN"];

/// Which response of the client is awaited.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exchange {
    Plain,
    LoginIdentity,
    LoginPassword(Box<str>),
}

/// What follows from a response.
pub(crate) enum Step {
    Challenge(Exchange),
    Credentials(Box<str>, Password),
    /// PLAIN names somebody else to act as.
    ActsAsOther,
    Malformed,
}

impl Exchange {
    /// The exchange of a mechanism, compared without case.
    pub(crate) fn start(mechanism: &str) -> Option<Self> {
        match mechanism.to_ascii_uppercase().as_str() {
            "PLAIN" => Some(Self::Plain),
            "LOGIN" => Some(Self::LoginIdentity),
            _ => None,
        }
    }

    /// The challenge that asks for the response awaited, in base64.
    pub(crate) fn challenge(&self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::LoginIdentity => STANDARD.encode("Username:"),
            Self::LoginPassword(_) => STANDARD.encode("Password:"),
        }
    }

    /// Takes a response in base64.
    pub(crate) fn respond(self, response: &str) -> Step {
        let decoded = STANDARD.decode(response).ok();
        let Some(text) = decoded.and_then(|bytes| String::from_utf8(bytes).ok()) else {
            return Step::Malformed;
        };
        match self {
            Self::Plain => plain(&text),
            _ if text.is_empty() || text.contains('\0') => Step::Malformed,
            Self::LoginIdentity => Step::Challenge(Self::LoginPassword(text.into())),
            Self::LoginPassword(identity) => Step::Credentials(identity, Password::new(text)),
        }
    }
}

/// `authzid NUL authcid NUL passwd` (RFC 4616 §2).
fn plain(text: &str) -> Step {
    let mut fields = text.split('\0');
    let (Some(other), Some(identity), Some(password), None) =
        (fields.next(), fields.next(), fields.next(), fields.next())
    else {
        return Step::Malformed;
    };
    if identity.is_empty() || password.is_empty() {
        return Step::Malformed;
    }
    if !other.is_empty() && other != identity {
        return Step::ActsAsOther;
    }
    Step::Credentials(identity.into(), Password::new(password))
}
