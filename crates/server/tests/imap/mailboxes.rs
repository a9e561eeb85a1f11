//! Mailboxes: selecting, listing, counting, making, renaming, deleting.

use crate::harness::Server;

fn with_prefix<'a>(texts: &'a [String], prefix: &str) -> Vec<&'a str> {
    let texts = texts.iter().map(String::as_str);
    texts.filter(|text| text.starts_with(prefix)).collect()
}

#[test]
fn select_tells_what_is_there() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 3);
    client.ok("SELECT INBOX");
    client.ok("STORE 1 +FLAGS.SILENT (\\Seen)");
    client.ok("UNSELECT");
    client.fill("INBOX", 1);
    let texts = client.texts("SELECT INBOX");
    for expected in [
        "* 4 EXISTS",
        "* 1 RECENT",
        "* OK [UNSEEN 2] First unseen",
        "* OK [UIDNEXT 5] Next UID",
    ] {
        assert!(
            texts.contains(&expected.to_owned()),
            "{expected}: {texts:?}"
        );
    }
    assert!(
        texts[1].contains("[PERMANENTFLAGS (\\Answered \\Flagged \\Deleted \\Seen \\Draft \\*)]"),
        "{texts:?}"
    );
    let mut examining = server.client();
    assert!(
        examining
            .texts("EXAMINE inbox")
            .contains(&"* 0 RECENT".to_owned())
    );
    assert!(
        client
            .tagged("SELECT nowhere")
            .starts_with("NO [NONEXISTENT]")
    );
    assert!(
        client.tagged("FETCH 1 UID").starts_with("BAD"),
        "nothing is selected any more"
    );
}

#[test]
fn recent_is_told_to_one_session_only() {
    let server = Server::start();
    let mut first = server.client();
    first.fill("INBOX", 2);
    assert_eq!(
        first.texts("STATUS INBOX (RECENT)"),
        ["* STATUS INBOX (RECENT 2)"]
    );
    assert!(
        first
            .texts("EXAMINE INBOX")
            .contains(&"* 2 RECENT".to_owned())
    );
    assert!(
        first
            .texts("SELECT INBOX")
            .contains(&"* 2 RECENT".to_owned())
    );
    assert_eq!(
        first.texts("STATUS INBOX (RECENT)"),
        ["* STATUS INBOX (RECENT 0)"]
    );
    server.deliver(b"", b"Subject: new\r\n\r\n");
    assert_eq!(first.texts("NOOP"), ["* 3 EXISTS", "* 3 RECENT"]);
    first.ok("UNSELECT");
    assert_eq!(
        first.texts("STATUS INBOX (RECENT)"),
        ["* STATUS INBOX (RECENT 0)"]
    );
}

#[test]
fn status_counts_without_selecting() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 2);
    client.append("INBOX (\\Seen)", b"A: b\r\n\r\n");
    let texts = client.texts("STATUS INBOX (MESSAGES UNSEEN UIDNEXT RECENT)");
    assert_eq!(
        texts,
        ["* STATUS INBOX (MESSAGES 3 UNSEEN 2 UIDNEXT 4 RECENT 3)"]
    );
    assert!(
        client
            .tagged("STATUS none (MESSAGES)")
            .starts_with("NO [NONEXISTENT]")
    );
}

#[test]
fn lists_follow_their_patterns() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(
        client.texts("LIST \"\" \"\""),
        ["* LIST (\\Noselect) \"/\" \"\""]
    );
    client.ok("CREATE work/2024/done");
    client.ok("CREATE &AOk-t&AOk-");
    let all = client.texts("LIST \"\" *");
    for expected in [
        "* LIST (\\HasNoChildren) \"/\" INBOX",
        "* LIST (\\HasNoChildren \\Sent) \"/\" Sent",
        "* LIST (\\HasNoChildren \\Trash) \"/\" Trash",
        "* LIST (\\HasChildren) \"/\" work",
        "* LIST (\\HasChildren) \"/\" work/2024",
        "* LIST (\\HasNoChildren) \"/\" work/2024/done",
        "* LIST (\\HasNoChildren) \"/\" &AOk-t&AOk-",
    ] {
        assert!(all.contains(&expected.to_owned()), "{expected}: {all:?}");
    }
    assert_eq!(
        client.texts("LIST work/ %"),
        ["* LIST (\\HasChildren) \"/\" work/2024"]
    );
    client.ok("DELETE work");
    assert_eq!(
        client.texts("LIST \"\" w%"),
        ["* LIST (\\Noselect \\HasChildren) \"/\" work"]
    );
    assert_eq!(client.texts("LIST \"\" inbox").len(), 1);
}

#[test]
fn subscriptions_outlive_their_mailboxes() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE a/b");
    client.ok("SUBSCRIBE a/b");
    client.ok("UNSUBSCRIBE Junk");
    client.ok("DELETE a/b");
    let texts = client.texts("LSUB \"\" *");
    assert!(
        texts.contains(&"* LSUB () \"/\" a/b".to_owned()),
        "{texts:?}"
    );
    assert!(with_prefix(&texts, "* LSUB () \"/\" Junk").is_empty());
    assert_eq!(
        client.texts("LSUB \"\" a%"),
        ["* LSUB (\\Noselect) \"/\" a"]
    );
    let texts = client.texts("LIST (SUBSCRIBED) \"\" a/*");
    assert_eq!(
        texts,
        ["* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" a/b"]
    );
}

#[test]
fn mailboxes_are_made_once_and_deleted_once() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE new/");
    assert!(
        client
            .tagged("CREATE new")
            .starts_with("NO [ALREADYEXISTS]")
    );
    assert!(client.tagged("CREATE a//b").starts_with("NO [CANNOT]"));
    client.ok("DELETE new");
    assert!(client.tagged("DELETE new").starts_with("NO [NONEXISTENT]"));
    assert!(client.tagged("DELETE INBOX").starts_with("NO [CANNOT]"));
    assert!(
        client
            .tagged("RENAME new newer")
            .starts_with("NO [NONEXISTENT]")
    );
}

#[test]
fn renaming_moves_what_lies_below_and_keeps_it_selected() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE a/b/c");
    client.fill("a/b/c", 2);
    client.ok("SELECT a/b/c");
    client.ok("RENAME a/b x/y");
    assert_eq!(client.texts("FETCH 1:2 UID").len(), 2);
    let texts = client.texts("LIST \"\" x*");
    assert_eq!(texts.len(), 3, "{texts:?}");
    assert_eq!(
        client.texts("STATUS x/y/c (MESSAGES)"),
        ["* STATUS x/y/c (MESSAGES 2)"]
    );
    assert!(
        client
            .tagged("RENAME x Archive")
            .starts_with("NO [ALREADYEXISTS]")
    );
}

#[test]
fn renaming_inbox_moves_its_messages_and_leaves_it() {
    let server = Server::start();
    let mut client = server.selected("INBOX");
    client.fill("INBOX", 2);
    let texts = client.texts("RENAME INBOX old/mail");
    assert_eq!(with_prefix(&texts, "* 1 EXPUNGE").len(), 2, "{texts:?}");
    assert_eq!(
        client.texts("STATUS old/mail (MESSAGES)"),
        ["* STATUS old/mail (MESSAGES 2)"]
    );
    assert_eq!(
        client.texts("STATUS INBOX (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 0)"]
    );
    server.deliver(b"", b"Subject: new\r\n\r\n");
    assert!(client.texts("NOOP").contains(&"* 1 EXISTS".to_owned()));
}

#[test]
fn deleting_the_selected_mailbox_leaves_it() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE gone");
    client.fill("gone", 1);
    client.ok("SELECT gone");
    client.ok("DELETE gone");
    assert!(client.tagged("FETCH 1 UID").starts_with("BAD"));
    client.ok("SELECT INBOX");
}

#[test]
fn a_mailbox_deleted_by_others_ends_the_session() {
    let server = Server::start();
    for command in [
        "NOOP",
        "FETCH 1 BODY[]",
        "STORE 1 +FLAGS (\\Seen)",
        "SEARCH ALL",
        "EXPUNGE",
        "IDLE",
        "COPY 1 INBOX",
        "MOVE 1 INBOX",
    ] {
        let mut client = server.client();
        client.ok("CREATE gone");
        client.fill("gone", 1);
        client.ok("SELECT gone");
        server.delete_mailbox("gone");
        client.begin(command.as_bytes());
        let response = loop {
            let response = client.response();
            if !response.text.starts_with("+ ") {
                break response;
            }
        };
        assert!(
            response.text.starts_with("* BYE"),
            "{command}: {response:?}"
        );
        assert!(client.is_closed(), "{command}");
    }
}
