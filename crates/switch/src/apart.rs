//! Breaking a message apart: its text as one message, every attachment as a message of its own.
//!
//! The text keeps the header and the shape of the original; where an attachment stood, a note stands. An attachment
//! keeps its content fields as they were written, so its name in whatever form that has, and its bytes. Everything is
//! copied from the original chunk by chunk, never held whole. Signed and encrypted messages, and reports, stay whole.

use std::ops::Range;

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_core::Domain;
use nightmail_heap::BlobBuilder;
use nightmail_mime::encoded_word::{decode_words, encode_words};
use nightmail_mime::header::{fields, first, message_ids};
use nightmail_mime::transfer::encode_quoted_printable;
use nightmail_mime::{Content, Limits, LineEnds, Part, Scanner, Structure, decoded_parameter};
use nightmail_store::{MessageReader, Store};

use crate::envelope::Body;
use crate::error::SwitchError;
use crate::switch::heap;

/// A message with more attachments stays whole.
const ATTACHMENTS_MAX: usize = 100;
/// Octets read at once from a message that is not stored yet.
const CHUNK_OCTETS: u64 = 256 << 10;
/// Octets of a header that is looked at.
const HEADER_OCTETS_MAX: u64 = 64 << 10;
/// Octets of a file name that a note and a subject show.
const NAME_OCTETS_MAX: usize = 200;

/// One of the messages that a message is broken into.
#[derive(Clone)]
pub(crate) struct Piece {
    pub blob: NewBlob,
    pub missing_line_ends: u64,
}

/// The parts that become messages of their own, in their order; none where the message stays whole.
pub(crate) fn attachments(structure: &Structure) -> Vec<&Part> {
    let mut found = Vec::new();
    collect(structure.root(), &mut found);
    match found.len() > ATTACHMENTS_MAX {
        true => Vec::new(),
        false => found,
    }
}

/// Looks into `multipart/mixed` only: parts of anything else belong together.
fn collect<'a>(part: &'a Part, found: &mut Vec<&'a Part>) {
    if !part.media.is("multipart", "mixed") {
        return;
    }
    for child in part.children() {
        match is_attachment(child) {
            true => found.push(child),
            false => collect(child, found),
        }
    }
}

fn is_attachment(part: &Part) -> bool {
    let kind = |kind: &str| {
        let disposition = part.disposition.as_ref();
        disposition.is_some_and(|found| found.kind.eq_ignore_ascii_case(kind.as_bytes()))
    };
    if kind("attachment") {
        return true;
    }
    match &part.content {
        Content::Multipart(_) => false,
        Content::Message(_) => true,
        Content::Leaf if part.media.is_main("multipart") => false,
        Content::Leaf if part.is_text() => file_name(part).is_some() && !kind("inline"),
        Content::Leaf => true,
    }
}

/// The name of the file that a part is, in UTF-8 and without anything that would break a line.
fn file_name(part: &Part) -> Option<String> {
    let disposition = part.disposition.as_ref();
    let named = disposition.and_then(|found| decoded_parameter(&found.parameters, "filename"));
    let name = named.or_else(|| decoded_parameter(&part.media.parameters, "name"))?;
    let mut name: String = name.chars().filter(|c| !c.is_control()).collect();
    while name.len() > NAME_OCTETS_MAX {
        name.pop();
    }
    (!name.is_empty()).then_some(name)
}

/// A message that is broken apart.
pub(crate) struct Whole<'a> {
    pub store: &'a Store,
    pub body: Body<'a>,
    pub structure: &'a Structure,
    /// The fields that this hop adds, which may hold the Message-ID.
    pub trace: &'a [u8],
    /// In whose name the new messages get their ids.
    pub host: &'a Domain,
}

impl Whole<'_> {
    /// The text and each of `parts` as a message.
    pub async fn pieces(&self, parts: &[&Part]) -> Result<Vec<Piece>, SwitchError> {
        let header = self.header().await?;
        let mut pieces = vec![self.text(parts).await?];
        for (place, part) in parts.iter().enumerate() {
            pieces.push(self.attachment(&header, place + 1, part).await?);
        }
        Ok(pieces)
    }

    async fn text(&self, parts: &[&Part]) -> Result<Piece, SwitchError> {
        let mut piece = NewPiece::new(self.store);
        let mut from = 0;
        for part in parts {
            self.copy(from..part.header.start, &mut piece).await?;
            piece.push(note(part).as_bytes())?;
            from = part.body.end;
        }
        self.copy(from..self.structure.octets, &mut piece).await?;
        piece.finish(self.heap_envelope())
    }

    async fn attachment(
        &self,
        header: &[u8],
        number: usize,
        part: &Part,
    ) -> Result<Piece, SwitchError> {
        let mut piece = NewPiece::new(self.store);
        piece.push(&self.fields_of(header, number, part))?;
        let end = part.header.end.min(part.header.start + HEADER_OCTETS_MAX);
        let content = self.read(part.header.start..end).await?;
        for field in fields(&content) {
            let begin = field.name.get(..8).unwrap_or_default();
            if begin.eq_ignore_ascii_case(b"content-") {
                piece.push(field.raw)?;
                if !field.raw.ends_with(b"\n") {
                    piece.push(b"\r\n")?;
                }
            }
        }
        piece.push(b"\r\n")?;
        self.copy(part.body.clone(), &mut piece).await?;
        let encoding = part.encoding.as_deref().unwrap_or_default();
        if !encoding.eq_ignore_ascii_case(b"binary") && part.octets() > 0 {
            // The line end before the boundary was not the part's; as a message it needs one.
            piece.push(b"\r\n")?;
        }
        piece.finish(self.heap_envelope())
    }

    /// The header of an attachment's message, up to its content fields.
    fn fields_of(&self, header: &[u8], number: usize, part: &Part) -> Vec<u8> {
        let kept = ["From", "Sender", "Reply-To", "To", "Cc", "Date"];
        let mut out = Vec::new();
        for field in fields(header).filter(|field| kept.iter().any(|name| field.is(name))) {
            out.extend_from_slice(field.raw);
            if !field.raw.ends_with(b"\n") {
                out.extend_from_slice(b"\r\n");
            }
        }
        let subject = decode_words(first(header, "Subject").unwrap_or_default());
        let name = file_name(part).unwrap_or_else(|| format!("attachment {number}"));
        let subject = match subject.trim() {
            "" => name,
            subject => format!("{subject}: {name}"),
        };
        let mut field = |name: &str, value: &str| {
            out.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        };
        field("Subject", &encode_words(&subject));
        let whole = self.body.id();
        let host = self.host;
        field("Message-ID", &format!("<{number}.{whole}@{host}>"));
        let id = first(header, "Message-ID").or_else(|| first(self.trace, "Message-ID"));
        let id = id.and_then(|value| message_ids(value).next());
        let is_sound = |id: &&str| id.len() < 900 && id.bytes().all(|byte| byte.is_ascii_graphic());
        let id = id.and_then(|id| std::str::from_utf8(id).ok());
        if let Some(id) = id.filter(is_sound) {
            field("In-Reply-To", &format!("<{id}>"));
            field("References", &format!("<{id}>"));
        }
        field("MIME-Version", "1.0");
        out
    }

    async fn header(&self) -> Result<Vec<u8>, SwitchError> {
        let end = self.structure.root().header.end.min(HEADER_OCTETS_MAX);
        self.read(0..end).await
    }

    /// At most [`HEADER_OCTETS_MAX`] octets.
    async fn read(&self, range: Range<u64>) -> Result<Vec<u8>, SwitchError> {
        let mut chunks = Chunks::of(self, range);
        let mut read = Vec::new();
        while let Some(chunk) = chunks.next().await? {
            read.extend_from_slice(&chunk);
        }
        Ok(read)
    }

    async fn copy(&self, range: Range<u64>, piece: &mut NewPiece) -> Result<(), SwitchError> {
        let mut chunks = Chunks::of(self, range);
        while let Some(chunk) = chunks.next().await? {
            piece.push(&chunk)?;
        }
        Ok(())
    }

    fn heap_envelope(&self) -> Bytes {
        match self.body {
            Body::New(new) => new.envelope.clone(),
            Body::Stored { .. } => Bytes::new(),
        }
    }
}

/// What stands where an attachment stood.
fn note(part: &Part) -> String {
    let lossy = |bytes: &[u8]| String::from_utf8_lossy(bytes).to_ascii_lowercase();
    let media = format!("{}/{}", lossy(&part.media.main), lossy(&part.media.subtype));
    let name = file_name(part).map_or_else(String::new, |name| format!("{name:?}, "));
    let octets = part.octets();
    let text = format!("[The attachment {name}{media}, {octets} octets, is a message of its own.]");
    let text = encode_quoted_printable(text.as_bytes());
    format!(
        "Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: inline\r\n\
         Content-Transfer-Encoding: quoted-printable\r\n\r\n{}",
        String::from_utf8_lossy(&text)
    )
}

/// The bytes of a message, wherever they are.
enum Chunks<'a> {
    New(&'a NewBlob, Range<u64>),
    Stored(Box<MessageReader>),
}

impl<'a> Chunks<'a> {
    fn of(whole: &'a Whole<'_>, range: Range<u64>) -> Self {
        match whole.body {
            Body::New(new) => Self::New(new, range),
            Body::Stored { blob, .. } => {
                let none = Bytes::new();
                let reader = MessageReader::new(whole.store.clone(), &none, blob, range);
                Self::Stored(Box::new(reader))
            }
        }
    }

    async fn next(&mut self) -> Result<Option<Bytes>, SwitchError> {
        match self {
            Self::Stored(reader) => Ok(reader.next_chunk().await?),
            Self::New(_, range) if range.is_empty() => Ok(None),
            Self::New(new, range) => {
                let end = range.end.min(range.start + CHUNK_OCTETS);
                let (blob, part) = (new.blob.clone(), range.start..end);
                range.start = end;
                let read = tokio::task::spawn_blocking(move || blob.read(part)).await;
                let read =
                    read.map_err(|error| heap(nightmail_heap::HeapError::Io(error.to_string())))?;
                Ok(Some(read.map_err(heap)?))
            }
        }
    }
}

/// A piece that is being written.
struct NewPiece {
    builder: BlobBuilder,
    scanner: Scanner,
    line_ends: LineEnds,
}

impl NewPiece {
    fn new(store: &Store) -> Self {
        Self {
            builder: BlobBuilder::new(store.heap()),
            scanner: Scanner::new(Limits::default()),
            line_ends: LineEnds::default(),
        }
    }

    fn push(&mut self, octets: &[u8]) -> Result<(), SwitchError> {
        self.scanner.push(octets);
        self.line_ends.push(octets);
        self.builder.push(octets).map_err(heap)
    }

    fn finish(self, envelope: Bytes) -> Result<Piece, SwitchError> {
        Ok(Piece {
            blob: NewBlob {
                blob: self.builder.finish().map_err(heap)?,
                envelope,
                meta: self.scanner.finish().encode().into(),
            },
            missing_line_ends: self.line_ends.missing(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(message: &str) -> Vec<String> {
        let structure = nightmail_mime::scan(message.replace('\n', "\r\n").as_bytes());
        let named = |part: &&Part| file_name(part).unwrap_or_else(|| "-".into());
        attachments(&structure).iter().map(named).collect()
    }

    #[test]
    fn what_was_attached_is_told_from_what_was_written() {
        let mixed = "Content-Type: multipart/mixed; boundary=b\n\n\
            --b\nContent-Type: multipart/alternative; boundary=c\n\n\
            --c\n\ntext\n--c\nContent-Type: text/html\n\n<p>\n--c--\n\
            --b\nContent-Type: text/plain\nContent-Disposition: inline; filename=in.txt\n\nx\n\
            --b\nContent-Type: text/plain; name*0=no; name*1=tes.txt\n\nx\n\
            --b\nContent-Type: application/pdf\nContent-Disposition: attachment;\n filename*=utf-8''%C3%A9.pdf\n\nx\n\
            --b\nContent-Type: message/rfc822\n\nSubject: y\n\nz\n\
            --b\nContent-Type: image/png; name=\"=?utf-8?q?=C3=A9?=.png\"\nContent-Disposition: inline\n\nx\n\
            --b--\n";
        assert_eq!(names(mixed), ["notes.txt", "\u{e9}.pdf", "-", "\u{e9}.png"]);
    }

    #[test]
    fn what_belongs_together_stays_whole() {
        for kind in ["signed", "encrypted", "report", "related", "alternative"] {
            let message = format!(
                "Content-Type: multipart/{kind}; boundary=b\n\n\
                 --b\n\ntext\n--b\nContent-Type: application/pdf; name=a.pdf\n\nx\n--b--\n"
            );
            assert!(names(&message).is_empty(), "{kind}");
        }
        assert!(names("Content-Type: application/pdf\n\nx\n").is_empty());
        let mut many = String::from("Content-Type: multipart/mixed; boundary=b\n\n");
        for _ in 0..=ATTACHMENTS_MAX {
            many.push_str("--b\nContent-Type: application/pdf\n\nx\n");
        }
        assert!(names(&many).is_empty());
    }
}
