//! Content fields (RFC 2045 §5, RFC 2183, RFC 3282): media type, disposition, language.
//!
//! Parameters keep their names and values as written, RFC 2231 forms included: IMAP passes them on.

use crate::encoded_word::decode_words;
use crate::{charset, lex};

/// `name=value` of a content field, without quoting.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// The name as written.
    pub name: Vec<u8>,
    /// The value without quoting; RFC 2231 percent-encoding stays.
    pub value: Vec<u8>,
}

/// A media type with its parameters.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MediaType {
    /// The top-level type as written.
    pub main: Vec<u8>,
    /// The subtype as written.
    pub subtype: Vec<u8>,
    /// The parameters in their order.
    pub parameters: Vec<Parameter>,
}

/// `text/plain`, which holds where nothing else is said (RFC 2045 §5.2).
impl Default for MediaType {
    fn default() -> Self {
        Self::plain(b"text", b"plain")
    }
}

impl MediaType {
    /// A type without parameters.
    pub(crate) fn plain(main: &[u8], subtype: &[u8]) -> Self {
        Self {
            main: main.to_vec(),
            subtype: subtype.to_vec(),
            parameters: Vec::new(),
        }
    }

    /// Parses a Content-Type value; `None` where type or subtype is missing. Keeps `parameters_max` parameters.
    pub fn parse(value: &[u8], parameters_max: usize) -> Option<Self> {
        let (main, rest) = token(value)?;
        let rest = lex::skip_cfws(rest).strip_prefix(b"/")?;
        let (subtype, rest) = token(rest)?;
        Some(Self {
            main: main.to_vec(),
            subtype: subtype.to_vec(),
            parameters: parameters(rest, parameters_max),
        })
    }

    /// Whether the type is `main/subtype`, compared without case.
    pub fn is(&self, main: &str, subtype: &str) -> bool {
        self.is_main(main) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    /// Whether the top-level type is `main`, compared without case.
    pub fn is_main(&self, main: &str) -> bool {
        self.main.eq_ignore_ascii_case(main.as_bytes())
    }

    /// The first parameter of this name, compared without case.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        find_parameter(&self.parameters, name)
    }
}

/// A content disposition (RFC 2183).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Disposition {
    /// `inline`, `attachment` or another kind, as written.
    pub kind: Vec<u8>,
    /// The parameters in their order.
    pub parameters: Vec<Parameter>,
}

impl Disposition {
    /// Parses a Content-Disposition value; `None` where it names no kind. Keeps `parameters_max` parameters.
    pub fn parse(value: &[u8], parameters_max: usize) -> Option<Self> {
        let (kind, rest) = token(value)?;
        Some(Self {
            kind: kind.to_vec(),
            parameters: parameters(rest, parameters_max),
        })
    }

    /// The first parameter of this name, compared without case.
    pub fn parameter(&self, name: &str) -> Option<&[u8]> {
        find_parameter(&self.parameters, name)
    }
}

/// The text of a parameter in whatever form it was written: RFC 2231 with charset, in pieces or whole, else plain, where
/// encoded-words are decoded although they do not belong there.
pub fn decoded_parameter(parameters: &[Parameter], name: &str) -> Option<String> {
    if let Some(value) = find_parameter(parameters, &format!("{name}*")) {
        return Some(decode_extended(value));
    }
    let mut joined = Vec::new();
    for number in 0..parameters.len() {
        let encoded = find_parameter(parameters, &format!("{name}*{number}*"));
        let plain = || find_parameter(parameters, &format!("{name}*{number}"));
        let Some(value) = encoded.or_else(plain) else {
            break;
        };
        joined.extend_from_slice(value);
    }
    let begins = find_parameter(parameters, &format!("{name}*0*")).is_some();
    match (joined.is_empty(), begins) {
        (false, true) => Some(decode_extended(&joined)),
        (false, false) => Some(charset::decode_unnamed(&joined)),
        (true, _) => find_parameter(parameters, name).map(decode_words),
    }
}

/// `charset'language'text`, percent-encoded (RFC 2231 §4).
fn decode_extended(value: &[u8]) -> String {
    let mut parts = value.splitn(3, |byte| *byte == b'\'');
    let (name, text) = match (parts.next(), parts.next(), parts.next()) {
        (Some(name), Some(_), Some(text)) => (name, text),
        _ => (&b""[..], value),
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        let digits = after.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        let byte = digits.and_then(|two| u8::from_str_radix(two, 16).ok());
        match byte.filter(|_| first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    let named = std::str::from_utf8(name).ok();
    named
        .and_then(|name| charset::decode_charset(name, &bytes))
        .unwrap_or_else(|| charset::decode_unnamed(&bytes))
}

fn find_parameter<'a>(parameters: &'a [Parameter], name: &str) -> Option<&'a [u8]> {
    parameters
        .iter()
        .find(|parameter| parameter.name.eq_ignore_ascii_case(name.as_bytes()))
        .map(|parameter| parameter.value.as_slice())
}

/// The first token of a value, such as a transfer encoding.
pub(crate) fn first_token(value: &[u8]) -> Option<Vec<u8>> {
    token(value).map(|(token, _)| token.to_vec())
}

/// The tags of a Content-Language value (RFC 3282 §2).
pub(crate) fn languages(mut value: &[u8], languages_max: usize) -> Vec<Vec<u8>> {
    let mut tags = Vec::new();
    while tags.len() < languages_max {
        if let Some((tag, _)) = token(value) {
            tags.push(tag.to_vec());
        }
        let Some(comma) = memchr::memchr(b',', value) else {
            break;
        };
        value = value.get(comma + 1..).unwrap_or_default();
    }
    tags
}

/// A token after white space and comments; at least one byte. Bytes beyond ASCII are let in.
fn token(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let (token, rest) = lex::until(lex::skip_cfws(input), |byte| {
        lex::is_space(byte) || b"()<>@,;:\\\"/[]?=".contains(&byte)
    });
    (!token.is_empty()).then_some((token, rest))
}

fn parameters(mut rest: &[u8], parameters_max: usize) -> Vec<Parameter> {
    let mut parameters = Vec::new();
    while parameters.len() < parameters_max {
        let Some(semicolon) = memchr::memchr(b';', rest) else {
            break;
        };
        rest = rest.get(semicolon + 1..).unwrap_or_default();
        let Some((name, after)) = token(rest) else {
            continue;
        };
        let Some(after) = lex::skip_cfws(after).strip_prefix(b"=") else {
            continue;
        };
        let (value, after) = parameter_value(name, lex::skip_cfws(after));
        rest = after;
        parameters.push(Parameter {
            name: name.to_vec(),
            value,
        });
    }
    parameters
}

/// Reads a quoted string, or what common software writes without the quotes it would need: a file name runs up
/// to the semicolon, anything else up to white space.
fn parameter_value<'a>(name: &[u8], input: &'a [u8]) -> (Vec<u8>, &'a [u8]) {
    if input.first() == Some(&b'"') {
        return lex::quoted(input);
    }
    let is_file_name = name.eq_ignore_ascii_case(b"name") || name.eq_ignore_ascii_case(b"filename");
    let (value, rest) = lex::until(input, |byte| match byte {
        b';' | b'\r' | b'\n' => true,
        b' ' | b'\t' => !is_file_name,
        _ => false,
    });
    (lex::trim(value).to_vec(), rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(value: &str) -> String {
        let Some(media) = MediaType::parse(value.as_bytes(), 10) else {
            return "-".into();
        };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let mut out = format!("{}/{}", text(&media.main), text(&media.subtype));
        for parameter in &media.parameters {
            out += &format!(" {}[{}]", text(&parameter.name), text(&parameter.value));
        }
        out
    }

    #[test]
    fn content_types_are_read_as_software_writes_them() {
        for (value, expected) in [
            (" text/plain", "text/plain"),
            ("Text/HTML; Charset=\"utf-8\"", "Text/HTML Charset[utf-8]"),
            (
                "text/plain; charset=us-ascii (Plain text)",
                "text/plain charset[us-ascii]",
            ),
            (
                "multipart/mixed;\r\n\tboundary=----=_Part_1.2(3)",
                "multipart/mixed boundary[----=_Part_1.2(3)]",
            ),
            (
                "multipart/mixed; boundary=\"a;b\\\"c\"; x=y",
                "multipart/mixed boundary[a;b\"c] x[y]",
            ),
            (
                "image/png; name=my own file.png; x=1",
                "image/png name[my own file.png] x[1]",
            ),
            (
                "application/x; name*0*=utf-8''a%20; name*1=b",
                "application/x name*0*[utf-8''a%20] name*1[b]",
            ),
            ("text / plain ; ; =x; a ; b = c", "text/plain b[c]"),
            ("text/plain; a=\"open", "text/plain a[open]"),
            ("text", "-"),
            ("/plain", "-"),
            ("", "-"),
        ] {
            assert_eq!(shown(value), expected, "{value:?}");
        }
    }

    #[test]
    fn parameters_are_decoded_in_every_form_they_are_written_in() {
        for (value, expected) in [
            ("x; filename=a.pdf", Some("a.pdf")),
            (
                "x; filename=\"=?utf-8?q?J=C3=B6rg?= a.pdf\"",
                Some("J\u{f6}rg a.pdf"),
            ),
            (
                "x; filename*=utf-8'de'J%C3%B6rg.pdf; filename=b",
                Some("J\u{f6}rg.pdf"),
            ),
            (
                "x; filename*0*=iso-8859-1''J%F6; filename*1=rg; filename*2*=%2epdf",
                Some("J\u{f6}rg.pdf"),
            ),
            ("x; filename*1=b; filename*0=a", Some("ab")),
            ("x; filename*=100%25%zz%4", Some("100%%zz%4")),
            ("x; name=a", None),
        ] {
            let disposition = Disposition::parse(value.as_bytes(), 10).unwrap();
            let name = decoded_parameter(&disposition.parameters, "filename");
            assert_eq!(name.as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn parameters_stop_at_their_limit() {
        let media = MediaType::parse(b"a/b; c=1; d=2; e=3", 2).unwrap();
        assert_eq!(media.parameters.len(), 2);
        assert_eq!(media.parameter("D"), Some(&b"2"[..]));
        assert_eq!(media.parameter("e"), None);
    }

    #[test]
    fn dispositions_and_languages_are_read() {
        let disposition = Disposition::parse(b"attachment; filename=\"a b.pdf\"", 10).unwrap();
        assert_eq!(disposition.kind, b"attachment");
        assert_eq!(disposition.parameter("filename"), Some(&b"a b.pdf"[..]));
        assert_eq!(
            languages(b"en, de (German) ,, fr-CA", 10),
            [b"en".to_vec(), b"de".to_vec(), b"fr-CA".to_vec()]
        );
    }
}
