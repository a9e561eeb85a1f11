//! Modified UTF-7 (RFC 3501 §5.1.3), the form of mailbox names on the wire.
//!
//! **Invariant:** a name has one encoded form. What decodes to a text is exactly what that text encodes to, so
//! superfluous shifts and printable ASCII hidden in base64 are refused.

use base64::Engine as _;
use base64::alphabet::IMAP_MUTF7;
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};
use thiserror::Error;

const BASE64: GeneralPurpose = GeneralPurpose::new(&IMAP_MUTF7, NO_PAD);

/// The text is not modified UTF-7.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
#[error("not valid modified UTF-7")]
pub struct Mutf7Error;

/// Encodes a text.
pub fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut shifted: Vec<u8> = Vec::new();
    for c in text.chars() {
        if matches!(c, ' '..='~') {
            unshift(&mut out, &mut shifted);
            out.push(c);
            if c == '&' {
                out.push('-');
            }
        } else {
            let mut units = [0u16; 2];
            for unit in c.encode_utf16(&mut units) {
                shifted.extend_from_slice(&unit.to_be_bytes());
            }
        }
    }
    unshift(&mut out, &mut shifted);
    out
}

fn unshift(out: &mut String, shifted: &mut Vec<u8>) {
    if !shifted.is_empty() {
        out.push('&');
        BASE64.encode_string(&shifted, out);
        out.push('-');
        shifted.clear();
    }
}

/// Decodes what [`encode`] writes, and nothing else.
pub fn decode(wire: &[u8]) -> Result<String, Mutf7Error> {
    if !wire.iter().all(|b| matches!(b, b' '..=b'~')) {
        return Err(Mutf7Error);
    }
    let wire = std::str::from_utf8(wire).map_err(|_| Mutf7Error)?;
    if !wire.contains('&') {
        return Ok(wire.to_owned());
    }
    let mut pieces = wire.split('&');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (shifted, plain) = piece.split_once('-').ok_or(Mutf7Error)?;
        if shifted.is_empty() {
            text.push('&');
        } else {
            decode_shifted(shifted, &mut text)?;
        }
        text.push_str(plain);
    }
    if encode(&text) == wire {
        Ok(text)
    } else {
        Err(Mutf7Error)
    }
}

fn decode_shifted(shifted: &str, text: &mut String) -> Result<(), Mutf7Error> {
    let bytes = BASE64.decode(shifted).map_err(|_| Mutf7Error)?;
    let (pairs, []) = bytes.as_chunks::<2>() else {
        return Err(Mutf7Error);
    };
    let units = pairs.iter().map(|pair| u16::from_be_bytes(*pair));
    for c in char::decode_utf16(units) {
        text.push(c.map_err(|_| Mutf7Error)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_example_of_the_rfc_decodes() {
        let wire = "~peter/mail/&U,BTFw-/&ZeVnLIqe-";
        let text = "~peter/mail/台北/日本語";
        assert_eq!(decode(wire.as_bytes()).as_deref(), Ok(text));
        assert_eq!(encode(text), wire);
        assert_eq!(encode("a&b"), "a&-b");
        assert_eq!(encode("😀"), "&2D3eAA-");
    }

    #[test]
    fn a_second_form_of_a_name_is_refused() {
        for wire in [
            "&",
            "a&b",
            "&AGE-",
            "&U,BTFw-&ZeVnLIqe-",
            "&Jjo!",
            "&2D0-",
            "&U,BTF-",
            "&AOk",
            "caf\u{e9}",
            "a\tb",
            "&-&AOk",
            "&AOl=-",
        ] {
            assert_eq!(decode(wire.as_bytes()), Err(Mutf7Error), "{wire:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_survives(text: String) {
            prop_assert_eq!(decode(encode(&text).as_bytes()), Ok(text));
        }

        #[test]
        fn what_decodes_encodes_to_the_same(wire in "[a-c&+,A-C/-]{0,12}") {
            if let Ok(text) = decode(wire.as_bytes()) {
                prop_assert_eq!(encode(&text), wire);
            }
        }
    }
}
