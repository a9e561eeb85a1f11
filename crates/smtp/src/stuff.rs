//! Writing message data after DATA (RFC 5321 §4.5.2): dot-stuffing and the end of data.
//!
//! **Invariant:** what leaves here has no bare CR or LF: each is made CRLF, so that no next hop can be made
//! to see an end of data that we did not send.

use bytes::{Bytes, BytesMut};
use memchr::memchr2;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum At {
    #[default]
    LineStart,
    Text,
    /// After a CR already given out.
    Cr,
}

/// Turns the content of one message, in pieces of any size, into its form on the wire.
#[derive(Clone, Copy, Debug, Default)]
pub struct DotStuffer {
    at: At,
}

/// A piece under way: what of it was copied, and the octets ready so far where anything changed.
struct Piece<'a> {
    source: &'a Bytes,
    copied: usize,
    out: BytesMut,
}

impl Piece<'_> {
    /// Puts `octets` in at index `at` of the source.
    fn insert(&mut self, at: usize, octets: &[u8]) {
        let before = self.source.get(self.copied..at).unwrap_or_default();
        self.out.reserve(self.source.len() - self.copied + 16);
        self.out.extend_from_slice(before);
        self.out.extend_from_slice(octets);
        self.copied = at;
    }

    fn finish(mut self) -> Bytes {
        if self.out.is_empty() {
            return self.source.clone();
        }
        let rest = self.source.get(self.copied..).unwrap_or_default();
        self.out.extend_from_slice(rest);
        self.out.freeze()
    }
}

impl DotStuffer {
    /// The wire form of the next piece. A piece that needs no change is passed on without a copy.
    pub fn push(&mut self, source: &Bytes) -> Bytes {
        let mut piece = Piece {
            source,
            copied: 0,
            out: BytesMut::new(),
        };
        let mut from = 0;
        while let Some(rest) = source.get(from..).filter(|rest| !rest.is_empty()) {
            from = match (self.at, rest.first()) {
                (At::Cr, Some(b'\n')) => from + 1,
                (At::Cr, _) => {
                    piece.insert(from, b"\n");
                    from
                }
                (at, first) => {
                    if at == At::LineStart && first == Some(&b'.') {
                        piece.insert(from, b".");
                    }
                    match self.line(rest, from, &mut piece) {
                        Some(next) => next,
                        None => break,
                    }
                }
            };
            self.at = At::LineStart;
        }
        piece.finish()
    }

    /// Passes over a line. Gives the index after its end, or nothing where the piece ends first.
    fn line(&mut self, rest: &[u8], from: usize, piece: &mut Piece<'_>) -> Option<usize> {
        let Some(at) = memchr2(b'\r', b'\n', rest) else {
            self.at = At::Text;
            return None;
        };
        let end = from + at;
        match rest.get(at..) {
            Some([b'\r', b'\n', ..]) => Some(end + 2),
            Some([b'\r']) => {
                self.at = At::Cr;
                None
            }
            Some([b'\r', ..]) => {
                piece.insert(end + 1, b"\n");
                Some(end + 1)
            }
            _ => {
                piece.insert(end, b"\r");
                Some(end + 1)
            }
        }
    }

    /// Ends the data; an unfinished last line is finished first.
    pub const fn finish(self) -> &'static [u8] {
        match self.at {
            At::LineStart => b".\r\n",
            At::Cr => b"\n.\r\n",
            At::Text => b"\r\n.\r\n",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stuffed(pieces: &[&'static str]) -> String {
        let mut stuffer = DotStuffer::default();
        let mut wire = Vec::new();
        for piece in pieces {
            wire.extend_from_slice(&stuffer.push(&Bytes::from_static(piece.as_bytes())));
        }
        wire.extend_from_slice(stuffer.finish());
        String::from_utf8(wire).unwrap()
    }

    #[test]
    fn lines_that_start_with_a_dot_get_another() {
        assert_eq!(stuffed(&[]), ".\r\n");
        assert_eq!(
            stuffed(&[".a\r\n", "..\r\n.", "b"]),
            "..a\r\n...\r\n..b\r\n.\r\n"
        );
        assert_eq!(stuffed(&["a\r", "\n.\r\n"]), "a\r\n..\r\n.\r\n");
    }

    #[test]
    fn bare_newlines_become_crlf_and_start_a_line() {
        assert_eq!(stuffed(&["a\n.\nb"]), "a\r\n..\r\nb\r\n.\r\n");
        assert_eq!(stuffed(&["a\r.\r", "b\r"]), "a\r\n..\r\nb\r\n.\r\n");
    }

    #[test]
    fn a_clean_piece_is_not_copied() {
        let piece = Bytes::from_static(b"one\r\ntwo\r\n");
        let out = DotStuffer::default().push(&piece);
        assert_eq!(out.as_ptr(), piece.as_ptr());
    }
}
