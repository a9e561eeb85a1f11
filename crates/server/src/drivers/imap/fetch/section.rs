//! Sections of a message (RFC 3501 §6.4.5), and its envelope and structure as IMAP writes them.
//!
//! The structure speaks of what follows the prefix; a client counts from the first octet of the prefix.

use std::borrow::Cow;
use std::ops::Range;

use bytes::Bytes;
use nightmail_imap::command::section::{Section, SectionText};
use nightmail_imap::io::{BlobRange, SectionData};
use nightmail_mime::header::pick_fields;
use nightmail_mime::preview::{PREVIEW_SOURCE_OCTETS, preview as preview_of, preview_part};
use nightmail_mime::{Envelope, SectionKind, imap};
use nightmail_store::{Store, StoreError};

use super::{Item, Source};

/// Sections up to this length are handed to the machine; of longer ones it only passes the place on.
const COPIED_OCTETS_MAX: u64 = 1024;
/// So much of a header is searched for fields.
pub(in crate::drivers::imap) const HEADER_OCTETS_MAX: u64 = 4 << 20;
/// Characters of a preview (RFC 8970 §3.1).
const PREVIEW_CHARS_MAX: usize = 200;
/// Addresses read from the prefix, which has none that matter.
const PREFIX_ADDRESSES_MAX: usize = 1;

/// A section, and what the machine may then ask the driver to send.
pub(super) struct Data {
    pub(super) data: SectionData,
    pub(super) source: Option<Source>,
}

/// The octets of a section. `token` is the place that its source will have.
pub(super) async fn data(
    store: &Store,
    item: &Item,
    section: &Section,
    token: usize,
) -> Result<Data, StoreError> {
    let plain = |data| Data { data, source: None };
    let Some(range) = range(item, section) else {
        return Ok(plain(SectionData::Absent));
    };
    let (names, not) = match &section.text {
        SectionText::Fields(names) => (names, false),
        SectionText::FieldsNot(names) => (names, true),
        _ => return Ok(of_range(item, range, token)),
    };
    let header = Box::pin(item.read(store, range, HEADER_OCTETS_MAX)).await?;
    let picked = pick_fields(&header, names, not);
    Ok(plain(SectionData::Bytes(picked.into())))
}

/// Octets that lie in the message one after the other.
pub(super) fn of_range(item: &Item, range: Range<u64>, token: usize) -> Data {
    let octets = range.end.saturating_sub(range.start);
    let short = match octets <= COPIED_OCTETS_MAX {
        true => item.slice(&range),
        false => None,
    };
    if let Some(bytes) = short {
        return Data {
            data: SectionData::Bytes(bytes),
            source: None,
        };
    }
    Data {
        data: SectionData::Blob(BlobRange {
            token: token as u64,
            start: range.start,
            octets,
        }),
        source: Some(Source {
            prefix: item.row.prefix.clone(),
            body: item.body.clone(),
        }),
    }
}

/// Where a section lies in the message; of chosen fields, the header they are in.
fn range(item: &Item, section: &Section) -> Option<Range<u64>> {
    let kind = match &section.text {
        SectionText::All => SectionKind::Body,
        SectionText::Header | SectionText::Fields(_) | SectionText::FieldsNot(_) => {
            SectionKind::Header
        }
        SectionText::Text => SectionKind::Text,
        SectionText::Mime => SectionKind::Mime,
    };
    match (section.part.is_empty(), kind) {
        (true, SectionKind::Body) => Some(0..item.row.size),
        (true, SectionKind::Header) => Some(item.header_range()),
        _ => {
            let range = item.structure.section(&section.part, kind)?;
            Some(item.shifted(&range))
        }
    }
}

/// The envelope, with what a submission server has put before the message for want of it (RFC 6409 §8).
pub(in crate::drivers::imap) fn envelope(item: &Item) -> Cow<'_, Envelope> {
    let envelope = item.structure.envelope();
    if envelope.date.is_some() && envelope.message_id.is_some() || item.row.prefix.is_empty() {
        return Cow::Borrowed(envelope);
    }
    let added = Envelope::parse(&item.row.prefix, PREFIX_ADDRESSES_MAX);
    if added.date.is_none() && added.message_id.is_none() {
        return Cow::Borrowed(envelope);
    }
    let mut completed = envelope.clone();
    if completed.date.is_none() {
        completed.date = added.date;
        completed.sent = added.sent;
    }
    completed.message_id = completed.message_id.or(added.message_id);
    Cow::Owned(completed)
}

/// Whether the envelope is the same whatever stands before the message.
pub(super) fn is_envelope_whole(item: &Item) -> bool {
    let envelope = item.structure.envelope();
    envelope.date.is_some() && envelope.message_id.is_some()
}

pub(super) fn write_envelope(item: &Item, out: &mut Vec<u8>) {
    imap::write_envelope(&envelope(item), out);
}

pub(super) fn write_body(item: &Item, extended: bool, out: &mut Vec<u8>) {
    imap::write_body(&item.structure, extended, out);
}

/// The first words of the message (RFC 8970).
pub(super) async fn preview(store: &Store, item: &Item) -> Result<String, StoreError> {
    let Some(part) = preview_part(&item.structure) else {
        return Ok(String::new());
    };
    let range = item.shifted(&part.body);
    let raw = Box::pin(item.read(store, range, PREVIEW_SOURCE_OCTETS)).await?;
    Ok(preview_of(part, &raw, PREVIEW_CHARS_MAX))
}

/// The message's own header, fields of the prefix included.
pub(in crate::drivers::imap) async fn header(
    store: &Store,
    item: &Item,
) -> Result<Bytes, StoreError> {
    item.read(store, item.header_range(), HEADER_OCTETS_MAX)
        .await
}
