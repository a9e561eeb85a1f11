//! Transfer encodings (RFC 2045 §6), read without ever failing and written for delivery reports.

/// Decodes base64. Bytes outside the alphabet are passed over; padding starts a new quantum.
pub fn decode_base64(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() / 4 * 3 + 3);
    let mut bits = 0u32;
    let mut count = 0u32;
    for &byte in input {
        let Some(value) = base64_value(byte) else {
            if byte == b'=' {
                count = 0;
            }
            continue;
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    out
}

const fn base64_value(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}

/// Decodes quoted-printable. What is not an escape or a soft line break stays as written.
pub fn decode_quoted_printable(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len());
    let mut rest = input;
    while let Some(equals) = memchr::memchr(b'=', rest) {
        let (plain, escape) = rest.split_at_checked(equals).unwrap_or((rest, &[]));
        out.extend_from_slice(plain);
        rest = decode_escape(escape, &mut out);
    }
    out.extend_from_slice(rest);
    out
}

/// Decodes what begins with `=` and returns what follows it.
fn decode_escape<'a>(escape: &'a [u8], out: &mut Vec<u8>) -> &'a [u8] {
    if let Some((&[_, high, low], rest)) = escape.split_first_chunk::<3>()
        && let (Some(high), Some(low)) = (hex_value(high), hex_value(low))
    {
        out.push(high << 4 | low);
        return rest;
    }
    let after = escape.get(1..).unwrap_or_default();
    let blanks = after
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'\t'))
        .count();
    match after.get(blanks..) {
        Some([b'\r', b'\n', rest @ ..] | [b'\n', rest @ ..]) => rest,
        Some([]) => &[],
        _ => {
            out.push(b'=');
            after
        }
    }
}

pub(crate) const fn hex_value(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'A'..=b'F' => Some(byte - b'A' + 10),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

/// RFC 2045 §6.7 rule 5.
const QUOTED_LINE_MAX: usize = 76;

/// Encodes text lines as quoted-printable. CRLF and LF end a line; every line written ends in CRLF.
pub fn encode_quoted_printable(input: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(input.len() + input.len() / 8);
    for line in input.split_inclusive(|&byte| byte == b'\n') {
        let line = crate::header::without_line_end(line);
        let mut column = 0;
        for (index, &byte) in line.iter().enumerate() {
            let last = index + 1 == line.len();
            let plain = matches!(byte, b'!'..=b'<' | b'>'..=b'~')
                || (matches!(byte, b' ' | b'\t') && !last);
            let width = if plain { 1 } else { 3 };
            if column + width >= QUOTED_LINE_MAX {
                out.extend_from_slice(b"=\r\n");
                column = 0;
            }
            column += width;
            if plain {
                out.push(byte);
            } else {
                out.extend_from_slice(format!("={byte:02X}").as_bytes());
            }
        }
        out.extend_from_slice(b"\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn base64_is_read_around_damage() {
        assert_eq!(decode_base64(b"aGVs\r\nbG8="), b"hello");
        assert_eq!(decode_base64(b"aGVsbG8=aGVsbG8="), b"hellohello");
        assert_eq!(decode_base64(b"a!G\0Vs bG8"), b"hello");
        assert_eq!(decode_base64(b"===a"), b"");
    }

    #[test]
    fn quoted_printable_is_read_around_damage() {
        assert_eq!(
            decode_quoted_printable(b"a=3Db=\r\nc= \nd=e9"),
            b"a=bcd\xe9"
        );
        assert_eq!(decode_quoted_printable(b"a=zz = b=4"), b"a=zz = b=4");
        assert_eq!(decode_quoted_printable(b"end="), b"end");
    }

    proptest! {
        #[test]
        fn encoded_text_is_short_ascii_lines_and_decodes_to_itself(lines in prop::collection::vec("[ -~é\t=]{0,200}", 1..5)) {
            let text = lines.join("\r\n") + "\r\n";
            let encoded = encode_quoted_printable(text.as_bytes());
            prop_assert!(encoded.is_ascii());
            prop_assert!(encoded.split(|&b| b == b'\n').all(|line| line.len() <= 77));
            prop_assert_eq!(decode_quoted_printable(&encoded), text.as_bytes());
        }

        #[test]
        fn no_input_makes_a_decoder_panic(input: Vec<u8>) {
            prop_assert!(decode_base64(&input).len() <= input.len());
            prop_assert!(decode_quoted_printable(&input).len() <= input.len());
        }
    }
}
