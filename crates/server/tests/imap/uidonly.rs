//! UIDONLY (RFC 9586): no number of a message is sent or taken.

use crate::harness::Server;

#[test]
fn messages_have_uids_only() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 3);
    assert_eq!(client.texts("ENABLE UIDONLY"), ["* ENABLED UIDONLY"]);
    let selected = client.texts("SELECT INBOX");
    assert!(!selected.iter().any(|line| line.contains("[UNSEEN")));
    for command in [
        "FETCH 1 FLAGS",
        "STORE 1 +FLAGS (\\Seen)",
        "COPY 1 INBOX",
        "MOVE 1 INBOX",
        "SEARCH ALL",
        "UID SEARCH 1:2",
    ] {
        let tagged = client.tagged(command);
        assert!(
            tagged.starts_with("BAD [UIDREQUIRED]"),
            "{command}: {tagged}"
        );
    }
    assert_eq!(
        client.texts("UID FETCH 2 (FLAGS)"),
        ["* 2 UIDFETCH (FLAGS (\\Recent))"]
    );
    assert_eq!(
        client.texts("UID STORE 3 +FLAGS (\\Deleted)"),
        ["* 3 UIDFETCH (FLAGS (\\Deleted \\Recent))"]
    );
    assert_eq!(client.texts("EXPUNGE"), ["* VANISHED 3"]);
    let mut other = server.selected("INBOX");
    other.ok("STORE 1 +FLAGS (\\Seen)");
    let told = client.texts("NOOP");
    assert_eq!(told, ["* 1 UIDFETCH (FLAGS (\\Seen \\Recent))"]);
}

#[test]
fn a_client_in_idle_is_told_uids() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 2);
    client.ok("ENABLE UIDONLY");
    client.ok("SELECT INBOX");
    client.send(b"i IDLE\r\n");
    assert!(client.response().text.starts_with("+ "));
    let mut other = server.selected("INBOX");
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    assert!(
        client
            .response()
            .text
            .starts_with("* 1 UIDFETCH (FLAGS (\\Deleted")
    );
    other.ok("EXPUNGE");
    assert_eq!(client.response().text, "* VANISHED 1");
    client.send(b"DONE\r\n");
    assert!(client.response().text.starts_with("i OK"));
}
