//! The part tree of a message, with the place of every header and body in its bytes.

use std::ops::Range;

use crate::content::{Disposition, MediaType};
use crate::envelope::Envelope;
use crate::trace::{KnownField, Trace};

/// What a message is made of. Offsets count octets from the first octet that was scanned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Structure {
    /// Octets of the whole message.
    pub octets: u64,
    /// Its envelope and part tree.
    pub message: Message,
    /// What its header shows of its way here.
    pub trace: Trace,
}

/// A message: at the top, or inside a message/rfc822 part.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Message {
    /// Its envelope.
    pub envelope: Envelope,
    /// The part that is the whole message.
    pub root: Part,
}

/// A part: a header, which may be empty, and a body.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Part {
    /// The header with the blank line that ends it, where there is one.
    pub header: Range<u64>,
    /// The body, without the line end before a boundary.
    pub body: Range<u64>,
    /// Line ends in the body.
    pub lines: u64,
    /// Content-Type, or what holds in its absence (RFC 2045 §5.2, RFC 2046 §5.1.5).
    pub media: MediaType,
    /// Content-Transfer-Encoding.
    pub encoding: Option<Vec<u8>>,
    /// Content-ID.
    pub id: Option<Vec<u8>>,
    /// Content-Description.
    pub description: Option<Vec<u8>>,
    /// Content-Disposition.
    pub disposition: Option<Disposition>,
    /// Content-Language.
    pub languages: Vec<Vec<u8>>,
    /// Content-Location.
    pub location: Option<Vec<u8>>,
    /// Content-MD5.
    pub md5: Option<Vec<u8>>,
    /// What the body holds.
    pub content: Content,
}

/// What a part's body holds.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Content {
    /// Data, text or not. Also a multipart or a message that could not be looked into.
    #[default]
    Leaf,
    /// Parts between boundaries; none at all is possible.
    Multipart(Vec<Part>),
    /// A message (message/rfc822).
    Message(Box<Message>),
}

/// What of a part is meant (RFC 3501 §6.4.5).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SectionKind {
    /// `HEADER`: the header of a message.
    Header,
    /// `TEXT`: the body of a message.
    Text,
    /// `MIME`: the header of a part.
    Mime,
    /// Nothing after the part number: the body of a part, or the whole message.
    Body,
}

impl Structure {
    /// The part that is the whole message.
    pub const fn root(&self) -> &Part {
        &self.message.root
    }

    /// The message's envelope.
    pub const fn envelope(&self) -> &Envelope {
        &self.message.envelope
    }

    /// Where a section lies; `None` where the message has no such section (RFC 3501 §6.4.5).
    pub fn section(&self, path: &[u32], kind: SectionKind) -> Option<Range<u64>> {
        if path.is_empty() {
            return match kind {
                SectionKind::Body => Some(0..self.octets),
                SectionKind::Header => Some(self.root().header.clone()),
                SectionKind::Text => Some(self.root().body.clone()),
                SectionKind::Mime => None,
            };
        }
        let part = self.part(path)?;
        match (kind, &part.content) {
            (SectionKind::Body, _) => Some(part.body.clone()),
            (SectionKind::Mime, _) => Some(part.header.clone()),
            (SectionKind::Header, Content::Message(message)) => Some(message.root.header.clone()),
            (SectionKind::Text, Content::Message(message)) => Some(message.root.body.clone()),
            (SectionKind::Header | SectionKind::Text, _) => None,
        }
    }

    /// The part of this number, such as `[1, 2]`; `None` for an empty path.
    pub fn part(&self, path: &[u32]) -> Option<&Part> {
        let (&first, rest) = path.split_first()?;
        let mut part = self.message.part(first)?;
        for &number in rest {
            part = match &part.content {
                Content::Multipart(children) => nth(children, number)?,
                Content::Message(message) => message.part(number)?,
                Content::Leaf => return None,
            };
        }
        Some(part)
    }

    /// Every part in the order of its header, with the roots of messages inside.
    pub fn parts(&self) -> Parts<'_> {
        Parts {
            stack: vec![self.root()],
        }
    }

    /// How many Received fields the top-level header has: hops, for loop detection (RFC 5321 §6.3).
    pub const fn received_count(&self) -> u32 {
        self.trace.received_count
    }

    /// Whether the top-level header has the field.
    pub const fn has_field(&self, field: KnownField) -> bool {
        self.trace.has(field)
    }

    /// Whether the envelope may have only the first of several fields where a header has one only (RFC 5322 §3.6).
    pub const fn repeats_fields(&self) -> bool {
        self.trace.repeats
    }

    /// Whether the top-level header lets the message go without TLS where nothing else would do (RFC 8689 §3).
    pub const fn tls_is_optional(&self) -> bool {
        self.trace.tls_is_optional()
    }

    /// The addresses that Delivered-To fields of the top-level header name.
    pub fn delivered_to(&self) -> &[Vec<u8>] {
        &self.trace.delivered_to
    }
}

impl Message {
    /// Part `number` of this message: a child of its multipart, or itself as its only part.
    fn part(&self, number: u32) -> Option<&Part> {
        match &self.root.content {
            Content::Multipart(children) => nth(children, number),
            _ if number == 1 => Some(&self.root),
            _ => None,
        }
    }
}

fn nth(children: &[Part], number: u32) -> Option<&Part> {
    children.get(usize::try_from(number).ok()?.checked_sub(1)?)
}

impl Part {
    /// Octets of the body.
    pub const fn octets(&self) -> u64 {
        self.body.end.saturating_sub(self.body.start)
    }

    /// The parts of a multipart.
    pub fn children(&self) -> &[Part] {
        match &self.content {
            Content::Multipart(children) => children,
            _ => &[],
        }
    }

    /// Whether this is a leaf with text in it.
    pub fn is_text(&self) -> bool {
        matches!(self.content, Content::Leaf) && self.media.is_main("text")
    }
}

/// See [`Structure::parts`].
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    stack: Vec<&'a Part>,
}

impl<'a> Iterator for Parts<'a> {
    type Item = &'a Part;

    fn next(&mut self) -> Option<&'a Part> {
        let part = self.stack.pop()?;
        match &part.content {
            Content::Leaf => {}
            Content::Multipart(children) => self.stack.extend(children.iter().rev()),
            Content::Message(message) => self.stack.push(&message.root),
        }
        Some(part)
    }
}
