//! QRESYNC (RFC 7162 §3.2): a client that comes back learns what it missed, and nothing else.

use std::collections::BTreeSet;

use crate::condstore::highest;
use crate::harness::{Client, Server};

/// A client that has QRESYNC enabled.
fn synchronizing(server: &Server) -> Client {
    let mut client = server.client();
    assert_eq!(client.texts("ENABLE QRESYNC"), ["* ENABLED QRESYNC"]);
    client
}

/// The lines of SELECT that tell of the difference.
fn difference(selected: &[String]) -> Vec<String> {
    let told = |line: &&String| line.contains(" FETCH ") || line.contains("VANISHED");
    selected.iter().filter(told).cloned().collect()
}

fn validity(selected: &[String]) -> u64 {
    let line = selected.iter().find(|line| line.contains("UIDVALIDITY"));
    crate::condstore::number_after(line.unwrap(), "UIDVALIDITY ")
}

#[test]
fn a_client_learns_what_it_missed() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 6);
    let known = client.texts("SELECT INBOX");
    let (validity, modseq) = (validity(&known), highest(&known));
    client.ok("UNSELECT");
    let mut other = server.selected("INBOX");
    other.ok("STORE 2,5 +FLAGS.SILENT (\\Deleted)");
    other.ok("EXPUNGE");
    other.ok("UID STORE 4 +FLAGS.SILENT (\\Seen)");
    other.fill("INBOX", 1);
    let told = client.texts(&format!("SELECT INBOX (QRESYNC ({validity} {modseq}))"));
    let lines = difference(&told);
    assert_eq!(lines[0], "* VANISHED (EARLIER) 2,5");
    assert!(
        lines[1].starts_with("* 3 FETCH (UID 4 FLAGS (\\Seen"),
        "{lines:?}"
    );
    assert!(
        lines[2].starts_with("* 5 FETCH (UID 7 FLAGS ("),
        "{lines:?}"
    );
    assert_eq!(lines.len(), 3, "{lines:?}");
    let now = highest(&told);
    let again = client.texts(&format!("SELECT INBOX (QRESYNC ({validity} {now} 1:7))"));
    assert!(difference(&again).is_empty(), "{again:?}");
}

#[test]
fn only_messages_that_the_client_names_are_told_of() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 6);
    let known = client.texts("SELECT INBOX");
    let (validity, modseq) = (validity(&known), highest(&known));
    client.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)");
    client.ok("UID EXPUNGE 1:2");
    client.ok("UID STORE 6 +FLAGS.SILENT (\\Seen)");
    let told = client.texts(&format!("SELECT INBOX (QRESYNC ({validity} {modseq} 2:4))"));
    let lines = difference(&told);
    assert_eq!(lines[0], "* VANISHED (EARLIER) 2");
    assert!(lines[1].starts_with("* 1 FETCH (UID 3 "), "{lines:?}");
    assert_eq!(lines.len(), 2, "{lines:?}");
}

#[test]
fn another_uidvalidity_tells_nothing() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 2);
    let known = client.texts("SELECT INBOX");
    let other = validity(&known) + 1;
    let told = client.texts(&format!("SELECT INBOX (QRESYNC ({other} 1))"));
    assert!(difference(&told).is_empty(), "{told:?}");
}

#[test]
fn a_modification_sequence_of_the_future_counts_for_nothing() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 2);
    let known = client.texts("SELECT INBOX");
    let (validity, modseq) = (validity(&known), highest(&known) + 1000);
    let told = client.texts(&format!("SELECT INBOX (QRESYNC ({validity} {modseq} 1:9))"));
    assert_eq!(difference(&told).len(), 2, "{told:?}");
}

#[test]
fn vanished_is_told_instead_of_expunge() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 5);
    client.ok("SELECT INBOX");
    let mut other = server.selected("INBOX");
    other.ok("STORE 2:3 +FLAGS.SILENT (\\Deleted)");
    other.ok("EXPUNGE");
    assert!(client.texts("FETCH 5 UID")[0].starts_with("* 5 FETCH"));
    let told = client.texts("NOOP");
    assert_eq!(told, ["* VANISHED 2:3"]);
    client.ok("UID STORE 4 +FLAGS.SILENT (\\Deleted)");
    let responses = client.command("EXPUNGE");
    assert_eq!(responses[0].text, "* VANISHED 4");
    assert!(responses[1].text.starts_with("OK [HIGHESTMODSEQ "));
    client.ok("CREATE Other");
    let responses = client.command("UID MOVE 1 Other");
    assert_eq!(responses[1].text, "* VANISHED 1");
    assert!(responses[2].text.starts_with("OK [HIGHESTMODSEQ "));
}

#[test]
fn fetch_tells_what_vanished_earlier() {
    let server = Server::start();
    let mut client = synchronizing(&server);
    client.fill("INBOX", 6);
    let modseq = highest(&client.texts("SELECT INBOX"));
    client.ok("STORE 1,3,6 +FLAGS.SILENT (\\Deleted)");
    client.ok("EXPUNGE");
    client.ok("UID STORE 4 +FLAGS.SILENT (\\Seen)");
    let told = client.texts(&format!(
        "UID FETCH 2:* (FLAGS) (CHANGEDSINCE {modseq} VANISHED)"
    ));
    assert_eq!(told[0], "* VANISHED (EARLIER) 3,6");
    assert!(told[1].starts_with("* 2 FETCH (UID 4 FLAGS (\\Seen"));
    assert_eq!(told.len(), 2, "{told:?}");
}

/// A client that reads lines follows the mailbox, whichever changes it missed.
#[test]
fn a_client_that_comes_back_at_any_point_knows_the_mailbox() {
    let server = Server::start();
    let mut writer = server.client();
    writer.fill("INBOX", 12);
    writer.ok("SELECT INBOX");
    let mut client = synchronizing(&server);
    let mut known: BTreeSet<u32> = BTreeSet::new();
    let mut modseq = 1;
    for (doomed, added) in [("1,5:6", 2), ("7", 0), ("2:4,13", 1), ("8:12", 3)] {
        let told = client.texts("EXAMINE INBOX");
        let validity = validity(&told);
        let told = client.texts(&format!("EXAMINE INBOX (QRESYNC ({validity} {modseq}))"));
        follow(&mut known, &difference(&told));
        assert_eq!(known, present(&mut client), "{told:?}");
        modseq = highest(&told);
        writer.ok(&format!("UID STORE {doomed} +FLAGS.SILENT (\\Deleted)"));
        writer.ok("EXPUNGE");
        writer.fill("INBOX", added);
        writer.ok("NOOP");
    }
}

fn follow(known: &mut BTreeSet<u32>, lines: &[String]) {
    for line in lines {
        if let Some(set) = line.strip_prefix("* VANISHED (EARLIER) ") {
            for range in set.split(',') {
                let (low, high) = range.split_once(':').unwrap_or((range, range));
                let (low, high): (u32, u32) = (low.parse().unwrap(), high.parse().unwrap());
                known.retain(|uid| !(low..=high).contains(uid));
            }
        } else {
            known.insert(crate::condstore::number_after(line, "UID ") as u32);
        }
    }
}

fn present(client: &mut Client) -> BTreeSet<u32> {
    let told = client.texts("FETCH 1:* UID");
    told.iter()
        .map(|line| crate::condstore::number_after(line, "UID ") as u32)
        .collect()
}
