//! What all kinds of reports have: header fields, parts, Base64.

use aws_lc_rs::rand;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nightmail_core::{Address, Timestamp};

use super::Reporter;

/// Octets of Base64 in a line (RFC 2045 §6.8).
const LINE_OCTETS: usize = 76;

/// A message of several parts.
#[derive(Debug)]
pub struct Parts {
    out: Vec<u8>,
    boundary: String,
}

impl Parts {
    /// Starts a message. `kind` is the media type with its parameters, the boundary apart; `subject` is ASCII; `fields`
    /// are further header fields, each ended by CRLF.
    pub fn new(
        reporter: &Reporter,
        to: &Address,
        subject: &str,
        fields: &str,
        kind: &str,
        now: Timestamp,
    ) -> Self {
        let unique = unique(now);
        let boundary = format!("report-{unique}");
        let out = format!(
            "From: <{}>\r\nTo: <{to}>\r\nSubject: {subject}\r\nDate: {}\r\nMessage-ID: <{unique}@{}>\r\n\
             Auto-Submitted: auto-generated\r\n{fields}MIME-Version: 1.0\r\nContent-Type: {kind};\r\n\tboundary=\"{boundary}\"\r\n\r\n",
            reporter.from,
            now.rfc5322(),
            reporter.domain,
        );
        Self {
            out: out.into_bytes(),
            boundary,
        }
    }

    fn open(&mut self, fields: &str) {
        let text = format!("--{}\r\n{fields}\r\n\r\n", self.boundary);
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Adds a part as it is. `fields` are its header fields, joined by CRLF; `content` ends with CRLF.
    pub fn part(&mut self, fields: &str, content: &[u8]) -> &mut Self {
        self.open(fields);
        self.out.extend_from_slice(content);
        self
    }

    /// Adds a part in Base64.
    pub fn base64(&mut self, fields: &str, content: &[u8]) -> &mut Self {
        self.open(&format!("{fields}\r\nContent-Transfer-Encoding: base64"));
        let text = STANDARD.encode(content);
        for line in text.as_bytes().chunks(LINE_OCTETS) {
            self.out.extend_from_slice(line);
            self.out.extend_from_slice(b"\r\n");
        }
        self
    }

    /// The whole message; what was added is in it.
    pub fn finish(&mut self) -> Vec<u8> {
        let end = format!("--{}--\r\n", self.boundary);
        self.out.extend_from_slice(end.as_bytes());
        std::mem::take(&mut self.out)
    }
}

/// A word nobody else uses.
pub(super) fn unique(now: Timestamp) -> String {
    let mut octets = [0; 8];
    // Without randomness the time must do.
    let _ = rand::fill(&mut octets);
    format!("{:x}.{:016x}", now.millis(), u64::from_be_bytes(octets))
}

/// Visible ASCII and spaces only, at most so many.
pub(super) fn plain(text: &str, max: usize) -> String {
    let shown = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
    text.chars().map(shown).take(max).collect()
}
