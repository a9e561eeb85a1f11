//! Names that certificates are shown for.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// Longest name, in octets (RFC 1035 §2.3.4).
const NAME_OCTETS_MAX: usize = 253;
/// Longest label, in octets.
const LABEL_OCTETS_MAX: usize = 63;

/// What is no name of a server.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error(
    "{0:?} is no name of a server; write it as \"mx.example.org\" or \"*.example.org\", international names in their xn-- form"
)]
pub struct NameError(String);

/// The name of a server in lower case, or `*.` and the name above a whole level of them (RFC 6125 §6.4.3).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct ServedName(String);

impl ServedName {
    /// Reads a name. A final dot is dropped; addresses are no names.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let lower = text.to_ascii_lowercase();
        let name = lower.strip_suffix('.').unwrap_or(&lower);
        let base = name.strip_prefix("*.").unwrap_or(name);
        let is_label = |label: &str| {
            (1..=LABEL_OCTETS_MAX).contains(&label.len())
                && label
                    .bytes()
                    .all(|octet| octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_'))
        };
        let numeric = base
            .rsplit('.')
            .next()
            .is_some_and(|last| last.bytes().all(|octet| octet.is_ascii_digit()));
        if name.len() > NAME_OCTETS_MAX || numeric || !base.split('.').all(is_label) {
            return Err(NameError(text.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for all names of one level.
    pub fn is_wildcard(&self) -> bool {
        self.0.starts_with("*.")
    }

    /// The wildcard that stands for this name among others; `None` for one of a single label.
    pub(crate) fn wildcard(name: &str) -> Option<String> {
        let (_, above) = name.split_once('.')?;
        Some(format!("*.{above}"))
    }
}

impl FromStr for ServedName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl fmt::Display for ServedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_in_any_case_and_with_a_final_dot() {
        for (text, name) in [
            ("MX.Example.ORG.", "mx.example.org"),
            ("*.example.org", "*.example.org"),
            ("localhost", "localhost"),
            ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ] {
            assert_eq!(ServedName::parse(text).unwrap().as_str(), name);
        }
    }

    #[test]
    fn what_no_certificate_can_name_is_refused() {
        let long = format!("{}.org", "a".repeat(64));
        for text in [
            "",
            ".",
            "*",
            "*.",
            "a..b",
            "mx.*.org",
            "*.*.org",
            "bücher.example",
            "192.0.2.1",
            "a b.org",
            "a/b.org",
            &long,
        ] {
            assert!(ServedName::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_wildcard_stands_for_one_level() {
        let above = ServedName::wildcard("mx.example.org");
        assert_eq!(above.as_deref(), Some("*.example.org"));
        assert_eq!(ServedName::wildcard("localhost"), None);
    }
}
