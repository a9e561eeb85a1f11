//! Patterns of LIST and LSUB (RFC 3501 §6.3.8): `*` is anything, `%` is anything within one level.
//!
//! A name is matched by following all places in the pattern at once, as bits, so that the time is bounded by the
//! length of the name times that of the pattern over 64, whatever wildcards there are.

use crate::mutf7;
use crate::name::{MailboxName, SEPARATOR};

/// More octets than any mailbox name has: a pattern with more than that matches none.
const LITERAL_OCTETS_MAX: usize = 4096;

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
        let fits = text.map(|text| without_doubled_wildcards(&text));
        Self(fits.filter(|text| text.len() <= 2 * LITERAL_OCTETS_MAX))
    }

    /// Whether the pattern as a whole is empty.
    pub fn is_empty(&self) -> bool {
        self.0.as_deref() == Some("")
    }

    /// Whether levels above a mailbox are reported too, which a final `%` asks for.
    pub fn wants_parents(&self) -> bool {
        self.0.as_ref().is_some_and(|text| text.ends_with('%'))
    }

    /// Whether the pattern may match `prefix` without its separator at the end, or a name that begins with it.
    pub fn may_reach(&self, prefix: &str) -> bool {
        let Some(pattern) = &self.0 else {
            return false;
        };
        let literal = pattern.split(['*', '%']).next().unwrap_or_default();
        let whole = literal.len() == pattern.len();
        literal.starts_with(prefix)
            || (!whole && prefix.starts_with(literal))
            || prefix.strip_suffix(SEPARATOR) == Some(literal)
    }

    /// Whether a mailbox's name is meant.
    pub fn matches(&self, name: &MailboxName) -> bool {
        self.matches_str(name.as_str())
    }

    /// As [`Self::matches`], for a name without a mailbox, such as a level above one.
    pub fn matches_str(&self, name: &str) -> bool {
        self.0.as_ref().is_some_and(|pattern| match &**pattern {
            "*" => true,
            "%" => !name.contains(SEPARATOR),
            pattern => Places::of(pattern.as_bytes()).reach_end(name.as_bytes()),
        })
    }
}

/// The same pattern with one wildcard where several follow each other: `*` where there is one among them.
fn without_doubled_wildcards(pattern: &str) -> Box<str> {
    let mut out = String::with_capacity(pattern.len());
    for c in pattern.chars() {
        match (out.chars().next_back(), c) {
            (Some('*'), '*' | '%') | (Some('%'), '%') => {}
            (Some('%'), '*') => {
                out.pop();
                out.push('*');
            }
            _ => out.push(c),
        }
    }
    out.into_boxed_str()
}

/// The places of a pattern that the name read so far may have led to: bit n for the place before octet n.
struct Places<'a> {
    pattern: &'a [u8],
    words: Vec<u64>,
}

impl<'a> Places<'a> {
    fn of(pattern: &'a [u8]) -> Self {
        let mut places = Self {
            pattern,
            words: vec![0; pattern.len() / 64 + 1],
        };
        places.add(0);
        places
    }

    /// Adds a place, and the one behind it where a wildcard stands there, which may stand for nothing.
    fn add(&mut self, place: usize) {
        let wild = matches!(self.pattern.get(place), Some(b'*' | b'%'));
        for place in place..=place + usize::from(wild) {
            if let Some(word) = self.words.get_mut(place / 64) {
                *word |= 1 << (place % 64);
            }
        }
    }

    fn reach_end(mut self, name: &[u8]) -> bool {
        let caseless = inbox_octets(name);
        for (at, octet) in name.iter().enumerate() {
            if !self.step(*octet, at < caseless) {
                return false;
            }
        }
        let end = self.pattern.len();
        self.words
            .get(end / 64)
            .is_some_and(|word| word >> (end % 64) & 1 == 1)
    }

    /// Reads one octet of the name; whether any place is left.
    fn step(&mut self, octet: u8, caseless: bool) -> bool {
        let before = self.words.clone();
        self.words.fill(0);
        let mut any = false;
        for (index, word) in before.into_iter().enumerate() {
            let mut word = word;
            while word != 0 {
                let place = index * 64 + word.trailing_zeros() as usize;
                word &= word - 1;
                match self.pattern.get(place) {
                    Some(b'*') => self.add(place),
                    Some(b'%') if octet != SEPARATOR as u8 => self.add(place),
                    Some(wanted) if same(*wanted, octet, caseless) => self.add(place + 1),
                    _ => continue,
                }
                any = true;
            }
        }
        any
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
    fn a_pattern_says_whether_it_may_reach_a_namespace() {
        let may = |pattern: &str| {
            ListPattern::from_wire(b"", pattern.as_bytes(), false).may_reach("Public/")
        };
        for pattern in ["*", "%", "P*", "Public", "Public/%", "Public/a", "%/x"] {
            assert!(may(pattern), "{pattern}");
        }
        for pattern in ["INBOX", "Pub", "Publican*", "a*", "&"] {
            assert!(!may(pattern), "{pattern}");
        }
    }

    #[test]
    fn wildcards_without_end_match_in_bounded_steps() {
        let name = "a".repeat(1000);
        assert!(!matches(&"*a%a".repeat(400), &format!("{name}/b")));
        assert!(matches(&"*a".repeat(500), &name));
        assert!(matches(&"*".repeat(60_000), &name));
        assert!(!matches(&"a".repeat(60_000), &name));
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
