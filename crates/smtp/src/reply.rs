//! Replies (RFC 5321 §4.2) with enhanced status codes (RFC 3463, RFC 2034), written and read.
//!
//! Owns the form of a reply. Which reply is given when is in [`crate::replies`] and the sessions.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::{Buf, BytesMut};
use thiserror::Error;

/// RFC 5321 §4.5.3.1.5: a reply line has at most 512 octets with its CRLF.
const REPLY_LINE_OCTETS_MAX: usize = 512;
/// Octets of text that fit a line beside code, enhanced code and CRLF.
const TEXT_OCTETS_MAX: usize = REPLY_LINE_OCTETS_MAX - 20;

/// An enhanced status code (RFC 3463 §2): class, subject, detail.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct EnhancedCode {
    class: u8,
    subject: u16,
    detail: u16,
}

impl EnhancedCode {
    pub(crate) const fn new(class: u8, subject: u16, detail: u16) -> Self {
        Self {
            class,
            subject,
            detail,
        }
    }

    /// Parses `class.subject.detail`.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('.');
        let mut number = || {
            let part = parts.next()?;
            let digits = (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
            digits.then(|| part.parse::<u16>().ok()).flatten()
        };
        let (class, subject, detail) = (number()?, number()?, number()?);
        let known_class = matches!(class, 2 | 4 | 5) && parts.next().is_none();
        known_class.then_some(Self {
            class: class as u8,
            subject,
            detail,
        })
    }

    /// 2 for success, 4 for a persistent transient failure, 5 for a permanent one.
    pub const fn class(self) -> u8 {
        self.class
    }

    /// What the status is about (RFC 3463 §3).
    pub const fn subject(self) -> u16 {
        self.subject
    }

    /// The status itself within its subject.
    pub const fn detail(self) -> u16 {
        self.detail
    }
}

impl fmt::Display for EnhancedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.class, self.subject, self.detail)
    }
}

/// A reply: code, enhanced code where there is one, and text whose lines are parted by `\n`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reply {
    code: u16,
    enhanced: Option<EnhancedCode>,
    text: Cow<'static, str>,
}

impl Reply {
    pub(crate) const fn fixed(
        code: u16,
        enhanced: Option<EnhancedCode>,
        text: &'static str,
    ) -> Self {
        Self {
            code,
            enhanced,
            text: Cow::Borrowed(text),
        }
    }

    /// The same codes with other text; lines are parted by `\n`.
    #[must_use]
    pub fn with_text(self, text: impl Into<String>) -> Self {
        Self {
            text: Cow::Owned(text.into()),
            ..self
        }
    }

    /// The same reply code and text with another enhanced code; one of another class is not taken.
    #[must_use]
    pub fn with_enhanced(self, enhanced: EnhancedCode) -> Self {
        let enhanced = match u16::from(enhanced.class) == self.code / 100 {
            true => Some(enhanced),
            false => self.enhanced,
        };
        Self { enhanced, ..self }
    }

    /// The three-digit code, 200 to 599.
    pub const fn code(&self) -> u16 {
        self.code
    }

    /// The enhanced status code, where the reply has one.
    pub const fn enhanced(&self) -> Option<EnhancedCode> {
        self.enhanced
    }

    /// The text without codes; lines are parted by `\n`.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The lines of the text; at least one.
    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.text.split('\n')
    }

    /// 2yz: done.
    pub const fn is_success(&self) -> bool {
        self.code / 100 == 2
    }

    /// 3yz: more is awaited.
    pub const fn is_intermediate(&self) -> bool {
        self.code / 100 == 3
    }

    /// 4yz: worth trying again.
    pub const fn is_temporary(&self) -> bool {
        self.code / 100 == 4
    }

    /// 5yz: not worth trying again.
    pub const fn is_permanent(&self) -> bool {
        self.code / 100 == 5
    }

    /// 421: the channel closes after this reply (RFC 5321 §3.8).
    pub const fn closes(&self) -> bool {
        self.code == 421
    }

    /// Appends the reply in its wire form. What is not printable ASCII becomes `?`, long lines are broken; but a SASL
    /// challenge is one line of any length (RFC 4954 §4).
    pub fn write(&self, out: &mut BytesMut) {
        let clean: String = self.text.chars().map(printable).collect();
        let octets_max = match self.code {
            334 => usize::MAX,
            _ => TEXT_OCTETS_MAX,
        };
        let lines = clean.split('\n');
        let mut pieces = lines.flat_map(|line| pieces(line, octets_max)).peekable();
        while let Some(piece) = pieces.next() {
            let separator = if pieces.peek().is_some() { '-' } else { ' ' };
            out.extend_from_slice(self.code.to_string().as_bytes());
            out.extend_from_slice(&[separator as u8]);
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(enhanced.to_string().as_bytes());
                out.extend_from_slice(b" ");
            }
            out.extend_from_slice(piece.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
    }
}

fn printable(c: char) -> char {
    match c {
        '\n' | ' '..='~' => c,
        _ => '?',
    }
}

/// The line in parts that fit a reply line; one empty part for an empty line. The line is ASCII.
fn pieces(line: &str, octets_max: usize) -> impl Iterator<Item = &str> {
    let mut rest = Some(line);
    std::iter::from_fn(move || {
        let line = rest.take()?;
        match line.split_at_checked(octets_max) {
            Some((piece, more)) if !more.is_empty() => {
                rest = Some(more);
                Some(piece)
            }
            _ => Some(line),
        }
    })
}

/// On one line: `550 5.1.1 No such user`; further lines follow ` / `.
impl fmt::Display for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.code)?;
        if let Some(enhanced) = self.enhanced {
            write!(f, " {enhanced}")?;
        }
        for (index, line) in self.lines().enumerate() {
            let separator = if index == 0 { " " } else { " / " };
            write!(f, "{separator}{line}")?;
        }
        Ok(())
    }
}

/// Reads one reply without its final CRLF.
impl FromStr for Reply {
    type Err = ReplyError;
    fn from_str(text: &str) -> Result<Self, ReplyError> {
        let mut reader = ReplyReader::default();
        reader.push(text.as_bytes());
        reader.push(b"\r\n");
        let reply = reader.next_reply().ok_or(ReplyError::Syntax)??;
        match reader.is_empty() {
            true => Ok(reply),
            false => Err(ReplyError::Syntax),
        }
    }
}

/// Why bytes from a server are not a reply.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ReplyError {
    /// Not a code of 200 to 599 followed by a space, a hyphen or the end of the line.
    #[error("the server's reply is malformed")]
    Syntax,
    /// The lines of one reply differ in their code.
    #[error("the lines of the server's reply have different codes")]
    CodeChanged,
    /// A line is longer than [`ReplyReader::LINE_OCTETS_MAX`].
    #[error("a line of the server's reply is too long")]
    LineTooLong,
    /// The reply is longer than [`ReplyReader::REPLY_OCTETS_MAX`].
    #[error("the server's reply has too many lines")]
    TooManyLines,
}

/// Cuts what a server sends into replies. Lenient on line ends (LF alone will do) and on character sets.
#[derive(Debug, Default)]
pub struct ReplyReader {
    buffer: BytesMut,
    lines: Vec<String>,
    octets: usize,
    code: Option<u16>,
}

impl ReplyReader {
    /// The longest line taken; RFC 5321 §4.5.3.1.5 lets a server send 512 octets.
    pub const LINE_OCTETS_MAX: usize = 4096;
    /// The longest reply taken, in octets of all its lines.
    pub const REPLY_OCTETS_MAX: usize = 64 * 1024;

    /// Takes bytes from the server. Call [`Self::next_reply`] until it gives nothing after each call.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// Forgets everything not yet given out.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether no byte and no line is waiting.
    pub fn is_empty(&self) -> bool {
        self.buffer.is_empty() && self.lines.is_empty()
    }

    /// Octets of lines not yet looked at.
    pub(crate) fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Octets held.
    pub fn buffered(&self) -> usize {
        self.buffer.len() + self.octets
    }

    /// The next whole reply. After an error the stream is useless.
    pub fn next_reply(&mut self) -> Option<Result<Reply, ReplyError>> {
        while let Some(end) = memchr::memchr(b'\n', &self.buffer) {
            let mut buffer = std::mem::take(&mut self.buffer);
            let line = buffer.get(..end).unwrap_or_default();
            let taken = self.take_line(line.strip_suffix(b"\r").unwrap_or(line));
            buffer.advance(end + 1);
            self.buffer = buffer;
            match taken {
                Ok(false) => {}
                Ok(true) => return Some(Ok(self.finish())),
                Err(error) => return Some(Err(error)),
            }
        }
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
        (self.buffer.len() > Self::LINE_OCTETS_MAX).then_some(Err(ReplyError::LineTooLong))
    }

    /// Takes one line and says whether it was the reply's last.
    fn take_line(&mut self, line: &[u8]) -> Result<bool, ReplyError> {
        if line.len() > Self::LINE_OCTETS_MAX {
            return Err(ReplyError::LineTooLong);
        }
        self.octets += line.len().max(1);
        if self.octets > Self::REPLY_OCTETS_MAX {
            return Err(ReplyError::TooManyLines);
        }
        let (code, rest) = line.split_at_checked(3).ok_or(ReplyError::Syntax)?;
        let code = parse_code(code).ok_or(ReplyError::Syntax)?;
        if *self.code.get_or_insert(code) != code {
            return Err(ReplyError::CodeChanged);
        }
        let (last, text) = match rest.split_first() {
            None => (true, rest),
            Some((b' ', text)) => (true, text),
            Some((b'-', text)) => (false, text),
            Some(_) => return Err(ReplyError::Syntax),
        };
        self.lines.push(String::from_utf8_lossy(text).into_owned());
        Ok(last)
    }

    fn finish(&mut self) -> Reply {
        let code = self.code.take().unwrap_or_default();
        self.octets = 0;
        let enhanced = self.lines.first();
        let enhanced = enhanced.and_then(|line| split_enhanced(line, code).0);
        let text_of = |line: &str| match enhanced {
            Some(_) => line.len() - split_enhanced(line, code).1.len(),
            None => 0,
        };
        let mut lines = self.lines.drain(..);
        let mut text = lines.next().unwrap_or_default();
        text.drain(..text_of(&text));
        for line in lines {
            text.push('\n');
            text.push_str(line.get(text_of(&line)..).unwrap_or_default());
        }
        Reply {
            code,
            enhanced,
            text: Cow::Owned(text),
        }
    }
}

fn parse_code(digits: &[u8]) -> Option<u16> {
    let code = std::str::from_utf8(digits).ok()?.parse::<u16>().ok()?;
    (200..600).contains(&code).then_some(code)
}

/// The enhanced code at the front of a line, where its class fits the reply code, and the text after it.
fn split_enhanced(line: &str, code: u16) -> (Option<EnhancedCode>, &str) {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    match EnhancedCode::parse(first) {
        Some(enhanced) if u16::from(enhanced.class) == code / 100 => (Some(enhanced), rest),
        _ => (None, line),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Option<Result<Reply, ReplyError>> {
        let mut reader = ReplyReader::default();
        reader.push(bytes);
        reader.next_reply()
    }

    fn written(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.write(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn a_reply_of_several_lines_is_one_reply() {
        let reply = read(b"250-2.1.0 one\r\n250 2.1.0 two\r\n")
            .unwrap()
            .unwrap();
        assert_eq!(reply.code(), 250);
        assert_eq!(reply.enhanced(), EnhancedCode::parse("2.1.0"));
        assert_eq!(reply.text(), "one\ntwo");
        assert_eq!(written(&reply), "250-2.1.0 one\r\n250 2.1.0 two\r\n");
    }

    #[test]
    fn an_enhanced_code_of_another_class_is_text() {
        let reply = read(b"250 5.1.1 odd\r\n").unwrap().unwrap();
        assert_eq!(reply.enhanced(), None);
        assert_eq!(reply.text(), "5.1.1 odd");
    }

    #[test]
    fn a_code_alone_is_a_reply() {
        assert_eq!(read(b"250\r\n").unwrap().unwrap().text(), "");
        assert_eq!(read(b"354\n").unwrap().unwrap().code(), 354);
    }

    #[test]
    fn what_is_no_reply_is_an_error() {
        for (bytes, error) in [
            (&b"hello\r\n"[..], ReplyError::Syntax),
            (b"25\r\n", ReplyError::Syntax),
            (b"+25 x\r\n", ReplyError::Syntax),
            (b"199 x\r\n", ReplyError::Syntax),
            (b"600 x\r\n", ReplyError::Syntax),
            (b"250x\r\n", ReplyError::Syntax),
            (b"\r\n", ReplyError::Syntax),
            (b"250-a\r\n251 b\r\n", ReplyError::CodeChanged),
            (&[b'2'; 5000], ReplyError::LineTooLong),
        ] {
            assert_eq!(read(bytes), Some(Err(error)));
        }
        let endless = b"250-x\r\n".repeat(30_000);
        assert_eq!(read(&endless), Some(Err(ReplyError::TooManyLines)));
    }

    #[test]
    fn text_cannot_break_out_of_its_reply() {
        let reply = crate::replies::OK.with_text("a\r\nb\tc\u{e9}");
        assert_eq!(written(&reply), "250-2.0.0 a?\r\n250 2.0.0 b?c?\r\n");
    }

    #[test]
    fn long_text_is_broken_into_lines_of_512_octets() {
        let reply = crate::replies::OK.with_text("x".repeat(1500));
        let wire = written(&reply);
        assert!(wire.lines().count() == 4 && wire.lines().all(|line| line.len() <= 510));
        let challenge = crate::replies::CHALLENGE.with_text("x".repeat(1500));
        assert_eq!(written(&challenge).len(), 1506);
    }

    proptest! {
        #[test]
        fn a_written_reply_reads_back(code in 200u16..600, subject in 0u16..1000, text in "[a-z][ -~]{0,60}(\n[ -~]{0,60}){0,3}") {
            let class = (code / 100) as u8;
            let enhanced = matches!(class, 2 | 4 | 5).then(|| EnhancedCode::new(class, subject, 1));
            let reply = Reply { code, enhanced, text: Cow::Owned(text) };
            prop_assert_eq!(read(written(&reply).as_bytes()), Some(Ok(reply)));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read(&bytes);
        }
    }
}
