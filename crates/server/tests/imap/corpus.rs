//! Real and broken messages from a folder outside the project: `NIGHTMAIL_CORPUS`, or one beside the checkout.

use std::path::{Path, PathBuf};

use crate::harness::Server;

const DEFAULT_CORPUS: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../../shared/corpus/messages"
);

fn corpus() -> Vec<(PathBuf, Vec<u8>)> {
    let root = std::env::var_os("NIGHTMAIL_CORPUS").map_or(DEFAULT_CORPUS.into(), PathBuf::from);
    let mut files = Vec::new();
    collect(&root, &mut files);
    if files.is_empty() {
        println!("skipped: no corpus");
    }
    files.sort();
    files
}

fn collect(folder: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else if let Ok(message) = std::fs::read(&path) {
            files.push((path, message));
        }
    }
}

/// As a client sends it: every line ends in CRLF, and NUL cannot be said.
fn as_sent(message: &[u8]) -> Vec<u8> {
    let mut sent = Vec::with_capacity(message.len() + message.len() / 40);
    let mut last = 0;
    for octet in message.iter().copied().filter(|octet| *octet != 0) {
        if octet == b'\n' && last != b'\r' {
            sent.push(b'\r');
        }
        sent.push(octet);
        last = octet;
    }
    sent
}

#[test]
fn every_message_of_the_corpus_comes_out_as_it_went_in() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    let mut expected = Vec::new();
    for (path, message) in corpus() {
        let message = as_sent(&message);
        if message.is_empty() {
            continue;
        }
        let appended = client.append("INBOX", &message);
        assert!(
            appended.last().unwrap().text.starts_with("OK"),
            "{appended:?}"
        );
        expected.push((path, message));
    }
    if expected.is_empty() {
        return;
    }
    let items =
        "(RFC822.SIZE ENVELOPE BODYSTRUCTURE BODY.PEEK[] BODY.PEEK[HEADER] BODY.PEEK[TEXT])";
    let fetched = client.ok(&format!("FETCH 1:* {items}"));
    assert_eq!(fetched.len(), expected.len());
    for (response, (path, message)) in fetched.iter().zip(&expected) {
        let path = path.display();
        assert!(
            response
                .text
                .contains(&format!("RFC822.SIZE {} ", message.len())),
            "{path}"
        );
        let [.., whole, header, text] = response.literals.as_slice() else {
            panic!("{path}: {}", response.text);
        };
        assert!(whole == message, "{path}");
        assert!([header.as_slice(), text].concat() == *message, "{path}");
    }
}
