//! Reading message data: the octets after DATA (RFC 5321 §4.5.2) and within BDAT chunks (RFC 3030).
//!
//! Owns dot-unstuffing and the search for the end of data. Holds no more than the two octets that may begin
//! a line end.
//!
//! **Invariant:** only CRLF, dot, CRLF ends DATA. No other mix of CR, LF and dots does, whatever the policy
//! for bare newlines, so no message can smuggle a second one past us.

use bytes::BytesMut;
use memchr::memchr2;

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// DATA: a line with one dot ends it, and a line's first dot is dropped.
    Dot,
    /// BDAT: octets are counted outside; dots mean nothing.
    Chunk,
}

/// What happens to a CR without LF, or LF without CR.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BareNewline {
    /// The message is read to its end and refused.
    #[default]
    Reject,
    /// Each becomes CRLF.
    Normalize,
    /// Passed on as it is: for binary content only.
    Keep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    LineStart,
    Text,
    /// After a CR not yet given out.
    Cr,
    /// After a dot at the start of a line, not yet given out.
    Dot,
    /// After a dot and a CR at the start of a line, neither given out.
    DotCr,
}

/// How far [`BodyReader::read`] came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Octets taken from the front of the input.
    pub consumed: usize,
    /// Whether the end of data was among them.
    pub ended: bool,
}

/// Reads the body of one message, in pieces of any size.
#[derive(Clone, Copy, Debug)]
pub struct BodyReader {
    framing: Framing,
    policy: BareNewline,
    at: At,
    bare: bool,
    muted: bool,
}

impl BodyReader {
    /// Starts at the first octet of a message.
    pub const fn new(framing: Framing, policy: BareNewline) -> Self {
        Self {
            framing,
            policy,
            at: At::LineStart,
            bare: false,
            muted: false,
        }
    }

    /// Whether a bare CR or LF has come. Under [`BareNewline::Keep`] nobody looks.
    pub const fn saw_bare_newline(&self) -> bool {
        self.bare
    }

    /// From now on finds the end only and gives nothing out.
    pub const fn mute(&mut self) {
        self.muted = true;
    }

    /// Takes octets up to the end of data and appends the content among them to `out`.
    pub fn read(&mut self, input: &[u8], out: &mut BytesMut) -> Progress {
        if self.policy == BareNewline::Keep && self.framing == Framing::Chunk {
            self.emit(input, out);
            return Progress {
                consumed: input.len(),
                ended: false,
            };
        }
        let mut rest = input;
        while let Some((&first, after)) = rest.split_first() {
            match (self.at, first) {
                (At::Text, _) => rest = self.text(rest, out),
                (At::LineStart, b'.') if self.framing == Framing::Dot => {
                    self.at = At::Dot;
                    rest = after;
                }
                (At::Dot, b'\r') => {
                    self.at = At::DotCr;
                    rest = after;
                }
                (At::LineStart | At::Dot, _) => self.at = At::Text,
                (At::DotCr, b'\n') => {
                    return Progress {
                        consumed: input.len() - after.len(),
                        ended: true,
                    };
                }
                (At::Cr, b'\n') => {
                    self.emit(b"\r\n", out);
                    self.at = At::LineStart;
                    rest = after;
                }
                (At::Cr | At::DotCr, _) => {
                    self.bare_newline(b"\r", out);
                    self.at = At::Text;
                }
            }
        }
        Progress {
            consumed: input.len(),
            ended: false,
        }
    }

    /// Ends a message of chunks: a CR still held was a bare one.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if self.at == At::Cr {
            self.bare_newline(b"\r", out);
            self.at = At::Text;
        }
    }

    /// Gives out as many octets as need no change and returns the rest.
    fn text<'a>(&mut self, input: &'a [u8], out: &mut BytesMut) -> &'a [u8] {
        let mut from = 0;
        loop {
            let found = input
                .get(from..)
                .and_then(|rest| memchr2(b'\r', b'\n', rest));
            let Some((clean, tail)) = found.and_then(|at| input.split_at_checked(from + at)) else {
                self.emit(input, out);
                return &[];
            };
            match tail {
                [b'\r', b'\n', next, ..] if *next != b'.' || self.framing == Framing::Chunk => {
                    from = clean.len() + 2;
                }
                [b'\r', b'\n', after @ ..] => {
                    self.emit(clean, out);
                    self.emit(b"\r\n", out);
                    self.at = At::LineStart;
                    return after;
                }
                [b'\r'] => {
                    self.emit(clean, out);
                    self.at = At::Cr;
                    return &[];
                }
                [newline, after @ ..] => {
                    self.emit(clean, out);
                    self.bare_newline(&[*newline], out);
                    return after;
                }
                [] => return &[],
            }
        }
    }

    fn bare_newline(&mut self, newline: &[u8], out: &mut BytesMut) {
        self.bare = true;
        match self.policy {
            BareNewline::Normalize => self.emit(b"\r\n", out),
            BareNewline::Keep | BareNewline::Reject => self.emit(newline, out),
        }
    }

    fn emit(&self, octets: &[u8], out: &mut BytesMut) {
        if !self.muted {
            out.extend_from_slice(octets);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stuff::DotStuffer;
    use bytes::Bytes;
    use proptest::prelude::*;

    /// Reads `wire` in pieces of `step` octets; the content, and how many octets followed the end.
    fn read(wire: &[u8], step: usize, policy: BareNewline) -> Option<(Vec<u8>, usize, bool)> {
        let mut reader = BodyReader::new(Framing::Dot, policy);
        let mut out = BytesMut::new();
        let mut used = 0;
        for piece in wire.chunks(step) {
            let progress = reader.read(piece, &mut out);
            used += progress.consumed;
            if progress.ended {
                return Some((out.to_vec(), wire.len() - used, reader.saw_bare_newline()));
            }
        }
        None
    }

    #[test]
    fn only_crlf_dot_crlf_ends_data() {
        for smuggled in [
            "\n.\n",
            "\r\n.\n",
            "\n.\r\n",
            "\r.\r",
            "\r.\r\n",
            "\r\n.\r",
            "\r\n\0.\r\n",
            "\n\n.\r\n",
            "\r\n.\r.\r\n",
            "\r\r\n.\n",
            "\r\n.\r\r\n",
            "\r\n..\r\n",
            "\r\n .\r\n",
        ] {
            let wire = format!("text{smuggled}MAIL FROM:<evil@x.test>");
            for policy in [BareNewline::Reject, BareNewline::Normalize] {
                for step in 1..8 {
                    assert_eq!(read(wire.as_bytes(), step, policy), None, "{smuggled:?}");
                }
            }
        }
    }

    #[test]
    fn bare_newlines_are_seen_and_made_crlf() {
        for (wire, content) in [
            ("a\nb\r\n.\r\n", "a\r\nb\r\n"),
            ("a\rb\r\n.\r\n", "a\r\nb\r\n"),
            ("a\r\r\n.\r\n", "a\r\n\r\n"),
            ("\n.\r\n\r\n.\r\n", "\r\n.\r\n\r\n"),
            (".\rx\r\n.\r\n", "\r\nx\r\n"),
            (".\nx\r\n.\r\n", "\r\nx\r\n"),
        ] {
            for step in 1..8 {
                let read = read(wire.as_bytes(), step, BareNewline::Normalize);
                assert_eq!(read, Some((content.into(), 0, true)), "{wire:?} by {step}");
            }
        }
    }

    #[test]
    fn stuffed_dots_go_and_the_rest_stays() {
        for (wire, content, left) in [
            (".\r\nQUIT", "", 4),
            ("..\r\n.\r\n", ".\r\n", 0),
            ("a\r\n..b\r\n.c\r\n.\r\n", "a\r\n.b\r\nc\r\n", 0),
            ("a.\r\n\r\n.\r\n.\r\n", "a.\r\n\r\n", 3),
        ] {
            for step in 1..8 {
                let (found, after, bare) =
                    read(wire.as_bytes(), step, BareNewline::Reject).unwrap();
                assert_eq!((found.as_slice(), bare), (content.as_bytes(), false));
                assert!(after <= left);
            }
            assert_eq!(
                read(wire.as_bytes(), 999, BareNewline::Reject).unwrap().1,
                left
            );
        }
    }

    #[test]
    fn chunks_keep_their_dots() {
        let mut reader = BodyReader::new(Framing::Chunk, BareNewline::Reject);
        let mut out = BytesMut::new();
        for piece in [&b".\r\n.\r"[..], b"\n..\r\n", b"end\r"] {
            assert!(!reader.read(piece, &mut out).ended);
        }
        assert!(!reader.saw_bare_newline());
        reader.finish(&mut out);
        assert!(reader.saw_bare_newline());
        assert_eq!(&out[..], b".\r\n.\r\n..\r\nend\r");
    }

    /// Text rich in what matters here.
    fn tricky() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(
            prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'.'), Just(b'x')],
            0..60,
        )
    }

    proptest! {
        #[test]
        fn stuffed_lines_unstuff_to_themselves(lines in proptest::collection::vec("[.x\u{e9}]{0,5}", 0..12), out_step in 1usize..9, in_step in 1usize..9) {
            let content: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
            let mut stuffer = DotStuffer::default();
            let mut wire = Vec::new();
            for piece in content.as_bytes().chunks(out_step) {
                wire.extend_from_slice(&stuffer.push(&Bytes::copy_from_slice(piece)));
            }
            wire.extend_from_slice(stuffer.finish());
            prop_assert_eq!(read(&wire, in_step, BareNewline::Reject), Some((content.into_bytes(), 0, false)));
        }

        #[test]
        fn any_octets_stuffed_end_only_at_their_end(content in tricky(), out_step in 1usize..9, in_step in 1usize..9) {
            let mut stuffer = DotStuffer::default();
            let mut wire = Vec::new();
            for piece in content.chunks(out_step) {
                wire.extend_from_slice(&stuffer.push(&Bytes::copy_from_slice(piece)));
            }
            wire.extend_from_slice(stuffer.finish());
            let (_, left, bare) = read(&wire, in_step, BareNewline::Reject).unwrap();
            prop_assert_eq!((left, bare), (0, false));
        }

        #[test]
        fn the_split_does_not_matter(wire in tricky(), step in 1usize..9) {
            for policy in [BareNewline::Reject, BareNewline::Normalize] {
                let whole = read(&wire, usize::MAX, policy).map(|(content, _, bare)| (content, bare));
                let split = read(&wire, step, policy).map(|(content, _, bare)| (content, bare));
                prop_assert_eq!(whole, split);
            }
        }
    }
}
