//! STORE, EXPUNGE, COPY and MOVE, with one session and with two.

use crate::harness::Server;

#[test]
fn flags_are_replaced_added_and_removed() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    assert_eq!(
        client.texts("STORE 1 +FLAGS (\\Flagged \\Seen)"),
        ["* 1 FETCH (FLAGS (\\Flagged \\Seen \\Recent))"]
    );
    assert_eq!(
        client.texts("UID STORE 1 -FLAGS \\Flagged"),
        ["* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent))"]
    );
    assert_eq!(
        client.texts("STORE 1 FLAGS.SILENT (\\Draft)"),
        Vec::<String>::new()
    );
    assert_eq!(
        client.texts("NOOP"),
        Vec::<String>::new(),
        "own changes are not told back"
    );
    assert_eq!(
        client.texts("FETCH 1 FLAGS"),
        ["* 1 FETCH (FLAGS (\\Draft \\Recent))"]
    );
}

#[test]
fn a_new_keyword_is_announced_before_it_is_used() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 1);
    let texts = client.texts("STORE 1 +FLAGS ($Later)");
    assert!(
        texts[0].starts_with("* FLAGS (") && texts[0].contains("$Later"),
        "{texts:?}"
    );
    assert_eq!(texts.last().unwrap(), "* 1 FETCH (FLAGS ($Later \\Recent))");
    let texts = client.texts("STORE 1 +FLAGS.SILENT (Work)");
    assert!(texts[0].contains("Work"), "{texts:?}");
    assert_eq!(
        client.texts("SEARCH KEYWORD work KEYWORD $later"),
        ["* SEARCH 1"]
    );
    assert_eq!(client.texts("SEARCH UNKEYWORD none"), ["* SEARCH 1"]);
    let mut other = server.client();
    let selected = other.texts("SELECT INBOX");
    assert!(selected[0].contains("$Later Work"), "{selected:?}");
}

#[test]
fn another_sessions_flags_are_told_once() {
    let server = Server::start();
    let mut first = server.selected("INBOX");
    first.fill("INBOX", 3);
    let mut second = server.selected("INBOX");
    second.ok("STORE 2 +FLAGS (\\Answered $Other)");
    let told = first.texts("NOOP");
    assert_eq!(
        told.last().unwrap(),
        "* 2 FETCH (UID 2 FLAGS (\\Answered $Other \\Recent))"
    );
    assert_eq!(first.texts("NOOP"), Vec::<String>::new());
    assert_eq!(second.texts("NOOP"), Vec::<String>::new());
}

#[test]
fn a_silent_store_tells_flags_that_others_changed() {
    let server = Server::start();
    let mut first = server.selected("INBOX");
    first.fill("INBOX", 2);
    let mut second = server.selected("INBOX");
    second.ok("STORE 1 +FLAGS (\\Answered)");
    let told = first.texts("STORE 1 +FLAGS.SILENT (\\Seen)");
    assert_eq!(told, ["* 1 FETCH (FLAGS (\\Answered \\Seen \\Recent))"]);
}

#[test]
fn an_expunge_is_told_only_where_numbers_may_change() {
    let server = Server::start();
    let mut first = server.selected("INBOX");
    first.fill("INBOX", 4);
    let mut second = server.selected("INBOX");
    second.ok("STORE 1,3 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(second.texts("EXPUNGE"), ["* 1 EXPUNGE", "* 2 EXPUNGE"]);
    // The first session still counts four messages: numbers mean what they meant.
    let fetched = first.command("FETCH 2:3 (UID)");
    assert_eq!(fetched[0].text, "* 2 FETCH (UID 2)");
    assert_eq!(fetched.last().unwrap().text, "OK [EXPUNGEISSUED] Fetched");
    assert_eq!(first.texts("SEARCH SUBJECT 4"), ["* SEARCH 4"]);
    let stored = first.command("STORE 4 +FLAGS (\\Flagged)");
    assert_eq!(stored[0].text, "* 4 FETCH (FLAGS (\\Flagged \\Recent))");
    assert_eq!(first.texts("NOOP"), ["* 1 EXPUNGE", "* 2 EXPUNGE"]);
    assert_eq!(
        first.texts("FETCH 1:2 UID"),
        ["* 1 FETCH (UID 2)", "* 2 FETCH (UID 4)"]
    );
}

#[test]
fn uid_expunge_removes_only_what_it_names() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 4);
    client.ok("STORE 1:3 +FLAGS.SILENT (\\Deleted)");
    assert_eq!(
        client.texts("UID EXPUNGE 2:4"),
        ["* 2 EXPUNGE", "* 2 EXPUNGE"]
    );
    assert_eq!(client.texts("UID SEARCH ALL"), ["* SEARCH 1 4"]);
    assert!(client.tagged("CLOSE").starts_with("OK"));
    let texts = client.texts("SELECT INBOX");
    assert!(
        texts.contains(&"* 1 EXISTS".to_owned()),
        "CLOSE expunges: {texts:?}"
    );
}

#[test]
fn unselect_and_examine_expunge_nothing() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    client.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    client.ok("UNSELECT");
    client.ok("EXAMINE INBOX");
    client.ok("CLOSE");
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 2)"]
    );
}

#[test]
fn copies_keep_flags_and_date_and_name_their_uids() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.append(
        "INBOX (\\Flagged Work) \" 1-Feb-2003 00:00:00 +0000\"",
        b"A: b\r\n\r\nc",
    );
    client.fill("INBOX", 2);
    let tagged = client.tagged("COPY 1:* Archive");
    assert!(
        tagged.starts_with("OK [COPYUID ") && tagged.contains(" 1:3 1:3]"),
        "{tagged}"
    );
    let tagged = client.tagged("UID COPY 2 INBOX");
    assert!(tagged.contains(" 2 4]"), "{tagged}");
    assert_eq!(client.texts("UID SEARCH ALL"), ["* SEARCH 1 2 3 4"]);
    assert!(
        client
            .tagged("COPY 1 nowhere")
            .starts_with("NO [TRYCREATE]")
    );
    client.ok("SELECT Archive");
    let texts = client.texts("FETCH 1 (FLAGS INTERNALDATE)");
    assert_eq!(
        texts,
        ["* 1 FETCH (FLAGS (\\Flagged Work \\Recent) INTERNALDATE \" 1-Feb-2003 00:00:00 +0000\")"]
    );
    assert_eq!(client.section(1, ""), b"A: b\r\n\r\nc");
}

#[test]
fn a_move_names_its_uids_before_it_tells_the_expunges() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 3);
    let texts = client.texts("MOVE 1,3 Archive");
    assert!(
        texts[0].starts_with("* OK [COPYUID ") && texts[0].contains(" 1,3 1:2]"),
        "{texts:?}"
    );
    assert_eq!(texts[1..], ["* 1 EXPUNGE", "* 2 EXPUNGE"]);
    assert_eq!(
        client.texts("STATUS Archive (MESSAGES)"),
        ["* STATUS Archive (MESSAGES 2)"]
    );
    assert!(
        client.tagged("UID MOVE 1 Archive").starts_with("OK"),
        "nothing is left to move"
    );
}

#[test]
fn a_move_within_a_mailbox_gives_new_uids() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    let texts = client.texts("MOVE 1 INBOX");
    assert_eq!(texts[1..], ["* 1 EXPUNGE", "* 2 EXISTS", "* 2 RECENT"]);
    assert_eq!(client.texts("UID SEARCH ALL"), ["* SEARCH 2 3"]);
}

#[test]
fn arrivals_do_not_make_a_silent_store_speak() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    server.deliver(b"", b"Subject: new\r\n\r\n");
    let texts = client.texts("STORE 1:2 +FLAGS.SILENT (\\Seen)");
    assert_eq!(texts, ["* 3 EXISTS", "* 3 RECENT"]);
    assert_eq!(client.tagged("CHECK"), "OK Checked");
}
