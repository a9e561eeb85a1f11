//! Mailboxes of others: how they are listed, counted and watched.

use crate::harness::Server;

#[test]
fn the_namespaces_are_told() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(
        client.texts("NAMESPACE"),
        ["* NAMESPACE ((\"\" \"/\")) ((\"Other Users/\" \"/\")) ((\"Public/\" \"/\"))"]
    );
}

#[test]
fn what_others_share_is_listed_below_their_names() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = server.client();
    let mut bob = server.client_of("bob@test");
    assert!(ann.texts("LIST \"\" \"Other*\"").is_empty());
    bob.ok("CREATE Work/Plans");
    bob.fill("Work/Plans", 2);
    bob.ok("SETACL Work/Plans ann@test lrs");
    bob.ok("CREATE Closed");
    bob.ok("SETACL Closed ann@test l");
    let texts = ann.texts("LIST \"\" \"Other*\" RETURN (STATUS (MESSAGES) MYRIGHTS)");
    assert_eq!(
        texts,
        [
            "* LIST (\\NonExistent \\HasChildren) \"/\" \"Other Users\"",
            "* LIST (\\NonExistent \\HasChildren) \"/\" \"Other Users/bob@test\"",
            "* LIST (\\Noselect \\HasNoChildren) \"/\" \"Other Users/bob@test/Closed\"",
            "* MYRIGHTS \"Other Users/bob@test/Closed\" l",
            "* LIST (\\NonExistent \\HasChildren) \"/\" \"Other Users/bob@test/Work\"",
            "* LIST (\\HasNoChildren) \"/\" \"Other Users/bob@test/Work/Plans\"",
            "* STATUS \"Other Users/bob@test/Work/Plans\" (MESSAGES 2)",
            "* MYRIGHTS \"Other Users/bob@test/Work/Plans\" lrs",
        ]
    );
    let all = ann.texts("LIST \"\" *");
    assert!(
        all.iter().any(|text| text.ends_with("Work/Plans\"")),
        "{all:?}"
    );
    let top = ann.texts("LIST \"\" %");
    assert!(top.contains(&"* LIST (\\Noselect \\HasChildren) \"/\" \"Other Users\"".to_owned()));
    bob.ok("DELETEACL Work/Plans ann@test");
    bob.ok("DELETEACL Closed ann@test");
    assert!(ann.texts("LIST \"\" \"Other*\"").is_empty());
}

#[test]
fn a_folder_that_is_shared_may_be_watched() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = server.client();
    let mut bob = server.client_of("bob@test");
    bob.ok("CREATE Work");
    ann.ok("NOTIFY SET (subtree \"Other Users\" (MailboxName MessageNew MessageExpunge))");
    bob.ok("SETACL Work ann@test lr");
    let told = ann.response().text;
    assert_eq!(
        told,
        "* LIST (\\HasChildren \\NonExistent) \"/\" \"Other Users/bob@test\""
            .replace("\\HasChildren \\NonExistent", "\\NonExistent \\HasChildren")
    );
    assert_eq!(
        ann.response().text,
        "* LIST (\\HasNoChildren) \"/\" \"Other Users/bob@test/Work\""
    );
    bob.fill("Work", 1);
    let told = ann.response().text;
    assert!(
        told.starts_with("* STATUS \"Other Users/bob@test/Work\" (MESSAGES 1 UIDNEXT 2"),
        "{told}"
    );
}

#[test]
fn what_is_opened_to_everybody_is_told_of() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = server.client();
    let mut bob = server.client_of("bob@test");
    bob.ok("CREATE Board");
    ann.ok("NOTIFY SET (mailboxes \"Other Users/bob@test/Board\" (MailboxName))");
    bob.ok("SETACL Board anyone lr");
    assert_eq!(
        ann.response().text,
        "* LIST (\\HasNoChildren) \"/\" \"Other Users/bob@test/Board\""
    );
    bob.ok("DELETEACL Board anyone");
    assert_eq!(
        ann.response().text,
        "* LIST (\\NonExistent \\HasNoChildren) \"/\" \"Other Users/bob@test/Board\""
    );
}

#[test]
fn nothing_of_another_account_is_told_after_unauthenticate() {
    let server = Server::start();
    server.add("bob@test");
    let mut client = server.client();
    client.ok("NOTIFY SET (personal (MailboxName MessageNew MessageExpunge))");
    client.ok("UNAUTHENTICATE");
    let mut other = server.client();
    other.ok("CREATE secret");
    other.fill("secret", 1);
    assert!(client.texts("NOOP").is_empty());
    client.ok("LOGIN bob@test secret");
    assert!(client.texts("NOOP").is_empty());
}
