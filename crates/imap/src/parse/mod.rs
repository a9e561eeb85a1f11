//! The words of the grammar (RFC 3501 §9): atoms, strings, literals, numbers.
//!
//! Reads one whole command from one slice, literals in their place: `A LOGIN {1}CRLFx {1}CRLFy`.

mod date;
mod flag;

use std::borrow::Cow;

use thiserror::Error;

use crate::limits::Limits;
use crate::name::{MailboxName, NameError};
use crate::set::{SeqSet, UidSetSpec};

pub use date::Day;
pub(crate) use date::rfc3339;

/// Why a command was not understood.
#[derive(Debug, Error, Clone, Copy, PartialEq, Eq)]
pub enum ParseError {
    /// Against the grammar; the text says what was expected.
    #[error("{0}")]
    Syntax(&'static str),
    /// More of something than a limit allows; the text says of what.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A mailbox name that cannot be one.
    #[error("{0}")]
    Name(#[from] NameError),
    /// A search charset that is not known, or text that is not written in it.
    #[error("charset not supported")]
    Charset,
}

/// What parsing gives.
pub type Result<T> = std::result::Result<T, ParseError>;

/// A cursor over one command.
#[derive(Clone)]
pub struct Parser<'a> {
    rest: &'a [u8],
    limits: &'a Limits,
    utf8: bool,
}

/// RFC 3501 §9 `ATOM-CHAR`.
pub(crate) fn is_atom_char(b: u8) -> bool {
    matches!(b, 0x21..=0x7e) && !matches!(b, b'(' | b')' | b'{' | b'%' | b'*' | b'"' | b'\\' | b']')
}

/// RFC 3501 §9 `ASTRING-CHAR`.
pub(crate) fn is_astring_char(b: u8) -> bool {
    is_atom_char(b) || b == b']'
}

/// RFC 3501 §9 `list-char`.
fn is_list_char(b: u8) -> bool {
    is_astring_char(b) || matches!(b, b'%' | b'*')
}

/// RFC 3501 §9 `tag`.
fn is_tag_char(b: u8) -> bool {
    is_astring_char(b) && b != b'+'
}

impl<'a> Parser<'a> {
    /// Over a command without its final line end.
    pub const fn new(text: &'a [u8], limits: &'a Limits) -> Self {
        Self {
            rest: text,
            limits,
            utf8: false,
        }
    }

    /// The same, where mailbox names are UTF-8 on the wire (RFC 6855 §3), not modified UTF-7.
    #[must_use]
    pub const fn with_utf8(mut self, utf8: bool) -> Self {
        self.utf8 = utf8;
        self
    }

    /// Whether mailbox names are UTF-8 on the wire.
    pub const fn is_utf8(&self) -> bool {
        self.utf8
    }

    /// The bounds.
    pub const fn limits(&self) -> &'a Limits {
        self.limits
    }

    /// The next octet, which stays.
    pub fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    /// Whether nothing is left.
    pub const fn is_at_end(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes an octet if it is the next.
    pub fn eat(&mut self, wanted: u8) -> bool {
        match self.rest.split_first() {
            Some((first, rest)) if *first == wanted => {
                self.rest = rest;
                true
            }
            _ => false,
        }
    }

    /// Takes an octet if it is the next and this other one follows it, which stays.
    pub fn eat_before(&mut self, wanted: u8, follows: u8) -> bool {
        self.rest.get(1) == Some(&follows) && self.eat(wanted)
    }

    /// Takes an octet or fails.
    pub fn expect(&mut self, wanted: u8, otherwise: &'static str) -> Result<()> {
        self.eat(wanted)
            .then_some(())
            .ok_or(ParseError::Syntax(otherwise))
    }

    /// Takes exactly one space.
    pub fn space(&mut self) -> Result<()> {
        self.expect(b' ', "expected one space")
    }

    /// Fails unless nothing is left.
    pub fn end(&self) -> Result<()> {
        self.is_at_end().then_some(()).ok_or(ParseError::Syntax(
            "unexpected text at the end of the command",
        ))
    }

    /// Takes octets as long as they are wanted.
    pub fn take_while(&mut self, wanted: fn(u8) -> bool) -> &'a [u8] {
        let end = self
            .rest
            .iter()
            .position(|b| !wanted(*b))
            .unwrap_or(self.rest.len());
        self.take(end).unwrap_or_default()
    }

    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.rest.split_at_checked(count)?;
        self.rest = rest;
        Some(taken)
    }

    fn word(&mut self, wanted: fn(u8) -> bool, otherwise: &'static str) -> Result<&'a str> {
        match std::str::from_utf8(self.take_while(wanted)) {
            Ok(word) if !word.is_empty() => Ok(word),
            _ => Err(ParseError::Syntax(otherwise)),
        }
    }

    /// An atom.
    pub fn atom(&mut self) -> Result<&'a str> {
        self.word(is_atom_char, "expected an atom")
    }

    /// A command's tag.
    pub fn tag(&mut self) -> Result<&'a str> {
        let tag = self.word(is_tag_char, "expected a tag")?;
        if tag.len() > self.limits.tag_octets_max {
            return Err(ParseError::Syntax("the tag is too long"));
        }
        Ok(tag)
    }

    /// Takes a word if the next one is that word in any case, followed by no other letter of an atom.
    pub fn eat_word(&mut self, wanted: &str) -> bool {
        let Some((head, rest)) = self.rest.split_at_checked(wanted.len()) else {
            return false;
        };
        let ends = !rest.first().is_some_and(|b| is_atom_char(*b));
        let eaten = ends && head.eq_ignore_ascii_case(wanted.as_bytes());
        if eaten {
            self.rest = rest;
        }
        eaten
    }

    /// A number of up to 64 bits.
    pub fn number64(&mut self) -> Result<u64> {
        let digits = self.word(|b| b.is_ascii_digit(), "expected a number")?;
        digits
            .parse()
            .map_err(|_| ParseError::Syntax("the number is too great"))
    }

    /// A number of up to 32 bits.
    pub fn number(&mut self) -> Result<u32> {
        u32::try_from(self.number64()?).map_err(|_| ParseError::Syntax("the number is too great"))
    }

    /// A number of up to 32 bits that is not zero.
    pub fn nz_number(&mut self) -> Result<u32> {
        match self.number()? {
            0 => Err(ParseError::Syntax("the number must not be zero")),
            number => Ok(number),
        }
    }

    /// A number of up to 64 bits that is not zero.
    pub fn nz_number64(&mut self) -> Result<u64> {
        match self.number64()? {
            0 => Err(ParseError::Syntax("the number must not be zero")),
            number => Ok(number),
        }
    }

    /// An astring: atom characters, or a string.
    pub fn astring(&mut self) -> Result<Cow<'a, [u8]>> {
        self.string_or(is_astring_char)
    }

    /// A list-mailbox: as an astring, and wildcards need no quotes.
    pub fn list_mailbox(&mut self) -> Result<Cow<'a, [u8]>> {
        self.string_or(is_list_char)
    }

    fn string_or(&mut self, bare: fn(u8) -> bool) -> Result<Cow<'a, [u8]>> {
        if matches!(self.peek(), Some(b'"' | b'{')) {
            return self.string();
        }
        match self.take_while(bare) {
            [] => Err(ParseError::Syntax("expected an atom or a string")),
            bare => Ok(Cow::Borrowed(bare)),
        }
    }

    /// A quoted string or a literal.
    pub fn string(&mut self) -> Result<Cow<'a, [u8]>> {
        if self.eat(b'"') {
            return self.quoted();
        }
        if self.eat(b'{') {
            return self.literal().map(Cow::Borrowed);
        }
        Err(ParseError::Syntax("expected a string"))
    }

    /// A string that must be UTF-8.
    pub fn utf8_astring(&mut self) -> Result<String> {
        String::from_utf8(self.astring()?.into_owned())
            .map_err(|_| ParseError::Syntax("the string is not UTF-8"))
    }

    /// The rest of a quoted string. Octets above 127 are let through, as clients send them.
    fn quoted(&mut self) -> Result<Cow<'a, [u8]>> {
        let plain = self.take_while(is_quoted_char);
        if self.eat(b'"') {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = plain.to_vec();
        loop {
            match self.take(1) {
                Some(b"\"") => return Ok(Cow::Owned(out)),
                Some(b"\\") => match self.take(1) {
                    Some(escaped @ (b"\"" | b"\\")) => out.extend_from_slice(escaped),
                    _ => return Err(ParseError::Syntax("only \\ and \" may be escaped")),
                },
                _ => return Err(ParseError::Syntax("unfinished quoted string")),
            }
            out.extend_from_slice(self.take_while(is_quoted_char));
        }
    }

    /// The rest of a literal, after its brace.
    fn literal(&mut self) -> Result<&'a [u8]> {
        let octets = self.counted()?;
        if memchr::memchr(0, octets).is_some() {
            return Err(ParseError::Syntax("a literal must not hold NUL"));
        }
        Ok(octets)
    }

    /// A literal that may hold any octet (RFC 3516 §4.4), after its `~`.
    pub fn literal8(&mut self) -> Result<&'a [u8]> {
        self.expect(b'{', "expected a literal")?;
        self.counted()
    }

    /// The octets of a literal, after its brace.
    fn counted(&mut self) -> Result<&'a [u8]> {
        const BROKEN: ParseError = ParseError::Syntax("broken literal");
        let size = self.number64()?;
        self.eat(b'+');
        self.expect(b'}', "broken literal")?;
        self.eat(b'\r');
        self.expect(b'\n', "broken literal")?;
        let size = usize::try_from(size).map_err(|_| BROKEN)?;
        self.take(size).ok_or(BROKEN)
    }

    /// A mailbox name.
    pub fn mailbox(&mut self) -> Result<MailboxName> {
        let wire = self.astring()?;
        let octets_max = self.limits.mailbox_octets_max;
        Ok(if self.utf8 {
            MailboxName::from_utf8(&wire, octets_max)?
        } else {
            MailboxName::from_wire(&wire, octets_max)?
        })
    }

    /// A set of sequence numbers.
    pub fn seq_set(&mut self) -> Result<SeqSet> {
        SeqSet::parse(self.take_while(is_set_char))
            .ok_or(ParseError::Syntax("expected a sequence set"))
    }

    /// A set of UIDs.
    pub fn uid_set(&mut self) -> Result<UidSetSpec> {
        UidSetSpec::parse(self.take_while(is_set_char))
            .ok_or(ParseError::Syntax("expected a set of UIDs"))
    }

    /// A parenthesized list of at least one item, one space between items.
    pub fn list<T>(
        &mut self,
        count_max: usize,
        what: &'static str,
        mut item: impl FnMut(&mut Self) -> Result<T>,
    ) -> Result<Vec<T>> {
        self.expect(b'(', "expected a parenthesis")?;
        let mut items = vec![item(self)?];
        while !self.eat(b')') {
            self.space()?;
            if items.len() >= count_max {
                return Err(ParseError::TooMany(what));
            }
            items.push(item(self)?);
        }
        Ok(items)
    }
}

fn is_quoted_char(b: u8) -> bool {
    !matches!(b, b'"' | b'\\' | b'\r' | b'\n' | 0)
}

fn is_set_char(b: u8) -> bool {
    b.is_ascii_digit() || matches!(b, b'*' | b':' | b',')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn astring(text: &str) -> Result<Vec<u8>> {
        let limits = Limits::default();
        let mut parser = Parser::new(text.as_bytes(), &limits);
        let value = parser.astring()?.into_owned();
        parser.end().map(|()| value)
    }

    #[test]
    fn the_forms_of_an_astring_say_the_same() {
        for text in ["ab]", "\"ab]\"", "{3}\r\nab]", "{3+}\nab]", "{003}\r\nab]"] {
            assert_eq!(astring(text).unwrap(), b"ab]", "{text:?}");
        }
        assert_eq!(astring("{0}\r\n").unwrap(), b"");
        assert_eq!(astring("\"\"").unwrap(), b"");
        assert_eq!(astring(r#""a\"b\\c""#).unwrap(), br#"a"b\c"#);
    }

    #[test]
    fn broken_strings_are_refused() {
        for text in [
            "",
            "\"a",
            "\"a\\b\"",
            "\"a\rb\"",
            "{1}\r\n\0",
            "{2}\r\na",
            "{1}a",
            "{}\r\n",
            "{99999999999999999999}\r\n",
            "a\"b",
            "a(b",
            "\u{e9}",
            "\"a\0\"",
        ] {
            assert!(astring(text).is_err(), "{text:?}");
        }
    }
}
