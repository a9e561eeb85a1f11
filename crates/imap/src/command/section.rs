//! Sections of a message (RFC 3501 §6.4.5 `BODY[section]<partial>`).

use std::fmt;

use crate::parse::{ParseError, Parser, Result};

/// A part of a message, or all of it.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Section {
    /// The path of part numbers, each at least 1; empty: the message.
    pub part: Vec<u32>,
    /// What of the part.
    pub text: SectionText,
}

/// What of a part is meant.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum SectionText {
    /// All of the message; the content of a part.
    All,
    /// `HEADER`, of the message or of a MESSAGE/RFC822 part.
    Header,
    /// `HEADER.FIELDS`: the fields of these names.
    Fields(Vec<String>),
    /// `HEADER.FIELDS.NOT`: the fields of all other names.
    FieldsNot(Vec<String>),
    /// `TEXT`: without the header.
    Text,
    /// `MIME`: the header of the part itself.
    Mime,
}

/// `<start.count>`: at most `count` octets from `start` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Partial {
    /// The first octet, from 0.
    pub start: u64,
    /// How many at most; never 0.
    pub count: u64,
}

impl Section {
    /// The whole message.
    pub const ALL: Self = Self::of_message(SectionText::All);

    /// A section of the message itself.
    pub const fn of_message(text: SectionText) -> Self {
        Self {
            part: Vec::new(),
            text,
        }
    }

    /// After the opening bracket, up to and with the closing one.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        let mut part = Vec::new();
        let mut text_follows = true;
        while text_follows && parser.peek().is_some_and(|b| b.is_ascii_digit()) {
            if part.len() >= parser.limits().section_depth_max {
                return Err(ParseError::TooMany("parts"));
            }
            part.push(parser.nz_number()?);
            text_follows = parser.eat(b'.');
        }
        let text = if text_follows && (!part.is_empty() || parser.peek() != Some(b']')) {
            SectionText::parse(parser, !part.is_empty())?
        } else {
            SectionText::All
        };
        parser.expect(b']', "expected ] after the section")?;
        Ok(Self { part, text })
    }
}

impl SectionText {
    fn parse(parser: &mut Parser<'_>, in_part: bool) -> Result<Self> {
        let word = parser.take_while(|b| b.is_ascii_alphabetic() || b == b'.');
        match word.to_ascii_uppercase().as_slice() {
            b"HEADER" => Ok(Self::Header),
            b"TEXT" => Ok(Self::Text),
            b"MIME" if in_part => Ok(Self::Mime),
            b"HEADER.FIELDS" => field_names(parser).map(Self::Fields),
            b"HEADER.FIELDS.NOT" => field_names(parser).map(Self::FieldsNot),
            _ => Err(ParseError::Syntax("no such section")),
        }
    }
}

fn field_names(parser: &mut Parser<'_>) -> Result<Vec<String>> {
    parser.space()?;
    parser.list(
        parser.limits().header_fields_max,
        "header fields",
        |parser| {
            let name = parser.utf8_astring()?;
            let valid =
                !name.is_empty() && name.bytes().all(|b| matches!(b, b'!'..=b'~') && b != b':');
            valid
                .then_some(name)
                .ok_or(ParseError::Syntax("not a header field name"))
        },
    )
}

impl Partial {
    /// `<start.count>`, where it is there.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Option<Self>> {
        if !parser.eat(b'<') {
            return Ok(None);
        }
        let start = parser.number64()?;
        parser.expect(b'.', "expected . in the partial")?;
        let count = parser.nz_number64()?;
        parser.expect(b'>', "expected > after the partial")?;
        Ok(Some(Self { start, count }))
    }

    /// First octet and length of what is left of `octets`.
    pub(crate) fn cut(self, octets: u64) -> (u64, u64) {
        let start = self.start.min(octets);
        (start, self.count.min(octets - start))
    }
}

/// What stands between the brackets.
impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, number) in self.part.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            number.fmt(f)?;
        }
        if !self.part.is_empty() && self.text != SectionText::All {
            f.write_str(".")?;
        }
        match &self.text {
            SectionText::All => Ok(()),
            SectionText::Header => f.write_str("HEADER"),
            SectionText::Text => f.write_str("TEXT"),
            SectionText::Mime => f.write_str("MIME"),
            SectionText::Fields(names) => write_names(f, "HEADER.FIELDS", names),
            SectionText::FieldsNot(names) => write_names(f, "HEADER.FIELDS.NOT", names),
        }
    }
}

fn write_names(f: &mut fmt::Formatter<'_>, word: &str, names: &[String]) -> fmt::Result {
    write!(f, "{word} (")?;
    for (index, name) in names.iter().enumerate() {
        if index > 0 {
            f.write_str(" ")?;
        }
        write_name(f, name)?;
    }
    f.write_str(")")
}

/// A field name needs quotes where it holds what an atom cannot.
fn write_name(f: &mut fmt::Formatter<'_>, name: &str) -> fmt::Result {
    if name.bytes().all(crate::parse::is_atom_char) {
        return f.write_str(name);
    }
    f.write_str("\"")?;
    for c in name.chars() {
        if matches!(c, '"' | '\\') {
            f.write_str("\\")?;
        }
        write!(f, "{c}")?;
    }
    f.write_str("\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;
    use proptest::prelude::*;

    fn parse(text: &str) -> Result<Section> {
        let limits = Limits::default();
        let mut parser = Parser::new(text.as_bytes(), &limits);
        let section = Section::parse(&mut parser)?;
        parser.end().map(|()| section)
    }

    #[test]
    fn what_is_no_section_is_refused() {
        for text in [
            "1",
            "1.]",
            "0]",
            "1..2]",
            "MIME]",
            "1.2.]",
            "HEADER.FIELDS]",
            "HEADER.FIELDS ()]",
            "HEADER.FIELDS(A)]",
            "1 ]",
            "TEXT.1]",
            "HEADER.FIELDS (a:b)]",
            "FOO]",
            "1.FOO]",
            ".TEXT]",
        ] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn a_partial_never_reaches_beyond_the_end() {
        let partial = |start, count| Partial { start, count };
        assert_eq!(partial(0, 10).cut(4), (0, 4));
        assert_eq!(partial(3, 10).cut(4), (3, 1));
        assert_eq!(partial(9, 10).cut(4), (4, 0));
    }

    fn section() -> impl Strategy<Value = Section> {
        let names = || proptest::collection::vec("[!-9;-~]{1,6}", 1..4);
        let text = prop_oneof![
            Just(SectionText::All),
            Just(SectionText::Header),
            Just(SectionText::Text),
            Just(SectionText::Mime),
            names().prop_map(SectionText::Fields),
            names().prop_map(SectionText::FieldsNot),
        ];
        (proptest::collection::vec(1u32.., 0..4), text).prop_map(|(part, text)| match text {
            SectionText::Mime if part.is_empty() => Section::ALL,
            text => Section { part, text },
        })
    }

    proptest! {
        #[test]
        fn sections_survive_printing(section in section()) {
            prop_assert_eq!(parse(&format!("{section}]")), Ok(section));
        }
    }
}
