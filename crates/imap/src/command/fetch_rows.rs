//! Writing the rows of FETCH (RFC 3501 §7.4.2): each as it comes; message bodies pass as ranges that the driver sends
//! itself.

use bytes::{BufMut, Bytes, BytesMut};

use super::fetch::{BinaryItem, FetchItem, FetchPlan, SectionItem, SectionName};
use super::section::Partial;
use crate::enabled::{Enabled, Extension};
use crate::io::{Answer, BinaryData, BlobRange, FetchRow, Output, SectionData};
use crate::session::{Session, Step};
use crate::write;

/// An item with what does not differ from row to row.
enum Cell {
    /// What is written from the row alone.
    Plain(FetchItem),
    /// A section: its place in the row and how it is called.
    Section(Labelled),
    /// A decoded part, in the same way.
    Binary(Labelled),
}

struct Labelled {
    place: usize,
    /// Up to the space before the octets.
    label: Bytes,
    partial: Option<Partial>,
}

/// A FETCH whose rows come.
pub(super) struct Fetching {
    by_uid: bool,
    tells_uid: bool,
    tells_flags: bool,
    tells_modseq: bool,
    cells: Vec<Cell>,
    /// The index at which the next message probably is.
    hint: usize,
}

impl Fetching {
    pub(super) fn new(by_uid: bool, items: Vec<FetchItem>, plan: &FetchPlan) -> Self {
        Self {
            by_uid,
            tells_uid: items.contains(&FetchItem::Uid),
            tells_flags: items.contains(&FetchItem::Flags),
            tells_modseq: items.contains(&FetchItem::ModSeq),
            cells: items
                .into_iter()
                .map(|item| Cell::new(item, plan))
                .collect(),
            hint: 0,
        }
    }
}

impl Cell {
    fn new(item: FetchItem, plan: &FetchPlan) -> Self {
        match item {
            FetchItem::Section(item) => {
                let place = plan
                    .sections
                    .iter()
                    .position(|known| *known == item.section);
                Self::Section(Labelled {
                    place: place.unwrap_or(usize::MAX),
                    label: section_label(&item),
                    partial: item.partial,
                })
            }
            FetchItem::Binary(item) => {
                let place = plan.binaries.iter().position(|known| *known == item.part);
                Self::Binary(Labelled {
                    place: place.unwrap_or(usize::MAX),
                    label: binary_label(&item),
                    partial: item.partial,
                })
            }
            item => Self::Plain(item),
        }
    }
}

fn section_label(item: &SectionItem) -> Bytes {
    let mut out = BytesMut::new();
    match item.name {
        SectionName::Body => write::display(&mut out, format_args!("BODY[{}]", item.section)),
        SectionName::Rfc822 => out.put_slice(b"RFC822"),
        SectionName::Rfc822Header => out.put_slice(b"RFC822.HEADER"),
        SectionName::Rfc822Text => out.put_slice(b"RFC822.TEXT"),
    }
    end_label(out, item.partial)
}

fn binary_label(item: &BinaryItem) -> Bytes {
    let mut out = BytesMut::new();
    out.put_slice(match item.part.size_only {
        true => b"BINARY.SIZE[",
        false => b"BINARY[",
    });
    for (index, number) in item.part.part.iter().enumerate() {
        if index > 0 {
            out.put_u8(b'.');
        }
        write::number(&mut out, u64::from(*number));
    }
    out.put_u8(b']');
    end_label(out, item.partial)
}

fn end_label(mut out: BytesMut, partial: Option<Partial>) -> Bytes {
    if let Some(partial) = partial {
        write::display(&mut out, format_args!("<{}>", partial.start));
    }
    out.put_u8(b' ');
    out.freeze()
}

impl Step for Fetching {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::FetchRow(row) => {
                self.row(session, &row);
                session.await_more(self);
            }
            Answer::Vanished(uids) => {
                // What the client still counts is told by the news that it waits for.
                let uids = session.view().map(|view| uids.without(view.uids()));
                write::vanished(session.text(), true, &uids.unwrap_or_default());
                session.await_more(self);
            }
            Answer::FetchDone { gone } => session.ok_gone(gone && !self.by_uid, "Fetched"),
            other => session.refuse_unexpected(other),
        }
    }
}

impl Fetching {
    pub(super) fn row(&mut self, session: &mut Session, row: &FetchRow) {
        let enabled = session.enabled();
        let Some(view) = session.view_mut() else {
            return;
        };
        if row.flags_changed {
            view.remember_own_row(row.modseq, row.uid);
        }
        let Some(seq) = view.seq_of(row.uid, &mut self.hint) else {
            return;
        };
        let recent = enabled.tells_recent() && view.is_recent(row.uid);
        let adds_flags = row.flags_changed && !self.tells_flags;
        let counts = enabled.has(Extension::Condstore);
        let adds_modseq = row.flags_changed && counts && !self.tells_modseq;
        let names_uid = self.tells_uid || enabled.has(Extension::UidOnly);
        let adds_uid = row.flags_changed && counts && !names_uid;
        if (self.tells_flags || adds_flags) && (!counts || self.tells_modseq || adds_modseq) {
            view.told_flags(row.uid, row.modseq, &row.flags);
        }
        write::fetch_head(session.text(), seq, row.uid, enabled);
        for (index, cell) in self.cells.iter().enumerate() {
            if index > 0 {
                session.text().put_u8(b' ');
            }
            match cell {
                Cell::Plain(item) => write_item(session.text(), row, item, recent, enabled),
                Cell::Section(item) => {
                    let data = row.sections.get(item.place);
                    session.text().put_slice(&item.label);
                    write_data(session, item, data.unwrap_or(&SectionData::Absent), false);
                }
                Cell::Binary(item) => write_binary(session, item, row.binaries.get(item.place)),
            }
        }
        let out = session.text();
        if adds_flags {
            out.put_slice(b" FLAGS ");
            write::flags(out, &row.flags, recent);
        }
        if adds_uid {
            out.put_slice(b" UID ");
            write::number(out, u64::from(row.uid.get()));
        }
        if adds_modseq {
            out.put_u8(b' ');
            write::modseq(out, row.modseq);
        }
        out.put_slice(b")\r\n");
    }
}

fn write_item(
    out: &mut BytesMut,
    row: &FetchRow,
    item: &FetchItem,
    recent: bool,
    enabled: Enabled,
) {
    match item {
        FetchItem::Flags => {
            out.put_slice(b"FLAGS ");
            write::flags(out, &row.flags, recent);
        }
        FetchItem::Uid => {
            out.put_slice(b"UID ");
            write::number(out, u64::from(row.uid.get()));
        }
        FetchItem::ModSeq => write::modseq(out, row.modseq),
        FetchItem::InternalDate => {
            let date = row.internal_date.imap_date_time();
            write::display(out, format_args!("INTERNALDATE \"{date}\""));
        }
        FetchItem::SaveDate => {
            let date = row.save_date.imap_date_time();
            write::display(out, format_args!("SAVEDATE \"{date}\""));
        }
        FetchItem::Size => {
            out.put_slice(b"RFC822.SIZE ");
            write::number(out, row.octets);
        }
        FetchItem::EmailId => write::display(out, format_args!("EMAILID (E{:016x})", row.email_id)),
        FetchItem::ThreadId => match row.thread_id {
            Some(id) => write::display(out, format_args!("THREADID (T{id:016x})")),
            None => out.put_slice(b"THREADID NIL"),
        },
        FetchItem::Preview => {
            out.put_slice(b"PREVIEW ");
            match &row.preview {
                Some(text) => write::text(out, text, enabled.utf8()),
                None => out.put_slice(b"NIL"),
            }
        }
        FetchItem::Envelope => structure(out, "ENVELOPE ", &row.envelope),
        FetchItem::Body => structure(out, "BODY ", &row.body),
        FetchItem::BodyStructure => structure(out, "BODYSTRUCTURE ", &row.body_structure),
        FetchItem::Section(_) | FetchItem::Binary(_) => {}
    }
}

fn structure(out: &mut BytesMut, name: &str, rendered: &[u8]) {
    out.put_slice(name.as_bytes());
    out.put_slice(if rendered.is_empty() {
        b"NIL"
    } else {
        rendered
    });
}

/// Octets may be any in a literal8; it is used only where it must be, and where nobody has looked (RFC 3516 §4.2).
fn write_binary(session: &mut Session, item: &Labelled, data: Option<&BinaryData>) {
    session.text().put_slice(&item.label);
    match data {
        Some(BinaryData::Size(octets)) => write::number(session.text(), *octets),
        Some(BinaryData::Octets(data)) => write_data(session, item, data, true),
        None | Some(BinaryData::Absent) => session.text().put_slice(b"NIL"),
    }
}

/// `literal8`: whether the octets may be any.
fn write_data(session: &mut Session, item: &Labelled, data: &SectionData, literal8: bool) {
    let out = session.text();
    let cut = |octets: u64| {
        item.partial
            .map_or((0, octets), |partial| partial.cut(octets))
    };
    match data {
        SectionData::Absent => out.put_slice(b"NIL"),
        SectionData::Bytes(bytes) => {
            let (start, count) = cut(bytes.len() as u64);
            let (start, count) = (start as usize, count as usize);
            let octets = bytes.get(start..start + count).unwrap_or_default();
            let any = literal8 && memchr::memchr(0, octets).is_some();
            announce(out, octets.len() as u64, any);
            out.put_slice(octets);
        }
        SectionData::Blob(blob) => {
            let (start, count) = cut(blob.octets);
            announce(out, count, literal8);
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

fn announce(out: &mut BytesMut, octets: u64, literal8: bool) {
    out.put_slice(if literal8 { b"~{" } else { b"{" });
    write::number(out, octets);
    out.put_slice(b"}\r\n");
}
