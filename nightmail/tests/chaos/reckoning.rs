//! The reckoning: all that is there is compared with all that was promised.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::common::Imap;
use super::common::cluster::ClusterSite;
use super::common::sink::Sink;
use super::ledger::{
    ARCHIVE, COPIES, Fate, INBOX, Ledger, MAILBOXES, Sent, Told, content, name_of,
};
use super::readers::select;
use super::world::{World, login};

/// How long the cluster may take to be quiet after everything was mended.
const QUIET_TIMEOUT: Duration = Duration::from_secs(120);
/// Messages fetched by one command.
const FETCHED_AT_ONCE: usize = 100;
/// Above this, each body is read on one of the nodes only.
const READ_ON_ALL_MAX: usize = 20_000;

/// A mailbox as one node shows it: UIDs and names in order.
type Shown = Vec<(u32, String)>;

/// Waits until all nodes work and nothing is left to be sent.
pub fn await_quiet(cluster: &mut ClusterSite) {
    for node in &mut cluster.nodes {
        node.await_ready();
    }
    let began = Instant::now();
    loop {
        let queued = cluster.queued();
        if queued.is_empty() {
            return;
        }
        assert!(
            began.elapsed() < QUIET_TIMEOUT,
            "{} messages are still queued, such as {}",
            queued.len(),
            queued[0]
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Every promise that is broken, in words.
pub fn reckon(cluster: &ClusterSite, world: &World, sink: &Sink) -> Vec<String> {
    let mut broken = std::mem::take(&mut world.ledger.lock().unwrap().broken);
    let all_read = world.ledger.lock().unwrap().sent.len() <= READ_ON_ALL_MAX;
    for user in 0..world.users {
        let mut found: HashMap<&str, BTreeMap<String, usize>> = HashMap::new();
        for mailbox in MAILBOXES {
            let shown: Vec<Shown> = (0..cluster.nodes.len())
                .map(|node| {
                    let with_bodies = all_read || user % cluster.nodes.len() == node;
                    read(
                        cluster,
                        world,
                        node,
                        user,
                        mailbox,
                        with_bodies,
                        &mut broken,
                    )
                })
                .collect();
            if shown.iter().any(|other| *other != shown[0]) {
                broken.push(format!("nodes do not agree on u{user} {mailbox}"));
            }
            for (_, name) in &shown[0] {
                *found
                    .entry(mailbox)
                    .or_default()
                    .entry(name.clone())
                    .or_default() += 1;
            }
            let ledger = world.ledger.lock().unwrap();
            broken.extend(out_of_order(&ledger, user, mailbox, &shown[0]));
        }
        let ledger = world.ledger.lock().unwrap();
        broken.extend(misplaced(&ledger, user, &found));
        drop(ledger);
    }
    let ledger = world.ledger.lock().unwrap();
    broken.extend(halves(&ledger, world.users));
    broken.extend(not_sent_on(&ledger, sink));
    drop(ledger);
    broken.extend(std::mem::take(&mut world.ledger.lock().unwrap().broken));
    broken
}

/// Reads a mailbox on a node. Each body must be that of its name, behind what the server puts before it.
fn read(
    cluster: &ClusterSite,
    world: &World,
    node: usize,
    user: usize,
    mailbox: &'static str,
    with_bodies: bool,
    broken: &mut Vec<String>,
) -> Shown {
    let mut imap = cluster.nodes[node].imap(&login(user), INBOX);
    select(world, &mut imap, user, mailbox).unwrap();
    let mut shown = Shown::new();
    let uids = uids(&mut imap);
    for some in uids.chunks(FETCHED_AT_ONCE) {
        let set: Vec<String> = some.iter().map(u32::to_string).collect();
        let section = if with_bodies {
            ""
        } else {
            "HEADER.FIELDS (SUBJECT)"
        };
        let command = format!("UID FETCH {} (UID BODY.PEEK[{section}])", set.join(","));
        for (uid, body) in imap.bodies_of(&command).unwrap() {
            let name = if with_bodies {
                subject(&body)
            } else {
                name_of(&body)
            };
            if with_bodies && !body.ends_with(&content(&name)) {
                broken.push(format!(
                    "u{user} {mailbox}: {name} with UID {uid} is not what was sent, on n{}",
                    node + 1
                ));
            }
            let mut ledger = world.ledger.lock().unwrap();
            ledger.named(user, mailbox, uid, &name, node);
            shown.push((uid, name));
        }
    }
    let listed: Vec<u32> = shown.iter().map(|(uid, _)| *uid).collect();
    if listed != uids {
        broken.push(format!(
            "u{user} {mailbox}: FETCH gives other messages than SEARCH"
        ));
    }
    shown
}

fn uids(imap: &mut Imap) -> Vec<u32> {
    let answer = imap.say("UID SEARCH ALL").unwrap().ok();
    let found = answer.with("* SEARCH");
    let words = found.iter().flat_map(|response| response.text.split(' '));
    words.filter_map(|word| word.parse().ok()).collect()
}

/// The name in a whole message: the first Subject, which no server writes.
fn subject(message: &[u8]) -> String {
    let text = String::from_utf8_lossy(&message[..message.len().min(8_192)]);
    let line = text.lines().find(|line| line.starts_with("Subject: "));
    name_of(line.unwrap_or_default().as_bytes())
}

/// UIDs ascend, and what is there now was there whenever a session saw a later message.
fn out_of_order(ledger: &Ledger, user: usize, mailbox: &'static str, shown: &Shown) -> Vec<String> {
    let mut broken = Vec::new();
    let uids: Vec<u32> = shown.iter().map(|(uid, _)| *uid).collect();
    if !uids.is_sorted_by(|a, b| a < b) {
        broken.push(format!("u{user} {mailbox}: UIDs do not ascend"));
    }
    let listings = ledger
        .folders
        .get(&(user, mailbox))
        .map(|folder| &folder.listings);
    for listing in listings.into_iter().flatten() {
        let Some(last) = listing.last() else {
            continue;
        };
        let late = uids
            .iter()
            .find(|uid| *uid < last && listing.binary_search(uid).is_err());
        if let Some(uid) = late {
            broken.push(format!(
                "u{user} {mailbox}: UID {uid} came after a session had seen UID {last}"
            ));
        }
    }
    broken
}

/// Messages of a user that are not where they must be, or are where they must not be.
fn misplaced(
    ledger: &Ledger,
    user: usize,
    found: &HashMap<&str, BTreeMap<String, usize>>,
) -> Vec<String> {
    let mut broken = Vec::new();
    for (mailbox, names) in found {
        let unknown = names.keys().filter(|name| {
            let sent = ledger.sent.get(*name);
            sent.is_none_or(|sent| !sent.users.contains(&user))
        });
        broken.extend(unknown.map(|name| format!("u{user} {mailbox}: nobody sent {name:?}")));
    }
    let count = |mailbox: &str, name: &str| {
        let names = found.get(mailbox);
        names
            .and_then(|names| names.get(name))
            .copied()
            .unwrap_or(0)
    };
    for (name, sent) in &ledger.sent {
        if !sent.users.contains(&user) {
            continue;
        }
        let home = count(sent.mailbox, name);
        let archive = count(ARCHIVE, name);
        let fate = ledger.fate(user, name);
        if !is_in_place(sent, fate, home, archive) {
            broken.push(format!(
                "u{user}: {name} ({:?}, {fate:?}) is {home} times in {} and {archive} times in {ARCHIVE}; {:?}",
                sent.told, sent.mailbox, sent.attempts
            ));
        }
        let copies = ledger.copies.get(&(user, name.clone())).copied();
        let copies = copies.unwrap_or_default();
        let copied = count(COPIES, name);
        if copied < copies.certain || copied > copies.certain + copies.possible {
            broken.push(format!(
                "u{user}: {copied} copies of {name}, not {copies:?}"
            ));
        }
    }
    broken
}

fn is_in_place(sent: &Sent, fate: Fate, home: usize, archive: usize) -> bool {
    match (fate, sent.told) {
        (Fate::Kept, Told::Accepted) => (home, archive) == (1, 0),
        (Fate::Kept, Told::Unanswered) => home <= 1 && archive == 0,
        (Fate::Kept, Told::Refused | Told::Open) => (home, archive) == (0, 0),
        (Fate::Moved, _) => (home, archive) == (0, 1),
        (Fate::MaybeMoved, _) => home + archive == 1,
        (Fate::Expunged, _) => (home, archive) == (0, 0),
        (Fate::MaybeExpunged, _) => home <= 1 && archive == 0,
    }
}

/// Messages without an answer that are there for some of their recipients only.
fn halves(ledger: &Ledger, users: usize) -> Vec<String> {
    let mut broken = Vec::new();
    for (name, sent) in &ledger.sent {
        if sent.told != Told::Unanswered || sent.users.len() < 2 {
            continue;
        }
        let present = |user: &usize| {
            let seen = ledger.folders.get(&(*user, sent.mailbox));
            seen.is_some_and(|folder| folder.names.values().any(|known| known == name))
        };
        let there = sent
            .users
            .iter()
            .filter(|user| **user < users && present(user))
            .count();
        if there != 0 && there != sent.users.len() {
            broken.push(format!("{name} is there for {there} of {:?}", sent.users));
        }
    }
    broken
}

/// Messages for other sites that were accepted and did not arrive there.
fn not_sent_on(ledger: &Ledger, sink: &Sink) -> Vec<String> {
    let mut arrived: HashMap<String, Vec<String>> = HashMap::new();
    let mut broken = Vec::new();
    for received in sink.received() {
        let name = subject(&received.content);
        if !received.content.ends_with(&content(&name)) {
            broken.push(format!("{name} is not what was sent, at the other site"));
        }
        arrived.entry(name).or_default().extend(received.rcpts);
    }
    for (name, sent) in &ledger.sent {
        let rcpts = arrived.get(name).map_or(&[][..], Vec::as_slice);
        for to in &sent.remote {
            let there = rcpts.iter().any(|rcpt| rcpt.contains(&format!("<{to}>")));
            match sent.told {
                Told::Accepted if !there => {
                    broken.push(format!("{name} did not reach {to}; {:?}", sent.attempts));
                }
                Told::Refused | Told::Open if there => {
                    broken.push(format!(
                        "{name} was refused and reached {to}; {:?}",
                        sent.attempts
                    ));
                }
                _ => {}
            }
        }
    }
    broken
}

/// How many deliveries to other sites came more than once.
pub fn repeated(sink: &Sink) -> usize {
    let mut times: HashMap<(String, String), usize> = HashMap::new();
    for received in sink.received() {
        for rcpt in received.rcpts {
            *times.entry((subject(&received.content), rcpt)).or_default() += 1;
        }
    }
    times.values().filter(|times| **times > 1).count()
}

/// Removes every message, as users do.
pub fn remove_all(cluster: &ClusterSite, users: usize) {
    for user in 0..users {
        for (at, mailbox) in MAILBOXES.iter().enumerate() {
            let node = &cluster.nodes[(user + at) % cluster.nodes.len()];
            let mut imap = node.imap(&login(user), mailbox);
            if uids(&mut imap).is_empty() {
                continue;
            }
            imap.say("STORE 1:* +FLAGS.SILENT (\\Deleted)")
                .unwrap()
                .ok();
            imap.say("EXPUNGE").unwrap().ok();
        }
    }
}

#[test]
fn the_reckoning_sees_what_is_missing_doubled_strange_and_late() {
    let mut ledger = Ledger::default();
    for name in ["kept", "moved", "gone", "open", "refused"] {
        ledger.begin(name, &[0, 1], &["a@remote.test".to_owned()], INBOX);
        ledger.end(name, Told::Accepted);
    }
    ledger.end("open", Told::Unanswered);
    ledger.end("refused", Told::Refused);
    ledger.set_fate(0, "moved", Fate::Moved);
    ledger.set_fate(0, "gone", Fate::Expunged);
    ledger.copied(0, "kept", true);
    let shown = |inbox: &[&str], archive: &[&str], copies: &[&str]| {
        let mut found: HashMap<&str, BTreeMap<String, usize>> = HashMap::new();
        for (mailbox, names) in [(INBOX, inbox), (ARCHIVE, archive), (COPIES, copies)] {
            for name in names {
                *found
                    .entry(mailbox)
                    .or_default()
                    .entry((*name).to_owned())
                    .or_default() += 1;
            }
        }
        misplaced(&ledger, 0, &found).len()
    };
    assert_eq!(shown(&["kept"], &["moved"], &["kept"]), 0);
    assert_eq!(shown(&["open", "kept"], &["moved"], &["kept"]), 0);
    assert_eq!(shown(&[], &["moved"], &["kept"]), 1, "lost");
    assert_eq!(
        shown(&["kept", "kept"], &["moved"], &["kept"]),
        1,
        "doubled"
    );
    assert_eq!(
        shown(&["kept", "moved"], &["moved"], &["kept"]),
        1,
        "moved and kept"
    );
    assert_eq!(shown(&["kept"], &[], &["kept"]), 1, "lost by moving");
    assert_eq!(shown(&["kept", "gone"], &["moved"], &["kept"]), 1, "risen");
    assert_eq!(
        shown(&["kept", "refused"], &["moved"], &["kept"]),
        1,
        "refused yet taken"
    );
    assert_eq!(
        shown(&["kept", "strange"], &["moved"], &["kept"]),
        1,
        "nobody's"
    );
    assert_eq!(shown(&["kept"], &["moved"], &[]), 1, "no copy");

    ledger.named(0, INBOX, 1, "open", 0);
    assert_eq!(halves(&ledger, 2).len(), 1, "there for one of two");
    ledger.named(1, INBOX, 4, "open", 0);
    assert_eq!(halves(&ledger, 2).len(), 0);
    ledger.named(1, INBOX, 4, "kept", 0);
    assert_eq!(ledger.broken.len(), 1, "another message under a UID");

    ledger.listed(0, INBOX, vec![1, 3]);
    let in_order = vec![(1, "open".to_owned()), (3, "kept".to_owned())];
    assert!(out_of_order(&ledger, 0, INBOX, &in_order).is_empty());
    let late = vec![(1, "open".to_owned()), (2, "late".to_owned())];
    assert_eq!(out_of_order(&ledger, 0, INBOX, &late).len(), 1);
}
