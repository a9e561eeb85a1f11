//! Mailbox names: UTF-8, levels separated by `/`, INBOX in any case being the same mailbox (RFC 3501 §5.1).

use std::fmt;

use thiserror::Error;

/// The hierarchy separator.
pub const SEPARATOR: char = '/';
const NAME_OCTETS_MAX: usize = 1000;
const LEVELS_MAX: usize = 32;

/// Why text is not a mailbox name.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum NameError {
    /// Empty, or an empty level.
    #[error("a mailbox name has no empty level")]
    Empty,
    /// Control characters, or wildcards that LIST could not tell from a pattern.
    #[error("a mailbox name has no control characters and neither % nor *")]
    Character,
    /// Too many octets or levels.
    #[error("the mailbox name is too long")]
    TooLong,
}

/// A valid mailbox name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MailboxName(Box<str>);

impl MailboxName {
    /// Validates a name. One trailing separator is dropped (RFC 3501 §6.3.3).
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let text = text.strip_suffix(SEPARATOR).unwrap_or(text);
        if text.len() > NAME_OCTETS_MAX || text.split(SEPARATOR).count() > LEVELS_MAX {
            return Err(NameError::TooLong);
        }
        if text.split(SEPARATOR).any(str::is_empty) {
            return Err(NameError::Empty);
        }
        if text
            .chars()
            .any(|c| c.is_control() || matches!(c, '%' | '*'))
        {
            return Err(NameError::Character);
        }
        let (first, rest) = text
            .split_once(SEPARATOR)
            .map_or((text, None), |(first, rest)| (first, Some(rest)));
        if !first.eq_ignore_ascii_case("INBOX") {
            return Ok(Self(text.into()));
        }
        Ok(match rest {
            None => Self::inbox(),
            Some(rest) => Self(format!("INBOX{SEPARATOR}{rest}").into()),
        })
    }

    /// INBOX.
    pub fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// Whether this is INBOX.
    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name one level up.
    pub fn parent(&self) -> Option<Self> {
        self.0
            .rsplit_once(SEPARATOR)
            .map(|(parent, _)| Self(parent.into()))
    }

    /// Whether this name lies below `other`.
    pub fn is_below(&self, other: &Self) -> bool {
        self.0
            .strip_prefix(&*other.0)
            .is_some_and(|rest| rest.starts_with(SEPARATOR))
    }

    /// This name with the leading `old` exchanged for `new`, where it lies below `old` or is it.
    pub fn rebased(&self, old: &Self, new: &Self) -> Option<Self> {
        let rest = self.0.strip_prefix(&*old.0)?;
        (rest.is_empty() || rest.starts_with(SEPARATOR))
            .then(|| Self(format!("{}{rest}", new.0).into()))
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inbox_is_one_mailbox_in_any_case() {
        assert!(MailboxName::parse("inBox").unwrap().is_inbox());
        assert_eq!(
            MailboxName::parse("inbox/Sub").unwrap().as_str(),
            "INBOX/Sub"
        );
        assert!(!MailboxName::parse("Inboxes").unwrap().is_inbox());
    }

    #[test]
    fn empty_levels_and_wildcards_are_refused() {
        for text in ["", "/", "a//b", "/a", "a%", "*", "a\u{7}"] {
            assert!(MailboxName::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(MailboxName::parse("a/b/").unwrap().as_str(), "a/b");
    }

    #[test]
    fn rebasing_keeps_what_lies_below() {
        let name = |text| MailboxName::parse(text).unwrap();
        assert_eq!(
            name("a/b/c").rebased(&name("a"), &name("x/y")),
            Some(name("x/y/b/c"))
        );
        assert_eq!(name("ab").rebased(&name("a"), &name("x")), None);
    }
}
