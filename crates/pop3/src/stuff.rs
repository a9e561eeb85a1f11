//! The framing of a message in a multi-line reply (RFC 1939 §3), chunk by chunk.

use memchr::memchr;

use crate::io::RetrieveMode;

/// Turns message octets into what goes on the wire: every line ends in CRLF, a leading dot is doubled, the last
/// line is ended, and `.` on a line of its own follows.
#[derive(Clone, Debug)]
pub struct DotStuffer {
    /// Lines of the body still to be sent; `None` for a whole message.
    body_lines_left: Option<u64>,
    in_header: bool,
    at_line_start: bool,
    /// Whether the line so far is empty, or a CR.
    line_is_blank: bool,
    after_cr: bool,
    octets: u64,
}

impl DotStuffer {
    /// A stuffer before the first octet of a message.
    pub const fn new(mode: RetrieveMode) -> Self {
        Self {
            body_lines_left: match mode {
                RetrieveMode::Whole => None,
                RetrieveMode::Top(lines) => Some(lines),
            },
            in_header: true,
            at_line_start: true,
            line_is_blank: true,
            after_cr: false,
            octets: 0,
        }
    }

    /// Appends what `chunk` is on the wire to `out`.
    pub fn push(&mut self, mut chunk: &[u8], out: &mut Vec<u8>) {
        while !self.is_done() {
            let Some(&first) = chunk.first() else {
                return;
            };
            if self.at_line_start {
                self.at_line_start = false;
                self.line_is_blank = true;
                if first == b'.' {
                    out.push(b'.');
                }
            }
            let end = memchr(b'\n', chunk);
            let text = chunk.get(..end.unwrap_or(chunk.len())).unwrap_or_default();
            self.text(text, out);
            let Some(end) = end else {
                return;
            };
            self.end_line(out);
            chunk = chunk.get(end + 1..).unwrap_or_default();
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Vec<u8>) {
        let Some(&last) = text.last() else {
            return;
        };
        self.line_is_blank &= text == b"\r" && !self.after_cr;
        self.after_cr = last == b'\r';
        self.octets += text.len() as u64;
        out.extend_from_slice(text);
    }

    fn end_line(&mut self, out: &mut Vec<u8>) {
        if !self.after_cr {
            out.push(b'\r');
            self.octets += 1;
        }
        out.push(b'\n');
        self.octets += 1;
        self.after_cr = false;
        self.at_line_start = true;
        if self.in_header {
            self.in_header = !self.line_is_blank;
        } else if let Some(left) = &mut self.body_lines_left {
            *left = left.saturating_sub(1);
        }
    }

    /// Whether all that was asked for is written, so that the rest of the message need not be read.
    pub const fn is_done(&self) -> bool {
        !self.in_header && self.at_line_start && matches!(self.body_lines_left, Some(0))
    }

    /// Octets of the message written so far, without doubled dots and terminator.
    pub const fn octets(&self) -> u64 {
        self.octets
    }

    /// Ends the last line where it is open, and writes the terminator.
    pub fn finish(mut self, out: &mut Vec<u8>) {
        if !self.at_line_start {
            self.end_line(out);
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Octets of a message as RETR sends it, before dot-stuffing: what LIST and STAT must show.
pub fn retrieved_octets(message: &[u8]) -> u64 {
    let bare = memchr::memchr_iter(b'\n', message)
        .filter(|&at| at == 0 || message.get(at - 1) != Some(&b'\r'))
        .count();
    let open = match message.last() {
        None | Some(b'\n') => 0,
        Some(b'\r') => 1,
        Some(_) => 2,
    };
    (message.len() + bare + open) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wire(message: &[u8], mode: RetrieveMode, piece: usize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut stuffer = DotStuffer::new(mode);
        for chunk in message.chunks(piece) {
            stuffer.push(chunk, &mut out);
        }
        stuffer.finish(&mut out);
        out
    }

    #[test]
    fn lines_end_in_crlf_and_dots_are_doubled() {
        for (message, expected) in [
            (&b""[..], &b".\r\n"[..]),
            (b"a", b"a\r\n.\r\n"),
            (b"a\r", b"a\r\n.\r\n"),
            (b".\n..\r\n.a", b"..\r\n...\r\n..a\r\n.\r\n"),
            (b"a\rb\nc\n", b"a\rb\r\nc\r\n.\r\n"),
            (b"\n\n", b"\r\n\r\n.\r\n"),
        ] {
            for piece in 1..5 {
                assert_eq!(wire(message, RetrieveMode::Whole, piece), expected);
            }
        }
    }

    #[test]
    fn top_stops_after_the_lines_asked_for() {
        let message = b"A: b\r\nC: d\r\n\r\none\r\n.two\r\nthree";
        for (lines, expected) in [
            (0, &b"A: b\r\nC: d\r\n\r\n.\r\n"[..]),
            (1, b"A: b\r\nC: d\r\n\r\none\r\n.\r\n"),
            (2, b"A: b\r\nC: d\r\n\r\none\r\n..two\r\n.\r\n"),
            (9, b"A: b\r\nC: d\r\n\r\none\r\n..two\r\nthree\r\n.\r\n"),
        ] {
            for piece in [1, 2, 3, 100] {
                assert_eq!(wire(message, RetrieveMode::Top(lines), piece), expected);
            }
        }
        assert_eq!(wire(b"A: b\r\n", RetrieveMode::Top(0), 9), b"A: b\r\n.\r\n");
    }

    proptest! {
        #[test]
        fn octets_are_those_announced(message in "[a.\r\n]{0,60}", piece in 1usize..9) {
            let mut out = Vec::new();
            let mut stuffer = DotStuffer::new(RetrieveMode::Whole);
            for chunk in message.as_bytes().chunks(piece) {
                stuffer.push(chunk, &mut out);
            }
            let mut counted = stuffer.octets();
            if !stuffer.at_line_start {
                counted += if stuffer.after_cr { 1 } else { 2 };
            }
            stuffer.finish(&mut out);
            prop_assert_eq!(counted, retrieved_octets(message.as_bytes()));
            // What a client makes of it has the announced length.
            let text = String::from_utf8(out).unwrap();
            let content = text.strip_suffix(".\r\n").unwrap();
            let plain: u64 = content
                .split_inclusive("\r\n")
                .map(|line| line.strip_prefix('.').unwrap_or(line).len() as u64)
                .sum();
            prop_assert_eq!(plain, counted);
            prop_assert!(!content.starts_with(".\r\n") && !content.contains("\r\n.\r\n"));
        }
    }
}
