//! Taking away what others claim in our name (RFC 8601 §5): Authentication-Results fields that bear our own
//! authserv-id.
//!
//! Every other octet passes unchanged. A line ends at LF, with or without CR, as a reader may see it.

use bytes::BytesMut;

/// The field's name in lower case.
const NAME: &[u8] = b"authentication-results";
/// Octets of one field that are held back until it is known whose it is. A field that does not say so within them
/// is taken away.
const HELD_OCTETS_MAX: usize = 8 * 1024;

/// Where in the message the filter is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum At {
    /// At the first octet of a line of the header.
    LineStart,
    /// In a line of which all so far could be the field's name, or is the name and white space.
    Name,
    /// In the field, being held.
    Held,
    /// After a line end of a held field.
    HeldLine,
    /// In a field that passes.
    Pass,
    /// In a field that is taken away.
    Drop,
    /// After a line end of a field that is taken away.
    DropLine,
    /// In a line that is a lone CR so far.
    Blank,
    Body,
}

/// Passes a message on, without such fields.
#[derive(Debug)]
pub struct HeaderFilter {
    authserv_id: String,
    at: At,
    held: Vec<u8>,
    dropped: usize,
}

impl HeaderFilter {
    /// For the fields of `authserv_id`.
    pub fn new(authserv_id: &str) -> Self {
        Self {
            authserv_id: authserv_id.to_owned(),
            at: At::LineStart,
            held: Vec::new(),
            dropped: 0,
        }
    }

    /// How many fields were taken away.
    pub const fn dropped(&self) -> usize {
        self.dropped
    }

    /// Whether the header is over: everything passes from here on.
    pub fn is_done(&self) -> bool {
        self.at == At::Body
    }

    /// Takes the next octets and appends to `out` what is known to pass.
    pub fn push(&mut self, octets: &[u8], out: &mut BytesMut) {
        let mut rest = octets;
        while let Some((&octet, tail)) = rest.split_first() {
            match self.at {
                At::Body => {
                    out.extend_from_slice(rest);
                    return;
                }
                At::Pass => {
                    let end = memchr::memchr(b'\n', rest).map_or(rest.len(), |end| end + 1);
                    let (line, after) = rest.split_at_checked(end).unwrap_or((rest, &[]));
                    out.extend_from_slice(line);
                    if line.ends_with(b"\n") {
                        self.at = At::LineStart;
                    }
                    rest = after;
                }
                _ => {
                    self.octet(octet, out);
                    rest = tail;
                }
            }
        }
    }

    /// The message has ended.
    pub fn finish(&mut self, out: &mut BytesMut) {
        if matches!(self.at, At::Held | At::HeldLine) {
            self.judge(out);
        } else {
            self.release(out);
        }
        self.at = At::Body;
    }

    fn octet(&mut self, octet: u8, out: &mut BytesMut) {
        match self.at {
            At::LineStart => self.line_start(octet, out),
            At::Name => self.name(octet, out),
            At::Blank => {
                self.held.push(octet);
                self.release(out);
                self.at = match octet {
                    b'\n' => At::Body,
                    _ => At::Pass,
                };
            }
            At::Held => {
                self.held.push(octet);
                if octet == b'\n' {
                    self.at = At::HeldLine;
                } else if self.held.len() >= HELD_OCTETS_MAX {
                    self.judge(out);
                }
            }
            At::HeldLine if matches!(octet, b' ' | b'\t') => {
                self.held.push(octet);
                self.at = At::Held;
            }
            At::HeldLine => {
                self.judge(out);
                self.line_start(octet, out);
            }
            At::Drop if octet == b'\n' => self.at = At::DropLine,
            At::DropLine if matches!(octet, b' ' | b'\t') => self.at = At::Drop,
            At::DropLine => self.line_start(octet, out),
            At::Drop => {}
            At::Pass | At::Body => out.extend_from_slice(&[octet]),
        }
    }

    fn line_start(&mut self, octet: u8, out: &mut BytesMut) {
        self.held.push(octet);
        self.at = match octet {
            b'\n' => At::Body,
            b'\r' => At::Blank,
            _ if Some(&octet.to_ascii_lowercase()) == NAME.first() => At::Name,
            _ => At::Pass,
        };
        if matches!(self.at, At::Body | At::Pass) {
            self.release(out);
        }
    }

    fn name(&mut self, octet: u8, out: &mut BytesMut) {
        let len = self.held.len();
        self.held.push(octet);
        let goes_on = match NAME.get(len) {
            Some(expected) => octet.to_ascii_lowercase() == *expected,
            None => matches!(octet, b' ' | b'\t'),
        };
        if goes_on && self.held.len() < HELD_OCTETS_MAX {
            return;
        }
        if octet == b':' && len >= NAME.len() {
            self.at = At::Held;
            return;
        }
        self.release(out);
        self.at = match octet {
            b'\n' => At::LineStart,
            _ => At::Pass,
        };
    }

    /// Decides about the field that is held, whole or as much as may be held.
    fn judge(&mut self, out: &mut BytesMut) {
        let value = memchr::memchr(b':', &self.held).and_then(|colon| self.held.get(colon + 1..));
        let is_whole = self.held.len() < HELD_OCTETS_MAX;
        let is_ours = claims(value.unwrap_or_default(), is_whole, &self.authserv_id);
        let in_line = self.at == At::Held;
        if is_ours {
            self.held.clear();
            self.dropped += 1;
            self.at = if in_line { At::Drop } else { At::DropLine };
        } else {
            self.release(out);
            self.at = At::Pass;
        }
    }

    fn release(&mut self, out: &mut BytesMut) {
        out.extend_from_slice(&self.held);
        self.held.clear();
    }
}

/// Whether a value is said in the name `ours`, or may be taken for that by a careless reader.
fn claims(value: &[u8], is_whole: bool, ours: &str) -> bool {
    match authserv_id(value, is_whole) {
        Some(id) => id.eq_ignore_ascii_case(ours) || resembles(value, ours),
        None => !is_whole,
    }
}

/// Whether what stands before the results is the name `ours` once comments, quotes and all that is invisible are gone,
/// followed by nothing that belongs to a name.
fn resembles(value: &[u8], ours: &str) -> bool {
    let mut depth = 0usize;
    let end = memchr::memchr(b';', value).unwrap_or(value.len());
    let before = value.iter().copied().take(end).filter(|octet| {
        depth += usize::from(*octet == b'(');
        let is_outside = depth == 0;
        depth = depth.saturating_sub(usize::from(*octet == b')'));
        is_outside && octet.is_ascii_graphic() && !matches!(octet, b'"' | b'\\' | b')')
    });
    let shown: Vec<u8> = before.take(ours.len() + 2).collect();
    let Some((name, rest)) = shown.split_at_checked(ours.len()) else {
        return false;
    };
    let goes_on = match rest {
        [] | [b'.'] => false,
        [next, ..] => next.is_ascii_alphanumeric() || b"-_.".contains(next),
    };
    name.eq_ignore_ascii_case(ours.as_bytes()) && !goes_on
}

/// The authserv-id a value begins with: a token or quoted string after comments and white space, up to whatever
/// follows it. `None` where there is none, or the value goes on and its end was not seen.
fn authserv_id(value: &[u8], is_whole: bool) -> Option<String> {
    let mut rest = value.iter().copied().peekable();
    let mut depth = 0usize;
    while let Some(&octet) = rest.peek() {
        match octet {
            b' ' | b'\t' | b'\r' | b'\n' => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b'\\' if depth > 0 => {
                rest.next();
            }
            _ if depth > 0 => {}
            _ => break,
        }
        rest.next();
    }
    let mut id = Vec::new();
    let quoted = rest.next_if_eq(&b'"').is_some();
    while let Some(octet) = rest.next() {
        match octet {
            b'"' if quoted => return Some(String::from_utf8_lossy(&id).into_owned()),
            b'\\' if quoted => id.extend(rest.next()),
            b'\r' | b'\n' if quoted => {}
            b' ' | b'\t' | b'\r' | b'\n' | b';' | b'(' if !quoted => {
                return Some(String::from_utf8_lossy(&id).into_owned());
            }
            octet => id.push(octet),
        }
    }
    (is_whole && !id.is_empty()).then(|| String::from_utf8_lossy(&id).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nightmail_mime::header::fields;
    use proptest::prelude::*;

    const OURS: &str = "mx.test";

    fn filtered(pieces: &[&[u8]]) -> Vec<u8> {
        let mut filter = HeaderFilter::new(OURS);
        let mut out = BytesMut::new();
        pieces.iter().for_each(|piece| filter.push(piece, &mut out));
        filter.finish(&mut out);
        out.to_vec()
    }

    /// The same on a whole message.
    fn naive(message: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut at = 0;
        for field in fields(message) {
            out.extend_from_slice(&message[at..field.offset]);
            at = field.offset + field.raw.len();
            let ours = field.is("authentication-results") && claims(field.value, true, OURS);
            if !ours {
                out.extend_from_slice(field.raw);
            }
        }
        out.extend_from_slice(&message[at..]);
        out
    }

    #[test]
    fn only_what_is_said_in_our_name_goes() {
        let kept = "A: 1\r\nAuthentication-Results: other.test; spf=pass\r\n\
            Authentication-Resultsx: mx.test; x\r\nAuthentication-Results\r\n\
            X-Authentication-Results: mx.test; x\r\nAuthentication-Results: mx.test.evil.test; x\r\n\
            Authentication-Results: mx.tests; x\r\nAuthentication-Results: amx.test; x\r\n";
        for forged in [
            "Authentication-Results: mx.test; spf=pass\r\n",
            "AUTHENTICATION-RESULTS \t: MX.Test 1;\r\n\tspf=pass\r\n",
            "authentication-results:\r\n (a (b) \\) mx.x) \"mx.\\test\"; spf=pass\r\n",
            "Authentication-Results:mx.test\r\n",
            "Authentication-Results:mx.test; a=b\n",
            "Authentication-Results: mx.test/1; a=b\r\n",
            "Authentication-Results: mx.test.; a=b\r\n",
            "Authentication-Results: mx.(c)test; a=b\r\n",
            "Authentication-Results: mx . test; a=b\r\n",
            "Authentication-Results: \0mx.test\u{b}; a=b\r\n",
        ] {
            let body = "\r\nAuthentication-Results: mx.test; body\r\n";
            let message = format!("{forged}{kept}{forged}{body}");
            let out = filtered(&[message.as_bytes()]);
            assert_eq!(String::from_utf8(out).unwrap(), format!("{kept}{body}"));
        }
    }

    #[test]
    fn a_message_that_ends_in_its_header_is_no_exception() {
        assert_eq!(
            filtered(&[b"A: 1\r\nAuthentication-Results: mx.test"]),
            b"A: 1\r\n"
        );
        let other = b"Authentication-Results: mx.tes";
        assert_eq!(filtered(&[other]), other);
    }

    #[test]
    fn a_field_that_hides_whose_it_is_goes() {
        let comment = "x".repeat(2 * HELD_OCTETS_MAX);
        let forged = format!("Authentication-Results: ({comment}) mx.test; spf=pass\r\n");
        assert_eq!(filtered(&[forged.as_bytes(), b"A: 1\r\n"]), b"A: 1\r\n");
        let long = format!("Authentication-Results: other.test; ({comment})\r\n");
        assert_eq!(filtered(&[long.as_bytes()]), long.as_bytes());
    }

    proptest! {
        #[test]
        fn at_every_split_it_is_the_same_as_on_the_whole(
            message in "((Authentication-Results[ \t]?:|A|authentication-results: )( |\r\n |\t|\\(c\\)|mx\\.test|\"mx\\.test\"|o\\.test|; a=b|\r|\n|\r\n){0,5}(\r\n|\n)?){0,4}(\r\n)?(mx)?",
        ) {
            let message = message.as_bytes();
            let expected = naive(message);
            for cut in 0..=message.len() {
                let (head, tail) = message.split_at(cut);
                let made = filtered(&[head, tail]);
                prop_assert_eq!(String::from_utf8_lossy(&made), String::from_utf8_lossy(&expected));
            }
            let octets: Vec<&[u8]> = message.chunks(1).collect();
            prop_assert_eq!(filtered(&octets), expected);
        }

        #[test]
        fn what_says_nothing_in_our_name_passes_unchanged(message: Vec<u8>) {
            prop_assert_eq!(filtered(&[&message]), message);
        }
    }
}
