//! NOTIFY: what is told without asking.

use crate::harness::{Client, Server};

const MESSAGE: &[u8] = b"From: bob@test\r\nSubject: news\r\n\r\nText\r\n";

/// The next response is this.
fn told(client: &mut Client, expected: &str) {
    let response = client.response();
    assert_eq!(response.text, expected);
}

fn told_start(client: &mut Client, expected: &str) {
    let response = client.response();
    assert!(response.text.starts_with(expected), "{}", response.text);
}

#[test]
fn the_selected_mailbox_is_told_of_without_a_command() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.ok(
        "NOTIFY SET (selected (MessageNew (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)]) MessageExpunge FlagChange))",
    );
    server.deliver(b"", MESSAGE);
    told(&mut client, "* 1 EXISTS");
    told(&mut client, "* 1 RECENT");
    let response = client.response();
    assert!(
        response
            .text
            .starts_with("* 1 FETCH (UID 1 BODY[HEADER.FIELDS"),
        "{response:?}"
    );
    assert_eq!(response.literal(), b"Subject: news\r\n\r\n");
    let mut other = server.selected("INBOX");
    other.ok("STORE 1 +FLAGS (\\Flagged)");
    told(&mut client, "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Recent))");
    other.ok("STORE 1 +FLAGS.SILENT (\\Deleted)");
    told(
        &mut client,
        "* 1 FETCH (UID 1 FLAGS (\\Flagged \\Deleted \\Recent))",
    );
    other.ok("EXPUNGE");
    told(&mut client, "* 1 EXPUNGE");
    client.ok("NOTIFY NONE");
    server.deliver(b"", MESSAGE);
    assert!(client.texts("NOOP").is_empty());
}

#[test]
fn idle_tells_what_notify_asked_for() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.ok("CREATE Lists");
    client.ok("NOTIFY SET (selected-delayed (MessageNew (UID) MessageExpunge)) (mailboxes Lists (MessageNew MessageExpunge))");
    let tag = client.begin(b"IDLE");
    told(&mut client, "+ idling");
    server.deliver(b"", MESSAGE);
    told(&mut client, "* 1 EXISTS");
    told(&mut client, "* 1 RECENT");
    told(&mut client, "* 1 FETCH (UID 1)");
    server.client().append("Lists", MESSAGE);
    told_start(
        &mut client,
        "* STATUS Lists (MESSAGES 1 UIDNEXT 2 UIDVALIDITY ",
    );
    client.send(b"DONE\r\n");
    assert_eq!(client.finish(&tag).len(), 1);
}

#[test]
fn other_mailboxes_are_told_of_by_their_counts() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE a");
    client.ok("CREATE b");
    client.fill("b", 2);
    let first = client.texts(
        "NOTIFY SET STATUS (mailboxes (a b nowhere) (MessageNew MessageExpunge FlagChange))",
    );
    assert_eq!(first.len(), 2, "{first:?}");
    assert!(
        first[0].starts_with("* STATUS a (MESSAGES 0 UIDNEXT 1 UIDVALIDITY "),
        "{first:?}"
    );
    assert!(
        first[1].starts_with("* STATUS b (MESSAGES 2 UIDNEXT 3 UIDVALIDITY "),
        "{first:?}"
    );
    assert!(first[1].contains("HIGHESTMODSEQ"), "{first:?}");
    let mut other = server.selected("b");
    other.ok("STORE 1 +FLAGS (\\Seen)");
    told(&mut client, "* STATUS b (UNSEEN 1)");
    other.ok("STORE 1 +FLAGS (\\Deleted)");
    other.ok("EXPUNGE");
    told_start(&mut client, "* STATUS b (MESSAGES 1 UIDNEXT 3 ");
    other.append("INBOX", MESSAGE);
    other.append("a", MESSAGE);
    told_start(&mut client, "* STATUS a (MESSAGES 1 UIDNEXT 2 ");
    // What is selected is told of by the rules for the selected mailbox alone.
    client.ok("SELECT b");
    other.append("b", MESSAGE);
    other.append("a", MESSAGE);
    told_start(&mut client, "* STATUS a (MESSAGES 2 UIDNEXT 3 ");
}

#[test]
fn names_and_subscriptions_are_told_of() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE top/one");
    client.ok("NOTIFY SET (subtree top (MailboxName SubscriptionChange))");
    let mut other = server.client();
    other.ok("CREATE elsewhere");
    other.ok("CREATE top/two");
    told(&mut client, "* LIST (\\HasChildren) \"/\" top");
    told(&mut client, "* LIST (\\HasNoChildren) \"/\" top/two");
    other.ok("SUBSCRIBE top/two");
    told(
        &mut client,
        "* LIST (\\HasNoChildren \\Subscribed) \"/\" top/two",
    );
    other.ok("UNSUBSCRIBE top/two");
    other.ok("RENAME top/two top/new");
    told(&mut client, "* LIST (\\HasNoChildren) \"/\" top/two");
    told(
        &mut client,
        "* LIST (\\HasNoChildren) \"/\" top/new (\"OLDNAME\" (top/two))",
    );
    other.ok("DELETE top/new");
    told(&mut client, "* LIST (\\HasChildren) \"/\" top");
    told(
        &mut client,
        "* LIST (\\NonExistent \\HasNoChildren) \"/\" top/new",
    );
    // What the client does itself is no news.
    client.ok("CREATE top/mine");
    client.ok("SUBSCRIBE top/mine");
    client.ok("RENAME top/mine top/ours");
    client.ok("DELETE top/ours");
    other.ok("RENAME top high");
    told(
        &mut client,
        "* LIST (\\HasChildren) \"/\" high (\"OLDNAME\" (top))",
    );
    assert!(client.texts("NOOP").is_empty());
}

#[test]
fn annotations_are_told_of() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE a");
    client.ok("SETMETADATA a (/private/comment \"one\" /shared/comment \"two\")");
    client.ok("NOTIFY SET (personal (MailboxMetadataChange ServerMetadataChange))");
    // What the client does itself is no news.
    client.ok("SETMETADATA a (/private/comment \"two\" /private/own \"x\")");
    client.ok("SETMETADATA \"\" (/private/vendor/test/own \"x\")");
    let mut other = server.client();
    other.ok("SETMETADATA a (/private/comment \"three\" /shared/comment NIL)");
    told(&mut client, "* METADATA a /private/comment /shared/comment");
    other.ok("SETMETADATA \"\" (/private/vendor/test/x \"y\")");
    told(&mut client, "* METADATA \"\" /private/vendor/test/x");
}

#[test]
fn a_mailbox_made_later_is_watched() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge)) (subscribed (FlagChange MessageNew MessageExpunge))");
    let mut other = server.client();
    other.ok("CREATE later");
    other.append("later", MESSAGE);
    told_start(&mut client, "* STATUS later (MESSAGES 1 UIDNEXT 2 ");
    other.ok("DELETE later");
    other.append("INBOX", MESSAGE);
    told_start(&mut client, "* STATUS INBOX (MESSAGES 1 UIDNEXT 2 ");
}

#[test]
fn nobody_listens_when_the_client_is_gone() {
    let server = Server::start();
    let events = server.services.store.committer().events().clone();
    let before = events.topics();
    let mut client = server.client();
    client.ok("NOTIFY SET (personal (MessageNew MessageExpunge MailboxName))");
    assert!(events.topics() > before);
    client.ok("NOTIFY NONE");
    assert_eq!(events.topics(), before);
}
