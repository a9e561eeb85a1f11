//! LIST in its extended forms, and the names that mailboxes may have.

use crate::harness::Server;

#[test]
fn one_list_tells_status_rights_and_annotations_of_all() {
    let server = Server::start();
    let mut client = server.client();
    client.fill("INBOX", 3);
    client.ok("CREATE Work/deep");
    client.append("Work (\\Deleted \\Seen)", b"Subject: x\r\n\r\nText\r\n");
    client.ok("DELETE Work/deep");
    client.ok("CREATE Other/deep");
    client.ok("DELETE Other");
    let texts = client.texts(
        "LIST \"\" (INBOX Work Other%) RETURN (SUBSCRIBED STATUS (MESSAGES UNSEEN DELETED SIZE DELETED-STORAGE) MYRIGHTS)",
    );
    assert_eq!(
        texts,
        [
            "* LIST (\\HasNoChildren \\Subscribed) \"/\" INBOX",
            "* STATUS INBOX (MESSAGES 3 UNSEEN 3 DELETED 0 SIZE 90 DELETED-STORAGE 0)",
            "* MYRIGHTS INBOX lrswipkxteacd",
            "* LIST (\\NonExistent \\HasChildren) \"/\" Other",
            "* LIST (\\HasNoChildren) \"/\" Work",
            "* STATUS Work (MESSAGES 1 UNSEEN 0 DELETED 1 SIZE 20 DELETED-STORAGE 20)",
            "* MYRIGHTS Work lrswipkxteacd",
        ]
    );
    client.ok("SETMETADATA Work (/private/comment \"mine\")");
    let responses =
        client.ok("LIST \"\" Work RETURN (METADATA (/private/comment /shared/comment))");
    assert_eq!(responses.len(), 2, "{responses:?}");
    assert_eq!(responses[1].literal(), b"mine");
    let text = &responses[1].text;
    assert!(text.ends_with("/shared/comment NIL)"), "{text}");
}

#[test]
fn a_mailbox_is_made_for_what_it_is_for() {
    let server = Server::start();
    let mut client = server.client();
    let made = client.tagged("CREATE Rubbish (USE (\\Trash))");
    assert!(made.starts_with("OK [MAILBOXID (M"), "{made}");
    let listed = client.texts("LIST (SPECIAL-USE) \"\" Rubbish");
    assert_eq!(listed, ["* LIST (\\HasNoChildren \\Trash) \"/\" Rubbish"]);
    let refused = client.tagged("CREATE All (USE (\\All))");
    assert!(refused.starts_with("NO [USEATTR]"), "{refused}");
    assert!(client.texts("LIST \"\" All").is_empty(), "nothing was made");
    let id = made.split(['(', ')']).nth(1).unwrap();
    let status = client.texts("STATUS Rubbish (MAILBOXID)");
    assert_eq!(status, [format!("* STATUS Rubbish (MAILBOXID ({id}))")]);
    client.ok("RENAME Rubbish Bin");
    let status = client.texts("STATUS Bin (MAILBOXID)");
    assert_eq!(status, [format!("* STATUS Bin (MAILBOXID ({id}))")]);
}

#[test]
fn renaming_keeps_uidvalidity_subscriptions_and_what_lies_below() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE a/b/c");
    client.ok("SUBSCRIBE a/b");
    client.fill("a/b", 1);
    let before = client.texts("STATUS a/b (UIDVALIDITY UIDNEXT MESSAGES)");
    client.ok("RENAME a x/y");
    let after = client.texts("STATUS x/y/b (UIDVALIDITY UIDNEXT MESSAGES)");
    assert_eq!(after[0].replace("x/y/b", "a/b"), before[0]);
    assert_eq!(client.texts("LSUB \"\" a*"), ["* LSUB () \"/\" a/b"]);
    assert_eq!(client.texts("LIST \"\" x/y/b/*").len(), 1);
    let refused = client.tagged("RENAME x/y x/y/z");
    assert!(refused.starts_with("NO [CANNOT]"), "{refused}");
    let refused = client.tagged("RENAME x/y INBOX");
    assert!(refused.starts_with("NO [ALREADYEXISTS]"), "{refused}");
    // A level whose mailbox was deleted can still be renamed with all below it.
    client.ok("DELETE x/y");
    client.ok("RENAME x/y z");
    assert_eq!(client.texts("LIST \"\" z/b").len(), 1);
    let refused = client.tagged("DELETE z");
    assert!(refused.starts_with("NO [NONEXISTENT]"), "{refused}");
}

#[test]
fn inbox_has_no_case_whatever_is_done_with_it() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("CREATE inbox/Sub");
    client.ok("SUBSCRIBE iNbOx/Sub");
    assert_eq!(
        client.texts("LIST \"\" Inbox/%"),
        ["* LIST (\\HasNoChildren) \"/\" INBOX/Sub"]
    );
    assert_eq!(
        client.texts("LSUB \"inBOX/\" *"),
        ["* LSUB () \"/\" INBOX/Sub"]
    );
    client.fill("INBOX", 2);
    client.ok("RENAME inbox Old");
    assert_eq!(
        client.texts("STATUS Old (MESSAGES)"),
        ["* STATUS Old (MESSAGES 2)"]
    );
    assert_eq!(
        client.texts("STATUS inBox (MESSAGES)"),
        ["* STATUS INBOX (MESSAGES 0)"]
    );
    assert_eq!(client.texts("LIST \"\" inbox/sub").len(), 0);
    assert_eq!(client.texts("LIST \"\" inbox/Sub").len(), 1);
}

#[test]
fn what_does_not_exist_may_be_subscribed() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SUBSCRIBE not/there");
    let texts = client.texts("LIST (SUBSCRIBED) \"\" not*");
    assert_eq!(
        texts,
        ["* LIST (\\NonExistent \\HasNoChildren \\Subscribed) \"/\" not/there"]
    );
    let texts = client.texts("LSUB \"\" %");
    assert!(texts.contains(&"* LSUB (\\Noselect) \"/\" not".to_owned()));
    client.ok("UNSUBSCRIBE not/there");
    assert!(client.texts("LSUB \"\" not*").is_empty());
}
