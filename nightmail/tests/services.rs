//! What is done with mail beyond keeping it, with the built program: sending it on, answering it, breaking it apart,
//! keeping what was sent, full mailboxes, and deleted messages that come back.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::dns::NameServer;
use common::sink::Sink;
use common::site::own_addresses;
use common::{Imap, Service, Site, Smtp, eventually, message, text};

const ALICE: &str = "alice@example.test";
const BOB: &str = "bob@example.test";

/// The messages of a folder, without their prefixes' order mattering.
fn folder(site: &Site, user: &str, name: &str) -> Vec<String> {
    let mut imap = Imap::open(site.address(Service::Imap), user, "demo", name).unwrap();
    let bodies = imap.bodies("").unwrap_or_default();
    bodies.into_iter().map(|(_, body)| text(&body)).collect()
}

fn inbox(site: &Site, user: &str) -> Vec<String> {
    folder(site, user, "INBOX")
}

/// Hands a message in as another site does.
fn send(site: &Site, from: &str, to: &str, message: &[u8]) -> u16 {
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    smtp.send(from, &[to], message).unwrap().code
}

#[test]
fn mail_is_sent_on_in_the_accounts_name_and_a_failure_comes_back_to_it_once() {
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let dns = NameServer::start();
    dns.mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let settings = format!("[delivery]\nport = {port}\n{}", dns.setting());
    let site = Site::started(&settings);
    let forward = ["account", "forward", ALICE, "a@remote.test", "--no-copy"];
    site.admin(&forward);
    assert_eq!(send(&site, "s@far.test", ALICE, &message("one", "x")), 250);
    let taken = eventually("the message is sent on", || {
        sink.received().into_iter().next()
    });
    assert!(
        taken.mail.contains("<alice@example.test>"),
        "{}",
        taken.mail
    );
    assert!(text(&taken.content).contains("Delivered-To: alice@example.test\r\n"));
    assert!(inbox(&site, "alice").is_empty());

    // It comes back from there: it has been here, and stays.
    assert_eq!(send(&site, &taken.mail[11..29], ALICE, &taken.content), 250);
    assert_eq!(inbox(&site, "alice").len(), 1);

    sink.answer("550 5.1.1 nobody");
    assert_eq!(send(&site, "s@far.test", ALICE, &message("two", "x")), 250);
    let reports = eventually("the failure is told", || {
        Some(inbox(&site, "alice")).filter(|found| found.len() > 1)
    });
    assert!(
        reports[1].contains("Final-Recipient: rfc822; a@remote.test"),
        "{}",
        reports[1]
    );
    eventually("the report is tried as well, and given up", || {
        let is_empty = site.admin(&["queue", "list"])["items"]
            .as_array()?
            .is_empty();
        (sink.attempts() == 3 && is_empty).then_some(())
    });
    assert_eq!(inbox(&site, "alice").len(), 2);
    assert!(inbox(&site, "bob").is_empty());
}

#[test]
fn two_accounts_that_send_to_each_other_keep_one_copy() {
    let site = Site::started("");
    site.admin(&["account", "forward", ALICE, BOB, "--no-copy"]);
    site.admin(&["account", "forward", BOB, ALICE, "--no-copy"]);
    assert_eq!(send(&site, "s@far.test", ALICE, &message("one", "x")), 250);
    assert_eq!(
        (inbox(&site, "alice").len(), inbox(&site, "bob").len()),
        (0, 1)
    );
    let shown = site.admin(&["account", "forward", ALICE, BOB]);
    assert_eq!(shown["services"]["forward"]["keep_copy"], true);
    assert_eq!(send(&site, "s@far.test", BOB, &message("two", "x")), 250);
    assert_eq!(
        (inbox(&site, "alice").len(), inbox(&site, "bob").len()),
        (1, 1)
    );
    site.admin(&["account", "forward", ALICE]);
    site.admin(&["account", "forward", BOB]);
    assert_eq!(send(&site, "s@far.test", BOB, &message("three", "x")), 250);
    assert_eq!(
        (inbox(&site, "alice").len(), inbox(&site, "bob").len()),
        (1, 2)
    );
}

#[test]
fn people_who_are_away_answer_once_and_not_each_other() {
    let mut site = Site::started("");
    let file = site.dir().join("away.txt");
    std::fs::write(&file, "Back on Monday.\nGrüße\n").unwrap();
    let file = file.to_str().unwrap();
    let on = |user: &str, rest: &[&str]| {
        let mut all = vec!["account", "vacation", user, "on", "--text-file", file];
        all.extend(rest);
        site.admin(&all)
    };
    on(ALICE, &["--subject", "Away", "--days", "3"]);
    let shown = on(BOB, &["--until", "2099-01-01"]);
    assert_eq!(shown["services"]["vacation"]["interval_days"], 7);
    assert_eq!(send(&site, BOB, ALICE, &message("one", "x")), 250);
    let replies = inbox(&site, "bob");
    assert_eq!(replies.len(), 1);
    for part in [
        "Return-Path: <>\r\n",
        "From: <alice@example.test>\r\n",
        "Subject: Away\r\n",
        "In-Reply-To: <one@far.test>\r\n",
        "Auto-Submitted: auto-replied",
        "Back on Monday.\r\nGr=C3=BC=C3=9Fe\r\n",
    ] {
        assert!(
            replies[0].contains(part),
            "{part:?} is not in\n{}",
            replies[0]
        );
    }
    assert_eq!(inbox(&site, "alice").len(), 1);
    // It is remembered, also by a server that has been killed.
    site.kill();
    site.start();
    assert_eq!(send(&site, BOB, ALICE, &message("two", "x")), 250);
    assert_eq!(
        (inbox(&site, "alice").len(), inbox(&site, "bob").len()),
        (2, 1)
    );
    site.admin(&["account", "vacation", ALICE, "off"]);
    site.add_account("carol");
    assert_eq!(
        send(&site, "carol@example.test", ALICE, &message("three", "x")),
        250
    );
    assert!(inbox(&site, "carol").is_empty());
}

#[test]
fn a_full_mailbox_is_told_as_wanted_and_its_owner_is_told_before() {
    let site = Site::started("[mailboxes]\nover_quota = \"refuse\"\nquota_warnings = [50, 90]\n");
    for user in [ALICE, BOB] {
        site.admin(&["quota", "set", user, "--bytes", "100K"]);
    }
    site.admin(&["account", "set", BOB, "--over-quota", "defer"]);
    let large = message("large", &"0123456789abcde\n".repeat(3500));
    assert_eq!(send(&site, "s@far.test", ALICE, &large), 250);
    let found = eventually("a warning", || {
        Some(inbox(&site, "alice")).filter(|found| found.len() > 1)
    });
    assert!(
        found[1].contains("Subject: Your mailbox is 50 % full\r\n"),
        "{}",
        found[1]
    );
    let small = message("small", &"0123456789abcde\n".repeat(2000));
    assert_eq!(send(&site, "s@far.test", ALICE, &small), 250);
    let found = eventually("a second warning", || {
        Some(inbox(&site, "alice")).filter(|found| found.len() > 3)
    });
    assert!(
        found[3].contains("Subject: Your mailbox is 90 % full\r\n"),
        "{}",
        found[3]
    );
    assert_eq!(send(&site, "s@far.test", BOB, &large), 250);
    assert_eq!(send(&site, "s@far.test", ALICE, &large), 552);
    assert_eq!(send(&site, "s@far.test", BOB, &large), 452);
}

#[test]
fn attachments_are_kept_as_the_account_wants_them() {
    let site = Site::started("");
    site.admin(&["account", "attachments", ALICE, "apart"]);
    let whole = "From: s@far.test\r\nTo: alice@example.test\r\nSubject: files\r\nMessage-ID: <f@far.test>\r\n\
        MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\n\r\nsee below\r\n\
        --b\r\nContent-Type: application/pdf; name=a.pdf\r\nContent-Transfer-Encoding: base64\r\n\r\naGVsbG8=\r\n--b--\r\n";
    assert_eq!(send(&site, "s@far.test", ALICE, whole.as_bytes()), 250);
    let found = inbox(&site, "alice");
    assert_eq!(found.len(), 2);
    assert!(found[0].contains("see below\r\n") && !found[0].contains("aGVsbG8="));
    assert!(found[1].contains("References: <f@far.test>\r\n"));
    assert!(found[1].contains("name=a.pdf\r\n") && found[1].contains("aGVsbG8="));
    site.admin(&["account", "attachments", ALICE, "whole"]);
    assert_eq!(send(&site, "s@far.test", ALICE, whole.as_bytes()), 250);
    assert!(inbox(&site, "alice")[2].ends_with(whole));
}

#[test]
fn what_is_submitted_is_kept_where_that_is_wanted() {
    let site = Site::started("");
    let submit = |subject: &str| {
        let mut smtp = Smtp::connect(site.address(Service::Submission)).unwrap();
        // NUL alice NUL demo
        assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
        let reply = smtp.send(ALICE, &[BOB], &message(subject, "x"));
        assert_eq!(reply.unwrap().code, 250);
    };
    submit("one");
    site.admin(&["account", "set", ALICE, "--save-sent"]);
    submit("two");
    let sent = folder(&site, "alice", "Sent");
    assert!(sent.len() == 1 && sent[0].contains("Subject: two\r\n"));
    let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "Sent").unwrap();
    let flags = imap.say("FETCH 1 FLAGS").unwrap();
    assert!(flags.untagged[0].text.contains("\\Seen"), "{flags:?}");
    assert_eq!(inbox(&site, "bob").len(), 2);
}

#[test]
fn deleted_messages_come_back_until_their_time_is_over() {
    let mut site = Site::started("");
    for subject in ["one", "two", "three"] {
        assert_eq!(
            send(&site, "s@far.test", ALICE, &message(subject, "x")),
            250
        );
    }
    let delete = |site: &Site, set: &str| {
        let mut imap = Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap();
        imap.say(&format!("STORE {set} +FLAGS.SILENT (\\Deleted)"))
            .unwrap()
            .ok();
        imap.say("EXPUNGE").unwrap().ok();
    };
    delete(&site, "1:2");
    let listed = site.admin(&["mailbox", "undelete", ALICE, "--list"]);
    assert_eq!(listed["items"].as_array().unwrap().len(), 2);
    assert_eq!(listed["items"][0]["mailbox"], "INBOX");
    assert_eq!(listed["items"][0]["subject"], "one");
    assert_eq!(listed["items"][1]["subject"], "two");
    let later = site.admin(&["mailbox", "undelete", ALICE, "--since", "2099-01-01"]);
    assert!(later["items"].as_array().unwrap().is_empty());
    let back = site.admin(&["mailbox", "undelete", ALICE, "INBOX", "--into", "Trash"]);
    assert_eq!(back["items"].as_array().unwrap().len(), 2);
    let trash = folder(&site, "alice", "Trash");
    assert!(trash.len() == 2 && trash[0].contains("Subject: one\r\n"));
    assert_eq!(inbox(&site, "alice").len(), 1);
    // Once is enough.
    let again = site.admin(&["mailbox", "undelete", ALICE]);
    assert!(again["items"].as_array().unwrap().is_empty());

    delete(&site, "1");
    site.stop();
    let config = std::fs::read_to_string(site.config()).unwrap();
    std::fs::write(
        site.config(),
        format!("{config}[mailboxes]\nundelete_window = \"0s\"\n"),
    )
    .unwrap();
    site.start();
    eventually("what was deleted is purged", || {
        let listed = site.admin(&["mailbox", "undelete", ALICE, "--list"]);
        listed["items"].as_array()?.is_empty().then_some(())
    });
}

#[test]
fn a_folder_says_how_long_it_keeps_its_messages() {
    let site = Site::new("");
    let set = [
        "mailbox",
        "retention",
        ALICE,
        "Trash",
        "--days",
        "30",
        "--keep",
        "5",
    ];
    site.admin(&set);
    let shown = site.admin(&["mailbox", "retention", ALICE, "Trash"]);
    assert_eq!((&shown["days"], &shown["keep"]), (&30.into(), &5.into()));
    let off = site.admin(&["mailbox", "retention", ALICE, "Trash", "--days", "off"]);
    assert_eq!(
        (&off["days"], &off["keep"]),
        (&serde_json::Value::Null, &5.into())
    );
}
