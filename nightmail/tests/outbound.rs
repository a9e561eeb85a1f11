//! Mail for other sites, from submission to the host that takes or refuses it, and what the sender and the
//! operator are told.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::Ipv4Addr;

use common::dns::NameServer;
use common::sink::{Received, Sink};
use common::site::own_addresses;
use common::tools::private_file;
use common::{Imap, Service, Site, Smtp, eventually, message, text};

/// A server, a name server and a mail host of remote.test.
struct World {
    site: Site,
    sink: Sink,
    dns: NameServer,
}

impl World {
    fn new(settings: &str) -> Self {
        let (ip, port) = own_addresses();
        let sink = Sink::start(ip, port);
        let dns = NameServer::start();
        dns.mx("remote.test", 10, "mx.remote.test")
            .host("mx.remote.test", ip);
        let delivery = format!("[delivery]\nport = {port}\n{}{settings}", dns.setting());
        Self {
            site: Site::started(&delivery),
            sink,
            dns,
        }
    }

    /// A connection as alice.
    fn submission(&self) -> Smtp {
        let mut smtp = Smtp::connect(self.site.address(Service::Submission)).unwrap();
        // NUL alice NUL demo
        assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
        smtp
    }

    /// Alice submits a message with parameters of MAIL and RCPT.
    fn submit_with(&self, subject: &str, mail: &str, rcpts: &[&str]) {
        let mut smtp = self.submission();
        let mail = format!("MAIL FROM:<alice@example.test> {mail}");
        let rcpts = rcpts.iter().map(|rcpt| format!("RCPT TO:{rcpt}"));
        for command in [mail].into_iter().chain(rcpts) {
            let reply = smtp.say(command.trim_end()).unwrap();
            assert_eq!(reply.code, 250, "{command}: {reply:?}");
        }
        assert_eq!(smtp.say("DATA").unwrap().code, 354);
        let sent = message(subject, "the body");
        smtp.lines.write(&common::smtp::stuff(&sent)).unwrap();
        let reply = smtp.reply().unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    /// Alice submits a message.
    fn submit(&self, subject: &str, to: &[&str]) -> Vec<u8> {
        let sent = message(subject, "far away\n.dot");
        let mut smtp = self.submission();
        let reply = smtp.send("alice@example.test", to, &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
        sent
    }

    fn received(&self, count: usize) -> Vec<Received> {
        eventually("the host gets the message", || {
            let received = self.sink.received();
            (received.len() >= count).then_some(received)
        })
    }

    /// The messages in alice's inbox once there are so many.
    fn inbox(&self, count: usize) -> Vec<String> {
        eventually("alice gets mail", || {
            let mut imap = alice(&self.site);
            let bodies = imap.bodies("").unwrap();
            (bodies.len() >= count).then(|| bodies.iter().map(|(_, body)| text(body)).collect())
        })
    }

    fn queue(&self) -> Vec<serde_json::Value> {
        entries(&self.site.admin(&["queue", "list"]))
    }
}

fn alice(site: &Site) -> Imap {
    Imap::open(site.address(Service::Imap), "alice", "demo", "INBOX").unwrap()
}

/// The entries of a queue listing.
fn entries(listed: &serde_json::Value) -> Vec<serde_json::Value> {
    listed["items"]
        .as_array()
        .unwrap_or_else(|| panic!("{listed}"))
        .clone()
}

#[test]
fn submitted_mail_leaves_by_the_mail_exchanger() {
    let mut world = World::new("");
    let sent = world.submit(
        "out-mx",
        &["one@remote.test", "two@remote.test", "bob@example.test"],
    );
    let received = world.received(1);
    assert_eq!(
        received.len(),
        1,
        "recipients of one host share a transaction"
    );
    assert!(
        received[0]
            .mail
            .starts_with("MAIL FROM:<alice@example.test>"),
        "{received:?}"
    );
    let rcpts: Vec<&str> = received[0]
        .rcpts
        .iter()
        .map(|line| line.split(' ').nth(1).unwrap())
        .collect();
    assert_eq!(rcpts, ["TO:<one@remote.test>", "TO:<two@remote.test>"]);
    assert!(received[0].content.ends_with(&sent));
    let header = text(&received[0].content);
    assert!(header.starts_with("Received: from client.test"), "{header}");
    eventually("the queue is empty", || {
        world.queue().is_empty().then_some(())
    });
    let mut bob = Imap::open(world.site.address(Service::Imap), "bob", "demo", "INBOX").unwrap();
    assert_eq!(bob.bodies("").unwrap().len(), 1);
    world.site.stop();
}

#[test]
fn a_recipient_that_the_host_refuses_is_reported_to_the_sender() {
    let mut world = World::new("");
    world.sink.answer("550 5.1.1 no such user here");
    world.submit("out-refused", &["nobody@remote.test"]);
    let report = world.inbox(1).remove(0);
    for part in [
        "Return-Path: <>\r\n",
        "multipart/report",
        "message/delivery-status",
        "Final-Recipient: rfc822;",
        "nobody@remote.test",
        "Action: failed\r\n",
        "Status: 5.1.1\r\n",
        "no such user here",
        "Subject: out-refused\r\n",
    ] {
        assert!(
            report.contains(part),
            "{part:?} is not in the report:\n{report}"
        );
    }
    eventually("the queue is empty", || {
        world.queue().is_empty().then_some(())
    });
    world.site.stop();
}

#[test]
fn a_domain_that_does_not_exist_is_reported_to_the_sender() {
    let mut world = World::new("");
    world.submit("out-nowhere", &["someone@nowhere.test"]);
    let report = world.inbox(1).remove(0);
    assert!(report.contains("someone@nowhere.test"), "{report}");
    assert!(report.contains("Status: 5."), "{report}");
    world.site.stop();
}

#[test]
fn a_deferred_message_is_listed_and_leaves_when_told_to() {
    let mut world = World::new("");
    world.sink.answer("451 4.7.1 not now");
    let sent = world.submit("out-later", &["one@remote.test"]);
    let entry = eventually("the message is deferred", || {
        let entry = world.queue().into_iter().next()?;
        entry["recipients"][0]["last"].is_string().then_some(entry)
    });
    assert_eq!(entry["from"], "alice@example.test");
    let recipient = &entry["recipients"][0];
    assert_eq!(recipient["address"], "one@remote.test");
    assert_eq!(recipient["state"], "pending");
    assert_eq!(recipient["attempts"], 1);
    assert!(
        recipient["last"].as_str().unwrap().contains("not now"),
        "{entry}"
    );
    assert!(recipient["next_attempt"].is_string(), "{entry}");
    let id = entry["id"].as_str().unwrap();
    assert!(
        world
            .site
            .admin(&["queue", "show", id])
            .to_string()
            .contains("not now")
    );

    // A restart forgets nothing, and does not try before the time.
    world.site.stop();
    world.site.start();
    assert_eq!(world.queue().len(), 1);
    assert_eq!(world.sink.attempts(), 1);

    world.sink.answer("250 2.1.5 Ok");
    world.site.admin(&["queue", "retry", id]);
    assert!(world.received(1)[0].content.ends_with(&sent));
    eventually("the queue is empty", || {
        world.queue().is_empty().then_some(())
    });
    assert!(
        alice(&world.site).bodies("").unwrap().is_empty(),
        "a delay is no failure"
    );
    world.site.stop();
}

#[test]
fn a_removed_message_is_never_sent() {
    let mut world = World::new("");
    world.sink.answer("451 4.7.1 not now");
    world.submit("out-removed", &["one@remote.test"]);
    let entry = eventually("the message is deferred", || {
        let entry = world.queue().into_iter().next()?;
        entry["recipients"][0]["last"].is_string().then_some(entry)
    });
    world
        .site
        .admin(&["queue", "remove", entry["id"].as_str().unwrap()]);
    world.sink.answer("250 2.1.5 Ok");
    world.site.admin(&["queue", "retry", "--all"]);
    assert!(world.queue().is_empty());
    // A later message that arrives shows that the earlier one was not waiting before it.
    world.submit("out-after", &["one@remote.test"]);
    let received = world.received(1);
    assert_eq!(received.len(), 1);
    assert!(text(&received[0].content).contains("Subject: out-after"));
    world.site.stop();
}

#[test]
fn short_waits_bring_a_deferred_message_to_its_end() {
    let mut world = World::new("retry_waits = [\"1s\"]\n");
    world.sink.answer("451 4.7.1 not now");
    world.submit("out-waits", &["one@remote.test"]);
    eventually("three attempts", || {
        (world.sink.attempts() >= 3).then_some(())
    });
    world.sink.answer("250 2.1.5 Ok");
    assert_eq!(world.received(1).len(), 1);
    world.site.stop();
}

#[test]
fn the_next_mail_exchanger_is_tried_where_the_first_is_down() {
    let mut world = World::new("");
    let (nobody, _) = own_addresses();
    let down = Ipv4Addr::from(u32::from(nobody) ^ 0x0080_0000);
    world
        .dns
        .mx("two.test", 10, "down.two.test")
        .mx("two.test", 20, "mx.remote.test");
    world.dns.host("down.two.test", down);
    world.submit("out-second", &["one@two.test"]);
    assert_eq!(world.received(1).len(), 1);
    world.site.stop();
}

#[test]
fn a_smarthost_takes_all_mail_after_a_login() {
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let dns = NameServer::start();
    let secrets = common::site::private_dir();
    let password = private_file(&secrets.path().join("password"), "secret\n");
    let settings = format!(
        "[smarthost]\naddress = \"{ip}:{port}\"\ntls = \"none\"\nuser = \"relay\"\npassword_file = \"{}\"\n[delivery]\n{}",
        password.display(),
        dns.setting()
    );
    let mut world = World {
        site: Site::started(&settings),
        sink,
        dns,
    };
    let sent = world.submit("out-smart", &["a@one.test", "b@two.test"]);
    let received = world.received(1);
    let rcpts: usize = received.iter().map(|received| received.rcpts.len()).sum();
    assert_eq!(rcpts, 2, "{received:?}");
    assert!(received[0].content.ends_with(&sent));
    // NUL relay NUL secret
    assert_eq!(received[0].auth.as_deref(), Some("AHJlbGF5AHNlY3JldA=="));
    world.site.stop();
}

#[test]
fn what_the_sender_asks_travels_to_a_host_that_can_do_it() {
    let mut world = World::new("");
    world.sink.offer(&["DSN", "MT-PRIORITY", "DELIVERBY 10"]);
    world.submit_with(
        "out-asked",
        "RET=HDRS ENVID=QQ+2B1 MT-PRIORITY=4 BY=3600;RT",
        &["<one@remote.test> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bp@remote.test"],
    );
    let received = world.received(1).remove(0);
    for part in [" RET=HDRS", " ENVID=QQ+2B1", " MT-PRIORITY=4", ";RT"] {
        assert!(received.mail.contains(part), "{}", received.mail);
    }
    assert!(text(&received.content).contains("\tPRIORITY 4;"));
    let left = received.mail.split(" BY=").nth(1).unwrap();
    let left: u32 = left.split(';').next().unwrap().parse().unwrap();
    assert!((3000..=3600).contains(&left), "{}", received.mail);
    assert!(
        received.rcpts[0].ends_with(" NOTIFY=SUCCESS,DELAY ORCPT=rfc822;o+2Bp@remote.test"),
        "{:?}",
        received.rcpts
    );
    // The trace is asked for, so the step is reported; the delivery is the other host's to report.
    let report = world.inbox(1).remove(0);
    assert!(report.contains("Action: relayed\r\n"), "{report}");
    world.site.stop();
}

#[test]
fn a_wanted_success_is_reported_as_relayed_by_a_host_that_reports_nothing() {
    let mut world = World::new("");
    world.submit_with(
        "out-relayed",
        "ENVID=QQ+2B1",
        &[
            "<one@remote.test> NOTIFY=SUCCESS",
            "<two@remote.test> NOTIFY=NEVER",
        ],
    );
    let report = world.inbox(1).remove(0);
    for part in [
        "Original-Envelope-Id: QQ+1\r\n",
        "Final-Recipient: rfc822; one@remote.test\r\n",
        "Action: relayed\r\n",
        "Status: 2.",
        "Subject: out-relayed\r\n",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
    assert!(!report.contains("two@remote.test") && !report.contains("the body"));
    world.site.stop();
}

#[test]
fn mail_that_must_come_back_in_time_comes_back_from_a_host_that_keeps_none() {
    let mut world = World::new("");
    world.submit_with("out-by", "BY=3600;R", &["<one@remote.test>"]);
    let report = world.inbox(1).remove(0);
    assert!(report.contains("Status: 5.3.3\r\n"), "{report}");
    assert!(world.sink.received().is_empty());
    world.site.stop();
}

#[test]
fn held_mail_survives_a_kill_and_leaves_whole_when_told_to() {
    let mut world = World::new("[submission]\nhold_max = \"1d\"\n");
    world.submit_with(
        "out-held",
        "HOLDFOR=7200 MT-PRIORITY=-3",
        &["<one@remote.test>", "<bob@example.test> NOTIFY=SUCCESS"],
    );
    world.site.kill();
    world.site.start();
    let entry = world.queue().remove(0);
    let id = entry["id"].as_str().unwrap().to_owned();
    assert!(entry["held_until"].is_string(), "{entry}");
    assert_eq!(entry["priority"], -3);
    assert_eq!(entry["recipients"].as_array().unwrap().len(), 2);
    let shown = world
        .site
        .command(&["queue", "show", &id])
        .output()
        .unwrap();
    let shown = text(&shown.stdout);
    assert!(shown.contains("held until"), "{shown}");
    assert_eq!(world.sink.attempts(), 0);

    world.site.admin(&["queue", "retry", &id]);
    let received = world.received(1).remove(0);
    assert!(text(&received.content).contains("Subject: out-held\r\n"));
    assert_eq!(received.rcpts.len(), 1);
    let report = world.inbox(1).remove(0);
    assert!(report.contains("Action: delivered\r\n"), "{report}");
    let mut bob = Imap::open(world.site.address(Service::Imap), "bob", "demo", "INBOX").unwrap();
    assert_eq!(bob.bodies("").unwrap().len(), 1);
    eventually("the queue is empty", || {
        world.queue().is_empty().then_some(())
    });
    world.site.stop();
}

#[test]
fn held_mail_leaves_at_its_time() {
    let mut world = World::new("[submission]\nhold_max = \"1d\"\n");
    world.submit_with("out-soon", "HOLDFOR=2", &["<one@remote.test>"]);
    let received = world.received(1).remove(0);
    assert!(text(&received.content).contains("Subject: out-soon\r\n"));
    world.site.stop();
}

#[test]
fn binary_mail_goes_in_chunks_or_comes_back() {
    // What the host offers changes between the two messages, and that is heard on a new connection only.
    let mut world = World::new("idle = \"0s\"\n");
    let sent = b"Subject: out-binary\r\n\r\n\0\n.\r\nend";
    let mut smtp = world.submission();
    let reply = smtp.send_binary("alice@example.test", "one@remote.test", sent);
    assert_eq!(reply.unwrap().code, 250);
    let report = world.inbox(1).remove(0);
    assert!(report.contains("Status: 5.6."), "{report}");
    world.sink.offer(&["CHUNKING", "BINARYMIME"]);
    let reply = smtp.send_binary("alice@example.test", "one@remote.test", sent);
    assert_eq!(reply.unwrap().code, 250);
    let received = world.received(1).remove(0);
    assert!(
        received.mail.contains("BODY=BINARYMIME"),
        "{}",
        received.mail
    );
    assert!(received.content.ends_with(b"\0\n.\r\nend"));
    world.site.stop();
}
