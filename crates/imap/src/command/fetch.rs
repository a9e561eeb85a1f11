//! FETCH (RFC 3501 §6.4.5, §7.4.2).
//!
//! The session asks for rows of messages; `fetch_rows` writes each as it comes.

use nightmail_core::{ModSeq, Uid};

use super::fetch_rows::Fetching;
use super::section::{Partial, Section, SectionText};
use super::synchronize::{self, FetchModifiers};
use super::{Command, messages};
use crate::enabled::Extension;
use crate::io::Ask;
use crate::parse::{ParseError, Parser, Result};
use crate::session::Session;
use crate::set::UidSet;
use crate::view::Messages;

/// The arguments of FETCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Which messages.
    pub messages: Messages,
    /// What of them, macros taken apart.
    pub items: Vec<FetchItem>,
    /// What narrows it.
    pub modifiers: FetchModifiers,
}

/// A data item.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FetchItem {
    /// FLAGS
    Flags,
    /// UID
    Uid,
    /// INTERNALDATE
    InternalDate,
    /// RFC822.SIZE
    Size,
    /// ENVELOPE
    Envelope,
    /// BODY
    Body,
    /// BODYSTRUCTURE
    BodyStructure,
    /// MODSEQ (RFC 7162 §3.1.5)
    ModSeq,
    /// SAVEDATE (RFC 8514)
    SaveDate,
    /// EMAILID (RFC 8474)
    EmailId,
    /// THREADID (RFC 8474)
    ThreadId,
    /// PREVIEW (RFC 8970)
    Preview,
    /// A section, by any of its names
    Section(SectionItem),
    /// A part without its transfer encoding (RFC 3516)
    Binary(BinaryItem),
}

/// `BINARY[...]` or `BINARY.SIZE[...]`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BinaryItem {
    /// Which part.
    pub part: BinaryPart,
    /// Whether `\Seen` stays as it is.
    pub peek: bool,
    /// Which octets of it.
    pub partial: Option<Partial>,
}

/// A part to be decoded.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BinaryPart {
    /// The path of part numbers; empty: the message.
    pub part: Vec<u32>,
    /// Whether only its length is wanted.
    pub size_only: bool,
}

/// A range of the messages found, counted from either end (RFC 9394 §3.3).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PartialRange {
    /// The lower position, from 1.
    pub first: u32,
    /// The higher one.
    pub last: u32,
    /// Whether positions count from the last message.
    pub from_end: bool,
}

impl PartialRange {
    /// `1:100` or `-1:-100`.
    pub(crate) fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        let from_end = parser.eat(b'-');
        let first = parser.nz_number()?;
        parser.expect(b':', "expected : in the range")?;
        if parser.eat(b'-') != from_end {
            return Err(ParseError::Syntax("both ends must have the same sign"));
        }
        let last = parser.nz_number()?;
        Ok(Self {
            first: first.min(last),
            last: first.max(last),
            from_end,
        })
    }

    /// The part of `all` that is meant.
    pub fn cut<T>(self, all: &[T]) -> &[T] {
        let (first, last) = (self.first as usize, self.last as usize);
        let (start, end) = match self.from_end {
            false => (first.saturating_sub(1), last.min(all.len())),
            true => (
                all.len().saturating_sub(last),
                (all.len() + 1).saturating_sub(first),
            ),
        };
        all.get(start..end).unwrap_or_default()
    }
}

/// A section to fetch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionItem {
    /// The name it is answered under.
    pub name: SectionName,
    /// Which section.
    pub section: Section,
    /// Whether `\Seen` stays as it is.
    pub peek: bool,
    /// Which octets of it.
    pub partial: Option<Partial>,
}

/// The names of sections.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SectionName {
    /// `BODY[...]`
    Body,
    /// `RFC822`
    Rfc822,
    /// `RFC822.HEADER`
    Rfc822Header,
    /// `RFC822.TEXT`
    Rfc822Text,
}

/// What the driver has to give of each message. UID, flags and their modification sequence it gives always.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct FetchPlan {
    /// INTERNALDATE.
    pub internal_date: bool,
    /// RFC822.SIZE.
    pub size: bool,
    /// ENVELOPE.
    pub envelope: bool,
    /// BODY.
    pub body: bool,
    /// BODYSTRUCTURE.
    pub body_structure: bool,
    /// These sections, none twice.
    pub sections: Vec<Section>,
    /// SAVEDATE.
    pub save_date: bool,
    /// EMAILID or THREADID.
    pub object_ids: bool,
    /// PREVIEW.
    pub preview: bool,
    /// These decoded parts, none twice.
    pub binaries: Vec<BinaryPart>,
    /// Whether `\Seen` is to be set first.
    pub set_seen: bool,
    /// Only messages that changed after this.
    pub changed_since: Option<ModSeq>,
    /// Which UIDs are to be named that were expunged after `changed_since`.
    pub vanished: Option<UidSet>,
    /// Only these of the messages left.
    pub partial: Option<PartialRange>,
}

impl FetchPlan {
    fn new(items: &[FetchItem], read_only: bool) -> Self {
        let mut plan = Self::default();
        for item in items {
            match item {
                FetchItem::Flags | FetchItem::Uid | FetchItem::ModSeq => {}
                FetchItem::SaveDate => plan.save_date = true,
                FetchItem::EmailId | FetchItem::ThreadId => plan.object_ids = true,
                FetchItem::Preview => plan.preview = true,
                FetchItem::Binary(item) => {
                    plan.set_seen |= !item.peek && !read_only;
                    if !plan.binaries.contains(&item.part) {
                        plan.binaries.push(item.part.clone());
                    }
                }
                FetchItem::InternalDate => plan.internal_date = true,
                FetchItem::Size => plan.size = true,
                FetchItem::Envelope => plan.envelope = true,
                FetchItem::Body => plan.body = true,
                FetchItem::BodyStructure => plan.body_structure = true,
                FetchItem::Section(item) => {
                    plan.set_seen |= !item.peek && !read_only;
                    if !plan.sections.contains(&item.section) {
                        plan.sections.push(item.section.clone());
                    }
                }
            }
        }
        plan
    }
}

pub(super) fn parse(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    let messages = messages(parser, by_uid)?;
    parser.space()?;
    let items = if parser.peek() == Some(b'(') {
        parser.list(parser.limits().fetch_items_max, "items", parse_item)?
    } else if let Some(items) = parse_macro(parser) {
        items
    } else {
        vec![parse_item(parser)?]
    };
    let modifiers = synchronize::fetch_modifiers(parser, by_uid)?;
    parser.end()?;
    Ok(Command::Fetch(Fetch {
        messages,
        items,
        modifiers,
    }))
}

fn parse_macro(parser: &mut Parser<'_>) -> Option<Vec<FetchItem>> {
    use FetchItem::{Body, Envelope, Flags, InternalDate, Size};
    if parser.eat_word("ALL") {
        Some(vec![Flags, InternalDate, Size, Envelope])
    } else if parser.eat_word("FAST") {
        Some(vec![Flags, InternalDate, Size])
    } else if parser.eat_word("FULL") {
        Some(vec![Flags, InternalDate, Size, Envelope, Body])
    } else {
        None
    }
}

pub(super) fn parse_item(parser: &mut Parser<'_>) -> Result<FetchItem> {
    let word = parser.take_while(|b| b.is_ascii_alphanumeric() || b == b'.');
    let word = word.to_ascii_uppercase();
    if matches!(word.as_slice(), b"BODY" | b"BODY.PEEK") && parser.eat(b'[') {
        return Ok(FetchItem::Section(SectionItem {
            name: SectionName::Body,
            section: Section::parse(parser)?,
            peek: word.ends_with(b"PEEK"),
            partial: Partial::parse(parser)?,
        }));
    }
    if matches!(word.as_slice(), b"BINARY" | b"BINARY.PEEK" | b"BINARY.SIZE") {
        parser.expect(b'[', "expected [")?;
        return parse_binary(
            parser,
            word.ends_with(b"SIZE"),
            word.len() > b"BINARY".len(),
        );
    }
    let rfc822 = |name, text, peek| {
        FetchItem::Section(SectionItem {
            name,
            section: Section::of_message(text),
            peek,
            partial: None,
        })
    };
    Ok(match word.as_slice() {
        b"FLAGS" => FetchItem::Flags,
        b"UID" => FetchItem::Uid,
        b"INTERNALDATE" => FetchItem::InternalDate,
        b"RFC822.SIZE" => FetchItem::Size,
        b"ENVELOPE" => FetchItem::Envelope,
        b"BODY" => FetchItem::Body,
        b"BODYSTRUCTURE" => FetchItem::BodyStructure,
        b"MODSEQ" => FetchItem::ModSeq,
        b"SAVEDATE" => FetchItem::SaveDate,
        b"EMAILID" => FetchItem::EmailId,
        b"THREADID" => FetchItem::ThreadId,
        b"PREVIEW" => parse_preview(parser),
        b"RFC822" => rfc822(SectionName::Rfc822, SectionText::All, false),
        b"RFC822.HEADER" => rfc822(SectionName::Rfc822Header, SectionText::Header, true),
        b"RFC822.TEXT" => rfc822(SectionName::Rfc822Text, SectionText::Text, false),
        _ => return Err(ParseError::Syntax("no such item")),
    })
}

/// After the opening bracket.
fn parse_binary(parser: &mut Parser<'_>, size_only: bool, peek: bool) -> Result<FetchItem> {
    let mut part = Vec::new();
    if !parser.eat(b']') {
        loop {
            if part.len() >= parser.limits().section_depth_max {
                return Err(ParseError::TooMany("parts"));
            }
            part.push(parser.nz_number()?);
            if !parser.eat(b'.') {
                break;
            }
        }
        parser.expect(b']', "expected ] after the part")?;
    }
    let partial = match size_only {
        true => None,
        false => Partial::parse(parser)?,
    };
    Ok(FetchItem::Binary(BinaryItem {
        part: BinaryPart { part, size_only },
        peek,
        partial,
    }))
}

/// What is not at hand is made at once, so LAZY gets the same.
fn parse_preview(parser: &mut Parser<'_>) -> FetchItem {
    let mut ahead = parser.clone();
    if ahead.eat(b' ') && ahead.eat(b'(') && ahead.eat_word("LAZY") && ahead.eat(b')') {
        *parser = ahead;
    }
    FetchItem::Preview
}

/// A fetch that no command asked for.
pub(super) fn pushed(session: &Session, items: Vec<FetchItem>) -> (FetchPlan, Fetching) {
    let plan = FetchPlan::new(&items, session.is_read_only());
    let fetching = Fetching::new(false, items, &plan);
    (plan, fetching)
}

pub(crate) fn run(session: &mut Session, fetch: Fetch) {
    let Fetch {
        messages,
        mut items,
        modifiers,
    } = fetch;
    if modifiers.vanished && !session.enabled().has(Extension::Qresync) {
        return session.bad("Enable QRESYNC first");
    }
    if modifiers.changed_since.is_some() && !items.contains(&FetchItem::ModSeq) {
        items.push(FetchItem::ModSeq);
    }
    if items.contains(&FetchItem::ModSeq) {
        session.enable_condstore();
    }
    let Some(uids) = session.resolve(&messages) else {
        return;
    };
    let last = session.view().and_then(|view| view.uids().last().copied());
    let vanished = modifiers.vanished.then(|| reach(&messages, &uids, last));
    if uids.is_empty() && vanished.is_none() {
        return session.ok("No such messages");
    }
    let names_uid = items.contains(&FetchItem::Uid) || session.enabled().has(Extension::UidOnly);
    if messages.is_uid() && !names_uid {
        items.insert(0, FetchItem::Uid);
    }
    let plan = FetchPlan {
        changed_since: modifiers.changed_since,
        vanished,
        partial: modifiers.partial,
        ..FetchPlan::new(&items, session.is_read_only())
    };
    let fetching = Fetching::new(messages.is_uid(), items, &plan);
    session.ask(Ask::Fetch { uids, plan }, fetching);
}

/// The UIDs that a client asks about, those that no message has included.
fn reach(messages: &Messages, uids: &UidSet, last: Option<Uid>) -> UidSet {
    match messages {
        Messages::Uid(spec) => spec.reach(last),
        _ => uids.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_from_either_end() {
        let all = [10, 20, 30, 40, 50];
        let cut = |first, last, from_end| {
            let range = PartialRange {
                first,
                last,
                from_end,
            };
            range.cut(&all).to_vec()
        };
        assert_eq!(cut(1, 2, false), [10, 20]);
        assert_eq!(cut(4, 9, false), [40, 50]);
        assert_eq!(cut(6, 9, false), Vec::<i32>::new());
        assert_eq!(cut(1, 2, true), [40, 50]);
        assert_eq!(cut(4, 9, true), [10, 20]);
        assert_eq!(cut(6, 9, true), Vec::<i32>::new());
        assert_eq!(cut(1, u32::MAX, true), all);
    }
}
