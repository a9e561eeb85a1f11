//! What SEARCH reads: bodies and header values as UTF-8, compared without case (RFC 3501 §6.4.4).

use memchr::{memchr2_iter, memmem};

use crate::structure::Part;
use crate::{casemap, charset, transfer};

/// Decodes the body of a leaf: its transfer encoding, and its charset where it is text. `raw` is the body as it
/// lies in the message. A charset that is not known is read as UTF-8 or windows-1252.
pub fn decode_text(part: &Part, raw: &[u8]) -> String {
    let decoded = decode_transfer(part, raw);
    part.media
        .parameter("charset")
        .and_then(|name| std::str::from_utf8(name).ok())
        .and_then(|name| charset::decode_charset(name, &decoded))
        .unwrap_or_else(|| charset::decode_unnamed(&decoded))
}

/// Decodes the transfer encoding of a part's body.
pub fn decode_transfer(part: &Part, raw: &[u8]) -> Vec<u8> {
    let encoding = part.encoding.as_deref().unwrap_or_default();
    if encoding.eq_ignore_ascii_case(b"base64") {
        transfer::decode_base64(raw)
    } else if encoding.eq_ignore_ascii_case(b"quoted-printable") {
        transfer::decode_quoted_printable(raw)
    } else {
        raw.to_vec()
    }
}

/// A key to look for, folded once (RFC 5051).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextSearch {
    folded: String,
    /// The octet of the key that is least frequent in texts, and its place.
    anchor: (usize, u8),
}

impl TextSearch {
    /// Looks for `key` without regard to case.
    pub fn new(key: &str) -> Self {
        let folded = casemap::fold(key).into_owned();
        let rarest = folded
            .bytes()
            .enumerate()
            .min_by_key(|(_, b)| frequency(*b));
        Self {
            anchor: rarest.unwrap_or_default(),
            folded,
        }
    }

    /// Whether the key occurs in `text`. The empty key occurs in every text.
    pub fn is_in(&self, text: &str) -> bool {
        if self.folded.is_empty() {
            return true;
        }
        if self.folded.is_ascii() && self.is_in_ascii(text.as_bytes()) {
            return true;
        }
        !text.is_ascii()
            && memmem::find(casemap::fold(text).as_bytes(), self.folded.as_bytes()).is_some()
    }

    /// Looks for a key that is ASCII as it is.
    fn is_in_ascii(&self, haystack: &[u8]) -> bool {
        let needle = self.folded.as_bytes();
        let (place, octet) = self.anchor;
        memchr2_iter(octet, octet.to_ascii_lowercase(), haystack).any(|at| {
            at.checked_sub(place)
                .and_then(|start| haystack.get(start..start + needle.len()))
                .is_some_and(|window| window.eq_ignore_ascii_case(needle))
        })
    }
}

/// How often a capital or another octet stands in texts, roughly: letters of most languages in their order.
fn frequency(octet: u8) -> usize {
    const FREQUENT: &[u8] = b" EAINTRSOLDHUCMPGFBVWKYZXJQ.0-1,2";
    let place = FREQUENT.iter().position(|known| *known == octet);
    place.map_or(0, |place| FREQUENT.len() - place)
}

/// Whether `needle` occurs in `haystack`, compared without case.
pub fn contains_fold(haystack: &str, needle: &str) -> bool {
    TextSearch::new(needle).is_in(haystack)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_does_not_matter_in_any_script() {
        assert!(contains_fold("Hello World", "LO wo"));
        assert!(contains_fold("GRÜSSE aus Köln", "grüsse AUS kÖLN"));
        assert!(contains_fold("anything", ""));
        assert!(!contains_fold("Hello", "hello "));
        assert!(!contains_fold("", "a"));
        assert!(contains_fold("aab", "AB"));
    }

    #[test]
    fn bodies_are_decoded_by_their_own_header() {
        let message = b"Content-Type: text/plain; charset=iso-8859-1\r\n\
            Content-Transfer-Encoding: quoted-printable\r\n\r\nGr=FC=\r\nezi";
        let structure = crate::scan(message);
        let part = structure.root();
        let raw = &message[part.body.start as usize..part.body.end as usize];
        assert_eq!(decode_text(part, raw), "Grüezi");
        let message = "Content-Transfer-Encoding: BASE64\r\n\r\nR3LDvGV6aQ==\r\n".as_bytes();
        let structure = crate::scan(message);
        let raw = &message[structure.root().body.start as usize..];
        assert_eq!(decode_text(structure.root(), raw), "Grüezi");
    }
}
