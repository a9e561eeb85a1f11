//! SASL PLAIN (RFC 4616) and LOGIN, as AUTH carries them (RFC 4954).
//!
//! Owns the messages of both mechanisms and their base64. Never knows whether a password is right.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// A mechanism that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN: a prompt each for name and password.
    Login,
}

impl Mechanism {
    /// Every mechanism, best first.
    pub const ALL: [Self; 2] = [Self::Plain, Self::Login];

    /// The name in EHLO and AUTH.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
        }
    }

    /// The mechanism of a name, compared without case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
    }
}

/// A password; never shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Box<str>);

impl Password {
    /// Wraps a password.
    pub fn new(password: impl Into<Box<str>>) -> Self {
        Self(password.into())
    }

    /// The password itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// What a client says to prove who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// How it was said.
    pub mechanism: Mechanism,
    /// Whom the client wants to act as, where it is somebody else (`authzid`).
    pub authorization: Option<Box<str>>,
    /// Who the client is (`authcid`).
    pub identity: Box<str>,
    /// The password.
    pub password: Password,
}

/// A server's place in an exchange: which response it waits for.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Exchange {
    Plain,
    LoginIdentity,
    LoginPassword(Box<str>),
}

/// What follows from a response.
pub(crate) enum Step {
    Challenge(Exchange),
    Done(Credentials),
    Invalid,
}

impl Exchange {
    pub(crate) const fn start(mechanism: Mechanism) -> Self {
        match mechanism {
            Mechanism::Plain => Self::Plain,
            Mechanism::Login => Self::LoginIdentity,
        }
    }

    /// The base64 text of the challenge that asks for the response awaited.
    pub(crate) fn challenge(&self) -> String {
        match self {
            Self::Plain => String::new(),
            Self::LoginIdentity => encode(b"Username:"),
            Self::LoginPassword(_) => encode(b"Password:"),
        }
    }

    /// Takes a decoded response.
    pub(crate) fn respond(self, response: &[u8]) -> Step {
        let Ok(text) = std::str::from_utf8(response) else {
            return Step::Invalid;
        };
        match self {
            Self::Plain => plain(text).map_or(Step::Invalid, Step::Done),
            _ if text.is_empty() || text.contains('\0') => Step::Invalid,
            Self::LoginIdentity => Step::Challenge(Self::LoginPassword(text.into())),
            Self::LoginPassword(identity) => Step::Done(Credentials {
                mechanism: Mechanism::Login,
                authorization: None,
                identity,
                password: Password::new(text),
            }),
        }
    }
}

/// `authzid NUL authcid NUL passwd` (RFC 4616 §2).
fn plain(text: &str) -> Option<Credentials> {
    let (authorization, rest) = text.split_once('\0')?;
    let (identity, password) = rest.split_once('\0')?;
    let well_formed = !identity.is_empty() && !password.is_empty() && !password.contains('\0');
    well_formed.then(|| Credentials {
        mechanism: Mechanism::Plain,
        authorization: (!authorization.is_empty()).then(|| authorization.into()),
        identity: identity.into(),
        password: Password::new(password),
    })
}

/// The response to PLAIN, in base64.
pub(crate) fn plain_response(identity: &str, password: &Password) -> String {
    encode(format!("\0{identity}\0{}", password.as_str()).as_bytes())
}

pub(crate) fn encode(octets: &[u8]) -> String {
    STANDARD.encode(octets)
}

pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_is_read_as_it_is_written() {
        let response = plain_response("jörg", &Password::new("p w"));
        let decoded = decode(response.as_bytes()).unwrap();
        let Step::Done(credentials) = Exchange::Plain.respond(&decoded) else {
            panic!("not done");
        };
        assert_eq!(&*credentials.identity, "jörg");
        assert_eq!(credentials.password.as_str(), "p w");
        assert_eq!(credentials.authorization, None);
        assert!(!format!("{credentials:?}").contains("p w"));
    }

    #[test]
    fn malformed_plain_is_invalid() {
        for response in [
            &b""[..],
            b"a",
            b"\0a",
            b"\0a\0",
            b"\0\0p",
            b"\0a\0p\0",
            b"\0\xff\0p",
        ] {
            assert!(matches!(Exchange::Plain.respond(response), Step::Invalid));
        }
    }
}
