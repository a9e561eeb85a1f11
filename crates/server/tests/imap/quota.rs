//! Quota (RFC 9208).

use nightmail_core::Address;
use nightmail_directory::{NewAccount, Quota};

use crate::harness::Server;

#[test]
fn roots_are_told_with_what_is_used() {
    let server = Server::with_quota(Quota {
        bytes: Some(10 * 1024),
        messages: Some(3),
        mailboxes: Some(7),
    });
    let mut client = server.client();
    let message = vec![b'x'; 1500];
    client.append("INBOX", &message);
    let root = "* QUOTA \"ann@test\" (STORAGE 2 10 MESSAGE 1 3 MAILBOX 6 7)";
    assert_eq!(
        client.texts("GETQUOTAROOT INBOX"),
        ["* QUOTAROOT INBOX \"ann@test\"", root]
    );
    assert_eq!(client.texts("GETQUOTA ann@test"), [root]);
    assert_eq!(client.texts("GETQUOTA \"\""), [root]);
    assert!(
        client
            .tagged("GETQUOTAROOT none")
            .starts_with("NO [NONEXISTENT]")
    );
}

#[test]
fn without_bounds_there_is_no_root() {
    let server = Server::start();
    let mut client = server.client();
    assert_eq!(client.texts("GETQUOTAROOT INBOX"), ["* QUOTAROOT INBOX"]);
    assert_eq!(
        client.texts("GETQUOTA \"\""),
        ["* QUOTA \"ann@test\" (STORAGE 0 9223372036854775807)"]
    );
}

#[test]
fn mailboxes_are_bounded_with_those_above_them() {
    let server = Server::with_quota(Quota {
        mailboxes: Some(8),
        ..Quota::UNLIMITED
    });
    let mut client = server.client();
    assert!(client.tagged("CREATE a/b/c").starts_with("NO [OVERQUOTA]"));
    assert!(client.texts("LIST \"\" a*").is_empty());
    client.ok("CREATE a/b");
    assert!(client.tagged("CREATE c").starts_with("NO [OVERQUOTA]"));
    client.ok("DELETE a/b");
    client.ok("CREATE c");
}

#[test]
fn only_administrators_set_quota_and_see_that_of_others() {
    let server = Server::start();
    server.add_as(NewAccount {
        admin: true,
        ..NewAccount::at(Address::parse("root@test").unwrap())
    });
    let mut ann = server.client();
    for refused in [
        "SETQUOTA \"\" (STORAGE 1)",
        "SETQUOTA ann@test (STORAGE 1)",
        "GETQUOTA root@test",
        "GETQUOTA nobody@test",
    ] {
        assert!(ann.tagged(refused).starts_with("NO [NOPERM]"), "{refused}");
    }
    let mut root = server.client_of("root@test");
    assert_eq!(
        root.texts("SETQUOTA ann@test (STORAGE 2 MESSAGE 5)"),
        ["* QUOTA \"ann@test\" (STORAGE 0 2 MESSAGE 0 5)"]
    );
    let refused = ann.append("INBOX", &[b'x'; 3000]);
    assert!(refused.last().unwrap().text.starts_with("NO [OVERQUOTA]"));
    assert_eq!(
        root.texts("SETQUOTA ann@test (MAILBOX 9)"),
        ["* QUOTA \"ann@test\" (MAILBOX 6 9)"]
    );
    let taken = ann.append("INBOX", &[b'x'; 3000]);
    assert!(taken.last().unwrap().text.starts_with("OK"));
    root.ok("SETQUOTA ann@test ()");
    assert_eq!(ann.texts("GETQUOTAROOT INBOX"), ["* QUOTAROOT INBOX"]);
    assert!(
        root.tagged("SETQUOTA ann@test (FOO 1)")
            .starts_with("NO [CANNOT]")
    );
    assert!(
        root.tagged("GETQUOTA nobody@test")
            .starts_with("NO [NONEXISTENT]")
    );
}
