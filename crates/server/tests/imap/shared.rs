//! Mailboxes of other accounts, and public ones.

use nightmail_core::Address;
use nightmail_directory::{NewAccount, Quota};
use nightmail_store::Rights;

use crate::harness::Server;

const INBOX: &str = "\"Other Users/ann@test/INBOX\"";

fn server() -> Server {
    let server = Server::start();
    server.add("bob@test");
    server.add("eve@elsewhere.test");
    server
}

#[test]
fn a_shared_mailbox_is_read_and_changed_as_an_own_one() {
    let server = server();
    let mut ann = server.selected("INBOX");
    ann.fill("INBOX", 2);
    ann.ok("STORE 1 +FLAGS (of-ann)");
    ann.ok("SETACL INBOX bob@test lrswite");
    let mut bob = server.client_of("bob@test");
    bob.ok("SELECT INBOX");
    bob.fill("INBOX", 1);
    bob.ok("STORE 1 +FLAGS (of-bob)");
    bob.ok(&format!("SELECT {INBOX}"));
    assert_eq!(
        bob.texts("FETCH 1 (FLAGS BODY.PEEK[HEADER.FIELDS (Subject)])")
            .len(),
        1
    );
    assert_eq!(
        bob.texts("FETCH 1 FLAGS"),
        ["* 1 FETCH (FLAGS (of-ann \\Recent))"]
    );
    bob.ok("STORE 2 +FLAGS (both \\Seen)");
    let told = ann.texts("NOOP");
    assert!(
        told.iter()
            .any(|text| text.starts_with("* 2 FETCH") && text.contains("(\\Seen both")),
        "{told:?}"
    );
    let appended = bob.append(INBOX, b"Subject: from bob\r\n\r\n");
    assert!(appended.last().unwrap().text.starts_with("OK [APPENDUID"));
    assert_eq!(bob.texts("NOOP"), Vec::<String>::new());
    assert_eq!(bob.texts("SEARCH SUBJECT \"from bob\""), ["* SEARCH 3"]);
    bob.ok("STORE 1 +FLAGS (\\Deleted)");
    bob.ok("EXPUNGE");
    let told = ann.texts("NOOP");
    assert!(told.contains(&"* 1 EXPUNGE".to_owned()), "{told:?}");
}

#[test]
fn messages_go_from_one_account_to_another() {
    let server = server();
    let mut ann = server.selected("INBOX");
    ann.fill("INBOX", 3);
    ann.ok("STORE 1:3 +FLAGS (\\Seen \\Flagged word)");
    let mut bob = server.client_of("bob@test");
    bob.ok("SETACL INBOX ann@test lrsite");
    let theirs = "\"Other Users/bob@test/INBOX\"";
    assert!(
        ann.tagged(&format!("COPY 1 {theirs}"))
            .starts_with("OK [COPYUID")
    );
    assert!(
        ann.command(&format!("MOVE 2 {theirs}"))
            .last()
            .unwrap()
            .text
            .starts_with("OK")
    );
    bob.ok("SELECT INBOX");
    // Ann may set \Seen there and neither other flags nor keywords.
    assert_eq!(
        bob.texts("FETCH 1:* (UID FLAGS)"),
        [
            "* 1 FETCH (UID 1 FLAGS (\\Seen \\Recent))",
            "* 2 FETCH (UID 2 FLAGS (\\Seen \\Recent))"
        ]
    );
    bob.ok("SETACL INBOX ann@test lrswit");
    ann.ok(&format!("COPY 1 {theirs}"));
    bob.ok("NOOP");
    let news = bob.texts("FETCH 3 FLAGS");
    assert!(
        news.last()
            .unwrap()
            .contains("\\Flagged \\Seen \\Recent word")
            || news.last().unwrap().contains("word"),
        "{news:?}"
    );
    let store = &server.services.store;
    let usage = server
        .runtime
        .block_on(store.usage(server.account))
        .unwrap();
    assert_eq!(usage.messages, 2);
}

#[test]
fn the_owner_pays() {
    let server = server();
    let quota = Quota {
        messages: Some(1),
        ..Quota::UNLIMITED
    };
    server.add_as(NewAccount {
        quota: Some(quota),
        ..NewAccount::at(Address::parse("poor@test").unwrap())
    });
    let mut poor = server.client_of("poor@test");
    poor.ok("SETACL INBOX ann@test lrsi");
    let mut ann = server.selected("INBOX");
    ann.fill("INBOX", 2);
    let theirs = "\"Other Users/poor@test/INBOX\"";
    ann.ok(&format!("COPY 1 {theirs}"));
    assert!(
        ann.tagged(&format!("COPY 2 {theirs}"))
            .starts_with("NO [OVERQUOTA]")
    );
    let refused = ann.append(theirs, b"A: b\r\n\r\n");
    assert!(refused.last().unwrap().text.starts_with("NO [OVERQUOTA]"));
    assert_eq!(
        ann.texts(&format!("GETQUOTAROOT {theirs}")),
        [
            format!("* QUOTAROOT {theirs} \"poor@test\""),
            "* QUOTA \"poor@test\" (MESSAGE 1 1)".to_owned()
        ]
    );
}

#[test]
fn idle_tells_of_a_shared_mailbox() {
    let server = server();
    let mut ann = server.client();
    ann.ok("SETACL INBOX bob@test lr");
    let mut bob = server.client_of("bob@test");
    bob.ok(&format!("SELECT {INBOX}"));
    let tag = bob.begin(b"IDLE");
    assert!(bob.response().text.starts_with('+'));
    ann.fill("INBOX", 1);
    assert_eq!(bob.response().text, "* 1 EXISTS");
    bob.send(b"DONE\r\n");
    bob.finish(&tag);
}

#[test]
fn mailboxes_are_made_below_those_of_others() {
    let server = server();
    let mut ann = server.client();
    ann.ok("CREATE Team");
    ann.ok("SETACL Team bob@test lrk");
    let mut bob = server.client_of("bob@test");
    bob.ok("CREATE \"Other Users/ann@test/Team/2025\"");
    assert!(ann.texts("LIST \"\" Team/*")[0].ends_with(" Team/2025"));
    for refused in [
        "CREATE \"Other Users/ann@test/Mine\"",
        "CREATE \"Other Users/zoe@test/Mine\"",
        "CREATE \"Other Users/ann@test\"",
        "CREATE \"Other Users\"",
        "CREATE Public/x",
        "RENAME Junk \"Other Users/ann@test/Junk2\"",
    ] {
        assert!(bob.tagged(refused).starts_with("NO [NOPERM]"), "{refused}");
    }
    let moved = bob.tagged("RENAME Junk \"Other Users/ann@test/Team/Junk\"");
    assert!(moved.starts_with("NO [CANNOT]"), "{moved}");
}

#[test]
fn anyone_means_the_domain_and_no_other() {
    let server = server();
    let mut ann = server.client();
    ann.ok("SETACL INBOX anyone lr");
    server.client_of("bob@test").ok(&format!("EXAMINE {INBOX}"));
    let mut eve = server.client_of("eve@elsewhere.test");
    assert!(
        eve.tagged(&format!("EXAMINE {INBOX}"))
            .starts_with("NO [NONEXISTENT]")
    );
    assert!(eve.texts("LIST \"\" \"Other Users/*\"").is_empty());
    ann.ok("SETACL INBOX eve@elsewhere.test lr");
    eve.ok(&format!("EXAMINE {INBOX}"));
}

#[test]
fn public_accounts_show_their_mailboxes_to_the_domain() {
    let server = server();
    let info = server.add_as(NewAccount {
        public: true,
        ..NewAccount::at(Address::parse("info@test").unwrap())
    });
    let mut owner = server.client_of("info@test");
    owner.fill("INBOX", 1);
    owner.ok("SETACL INBOX anyone lr");
    let mut bob = server.client_of("bob@test");
    assert_eq!(bob.texts("STATUS Public/info/INBOX (MESSAGES)").len(), 1);
    let listed = bob.texts("LIST \"\" Public/*");
    assert!(
        listed
            .iter()
            .any(|text| text.ends_with(" Public/info/INBOX")),
        "{listed:?}"
    );
    assert!(bob.texts("LIST \"\" \"Other Users/*\"").is_empty());
    let by_owner = bob.tagged("EXAMINE \"Other Users/info@test/INBOX\"");
    assert!(by_owner.starts_with("NO [NONEXISTENT]"), "{by_owner}");
    let private = bob.tagged("EXAMINE Public/info/Sent");
    assert!(private.starts_with("NO [NONEXISTENT]"), "{private}");
    let mut eve = server.client_of("eve@elsewhere.test");
    assert!(
        eve.tagged("EXAMINE Public/info/INBOX")
            .starts_with("NO [NONEXISTENT]")
    );
    let mailbox = server
        .runtime
        .block_on(server.services.store.inbox(info))
        .unwrap();
    let rights = server
        .services
        .store
        .rights_of(mailbox, server.account, true);
    assert_eq!(
        server.runtime.block_on(rights).unwrap(),
        Rights::LOOKUP | Rights::READ
    );
}

#[test]
fn an_own_mailbox_named_as_a_namespace_is_still_reached() {
    let server = server();
    let name = nightmail_store::MailboxName::parse("Public/old").unwrap();
    let store = &server.services.store;
    let made = store.create_mailbox(server.account, name, None);
    server.runtime.block_on(made).unwrap();
    let mut ann = server.client();
    ann.ok("SELECT Public/old");
    ann.ok("RENAME Public/old Old");
    ann.ok("SELECT Old");
}
