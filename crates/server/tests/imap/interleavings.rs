//! Several sessions change one mailbox at the same time; each follows what it is told as a client does. Whatever the
//! order, numbers name messages that are there, nothing is told where it may not be, and in the end every client knows
//! the mailbox as it is.

use std::collections::{BTreeMap, BTreeSet};

use crate::condstore::number_after;
use crate::harness::{Client, Response, Server};

const SEEDS: u64 = 12;
const STEPS: u32 = 60;
const FLAGS: [&str; 5] = ["\\Seen", "\\Flagged", "\\Answered", "\\Deleted", "word"];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Plain,
    Condstore,
    Qresync,
    UidOnly,
}

type Known = BTreeMap<u32, BTreeSet<String>>;

/// A client, and what it knows of the mailbox.
struct Follower {
    client: Client,
    kind: Kind,
    /// The UIDs by number; none where a message was announced and not yet asked about.
    numbers: Vec<Option<u32>>,
    flags: Known,
    modseqs: BTreeMap<u32, u64>,
    greatest: u32,
    /// What it said last, and whether EXPUNGE may come before it ends.
    running: Option<(String, bool)>,
}

/// Numbers that look random.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % limit.max(1)
    }
}

impl Follower {
    fn new(server: &Server, kind: Kind) -> Self {
        let mut client = server.client();
        match kind {
            Kind::Plain => {}
            Kind::Condstore => drop(client.ok("ENABLE CONDSTORE")),
            Kind::Qresync => drop(client.ok("ENABLE QRESYNC")),
            Kind::UidOnly => drop(client.ok("ENABLE UIDONLY")),
        }
        let mut follower = Self {
            client,
            kind,
            numbers: Vec::new(),
            flags: Known::new(),
            modseqs: BTreeMap::new(),
            greatest: 0,
            running: None,
        };
        let selected = follower.client.ok("SELECT INBOX");
        follower.read(&selected, true);
        follower.catch_up();
        follower
    }

    fn read(&mut self, responses: &[Response], expunges: bool) {
        for response in responses {
            let line = response.text.as_str();
            let words: Vec<&str> = line.splitn(4, ' ').collect();
            match words.as_slice() {
                ["*", "VANISHED", set] => {
                    assert!(
                        expunges && matches!(self.kind, Kind::Qresync | Kind::UidOnly),
                        "{line}"
                    );
                    self.vanish(set);
                }
                ["*", count, "EXISTS"] => {
                    let count = count.parse().unwrap();
                    assert!(count >= self.numbers.len(), "EXISTS shrinks: {line}");
                    self.numbers.resize(count, None);
                }
                ["*", number, "EXPUNGE"] => {
                    assert!(
                        expunges && matches!(self.kind, Kind::Plain | Kind::Condstore),
                        "{line}"
                    );
                    let number: usize = number.parse().unwrap();
                    let uid = self.numbers.remove(number - 1);
                    uid.and_then(|uid| self.flags.remove(&uid));
                }
                ["*", number, "FETCH", _] => {
                    assert!(self.kind != Kind::UidOnly, "{line}");
                    let number: usize = number.parse().unwrap();
                    assert!((1..=self.numbers.len()).contains(&number), "{line}");
                    if line.contains("UID ") {
                        let uid = number_after(line, "UID ") as u32;
                        let known = *self.numbers[number - 1].get_or_insert(uid);
                        assert_eq!(known, uid, "{line}");
                    }
                    if let Some(uid) = self.numbers[number - 1] {
                        self.learn(uid, line);
                    }
                }
                ["*", uid, "UIDFETCH", _] => {
                    assert!(self.kind == Kind::UidOnly, "{line}");
                    let uid = uid.parse().unwrap();
                    if !self.numbers.contains(&Some(uid)) {
                        let place = self.numbers.iter().position(Option::is_none);
                        self.numbers[place.expect(line)] = Some(uid);
                    }
                    self.learn(uid, line);
                }
                _ => {}
            }
        }
    }

    fn vanish(&mut self, set: &str) {
        for range in set.split(',') {
            let (low, high) = range.split_once(':').unwrap_or((range, range));
            let (low, high): (u32, u32) = (low.parse().unwrap(), high.parse().unwrap());
            for uid in low..=high {
                let known = self.numbers.iter().position(|known| *known == Some(uid));
                // One that was announced and not yet asked about is the first of those.
                let place = known.or_else(|| self.numbers.iter().position(Option::is_none));
                self.numbers
                    .remove(place.expect("VANISHED names a message"));
                self.flags.remove(&uid);
            }
        }
    }

    fn learn(&mut self, uid: u32, line: &str) {
        if let Some((_, rest)) = line.split_once("FLAGS (") {
            let names = rest.split_once(')').unwrap().0.split(' ');
            let names = names.filter(|name| !name.is_empty() && *name != "\\Recent");
            self.flags.insert(uid, names.map(str::to_owned).collect());
        }
        if line.contains("MODSEQ (") {
            let modseq = number_after(line, "MODSEQ (");
            let before = self.modseqs.insert(uid, modseq).unwrap_or(0);
            assert!(before <= modseq, "MODSEQ falls: {line}");
        }
    }

    /// Asks about messages that were announced.
    fn catch_up(&mut self) {
        while let Some(first) = self.numbers.iter().position(Option::is_none) {
            let items = match self.kind {
                Kind::Plain | Kind::UidOnly => "(UID FLAGS)",
                _ => "(UID FLAGS MODSEQ)",
            };
            let by_uid = self.kind == Kind::UidOnly;
            let command = match by_uid {
                true => format!("UID FETCH {}:* {items}", self.greatest + 1),
                false => format!("FETCH {}:* {items}", first + 1),
            };
            let responses = self.client.ok(&command);
            self.read(&responses, by_uid);
            let greatest = self.numbers.iter().flatten().max().copied();
            self.greatest = self.greatest.max(greatest.unwrap_or(0));
            if !by_uid {
                let ascending = self.numbers.iter().flatten().collect::<Vec<_>>();
                assert!(ascending.is_sorted(), "numbers follow UIDs");
            }
            // What was announced may be gone again; then the next command tells.
            let responses = self.client.ok("NOOP");
            self.read(&responses, true);
        }
    }

    /// Begins something that changes the mailbox, or looks at it.
    fn begin(&mut self, draw: &mut Draw) {
        let command = match draw.below(10) {
            0 | 1 => "APPEND INBOX {6+}\r\nA: b\r\n".to_owned(),
            2 => "EXPUNGE".to_owned(),
            3 => "NOOP".to_owned(),
            4 => "UID FETCH 1:* (FLAGS)".to_owned(),
            _ => self.store(draw),
        };
        let numbered = command.starts_with("STORE") || command.starts_with("FETCH");
        let tag = self.client.begin(command.as_bytes());
        self.running = Some((tag, !numbered));
    }

    /// A STORE of a message or two that it knows; a silent one it carries out by itself.
    fn store(&mut self, draw: &mut Draw) -> String {
        if self.numbers.is_empty() {
            return "NOOP".to_owned();
        }
        let places: BTreeSet<usize> = (0..2).map(|_| draw.below(self.numbers.len())).collect();
        let by_number = self.kind != Kind::UidOnly && draw.below(2) == 0;
        let silent = draw.below(2) == 0;
        let flag = FLAGS[draw.below(FLAGS.len())];
        let sign = ["+", "-", ""][draw.below(3)];
        let mut named = Vec::new();
        for place in places {
            let uid = self.numbers[place].expect("caught up");
            named.push(if by_number { place + 1 } else { uid as usize }.to_string());
            let flags = self.flags.entry(uid).or_default();
            if silent && sign == "-" {
                flags.remove(flag);
            } else if silent {
                if sign.is_empty() {
                    flags.clear();
                }
                flags.insert(flag.to_owned());
            }
        }
        let verb = if by_number { "STORE" } else { "UID STORE" };
        let suffix = if silent { ".SILENT" } else { "" };
        format!("{verb} {} {sign}FLAGS{suffix} ({flag})", named.join(","))
    }

    fn finish(&mut self) {
        let (tag, expunges) = self.running.take().unwrap();
        let mut responses = self.client.finish(&tag);
        let tagged = responses.pop().unwrap().text;
        assert!(tagged.starts_with("OK"), "{tagged}");
        self.read(&responses, expunges);
        self.catch_up();
    }

    /// What is there, asked for by itself.
    fn truth(&mut self) -> Known {
        let told = self.client.texts("NOOP");
        assert!(told.is_empty(), "everything was told: {told:?}");
        let before = std::mem::take(&mut self.flags);
        let items = self.client.ok("UID FETCH 1:* (FLAGS)");
        for response in &items {
            let line = &response.text;
            let uid = match self.kind {
                Kind::UidOnly => number_after(line, "* ") as u32,
                _ => number_after(line, "UID ") as u32,
            };
            let flags = line.split_once("FLAGS (").unwrap().1;
            let names = flags.split_once(')').unwrap().0.split(' ');
            let names = names.filter(|name| !name.is_empty() && *name != "\\Recent");
            self.flags.insert(uid, names.map(str::to_owned).collect());
        }
        std::mem::replace(&mut self.flags, before)
    }
}

#[test]
fn every_client_can_follow_every_interleaving() {
    for seed in 1..=SEEDS {
        let server = Server::start();
        server.client().fill("INBOX", 5);
        let kinds = [Kind::Plain, Kind::Condstore, Kind::Qresync, Kind::UidOnly];
        let mut followers = kinds.map(|kind| Follower::new(&server, kind));
        let mut draw = Draw(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        for _ in 0..STEPS {
            let busy: Vec<usize> = (0..followers.len()).filter(|_| draw.below(3) > 0).collect();
            for index in &busy {
                followers[*index].begin(&mut draw);
            }
            for index in &busy {
                followers[*index].finish();
            }
        }
        for follower in &mut followers {
            let responses = follower.client.ok("NOOP");
            follower.read(&responses, true);
            follower.catch_up();
        }
        let truths: Vec<Known> = followers.iter_mut().map(Follower::truth).collect();
        for (follower, truth) in followers.iter().zip(&truths) {
            let kind = follower.kind;
            assert_eq!(truth, &truths[0], "seed {seed}: all see the same mailbox");
            assert_eq!(
                &follower.flags, truth,
                "seed {seed}: {kind:?} knows the flags"
            );
            let uids: Vec<u32> = follower.numbers.iter().map(|uid| uid.unwrap()).collect();
            let there: Vec<u32> = truth.keys().copied().collect();
            assert_eq!(uids, there, "seed {seed}: {kind:?} knows the messages");
        }
    }
}
