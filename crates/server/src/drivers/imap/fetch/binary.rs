//! Parts of a message without their transfer encoding (RFC 3516).

use nightmail_imap::command::fetch::BinaryPart;
use nightmail_imap::io::{BinaryData, SectionData};
use nightmail_imap::{Refusal, RefusalKind};
use nightmail_mime::search::decode_transfer;
use nightmail_mime::{Content, Part};
use nightmail_store::Store;

use super::section::of_range;
use super::{Item, Source, blocking};
use crate::drivers::imap::failure::Failure;

/// A longer part is decoded where it holds up nobody else.
const INLINE_OCTETS_MAX: usize = 256 * 1024;

/// A decoded part, and what the machine may then ask the driver to send.
pub(super) struct Decoded {
    pub(super) data: BinaryData,
    pub(super) source: Option<Source>,
}

impl Decoded {
    const fn plain(data: BinaryData) -> Self {
        Self { data, source: None }
    }
}

/// A part as the plan wants it. `token` is the place that its source will have.
pub(super) async fn data(
    store: &Store,
    item: &Item,
    wanted: &BinaryPart,
    token: usize,
) -> Result<Decoded, Failure> {
    if wanted.part.is_empty() {
        return Ok(as_it_is(item, 0..item.row.size, wanted.size_only, token));
    }
    let Some(part) = item.structure.part(&wanted.part) else {
        return Ok(Decoded::plain(match wanted.size_only {
            true => BinaryData::Size(0),
            false => BinaryData::Absent,
        }));
    };
    let range = item.shifted(&part.body);
    if !is_encoded(part)? {
        return Ok(as_it_is(item, range, wanted.size_only, token));
    }
    let raw = Box::pin(item.read(store, range, u64::MAX)).await?;
    let octets = match raw.len() > INLINE_OCTETS_MAX {
        false => decode_transfer(part, &raw),
        true => {
            let part = Part {
                encoding: part.encoding.clone(),
                ..Part::default()
            };
            blocking(move || decode_transfer(&part, &raw)).await?
        }
    };
    let data = match wanted.size_only {
        true => BinaryData::Size(octets.len() as u64),
        false => BinaryData::Octets(SectionData::Bytes(octets.into())),
    };
    Ok(Decoded::plain(data))
}

/// Octets that lie in the message as they are wanted.
fn as_it_is(item: &Item, range: std::ops::Range<u64>, size_only: bool, token: usize) -> Decoded {
    if size_only {
        return Decoded::plain(BinaryData::Size(range.end.saturating_sub(range.start)));
    }
    let found = of_range(item, range, token);
    Decoded {
        data: BinaryData::Octets(found.data),
        source: found.source,
    }
}

/// Whether the octets of a part have to be decoded; refused where nobody knows how (RFC 3516 §4.3).
fn is_encoded(part: &Part) -> Result<bool, Failure> {
    if !matches!(part.content, Content::Leaf) {
        return Ok(false);
    }
    let encoding = part.encoding.as_deref().unwrap_or_default();
    let is = |name: &str| encoding.eq_ignore_ascii_case(name.as_bytes());
    if encoding.is_empty() || is("7bit") || is("8bit") || is("binary") {
        Ok(false)
    } else if is("base64") || is("quoted-printable") {
        Ok(true)
    } else {
        Err(Failure::Refused(Refusal::new(
            RefusalKind::UnknownCte,
            "The part is encoded in a way that is not known",
        )))
    }
}
