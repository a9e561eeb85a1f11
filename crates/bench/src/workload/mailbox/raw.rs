//! An IMAP client that costs next to nothing: it blocks, reads in large pieces, counts lines, and looks at no more
//! than the first and the last octets of an answer.
//!
//! Owns one connection in the clear. What a command tells is parsed by whoever asked.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use memchr::{memchr_iter, memmem};

use crate::error::BenchError;

/// Octets read at once.
const READ_OCTETS: usize = 256 * 1024;
/// Octets kept of the beginning of an answer.
const HEAD_OCTETS: usize = 256 * 1024;
/// Octets kept of the end of an answer: more than the longest tagged line.
const TAIL_OCTETS: usize = 2048;
/// Longest wait for something to come.
const PATIENCE: Duration = Duration::from_secs(600);
/// Longest literal that LITERAL- lets be sent at once, in octets (RFC 7888 §5).
const LITERAL_MINUS_MAX: usize = 4096;

/// What came back for one command.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// Lines, with the tagged one.
    pub(super) lines: u64,
    /// All octets.
    pub(super) octets: u64,
    /// From the first octet sent to the last one read.
    pub(super) took: Duration,
    /// The first octets of the answer.
    head: Vec<u8>,
    /// The last octets of the answer.
    tail: Vec<u8>,
}

impl Told {
    /// The number behind `before`, such as `UIDVALIDITY `, near the start of the answer or near its end.
    pub(super) fn number_after(&self, before: &str) -> Option<u64> {
        let find = |text: &[u8]| {
            let at = memmem::find(text, before.as_bytes())? + before.len();
            let digits = text.get(at..)?;
            let end = digits.iter().position(|byte| !byte.is_ascii_digit());
            let digits = digits.get(..end.unwrap_or(digits.len()))?;
            std::str::from_utf8(digits).ok()?.parse().ok()
        };
        find(&self.head).or_else(|| find(&self.tail))
    }

    /// The number in `* n EXISTS`.
    pub(super) fn exists(&self) -> Option<u64> {
        let text = std::str::from_utf8(&self.head).ok()?;
        let told = |line: &str| {
            line.strip_prefix("* ")?
                .strip_suffix(" EXISTS")?
                .parse()
                .ok()
        };
        text.lines().find_map(told)
    }

    /// Whether a word is in the first or the last octets.
    pub(super) fn has(&self, word: &str) -> bool {
        let word = word.as_bytes();
        memmem::find(&self.head, word).is_some() || memmem::find(&self.tail, word).is_some()
    }

    fn note(&mut self, octets: &[u8]) {
        self.lines += memchr_iter(b'\n', octets).count() as u64;
        self.octets += octets.len() as u64;
        let room = HEAD_OCTETS.saturating_sub(self.head.len());
        let head = octets.get(..room).unwrap_or(octets);
        self.head.extend_from_slice(head);
        let last = octets.len().saturating_sub(TAIL_OCTETS);
        self.tail
            .extend_from_slice(octets.get(last..).unwrap_or(octets));
        let surplus = self.tail.len().saturating_sub(TAIL_OCTETS);
        self.tail.drain(..surplus);
    }

    /// The last line, if it is whole and begins with `tag`.
    fn status(&self, tag: &str) -> Option<&[u8]> {
        let text = self.tail.strip_suffix(b"\r\n")?;
        let start = memmem::rfind(text, b"\r\n").map_or(0, |at| at + 2);
        text.get(start..)?.strip_prefix(tag.as_bytes())
    }
}

/// One connection that is logged in.
pub(super) struct Raw {
    stream: TcpStream,
    buffer: Vec<u8>,
    out: Vec<u8>,
    number: u32,
    capabilities: String,
}

impl Raw {
    /// Connects and logs in.
    pub(super) fn login(target: &str, user: &str, password: &str) -> Result<Self, BenchError> {
        let stream = connect(target)?;
        let mut raw = Self {
            stream,
            buffer: vec![0; READ_OCTETS],
            out: Vec::new(),
            number: 0,
            capabilities: String::new(),
        };
        raw.line()?;
        raw.command("LOGIN", &format!("\"{user}\" \"{password}\""))?;
        let told = raw.command("CAPABILITY", "")?;
        raw.capabilities = String::from_utf8_lossy(&told.head).to_ascii_uppercase();
        Ok(raw)
    }

    /// Whether the server announces this after login.
    pub(super) fn can(&self, capability: &str) -> bool {
        self.capabilities
            .split([' ', '\r'])
            .any(|word| word == capability)
    }

    /// Sends one command and reads to its end, which must be OK.
    pub(super) fn command(
        &mut self,
        name: &'static str,
        arguments: &str,
    ) -> Result<Told, BenchError> {
        self.queue(name, arguments);
        self.run(name)
    }

    /// Adds a command to what is sent by the next [`Raw::run`].
    pub(super) fn queue(&mut self, name: &str, arguments: &str) {
        self.number += 1;
        let space = if arguments.is_empty() { "" } else { " " };
        let line = format!("zq{} {name}{space}{arguments}\r\n", self.number);
        self.out.extend_from_slice(line.as_bytes());
    }

    /// Sends what has been queued and reads to the end of the last command, which must be OK.
    pub(super) fn run(&mut self, name: &'static str) -> Result<Told, BenchError> {
        let began = Instant::now();
        self.flush()?;
        let tag = format!("zq{} ", self.number);
        let mut told = Told::default();
        loop {
            let count = self.read()?;
            told.note(self.buffer.get(..count).unwrap_or_default());
            if let Some(status) = told.status(&tag) {
                if !status.starts_with(b"OK") {
                    return Err(BenchError::refused(name, status));
                }
                told.took = began.elapsed();
                return Ok(told);
            }
        }
    }

    /// Queues a literal behind an unfinished command: its announcement, then its octets. Where the server wants to be
    /// asked first, it is.
    pub(super) fn literal(&mut self, before: &str, octets: &[u8]) -> Result<(), BenchError> {
        let size = octets.len();
        let at_once = self.can("LITERAL+") || self.can("LITERAL-") && size <= LITERAL_MINUS_MAX;
        let plus = if at_once { "+" } else { "" };
        let announced = format!("{before}{{{size}{plus}}}\r\n");
        self.out.extend_from_slice(announced.as_bytes());
        if !at_once {
            self.flush()?;
            self.line()?;
        }
        self.out.extend_from_slice(octets);
        Ok(())
    }

    /// Begins a command that literals will follow.
    pub(super) fn begin(&mut self, text: &str) {
        self.number += 1;
        let line = format!("zq{} {text}", self.number);
        self.out.extend_from_slice(line.as_bytes());
    }

    /// Ends a command that was begun.
    pub(super) fn end(&mut self) {
        self.out.extend_from_slice(b"\r\n");
    }

    fn flush(&mut self) -> Result<(), BenchError> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Reads until a line has ended: a greeting, or the answer to an announced literal, which must not be a refusal.
    fn line(&mut self) -> Result<(), BenchError> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            let count = self.read()?;
            line.extend_from_slice(self.buffer.get(..count).unwrap_or_default());
        }
        match line.first() {
            Some(b'*' | b'+') => Ok(()),
            _ => Err(BenchError::unexpected(&line)),
        }
    }

    fn read(&mut self) -> Result<usize, BenchError> {
        match self.stream.read(&mut self.buffer)? {
            0 => Err(BenchError::Closed),
            count => Ok(count),
        }
    }
}

fn connect(target: &str) -> Result<TcpStream, BenchError> {
    let failed = |source| BenchError::Connect {
        target: target.to_owned(),
        source,
    };
    let mut addresses = target.to_socket_addrs().map_err(failed)?;
    let address = addresses
        .next()
        .ok_or_else(|| BenchError::Usage(format!("{target} has no address")))?;
    let stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str, step: usize) -> Told {
        let mut told = Told::default();
        for piece in text.as_bytes().chunks(step) {
            told.note(piece);
        }
        told
    }

    #[test]
    fn an_answer_ends_with_its_tagged_line_however_it_is_split() {
        let text = "* 3 FETCH (FLAGS ())\r\n* 12 EXISTS\r\nzq7 OK [HIGHESTMODSEQ 99] done\r\n";
        for step in [1, 2, 7, text.len()] {
            let told = told(text, step);
            assert_eq!(
                told.status("zq7 "),
                Some(&b"OK [HIGHESTMODSEQ 99] done"[..])
            );
            assert_eq!((told.lines, told.exists()), (3, Some(12)));
            assert_eq!(told.number_after("HIGHESTMODSEQ "), Some(99));
        }
    }

    #[test]
    fn an_answer_goes_on_while_its_last_line_is_open_or_anothers() {
        for text in ["* 1 EXISTS\r\n", "zq7 OK done", "* x\r\nzq71 OK\r\n", ""] {
            assert_eq!(told(text, 3).status("zq7 "), None, "{text:?}");
        }
    }

    #[test]
    fn what_is_kept_of_a_long_answer_is_bounded() {
        let mut told = Told::default();
        for _ in 0..100 {
            told.note(&[b'x'; 10_000]);
        }
        told.note(b"\r\nzq1 OK\r\n");
        assert!(told.head.len() <= HEAD_OCTETS && told.tail.len() <= TAIL_OCTETS);
        assert_eq!(told.status("zq1 "), Some(&b"OK"[..]));
    }
}
