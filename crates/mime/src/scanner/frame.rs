//! A part that is still open, and what its header says.

use super::{Limits, Mark};
use crate::content::{self, Disposition, MediaType};
use crate::envelope::Envelope;
use crate::header;
use crate::lex;
use crate::structure::{Content, Message, Part};
use crate::trace::KnownField;

/// A part whose end has not been seen.
pub(super) struct Frame {
    /// Where its header begins.
    pub(super) header: Mark,
    /// The boundary it waits for.
    pub(super) boundary: Option<Vec<u8>>,
    body: Mark,
    part: Part,
    /// The envelope, where the part is the root of a message.
    envelope: Option<Envelope>,
    /// Whether nothing said makes it a message (RFC 2046 §5.1.5).
    in_digest: bool,
    /// Where its last closed part ends.
    inner_end: Mark,
}

/// What the body of a part turned out to hold.
pub(super) enum Opened {
    Leaf,
    Multipart,
    Message,
}

impl Frame {
    fn new(header: Mark, envelope: Option<Envelope>, in_digest: bool) -> Self {
        Self {
            header,
            boundary: None,
            body: header,
            part: Part::default(),
            envelope,
            in_digest,
            inner_end: Mark::default(),
        }
    }

    /// The root of a message whose header begins here.
    pub(super) fn message(header: Mark) -> Self {
        Self::new(header, Some(Envelope::default()), false)
    }

    /// A part of this multipart whose header begins here.
    pub(super) fn child(&self, header: Mark) -> Self {
        let in_digest = self.part.media.is("multipart", "digest");
        Self::new(header, None, in_digest)
    }

    /// Reads the header and finds out what the body, which begins at `end`, holds.
    pub(super) fn end_header(
        &mut self,
        header: &[u8],
        end: Mark,
        limits: &Limits,
        may_nest: bool,
    ) -> Opened {
        self.body = end;
        self.inner_end = end;
        self.part.header = self.header.offset..end.offset;
        let media = self.read_fields(header, limits);
        let default = if self.in_digest {
            MediaType::plain(b"message", b"rfc822")
        } else {
            MediaType::default()
        };
        self.part.media = media.unwrap_or(default);
        self.open_body(limits, may_nest)
    }

    fn open_body(&mut self, limits: &Limits, may_nest: bool) -> Opened {
        let media = &self.part.media;
        if media.is_main("multipart") {
            let boundary = media.parameter("boundary").unwrap_or_default();
            let boundary = boundary.trim_ascii_end();
            if boundary.is_empty() || boundary.len() > limits.boundary_octets_max {
                // RFC 2045 §5.2: a Content-Type that lacks what it needs counts as none.
                self.part.media = MediaType::default();
            } else if may_nest {
                self.boundary = Some(boundary.to_vec());
                self.part.content = Content::Multipart(Vec::new());
                return Opened::Multipart;
            }
        } else if may_nest && media.is("message", "rfc822") && self.is_identity_encoded() {
            self.part.content = Content::Message(Box::default());
            return Opened::Message;
        }
        Opened::Leaf
    }

    fn is_identity_encoded(&self) -> bool {
        self.part.encoding.as_deref().is_none_or(|encoding| {
            ["7bit", "8bit", "binary"]
                .iter()
                .any(|identity| encoding.eq_ignore_ascii_case(identity.as_bytes()))
        })
    }

    fn read_fields(&mut self, header: &[u8], limits: &Limits) -> Option<MediaType> {
        let mut content_type = None;
        for field in header::fields(header) {
            let Some(known) = KnownField::parse(field.name) else {
                continue;
            };
            if known == KnownField::ContentType {
                content_type.get_or_insert(field.value);
            } else if !self.content_field(known, field.value, limits)
                && let Some(envelope) = &mut self.envelope
            {
                envelope.add(known, field.value, limits.addresses_max);
            }
        }
        MediaType::parse(content_type?, limits.parameters_max)
    }

    /// Takes a content field, of which the first counts; `false` where it is another field.
    fn content_field(&mut self, known: KnownField, value: &[u8], limits: &Limits) -> bool {
        let part = &mut self.part;
        match known {
            KnownField::ContentTransferEncoding => {
                set_first(&mut part.encoding, || content::first_token(value));
            }
            KnownField::ContentId => set_first(&mut part.id, || text(value)),
            KnownField::ContentDescription => set_first(&mut part.description, || text(value)),
            KnownField::ContentLocation => set_first(&mut part.location, || text(value)),
            KnownField::ContentMd5 => set_first(&mut part.md5, || text(value)),
            KnownField::ContentDisposition => {
                let parse = || Disposition::parse(value, limits.parameters_max);
                set_first(&mut part.disposition, parse);
            }
            KnownField::ContentLanguage if part.languages.is_empty() => {
                part.languages = content::languages(value, limits.parameters_max);
            }
            _ => return false,
        }
        true
    }

    /// The finished part. It ends at `end`, but not before it began or before what it holds.
    fn finish(mut self, end: Mark) -> (Part, Option<Envelope>, Mark) {
        let end = end.or_later(self.body).or_later(self.inner_end);
        self.part.body = self.body.offset..end.offset;
        self.part.lines = end.lines.saturating_sub(self.body.lines);
        (self.part, self.envelope, end)
    }

    /// The finished message of which this is the root.
    pub(super) fn into_message(self, end: Mark) -> Message {
        let (root, envelope, _) = self.finish(end);
        Message {
            envelope: envelope.unwrap_or_default(),
            root,
        }
    }

    /// Takes in a part of this one that ends at `end`.
    pub(super) fn adopt(&mut self, inner: Self, end: Mark) {
        let (part, envelope, end) = inner.finish(end);
        self.inner_end = self.inner_end.or_later(end);
        match &mut self.part.content {
            Content::Multipart(children) => children.push(part),
            Content::Message(message) => {
                **message = Message {
                    envelope: envelope.unwrap_or_default(),
                    root: part,
                };
            }
            Content::Leaf => {}
        }
    }
}

fn set_first<T>(slot: &mut Option<T>, value: impl FnOnce() -> Option<T>) {
    if slot.is_none() {
        *slot = value();
    }
}

fn text(value: &[u8]) -> Option<Vec<u8>> {
    Some(header::unfold(lex::trim(value))).filter(|text| !text.is_empty())
}
