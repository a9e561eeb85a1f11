//! Tag lists (RFC 6376 §3.2): `name=value; name=value`, as signatures and key records are written.

use std::ops::Range;

/// Tags read in one list; the RFCs define fewer than twenty.
const TAGS_MAX: usize = 64;

/// A list that breaks the grammar, or names a tag twice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Malformed;

/// The tags of one list in their order; values without white space around them.
#[derive(Clone, Debug, Default)]
pub(crate) struct TagList<'a> {
    tags: Vec<(&'a str, &'a str)>,
}

const fn is_fws(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

impl<'a> TagList<'a> {
    /// Parses a field's value or a record.
    pub(crate) fn parse(text: &'a [u8]) -> Result<Self, Malformed> {
        let text = std::str::from_utf8(text).map_err(|_| Malformed)?;
        let text = text.trim_matches(is_fws);
        let text = text.strip_suffix(';').unwrap_or(text);
        let mut list = Self::default();
        for tag in text.split(';') {
            let (name, value) = tag.split_once('=').ok_or(Malformed)?;
            let name = name.trim_matches(is_fws);
            if list.tags.len() == TAGS_MAX || !is_name(name) || list.get(name).is_some() {
                return Err(Malformed);
            }
            list.tags.push((name, value.trim_matches(is_fws)));
        }
        Ok(list)
    }

    /// The value of a tag; names are compared with case.
    pub(crate) fn get(&self, name: &str) -> Option<&'a str> {
        let mut tags = self.tags.iter();
        tags.find(|(known, _)| *known == name)
            .map(|(_, value)| *value)
    }

    /// The name of the first tag.
    pub(crate) fn first(&self) -> Option<&'a str> {
        self.tags.first().map(|(name, _)| *name)
    }
}

/// Without any white space.
pub(crate) fn packed(value: &str) -> String {
    value.chars().filter(|c| !is_fws(*c)).collect()
}

/// Where the value of the tag `b` stands in a field's value, white space around it included.
pub(crate) fn signature_range(value: &[u8]) -> Option<Range<usize>> {
    let mut start = 0;
    for tag in value.split(|octet| *octet == b';') {
        let end = start + tag.len();
        if let Some(equals) = memchr::memchr(b'=', tag) {
            let name = tag.get(..equals)?.trim_ascii();
            if name == b"b" {
                return Some(start + equals + 1..end);
            }
        }
        start = end + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn values_lose_the_white_space_around_them() {
        let list = TagList::parse(b" v=1;\r\n\t b = a b\r\n c ; d=;").unwrap();
        assert_eq!(list.get("v"), Some("1"));
        assert_eq!(list.get("b"), Some("a b\r\n c"));
        assert_eq!(list.get("d"), Some(""));
        assert_eq!(list.get("V"), None);
        assert_eq!(packed("a b\r\n c"), "abc");
    }

    #[test]
    fn what_breaks_the_grammar_is_refused() {
        for text in [
            "", "v", "v=1;;b=2", "v=1;v=1", "=1", "1v=2", "v=1;;", "a b=1",
        ] {
            assert!(TagList::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_signature_is_found_whole() {
        let value = b"bh=xb=; b= ab\r\n cd ; d=x";
        let range = signature_range(value).unwrap();
        assert_eq!(&value[range], b" ab\r\n cd ");
        assert_eq!(signature_range(b"bh=1; d=b"), None);
    }

    proptest! {
        #[test]
        fn no_octets_make_it_panic(octets: Vec<u8>) {
            let _ = TagList::parse(&octets);
            let _ = signature_range(&octets);
        }
    }
}
