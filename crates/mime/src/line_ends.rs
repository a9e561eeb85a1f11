//! What a message lacks of CRLF line ends: POP3 sends every line with one, and must announce the octets it sends.

use memchr::memchr_iter;

/// Counts as a message streams by.
#[derive(Clone, Copy, Debug, Default)]
pub struct LineEnds {
    /// Line feeds without a carriage return before them.
    bare: u64,
    last: Option<u8>,
}

impl LineEnds {
    /// Takes the next octets.
    pub fn push(&mut self, octets: &[u8]) {
        for at in memchr_iter(b'\n', octets) {
            let before = match at.checked_sub(1) {
                Some(at) => octets.get(at).copied(),
                None => self.last,
            };
            self.bare += u64::from(before != Some(b'\r'));
        }
        self.last = octets.last().copied().or(self.last);
    }

    /// Octets that the message grows by when every line, the last one too, ends in CRLF.
    pub const fn missing(self) -> u64 {
        self.bare
            + match self.last {
                None | Some(b'\n') => 0,
                Some(b'\r') => 1,
                Some(_) => 2,
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_and_open_line_ends_are_counted_wherever_the_octets_are_cut() {
        for (message, missing) in [
            (&b""[..], 0),
            (b"a\r\nb\r\n", 0),
            (b"a\nb\r\n", 1),
            (b"\n\n", 2),
            (b"a", 2),
            (b"a\r", 1),
            (b"a\r\n\rb\n", 1),
        ] {
            for piece in 1..6 {
                let mut counted = LineEnds::default();
                message.chunks(piece).for_each(|chunk| counted.push(chunk));
                assert_eq!(counted.missing(), missing, "{message:?} by {piece}");
            }
        }
    }
}
