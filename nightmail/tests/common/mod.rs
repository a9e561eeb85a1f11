//! What the tests of the program share: a server of their own, small clients, and other people's programs.
#![allow(
    dead_code,
    unused_imports,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "each test uses a part of it, and a test that cannot go on fails"
)]

pub mod cluster;
pub mod dns;
pub mod imap;
pub mod line;
pub mod pop3;
pub mod sink;
pub mod site;
pub mod smtp;
pub mod tools;

use std::time::{Duration, Instant};

pub use imap::Imap;
pub use nightmail_testbed::programs::{skip as require, skip_always as skip};
pub use pop3::Pop3;
pub use site::{Service, Site};
pub use smtp::Smtp;

/// Longest wait for anything, on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Looks again and again until there is something; panics when that takes too long.
pub fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A message with CRLF line ends.
pub fn message(subject: &str, body: &str) -> Vec<u8> {
    let text = format!(
        "From: Sender <sender@far.test>\nTo: <alice@example.test>\nSubject: {subject}\n\
         Message-ID: <{subject}@far.test>\nDate: Sun, 22 Nov 2026 12:00:00 +0000\n\n{body}\n"
    );
    text.replace('\n', "\r\n").into_bytes()
}

/// Octets as text, for looking into them.
pub fn text(octets: &[u8]) -> String {
    String::from_utf8_lossy(octets).into_owned()
}
