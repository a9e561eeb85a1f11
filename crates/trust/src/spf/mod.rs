//! SPF (RFC 7208): whether a client may send in a domain's name.

mod check;
mod macros;
mod record;
#[cfg(test)]
mod suite;

use std::net::IpAddr;

use nightmail_core::Address;

pub(crate) use check::check;

/// What is said (RFC 7208 §2.6).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpfResult {
    /// The domain says nothing.
    None,
    /// The domain does not want to say.
    Neutral,
    /// The client may.
    Pass,
    /// The client may not.
    Fail,
    /// The client probably may not.
    SoftFail,
    /// A lookup failed; another time it may not.
    TempError,
    /// What the domain says cannot be understood.
    PermError,
}

impl SpfResult {
    /// The keyword of Authentication-Results.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Neutral => "neutral",
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::SoftFail => "softfail",
            Self::TempError => "temperror",
            Self::PermError => "permerror",
        }
    }
}

/// Whose domain was asked about.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpfIdentity {
    /// The sender's.
    MailFrom,
    /// The client's own name: the sender is null.
    Helo,
}

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct SpfQuery<'a> {
    /// The client.
    pub client: IpAddr,
    /// The name it gave in HELO or EHLO.
    pub helo: &'a str,
    /// The sender; `None` for the null reverse-path, where the HELO name is asked about.
    pub sender: Option<&'a Address>,
}

/// The answer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Spf {
    /// What the domain says.
    pub result: SpfResult,
    /// The domain, as it was given.
    pub domain: String,
    /// Whose domain it is.
    pub identity: SpfIdentity,
    /// What the domain wants the client to be told on `Fail`: printable ASCII, not to be trusted, at most 400 octets.
    pub explanation: Option<String>,
    /// The sender or, for the HELO identity, the name.
    pub subject: String,
}

impl Spf {
    /// The answer where nothing was asked.
    pub fn none(query: &SpfQuery<'_>) -> Self {
        let (identity, domain) = match query.sender {
            Some(sender) => (SpfIdentity::MailFrom, sender.domain().as_str()),
            None => (SpfIdentity::Helo, query.helo),
        };
        let subject = query
            .sender
            .map_or_else(|| domain.to_owned(), Address::to_string);
        Self {
            result: SpfResult::None,
            domain: domain.to_owned(),
            identity,
            explanation: None,
            subject,
        }
    }
}
