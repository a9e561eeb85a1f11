//! Clients that send: MTAs, a user who submits mail for other sites, and one who appends.
//!
//! Each behaves as a good sender does: what was refused for the time being, or broke off before the end of the
//! message was sent, is sent again to another node; what got no answer after that end is not.

use std::io;

use super::common::Smtp;
use super::common::smtp::stuff;
use super::ledger::{DRAFTS, INBOX, Told, content};
use super::rng::Rng;
use super::world::{World, address};

/// What an attempt came to.
enum Attempt {
    Accepted,
    Unanswered,
    /// Not taken, so that it is to be sent again.
    Again(String),
}

/// An MTA with mail for users.
pub fn local(world: &World, number: usize) {
    let mut sender = Sender::new(world, &format!("s{number}"), false);
    while !world.is_stopped() {
        let wanted = 1 + sender.rng.below(3);
        let users = sender.rng.some(wanted, world.users);
        sender.send(&users, &[]);
        world.pause(&mut sender.rng, 10..60);
    }
}

/// A user with mail for other sites, now and then for users as well.
pub fn remote(world: &World, number: usize) {
    let mut sender = Sender::new(world, &format!("r{number}"), true);
    for count in 0.. {
        if world.is_stopped() {
            return;
        }
        let wanted = sender.rng.below(2);
        let users = sender.rng.some(wanted, world.users);
        let mut remote = vec![format!("one{}@remote.test", count % 5)];
        if count % 3 == 0 {
            remote.push(format!("two{}@remote.test", count % 7));
        }
        sender.send(&users, &remote);
        world.pause(&mut sender.rng, 60..200);
    }
}

struct Sender<'a> {
    world: &'a World,
    mark: String,
    submits: bool,
    rng: Rng,
    sent: usize,
    /// The open connection and the node at its other end.
    open: Option<(usize, Smtp)>,
}

impl<'a> Sender<'a> {
    fn new(world: &'a World, mark: &str, submits: bool) -> Self {
        Self {
            world,
            mark: mark.to_owned(),
            submits,
            rng: Rng::new(world.seed, mark),
            sent: 0,
            open: None,
        }
    }

    /// Sends a message until it is taken, its fate is open, or the load ends.
    fn send(&mut self, users: &[usize], remote: &[String]) {
        self.sent += 1;
        let name = format!("{}-{}", self.mark, self.sent);
        let ledger = &self.world.ledger;
        ledger.lock().unwrap().begin(&name, users, remote, INBOX);
        let mut rcpts: Vec<_> = users.iter().copied().map(address).collect();
        rcpts.extend_from_slice(remote);
        let content = content(&name);
        loop {
            let (node, attempt) = self.attempt(&rcpts, &content);
            let (told, came_to) = match attempt {
                Attempt::Accepted => (Told::Accepted, "accepted".to_owned()),
                Attempt::Unanswered => (Told::Unanswered, "unanswered".to_owned()),
                Attempt::Again(why) => (Told::Open, why),
            };
            let mut ledger = ledger.lock().unwrap();
            let when = self.world.clock();
            ledger.attempt(&name, format!("{when} n{}: {came_to}", node + 1));
            match told {
                Told::Open if self.world.is_stopped() => return ledger.end(&name, Told::Refused),
                Told::Open => ledger.count("sent again"),
                told => return ledger.end(&name, told),
            }
            drop(ledger);
            self.world.pause(&mut self.rng, 20..150);
        }
    }

    /// The open connection now and then, else a new one to any node.
    fn attempt(&mut self, rcpts: &[String], content: &[u8]) -> (usize, Attempt) {
        let kept = self.open.take().filter(|_| self.rng.below(10) > 0);
        let (node, connected) = match kept {
            Some((node, smtp)) => (node, Ok(smtp)),
            None => {
                let node = self.world.node(&mut self.rng);
                let connected = match self.submits {
                    true => self.world.submission(node),
                    false => self.world.smtp(node),
                };
                (node, connected)
            }
        };
        let mut smtp = match connected {
            Ok(smtp) => smtp,
            Err(error) => return (node, Attempt::Again(format!("no connection: {error}"))),
        };
        let attempt = self.transaction(&mut smtp, rcpts, content);
        if matches!(attempt, Attempt::Accepted) {
            self.open = Some((node, smtp));
        }
        (node, attempt)
    }

    fn transaction(&self, smtp: &mut Smtp, rcpts: &[String], content: &[u8]) -> Attempt {
        match self.up_to_the_dot(smtp, rcpts, content) {
            Ok(None) => {}
            Ok(Some(refusal)) => return Attempt::Again(refusal),
            Err(error) => return Attempt::Again(format!("broke off: {error}")),
        }
        World::patience(&mut smtp.lines, true);
        let reply = smtp.lines.write(b".\r\n").and_then(|()| smtp.reply());
        World::patience(&mut smtp.lines, false);
        match reply {
            Ok(reply) if reply.code == 250 => Attempt::Accepted,
            Ok(reply) => Attempt::Again(self.refusal("the message", reply.code, &reply.text)),
            Err(_) => Attempt::Unanswered,
        }
    }

    /// All but the end of the message; the refusal, if there is one.
    fn up_to_the_dot(
        &self,
        smtp: &mut Smtp,
        rcpts: &[String],
        content: &[u8],
    ) -> io::Result<Option<String>> {
        let from = match self.submits {
            true => address(0),
            false => "sender@far.test".to_owned(),
        };
        let rcpts: Vec<&str> = rcpts.iter().map(String::as_str).collect();
        let reply = smtp.begin(&from, "", &rcpts)?;
        if reply.code != 354 {
            return Ok(Some(self.refusal("the envelope", reply.code, &reply.text)));
        }
        let stuffed = stuff(content);
        let body = stuffed.strip_suffix(b".\r\n").unwrap_or(&stuffed);
        smtp.lines.write(body).map(|()| None)
    }

    /// A refusal must be for the time being.
    fn refusal(&self, what: &str, code: u16, text: &str) -> String {
        let says = format!("{code} {text}");
        let mut ledger = self.world.ledger.lock().unwrap();
        ledger.refused(&says);
        if !(400..500).contains(&code) {
            ledger.broken.push(format!("{what} was answered {says}"));
        }
        format!("{what} was answered {says}")
    }
}

/// A user who appends to mailboxes of his own.
pub fn append(world: &World, number: usize) {
    let mark = format!("a{number}");
    let mut rng = Rng::new(world.seed, &mark);
    for count in 0.. {
        if world.is_stopped() {
            return;
        }
        let name = format!("{mark}-{count}");
        let user = rng.below(world.users);
        let mailbox = *rng.pick(&[INBOX, DRAFTS]);
        let ledger = &world.ledger;
        ledger.lock().unwrap().begin(&name, &[user], &[], mailbox);
        append_until_taken(world, &mut rng, &name, user, mailbox);
        world.pause(&mut rng, 50..250);
    }
}

fn append_until_taken(world: &World, rng: &mut Rng, name: &str, user: usize, mailbox: &str) {
    let content = content(name);
    loop {
        let node = world.node(rng);
        let attempt = append_once(world, node, user, mailbox, &content);
        let mut ledger = world.ledger.lock().unwrap();
        let (told, came_to) = match attempt {
            Ok(told) => (told, format!("{told:?}")),
            Err(error) => (Told::Open, error.to_string()),
        };
        let when = world.clock();
        ledger.attempt(name, format!("{when} n{}: {came_to}", node + 1));
        match told {
            Told::Open if world.is_stopped() => return ledger.end(name, Told::Refused),
            Told::Open => ledger.count("appended again"),
            told => return ledger.end(name, told),
        }
        drop(ledger);
        world.pause(rng, 50..200);
    }
}

/// One attempt to append; an error where the message was surely not sent to its end.
fn append_once(
    world: &World,
    node: usize,
    user: usize,
    mailbox: &str,
    content: &[u8],
) -> io::Result<Told> {
    let mut imap = world.imap(node, user)?;
    let tag = imap.start(&format!("APPEND \"{mailbox}\" () {{{}}}", content.len()))?;
    let ready = imap.response()?;
    if !ready.text.starts_with('+') {
        let status = ready.text.trim_start_matches(&tag).trim_start();
        world.obeyed(status)?;
        return Err(io::Error::other(ready.text));
    }
    imap.lines.write(content)?;
    World::patience(&mut imap.lines, true);
    let answer = imap.lines.write(b"\r\n").and_then(|()| imap.finish(&tag));
    match answer {
        Ok(answer) => world.obeyed(&answer.status).map(|()| Told::Accepted),
        Err(_) => Ok(Told::Unanswered),
    }
}
