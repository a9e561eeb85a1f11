//! Character sets to UTF-8, by the names of the WHATWG Encoding Standard.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// Decodes bytes of a named charset; `None` where the name is not known. What the charset does not define
/// becomes U+FFFD.
pub fn decode_charset(name: &str, bytes: &[u8]) -> Option<String> {
    let encoding = Encoding::for_label(name.trim().as_bytes())?;
    let (text, _) = encoding.decode_without_bom_handling(bytes);
    Some(text.into_owned())
}

/// Decodes bytes whose charset is not named or not known: as UTF-8 where they are, otherwise as windows-1252.
pub fn decode_unnamed(bytes: &[u8]) -> String {
    let (text, malformed) = UTF_8.decode_without_bom_handling(bytes);
    if malformed {
        return WINDOWS_1252
            .decode_without_bom_handling(bytes)
            .0
            .into_owned();
    }
    text.into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_charsets_become_utf8() {
        assert_eq!(
            decode_charset("ISO-8859-1", b"J\xf6rg").as_deref(),
            Some("Jörg")
        );
        assert_eq!(
            decode_charset("us-ascii", b"plain").as_deref(),
            Some("plain")
        );
        assert_eq!(decode_charset("koi8-r", b"\xf0\xd2").as_deref(), Some("Пр"));
        assert_eq!(decode_charset("x-unknown", b"a"), None);
    }

    #[test]
    fn unnamed_bytes_are_utf8_or_latin() {
        assert_eq!(decode_unnamed("Jörg".as_bytes()), "Jörg");
        assert_eq!(decode_unnamed(b"J\xf6rg"), "Jörg");
    }
}
