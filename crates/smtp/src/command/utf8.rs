//! Addresses of the type `utf-8` in ORCPT (RFC 6533 §3): UTF-8 as it is, or `\x{HEX}` for a character.

use std::fmt::Write;

/// Whether the text is such an address: no control character, no blank, no `=`, and `\` only before `x{HEX}`.
pub(super) fn is_address(text: &str) -> bool {
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let width = match c {
            '\\' => match escape(rest) {
                Some((_, width)) => width,
                None => return false,
            },
            ' ' | '=' => return false,
            c if c.is_control() => return false,
            c => c.len_utf8(),
        };
        rest = rest.get(width..).unwrap_or_default();
    }
    true
}

/// Puts an address into that form, in ASCII where asked for; control characters become `?`.
pub(super) fn encode(address: &str, ascii: bool) -> String {
    let mut out = String::with_capacity(address.len());
    for c in address.chars() {
        // Writing into a String cannot fail.
        let _ = match c {
            c if c.is_control() => out.write_char('?'),
            ' ' | '+' | '=' | '\\' => write!(out, "\\x{{{:X}}}", u32::from(c)),
            c if ascii && !c.is_ascii() => write!(out, "\\x{{{:X}}}", u32::from(c)),
            c => out.write_char(c),
        };
    }
    out
}

/// The address meant.
pub(super) fn decode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let (c, width) = escape(rest).unwrap_or((c, c.len_utf8()));
        out.push(c);
        rest = rest.get(width..).unwrap_or_default();
    }
    out
}

/// The character of a `\x{HEX}` at the front, and its octets. Control characters cannot be written so.
fn escape(text: &str) -> Option<(char, usize)> {
    let (digits, _) = text.strip_prefix("\\x{")?.split_once('}')?;
    let fits = (2..=6).contains(&digits.len());
    let upper = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    let code = u32::from_str_radix(digits, 16).ok()?;
    let c = char::from_u32(code).filter(|c| !c.is_control())?;
    (fits && digits.bytes().all(upper)).then_some((c, digits.len() + 4))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn escapes_are_strict() {
        for text in [
            "j\\x{F6}rg@x.test",
            "jörg@x.test",
            "a\\x{5C}b",
            "\\x{10FFFD}",
        ] {
            assert!(is_address(text), "{text}");
        }
        for text in [
            "a b",
            "a=b",
            "a\\b",
            "\\x{}",
            "\\x{a0}",
            "\\x{A}",
            "\\x{0A}",
            "\\x{7F}",
            "\\x{85}",
            "\\x{D800}",
            "\\x{0000041}",
            "\\x{41",
            "\u{85}",
        ] {
            assert!(!is_address(text), "{text}");
        }
        assert_eq!(decode("j\\x{F6}rg"), "jörg");
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(text in "[ -~é用]{0,30}", ascii: bool) {
            let encoded = encode(&text, ascii);
            prop_assert!(is_address(&encoded) && (encoded.is_ascii() || !ascii));
            prop_assert_eq!(decode(&encoded), text);
        }
    }
}
