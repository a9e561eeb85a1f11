//! Encoded-words of header values (RFC 2047), to UTF-8.

use memchr::memmem;

use crate::{charset, header, lex, transfer};

/// RFC 2047 §2 allows 75; common software writes longer ones.
const ENCODED_WORD_OCTETS_MAX: usize = 1000;

/// Decodes a header value: unfolds it, decodes its encoded-words and drops white space between two of them.
/// What is no encoded-word stays as it is; bytes beyond ASCII are read as UTF-8 or windows-1252.
pub fn decode_words(value: &[u8]) -> String {
    let value = header::unfold(value);
    let mut decoder = Decoder::default();
    let mut rest = value.as_slice();
    while let Some(start) = memmem::find(rest, b"=?") {
        let (plain, word) = rest.split_at_checked(start).unwrap_or((rest, &[]));
        decoder.plain(plain);
        rest = match EncodedWord::parse(word) {
            Some((encoded, after)) => {
                decoder.encoded(encoded);
                after
            }
            None => {
                decoder.literal(b"=?");
                word.get(2..).unwrap_or_default()
            }
        };
    }
    decoder.plain(rest);
    decoder.finish()
}

/// A text as a header value: as it is where every word of it may stand so, else as encoded-words in UTF-8, one to a
/// line. Control characters become spaces.
pub fn encode_words(text: &str) -> String {
    let text: String = text
        .chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    let plain = |word: &str| word.is_ascii() && word.len() < PLAIN_WORD_OCTETS_MAX;
    let is_plain = !text.contains("=?") && text.split(' ').all(plain);
    if is_plain {
        return fold(text.trim());
    }
    let (mut out, mut word) = (String::new(), String::new());
    for c in text.chars() {
        let encoded = encode_q(c);
        if word.len() + encoded.len() > ENCODED_TEXT_OCTETS_MAX {
            out.push_str(&format!("=?utf-8?q?{word}?=\r\n "));
            word.clear();
        }
        word.push_str(&encoded);
    }
    format!("{out}=?utf-8?q?{word}?=")
}

/// A word that is longer is written as encoded-words, which can be folded.
const PLAIN_WORD_OCTETS_MAX: usize = 200;
/// RFC 2047 §2: 75 octets with `=?utf-8?q?` and `?=`.
const ENCODED_TEXT_OCTETS_MAX: usize = 75 - 12;
/// RFC 5322 §2.1.1, with room for the field's name.
const FOLDED_OCTETS_WANTED: usize = 60;

/// Folds at single spaces.
fn fold(text: &str) -> String {
    let (mut out, mut column) = (String::new(), 0);
    for word in text.split_inclusive(' ') {
        if column > 0 && column + word.len() > FOLDED_OCTETS_WANTED && !word.trim().is_empty() {
            out.truncate(out.trim_end_matches(' ').len());
            out.push_str("\r\n ");
            column = 0;
        }
        column += word.len();
        out.push_str(word);
    }
    out
}

fn encode_q(c: char) -> String {
    if c.is_ascii_alphanumeric() || matches!(c, '!' | '*' | '+' | '-' | '/') {
        return c.to_string();
    }
    if c == ' ' {
        return "_".to_owned();
    }
    let mut bytes = [0; 4];
    let bytes = c.encode_utf8(&mut bytes).bytes();
    bytes.map(|byte| format!("={byte:02X}")).collect()
}

struct EncodedWord<'a> {
    charset: &'a [u8],
    bytes: Vec<u8>,
}

impl<'a> EncodedWord<'a> {
    /// Parses `=?charset?encoding?text?=` and returns what follows it.
    fn parse(input: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (charset, rest) = until_question_mark(input.strip_prefix(b"=?")?)?;
        let (encoding, rest) = until_question_mark(rest)?;
        let window = rest.get(..ENCODED_WORD_OCTETS_MAX).unwrap_or(rest);
        let end = memmem::find(window, b"?=")?;
        let (text, after) = rest.split_at_checked(end)?;
        let bytes = match encoding {
            b"B" | b"b" => transfer::decode_base64(text),
            b"Q" | b"q" => decode_q(text),
            _ => return None,
        };
        // RFC 2231 §5: a language may follow the charset.
        let charset = charset.split(|&byte| byte == b'*').next()?;
        Some((Self { charset, bytes }, after.get(2..)?))
    }
}

/// Splits at `?`; what precedes it is a short token.
fn until_question_mark(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let window = input.get(..80).unwrap_or(input);
    let end = memchr::memchr(b'?', window)?;
    let (token, rest) = input.split_at_checked(end)?;
    if token.is_empty() || token.iter().any(|&byte| lex::is_space(byte)) {
        return None;
    }
    Some((token, rest.get(1..)?))
}

/// The `Q` encoding (RFC 2047 §4.2): as quoted-printable, with `_` for a space.
fn decode_q(text: &[u8]) -> Vec<u8> {
    let spaced: Vec<u8> = text
        .iter()
        .map(|&byte| if byte == b'_' { b' ' } else { byte })
        .collect();
    transfer::decode_quoted_printable(&spaced)
}

/// Joins neighbouring encoded-words of one charset before decoding them, as a character may be cut in two.
#[derive(Default)]
struct Decoder {
    out: String,
    charset: Vec<u8>,
    pending: Option<Vec<u8>>,
    /// White space after an encoded-word: dropped if another one follows.
    gap: Vec<u8>,
}

impl Decoder {
    fn plain(&mut self, bytes: &[u8]) {
        if self.pending.is_some() && bytes.iter().all(|&byte| lex::is_space(byte)) {
            self.gap.extend_from_slice(bytes);
        } else {
            self.literal(bytes);
        }
    }

    fn literal(&mut self, bytes: &[u8]) {
        self.flush();
        let gap = std::mem::take(&mut self.gap);
        self.out.push_str(&charset::decode_unnamed(&gap));
        self.out.push_str(&charset::decode_unnamed(bytes));
    }

    fn encoded(&mut self, word: EncodedWord<'_>) {
        self.gap.clear();
        if !self.charset.eq_ignore_ascii_case(word.charset) {
            self.flush();
            self.charset = word.charset.to_vec();
        }
        self.pending.get_or_insert_default().extend(word.bytes);
    }

    fn flush(&mut self) {
        if let Some(bytes) = self.pending.take() {
            let named = std::str::from_utf8(&self.charset)
                .ok()
                .and_then(|name| charset::decode_charset(name, &bytes));
            let text = named.unwrap_or_else(|| charset::decode_unnamed(&bytes));
            self.out.push_str(&text);
        }
    }

    fn finish(mut self) -> String {
        self.flush();
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encoded_words_are_decoded_as_the_rfc_shows() {
        for (value, expected) in [
            ("=?ISO-8859-1?Q?a?=", "a"),
            ("=?ISO-8859-1?Q?a?= b", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a?=\r\n   =?ISO-8859-1?Q?b?=", "ab"),
            ("=?ISO-8859-1?Q?a_b?=", "a b"),
            ("=?ISO-8859-1?Q?a?= =?ISO-8859-2?Q?_b?=", "a b"),
            ("=?utf-8?B?SsO2cmc=?= <a@b>", "J\u{f6}rg <a@b>"),
            ("=?utf-8*de?q?J=C3?= =?UTF-8?q?=B6?=", "J\u{f6}"),
            ("=?utf-8?q?J=C3?= =?UTF-8?q?=B6rg?=", "J\u{f6}rg"),
            ("Re: =?utf-8?q?=3Fa=3D?=", "Re: ?a="),
        ] {
            assert_eq!(decode_words(value.as_bytes()), expected, "{value:?}");
        }
    }

    #[test]
    fn what_is_no_encoded_word_stays() {
        for value in [
            "=?",
            "=?a?x?b?=",
            "=?a b?q?c?=",
            "=?utf-8?q?open",
            "a =?= b",
            "=??q?a?=",
        ] {
            assert_eq!(decode_words(value.as_bytes()), value, "{value:?}");
        }
        assert_eq!(decode_words(b"=?utf-8?q?a?= =?x"), "a =?x");
        assert_eq!(decode_words(b"J\xf6rg"), "J\u{f6}rg");
        assert_eq!(decode_words(b"=?x-none?q?J=F6?="), "J\u{f6}");
    }

    proptest! {
        #[test]
        fn what_is_written_in_encoded_words_reads_as_it_was(text in "([a-zA-Zé=?_\u{1F600}.]{1,30} ?){0,20}") {
            let encoded = encode_words(&text);
            prop_assert!(encoded.is_ascii());
            prop_assert!(encoded.lines().all(|line| line.len() < 300));
            let read = decode_words(encoded.as_bytes());
            prop_assert_eq!(read.trim(), text.trim());
        }

        #[test]
        fn no_value_makes_the_decoder_panic(value: Vec<u8>, words in "(=\\?|[abQ?=_ -]){0,40}") {
            decode_words(&value);
            decode_words(words.as_bytes());
        }
    }
}
