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

use std::fs::File;
use std::io::Write;
use std::time::{Duration, Instant};

pub use imap::Imap;
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

/// Says why a test does nothing. With `CI=true` nothing that can be installed may be missing.
pub fn require(what: &str) {
    let ci = std::env::var("CI").is_ok_and(|value| value == "true");
    assert!(!ci, "{what}, which must not be on CI");
    skip(what);
}

/// Says why a test does nothing: on standard error, and in the file that the runner shows at its end.
pub fn skip(why: &str) {
    let line = format!("SKIPPED: {why}\n");
    // Not by a macro, whose output the test runner would keep to itself.
    std::io::stderr().write_all(line.as_bytes()).unwrap();
    if let Some(path) = std::env::var_os("NIGHTMAIL_SKIPPED") {
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(path)
            .unwrap();
        file.write_all(line.as_bytes()).unwrap();
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
