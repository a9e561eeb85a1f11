//! Other people's mail programs against the server: what they send arrives, and what is there they can read.
//!
//! A program that is not installed is skipped with a line that says so; with `CI=true` it must be there.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

#[path = "../common/mod.rs"]
mod common;

mod curl;
mod getmail;
mod interop;
mod mbsync;
mod msmtp;
mod neomutt;
mod python;
mod sasl;
mod swaks;

use common::{Imap, Pop3, Service, Site, Smtp, message};

/// Every message in a user's inbox, as POP3 gives it.
fn inbox(site: &Site, user: &str) -> Vec<Vec<u8>> {
    let mut pop3 = Pop3::login(site.address(Service::Pop3), user, "demo").unwrap();
    let count = pop3.count().unwrap();
    let messages = (1..=count).map(|number| pop3.read(&format!("RETR {number}")).unwrap());
    let messages = messages.collect();
    pop3.say("QUIT").unwrap();
    messages
}

/// The one message whose subject is this.
#[track_caller]
fn only(site: &Site, user: &str, subject: &str) -> Vec<u8> {
    let line = format!("Subject: {subject}\r\n").into_bytes();
    let mut all = inbox(site, user);
    all.retain(|message| message.windows(line.len()).any(|window| window == line));
    assert_eq!(
        all.len(),
        1,
        "{user} has {} messages {subject:?}",
        all.len()
    );
    all.remove(0)
}

/// Puts messages into alice's inbox: `subject-1`, `subject-2` and so on.
fn fill(site: &Site, subject: &str, count: usize) -> Vec<Vec<u8>> {
    let mut smtp = Smtp::connect(site.address(Service::Smtp)).unwrap();
    let sent = (1..=count).map(|number| {
        let sent = message(
            &format!("{subject}-{number}"),
            &format!("text {number}\n.dot"),
        );
        let reply = smtp
            .send("sender@far.test", &["alice@example.test"], &sent)
            .unwrap();
        assert_eq!(reply.code, 250, "{reply:?}");
        sent
    });
    sent.collect()
}

/// Alice's mailbox over IMAP.
fn alice(site: &Site, mailbox: &str) -> Imap {
    Imap::open(site.address(Service::Imap), "alice", "demo", mailbox).unwrap()
}
