//! Messages as they are met: what goes in by SMTP comes out by IMAP and POP3 byte for byte.
//!
//! The messages are in the folder named by `NIGHTMAIL_CORPUS`, or in `shared/corpus/messages` beside the checkout.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::path::{Path, PathBuf};

use common::{Imap, Pop3, Service, Site, Smtp};
use nightmail_testbed::corpus::with_crlf;

/// Messages of one restart of the client connections.
const BATCH: usize = 50;

fn folder() -> Option<PathBuf> {
    let beside = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus/messages");
    let folder = std::env::var_os("NIGHTMAIL_CORPUS").map_or_else(beside, PathBuf::from);
    folder.is_dir().then_some(folder)
}

fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in folder.read_dir().unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => walk(&path, found),
            false => found.push(path),
        }
    }
}

/// Whether DATA cannot carry it unchanged: NUL, a bare CR, a line too long, or no CRLF at the end.
fn is_binary(message: &[u8]) -> bool {
    let mut lines = message.split_inclusive(|octet| *octet == b'\n');
    message.contains(&0)
        || !message.ends_with(b"\r\n")
        || lines
            .any(|line| line.len() > 1000 || line[..line.len().saturating_sub(2)].contains(&b'\r'))
}

/// What POP3 makes of it: the last line ends in CRLF.
fn as_lines(message: &[u8]) -> Vec<u8> {
    let mut lines = message.to_vec();
    if !lines.ends_with(b"\r\n") {
        lines.extend_from_slice(b"\r\n");
    }
    lines
}

fn send(smtp: &mut Smtp, number: usize, message: &[u8]) -> std::io::Result<common::smtp::Reply> {
    match (is_binary(message), number % 2) {
        (true, _) | (_, 0) => smtp.send_binary("s@far.test", "alice@example.test", message),
        _ => smtp.send("s@far.test", &["alice@example.test"], message),
    }
}

#[test]
fn every_message_of_the_corpus_comes_out_as_it_went_in() {
    let Some(folder) = folder() else {
        return common::skip("there is no corpus (set NIGHTMAIL_CORPUS)");
    };
    let mut paths = Vec::new();
    walk(&folder, &mut paths);
    paths.sort();
    assert!(!paths.is_empty(), "no message in {}", folder.display());
    let mut site = Site::started("[store]\nsegment = \"1MiB\"\n");
    let mut sent = Vec::new();
    for (number, path) in paths.iter().enumerate() {
        if number % BATCH == 0 && number > 0 {
            site.stop();
            site.start();
        }
        let message = with_crlf(&std::fs::read(path).unwrap());
        let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
        let reply = send(&mut smtp, number, &message).unwrap();
        assert_eq!(reply.code, 250, "{}: {reply:?}", path.display());
        sent.push((path, message));
    }
    let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap();
    let mut pop3 = Pop3::login(site.address(Service::Pop3), "alice", "demo").unwrap();
    assert_eq!(pop3.count().unwrap(), sent.len());
    for (number, (path, message)) in (1..).zip(&sent) {
        let shown = path.display();
        let answer = imap.say(&format!(
            "FETCH {number} (RFC822.SIZE BODY.PEEK[] ENVELOPE BODYSTRUCTURE)"
        ));
        let answer = answer.unwrap().ok();
        // Literals within the envelope come in an order of their own; the message is the longest.
        let literals = answer.with(" FETCH ")[0].literals.iter();
        let body = literals.max_by_key(|literal| literal.len()).unwrap();
        assert!(
            body.ends_with(message),
            "{shown}: IMAP gives {} octets for {}",
            body.len(),
            message.len()
        );
        assert!(
            body.starts_with(b"Return-Path: <s@far.test>\r\n"),
            "{shown}"
        );
        let prefix = body.len() - message.len();
        assert!(body[..prefix].ends_with(b"\r\n"), "{shown}");
        let size = common::imap::number_after(&answer.with(" FETCH ")[0].text, "RFC822.SIZE ");
        assert_eq!(size, Some(body.len() as u32), "{shown}");
        let retrieved = pop3.read(&format!("RETR {number}")).unwrap();
        if !message.contains(&b'\n') || !is_binary(message) {
            assert!(
                retrieved == as_lines(body),
                "{shown}: POP3 differs from IMAP"
            );
        }
        assert!(
            retrieved.ends_with(&as_lines(message)),
            "{shown}: POP3 gives {} octets",
            retrieved.len()
        );
    }
    pop3.say("QUIT").unwrap();
    drop(imap);
    let checked = site.admin(&["check", "--read-messages"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    site.stop();
}
