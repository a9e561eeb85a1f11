//! `xtext` (RFC 3461 §4): text that fits a parameter value, with `+XX` for what does not.

/// Text in its `xtext` form, as it came and as it is passed on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Xtext(Box<str>);

impl Xtext {
    /// Takes text already in `xtext` form. What stands for a control character is refused: nothing that is shown in a
    /// notice or a log may end a line there.
    pub fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        while let Some(c) = rest.chars().next() {
            let width = match c {
                '+' => hex_pair(rest)
                    .filter(|octet| !octet.is_ascii_control())
                    .map(|_| 3),
                '=' => None,
                '!'..='~' => Some(1),
                _ => None,
            };
            rest = rest.get(width?..)?;
        }
        Some(Self(text.into()))
    }

    /// Puts text into `xtext` form; control characters become `?`.
    pub fn encode(text: &str) -> Self {
        let mut out = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                _ if byte.is_ascii_control() => out.push('?'),
                b'+' | b'=' => out.push_str(&format!("+{byte:02X}")),
                b'!'..=b'~' => out.push(char::from(byte)),
                _ => out.push_str(&format!("+{byte:02X}")),
            }
        }
        Self(out.into())
    }

    /// The form in which it travels.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The text meant; octets that are no UTF-8 become U+FFFD.
    pub fn decode(&self) -> String {
        decode(&self.0)
    }
}

/// Undoes `+XX`; leaves everything else as it is.
pub(super) fn decode(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let width = match hex_pair(rest) {
            Some(byte) => {
                out.push(byte);
                3
            }
            None => {
                out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                c.len_utf8()
            }
        };
        rest = rest.get(width..).unwrap_or_default();
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// The octet of a `+XX` at the front; the hex digits are capitals.
fn hex_pair(text: &str) -> Option<u8> {
    let digits = text.strip_prefix('+')?.get(..2)?;
    let upper = |b: u8| matches!(b, b'0'..=b'9' | b'A'..=b'F');
    digits
        .bytes()
        .all(upper)
        .then(|| u8::from_str_radix(digits, 16).ok())
        .flatten()
}
