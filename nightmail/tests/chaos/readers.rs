//! Clients that read: each user's own, which marks, copies, moves and removes, and those that wait for mail.

use std::io;
use std::time::Duration;

use super::common::Imap;
use super::common::imap::number_after;
use super::ledger::{ARCHIVE, COPIES, Fate, INBOX, name_of};
use super::rng::Rng;
use super::world::World;

/// UIDs named in one command.
const UIDS_PER_COMMAND: usize = 200;
/// How long a watcher waits for news before it looks by itself.
const WATCH: Duration = Duration::from_secs(3);

/// The one client that moves and removes a user's mail.
pub fn keep(world: &World, user: usize) {
    let mut rng = Rng::new(world.seed, &format!("keeper {user}"));
    while !world.is_stopped() {
        let node = world.node(&mut rng);
        // A session that breaks off is followed by another.
        let _ = keep_on(world, user, node, &mut rng);
        world.pause(&mut rng, 20..150);
    }
}

fn keep_on(world: &World, user: usize, node: usize, rng: &mut Rng) -> io::Result<()> {
    let mut imap = world.imap(node, user)?;
    select(world, &mut imap, user, INBOX)?;
    for _ in 0..rng.within(4..16) {
        if world.is_stopped() {
            return Ok(());
        }
        let uids = list(world, &mut imap, user, INBOX, node)?;
        let kept = kept(world, user, &uids);
        if !kept.is_empty() {
            act(world, &mut imap, user, &kept, rng)?;
        }
        world.pause(rng, 20..100);
    }
    imap.say("LOGOUT").map(drop)
}

/// Messages with names whose fate is not sealed.
fn kept(world: &World, user: usize, uids: &[u32]) -> Vec<(u32, String)> {
    let ledger = world.ledger.lock().unwrap();
    let Some(folder) = ledger.folders.get(&(user, INBOX)) else {
        return Vec::new();
    };
    let named = uids.iter().filter_map(|uid| {
        let name = folder.names.get(uid)?;
        (ledger.fate(user, name) == Fate::Kept).then(|| (*uid, name.clone()))
    });
    named.collect()
}

fn act(
    world: &World,
    imap: &mut Imap,
    user: usize,
    kept: &[(u32, String)],
    rng: &mut Rng,
) -> io::Result<()> {
    let (uid, name) = rng.pick(kept).clone();
    match rng.below(10) {
        0..4 => mark(world, imap, kept, rng),
        4..6 => copy(world, imap, user, uid, &name),
        6..8 => relocate(world, imap, user, uid, &name),
        _ => expunge(world, imap, user, uid, &name),
    }
}

fn mark(world: &World, imap: &mut Imap, kept: &[(u32, String)], rng: &mut Rng) -> io::Result<()> {
    let wanted = 1 + rng.below(8);
    let some = rng.some(wanted, kept.len());
    let set: Vec<String> = some.iter().map(|at| kept[*at].0.to_string()).collect();
    let sign = rng.pick(&["+", "-", ""]);
    let flags = format!("\\Flagged $K{}", rng.below(5));
    let command = format!("UID STORE {} {sign}FLAGS ({flags})", set.join(","));
    let answer = imap.say(&command)?;
    world.ledger.lock().unwrap().count("flag changes");
    world.obeyed(&answer.status)
}

fn copy(world: &World, imap: &mut Imap, user: usize, uid: u32, name: &str) -> io::Result<()> {
    let answer = imap.say(&format!("UID COPY {uid} \"{COPIES}\""));
    let mut ledger = world.ledger.lock().unwrap();
    match &answer {
        Ok(answer) if answer.status.starts_with("OK") => {
            ledger.copied(user, name, true);
            ledger.count("copied");
        }
        Ok(_) => {}
        Err(_) => ledger.copied(user, name, false),
    }
    drop(ledger);
    world.obeyed(&answer?.status)
}

fn relocate(world: &World, imap: &mut Imap, user: usize, uid: u32, name: &str) -> io::Result<()> {
    let answer = imap.say(&format!("UID MOVE {uid} \"{ARCHIVE}\""));
    let mut ledger = world.ledger.lock().unwrap();
    match &answer {
        Ok(answer) if answer.status.starts_with("OK") => {
            ledger.set_fate(user, name, Fate::Moved);
            ledger.count("moved");
        }
        Ok(_) => {}
        Err(_) => ledger.set_fate(user, name, Fate::MaybeMoved),
    }
    drop(ledger);
    world.obeyed(&answer?.status)
}

fn expunge(world: &World, imap: &mut Imap, user: usize, uid: u32, name: &str) -> io::Result<()> {
    let marked = imap.say(&format!("UID STORE {uid} +FLAGS.SILENT (\\Deleted)"))?;
    world.obeyed(&marked.status)?;
    let answer = imap.say(&format!("UID EXPUNGE {uid}"));
    let mut ledger = world.ledger.lock().unwrap();
    match &answer {
        Ok(answer) if answer.status.starts_with("OK") => {
            // Only messages that carry the mark are removed, and a crash of the database may drop a mark of late:
            // what has been removed is what is said to be.
            if answer.with("EXPUNGE").is_empty() {
                ledger.set_fate(user, name, Fate::MaybeExpunged);
                ledger.count("marks lost before EXPUNGE");
            } else {
                ledger.set_fate(user, name, Fate::Expunged);
                ledger.count("expunged");
            }
        }
        Ok(_) => {}
        Err(_) => ledger.set_fate(user, name, Fate::MaybeExpunged),
    }
    drop(ledger);
    world.obeyed(&answer?.status)
}

/// A client that waits for mail of any user on any node.
pub fn watch(world: &World, number: usize) {
    let mut rng = Rng::new(world.seed, &format!("watcher {number}"));
    while !world.is_stopped() {
        let (node, user) = (world.node(&mut rng), rng.below(world.users));
        let _ = watch_on(world, user, node);
        world.pause(&mut rng, 20..150);
    }
}

fn watch_on(world: &World, user: usize, node: usize) -> io::Result<()> {
    let mut imap = world.imap(node, user)?;
    select(world, &mut imap, user, INBOX)?;
    for _ in 0..4 {
        if world.is_stopped() {
            return Ok(());
        }
        list(world, &mut imap, user, INBOX, node)?;
        let tag = imap.start("IDLE")?;
        let ready = imap.response()?;
        if !ready.text.starts_with('+') {
            return Err(io::Error::other(ready.text));
        }
        imap.lines.patience(WATCH);
        // Silence ends the wait as news does; the answer to DONE tells which it was.
        let heard = imap.response().is_ok();
        World::patience(&mut imap.lines, false);
        imap.lines.write(b"DONE\r\n")?;
        let answer = imap.finish(&tag)?;
        world.obeyed(&answer.status)?;
        if heard {
            world.ledger.lock().unwrap().count("news heard in IDLE");
        }
    }
    imap.say("LOGOUT").map(drop)
}

/// Selects a mailbox; its UIDVALIDITY must be what it was.
pub fn select(
    world: &World,
    imap: &mut Imap,
    user: usize,
    mailbox: &'static str,
) -> io::Result<()> {
    let answer = imap.say(&format!("SELECT \"{mailbox}\""))?;
    world.obeyed(&answer.status)?;
    let stated = answer.with("UIDVALIDITY");
    let validity = stated
        .first()
        .and_then(|response| number_after(&response.text, "UIDVALIDITY "));
    let validity = validity.ok_or_else(|| io::Error::other("no UIDVALIDITY"))?;
    let mut ledger = world.ledger.lock().unwrap();
    ledger.selected(user, mailbox, validity);
    Ok(())
}

/// Every UID of the selected mailbox; those that nobody saw before are looked behind.
pub fn list(
    world: &World,
    imap: &mut Imap,
    user: usize,
    mailbox: &'static str,
    node: usize,
) -> io::Result<Vec<u32>> {
    let answer = imap.say("UID SEARCH ALL")?;
    world.obeyed(&answer.status)?;
    let found = answer.with("* SEARCH");
    let numbers = found.iter().flat_map(|response| response.text.split(' '));
    let uids: Vec<u32> = numbers.filter_map(|word| word.parse().ok()).collect();
    let unknown = world.ledger.lock().unwrap().unknown(user, mailbox, &uids);
    for some in unknown.chunks(UIDS_PER_COMMAND) {
        let set: Vec<String> = some.iter().map(u32::to_string).collect();
        let command = format!(
            "UID FETCH {} (UID BODY.PEEK[HEADER.FIELDS (SUBJECT)])",
            set.join(",")
        );
        let headers = imap.bodies_of(&command)?;
        let mut ledger = world.ledger.lock().unwrap();
        for (uid, header) in headers {
            ledger.named(user, mailbox, uid, &name_of(&header), node);
        }
    }
    let mut ledger = world.ledger.lock().unwrap();
    ledger.listed(user, mailbox, uids.clone());
    Ok(uids)
}
