//! Several servers over one database: mail taken by one is served by all, and each of them can be cut off, emptied or
//! killed.
//!
//! Without PostgreSQL these tests are skipped with a line that says so; with `CI=true` it must be there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod away;
mod nodes;
mod shared;
mod takeover;

use std::time::Instant;

use common::cluster::{ClusterSite, Node, Plan};
use common::{Imap, message};

/// Two nodes whose messages are in a directory, unless the plan says otherwise.
fn two(plan: Plan) -> Option<ClusterSite> {
    ClusterSite::start(Plan { nodes: 2, ..plan })
}

/// Sends a message to a user through a node, which must take it.
#[track_caller]
fn deliver(node: &Node, user: &str, subject: &str) -> Vec<u8> {
    let sent = message(subject, "hello\n.dot");
    let to = format!("{user}@example.test");
    let reply = node.smtp().send("s@far.test", &[&to], &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}\n{}", node.log());
    sent
}

/// Begins to wait for news.
fn idle(imap: &mut Imap) -> String {
    let tag = imap.start("IDLE").unwrap();
    let ready = imap.response().unwrap();
    assert!(ready.text.starts_with('+'), "{ready:?}");
    tag
}

/// Waits for news that hold these words, and says how long that took; other news may come before.
fn hear(imap: &mut Imap, words: &[&str]) -> Vec<String> {
    let began = Instant::now();
    let mut heard = Vec::new();
    loop {
        let response = imap.response().unwrap_or_else(|error| {
            panic!("{words:?} was not heard: {error}, only {heard:?}");
        });
        heard.push(response.text);
        let last = heard.last().unwrap();
        if words.iter().all(|word| last.contains(word)) {
            println!("heard {last:?} after {} ms", began.elapsed().as_millis());
            return heard;
        }
    }
}

/// Ends waiting for news.
fn done(imap: &mut Imap, tag: &str) {
    imap.lines.write(b"DONE\r\n").unwrap();
    imap.finish(tag).unwrap().ok();
}

/// The subjects of a user's inbox as a new session on a node sees them.
fn subjects(node: &Node, user: &str) -> Vec<String> {
    let mut imap = node.imap(user, "INBOX");
    let headers = imap.bodies("HEADER.FIELDS (SUBJECT)").unwrap();
    headers
        .iter()
        .map(|(_, header)| common::text(header).trim().replace("Subject: ", ""))
        .collect()
}
