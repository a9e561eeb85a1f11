//! Sender authentication: SPF, DMARC, and what the header says.

use super::common::sink::Sink;
use super::common::site::own_addresses;
use super::common::{eventually, text};
use super::{World, refused};

const ON: [(&str, &str); 5] = [
    ("unclear_author", "\"reject\""),
    ("spf", "\"tag\""),
    ("dkim", "true"),
    ("dmarc", "\"reject\""),
    ("arc", "true"),
];

fn by(author: &str, subject: &str) -> Vec<u8> {
    format!("From: <{author}>\r\nSubject: {subject}\r\n\r\ntext\r\n").into_bytes()
}

#[test]
fn spf_refuses_where_it_is_told_to() {
    let world = World::new(&[], &[("spf", "\"reject\"")], "");
    world.dns.txt(
        "strict.test",
        "v=spf1 ip4:192.0.2.7 exp=why.strict.test -all",
    );
    world.dns.txt("why.strict.test", "Not from %{i}");
    world.dns.txt("soft.test", "v=spf1 ~all");
    world.dns.timeout("slow.test");
    let mut good = world.client("192.0.2.7");
    assert_eq!(world.send(&mut good, "a@strict.test", "good").code, 250);
    let mut bad = world.client("192.0.2.8");
    refused(
        &bad.say("MAIL FROM:<a@strict.test>").unwrap(),
        550,
        "5.7.23 strict.test explains: Not from 192.0.2.8",
    );
    assert_eq!(world.send(&mut bad, "a@soft.test", "soft").code, 250);
    assert!(world.only("alice", "soft").contains("spf-softfail"));
}

#[test]
fn an_spf_record_that_cannot_be_had_defers_only_where_that_is_wanted() {
    let world = World::new(&[], &[("spf", "\"defer\"")], "");
    world.dns.servfail("broken.test");
    world.dns.txt("strict.test", "v=spf1 -all");
    let mut smtp = world.client("192.0.2.8");
    refused(
        &smtp.say("MAIL FROM:<a@broken.test>").unwrap(),
        451,
        "4.4.3",
    );
    refused(
        &smtp.say("MAIL FROM:<a@strict.test>").unwrap(),
        450,
        "4.7.1",
    );
}

#[test]
fn nobody_hides_behind_another_author() {
    let world = World::new(&[], &ON, "");
    world.dns.txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    world.dns.txt("far.test", "v=spf1 +all");
    let mut smtp = world.client("192.0.2.8");
    let long = "X: y\r\n".repeat(50_000);
    let to = ["alice@example.test"];
    for (author, code) in [
        ("From: a@far.test\r\n", 250),
        ("From: Bank a@bank.test <a@far.test>\r\n", 250),
        ("From: a@far.test, a@bank.test\r\n", 550),
        ("From: a@far.test\r\nFrom: a@far.test\r\n", 554),
        ("Sender: a@bank.test\r\n", 554),
        ("From: <a@far.test> <a@bank.test>\r\n", 554),
        ("From: a@bank..test\r\n", 554),
        (
            "From: a@a.test, a@b.test, a@c.test, a@d.test, a@e.test, a@bank.test\r\n",
            554,
        ),
        (
            &format!("From: {}a@bank.test\r\n", "a@far.test,\r\n ".repeat(101)),
            554,
        ),
        (&format!("{long}From: a@bank.test\r\n"), 554),
    ] {
        let message = format!("{author}Subject: hidden\r\n\r\ntext\r\n");
        let reply = smtp.send("a@far.test", &to, message.as_bytes()).unwrap();
        assert_eq!(reply.code, code, "{:.80}: {reply:?}", author);
    }
}

#[test]
fn dmarc_does_what_the_authors_domain_says() {
    let world = World::new(&[], &ON, "");
    world
        .dns
        .txt("bank.test", "v=spf1 ip4:192.0.2.7 -all")
        .txt("_dmarc.bank.test", "v=DMARC1; p=reject");
    world.dns.txt("_dmarc.shop.test", "v=DMARC1; p=quarantine");
    let mut good = world.client("192.0.2.7");
    let to = ["alice@example.test"];
    let reply = good
        .send("a@bank.test", &to, &by("a@bank.test", "true"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let seen = world.only("alice", "true");
    for part in [
        "Authentication-Results: mx.example.test",
        "spf=pass",
        "dmarc=pass",
        "header.from=bank.test",
    ] {
        assert!(seen.contains(part), "{part}: {seen}");
    }
    let mut bad = world.client("192.0.2.8");
    let reply = bad
        .send("x@evil.test", &to, &by("a@bank.test", "false"))
        .unwrap();
    refused(&reply, 550, "5.7.26");
    let reply = bad
        .send("x@evil.test", &to, &by("a@shop.test", "odd"))
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let seen = world.only("alice", "odd");
    assert!(
        seen.contains("dmarc=fail") && seen.contains("dmarc-fail"),
        "{seen}"
    );
}

#[test]
fn what_others_claim_in_our_name_is_taken_away() {
    let world = World::new(&[], &ON, "");
    let mut smtp = world.client("192.0.2.8");
    let forged = b"Authentication-Results: mx.example.test; dkim=pass header.d=bank.test\r\n\
        authentication-results : (c) MX.EXAMPLE.TEST 1;\r\n\tdmarc=pass\r\n\
        Authentication-Results: other.test; spf=pass\r\n\
        From: <a@far.test>\r\nSubject: forged\r\n\r\ntext\r\n";
    let reply = smtp
        .send("a@far.test", &["alice@example.test"], forged)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let seen = world.only("alice", "forged");
    assert!(
        !seen.contains("bank.test") && !seen.contains("(c)"),
        "{seen}"
    );
    assert!(
        seen.contains("Authentication-Results: other.test; spf=pass\r\n"),
        "{seen}"
    );
    assert_eq!(
        seen.matches("mx.example.test").count(),
        2,
        "Received and our results: {seen}"
    );
}

#[test]
fn a_domain_hears_of_mail_that_only_pretends_to_be_from_it() {
    let (ip, port) = own_addresses();
    let on = [&ON[..], &[("dmarc_failure_reports", "true")]].concat();
    let world = World::new(&[], &on, &format!("port = {port}\n"));
    let sink = Sink::start(ip, port);
    world
        .dns
        .mx("bank.test", 10, "mx.bank.test")
        .a("mx.bank.test", ip);
    let record = "v=DMARC1; p=reject; fo=1; ruf=mailto:abuse@bank.test";
    world.dns.txt("_dmarc.bank.test", record);
    let mut smtp = world.client("192.0.2.8");
    let to = ["alice@example.test"];
    let reply = smtp.send("x@evil.test", &to, &by("boss@bank.test", "pretence"));
    refused(&reply.unwrap(), 550, "5.7.26");
    let report = eventually("the report arrives", || sink.received().pop());
    assert_eq!(report.rcpts, ["RCPT TO:<abuse@bank.test>"]);
    let report = text(&report.content);
    assert!(report.contains("message/feedback-report"), "{report}");
    assert!(report.contains("192.0.2.8"), "{report}");
}

#[test]
fn what_an_alias_forwards_is_sealed() {
    let (ip, port) = own_addresses();
    let sealing = [("arc_seal", "true"), ("arc_domain", "\"example.test\"")];
    let on = [&ON[..], &sealing].concat();
    let world = World::new(&[], &on, &format!("port = {port}\n"));
    let sink = Sink::start(ip, port);
    world
        .dns
        .mx("remote.test", 10, "mx.remote.test")
        .a("mx.remote.test", ip);
    world
        .site
        .admin(&["dkim", "new", "example.test", "--activate"]);
    world.site.admin(&[
        "alias",
        "add",
        "away@example.test",
        "b@remote.test",
        "bob@example.test",
    ]);
    let mut smtp = world.client("192.0.2.8");
    let reply = smtp.send(
        "a@far.test",
        &["away@example.test"],
        &by("a@far.test", "sealed"),
    );
    assert_eq!(reply.unwrap().code, 250);
    let there = eventually("the message arrives", || sink.received().pop());
    let there = text(&there.content);
    for field in [
        "ARC-Seal: ",
        "ARC-Message-Signature: ",
        "ARC-Authentication-Results: i=1",
    ] {
        assert!(there.contains(field), "{field}: {there}");
    }
    let here = world.only("bob", "sealed");
    assert!(
        !here.contains("ARC-Seal") && here.contains("dmarc="),
        "{here}"
    );
}
