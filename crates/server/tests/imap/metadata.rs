//! Annotations (RFC 5464).

use nightmail_core::Address;
use nightmail_directory::NewAccount;

use crate::harness::Server;

#[test]
fn annotations_are_kept_until_they_are_taken_away() {
    let server = Server::start();
    let mut client = server.client();
    client.ok(
        "SETMETADATA INBOX (/private/Comment \"mine\" /shared/comment {5+}\r\na\r\nb\0)"
            .replace('\0', "c")
            .as_str(),
    );
    let told = client.ok("GETMETADATA INBOX (/private/comment /shared/comment)");
    assert_eq!(told.len(), 1);
    assert!(
        told[0]
            .text
            .starts_with("* METADATA INBOX (/private/comment \"mine\" /shared/comment {5}")
    );
    assert_eq!(told[0].literal(), b"a\r\nbc");
    client.ok("SETMETADATA INBOX (/private/comment NIL)");
    assert_eq!(
        client.texts("GETMETADATA INBOX /private/comment"),
        ["* METADATA INBOX (/private/comment NIL)"]
    );
    client.ok("CREATE Box");
    client.ok("SETMETADATA Box (/private/comment \"\")");
    client.ok("RENAME Box Case");
    assert_eq!(
        client.texts("GETMETADATA Case /private/comment"),
        ["* METADATA Case (/private/comment \"\")"]
    );
    client.ok("DELETE Case");
    client.ok("CREATE Case");
    assert_eq!(
        client.texts("GETMETADATA Case /private/comment"),
        ["* METADATA Case (/private/comment NIL)"]
    );
    assert!(
        client
            .tagged("GETMETADATA none /private/comment")
            .starts_with("NO [NONEXISTENT]")
    );
}

#[test]
fn depth_and_size_bound_what_is_told() {
    let server = Server::start();
    let mut client = server.client();
    client.ok("SETMETADATA INBOX (/private/a \"1\" /private/a/b \"22\" /private/a/b/c \"333\" /private/ab \"4\")");
    assert_eq!(
        client.texts("GETMETADATA (DEPTH 1) INBOX /private/a"),
        ["* METADATA INBOX (/private/a \"1\" /private/a/b \"22\")"]
    );
    assert_eq!(
        client.texts("GETMETADATA (DEPTH infinity) INBOX /private/a"),
        ["* METADATA INBOX (/private/a \"1\" /private/a/b \"22\" /private/a/b/c \"333\")"]
    );
    let responses = client.command("GETMETADATA (DEPTH infinity MAXSIZE 1) INBOX /private");
    assert_eq!(
        responses[0].text,
        "* METADATA INBOX (/private/a \"1\" /private/ab \"4\")"
    );
    assert!(responses[1].text.starts_with("OK [METADATA LONGENTRIES 3]"));
}

#[test]
fn there_may_be_only_so_much() {
    let server = Server::start();
    let mut client = server.client();
    let long = "x".repeat(32 * 1024 + 1);
    let refused = client.tagged(&format!(
        "SETMETADATA INBOX (/private/comment {{{}+}}\r\n{long})",
        long.len()
    ));
    assert!(
        refused.starts_with("NO [METADATA MAXSIZE 32768]"),
        "{refused}"
    );
    for hundred in 0..10 {
        let values: Vec<String> = (0..10)
            .map(|n| format!("/private/n{hundred}{n} \"v\""))
            .collect();
        client.ok(&format!("SETMETADATA INBOX ({})", values.join(" ")));
    }
    let refused = client.tagged("SETMETADATA INBOX (/private/more \"v\")");
    assert!(refused.starts_with("NO [METADATA TOOMANY]"), "{refused}");
    client.ok("SETMETADATA INBOX (/private/n00 \"changed\")");
    client.ok("SETMETADATA INBOX (/private/n00 NIL)");
    client.ok("SETMETADATA INBOX (/private/more \"v\")");
    assert!(
        client
            .tagged("SETMETADATA INBOX (/private \"v\")")
            .starts_with("NO [CANNOT]")
    );
}

#[test]
fn private_annotations_are_each_accounts_own() {
    let server = Server::start();
    server.add("bob@test");
    let mut ann = server.client();
    let mut bob = server.client_of("bob@test");
    let theirs = "\"Other Users/ann@test/INBOX\"";
    ann.ok("SETMETADATA INBOX (/private/comment \"of ann\" /shared/comment \"of all\")");
    assert!(
        bob.tagged(&format!("GETMETADATA {theirs} /shared/comment"))
            .starts_with("NO [NONEXISTENT]")
    );
    ann.ok("SETACL INBOX bob@test l");
    assert!(
        bob.tagged(&format!("GETMETADATA {theirs} /shared/comment"))
            .starts_with("NO [NOPERM]")
    );
    ann.ok("SETACL INBOX bob@test lr");
    assert_eq!(
        bob.texts(&format!(
            "GETMETADATA {theirs} (/private/comment /shared/comment)"
        )),
        [format!(
            "* METADATA {theirs} (/shared/comment \"of all\" /private/comment NIL)"
        )]
    );
    bob.ok(&format!(
        "SETMETADATA {theirs} (/private/comment \"of bob\")"
    ));
    assert_eq!(
        ann.texts("GETMETADATA INBOX /private/comment"),
        ["* METADATA INBOX (/private/comment \"of ann\")"]
    );
    assert!(
        bob.tagged(&format!("SETMETADATA {theirs} (/shared/comment \"x\")"))
            .starts_with("NO [NOPERM]")
    );
}

#[test]
fn the_server_has_annotations_that_only_administrators_share() {
    let server = Server::start();
    server.add_as(NewAccount {
        admin: true,
        ..NewAccount::at(Address::parse("root@test").unwrap())
    });
    let mut ann = server.client();
    let mut root = server.client_of("root@test");
    assert!(
        ann.tagged("SETMETADATA \"\" (/shared/comment \"x\")")
            .starts_with("NO [NOPERM]")
    );
    ann.ok("SETMETADATA \"\" (/private/comment \"mine\")");
    root.ok("SETMETADATA \"\" (/shared/comment \"closed on Sunday\" /shared/admin \"mailto:root@test\")");
    assert_eq!(
        ann.texts("GETMETADATA \"\" (/shared/comment /shared/admin /private/comment)"),
        [
            "* METADATA \"\" (/private/comment \"mine\" /shared/admin \"mailto:root@test\" /shared/comment \"closed on Sunday\")"
        ]
    );
    assert_eq!(
        root.texts("GETMETADATA \"\" /private/comment"),
        ["* METADATA \"\" (/private/comment NIL)"]
    );
}
