//! GETMETADATA and SETMETADATA (RFC 5464 §4).

use std::borrow::Cow;

use bytes::{BufMut, Bytes, BytesMut};

use super::Command;
use crate::io::{Answer, Ask};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::write;

/// Values up to this length are written in quotes where they can be.
const QUOTED_OCTETS_MAX: usize = 1000;

/// How far below an entry one asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Depth {
    /// The entry alone.
    #[default]
    Zero,
    /// And what is right below it.
    One,
    /// And all that is below it.
    Infinity,
}

impl Depth {
    /// Whether `name` is `entry`, or lies so far below it.
    pub fn reaches(self, entry: &str, name: &str) -> bool {
        let Some(below) = name.strip_prefix(entry) else {
            return false;
        };
        match below.strip_prefix('/') {
            None => below.is_empty(),
            Some(below) => match self {
                Self::Zero => false,
                Self::One => !below.contains('/'),
                Self::Infinity => true,
            },
        }
    }
}

/// A question about annotations. No mailbox: those of the server. Names are in lower case.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MetadataAsk {
    /// Values: `Metadata` with each of the entries that has one, and those below as far as asked.
    Get {
        /// Of which mailbox.
        mailbox: Option<MailboxName>,
        /// Which.
        entries: Vec<String>,
        /// How far below them.
        depth: Depth,
    },
    /// Set them, or take those without a value away: `Done`.
    Set {
        /// Of which mailbox.
        mailbox: Option<MailboxName>,
        /// Which, and to what.
        values: Vec<(String, Option<Bytes>)>,
    },
}

/// The arguments of GETMETADATA.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct GetMetadata {
    /// Of which mailbox; none: of the server.
    pub mailbox: Option<MailboxName>,
    /// Which annotations.
    pub entries: Vec<String>,
    /// How far below them.
    pub depth: Depth,
    /// Longer values are not told.
    pub octets_max: Option<u64>,
}

/// Options may stand before the mailbox, as the grammar says (RFC 5464 §5), or after it, as the examples show (§4.2.1).
pub(super) fn parse_get(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mut asked = Asked::default();
    if parser.peek() == Some(b'(') {
        asked = options(parser)?;
    }
    let mailbox = subject(parser)?;
    parser.space()?;
    let mut ahead = parser.clone();
    if let Ok(after) = options(&mut ahead) {
        asked = after;
        *parser = ahead;
    }
    let count_max = parser.limits().annotations_max;
    let entries = match parser.peek() {
        Some(b'(') => parser.list(count_max, "annotations", entry)?,
        _ => vec![entry(parser)?],
    };
    parser.end()?;
    let (depth, octets_max) = asked;
    Ok(Command::GetMetadata(GetMetadata {
        mailbox,
        entries,
        depth,
        octets_max,
    }))
}

/// How deep, and how large values may be.
type Asked = (Depth, Option<u64>);

/// The options and the space after them.
fn options(parser: &mut Parser<'_>) -> Result<Asked> {
    let (mut depth, mut octets_max) = Asked::default();
    parser.list(2, "options", |parser| {
        option(parser, &mut depth, &mut octets_max)
    })?;
    parser.space()?;
    Ok((depth, octets_max))
}

fn option(parser: &mut Parser<'_>, depth: &mut Depth, octets_max: &mut Option<u64>) -> Result<()> {
    if parser.eat_word("MAXSIZE") {
        parser.space()?;
        *octets_max = Some(parser.number64()?);
    } else if parser.eat_word("DEPTH") {
        parser.space()?;
        *depth = match parser.atom()? {
            "0" => Depth::Zero,
            "1" => Depth::One,
            word if word.eq_ignore_ascii_case("infinity") => Depth::Infinity,
            _ => return Err(ParseError::Syntax("expected 0, 1 or infinity")),
        };
    } else {
        return Err(ParseError::Syntax("expected MAXSIZE or DEPTH"));
    }
    Ok(())
}

pub(super) fn parse_set(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mailbox = subject(parser)?;
    parser.space()?;
    let count_max = parser.limits().annotations_max;
    let values = parser.list(count_max, "annotations", |parser| {
        let entry = entry(parser)?;
        parser.space()?;
        Ok((entry, value(parser)?))
    })?;
    parser.end()?;
    Ok(Command::SetMetadata { mailbox, values })
}

/// A mailbox, or the empty name for the server.
fn subject(parser: &mut Parser<'_>) -> Result<Option<MailboxName>> {
    let name = parser.mailbox()?;
    Ok((!name.as_str().is_empty()).then_some(name))
}

/// The name of an annotation (RFC 5464 §3.2): levels below `/private` or `/shared`, of any case.
fn entry(parser: &mut Parser<'_>) -> Result<String> {
    const WRONG: ParseError = ParseError::Syntax("not the name of an annotation");
    let name = parser.utf8_astring()?.to_ascii_lowercase();
    let mut levels = name.split('/');
    let rooted = levels.next() == Some("") && matches!(levels.next(), Some("private" | "shared"));
    let sound = levels.all(|level| !level.is_empty());
    let allowed = |b: u8| matches!(b, b' '..=b'~') && !matches!(b, b'*' | b'%');
    let short = name.len() <= parser.limits().mailbox_octets_max;
    match rooted && sound && short && name.bytes().all(allowed) {
        true => Ok(name),
        false => Err(WRONG),
    }
}

/// NIL, a string, or a literal that may hold any octet.
fn value(parser: &mut Parser<'_>) -> Result<Option<Bytes>> {
    if parser.eat_word("NIL") {
        return Ok(None);
    }
    let value = match parser.eat(b'~') {
        true => parser.literal8().map(Cow::Borrowed)?,
        false => parser.string()?,
    };
    Ok(Some(Bytes::from(value.into_owned())))
}

pub(crate) fn get(session: &mut Session, command: GetMetadata) {
    let asking = Getting {
        mailbox: command.mailbox.clone(),
        entries: command.entries.clone(),
        depth: command.depth,
        octets_max: command.octets_max,
    };
    let ask = MetadataAsk::Get {
        mailbox: command.mailbox,
        entries: command.entries,
        depth: command.depth,
    };
    session.ask(Ask::Metadata(ask), asking);
}

struct Getting {
    mailbox: Option<MailboxName>,
    entries: Vec<String>,
    depth: Depth,
    octets_max: Option<u64>,
}

impl Step for Getting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let Answer::Metadata(found) = answer else {
            return session.refuse_unexpected(answer);
        };
        let octets = |value: &Bytes| value.len() as u64;
        let fits = |value: &Bytes| self.octets_max.is_none_or(|max| octets(value) <= max);
        let longest = found.iter().map(|(_, value)| value);
        let longest = longest.filter(|value| !fits(value)).map(octets).max();
        let fitting = found.iter().filter(|(_, value)| fits(value));
        let mut told: Vec<_> = fitting
            .map(|(entry, value)| (entry.as_str(), Some(value)))
            .collect();
        // An entry that was named and has no value is told as such.
        let is_there = |entry: &&String| !found.iter().any(|(known, _)| known == *entry);
        if self.depth == Depth::Zero {
            let missing = self.entries.iter().filter(is_there);
            told.extend(missing.map(|entry| (entry.as_str(), None)));
        }
        tell(session, self.mailbox.as_ref(), &told);
        match longest {
            Some(longest) => {
                let code = format!("METADATA LONGENTRIES {longest}");
                session.ok_with(&code, "Longer annotations were left out");
            }
            None => session.ok("Annotations told"),
        }
    }
}

fn tell(session: &mut Session, mailbox: Option<&MailboxName>, told: &[(&str, Option<&Bytes>)]) {
    if told.is_empty() {
        return;
    }
    let utf8 = session.enabled().utf8();
    let out = session.text();
    out.put_slice(b"* METADATA ");
    match mailbox {
        Some(mailbox) => write::mailbox(out, mailbox, utf8),
        None => out.put_slice(b"\"\""),
    }
    for (index, (entry, value)) in told.iter().enumerate() {
        out.put_slice(if index == 0 { b" (" } else { b" " });
        write::astring(out, entry);
        out.put_u8(b' ');
        match value {
            Some(value) => write_value(out, value),
            None => out.put_slice(b"NIL"),
        }
    }
    out.put_slice(b")\r\n");
}

/// A value in quotes, or as a literal, or as one that may hold NUL.
pub(crate) fn write_value(out: &mut BytesMut, value: &Bytes) {
    let printable = |b: &u8| matches!(b, b' '..=b'~');
    match std::str::from_utf8(value) {
        Ok(text) if value.len() <= QUOTED_OCTETS_MAX && value.iter().all(printable) => {
            return write::quoted(out, text);
        }
        _ => {}
    }
    let mark = if value.contains(&0) { "~" } else { "" };
    write::display(out, format_args!("{mark}{{{}}}\r\n", value.len()));
    out.put_slice(value);
}

pub(crate) fn set(
    session: &mut Session,
    mailbox: Option<MailboxName>,
    values: Vec<(String, Option<Bytes>)>,
) {
    let octets_max = session.config().limits.annotation_octets_max;
    let lengths = values.iter().flat_map(|(_, value)| value);
    if lengths.map(Bytes::len).any(|octets| octets > octets_max) {
        let code = format!("METADATA MAXSIZE {octets_max}");
        return session.no_with(&code, "The value is too long");
    }
    session.ask(Ask::Metadata(MetadataAsk::Set { mailbox, values }), Setting);
}

struct Setting;

impl Step for Setting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok("Annotations set"),
            other => session.refuse_unexpected(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_says_how_far_below() {
        let reached = |depth: Depth| {
            ["/a", "/a/b", "/a/b/c", "/ab", "/x"].map(|name| depth.reaches("/a", name))
        };
        assert_eq!(reached(Depth::Zero), [true, false, false, false, false]);
        assert_eq!(reached(Depth::One), [true, true, false, false, false]);
        assert_eq!(reached(Depth::Infinity), [true, true, true, false, false]);
    }

    #[test]
    fn values_are_written_so_that_they_arrive_whole() {
        let written = |value: &'static [u8]| {
            let mut out = BytesMut::new();
            write_value(&mut out, &Bytes::from_static(value));
            out.to_vec()
        };
        assert_eq!(written(b"a \"b"), b"\"a \\\"b\"");
        assert_eq!(written(b""), b"\"\"");
        assert_eq!(written(b"a\r\nb"), b"{4}\r\na\r\nb");
        assert_eq!(written(b"a\0"), b"~{2}\r\na\0");
    }
}
