//! Mailbox names (RFC 3501 §5.1): UTF-8 inside, modified UTF-7 on the wire, `/` between levels.

use std::fmt;

use thiserror::Error;

use crate::mutf7;

/// The separator between levels of the hierarchy.
pub const SEPARATOR: char = '/';

/// Why text cannot name a mailbox.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Not modified UTF-7.
    #[error("the mailbox name is not valid modified UTF-7")]
    Encoding,
    /// Not UTF-8.
    #[error("the mailbox name is not valid UTF-8")]
    Utf8,
    /// Longer than the limit.
    #[error("the mailbox name is too long")]
    TooLong,
    /// Holds a control character.
    #[error("the mailbox name holds a control character")]
    Control,
}

/// A mailbox name. `INBOX` is kept in capitals, alone or as the first level; all else keeps its case.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MailboxName(Box<str>);

impl MailboxName {
    /// The mailbox that every account has.
    pub fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// From the wire form.
    pub fn from_wire(wire: &[u8], octets_max: usize) -> Result<Self, NameError> {
        if wire.len() > octets_max {
            return Err(NameError::TooLong);
        }
        let text = mutf7::decode(wire).map_err(|_| NameError::Encoding)?;
        Self::new(&text)
    }

    /// From the wire form of a session that has enabled UTF-8 (RFC 6855 §3).
    pub fn from_utf8(wire: &[u8], octets_max: usize) -> Result<Self, NameError> {
        if wire.len() > octets_max {
            return Err(NameError::TooLong);
        }
        let text = std::str::from_utf8(wire).map_err(|_| NameError::Utf8)?;
        // Line and paragraph separators are no control characters, yet forbidden likewise.
        if text.contains(['\u{2028}', '\u{2029}']) {
            return Err(NameError::Control);
        }
        Self::new(text)
    }

    /// From UTF-8 text.
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.chars().any(char::is_control) {
            return Err(NameError::Control);
        }
        Ok(Self(match text.split_at_checked(5) {
            Some((first, rest)) if is_inbox(first, rest) => format!("INBOX{rest}").into(),
            _ => text.into(),
        }))
    }

    /// UTF-8.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Modified UTF-7.
    pub fn to_wire(&self) -> String {
        mutf7::encode(&self.0)
    }

    /// Whether this is INBOX itself.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    /// Without one separator at the end, which CREATE allows (RFC 3501 §6.3.3).
    #[must_use]
    pub fn without_trailing_separator(self) -> Self {
        match self.0.strip_suffix(SEPARATOR) {
            Some(name) => Self::new(name).unwrap_or(Self(name.into())),
            None => self,
        }
    }

    /// Whether a mailbox may be made under this name: no empty level, nothing LIST takes for a wildcard, no line or
    /// paragraph separator (RFC 9051 §5.1).
    pub fn is_creatable(&self) -> bool {
        self.0.split(SEPARATOR).all(|level| !level.is_empty())
            && !self.0.contains(['*', '%', '\u{2028}', '\u{2029}'])
    }

    /// The names above this one, nearest last: `a`, `a/b` for `a/b/c`.
    pub fn ancestors(&self) -> impl Iterator<Item = &str> {
        self.0
            .match_indices(SEPARATOR)
            .filter_map(|(at, _)| self.0.get(..at))
            .filter(|name| !name.is_empty())
    }
}

fn is_inbox(first: &str, rest: &str) -> bool {
    first.eq_ignore_ascii_case("INBOX") && (rest.is_empty() || rest.starts_with(SEPARATOR))
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MailboxName {
        MailboxName::new(text).unwrap()
    }

    #[test]
    fn inbox_has_no_case_and_other_names_do() {
        assert!(name("iNbOx").is_inbox());
        assert_eq!(name("inbox/A").as_str(), "INBOX/A");
        assert_eq!(name("inboxes").as_str(), "inboxes");
        assert_ne!(name("a"), name("A"));
        assert!(name("inbox/").without_trailing_separator().is_inbox());
    }

    #[test]
    fn names_with_empty_levels_or_wildcards_cannot_be_created() {
        for text in ["", "/a", "a//b", "a/", "a*", "%"] {
            assert!(!name(text).is_creatable(), "{text:?}");
        }
        assert!(name("a/b c/é").is_creatable());
    }

    #[test]
    fn ancestors_are_the_levels_above() {
        assert_eq!(name("a/b/c").ancestors().collect::<Vec<_>>(), ["a", "a/b"]);
        assert_eq!(name("a").ancestors().count(), 0);
    }

    #[test]
    fn the_wire_form_is_bounded_and_checked() {
        assert_eq!(MailboxName::from_wire(b"abc", 2), Err(NameError::TooLong));
        assert_eq!(MailboxName::from_wire(b"a&b", 9), Err(NameError::Encoding));
        assert_eq!(MailboxName::from_wire(b"&AAA-", 9), Err(NameError::Control));
        assert_eq!(MailboxName::from_wire(b"&AOk-", 9).unwrap().as_str(), "é");
    }
}
