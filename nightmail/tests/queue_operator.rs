//! The operator's hand on queued mail: to find it, to say why it waits, to hold it, to send it another way, to give it
//! up, and rules that do so by themselves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::net::Ipv4Addr;

use common::dns::NameServer;
use common::sink::{Received, Sink};
use common::site::own_addresses;
use common::{Imap, Service, Site, Smtp, eventually, message, text};
use serde_json::Value;

/// A server; the host of remote.test and slow.test; a relay, "hub"; and domains whose host does not answer.
struct World {
    site: Site,
    sink: Sink,
    hub: Sink,
    /// Where the host of dead.test and near.test would be.
    dead: (Ipv4Addr, u16),
    _dns: NameServer,
}

impl World {
    fn new() -> Self {
        let (ip, port) = own_addresses();
        // Every other address of this process is this test's own as well, by its port.
        let [_, second, third, fourth] = ip.octets();
        let hub = Ipv4Addr::new(127, second | 0x80, third, fourth);
        let dead = Ipv4Addr::new(127, second & 0x3f, third, fourth);
        let sink = Sink::start(ip, port);
        let dns = NameServer::start();
        dns.mx("remote.test", 10, "mx.remote.test")
            .host("mx.remote.test", ip)
            .mx("slow.test", 10, "mx.remote.test");
        for domain in ["dead.test", "near.test"] {
            dns.mx(domain, 10, &format!("mx.{domain}"))
                .host(&format!("mx.{domain}"), dead);
        }
        let settings = format!(
            "[delivery]\nport = {port}\n{}\n\
             [[relay]]\nname = \"hub\"\nhosts = [\"{hub}:{port}\"]\ntls = \"none\"\n\
             [[destination]]\nmatch = [\"slow.test\"]\non_request = true\n",
            dns.setting()
        );
        Self {
            site: Site::started(&settings),
            sink,
            hub: Sink::start(hub, port),
            dead: (dead, port),
            _dns: dns,
        }
    }

    /// The host of dead.test and near.test comes up.
    fn revive(&self) -> Sink {
        Sink::start(self.dead.0, self.dead.1)
    }

    /// A user submits a message.
    fn submit(&self, user: &str, subject: &str, to: &[&str]) {
        let mut smtp = Smtp::connect(self.site.address(Service::Submission)).unwrap();
        // NUL user NUL demo
        let login = match user {
            "alice" => "AUTH PLAIN AGFsaWNlAGRlbW8=",
            _ => "AUTH PLAIN AGJvYgBkZW1v",
        };
        assert_eq!(smtp.say(login).unwrap().code, 235);
        let sent = message(subject, "the body");
        let from = format!("{user}@example.test");
        let reply = smtp.send(&from, to, &sent).unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
    }

    fn queue(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
        self.site.admin(&arguments)
    }

    /// What the command says to a person, and its exit code.
    fn told(&self, arguments: &[&str]) -> (String, Option<i32>) {
        let arguments: Vec<&str> = ["queue"].iter().chain(arguments).copied().collect();
        let output = self.site.command(&arguments).output().unwrap();
        let says = text(&output.stdout) + &text(&output.stderr);
        (says, output.status.code())
    }

    /// The messages that fit.
    fn list(&self, matching: &str) -> Vec<Value> {
        let listed = self.queue(&["list", matching]);
        listed["items"].as_array().unwrap().clone()
    }

    /// Waits until so many messages fit.
    fn wait_for(&self, matching: &str, count: usize) -> Vec<Value> {
        eventually(matching, || {
            let found = self.list(matching);
            (found.len() == count).then_some(found)
        })
    }

    /// Messages and recipients that a change was about.
    fn alter(&self, arguments: &[&str]) -> (u64, u64) {
        let answer = self.queue(arguments);
        let count = |name: &str| answer[name].as_u64().unwrap_or_else(|| panic!("{answer}"));
        (count("messages"), count("recipients"))
    }

    fn id(&self, matching: &str) -> String {
        let found = self.wait_for(matching, 1);
        found[0]["id"].as_str().unwrap().to_owned()
    }

    fn inbox(&self, user: &str) -> Vec<String> {
        let mut imap = Imap::open(self.site.address(Service::Imap), user, "demo", "INBOX").unwrap();
        let bodies = imap.bodies("").unwrap();
        bodies.iter().map(|(_, body)| text(body)).collect()
    }
}

fn received(sink: &Sink, count: usize) -> Vec<Received> {
    eventually("the host gets the message", || {
        let received = sink.received();
        (received.len() >= count).then_some(received)
    })
}

#[test]
fn mail_is_found_by_expression() {
    let mut world = World::new();
    world.submit("alice", "find-1", &["a@dead.test", "b@near.test"]);
    world.submit("bob", "find-2", &["c@near.test"]);
    world.wait_for("attempts > 0", 2);
    for (matching, count) in [
        ("all", 2),
        ("domain = near.test", 2),
        ("domain = dead.test", 1),
        ("sender = bob@example.test", 1),
        ("domain ~ *.test and not sender ~ bob*", 1),
        ("recipient = c@NEAR.test or recipient = a@dead.test", 2),
        ("status ~ 4.*", 2),
        ("age > 1d", 0),
        ("size > 100 and size < 1M", 2),
        ("source = submission", 2),
        ("source = local", 0),
        ("held", 0),
    ] {
        assert_eq!(world.list(matching).len(), count, "{matching}");
    }
    let id = world.id("sender = bob@example.test");
    assert_eq!(world.list(&id)[0]["from"], "bob@example.test");
    let page = world.queue(&["list", "--limit", "1"]);
    assert_eq!(page["items"].as_array().unwrap().len(), 1);
    let next = page["next"].as_str().unwrap();
    let rest = world.queue(&["list", "all", "--after", next]);
    assert_eq!(rest["items"][0]["id"], *id);
    let (table, code) = world.told(&["list", "domain", "=", "dead.test"]);
    assert_eq!((table.lines().count(), code), (2, Some(0)), "{table}");
    for (matching, says) in [
        ("domian = x", "at character 1: there is no field `domian`"),
        ("age > soon", "at character 7"),
        ("(held", "expected `)`"),
    ] {
        let (complaint, code) = world.told(&["hold", matching]);
        assert_eq!(code, Some(2), "{complaint}");
        assert!(complaint.contains(says), "{complaint}");
    }
    world.site.stop();
}

#[test]
fn mail_that_is_held_waits_until_it_is_released() {
    let mut world = World::new();
    world.submit("alice", "held", &["a@dead.test", "b@near.test"]);
    world.wait_for("attempts > 0 and domain = dead.test", 1);
    let hold = [
        "hold",
        "domain = dead.test",
        "--reason",
        "a test",
        "--dry-run",
    ];
    assert_eq!(world.alter(&hold), (1, 1));
    assert!(world.list("held").is_empty());
    assert_eq!(world.alter(&hold[..4]), (1, 1));
    let host = world.revive();
    assert_eq!(world.alter(&["retry", "domain = dead.test"]), (0, 0));

    // What is held survives a kill, and is not tried.
    world.site.kill();
    world.site.start();
    let id = world.id("held");
    let (why, _) = world.told(&["why", &id]);
    assert!(why.contains("a@dead.test: held"), "{why}");
    assert!(why.contains("a test"), "{why}");
    let (shown, _) = world.told(&["show", &id]);
    assert!(shown.contains("a test"), "{shown}");
    assert!(host.received().is_empty());

    assert_eq!(world.alter(&["release", &id]), (1, 1));
    assert_eq!(received(&host, 1)[0].rcpts, ["RCPT TO:<a@dead.test>"]);
    assert!(world.list("held").is_empty());
    world.site.stop();
}

#[test]
fn mail_goes_by_the_relay_that_it_is_rerouted_to() {
    let mut world = World::new();
    world.submit("alice", "rerouted", &["a@dead.test", "b@near.test"]);
    world.wait_for("attempts > 0 and domain = dead.test", 1);
    let (complaint, code) = world.told(&["reroute", "all", "--to", "nowhere"]);
    assert_eq!(code, Some(2));
    assert!(complaint.contains("it has hub"), "{complaint}");
    assert_eq!(
        world.alter(&["reroute", "domain = dead.test", "--to", "hub"]),
        (1, 1)
    );
    assert_eq!(received(&world.hub, 1)[0].rcpts.len(), 1);
    let left = eventually("one recipient is left", || {
        let entry = world.list("all").pop()?;
        (entry["recipients"][0]["state"] == "delivered").then_some(entry)
    });
    assert_eq!(left["recipients"][1]["state"], "pending");
    world.site.stop();
}

#[test]
fn mail_that_is_given_up_comes_back_and_mail_that_is_dropped_does_not() {
    let mut world = World::new();
    world.submit("alice", "returned", &["a@dead.test", "b@near.test"]);
    world.submit("bob", "dropped", &["c@near.test"]);
    world.wait_for("attempts > 0", 2);
    let bounce = [
        "bounce",
        "domain = dead.test",
        "--reason",
        "closed for ever",
    ];
    assert_eq!(world.alter(&bounce), (1, 1));
    let report = eventually("alice gets a report", || world.inbox("alice").pop());
    for part in [
        "a@dead.test",
        "Action: failed",
        "closed for ever",
        "Subject: returned",
    ] {
        assert!(report.contains(part), "{part:?} is not in\n{report}");
    }
    assert!(!report.contains("b@near.test"), "{report}");
    assert_eq!(world.alter(&["drop", "all", "--dry-run"]), (2, 2));
    assert_eq!(world.alter(&["drop", "all"]), (2, 2));
    assert!(world.list("all").is_empty());
    // What arrives later shows that nothing is on its way before it.
    world.submit("alice", "after", &["bob@example.test"]);
    let inbox = eventually("bob gets mail", || {
        Some(world.inbox("bob")).filter(|all| !all.is_empty())
    });
    assert_eq!(inbox.len(), 1);
    assert!(inbox[0].contains("Subject: after"));
    world.site.stop();
}

#[test]
fn mail_is_explained_counted_by_destination_and_run() {
    let mut world = World::new();
    world.submit("alice", "slow", &["a@slow.test"]);
    world.submit("alice", "dead", &["a@dead.test"]);
    world.submit("alice", "dead-2", &["b@dead.test"]);
    world.wait_for("attempts > 0", 2);
    let slow = eventually("it waits to be asked for", || {
        let (why, _) = world.told(&["why", &world.id("domain = slow.test")]);
        why.contains("asks for mail").then_some(why)
    });
    assert!(slow.contains("a@slow.test: pending"), "{slow}");
    let (dead, _) = world.told(&["why", &world.id("recipient = b@dead.test")]);
    assert!(dead.contains("attempt 1 ended"), "{dead}");
    let listed = world.queue(&["destinations"]);
    let counts: Vec<_> = listed["items"].as_array().unwrap().iter().collect();
    assert_eq!(counts.len(), 2, "{listed}");
    assert_eq!(counts[0]["destination"], "dead.test");
    assert_eq!(counts[0]["deferred"], 2);
    assert_eq!(counts[1]["destination"], "slow.test");
    let (table, _) = world.told(&["destinations"]);
    assert!(table.contains("dead.test"), "{table}");

    assert!(world.sink.received().is_empty());
    assert_eq!(world.queue(&["run", "slow.test"])["count"], 1);
    received(&world.sink, 1);
    // A destination that has been found dead is tried at once.
    let host = world.revive();
    assert_eq!(world.queue(&["run", "dead.test"])["count"], 2);
    received(&host, 2);
    eventually("the queue is empty", || {
        world.list("all").is_empty().then_some(())
    });
    world.site.stop();
}

#[test]
fn a_standing_rule_holds_for_all_that_fits_while_it_stands() {
    let mut world = World::new();
    let rule = [
        "rule",
        "add",
        "no-remote",
        "domain = remote.test",
        "hold",
        "--reason",
        "by rule",
    ];
    world.queue(&rule);
    world.queue(&[
        "rule",
        "add",
        "by-hub",
        "domain = near.test",
        "reroute",
        "--to",
        "hub",
    ]);
    world.queue(&[
        "rule",
        "add",
        "never",
        "recipient ~ nobody@*",
        "bounce",
        "--reason",
        "no more",
    ]);
    let (complaint, code) = world.told(&rule);
    assert_eq!(code, Some(1), "{complaint}");
    let (rules, _) = world.told(&["rule", "list"]);
    for part in [
        "no-remote",
        "domain = remote.test",
        "hold: by rule",
        "reroute to hub",
    ] {
        assert!(rules.contains(part), "{part:?} is not in\n{rules}");
    }
    // Rules are read anew when they are more than some seconds old.
    eventually("the rules are heeded", || {
        world.submit("alice", "ruled", &["a@remote.test"]);
        (!world.list("held").is_empty()).then_some(())
    });
    world.submit("alice", "ruled-2", &["b@near.test", "nobody@dead.test"]);
    assert_eq!(received(&world.hub, 1)[0].rcpts, ["RCPT TO:<b@near.test>"]);
    let report = eventually("alice gets a report", || world.inbox("alice").pop());
    assert!(report.contains("no more"), "{report}");

    world.queue(&["rule", "remove", "no-remote"]);
    let (_, code) = world.told(&["rule", "remove", "no-remote"]);
    assert_eq!(code, Some(1));
    let sent = world.sink.received().len();
    eventually("what was held leaves", || {
        world.queue(&["release", "all"]);
        (world.sink.received().len() > sent && world.list("all").is_empty()).then_some(())
    });
    world.site.stop();
}

#[test]
fn the_queue_of_a_server_that_does_not_run_is_changed_but_nothing_is_given_up() {
    let mut world = World::new();
    world.submit("alice", "offline", &["a@dead.test"]);
    world.wait_for("attempts > 0", 1);
    world.site.stop();
    let id = world.id("all");
    let (complaint, code) = world.told(&["bounce", &id]);
    assert_eq!(code, Some(1));
    assert!(complaint.contains("a server that runs"), "{complaint}");
    assert_eq!(world.alter(&["hold", &id]), (1, 1));
    world.site.start();
    assert_eq!(world.id("held"), id);
    assert_eq!(world.alter(&["drop", "held"]), (1, 1));
    world.site.stop();
}
