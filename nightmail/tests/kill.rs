//! A server that is killed again and again while it takes mail: what was acknowledged is there, once, and all
//! that is stored agrees.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod common;

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use common::dns::NameServer;
use common::sink::Sink;
use common::site::own_addresses;
use common::{Imap, Service, Site, Smtp, eventually, message, text};

const KILLS: u64 = 40;
/// Where the loop gives up adding kills on a machine that is too slow for all of them, and how many it must do.
const TIME_MAX: Duration = Duration::from_secs(70);
const SENDERS: usize = 4;
/// Kills of a server with mail for other sites.
const REMOTE_KILLS: usize = 12;
/// Rounds after which everything is looked at.
const LOOK_EVERY: u64 = 8;

/// What the clients were told.
#[derive(Default)]
struct Told {
    /// Messages answered with 250.
    accepted: HashSet<String>,
    /// Messages sent to their end without an answer.
    unanswered: HashSet<String>,
}

/// One run of the clients against one life of the server.
struct Load {
    told: Arc<Mutex<Told>>,
    stop: Arc<AtomicBool>,
    answers: Arc<AtomicUsize>,
}

impl Load {
    /// Sends uniquely marked messages until the connection breaks.
    fn send(&self, address: SocketAddr, mark: &str) {
        let Ok(mut smtp) = Smtp::connect(address) else {
            return;
        };
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("{mark}-{number}");
            let message = format!(
                "Subject: {name}\r\n\r\n{}\r\n",
                "body ".repeat(number % 300)
            );
            let both = ["alice@example.test", "bob@example.test"];
            let to = if number % 3 == 0 {
                &both[..]
            } else {
                &both[..1]
            };
            if !smtp
                .begin("s@far.test", "", to)
                .is_ok_and(|reply| reply.code == 354)
            {
                return;
            }
            let name = if to.len() == 2 {
                format!("{name} both")
            } else {
                name
            };
            let message = message.replacen(name.trim_end_matches(" both"), &name, 1);
            let sent = smtp.lines.write(&common::smtp::stuff(message.as_bytes()));
            let reply = sent.and_then(|()| smtp.reply());
            let mut told = self.told.lock().unwrap();
            match reply {
                Ok(reply) if reply.code == 250 => told.accepted.insert(name),
                Ok(reply) => panic!("{reply:?}"),
                Err(_) => told.unanswered.insert(name),
            };
            drop(told);
            self.answers.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Appends uniquely marked messages until the connection breaks.
    fn append(&self, address: SocketAddr, mark: &str) {
        let Ok(mut imap) = Imap::open(address, "alice", "demo", "INBOX") else {
            return;
        };
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("{mark}-{number}");
            let message = format!("Subject: {name}\r\n\r\nappended\r\n");
            let answer = imap.append("INBOX", "\\Seen", message.as_bytes());
            let mut told = self.told.lock().unwrap();
            match answer {
                Ok(answer) if answer.status.starts_with("OK") => told.accepted.insert(name),
                Ok(answer) => panic!("{answer:?}"),
                Err(_) => told.unanswered.insert(name),
            };
        }
    }

    /// Changes flags until the connection breaks.
    fn mark(&self, address: SocketAddr) {
        let Ok(mut imap) = Imap::open(address, "alice", "demo", "INBOX") else {
            return;
        };
        for number in 0.. {
            let sign = if number % 2 == 0 { '+' } else { '-' };
            let stored = imap.say(&format!(
                "STORE 1:10 {sign}FLAGS (\\Flagged $K{})",
                number % 5
            ));
            // There may be no ten messages yet.
            if self.stop.load(Ordering::Relaxed) || stored.is_err() {
                return;
            }
        }
    }
}

#[test]
fn nothing_acknowledged_is_lost_or_doubled_by_kills() {
    let mut site = Site::new("[store]\nsegment = \"1MiB\"\n");
    let told = Arc::new(Mutex::new(Told::default()));
    let mut validity = None;
    let began = Instant::now();
    let mut kills = 0;
    while kills < KILLS {
        site.start();
        kill_under_load(&mut site, kills, &told);
        kills += 1;
        if kills % LOOK_EVERY == 0 || kills == KILLS {
            site.start();
            look(&site, &told.lock().unwrap(), &mut validity);
            site.kill();
        }
        assert!(
            began.elapsed() < TIME_MAX || kills >= KILLS,
            "only {kills} kills in {TIME_MAX:?}"
        );
    }
    site.start();
    look(&site, &told.lock().unwrap(), &mut validity);
    let checked = site.admin(&["check", "--read-messages"]);
    assert_eq!(checked["problems"], serde_json::json!([]), "{checked}");
    let told = told.lock().unwrap();
    assert!(told.accepted.len() > 10 * KILLS as usize, "hardly any load");
    println!(
        "{kills} kills, {} messages accepted, {} unanswered",
        told.accepted.len(),
        told.unanswered.len()
    );
    site.stop();
}

#[test]
fn mail_for_other_sites_outlives_kills() {
    let (ip, port) = own_addresses();
    let sink = Sink::start(ip, port);
    let dns = NameServer::start();
    dns.mx("remote.test", 10, "mx.remote.test")
        .host("mx.remote.test", ip);
    let delivery = format!("[delivery]\nport = {port}\n{}", dns.setting());
    let mut site = Site::new(&delivery);
    let mut accepted = Vec::new();
    for round in 0..REMOTE_KILLS {
        site.start();
        let mut smtp = Smtp::connect(site.address(Service::Submission)).unwrap();
        // NUL alice NUL demo
        smtp.say("AUTH PLAIN AGFsaWNlAGRlbW8=").unwrap();
        for number in 0..=round {
            let name = format!("remote-{round}-{number}");
            let sent = message(&name, "far away");
            let to = ["one@remote.test", "two@remote.test"];
            let reply = smtp.send("alice@example.test", &to, &sent).unwrap();
            assert_eq!(reply.code, 250, "{reply:?}");
            accepted.push(name);
        }
        site.kill();
    }
    site.start();
    eventually("the queue is empty", || {
        let listed = site.admin(&["queue", "list"]);
        listed["items"].as_array().unwrap().is_empty().then_some(())
    });
    let received = sink.received();
    for name in &accepted {
        let line = format!("Subject: {name}\r\n");
        for to in ["TO:<one@remote.test>", "TO:<two@remote.test>"] {
            // A kill between delivery and its record repeats the delivery, but it never prevents it.
            assert!(
                received.iter().any(|received| {
                    text(&received.content).contains(&line)
                        && received.rcpts.iter().any(|rcpt| rcpt.contains(to))
                }),
                "{name} did not reach {to}"
            );
        }
    }
    site.stop();
}

/// Lets the clients run, and kills the server after so many answers: a different number each time.
fn kill_under_load(site: &mut Site, round: u64, told: &Arc<Mutex<Told>>) {
    let load = Arc::new(Load {
        told: Arc::clone(told),
        stop: Arc::default(),
        answers: Arc::default(),
    });
    let smtp = site.address(Service::Smtp);
    let imap = site.address(Service::Imap);
    let mut clients: Vec<_> = (0..SENDERS)
        .map(|sender| {
            let load = Arc::clone(&load);
            std::thread::spawn(move || load.send(smtp, &format!("k{round}-{sender}")))
        })
        .collect();
    let appending = Arc::clone(&load);
    clients.push(std::thread::spawn(move || {
        appending.append(imap, &format!("a{round}"))
    }));
    let marking = Arc::clone(&load);
    clients.push(std::thread::spawn(move || marking.mark(imap)));
    let wanted = 15 + (round * 37 % 61) as usize;
    eventually("the clients are answered", || {
        (load.answers.load(Ordering::Relaxed) >= wanted).then_some(())
    });
    site.kill();
    load.stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().unwrap();
    }
}

/// Compares what is in both inboxes with what the clients were told.
fn look(site: &Site, told: &Told, validity: &mut Option<String>) {
    let (alice, selected) = subjects(site, "alice");
    let (bob, _) = subjects(site, "bob");
    assert_eq!(
        *validity.get_or_insert_with(|| selected.clone()),
        selected,
        "UIDVALIDITY changed"
    );
    for name in &told.accepted {
        assert_eq!(alice.get(name), Some(&1), "{name} was accepted for alice");
        if name.ends_with(" both") {
            assert_eq!(bob.get(name), Some(&1), "{name} was accepted for bob");
        }
    }
    for (user, found) in [("alice", &alice), ("bob", &bob)] {
        for (name, count) in found {
            assert_eq!(*count, 1, "{user} has {name} more than once");
            let known = told.accepted.contains(name) || told.unanswered.contains(name);
            assert!(known, "{user} has {name}, which nobody sent to its end");
        }
    }
    for name in told
        .unanswered
        .iter()
        .filter(|name| name.ends_with(" both"))
    {
        assert_eq!(
            alice.get(name),
            bob.get(name),
            "{name} is there for one recipient only"
        );
    }
}

/// How often each subject is in an inbox; and its UIDVALIDITY.
fn subjects(site: &Site, user: &str) -> (BTreeMap<String, usize>, String) {
    let mut imap = Imap::connect(site.address(Service::Imap)).unwrap();
    imap.say(&format!("LOGIN {user} demo")).unwrap().ok();
    let selected = imap.say("SELECT INBOX").unwrap().ok();
    let validity = selected.with("UIDVALIDITY")[0].text.clone();
    let mut found = BTreeMap::new();
    let mut last = 0;
    for (uid, header) in imap.bodies("HEADER.FIELDS (SUBJECT)").unwrap() {
        assert!(uid > last, "UIDs ascend");
        last = uid;
        let subject = text(&header)
            .trim()
            .trim_start_matches("Subject: ")
            .to_owned();
        *found.entry(subject).or_insert(0) += 1;
    }
    (found, validity)
}
