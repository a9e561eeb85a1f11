//! What SEARCH reads: bodies and header values as UTF-8, compared without case (RFC 3501 §6.4.4).

use memchr::{memchr2_iter, memmem};

use crate::structure::Part;
use crate::{charset, transfer};

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

/// A key to look for, folded once.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TextSearch {
    folded: String,
}

impl TextSearch {
    /// Looks for `key` without regard to case.
    pub fn new(key: &str) -> Self {
        Self {
            folded: key.to_lowercase(),
        }
    }

    /// Whether the key occurs in `text`. The empty key occurs in every text.
    pub fn is_in(&self, text: &str) -> bool {
        if self.folded.is_ascii() {
            return contains_ascii(text.as_bytes(), self.folded.as_bytes());
        }
        memmem::find(text.to_lowercase().as_bytes(), self.folded.as_bytes()).is_some()
    }
}

/// Whether `needle` occurs in `haystack`, compared without case.
pub fn contains_fold(haystack: &str, needle: &str) -> bool {
    TextSearch::new(needle).is_in(haystack)
}

/// Looks for a lower-case ASCII needle.
fn contains_ascii(haystack: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else {
        return true;
    };
    memchr2_iter(first, first.to_ascii_uppercase(), haystack).any(|at| {
        haystack
            .get(at..at + needle.len())
            .is_some_and(|window| window.eq_ignore_ascii_case(needle))
    })
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
