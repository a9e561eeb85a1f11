//! Which destinations something holds for.

use std::fmt;
use std::str::FromStr;

use nightmail_core::Domain;
use thiserror::Error;

/// A pattern of destinations. Names are compared without regard to case.
///
/// | written | fits |
/// |---|---|
/// | `*` | every destination |
/// | `example.com` | that domain, or an address literal such as `[192.0.2.1]` |
/// | `.example.com` | that domain and all below it |
/// | `*.example.com` | all below it, but not it |
/// | `mx:` and one of these | a destination one of whose mail exchangers fits |
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pattern {
    pub(crate) subject: Subject,
    pub(crate) name: Name,
}

/// What a name is compared with.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Subject {
    Domain,
    Hosts,
}

/// The names that fit, in lower case.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Name {
    Any,
    Exact(String),
    AndBelow(String),
    Below(String),
}

/// Text that is not a pattern of destinations.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "\"{0}\" is no pattern of destinations such as \"example.com\", \".example.com\", \"*.example.com\", \"mx:*.example.com\" or \"*\""
)]
pub struct PatternError(String);

impl Pattern {
    /// The pattern of all destinations.
    pub const fn any() -> Self {
        Self {
            subject: Subject::Domain,
            name: Name::Any,
        }
    }

    /// Whether the destination fits: its domain, or the hosts that take its mail where the pattern speaks of those.
    pub fn fits(&self, domain: &str, hosts: &[String]) -> bool {
        match self.subject {
            Subject::Domain => self.name.fits(domain),
            Subject::Hosts => hosts.iter().any(|host| self.name.fits(host)),
        }
    }
}

impl Name {
    fn parse(text: &str) -> Option<Self> {
        if text == "*" {
            return Some(Self::Any);
        }
        let (make, rest): (fn(String) -> Self, &str) = match text.strip_prefix("*.") {
            Some(rest) => (Self::Below, rest),
            None => match text.strip_prefix('.') {
                Some(rest) => (Self::AndBelow, rest),
                None => (Self::Exact, text),
            },
        };
        let domain = Domain::parse(rest).ok()?;
        let literal_below = domain.as_literal().is_some() && rest.len() < text.len();
        (!literal_below).then(|| make(domain.as_str().to_ascii_lowercase()))
    }

    pub(crate) fn fits(&self, name: &str) -> bool {
        let name = name.strip_suffix('.').unwrap_or(name);
        match self {
            Self::Any => true,
            Self::Exact(exact) => name.eq_ignore_ascii_case(exact),
            Self::AndBelow(top) => name.eq_ignore_ascii_case(top) || is_below(name, top),
            Self::Below(top) => is_below(name, top),
        }
    }
}

fn is_below(name: &str, top: &str) -> bool {
    let above = name.len().checked_sub(top.len());
    let parts = above.and_then(|at| name.split_at_checked(at));
    parts.is_some_and(|(above, below)| {
        above.len() > 1 && above.ends_with('.') && below.eq_ignore_ascii_case(top)
    })
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let (subject, rest) = match text.strip_prefix("mx:") {
            Some(rest) => (Subject::Hosts, rest),
            None => (Subject::Domain, text),
        };
        let name = Name::parse(rest).ok_or_else(|| PatternError(text.to_owned()))?;
        Ok(Self { subject, name })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.subject == Subject::Hosts {
            f.write_str("mx:")?;
        }
        match &self.name {
            Name::Any => f.write_str("*"),
            Name::Exact(name) => f.write_str(name),
            Name::AndBelow(name) => write!(f, ".{name}"),
            Name::Below(name) => write!(f, "*.{name}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fits(pattern: &str, domain: &str, hosts: &[&str]) -> bool {
        let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
        pattern.parse::<Pattern>().unwrap().fits(domain, &hosts)
    }

    #[test]
    fn each_form_fits_what_it_says() {
        for (pattern, inside, outside) in [
            ("example.com", "Example.COM", "a.example.com"),
            (".example.com", "example.com", "badexample.com"),
            (".example.com", "a.b.example.com", "example.org"),
            ("*.example.com", "a.example.com", "example.com"),
            ("*.example.com", "a.example.com.", ".example.com"),
            ("[192.0.2.1]", "[192.0.2.1]", "[192.0.2.2]"),
        ] {
            assert!(fits(pattern, inside, &[]), "{pattern} {inside}");
            assert!(!fits(pattern, outside, &[]), "{pattern} {outside}");
        }
        assert!(fits("*", "anything.test", &[]));
    }

    #[test]
    fn a_pattern_of_hosts_looks_at_hosts_alone() {
        let hosts = ["mx1.provider.test", "mx2.elsewhere.test"];
        assert!(fits("mx:.elsewhere.test", "customer.test", &hosts));
        assert!(!fits("mx:customer.test", "customer.test", &hosts));
        assert!(!fits("mx:*", "customer.test", &[]));
        assert!(!fits("provider.test", "customer.test", &["provider.test"]));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        for wrong in [
            "",
            "mx:",
            "a b",
            "*example.com",
            "a.*.b",
            ".[192.0.2.1]",
            "mx:mx:a.test",
            "*.",
        ] {
            assert!(wrong.parse::<Pattern>().is_err(), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn patterns_read_back_as_written(
            text in "(mx:)?(\\*|(\\*\\.|\\.)?[a-z]{1,8}(\\.[a-z]{1,8}){0,2})",
        ) {
            let pattern: Pattern = text.parse().unwrap();
            prop_assert_eq!(pattern.to_string(), text);
        }

        #[test]
        fn no_text_makes_a_pattern_panic(text: String, domain: String) {
            if let Ok(pattern) = text.parse::<Pattern>() {
                pattern.fits(&domain, std::slice::from_ref(&domain));
            }
        }
    }
}
