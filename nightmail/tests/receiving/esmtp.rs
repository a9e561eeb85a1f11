//! XCLIENT and XFORWARD, ETRN, DSN and the other wishes of a sender, as the whole program keeps them.

use super::common::sink::Sink;
use super::common::site::own_addresses;
use super::common::tools::{has, run};
use super::common::{Service, Smtp, eventually, message};
use super::{World, refused};

#[test]
fn xclient_is_for_those_it_is_given_to() {
    let world = World::new(&[("xclient_from", "[\"192.0.2.0/24\"]")], &[], "");
    let (reply, mut smtp) = world.arrive("ADDR=192.0.2.7");
    refused(&reply, 550, "");
    let hello = smtp.say("EHLO mail.far.test").unwrap();
    assert!(!hello.text.contains("XCLIENT"), "{hello:?}");
}

#[test]
fn what_a_proxy_says_is_seen_in_received_and_log() {
    let world = World::new(&[], &[], "");
    let (reply, mut smtp) = world.arrive("ADDR=IPV6:2001:db8::7 NAME=mail.far.test PORT=4711");
    assert_eq!(reply.code, 220);
    smtp.say("EHLO mail.far.test").unwrap();
    assert_eq!(world.send(&mut smtp, "a@far.test", "xclient").code, 250);
    let seen = world.only("alice", "xclient");
    assert!(
        seen.contains("(mail.far.test [IPv6:2001:db8::7])"),
        "{seen}"
    );
    let (_, mut smtp) = world.arrive("ADDR=192.0.2.7");
    smtp.say("EHLO filter.test").unwrap();
    let forwarded = "XFORWARD ADDR=198.51.100.9 NAME=[UNAVAILABLE] HELO=origin.test";
    assert_eq!(smtp.say(forwarded).unwrap().code, 250);
    assert_eq!(world.send(&mut smtp, "a@far.test", "xforward").code, 250);
    let seen = world.only("alice", "xforward");
    assert!(seen.contains("from origin.test ([198.51.100.9])"), "{seen}");
}

#[test]
fn a_proxy_that_has_checked_a_login_passes_it_on() {
    let world = World::new(&[], &[], "[submission]\nsender_owned = true\n");
    let submit = |login: &str| {
        let mut smtp = Smtp::connect(world.site.address(Service::Submission)).unwrap();
        let reply = smtp.say(&format!("XCLIENT ADDR=192.0.2.7 LOGIN={login}"));
        (reply.unwrap(), smtp)
    };
    let (reply, mut smtp) = submit("alice");
    assert_eq!(reply.code, 220, "{reply:?}");
    smtp.say("EHLO client.test").unwrap();
    assert_eq!(
        smtp.say("MAIL FROM:<alice@example.test>").unwrap().code,
        250
    );
    smtp.say("RSET").unwrap();
    refused(
        &smtp.say("MAIL FROM:<bob@example.test>").unwrap(),
        553,
        "5.7.1",
    );
    let (reply, _) = submit("nobody");
    refused(&reply, 550, "");
}

#[test]
fn etrn_sends_what_waits() {
    let (ip, port) = own_addresses();
    let world = World::new(
        &[("trusted", "[\"192.0.2.1\"]")],
        &[],
        &format!("port = {port}\n[submission]\nsender_owned = false\n"),
    );
    world
        .dns
        .mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let mut smtp = world.submission();
    let sent = message("etrn", "wait for me");
    let reply = smtp.send("alice@example.test", &["b@remote.test"], &sent);
    assert_eq!(reply.unwrap().code, 250);
    eventually("the first attempt fails", || {
        let queued = world.site.admin(&["queue", "list"]).to_string();
        queued.contains("remote.test").then_some(())?;
        world.site.log().contains("mx.remote.test").then_some(())
    });
    let sink = Sink::start(ip, port);
    let mut stranger = world.client("192.0.2.7");
    refused(&stranger.say("ETRN unknown.test").unwrap(), 459, "");
    let mut trusted = world.client("192.0.2.1");
    refused(&trusted.say("ETRN unknown.test").unwrap(), 251, "");
    eventually("the waiting message is hurried", || {
        let reply = trusted.say("ETRN remote.test").unwrap();
        (reply.code == 253).then_some(())
    });
    eventually("the message arrives", || {
        (!sink.received().is_empty()).then_some(())
    });
}

#[test]
fn etrn_for_a_domain_that_has_to_ask_says_what_there_is() {
    let on_request = "[submission]\nsender_owned = false\n\
                      [[destination]]\nmatch = [\"customer.test\"]\non_request = true\n";
    let world = World::new(&[], &[], on_request);
    let mut stranger = world.client("192.0.2.7");
    refused(&stranger.say("ETRN customer.test").unwrap(), 251, "");
    refused(&stranger.say("ETRN @customer.test").unwrap(), 459, "");
    refused(&stranger.say("ETRN unknown.test").unwrap(), 459, "");
    refused(&stranger.say("ETRN #customer").unwrap(), 459, "");
    refused(&stranger.say("ETRN a b").unwrap(), 501, "");
    let mut smtp = world.submission();
    let sent = message("waits", "to be asked for");
    let reply = smtp.send("alice@example.test", &["b@customer.test"], &sent);
    assert_eq!(reply.unwrap().code, 250);
    let reply = stranger.say("ETRN customer.test").unwrap();
    refused(&reply, 253, "1 pending messages");
}

#[test]
fn a_header_that_makes_tls_optional_goes_along() {
    let on_request = "[submission]\nsender_owned = false\n\
                      [[destination]]\nmatch = [\"customer.test\"]\non_request = true\n";
    let world = World::new(&[], &[], on_request);
    let mut smtp = world.submission();
    for (place, header) in ["TLS-Required: No\r\n", "X-TLS-Required: No\r\n"]
        .iter()
        .enumerate()
    {
        let mut sent = header.as_bytes().to_vec();
        sent.extend(message("optional", "the body"));
        let reply = smtp.send("alice@example.test", &["b@customer.test"], &sent);
        assert_eq!(reply.unwrap().code, 250);
        let listed = world.site.admin(&["queue", "list"]);
        let is_optional = &listed["items"][place]["tls_optional"];
        assert_eq!(*is_optional, place == 0, "{listed}");
    }
}

#[test]
fn who_asked_hears_of_the_delivery() {
    let world = World::new(&[], &[], "[submission]\nsender_owned = false\n");
    let mut smtp = world.submission();
    for command in [
        "MAIL FROM:<alice@example.test> RET=HDRS ENVID=my+2Bid",
        "RCPT TO:<bob@example.test> NOTIFY=SUCCESS ORCPT=rfc822;bob+40example.test",
    ] {
        let reply = smtp.say(command).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }
    assert_eq!(smtp.say("DATA").unwrap().code, 354);
    smtp.lines
        .write(b"Subject: asked\r\nFrom: alice@example.test\r\n\r\nx\r\n.\r\n")
        .unwrap();
    assert_eq!(smtp.reply().unwrap().code, 250);
    let report = world.inbox("alice").remove(0);
    assert!(report.contains("Action: delivered"), "{report}");
    assert!(report.contains("Original-Envelope-Id: my+id"), "{report}");
    assert_eq!(world.inbox("bob").len(), 1);
}

#[test]
fn a_message_is_held_back_and_not_for_too_long() {
    let world = World::new(
        &[],
        &[],
        "[submission]\nsender_owned = false\nhold_max = \"1h\"\n",
    );
    let mut smtp = world.submission();
    assert!(
        smtp.say("EHLO client.test")
            .unwrap()
            .text
            .contains("FUTURERELEASE 3600")
    );
    let late = smtp.say("MAIL FROM:<alice@example.test> HOLDUNTIL=2199-01-01T00:00:00Z");
    refused(&late.unwrap(), 501, "");
    let sent = message("held", "x");
    let reply = smtp.send_with(
        "alice@example.test",
        "HOLDFOR=2",
        &["bob@example.test"],
        &sent,
    );
    assert_eq!(reply.unwrap().code, 250);
    assert_eq!(world.inbox("bob").len(), 0);
    eventually("the message is let go", || {
        (world.inbox("bob").len() == 1).then_some(())
    });
}

#[test]
fn swaks_poses_as_another_and_is_believed_where_it_may() {
    if !has("swaks") {
        return;
    }
    let rule = "[[access]]\nstage = \"connect\"\nclient = [\"192.0.2.66\"]\naction = \"reject\"\ntext = \"Not you\"\n";
    let world = World::new(&[], &[], rule);
    let (host, port) = (
        world.site.host(),
        world.site.port(Service::Smtp).to_string(),
    );
    let swaks = |subject: &str, said: &str| {
        let mut all = vec!["--server", &host, "--port", &port, "--timeout", "50"];
        all.extend(["--ehlo", "client.test", "--from", "a@far.test"]);
        all.extend(["--to", "alice@example.test", "--h-Subject", subject]);
        all.extend(["--xclient", said]);
        run("swaks", &all)
    };
    swaks("sw-xclient", "ADDR=192.0.2.7 NAME=mail.far.test").ok();
    let seen = world.only("alice", "sw-xclient");
    assert!(seen.contains("(mail.far.test [192.0.2.7])"), "{seen}");
    let turned_away = swaks("sw-refused", "ADDR=192.0.2.66");
    assert_ne!(turned_away.code, Some(0), "{}", turned_away.all());
    assert!(
        turned_away.all().contains("554 5.7.1 Not you"),
        "{}",
        turned_away.all()
    );
}
