//! From a stream of octets to commands: lines, the literals inside them, and the message of APPEND.
//!
//! A command is kept as received, literals in their place. What is too long or refused is thrown away up to the end
//! of its line, the octets of its literals included, so that they are never taken for commands.

use bytes::{Buf, Bytes, BytesMut};

/// How much of a line that is too long is kept, so that a literal announced at its end is seen.
const LINE_TAIL_OCTETS: usize = 32;
/// How much of the front of a command that is too long is kept, for its tag.
const LINE_HEAD_OCTETS: usize = 256;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A whole command, without its final line end.
    Command(BytesMut),
    /// A line ended in a literal; the reader waits to be told what to do with it.
    Literal(Literal),
    /// A command longer than the limit; this is how it began.
    TooLong(BytesMut),
    /// Octets of a message.
    Chunk(Bytes),
    /// The message is complete; the rest of its command line comes as a `Command`.
    MessageEnd,
}

/// The announcement of a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Literal {
    /// Its length.
    pub(crate) octets: u64,
    /// Whether the client waits for leave to send it.
    pub(crate) sync: bool,
    /// Whether it may hold NUL: a literal8 (RFC 3516 §4.4).
    pub(crate) binary: bool,
    /// How much of the command stands before its brace, or before the tilde of a literal8.
    head: usize,
    /// Where the line ends.
    end: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// In a command: its current line begins at `line`; up to `scanned` there is no line end.
    Line { line: usize, scanned: usize },
    /// In a literal that ends at `until`.
    Literal { until: usize },
    /// A literal was announced and not yet decided on.
    Announced(Literal),
    /// In the message of APPEND.
    Message { left: u64 },
    /// In octets of no use, then in the line that follows them.
    Skip { left: u64 },
    /// In the rest of a line of no use.
    SkipLine,
}

const START: Mode = Mode::Line {
    line: 0,
    scanned: 0,
};

#[derive(Debug)]
pub(crate) struct Reader {
    buffer: BytesMut,
    mode: Mode,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            mode: START,
        }
    }
}

impl Reader {
    /// Takes octets in.
    pub(crate) fn push(&mut self, octets: &[u8]) {
        self.buffer.extend_from_slice(octets);
    }

    /// Octets held.
    pub(crate) fn octets(&self) -> usize {
        self.buffer.len()
    }

    /// Whether the octets of a message come next and none is held, so that chunks can bypass the buffer.
    pub(crate) fn takes_chunks(&self) -> bool {
        self.buffer.is_empty() && matches!(self.mode, Mode::Message { .. })
    }

    /// The part of `octets` that belongs to the message, and the rest.
    pub(crate) fn pass<'a>(&mut self, octets: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        match &mut self.mode {
            Mode::Message { left } => {
                let count =
                    usize::try_from(*left).map_or(octets.len(), |left| left.min(octets.len()));
                *left -= count as u64;
                octets.split_at_checked(count).unwrap_or((octets, &[]))
            }
            _ => (&[], octets),
        }
    }

    /// Forgets everything received.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.buffer.capacity()
    }

    /// Gives memory back where nothing is held.
    pub(crate) fn release(&mut self) {
        if self.buffer.is_empty() {
            self.buffer = BytesMut::new();
        }
    }

    /// The command so far, up to the literal that was announced.
    pub(crate) fn before(&self, literal: Literal) -> &[u8] {
        self.buffer.get(..literal.head).unwrap_or_default()
    }

    /// How long the command will be with the literal.
    pub(crate) const fn octets_with(literal: Literal) -> u64 {
        (literal.end as u64).saturating_add(literal.octets)
    }

    /// The announced literal is part of the command.
    pub(crate) fn accept(&mut self, literal: Literal) {
        let until = usize::try_from(Self::octets_with(literal)).unwrap_or(usize::MAX);
        self.mode = Mode::Literal { until };
    }

    /// The announced literal is a message; its octets come as chunks.
    pub(crate) fn take_message(&mut self, literal: Literal) {
        self.consume(literal.end);
        self.mode = Mode::Message {
            left: literal.octets,
        };
    }

    /// The command is over; a literal that comes without asking is thrown away with the rest of its line.
    pub(crate) fn refuse(&mut self, literal: Literal) {
        self.consume(literal.end);
        self.mode = after_refusal(literal);
    }

    /// The message that is coming is not wanted any more: what is left of it is thrown away.
    pub(crate) fn refuse_message(&mut self) {
        self.mode = match self.mode {
            Mode::Message { left } => Mode::Skip { left },
            _ => START,
        };
    }

    fn consume(&mut self, count: usize) {
        self.buffer.advance(count.min(self.buffer.len()));
    }

    /// The next event, once there are octets enough for it. A command may have `octets_max`.
    pub(crate) fn next(&mut self, octets_max: usize) -> Option<Event> {
        loop {
            match self.mode {
                Mode::Line { line, scanned } => return self.next_line(line, scanned, octets_max),
                Mode::Literal { until } if self.buffer.len() < until => return None,
                Mode::Literal { until } => {
                    self.mode = Mode::Line {
                        line: until,
                        scanned: until,
                    };
                }
                Mode::Announced(literal) => self.refuse(literal),
                Mode::Message { left: 0 } => {
                    self.mode = START;
                    return Some(Event::MessageEnd);
                }
                Mode::Message { left } => return self.next_chunk(left),
                Mode::Skip { left } => {
                    let count = left.min(self.buffer.len() as u64);
                    self.consume(count as usize);
                    if count < left {
                        self.mode = Mode::Skip { left: left - count };
                        return None;
                    }
                    self.mode = Mode::SkipLine;
                }
                Mode::SkipLine => self.skip_line()?,
            }
        }
    }

    fn next_line(&mut self, line: usize, scanned: usize, octets_max: usize) -> Option<Event> {
        let found = memchr::memchr(b'\n', self.buffer.get(scanned..)?).map(|at| scanned + at);
        let Some(at) = found else {
            let scanned = self.buffer.len();
            self.mode = Mode::Line { line, scanned };
            let is_too_long = strip_cr(&self.buffer).len() > octets_max;
            return is_too_long.then(|| self.too_long(line));
        };
        let text = strip_cr(self.buffer.get(line..at)?);
        let text_end = line + text.len();
        let literal = announced(text).map(|announced| Literal {
            octets: announced.octets,
            sync: announced.sync,
            binary: announced.binary,
            head: line + announced.before,
            end: at + 1,
        });
        if text_end > octets_max {
            let head = self.head();
            self.consume(at + 1);
            self.mode = literal.map_or(START, after_refusal);
            return Some(Event::TooLong(head));
        }
        if let Some(literal) = literal {
            self.mode = Mode::Announced(literal);
            return Some(Event::Literal(literal));
        }
        let mut command = self.buffer.split_to(at + 1);
        command.truncate(text_end);
        self.mode = START;
        Some(Event::Command(command))
    }

    fn next_chunk(&mut self, left: u64) -> Option<Event> {
        let count = left.min(self.buffer.len() as u64);
        if count == 0 {
            return None;
        }
        self.mode = Mode::Message { left: left - count };
        Some(Event::Chunk(self.buffer.split_to(count as usize).freeze()))
    }

    fn head(&self) -> BytesMut {
        let octets = self.buffer.len().min(LINE_HEAD_OCTETS);
        self.buffer
            .get(..octets)
            .map(BytesMut::from)
            .unwrap_or_default()
    }

    fn too_long(&mut self, line: usize) -> Event {
        let head = self.head();
        self.consume(line);
        self.mode = Mode::SkipLine;
        Event::TooLong(head)
    }

    /// Throws away up to the line's end, or all but a tail in which a literal may be announced.
    fn skip_line(&mut self) -> Option<()> {
        let Some(at) = memchr::memchr(b'\n', &self.buffer) else {
            self.consume(self.buffer.len().saturating_sub(LINE_TAIL_OCTETS));
            return None;
        };
        let literal = self.buffer.get(..at).map(strip_cr).and_then(announced);
        self.mode = match literal {
            Some(announced) if !announced.sync => Mode::Skip {
                left: announced.octets,
            },
            _ => START,
        };
        self.consume(at + 1);
        Some(())
    }
}

const fn after_refusal(literal: Literal) -> Mode {
    if literal.sync {
        START
    } else {
        Mode::Skip {
            left: literal.octets,
        }
    }
}

fn strip_cr(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// A literal announced at the end of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Announced {
    /// Octets of the line before it.
    before: usize,
    octets: u64,
    sync: bool,
    binary: bool,
}

fn announced(line: &[u8]) -> Option<Announced> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, sync) = match inner.strip_suffix(b"+") {
        Some(inner) => (inner, false),
        None => (inner, true),
    };
    let before = inner.iter().rposition(|b| !b.is_ascii_digit())?;
    let (head, digits) = inner.split_at_checked(before + 1)?;
    if head.last() != Some(&b'{') || digits.is_empty() {
        return None;
    }
    let octets = digits.iter().fold(0u64, |number, digit| {
        number
            .saturating_mul(10)
            .saturating_add(u64::from(digit - b'0'))
    });
    let head = head.get(..before)?;
    let binary = head.ends_with(b"~");
    Some(Announced {
        before: before - usize::from(binary),
        octets,
        sync,
        binary,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn literals_are_seen_at_the_end_of_a_line_only() {
        let of = |before, octets, sync, binary| {
            Some(Announced {
                before,
                octets,
                sync,
                binary,
            })
        };
        assert_eq!(announced(b"a {12}"), of(2, 12, true, false));
        assert_eq!(announced(b"a{0+}"), of(1, 0, false, false));
        assert_eq!(announced(b"a ~{7+}"), of(2, 7, false, true));
        assert_eq!(
            announced(b"{99999999999999999999999}"),
            of(0, u64::MAX, true, false)
        );
        for line in [
            &b"a {}"[..],
            b"a 12}",
            b"a {1-}",
            b"a {1} ",
            b"a {+}",
            b"12}",
            b"}",
            b"",
        ] {
            assert_eq!(announced(line), None, "{line:?}");
        }
    }

    #[test]
    fn the_literals_of_a_line_too_long_are_not_read_as_commands() {
        let mut reader = Reader::default();
        reader.push(
            b"a LOGIN xxxxxxxxxxxxxxxxxxxxx {10+}\r\nb NOOP\r\nz\r {3+}\r\n\r\n\r\r\nc NOOP\r\n",
        );
        assert!(
            matches!(reader.next(16), Some(Event::TooLong(head)) if head.starts_with(b"a LOGIN"))
        );
        assert_eq!(
            reader.next(16),
            Some(Event::Command(BytesMut::from("c NOOP")))
        );
        assert_eq!(reader.next(16), None);
    }

    #[test]
    fn a_brace_inside_a_literal_announces_nothing() {
        let mut reader = Reader::default();
        reader.push(b"a X {2+}\r\nb{5}\r\n");
        let Some(Event::Literal(literal)) = reader.next(100) else {
            panic!("no literal");
        };
        reader.accept(literal);
        assert_eq!(
            reader.next(100),
            Some(Event::Command(BytesMut::from("a X {2+}\r\nb{5}")))
        );
    }

    proptest! {
        #[test]
        fn the_buffer_is_bounded_and_splitting_changes_nothing(
            text in "(a|\\{3\\}|\\{2\\+\\}|\r?\n| ){0,40}",
            cut in 0usize..40,
        ) {
            let events = |parts: &[&[u8]]| {
                let mut reader = Reader::default();
                let mut events = Vec::new();
                for part in parts {
                    reader.push(part);
                    while let Some(event) = reader.next(12) {
                        if let Event::Literal(literal) = &event {
                            if Reader::octets_with(*literal) <= 12 {
                                reader.accept(*literal);
                            } else {
                                reader.refuse(*literal);
                            }
                        }
                        // The head of a line too long depends on how much of it had come.
                        events.push(match event {
                            Event::TooLong(_) => Event::TooLong(BytesMut::new()),
                            event => event,
                        });
                    }
                    assert!(reader.octets() <= 12 + LINE_TAIL_OCTETS);
                }
                events
            };
            let text = text.as_bytes();
            let (first, second) = text.split_at(cut.min(text.len()));
            prop_assert_eq!(events(&[text]), events(&[first, second]));
        }
    }
}
