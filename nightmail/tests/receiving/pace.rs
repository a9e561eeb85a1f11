//! Who comes too early, too often or too curious.

use std::time::{Duration, Instant};

use super::common::line::Lines;
use super::common::{Service, Smtp};
use super::{World, pipelined, refused};

#[test]
fn who_speaks_before_the_greeting_is_turned_away() {
    let world = World::new(
        &[
            ("greeting_delay", "\"30s\""),
            ("early_talker", "\"reject\""),
        ],
        &[],
        "",
    );
    let mut lines = Lines::connect(world.site.address(Service::Smtp)).unwrap();
    pipelined(&mut lines, &["EHLO spam.test", "MAIL FROM:<a@far.test>"]);
    let began = Instant::now();
    let said = String::from_utf8_lossy(&lines.rest().unwrap()).into_owned();
    assert!(said.starts_with("554 5.7.1 "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    assert!(
        began.elapsed() < Duration::from_secs(25),
        "it need not wait"
    );
}

#[test]
fn a_client_that_waits_is_greeted_after_the_delay() {
    let world = World::new(
        &[("greeting_delay", "\"1s\""), ("early_talker", "\"reject\"")],
        &[],
        "",
    );
    let began = Instant::now();
    let mut smtp = Smtp::connect(world.site.address(Service::Smtp)).unwrap();
    assert!(began.elapsed() >= Duration::from_millis(990));
    assert_eq!(world.send(&mut smtp, "a@far.test", "patient").code, 250);
}

#[test]
fn an_early_talker_may_be_only_tagged() {
    let rule = "[[access]]\nstage = \"rcpt\"\ntagged = [\"early-talker\"]\naction = \"reject\"\ntext = \"Too eager\"\n";
    let world = World::new(
        &[("greeting_delay", "\"30s\""), ("early_talker", "\"tag\"")],
        &[],
        rule,
    );
    let mut lines = Lines::connect(world.site.address(Service::Smtp)).unwrap();
    pipelined(
        &mut lines,
        &[
            "HELO spam.test",
            "MAIL FROM:<a@far.test>",
            "RCPT TO:<alice@example.test>",
            "QUIT",
        ],
    );
    let said = String::from_utf8_lossy(&lines.rest().unwrap()).into_owned();
    assert!(
        said.starts_with("220 ") && said.contains("550 5.7.1 Too eager"),
        "{said}"
    );
}

#[test]
fn each_error_makes_the_next_reply_later() {
    let world = World::new(
        &[
            ("tarpit_after", "0"),
            ("tarpit_step", "\"300ms\""),
            ("tarpit_max", "\"600ms\""),
        ],
        &[],
        "",
    );
    let mut smtp = world.client("192.0.2.7");
    let mut timed = |command: &str| {
        let began = Instant::now();
        let code = smtp.say(command).unwrap().code;
        (code, began.elapsed())
    };
    for expected in [300, 600, 600] {
        let (code, took) = timed("WRONG");
        assert_eq!(code, 500);
        assert!(took >= Duration::from_millis(expected), "{took:?}");
    }
    assert_eq!(timed("NOOP").0, 250);
}

#[test]
fn a_network_may_connect_so_often_in_a_minute() {
    let world = World::new(&[("connections_per_minute", "3")], &[], "");
    // The proxy itself, through which all of them come, is not counted.
    let codes: Vec<u16> = (0..5)
        .map(|_| world.arrive("ADDR=192.0.2.7").0.code)
        .collect();
    assert_eq!(codes[..3], [220, 220, 220]);
    assert!(codes.contains(&421), "{codes:?}");
    assert_eq!(world.arrive("ADDR=192.0.2.8").0.code, 220);
}

#[test]
fn a_network_may_hand_in_so_many_messages_in_an_hour() {
    let world = World::new(&[("messages_per_hour", "2")], &[], "");
    let mut smtp = world.client("2001:db8:0:1::7");
    assert_eq!(world.send(&mut smtp, "a@far.test", "one").code, 250);
    assert_eq!(world.send(&mut smtp, "a@far.test", "two").code, 250);
    let mut neighbour = world.client("2001:db8:0:1::8");
    refused(
        &world.send(&mut neighbour, "a@far.test", "three"),
        450,
        "try again in",
    );
    let mut other = world.client("2001:db8:0:2::7");
    assert_eq!(world.send(&mut other, "a@far.test", "four").code, 250);
}

#[test]
fn who_tries_too_many_names_learns_of_none() {
    let world = World::new(&[("unknown_recipients_per_hour", "3")], &[], "");
    let mut smtp = world.client("192.0.2.7");
    assert_eq!(smtp.say("MAIL FROM:<a@far.test>").unwrap().code, 250);
    for number in 0..3 {
        let reply = smtp.say(&format!("RCPT TO:<guess{number}@example.test>"));
        refused(&reply.unwrap(), 550, "5.1.1");
    }
    for name in ["guess4", "alice", "bob"] {
        let reply = smtp.say(&format!("RCPT TO:<{name}@example.test>"));
        refused(&reply.unwrap(), 450, "4.7.1");
    }
    let mut other = world.client("192.0.2.8");
    assert_eq!(world.send(&mut other, "a@far.test", "other").code, 250);
}
