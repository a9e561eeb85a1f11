//! The mechanisms and sets of them.

use crate::{Channel, ScramHash};

/// A mechanism that is spoken here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mechanism {
    /// PLAIN (RFC 4616).
    Plain,
    /// LOGIN: a prompt each for name and password.
    Login,
    /// SCRAM-SHA-1 (RFC 5802).
    ScramSha1,
    /// SCRAM-SHA-1-PLUS: bound to the TLS connection.
    ScramSha1Plus,
    /// SCRAM-SHA-256 (RFC 7677).
    ScramSha256,
    /// SCRAM-SHA-256-PLUS: bound to the TLS connection.
    ScramSha256Plus,
    /// OAUTHBEARER (RFC 7628).
    OAuthBearer,
    /// XOAUTH2: the same with the form of Google's and Microsoft's clients.
    XOAuth2,
    /// EXTERNAL (RFC 4422 appendix A): the client's certificate.
    External,
}

impl Mechanism {
    /// Every mechanism, best first.
    pub const ALL: [Self; 9] = [
        Self::External,
        Self::ScramSha256Plus,
        Self::ScramSha1Plus,
        Self::ScramSha256,
        Self::ScramSha1,
        Self::OAuthBearer,
        Self::XOAuth2,
        Self::Plain,
        Self::Login,
    ];

    /// The name that is registered for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha1 => "SCRAM-SHA-1",
            Self::ScramSha1Plus => "SCRAM-SHA-1-PLUS",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha256Plus => "SCRAM-SHA-256-PLUS",
            Self::OAuthBearer => "OAUTHBEARER",
            Self::XOAuth2 => "XOAUTH2",
            Self::External => "EXTERNAL",
        }
    }

    /// The mechanism of a name, compared without case.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|known| known.as_str().eq_ignore_ascii_case(name))
    }

    /// The hash of a SCRAM mechanism, and whether it is bound to the channel.
    pub(crate) const fn scram(self) -> Option<(ScramHash, bool)> {
        match self {
            Self::ScramSha1 => Some((ScramHash::Sha1, false)),
            Self::ScramSha1Plus => Some((ScramHash::Sha1, true)),
            Self::ScramSha256 => Some((ScramHash::Sha256, false)),
            Self::ScramSha256Plus => Some((ScramHash::Sha256, true)),
            _ => None,
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// Some of the mechanisms.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct MechanismSet(u16);

impl MechanismSet {
    /// None of them.
    pub const EMPTY: Self = Self(0);

    /// All of them.
    pub fn all() -> Self {
        Mechanism::ALL.into_iter().collect()
    }

    /// Whether it is among them.
    pub const fn contains(self, mechanism: Mechanism) -> bool {
        self.0 & mechanism.bit() != 0
    }

    /// Adds one.
    pub const fn insert(&mut self, mechanism: Mechanism) {
        self.0 |= mechanism.bit();
    }

    /// Takes one out.
    pub const fn remove(&mut self, mechanism: Mechanism) {
        self.0 &= !mechanism.bit();
    }

    /// Whether there are none.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in the set, best first.
    pub fn iter(self) -> impl Iterator<Item = Mechanism> {
        let all = Mechanism::ALL.into_iter();
        all.filter(move |mechanism| self.contains(*mechanism))
    }

    /// Those that work over a channel: EXTERNAL needs a verified certificate, `-PLUS` needs a binding.
    pub fn over(self, channel: &Channel) -> Self {
        let works = |mechanism: &Mechanism| match mechanism {
            Mechanism::External => channel.certificate,
            mechanism => match mechanism.scram() {
                Some((_, true)) => !channel.bindings.is_empty(),
                _ => true,
            },
        };
        self.iter().filter(works).collect()
    }

    /// Whether a mechanism bound to the channel is among them.
    pub(crate) fn has_plus(self) -> bool {
        self.iter()
            .any(|mechanism| matches!(mechanism.scram(), Some((_, true))))
    }
}

impl FromIterator<Mechanism> for MechanismSet {
    fn from_iter<I: IntoIterator<Item = Mechanism>>(mechanisms: I) -> Self {
        let mut set = Self::EMPTY;
        for mechanism in mechanisms {
            set.insert(mechanism);
        }
        set
    }
}

impl std::fmt::Debug for MechanismSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set()
            .entries(self.iter().map(Mechanism::as_str))
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in() {
        let mut set: MechanismSet = [Mechanism::Plain, Mechanism::ScramSha1]
            .into_iter()
            .collect();
        assert!(set.contains(Mechanism::Plain) && !set.contains(Mechanism::Login));
        let names: Vec<_> = set.iter().map(Mechanism::as_str).collect();
        assert_eq!(names, ["SCRAM-SHA-1", "PLAIN"], "the best is first");
        set.remove(Mechanism::Plain);
        set.remove(Mechanism::ScramSha1);
        assert!(set.is_empty());
        assert_eq!(MechanismSet::all().iter().count(), Mechanism::ALL.len());
    }

    #[test]
    fn names_have_no_case_and_are_whole() {
        for mechanism in Mechanism::ALL {
            let name = mechanism.as_str().to_ascii_lowercase();
            assert_eq!(Mechanism::parse(&name), Some(mechanism));
        }
        assert_eq!(Mechanism::parse("SCRAM-SHA-256-PLU"), None);
        assert_eq!(Mechanism::parse(""), None);
    }

    #[test]
    fn a_channel_decides_what_works_over_it() {
        let plain = MechanismSet::all().over(&Channel::default());
        assert!(!plain.contains(Mechanism::External) && !plain.has_plus());
        assert!(plain.contains(Mechanism::ScramSha256) && plain.contains(Mechanism::OAuthBearer));
        let tls = Channel {
            bindings: vec![("tls-exporter", vec![1])],
            certificate: true,
        };
        assert_eq!(MechanismSet::all().over(&tls), MechanismSet::all());
    }
}
