//! Canonicalization (RFC 6376 §3.4): header fields one by one, bodies as they pass by.
//!
//! Only CRLF ends a line of a body. A bare CR or LF is an octet like any other.

use aws_lc_rs::digest::{Context, SHA256};
use memchr::{memchr, memchr3};
use nightmail_mime::header::Field;

/// Octets gathered before they are hashed.
const SCRATCH_OCTETS: usize = 8 * 1024;

/// How much change on the way is forgiven.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Canon {
    /// None.
    Simple,
    /// Of white space, and of case in field names.
    Relaxed,
}

impl Canon {
    /// Parses one half of a `c=` tag.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        match text {
            "simple" => Some(Self::Simple),
            "relaxed" => Some(Self::Relaxed),
            _ => None,
        }
    }

    /// Appends a header field, its CRLF included.
    pub(crate) fn field(self, field: &Field<'_>, out: &mut Vec<u8>) {
        match self {
            Self::Simple => {
                out.extend_from_slice(without_line_end(field.raw));
                out.extend_from_slice(b"\r\n");
            }
            Self::Relaxed => relaxed(field.name, field.value, out),
        }
    }
}

fn without_line_end(raw: &[u8]) -> &[u8] {
    let line = raw.strip_suffix(b"\n").unwrap_or(raw);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// RFC 6376 §3.4.2.
pub(crate) fn relaxed(name: &[u8], value: &[u8], out: &mut Vec<u8>) {
    out.extend(name.iter().map(u8::to_ascii_lowercase));
    out.push(b':');
    let start = out.len();
    let mut space = false;
    let mut rest = value.iter().copied().peekable();
    while let Some(octet) = rest.next() {
        match octet {
            b' ' | b'\t' => space = true,
            b'\n' => {}
            b'\r' if matches!(rest.peek(), None | Some(b'\n')) => {}
            octet => {
                if space && out.len() > start {
                    out.push(b' ');
                }
                space = false;
                out.push(octet);
            }
        }
    }
    out.extend_from_slice(b"\r\n");
}

/// The digest of a body under one canonicalization, whole or of its first octets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct BodyHash {
    /// The canonicalization.
    pub(crate) canon: Canon,
    /// How many octets at most went in (`l=`).
    pub(crate) limit: Option<u64>,
    /// Octets of the whole canonical body.
    pub(crate) length: u64,
    /// SHA-256.
    pub(crate) digest: [u8; 32],
}

struct Sink {
    limit: Option<u64>,
    left: u64,
    context: Context,
}

/// Hashes a body under one canonicalization, for any number of lengths.
pub(crate) struct BodyHasher {
    canon: Canon,
    /// A CR is the last octet seen.
    cr: bool,
    /// White space that counts only if something follows it in its line.
    wsp: bool,
    /// Line ends that count only if something follows them.
    line_ends: u64,
    length: u64,
    scratch: Vec<u8>,
    sinks: Vec<Sink>,
}

impl BodyHasher {
    pub(crate) const fn new(canon: Canon) -> Self {
        Self {
            canon,
            cr: false,
            wsp: false,
            line_ends: 0,
            length: 0,
            scratch: Vec::new(),
            sinks: Vec::new(),
        }
    }

    pub(crate) const fn canon(&self) -> Canon {
        self.canon
    }

    /// Asks for the digest of the first `limit` octets, or of all.
    pub(crate) fn want(&mut self, limit: Option<u64>) {
        if self.sinks.iter().all(|sink| sink.limit != limit) {
            self.sinks.push(Sink {
                limit,
                left: limit.unwrap_or(u64::MAX),
                context: Context::new(&SHA256),
            });
        }
    }

    pub(crate) fn push(&mut self, mut rest: &[u8]) {
        while let Some((&octet, tail)) = rest.split_first() {
            match octet {
                b'\n' if self.cr => {
                    self.cr = false;
                    self.wsp = false;
                    self.line_ends += 1;
                    rest = tail;
                }
                b'\r' => {
                    self.bare_cr();
                    self.cr = true;
                    rest = tail;
                }
                b' ' | b'\t' if self.canon == Canon::Relaxed => {
                    self.bare_cr();
                    self.wsp = true;
                    rest = tail;
                }
                _ => {
                    self.bare_cr();
                    let (run, tail) = self.run(rest);
                    self.content(run);
                    rest = tail;
                }
            }
        }
        self.drain();
    }

    /// The octets up to the next that means something, at least one.
    fn run<'a>(&self, rest: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let end = match self.canon {
            Canon::Simple => memchr(b'\r', rest),
            Canon::Relaxed => memchr3(b'\r', b' ', b'\t', rest),
        };
        end.and_then(|end| rest.split_at_checked(end))
            .unwrap_or((rest, &[]))
    }

    fn bare_cr(&mut self) {
        if std::mem::take(&mut self.cr) {
            self.content(b"\r");
        }
    }

    fn content(&mut self, run: &[u8]) {
        while self.line_ends > 0 {
            self.line_ends -= 1;
            self.scratch.extend_from_slice(b"\r\n");
            if self.scratch.len() >= SCRATCH_OCTETS {
                self.drain();
            }
        }
        if std::mem::take(&mut self.wsp) {
            self.scratch.push(b' ');
        }
        self.scratch.extend_from_slice(run);
        if self.scratch.len() >= SCRATCH_OCTETS {
            self.drain();
        }
    }

    fn drain(&mut self) {
        self.length += self.scratch.len() as u64;
        for sink in &mut self.sinks {
            let take = usize::try_from(sink.left).unwrap_or(usize::MAX);
            let taken = self.scratch.get(..take).unwrap_or(&self.scratch);
            sink.left -= taken.len() as u64;
            sink.context.update(taken);
        }
        self.scratch.clear();
    }

    pub(crate) fn finish(mut self) -> impl Iterator<Item = BodyHash> {
        self.bare_cr();
        let is_empty = self.length == 0 && self.scratch.is_empty();
        if self.canon == Canon::Simple || !is_empty {
            self.scratch.extend_from_slice(b"\r\n");
        }
        self.drain();
        let (canon, length) = (self.canon, self.length);
        self.sinks.into_iter().map(move |sink| {
            let mut digest = [0; 32];
            let made = sink.context.finish();
            digest
                .iter_mut()
                .zip(made.as_ref())
                .for_each(|(to, from)| *to = *from);
            BodyHash {
                canon,
                limit: sink.limit,
                length,
                digest,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::digest::digest;
    use proptest::prelude::*;

    /// The rules of RFC 6376 §3.4.3 and §3.4.4, on a whole body.
    fn naive(canon: Canon, body: &[u8]) -> Vec<u8> {
        let text: String = body.iter().map(|&octet| octet as char).collect();
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        if canon == Canon::Relaxed {
            for line in &mut lines {
                let words = line.trim_end_matches([' ', '\t']).split([' ', '\t']);
                let mut out = String::new();
                for (index, word) in words.enumerate() {
                    if index > 0 && !out.ends_with(' ') {
                        out.push(' ');
                    }
                    out.push_str(word);
                }
                *line = out;
            }
        }
        while lines.last().is_some_and(String::is_empty) {
            lines.pop();
        }
        let mut out: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
        if canon == Canon::Simple && out.is_empty() {
            out = "\r\n".to_owned();
        }
        out.chars().map(|c| c as u8).collect()
    }

    fn streamed(canon: Canon, pieces: &[&[u8]], limit: Option<u64>) -> BodyHash {
        let mut hasher = BodyHasher::new(canon);
        hasher.want(limit);
        pieces.iter().for_each(|piece| hasher.push(piece));
        hasher.finish().next().unwrap()
    }

    #[test]
    fn the_examples_of_rfc_6376_come_out() {
        let body = b" C \r\nD \t E\r\n\r\n\r\n";
        assert_eq!(naive(Canon::Relaxed, body), b" C\r\nD E\r\n");
        assert_eq!(naive(Canon::Simple, body), b" C \r\nD \t E\r\n");
        let mut out = Vec::new();
        relaxed(b"B ", b" Y\t\r\n\tZ  \r\n", &mut out);
        assert_eq!(out, b"b :Y Z\r\n");
    }

    #[test]
    fn an_empty_body_is_a_line_end_or_nothing() {
        let of = |octets: &[u8]| digest(&SHA256, octets).as_ref().to_vec();
        assert_eq!(
            streamed(Canon::Simple, &[], None).digest.to_vec(),
            of(b"\r\n")
        );
        assert_eq!(
            streamed(Canon::Relaxed, &[b" \r\n"], None).digest.to_vec(),
            of(b"")
        );
    }

    proptest! {
        #[test]
        fn streaming_is_the_same_as_the_whole(body in "[a \t\r\n]{0,40}|([a \t]{0,3}\r\n){0,12}", cut in 0usize..40, limit in proptest::option::of(0u64..50)) {
            let body = body.as_bytes();
            let (head, tail) = body.split_at(cut.min(body.len()));
            for canon in [Canon::Simple, Canon::Relaxed] {
                let whole = naive(canon, body);
                let part = &whole[..limit.map_or(whole.len(), |l| (l as usize).min(whole.len()))];
                let made = streamed(canon, &[head, tail], limit);
                let expected = digest(&SHA256, part);
                prop_assert_eq!(&made.digest[..], expected.as_ref());
                prop_assert_eq!(made.length, whole.len() as u64);
            }
        }
    }
}
