//! Reading a message as it passes by: its header is kept, its body only hashed.
//!
//! **Invariant:** no octet of a body is kept, and never more than [`HEADER_OCTETS_MAX`] of a header.

use std::collections::HashMap;

use memchr::memchr;
use nightmail_mime::header::{Field, fields};

use crate::arc::ArcChain;
use crate::author::Authors;
use crate::canon::{BodyHash, BodyHasher, Canon};
use crate::dkim::DkimField;
use crate::trust::Trust;

/// Octets of a header that are kept. What a longer one says is not looked at, and its signatures count for nothing.
pub const HEADER_OCTETS_MAX: usize = 256 * 1024;

enum At {
    Header,
    Body,
    /// Nothing more is needed.
    Beyond,
}

/// Reads one message in pieces of any size.
pub struct Inspector {
    dkim: bool,
    arc: bool,
    signatures_max: usize,
    to_sign: bool,
    at: At,
    header: Vec<u8>,
    /// Where the current line of the header begins.
    line: usize,
    too_long: bool,
    signatures: Vec<DkimField>,
    chain: ArcChain,
    bodies: Vec<BodyHasher>,
}

impl Inspector {
    /// Reads what [`Trust::verify`] needs.
    pub fn new(trust: &Trust) -> Self {
        let options = trust.options();
        Self {
            dkim: options.dkim,
            arc: options.arc,
            signatures_max: options.signatures_max,
            to_sign: false,
            at: At::Header,
            header: Vec::new(),
            line: 0,
            too_long: false,
            signatures: Vec::new(),
            chain: ArcChain::default(),
            bodies: Vec::new(),
        }
    }

    /// Reads what [`crate::Signer`] and [`crate::Sealer`] need, too.
    #[must_use]
    pub const fn also_to_sign(mut self) -> Self {
        self.to_sign = true;
        self
    }

    /// Takes the next octets of the message.
    pub fn push(&mut self, octets: &[u8]) {
        let rest = match self.at {
            At::Header => self.header_octets(octets),
            At::Body => octets,
            At::Beyond => return,
        };
        self.bodies.iter_mut().for_each(|body| body.push(rest));
    }

    /// Takes octets of the header; gives back those that follow it.
    fn header_octets<'a>(&mut self, mut rest: &'a [u8]) -> &'a [u8] {
        while !rest.is_empty() {
            let end = memchr(b'\n', rest).map_or(rest.len(), |line_end| line_end + 1);
            let (piece, tail) = rest.split_at_checked(end).unwrap_or((rest, &[]));
            if self.header.len() + piece.len() > HEADER_OCTETS_MAX {
                self.too_long = true;
                self.header.truncate(self.line);
                self.at = At::Beyond;
                return &[];
            }
            self.header.extend_from_slice(piece);
            rest = tail;
            if !piece.ends_with(b"\n") {
                continue;
            }
            if matches!(self.header.get(self.line..), Some(b"\n" | b"\r\n")) {
                self.header_is_whole();
                return rest;
            }
            self.line = self.header.len();
        }
        rest
    }

    fn header_is_whole(&mut self) {
        let found: Vec<Field<'_>> = fields(&self.header).collect();
        if self.dkim {
            self.signatures = DkimField::find(&found, self.signatures_max);
        }
        if self.arc {
            self.chain = ArcChain::find(&found);
        }
        let mut wanted = Vec::new();
        let messages = self.signatures.iter().filter_map(DkimField::body);
        wanted.extend(messages.chain(self.chain.body()));
        if self.to_sign {
            wanted.push((Canon::Relaxed, None));
        }
        for (canon, limit) in wanted {
            self.hasher(canon).want(limit);
        }
        self.at = match self.bodies.is_empty() {
            true => At::Beyond,
            false => At::Body,
        };
    }

    fn hasher(&mut self, canon: Canon) -> &mut BodyHasher {
        let known = self.bodies.iter().position(|body| body.canon() == canon);
        let index = known.unwrap_or_else(|| {
            self.bodies.push(BodyHasher::new(canon));
            self.bodies.len() - 1
        });
        #[expect(
            clippy::indexing_slicing,
            reason = "the position was found or made just now"
        )]
        &mut self.bodies[index]
    }

    /// The message has ended.
    pub fn finish(mut self) -> Inspected {
        if matches!(self.at, At::Header) {
            self.header_is_whole();
        }
        Inspected {
            header: self.header,
            too_long: self.too_long,
            signatures: self.signatures,
            chain: self.chain,
            bodies: self
                .bodies
                .into_iter()
                .flat_map(BodyHasher::finish)
                .collect(),
        }
    }
}

/// What was read of a message.
pub struct Inspected {
    header: Vec<u8>,
    too_long: bool,
    pub(crate) signatures: Vec<DkimField>,
    pub(crate) chain: ArcChain,
    bodies: Vec<BodyHash>,
}

impl Inspected {
    /// The header as it came, its blank line included; cut at a line end where it is too long.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Whether the header was longer than is looked at.
    pub(crate) const fn is_header_too_long(&self) -> bool {
        self.too_long
    }

    /// Whether who the author is depends on who reads the message: there is not one From field, it can be read in two
    /// ways, or there is more than is looked at.
    pub fn hides_author(&self) -> bool {
        self.hides_fields() || Authors::read(&FieldIndex::new(&self.header)).hidden
    }

    /// Whether another reader may see fields that are not seen here: beyond what is kept, or behind a CR that ends no
    /// line, as binary messages may hold it.
    pub(crate) fn hides_fields(&self) -> bool {
        let mut crs = memchr::memchr_iter(b'\r', &self.header);
        self.too_long || crs.any(|at| self.header.get(at + 1) != Some(&b'\n'))
    }

    pub(crate) fn body(&self, canon: Canon, limit: Option<u64>) -> Option<&BodyHash> {
        let mut bodies = self.bodies.iter();
        bodies.find(|body| body.canon == canon && body.limit == limit)
    }
}

/// The fields of a header, found by name.
pub(crate) struct FieldIndex<'a> {
    fields: Vec<Field<'a>>,
    by_name: HashMap<Vec<u8>, Vec<usize>>,
}

impl<'a> FieldIndex<'a> {
    pub(crate) fn new(header: &'a [u8]) -> Self {
        let fields: Vec<Field<'a>> = fields(header).collect();
        let mut by_name: HashMap<Vec<u8>, Vec<usize>> = HashMap::new();
        for (index, field) in fields.iter().enumerate() {
            let name = field.name.to_ascii_lowercase();
            by_name.entry(name).or_default().push(index);
        }
        Self { fields, by_name }
    }

    pub(crate) fn get(&self, index: usize) -> Option<&Field<'a>> {
        self.fields.get(index)
    }

    /// How many fields have this name, given in lower case.
    pub(crate) fn count(&self, name: &str) -> usize {
        self.by_name.get(name.as_bytes()).map_or(0, Vec::len)
    }

    /// The fields of this name, from the top.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = &Field<'a>> {
        let found = self.by_name.get(name.as_bytes());
        found
            .into_iter()
            .flatten()
            .filter_map(|index| self.get(*index))
    }

    /// The fields a signature names, each from the bottom up (RFC 6376 §5.4.2), in canonical form.
    pub(crate) fn signed(&self, canon: Canon, names: &[String], out: &mut Vec<u8>) {
        let mut taken: HashMap<&str, usize> = HashMap::new();
        for name in names {
            let used = taken.entry(name).or_default();
            *used += 1;
            let found = self.by_name.get(name.as_bytes());
            let index = found.and_then(|found| found.get(found.len().checked_sub(*used)?));
            if let Some(field) = index.and_then(|index| self.get(*index)) {
                canon.field(field, out);
            }
        }
    }

    /// A signature's own field in canonical form, without its signature and without its last CRLF.
    pub(crate) fn unsigned(&self, canon: Canon, index: usize, out: &mut Vec<u8>) {
        if let Some(field) = self.get(index) {
            unsigned(canon, field, out);
        }
    }
}

/// Appends `field` in canonical form without the value of its `b=` tag and without its last CRLF.
pub(crate) fn unsigned(canon: Canon, field: &Field<'_>, out: &mut Vec<u8>) {
    let Some(range) = crate::tag_list::signature_range(field.value) else {
        return;
    };
    let mut value = field.value.to_vec();
    value.drain(range);
    let line = field.raw.strip_suffix(b"\n").unwrap_or(field.raw);
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let name = line.strip_suffix(field.value).unwrap_or_default();
    let raw = [name, &value].concat();
    let bare = Field {
        name: field.name,
        value: &value,
        raw: &raw,
        offset: field.offset,
    };
    canon.field(&bare, out);
    out.truncate(out.len().saturating_sub(2));
}
