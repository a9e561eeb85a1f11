//! What the clients were told: which messages were accepted, and what became of them.

use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, Instant};

use super::rng::Rng;

pub const INBOX: &str = "INBOX";
/// Where messages are moved to.
pub const ARCHIVE: &str = "Archive-2026";
/// Where messages are copied to.
pub const COPIES: &str = "Copies";
/// Where messages are appended, besides the inbox.
pub const DRAFTS: &str = "Notes";
pub const MAILBOXES: [&str; 4] = [INBOX, ARCHIVE, COPIES, DRAFTS];

/// How sending a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// Under way.
    Open,
    /// 250 or OK.
    Accepted,
    /// Sent to its end without an answer.
    Unanswered,
    /// Given up after refusals only.
    Refused,
}

/// A message that somebody sent.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Users of this site whom it is for.
    pub users: Vec<usize>,
    /// Recipients elsewhere.
    pub remote: Vec<String>,
    /// The mailbox it goes to.
    pub mailbox: &'static str,
    pub told: Told,
    /// What each attempt came to, for those who look for a mistake.
    pub attempts: Vec<String>,
}

/// What became of a user's message, as the one client that moves and removes that user's mail was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    #[default]
    Kept,
    Moved,
    MaybeMoved,
    Expunged,
    MaybeExpunged,
}

/// How often a message was copied: surely, and at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct Copies {
    pub certain: usize,
    pub possible: usize,
}

/// What sessions saw of a mailbox.
#[derive(Default)]
pub struct Folder {
    pub validity: Option<u32>,
    /// Which message has which UID, for ever.
    pub names: BTreeMap<u32, String>,
    /// All UIDs that a session saw at some time.
    pub listings: Vec<Vec<u32>>,
}

/// All that was promised.
#[derive(Default)]
pub struct Ledger {
    pub sent: HashMap<String, Sent>,
    pub fates: HashMap<(usize, String), Fate>,
    pub copies: HashMap<(usize, String), Copies>,
    pub folders: HashMap<(usize, &'static str), Folder>,
    /// Promises that were seen broken on the way.
    pub broken: Vec<String>,
    /// Answers that kept a client from its work, and how often.
    pub refusals: BTreeMap<String, usize>,
    pub tally: BTreeMap<&'static str, usize>,
    last_accepted: Option<Instant>,
    /// The longest time in which no message was accepted.
    pub longest_gap: Duration,
}

impl Ledger {
    /// A message is sent for the first time.
    pub fn begin(&mut self, name: &str, users: &[usize], remote: &[String], mailbox: &'static str) {
        let sent = Sent {
            users: users.to_vec(),
            remote: remote.to_vec(),
            mailbox,
            told: Told::Open,
            attempts: Vec::new(),
        };
        self.sent.insert(name.to_owned(), sent);
    }

    /// What an attempt came to.
    pub fn attempt(&mut self, name: &str, came_to: String) {
        if let Some(sent) = self.sent.get_mut(name) {
            sent.attempts.push(came_to);
        }
    }

    /// Sending has ended.
    pub fn end(&mut self, name: &str, told: Told) {
        if let Some(sent) = self.sent.get_mut(name) {
            sent.told = told;
        }
        match told {
            Told::Accepted => self.accepted(),
            Told::Unanswered => self.count("unanswered"),
            Told::Refused | Told::Open => self.count("given up"),
        }
    }

    fn accepted(&mut self) {
        self.count("accepted");
        self.measure_gap();
    }

    /// A time without an accepted message ends now, also where the load ends.
    pub fn measure_gap(&mut self) {
        let now = Instant::now();
        if let Some(last) = self.last_accepted.replace(now) {
            self.longest_gap = self.longest_gap.max(now - last);
        }
    }

    /// Something happened once more.
    pub fn count(&mut self, what: &'static str) {
        *self.tally.entry(what).or_default() += 1;
    }

    /// A client was told to come back.
    pub fn refused(&mut self, answer: &str) {
        let answer: String = answer
            .chars()
            .map(|c| if c.is_ascii_digit() { '#' } else { c })
            .take(100)
            .collect();
        *self.refusals.entry(answer).or_default() += 1;
    }

    pub fn fate(&self, user: usize, name: &str) -> Fate {
        let fate = self.fates.get(&(user, name.to_owned()));
        fate.copied().unwrap_or_default()
    }

    pub fn set_fate(&mut self, user: usize, name: &str, fate: Fate) {
        self.fates.insert((user, name.to_owned()), fate);
    }

    pub fn copied(&mut self, user: usize, name: &str, certain: bool) {
        let copies = self.copies.entry((user, name.to_owned())).or_default();
        match certain {
            true => copies.certain += 1,
            false => copies.possible += 1,
        }
    }

    /// The UIDs that nobody has looked behind yet.
    pub fn unknown(&self, user: usize, mailbox: &'static str, uids: &[u32]) -> Vec<u32> {
        let names = self
            .folders
            .get(&(user, mailbox))
            .map(|folder| &folder.names);
        uids.iter()
            .copied()
            .filter(|uid| names.is_none_or(|names| !names.contains_key(uid)))
            .collect()
    }

    /// A session on `node` saw which message has this UID.
    pub fn named(&mut self, user: usize, mailbox: &'static str, uid: u32, name: &str, node: usize) {
        let folder = self.folders.entry((user, mailbox)).or_default();
        let known = folder.names.entry(uid).or_insert_with(|| name.to_owned());
        if known != name {
            let was = known.clone();
            self.broken.push(format!(
                "u{user} {mailbox}: UID {uid} was {was} and is {name} on n{}",
                node + 1
            ));
        }
    }

    /// A session selected a mailbox.
    pub fn selected(&mut self, user: usize, mailbox: &'static str, validity: u32) {
        let folder = self.folders.entry((user, mailbox)).or_default();
        let known = *folder.validity.get_or_insert(validity);
        if known != validity {
            self.broken.push(format!(
                "u{user} {mailbox}: UIDVALIDITY was {known} and is {validity}"
            ));
        }
    }

    /// A session saw these UIDs and no others.
    pub fn listed(&mut self, user: usize, mailbox: &'static str, uids: Vec<u32>) {
        if !uids.is_sorted_by(|a, b| a < b) {
            self.broken
                .push(format!("u{user} {mailbox}: UIDs do not ascend: {uids:?}"));
        }
        let folder = self.folders.entry((user, mailbox)).or_default();
        if folder.listings.last() != Some(&uids) {
            folder.listings.push(uids);
        }
    }
}

/// The one message of a name, whoever makes it: with lines that begin with a dot, of many sizes.
pub fn content(name: &str) -> Vec<u8> {
    let mut rng = Rng::new(7, name);
    let size = match rng.below(100) {
        0..60 => rng.within(100..2_000),
        60..90 => rng.within(2_000..20_000),
        90..99 => rng.within(20_000..200_000),
        _ => rng.within(200_000..1_200_000),
    };
    let mut text = format!(
        "From: Sender <sender@far.test>\r\nTo: <someone@example.test>\r\nSubject: {name}\r\n\
         Message-ID: <{name}@far.test>\r\nDate: Sun, 22 Nov 2026 12:00:00 +0000\r\n\r\n"
    )
    .into_bytes();
    let end = text.len() + size as usize;
    while text.len() < end {
        let line = match rng.below(8) {
            0 => ".".to_owned(),
            1 => format!("..{:x}", rng.next()),
            _ => format!("{:016x} of {name} {:016x}", rng.next(), rng.next()),
        };
        text.extend_from_slice(line.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text
}

/// The name that a message's Subject holds.
pub fn name_of(header: &[u8]) -> String {
    let header = String::from_utf8_lossy(header);
    header.trim().trim_start_matches("Subject: ").to_owned()
}
