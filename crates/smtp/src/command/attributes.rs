//! XCLIENT and XFORWARD: what a proxy or filter in front of us says of the client behind it, in the form that Postfix
//! has given it.

use std::fmt;

use super::xtext::Xtext;
use super::{CommandError, words};

/// Octets of one value, decoded.
const VALUE_OCTETS_MAX: usize = 255;

/// Which attribute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum XName {
    /// The client's name by reverse DNS.
    Name,
    /// The client's address; IPv6 with the prefix `IPV6:`.
    Addr,
    /// The client's port.
    Port,
    /// `SMTP` or `ESMTP`.
    Proto,
    /// The name in HELO or EHLO.
    Helo,
    /// Whom the client has authenticated as (XCLIENT).
    Login,
    /// The address that the client has connected to (XCLIENT).
    DestAddr,
    /// The port that the client has connected to (XCLIENT).
    DestPort,
    /// The message's id at the other server (XFORWARD).
    Ident,
    /// `LOCAL` or `REMOTE` (XFORWARD).
    Source,
}

/// One attribute.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct XAttribute {
    /// Which.
    pub name: XName,
    /// Its value without control characters; nothing for `[UNAVAILABLE]` and `[TEMPUNAVAIL]`.
    pub value: Option<String>,
}

impl XName {
    /// The attributes of XCLIENT.
    pub const XCLIENT: [Self; 8] = [
        Self::Name,
        Self::Addr,
        Self::Port,
        Self::Proto,
        Self::Helo,
        Self::Login,
        Self::DestAddr,
        Self::DestPort,
    ];

    /// The attributes of XFORWARD.
    pub const XFORWARD: [Self; 7] = [
        Self::Name,
        Self::Addr,
        Self::Port,
        Self::Proto,
        Self::Helo,
        Self::Ident,
        Self::Source,
    ];

    /// Its name in the command.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Addr => "ADDR",
            Self::Port => "PORT",
            Self::Proto => "PROTO",
            Self::Helo => "HELO",
            Self::Login => "LOGIN",
            Self::DestAddr => "DESTADDR",
            Self::DestPort => "DESTPORT",
            Self::Ident => "IDENT",
            Self::Source => "SOURCE",
        }
    }
}

impl XAttribute {
    /// Parses what follows the verb: at least one attribute of `known`, each at most once.
    pub(crate) fn parse_all(args: &[u8], known: &[XName]) -> Result<Vec<Self>, CommandError> {
        let mut out: Vec<Self> = Vec::new();
        for word in words(args) {
            let attribute = Self::parse(word, known)?;
            if out.iter().any(|earlier| earlier.name == attribute.name) {
                return Err(CommandError::ParameterTwice);
            }
            out.push(attribute);
        }
        match out.is_empty() {
            true => Err(CommandError::Arguments),
            false => Ok(out),
        }
    }

    fn parse(word: &[u8], known: &[XName]) -> Result<Self, CommandError> {
        let text = std::str::from_utf8(word).map_err(|_| CommandError::ParameterValue)?;
        let (name, value) = text.split_once('=').ok_or(CommandError::Arguments)?;
        let name = known
            .iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
            .ok_or(CommandError::Arguments)?;
        let value = decoded(value).ok_or(CommandError::ParameterValue)?;
        let unknown = ["[UNAVAILABLE]", "[TEMPUNAVAIL]"]
            .iter()
            .any(|word| word.eq_ignore_ascii_case(&value));
        Ok(Self {
            name: *name,
            value: (!unknown).then_some(value),
        })
    }
}

fn decoded(value: &str) -> Option<String> {
    let text = Xtext::parse(value)?.decode();
    (1..=VALUE_OCTETS_MAX).contains(&text.len()).then_some(text)
}

/// `NAME=value`.
impl fmt::Display for XAttribute {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.name.as_str();
        match &self.value {
            None => write!(f, "{name}=[UNAVAILABLE]"),
            Some(value) => write!(f, "{name}={}", Xtext::encode(value).as_str()),
        }
    }
}
