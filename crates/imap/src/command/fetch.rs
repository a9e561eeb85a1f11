//! FETCH (RFC 3501 §6.4.5, §7.4.2).
//!
//! The session asks for rows of messages and writes each as it comes; message bodies pass as ranges that the driver
//! sends itself.

use bytes::BufMut;

use super::section::{Partial, Section, SectionText};
use super::{Command, messages};
use crate::io::{Answer, Ask, BlobRange, FetchRow, Output, SectionData};
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::view::Messages;
use crate::write;

/// The arguments of FETCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fetch {
    /// Which messages.
    pub messages: Messages,
    /// What of them, macros taken apart.
    pub items: Vec<FetchItem>,
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
    /// A section, by any of its names
    Section(SectionItem),
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
    /// Whether `\Seen` is to be set first.
    pub set_seen: bool,
}

impl FetchPlan {
    fn new(items: &[FetchItem], read_only: bool) -> Self {
        let mut plan = Self::default();
        for item in items {
            match item {
                FetchItem::Flags | FetchItem::Uid => {}
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

    /// Whether the header or the body of the message has to be looked at.
    pub const fn needs_content(&self) -> bool {
        self.envelope || self.body || self.body_structure || !self.sections.is_empty()
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
    parser.end()?;
    Ok(Command::Fetch(Fetch { messages, items }))
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

fn parse_item(parser: &mut Parser<'_>) -> Result<FetchItem> {
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
        b"RFC822" => rfc822(SectionName::Rfc822, SectionText::All, false),
        b"RFC822.HEADER" => rfc822(SectionName::Rfc822Header, SectionText::Header, true),
        b"RFC822.TEXT" => rfc822(SectionName::Rfc822Text, SectionText::Text, false),
        _ => return Err(ParseError::Syntax("no such item")),
    })
}

pub(crate) fn run(session: &mut Session, fetch: Fetch) {
    let Fetch {
        messages,
        mut items,
    } = fetch;
    let Some(uids) = session.resolve(&messages) else {
        return;
    };
    if uids.is_empty() {
        return session.ok("No such messages");
    }
    if messages.is_uid() && !items.contains(&FetchItem::Uid) {
        items.insert(0, FetchItem::Uid);
    }
    let plan = FetchPlan::new(&items, session.is_read_only());
    let sections = plan.sections.clone();
    let fetching = Fetching {
        by_uid: messages.is_uid(),
        tells_flags: items.contains(&FetchItem::Flags),
        items,
        sections,
        hint: 0,
    };
    session.ask(Ask::Fetch { uids, plan }, fetching);
}

struct Fetching {
    by_uid: bool,
    tells_flags: bool,
    items: Vec<FetchItem>,
    /// The sections of the plan, to find an item's data by its place.
    sections: Vec<Section>,
    /// The index at which the next message probably is.
    hint: usize,
}

impl Step for Fetching {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::FetchRow(row) => {
                self.row(session, &row);
                session.await_more(self);
            }
            Answer::FetchDone { gone } => session.ok_gone(gone && !self.by_uid, "Fetched"),
            other => session.refuse_unexpected(other),
        }
    }
}

impl Fetching {
    fn row(&mut self, session: &mut Session, row: &FetchRow) {
        let Some(view) = session.view_mut() else {
            return;
        };
        if row.flags_changed {
            view.remember_own_row(row.modseq, row.uid);
        }
        let Some(seq) = view.seq_of(row.uid, &mut self.hint) else {
            return;
        };
        let recent = view.is_recent(row.uid);
        let tells_flags = self.tells_flags || row.flags_changed;
        if tells_flags {
            view.told_flags(row.uid, row.modseq, &row.flags);
        }
        let out = session.text();
        out.put_slice(b"* ");
        write::number(out, seq as u64);
        out.put_slice(b" FETCH ");
        for (index, item) in self.items.iter().enumerate() {
            session.text().put_u8(if index == 0 { b'(' } else { b' ' });
            self.item(session, row, item, recent);
        }
        if tells_flags && !self.tells_flags {
            session.text().put_slice(b" FLAGS ");
            write::flags(session.text(), &row.flags, recent);
        }
        session.text().put_slice(b")\r\n");
    }

    fn item(&self, session: &mut Session, row: &FetchRow, item: &FetchItem, recent: bool) {
        let out = session.text();
        match item {
            FetchItem::Flags => {
                out.put_slice(b"FLAGS ");
                write::flags(out, &row.flags, recent);
            }
            FetchItem::Uid => {
                out.put_slice(b"UID ");
                write::number(out, u64::from(row.uid.get()));
            }
            FetchItem::InternalDate => {
                let date = row.internal_date.imap_date_time();
                write::display(out, format_args!("INTERNALDATE \"{date}\""));
            }
            FetchItem::Size => {
                out.put_slice(b"RFC822.SIZE ");
                write::number(out, row.octets);
            }
            FetchItem::Envelope => structure(out, "ENVELOPE ", &row.envelope),
            FetchItem::Body => structure(out, "BODY ", &row.body),
            FetchItem::BodyStructure => structure(out, "BODYSTRUCTURE ", &row.body_structure),
            FetchItem::Section(item) => {
                let place = self
                    .sections
                    .iter()
                    .position(|section| *section == item.section);
                let data = place.and_then(|place| row.sections.get(place));
                write_section(session, item, data);
            }
        }
    }
}

fn structure(out: &mut bytes::BytesMut, name: &str, rendered: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(if rendered.is_empty() {
        b"NIL"
    } else {
        rendered
    });
}

fn write_section(session: &mut Session, item: &SectionItem, data: Option<&SectionData>) {
    let out = session.text();
    match item.name {
        SectionName::Body => write::display(out, format_args!("BODY[{}]", item.section)),
        SectionName::Rfc822 => out.put_slice(b"RFC822"),
        SectionName::Rfc822Header => out.put_slice(b"RFC822.HEADER"),
        SectionName::Rfc822Text => out.put_slice(b"RFC822.TEXT"),
    }
    if let Some(partial) = item.partial {
        write::display(out, format_args!("<{}>", partial.start));
    }
    let cut = |octets: u64| {
        item.partial
            .map_or((0, octets), |partial| partial.cut(octets))
    };
    match data {
        None | Some(SectionData::Absent) => out.put_slice(b" NIL"),
        Some(SectionData::Bytes(bytes)) => {
            let (start, count) = cut(bytes.len() as u64);
            let (start, count) = (start as usize, count as usize);
            let octets = bytes.get(start..start + count).unwrap_or_default();
            write::display(out, format_args!(" {{{}}}\r\n", octets.len()));
            out.put_slice(octets);
        }
        Some(SectionData::Blob(blob)) => {
            let (start, count) = cut(blob.octets);
            write::display(out, format_args!(" {{{count}}}\r\n"));
            if count > 0 {
                session.push(Output::SendBlob(BlobRange {
                    token: blob.token,
                    start: blob.start + start,
                    octets: count,
                }));
            }
        }
    }
}
