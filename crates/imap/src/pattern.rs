//! Patterns of LIST and LSUB (RFC 3501 §6.3.8): `*` is anything, `%` is anything within one level.

use crate::mutf7;
use crate::name::{MailboxName, SEPARATOR};

/// A reference and a pattern put together. One that is not modified UTF-7 matches no name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ListPattern(Option<Box<str>>);

impl ListPattern {
    /// From the wire forms of LIST's two arguments; the pattern is taken relative to the reference. `utf8`: the
    /// wire form is UTF-8, not modified UTF-7.
    pub fn from_wire(reference: &[u8], pattern: &[u8], utf8: bool) -> Self {
        let joined = [reference, pattern].concat();
        let text = if utf8 {
            String::from_utf8(joined).ok()
        } else {
            mutf7::decode(&joined).ok()
        };
        Self(text.map(String::into_boxed_str))
    }

    /// Whether the pattern as a whole is empty.
    pub fn is_empty(&self) -> bool {
        self.0.as_deref() == Some("")
    }

    /// Whether levels above a mailbox are reported too, which a final `%` asks for.
    pub fn wants_parents(&self) -> bool {
        self.0.as_ref().is_some_and(|text| text.ends_with('%'))
    }

    /// Whether a mailbox's name is meant.
    pub fn matches(&self, name: &MailboxName) -> bool {
        self.matches_str(name.as_str())
    }

    /// As [`Self::matches`], for a name without a mailbox, such as a level above one.
    pub fn matches_str(&self, name: &str) -> bool {
        self.0
            .as_ref()
            .is_some_and(|pattern| glob(pattern.as_bytes(), name.as_bytes()))
    }
}

/// Where matching goes on after a wildcard took one more octet.
#[derive(Clone, Copy)]
struct Retry<'a> {
    pattern: &'a [u8],
    at: usize,
}

/// After a mismatch the nearest `%` takes one more octet, or where it would cross a level, the nearest `*` does. An
/// earlier wildcard never needs to: the one after it already tried every place the earlier could have left it.
fn glob(mut pattern: &[u8], name: &[u8]) -> bool {
    let inbox_octets = inbox_octets(name);
    let (mut star, mut percent): (Option<Retry<'_>>, Option<Retry<'_>>) = (None, None);
    let mut at = 0;
    loop {
        match (pattern.split_first(), name.get(at)) {
            (Some((b'*', rest)), _) => {
                pattern = rest;
                star = Some(Retry { pattern, at });
                percent = None;
                continue;
            }
            (Some((b'%', rest)), _) => {
                pattern = rest;
                percent = Some(Retry { pattern, at });
                continue;
            }
            (Some((wanted, rest)), Some(found)) if same(*wanted, *found, at < inbox_octets) => {
                pattern = rest;
                at += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        let within =
            percent.filter(|retry| name.get(retry.at).is_some_and(|b| *b != SEPARATOR as u8));
        let retry = match (within, star) {
            (Some(retry), _) => &mut *percent.insert(retry),
            (None, Some(retry)) if retry.at < name.len() => {
                percent = None;
                &mut *star.insert(retry)
            }
            _ => return false,
        };
        retry.at += 1;
        pattern = retry.pattern;
        at = retry.at;
    }
}

/// How many octets at the front of a name are compared without case.
fn inbox_octets(name: &[u8]) -> usize {
    let first = name.split(|b| *b == SEPARATOR as u8).next();
    if first == Some(b"INBOX") { 5 } else { 0 }
}

fn same(wanted: u8, found: u8, caseless: bool) -> bool {
    wanted == found || (caseless && wanted.eq_ignore_ascii_case(&found))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn matches(pattern: &str, name: &str) -> bool {
        ListPattern::from_wire(b"", pattern.as_bytes(), false).matches_str(name)
    }

    #[test]
    fn percent_stops_at_a_level_and_star_does_not() {
        assert!(matches("*", "a/b/c"));
        assert!(matches("%", "a"));
        assert!(!matches("%", "a/b"));
        assert!(matches("a/%", "a/b"));
        assert!(!matches("a/%", "a/b/c"));
        assert!(matches("%/%", "a/b"));
        assert!(matches("*c", "a/b/c"));
        assert!(!matches("", "a"));
        assert!(matches("a", "a"));
        assert!(!matches("a", "A"));
    }

    #[test]
    fn inbox_is_found_in_any_case() {
        assert!(matches("inbox", "INBOX"));
        assert!(matches("inb%", "INBOX"));
        assert!(matches("Inbox/*", "INBOX/x"));
        assert!(!matches("inbox/X", "INBOX/x"));
        assert!(!matches("inboxes", "INBOXES"));
    }

    #[test]
    fn encoded_names_are_compared_decoded() {
        assert!(ListPattern::from_wire(b"&AOk-/", b"%", false).matches_str("é/x"));
        assert!(!ListPattern::from_wire(b"", b"&", false).matches_str("&"));
        assert!(ListPattern::from_wire("é/".as_bytes(), b"&%", true).matches_str("é/&AOk-"));
    }

    fn naive(pattern: &[u8], name: &[u8]) -> bool {
        match pattern.split_first() {
            None => name.is_empty(),
            Some((wild @ (b'*' | b'%'), rest)) => {
                naive(rest, name)
                    || name.split_first().is_some_and(|(first, after)| {
                        (*wild == b'*' || *first != b'/') && naive(pattern, after)
                    })
            }
            Some((wanted, rest)) => name
                .split_first()
                .is_some_and(|(first, after)| first == wanted && naive(rest, after)),
        }
    }

    proptest! {
        #[test]
        fn globbing_agrees_with_trying_everything(pattern in "[ab/*%]{0,9}", name in "[ab/]{0,10}") {
            prop_assert_eq!(matches(&pattern, &name), naive(pattern.as_bytes(), name.as_bytes()));
        }
    }
}
