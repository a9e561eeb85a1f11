//! The scanner: finds a message's structure while its bytes stream by.
//!
//! Owns the open parts, the header being read and one unfinished line; never the message. Bodies are passed over
//! at the speed of `memchr`; only lines that could be boundaries are looked at. Where a limit is reached, what
//! remains is taken as opaque body, so that every message has a structure.

mod frame;

use memchr::{memchr, memchr_iter, memmem};

use crate::header::{field_name, is_continuation, without_line_end};
use crate::structure::{Message, Structure};
use frame::{Frame, Opened};

/// The deepest nesting a structure may have, whatever [`Limits`] say.
pub(crate) const DEPTH_MAX: usize = 256;

/// Parts that any message may have.
const PARTS_FREE: usize = 100;
/// Octets of a message for each further part: what is kept of a part takes more room than the shortest one does.
const OCTETS_PER_PART: u64 = 256;

/// Room for a header that is kept for the next one.
const HEADER_OCTETS_KEPT: usize = 8 * 1024;

/// Bounds of one scan.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Octets of all headers together whose fields are read; the rest of a header counts but is not read.
    pub header_octets_max: usize,
    /// Levels of multiparts and messages; deeper ones stay unopened. At most 256.
    pub depth_max: usize,
    /// Parts; later boundaries are not looked at. A short message may have fewer: 100, and one for each 256 octets.
    pub parts_max: usize,
    /// Octets of a boundary (RFC 2046 §5.1.1 allows 70); a multipart with a longer one is read as text.
    pub boundary_octets_max: usize,
    /// Addresses read of one header field.
    pub addresses_max: usize,
    /// Parameters read of one content field; tags of Content-Language.
    pub parameters_max: usize,
    /// Delivered-To fields read.
    pub deliveries_max: usize,
}

impl Limits {
    /// Those under which messages that are kept are scanned.
    pub const DEFAULT: Self = Self {
        header_octets_max: 256 * 1024,
        depth_max: 100,
        parts_max: 10_000,
        boundary_octets_max: 256,
        addresses_max: 2_000,
        parameters_max: 256,
        deliveries_max: 1000,
    };
}

impl Default for Limits {
    fn default() -> Self {
        Self::DEFAULT
    }
}

/// The structure of a message that is at hand whole.
pub fn scan(message: &[u8]) -> Structure {
    let mut scanner = Scanner::new(Limits::default());
    scanner.push(message);
    scanner.finish()
}

/// A place in the message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
struct Mark {
    /// Octets before it.
    offset: u64,
    /// Line ends before it.
    lines: u64,
}

impl Mark {
    /// The later of the two.
    fn or_later(self, other: Self) -> Self {
        if other.offset > self.offset {
            other
        } else {
            self
        }
    }
}

/// A whole line, or its beginning where it is over-long.
struct Line<'a> {
    text: &'a [u8],
    start: Mark,
    end: Mark,
    /// Before the line end that precedes the line: where a body ends if the line is a boundary.
    cut: Mark,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    /// In the header of the innermost part.
    Header,
    /// In the body of the innermost part.
    Body,
}

/// Finds the structure of a message that is pushed in chunks of any size.
pub struct Scanner {
    limits: Limits,
    mode: Mode,
    frames: Vec<Frame>,
    parts: usize,
    /// Multiparts that wait for a boundary. Zero once `parts_max` is reached.
    boundaries: usize,
    /// Everything before this has been taken in; the carry follows.
    mark: Mark,
    /// Octets of the line end right before `mark`, 0 where `mark` is inside a line.
    line_end: u8,
    at_line_start: bool,
    /// The last octet pushed.
    last: u8,
    carry: Vec<u8>,
    /// Octets of the unfinished line, those beyond the carry included.
    carry_octets: u64,
    header: Vec<u8>,
    header_octets_left: usize,
    header_is_full: bool,
    boundary_finder: memmem::Finder<'static>,
    trace: crate::trace::Trace,
}

impl std::fmt::Debug for Scanner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scanner")
            .field("mode", &self.mode)
            .field("offset", &self.mark.offset)
            .field("depth", &self.frames.len())
            .finish_non_exhaustive()
    }
}

impl Scanner {
    /// A scanner before the first octet.
    pub fn new(limits: Limits) -> Self {
        Self {
            mode: Mode::Header,
            frames: vec![Frame::message(Mark::default())],
            parts: 1,
            boundaries: 0,
            mark: Mark::default(),
            line_end: 0,
            at_line_start: true,
            last: 0,
            carry: Vec::new(),
            carry_octets: 0,
            header: Vec::new(),
            header_octets_left: limits.header_octets_max,
            header_is_full: false,
            boundary_finder: memmem::Finder::new(b"\n--"),
            trace: crate::trace::Trace::default(),
            limits: Limits {
                depth_max: limits.depth_max.clamp(1, DEPTH_MAX),
                ..limits
            },
        }
    }

    /// Takes the next octets of the message.
    pub fn push(&mut self, mut data: &[u8]) {
        while let Some(&first) = data.first() {
            let gathers = self.mode == Mode::Header
                || self.carry_octets > 0
                || (first == b'-' && self.at_line_start && self.boundaries > 0);
            data = if gathers {
                self.gather(data)
            } else {
                self.pass(data)
            };
        }
    }

    /// The structure of everything pushed.
    pub fn finish(mut self) -> Structure {
        if self.carry_octets > 0 {
            self.carried_line(0);
        }
        self.end_open_headers(self.mark);
        let end = self.mark;
        while self.frames.len() > 1 {
            self.close_innermost(end);
        }
        let message = match self.frames.pop() {
            Some(frame) => frame.into_message(end),
            None => Message::default(),
        };
        Structure {
            octets: end.offset,
            message,
            trace: self.trace,
        }
    }

    /// Passes over body octets up to a line that may be a boundary.
    fn pass<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let len = if self.boundaries == 0 {
            data.len()
        } else if let Some(found) = self.boundary_finder.find(data) {
            found + 1
        } else if data.ends_with(b"\n-") {
            data.len() - 1
        } else {
            data.len()
        };
        let (passed, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
        let line_end = self.line_end_of(passed);
        self.advance(
            passed.len() as u64,
            memchr_iter(b'\n', passed).count() as u64,
        );
        self.line_end = line_end;
        self.at_line_start = line_end > 0;
        rest
    }

    /// Octets of the line end that `data`, which follows what came before, ends in.
    fn line_end_of(&mut self, data: &[u8]) -> u8 {
        let before = self.last;
        self.last = data.last().copied().unwrap_or(before);
        match data {
            [.., b'\r', b'\n'] => 2,
            [b'\n'] if before == b'\r' => 2,
            [.., b'\n'] => 1,
            _ => 0,
        }
    }

    fn advance(&mut self, octets: u64, lines: u64) {
        self.mark.offset += octets;
        self.mark.lines += lines;
    }

    /// Gathers octets into a line and handles it once it is whole.
    fn gather<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let line_feed = memchr(b'\n', data);
        let len = line_feed.map_or(data.len(), |at| at + 1);
        let (piece, rest) = data.split_at_checked(len).unwrap_or((data, &[]));
        let line_end = self.line_end_of(piece);
        if line_feed.is_some() && self.carry_octets == 0 {
            let kept = piece.get(..self.limits.header_octets_max).unwrap_or(piece);
            self.line(kept, piece.len() as u64, line_end);
            return rest;
        }
        let room = self
            .limits
            .header_octets_max
            .saturating_sub(self.carry.len());
        self.carry
            .extend_from_slice(piece.get(..room).unwrap_or(piece));
        self.carry_octets += piece.len() as u64;
        if line_feed.is_some() {
            self.carried_line(line_end);
        }
        rest
    }

    fn carried_line(&mut self, line_end: u8) {
        let mut carry = std::mem::take(&mut self.carry);
        let octets = std::mem::take(&mut self.carry_octets);
        self.line(&carry, octets, line_end);
        carry.clear();
        self.carry = carry;
    }

    /// Handles a line of `octets`, of which `text` is kept.
    fn line(&mut self, text: &[u8], octets: u64, line_end: u8) {
        let start = self.mark;
        self.advance(octets, u64::from(line_end > 0));
        let line = Line {
            text,
            start,
            end: self.mark,
            cut: Mark {
                offset: start.offset.saturating_sub(u64::from(self.line_end)),
                lines: start.lines.saturating_sub(u64::from(self.line_end > 0)),
            },
        };
        self.line_end = line_end;
        self.at_line_start = line_end > 0;
        if !self.boundary_line(&line) && self.mode == Mode::Header {
            self.header_line(&line);
        }
    }

    /// Takes a line of a header, or finds that the header has ended before it.
    fn header_line(&mut self, line: &Line<'_>) {
        let content = without_line_end(line.text);
        let is_first = self
            .frames
            .last()
            .is_some_and(|frame| frame.header == line.start);
        if content.is_empty() {
            self.end_header(line.end);
        } else if (is_continuation(content) && !is_first)
            || field_name(content).is_some()
            || (is_first && is_mailbox_separator(content))
        {
            self.keep_header(line);
        } else {
            self.end_header(line.start);
            // The line is the first of a body, which may be a message's header or hold a boundary.
            if !self.boundary_line(line) && self.mode == Mode::Header {
                self.header_line(line);
            }
        }
    }

    fn keep_header(&mut self, line: &Line<'_>) {
        let whole = line.text.len() as u64 == line.end.offset - line.start.offset;
        if whole && !self.header_is_full && line.text.len() <= self.header_octets_left {
            self.header_octets_left -= line.text.len();
            self.header.extend_from_slice(line.text);
        } else {
            self.header_is_full = true;
        }
    }

    /// Ends the header of the innermost part and opens what its body holds.
    fn end_header(&mut self, end: Mark) {
        self.mode = Mode::Body;
        self.header_is_full = false;
        let may_nest =
            self.frames.len() < self.limits.depth_max && self.parts < self.parts_allowed(end);
        let is_top = self.frames.len() == 1;
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        if is_top {
            self.trace = crate::trace::Trace::parse(&self.header, self.limits.deliveries_max);
        }
        let opened = frame.end_header(&self.header, end, &self.limits, may_nest);
        self.header.clear();
        // A long header must not be paid for until the body has come.
        self.header.shrink_to(HEADER_OCTETS_KEPT);
        match opened {
            Opened::Leaf => {}
            Opened::Multipart => self.boundaries += 1,
            Opened::Message => self.open(Frame::message(end)),
        }
    }

    /// How many parts there may be up to here.
    fn parts_allowed(&self, at: Mark) -> usize {
        let grown = usize::try_from(at.offset / OCTETS_PER_PART).unwrap_or(usize::MAX);
        PARTS_FREE.saturating_add(grown).min(self.limits.parts_max)
    }

    fn open(&mut self, frame: Frame) {
        self.parts += 1;
        self.mode = Mode::Header;
        self.frames.push(frame);
    }

    /// Ends every header that is open, where no more of it can follow.
    fn end_open_headers(&mut self, at: Mark) {
        while self.mode == Mode::Header {
            let start = self.frames.last().map_or(at, |frame| frame.header);
            self.end_header(start.or_later(at));
        }
    }

    /// Handles the line if it is a boundary of an open multipart, the innermost first.
    fn boundary_line(&mut self, line: &Line<'_>) -> bool {
        if self.boundaries == 0 || !line.text.starts_with(b"--") {
            return false;
        }
        if line.text.len() > self.limits.boundary_octets_max.saturating_add(1024) {
            return false;
        }
        let delimiter = line.text.get(2..).unwrap_or_default().trim_ascii_end();
        let found = self
            .frames
            .iter()
            .enumerate()
            .rev()
            .find_map(|(index, frame)| {
                let rest = delimiter.strip_prefix(frame.boundary.as_deref()?)?;
                match rest {
                    b"" => Some((index, false)),
                    b"--" => Some((index, true)),
                    _ => None,
                }
            });
        let Some((index, is_close)) = found else {
            return false;
        };
        if !is_close && self.parts >= self.parts_allowed(line.end) {
            self.forget_boundaries();
            return false;
        }
        self.boundary(index, is_close, line);
        true
    }

    fn boundary(&mut self, index: usize, is_close: bool, line: &Line<'_>) {
        self.end_open_headers(line.cut);
        while self.frames.len() > index + 1 {
            self.close_innermost(line.cut);
        }
        let Some(frame) = self.frames.last_mut() else {
            return;
        };
        if is_close {
            frame.boundary = None;
            self.boundaries -= 1;
        } else {
            let part = frame.child(line.end);
            self.open(part);
        }
    }

    /// Closes the innermost part and hands it to the one around it.
    fn close_innermost(&mut self, end: Mark) {
        if let Some(frame) = self.frames.pop() {
            self.boundaries -= usize::from(frame.boundary.is_some());
            if let Some(parent) = self.frames.last_mut() {
                parent.adopt(frame, end);
            }
        }
    }

    fn forget_boundaries(&mut self) {
        self.boundaries = 0;
        for frame in &mut self.frames {
            frame.boundary = None;
        }
    }
}

/// The line that begins a message in an mbox file, and what gateways make of it.
fn is_mailbox_separator(line: &[u8]) -> bool {
    line.starts_with(b"From ") || line.starts_with(b">From ")
}
