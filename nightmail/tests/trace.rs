//! `nightmail trace`: the life of messages, asked of a server and of a store that no server holds.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use common::dns::NameServer;
use common::sink::Sink;
use common::site::own_addresses;
use common::{Service, Site, Smtp, eventually, message};
use serde_json::Value;

/// What happened to the only message that is found, each as `kind recipient`.
fn life(site: &Site, text: &str) -> Vec<String> {
    let traced = site.admin(&["trace", text]);
    let messages = traced["items"].as_array().unwrap();
    assert!(messages.len() <= 1, "{traced}");
    let events = messages
        .iter()
        .flat_map(|it| it["events"].as_array().unwrap());
    let word = |event: &Value| {
        let recipient = event["recipient"].as_str().unwrap_or_default();
        format!("{} {recipient}", event["event"].as_str().unwrap())
    };
    events
        .map(|event| word(event).trim_end().to_owned())
        .collect()
}

/// What is printed for people.
fn printed(site: &Site, arguments: &[&str]) -> (i32, String) {
    let output = site.command(arguments).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), common::text(&text))
}

#[test]
fn a_message_is_traced_from_its_submission_to_its_last_recipient() {
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let dns = NameServer::start();
    dns.mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let mut site = Site::started(&format!("[delivery]\nport = {port}\n{}", dns.setting()));
    site.admin(&["alias", "add", "team@example.test", "alice@example.test"]);
    sink.answer("450 4.2.0 come back later");
    let mut smtp = Smtp::connect(site.address(Service::Submission)).unwrap();
    // NUL alice NUL demo
    assert_eq!(smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap().code, 235);
    let to = ["bob@example.test", "team@example.test", "far@remote.test"];
    let sent = message("traced", "wherever it goes");
    let reply = smtp.send("alice@example.test", &to, &sent).unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");

    let accepted = [
        "accepted",
        "delivered bob@example.test",
        "expanded team@example.test",
        "delivered alice@example.test",
        "queued far@remote.test",
    ];
    assert!(life(&site, "bob@example.test").starts_with(&accepted.map(str::to_owned)));
    eventually("the message is put off", || {
        let life = life(&site, "<Traced@far.test>");
        life.contains(&"deferred far@remote.test".to_owned())
            .then_some(())
    });
    sink.answer("250 2.1.5 Ok");
    site.admin(&["queue", "retry", "--all"]);
    let whole = eventually("the message is sent", || {
        let life = life(&site, "far@remote.test");
        (life.last()? == "sent far@remote.test").then_some(life)
    });
    assert_eq!(whole[..5], accepted);
    assert!(
        whole[5..whole.len() - 1]
            .iter()
            .all(|it| it == "deferred far@remote.test")
    );

    let (_, text) = printed(&site, &["trace", "@remote.test"]);
    assert!(text.starts_with("message traced@far.test from alice@example.test in the queue as q"));
    assert!(
        text.contains("4.2.0") && text.contains("mx.remote.test"),
        "{text}"
    );
    let queue_id = text
        .lines()
        .next()
        .unwrap()
        .rsplit(' ')
        .next()
        .unwrap()
        .to_owned();
    site.stop();
    for text in [queue_id.as_str(), "alice@example.test", "team@example.test"] {
        assert_eq!(life(&site, text), whole, "{text}");
    }
}

#[test]
fn who_was_refused_is_found_with_the_reply() {
    let site = Site::started("");
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    for to in ["nobody@example.test", "far@remote.test"] {
        let reply = smtp.begin("carol@far.test", "", &[to]).unwrap();
        assert_eq!(reply.code, 550, "{reply:?}");
    }
    let traced = site.admin(&["trace", "nobody@example.test"]);
    let event = &traced["items"][0]["events"][0];
    assert_eq!(event["event"], "refused");
    assert_eq!(event["sender"], "carol@far.test");
    assert!(event["host"].as_str().unwrap().starts_with("127."));
    assert!(
        event["text"].as_str().unwrap().starts_with("550 "),
        "{event}"
    );
    assert_eq!(life(&site, "far@remote.test"), ["refused far@remote.test"]);
    let traced = site.admin(&["trace", "carol@far.test", "--since", "1h"]);
    assert_eq!(traced["items"].as_array().unwrap().len(), 2);
    let before = site.admin(&["trace", "carol@far.test", "--until", "1h"]);
    assert!(before["items"].as_array().unwrap().is_empty(), "{before}");
    let (code, text) = printed(&site, &["trace", "carol@far.test", "--since", "once"]);
    assert_eq!(code, 2, "{text}");
}

#[test]
fn a_message_without_a_name_is_found_by_whom_it_is_for() {
    let site = Site::started("");
    let mut lmtp = Smtp::lmtp(site.address(Service::Lmtp)).unwrap();
    let to = ["alice@example.test"];
    let reply = lmtp
        .send("", &to, b"Subject: nameless\r\n\r\nx\r\n")
        .unwrap();
    assert_eq!(reply.code, 250, "{reply:?}");
    let expected = ["accepted", "delivered alice@example.test"];
    let traced = site.admin(&["trace", "alice@example.test"]);
    let message_id = traced["items"][0]["message_id"].as_str().unwrap();
    assert_eq!(life(&site, "alice@example.test"), expected);
    assert_eq!(life(&site, message_id), expected);
}

#[test]
fn nothing_is_kept_where_nothing_is_to_be_kept() {
    let site = Site::started("[journal]\nkeep = \"0s\"\n");
    let mut lmtp = Smtp::lmtp(site.address(Service::Lmtp)).unwrap();
    let sent = message("untraced", "x");
    let reply = lmtp.send("carol@far.test", &["alice@example.test"], &sent);
    assert_eq!(reply.unwrap().code, 250);
    let (code, text) = printed(&site, &["trace", "alice@example.test"]);
    assert_eq!(code, 1, "{text}");
    assert!(text.contains("[journal]"), "{text}");
}
