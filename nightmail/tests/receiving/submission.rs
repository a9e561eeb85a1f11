//! What our own users may hand in, and that it is signed.

use super::common::sink::Sink;
use super::common::site::own_addresses;
use super::common::{eventually, message, text};
use super::{World, refused};

#[test]
fn a_sender_must_be_the_accounts_own() {
    let world = World::new(
        &[],
        &[],
        "[submission]\nsender_owned = true\nfrom_owned = true\n",
    );
    world
        .site
        .admin(&["alias", "add", "sales@example.test", "alice@example.test"]);
    let mut smtp = world.submission();
    for foreign in [
        "bob@example.test",
        "alice@elsewhere.test",
        "nobody@example.test",
    ] {
        refused(
            &smtp.say(&format!("MAIL FROM:<{foreign}>")).unwrap(),
            553,
            "5.7.1",
        );
    }
    for own in [
        "alice@example.test",
        "Alice+list@example.test",
        "sales@example.test",
        "",
    ] {
        assert_eq!(
            smtp.say(&format!("MAIL FROM:<{own}>")).unwrap().code,
            250,
            "{own}"
        );
        smtp.say("RSET").unwrap();
    }
    let by = |author: &str| format!("From: {author}\r\nSubject: by\r\n\r\nx\r\n").into_bytes();
    let mut send = |author: &str| {
        let to = ["bob@example.test"];
        smtp.send("alice@example.test", &to, &by(author)).unwrap()
    };
    refused(&send("Bob <bob@example.test>"), 550, "From field");
    refused(
        &send("alice@example.test, bob@example.test"),
        550,
        "From field",
    );
    assert_eq!(send("Alice <alice@example.test>").code, 250);
    for hidden in [
        "alice@example.test\r\nFrom: bob@example.test",
        "\r\nFrom: bob@example.test",
        "<alice@example.test> <bob@example.test>",
    ] {
        assert_eq!(send(hidden).code, 550, "{hidden}");
    }
    let padding = "X: y\r\n".repeat(50_000);
    let beyond = format!("alice@example.test\r\n{padding}From: bob@example.test");
    assert_eq!(send(&beyond).code, 550);
}

#[test]
fn an_account_may_hand_in_so_much() {
    let settings =
        "[submission]\nsender_owned = false\nmessages_per_hour = 3\nrecipients_per_hour = 2\n";
    let world = World::new(&[], &[], settings);
    let mut smtp = world.submission();
    for expected in [250, 250] {
        let reply = smtp.send("a@example.test", &["bob@example.test"], &message("m", "x"));
        assert_eq!(reply.unwrap().code, expected);
    }
    smtp.say("MAIL FROM:<a@example.test>").unwrap();
    refused(
        &smtp.say("RCPT TO:<bob@example.test>").unwrap(),
        450,
        "try again in",
    );
    smtp.say("RSET").unwrap();
    refused(
        &smtp.say("MAIL FROM:<a@example.test>").unwrap(),
        450,
        "try again in",
    );
}

#[test]
fn what_users_send_is_signed_and_the_signature_holds_elsewhere() {
    let (ip, port) = own_addresses();
    let rest = format!("port = {port}\n[submission]\nsender_owned = false\n");
    let world = World::new(&[], &[("dkim", "true"), ("dmarc", "\"reject\"")], &rest);
    let sink = Sink::start(ip, port);
    world
        .dns
        .mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let keys = world.site.admin(&[
        "dkim",
        "new",
        "example.test",
        "--algorithm",
        "both",
        "--activate",
    ]);
    publish(&world, &keys);
    world
        .dns
        .txt("_dmarc.example.test", "v=DMARC1; p=reject; adkim=s");
    let mut smtp = world.submission();
    let sent = b"From: Alice <alice@example.test>\r\nTo: b@remote.test\r\nSubject: signed\r\n\r\nHello  there \r\n\r\n".to_vec();
    let reply = smtp.send(
        "alice@example.test",
        &["b@remote.test", "bob@example.test"],
        &sent,
    );
    assert_eq!(reply.unwrap().code, 250);
    let received = eventually("the message arrives", || sink.received().pop());
    let there = text(&received.content);
    assert_eq!(there.matches("DKIM-Signature: ").count(), 2, "{there}");
    let here = world.only("bob", "signed");
    assert_eq!(here.matches("DKIM-Signature: ").count(), 2, "{here}");
    // The same message comes back from far away, and holds; changed, it does not.
    let mut smtp = world.client("192.0.2.7");
    let to = ["alice@example.test"];
    let reply = smtp
        .send("bounce@list.test", &to, &received.content)
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let seen = world.only("alice", "signed");
    assert!(
        seen.contains("dkim=pass") && seen.contains("dmarc=pass"),
        "{seen}"
    );
    let changed = there.replace("Hello", "Adieu").into_bytes();
    refused(
        &smtp.send("bounce@list.test", &to, &changed).unwrap(),
        550,
        "5.7.26",
    );
}

/// Puts the records of keys that the operator has made into DNS.
fn publish(world: &World, keys: &serde_json::Value) {
    let mut found = 0;
    let mut look = vec![keys];
    while let Some(value) = look.pop() {
        match value {
            serde_json::Value::Array(items) => look.extend(items),
            serde_json::Value::Object(fields) => {
                let text = |names: &[&str]| {
                    let mut values = names.iter().filter_map(|name| fields.get(*name)?.as_str());
                    values.next().map(str::to_owned)
                };
                let name = text(&["record_name", "name"]);
                let value = text(&["record_value", "value", "text", "record"]);
                match (name, value) {
                    (Some(name), Some(value)) if name.contains("_domainkey") => {
                        world.dns.txt(name.trim_end_matches('.'), &value);
                        found += 1;
                    }
                    _ => look.extend(fields.values()),
                }
            }
            _ => {}
        }
    }
    assert_eq!(found, 2, "{keys}");
}
