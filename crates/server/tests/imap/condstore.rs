//! CONDSTORE (RFC 7162 §3.1), with one session and with two.

use crate::harness::{Client, Server};

/// The modification sequence of a message.
fn modseq(client: &mut Client, seq: u32) -> u64 {
    let told = client.texts(&format!("FETCH {seq} (MODSEQ)"));
    // Before it comes what the mailbox stands at, where the session begins to count with this command.
    number_after(told.last().unwrap(), "MODSEQ (")
}

pub fn number_after(text: &str, word: &str) -> u64 {
    let (_, rest) = text.split_once(word).unwrap();
    let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

/// What SELECT says of the state of a mailbox.
pub fn highest(selected: &[String]) -> u64 {
    let line = selected.iter().find(|line| line.contains("HIGHESTMODSEQ"));
    number_after(line.unwrap(), "HIGHESTMODSEQ ")
}

#[test]
fn every_change_grows_the_modification_sequence() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 3);
    let before = highest(&client.texts("SELECT INBOX"));
    let first = modseq(&mut client, 1);
    assert!(first <= before);
    let told = client.texts("STORE 1 +FLAGS (\\Seen)");
    let second = number_after(&told[0], "MODSEQ (");
    assert!(second > before, "{told:?}");
    assert_eq!(modseq(&mut client, 1), second);
    client.ok("STORE 1 +FLAGS (\\Seen)");
    assert_eq!(modseq(&mut client, 1), second, "nothing changed");
    let after = highest(&client.texts("SELECT INBOX"));
    assert_eq!(after, second);
}

#[test]
fn changes_since_are_exactly_those() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 5);
    let before = highest(&client.texts("SELECT INBOX"));
    client.ok("STORE 2,4 +FLAGS.SILENT (\\Flagged)");
    client.fill("INBOX", 1);
    let told = client.texts(&format!("FETCH 1:* (UID) (CHANGEDSINCE {before})"));
    let numbers: Vec<_> = told.iter().filter(|line| line.contains("FETCH")).collect();
    assert_eq!(numbers.len(), 3, "{told:?}");
    for (line, seq) in numbers.iter().zip([2, 4, 6]) {
        let start = format!("* {seq} FETCH (UID {seq} MODSEQ (");
        assert!(line.starts_with(&start), "{line}");
    }
    let now = highest(&client.texts("SELECT INBOX"));
    assert!(
        client
            .texts(&format!("FETCH 1:* (FLAGS) (CHANGEDSINCE {now})"))
            .is_empty()
    );
}

#[test]
fn a_conditional_store_leaves_what_others_changed() {
    let server = Server::start();
    let mut first = server.client();
    first.fill("INBOX", 3);
    let known = highest(&first.texts("SELECT INBOX (CONDSTORE)"));
    let mut second = server.selected("INBOX");
    second.ok("STORE 2 +FLAGS (\\Answered)");
    let responses = first.command(&format!(
        "STORE 1:3 (UNCHANGEDSINCE {known}) +FLAGS.SILENT (\\Deleted)"
    ));
    let tagged = &responses.last().unwrap().text;
    assert!(tagged.starts_with("OK [MODIFIED 2]"), "{tagged}");
    let told: Vec<_> = responses.iter().map(|response| &response.text).collect();
    assert!(
        told.iter()
            .any(|line| line.starts_with("* 2 FETCH (UID 2 FLAGS (\\Answered")),
        "{told:?}"
    );
    let flags = second.texts("FETCH 1:3 FLAGS");
    let deleted: Vec<bool> = flags
        .iter()
        .filter(|line| line.contains("FETCH (FLAGS"))
        .map(|line| line.contains("\\Deleted"))
        .collect();
    assert_eq!(deleted, [true, false, true], "{flags:?}");
    let tagged = first.tagged("UID STORE 1:3 (UNCHANGEDSINCE 0) FLAGS ()");
    assert!(tagged.starts_with("OK [MODIFIED 1:3]"), "{tagged}");
}

#[test]
fn a_silent_store_tells_the_modification_sequence_alone() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 2);
    let known = highest(&client.texts("SELECT INBOX (CONDSTORE)"));
    let told = client.texts("UID STORE 1:2 +FLAGS.SILENT (\\Seen)");
    let modseq = known + 1;
    assert_eq!(
        told,
        [
            format!("* 1 FETCH (UID 1 MODSEQ ({modseq}))"),
            format!("* 2 FETCH (UID 2 MODSEQ ({modseq}))"),
        ]
    );
    let told = client.texts(&format!(
        "STORE 1:2 (UNCHANGEDSINCE {modseq}) +FLAGS.SILENT (\\Seen)"
    ));
    assert_eq!(
        told,
        [
            format!("* 1 FETCH (UID 1 MODSEQ ({modseq}))"),
            format!("* 2 FETCH (UID 2 MODSEQ ({modseq}))"),
        ],
        "what need not change is told all the same"
    );
}

#[test]
fn flags_that_others_change_come_with_their_modification_sequence() {
    let server = Server::start();
    let mut first = server.client();
    first.fill("INBOX", 1);
    first.ok("SELECT INBOX (CONDSTORE)");
    let mut second = server.selected("INBOX");
    second.ok("STORE 1 +FLAGS (\\Draft)");
    let now = modseq(&mut second, 1);
    let told = first.texts("NOOP");
    assert_eq!(
        told,
        [format!(
            "* 1 FETCH (UID 1 FLAGS (\\Draft \\Recent) MODSEQ ({now}))"
        )]
    );
}

#[test]
fn reading_a_message_tells_that_it_is_seen_and_since_when() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 1);
    let known = highest(&client.texts("SELECT INBOX (CONDSTORE)"));
    let told = client.texts("FETCH 1 BODY[TEXT]");
    let end = format!(" FLAGS (\\Seen \\Recent) UID 1 MODSEQ ({}))", known + 1);
    assert!(told[0].ends_with(&end), "{told:?}");
}

#[test]
fn expunge_says_how_far_the_client_is() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 2);
    client.ok("SELECT INBOX (CONDSTORE)");
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    let tagged = client.tagged("EXPUNGE");
    let told = number_after(&tagged, "OK [HIGHESTMODSEQ ");
    assert_eq!(told, highest(&client.texts("SELECT INBOX")));
}
