//! Large mailboxes: what one client waits for, here and at the peer, and what such a mailbox takes of memory.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use super::load::{Client, Figures, Scale, figure};
use super::nightmail::{Node, add_users, folder, launch, launch_frugal, write};
use super::subject::{Subject, wait_for};
use super::{BenchArgs, peer};
use crate::error::TaskError;

/// Where LMTP is served, beside the other protocols.
const LMTP: &str = "127.0.0.1:13124";
/// IMAP for very many clients, in the clear and under TLS.
const IDLERS: [&str; 2] = ["127.0.0.1:13144", "127.0.0.1:13994"];

/// The listeners that these loads need.
fn settings() -> String {
    let [plain, tls] = IDLERS;
    let listeners = [
        ("lmtp", LMTP, "none"),
        ("imap", plain, "none"),
        ("imap", tls, "implicit"),
    ];
    let listener = |(protocol, address, tls)| {
        format!(
            "\n[[listener]]\nprotocol = \"{protocol}\"\naddress = \"{address}\"\ntls = \"{tls}\"\nplaintext_auth = true\nconnections_max = 50000\nconnections_per_address_max = 50000\n"
        )
    };
    listeners.map(listener).concat()
}

/// Users whose INBOX is measured, by number.
const LARGE: u32 = 1;
const TEXTS: u32 = 2;
const HUGE: u32 = 3;
const EMPTY: u32 = 4;
const FOLDERS: u32 = 5;
const FEW: u32 = 6;
/// So many users take part in every load; one further waits alone while others idle.
const USERS: u32 = 6;
/// Messages that wake one idle connection, one after the other.
const WAKES: u32 = 1000;
/// Messages of the mailbox that resynchronizing a huge one is compared with.
const FEW_MESSAGES: u32 = 10;

pub(super) const HUGE_OPEN: &str = "SELECT and FETCH 1:* (UID FLAGS) of the huge mailbox, s";
pub(super) const HUGE_MEMORY: &str = "memory of a message of a selected mailbox, octets";
pub(super) const STATUSES: &str = "STATUS of every folder, ms";
pub(super) const DELIVERY: &str = "delivery into the huge mailbox, times that into an empty one";
pub(super) const RESYNC: &str = "SELECT QRESYNC of the huge mailbox, times that of a small one";
pub(super) const IDLE_PLAIN: &str = "memory of an idle IMAP connection, KB";
pub(super) const IDLE_TLS: &str = "memory of an idle IMAP connection under TLS, KB";
pub(super) const WAKE: &str = "CPU of waking one connection of many idle, times that of one alone";

/// How large the mailboxes are.
pub(super) struct Sizes {
    large: u32,
    texts: u32,
    huge: u32,
    folders: u32,
    delivered: u32,
    /// Idle connections: a process may have 20,000 files open on many a machine.
    idle: u32,
}

impl Sizes {
    const fn new(quick: bool) -> Self {
        match quick {
            true => Self {
                large: 20_000,
                texts: 5_000,
                huge: 50_000,
                folders: 1_000,
                delivered: 100,
                idle: 2_000,
            },
            false => Self {
                large: 200_000,
                texts: 50_000,
                huge: 1_000_000,
                folders: 1_000,
                delivered: 500,
                idle: 19_000,
            },
        }
    }
}

/// A command that both servers are asked.
pub(super) struct Command {
    /// What the table calls it.
    pub(super) name: &'static str,
    /// What the report calls it.
    timed: &'static str,
    /// How many times the best peer's figure is wanted.
    pub(super) target: Option<f64>,
}

const fn wanted(name: &'static str, timed: &'static str) -> Command {
    Command {
        name,
        timed,
        target: Some(2.0),
    }
}

const fn told(name: &'static str, timed: &'static str) -> Command {
    Command {
        name,
        timed,
        target: None,
    }
}

/// In the order of the table. Figures are units a second in the shortest time.
pub(super) const COMMANDS: [Command; 20] = [
    told("filling by APPEND, messages/s", "fill"),
    wanted("SELECT, a second", "SELECT"),
    wanted(
        "SELECT in a new session, a second",
        "SELECT in a new session",
    ),
    wanted("FETCH 1:* (FLAGS), messages/s", "FETCH flags"),
    wanted("UID SEARCH ALL, messages/s", "SEARCH all"),
    wanted("UID SEARCH UNSEEN, messages/s", "SEARCH unseen"),
    wanted("UID SEARCH KEYWORD, messages/s", "SEARCH keyword"),
    wanted("UID SEARCH SINCE, messages/s", "SEARCH since"),
    wanted("STORE 1:* +FLAGS, messages/s", "STORE"),
    wanted("STORE 1:* +FLAGS.SILENT, messages/s", "STORE silent"),
    wanted("COPY 1:*, messages/s", "COPY"),
    wanted("EXPUNGE of all, messages/s", "EXPUNGE"),
    wanted(
        "FETCH (ENVELOPE BODYSTRUCTURE), messages/s",
        "FETCH envelopes",
    ),
    told("UID SEARCH TEXT, messages/s", "SEARCH text"),
    told("UID SEARCH BODY, messages/s", "SEARCH body"),
    told("UID SEARCH SUBJECT, messages/s", "SEARCH subject"),
    told("UID SEARCH HEADER Message-ID, messages/s", "SEARCH header"),
    told("STATUS, folders/s", "STATUS of every folder"),
    told("LIST-STATUS, folders/s", "LIST with STATUS"),
    told("LIST, folders/s", "LIST"),
];

/// Everything that was measured: here, at the peers, and what has a bound of its own.
pub(super) struct Measured {
    pub(super) ours: Figures,
    pub(super) peers: Vec<(String, Figures)>,
    pub(super) alone: Figures,
}

/// Measures Nightmail and, where it can be brought up, the peer.
pub(super) fn measure(
    program: &Path,
    client: &Client,
    args: &BenchArgs,
) -> Result<Measured, TaskError> {
    let sizes = Sizes::new(args.quick);
    let scale = Scale::new(args.quick).over(USERS);
    let run = Load {
        client,
        scale: &scale,
        sizes: &sizes,
    };
    let mut ours = Ours::start(program)?;
    let figures = run.compared(&ours.subject)?;
    let alone = run.alone(&mut ours, figures.get("STATUS, folders/s").copied())?;
    drop(ours);
    let mut peers = Vec::new();
    match peer::available(args.peer_dir.as_deref()) {
        Err(why) => println!("peer skipped: {why}"),
        Ok(folder) => {
            for format in peer::FORMATS {
                let subject = peer::start(folder, format)?;
                peers.push((format.to_owned(), run.compared(&subject)?));
            }
        }
    }
    Ok(Measured {
        ours: figures,
        peers,
        alone,
    })
}

/// Nightmail on a folder of its own, which can be started again.
struct Ours {
    program: PathBuf,
    config: PathBuf,
    subject: Subject,
    // Dropped after the server.
    _folder: tempfile::TempDir,
}

impl Ours {
    fn start(program: &Path) -> Result<Self, TaskError> {
        println!("nightmail");
        let folder = folder()?;
        let settings = settings();
        let config = write(&node(&settings), folder.path())?;
        let subject = launch(program, &node(&settings), &config)?;
        wait_for(LMTP)?;
        add_users(program, &config, USERS + 1)?;
        Ok(Self {
            program: program.to_owned(),
            config,
            subject,
            _folder: folder,
        })
    }

    /// Starts the server anew, so that what it remembers of the loads before is gone, and such that its memory can be
    /// read.
    fn restart(&mut self) -> Result<(), TaskError> {
        // The one before is stopped first: both want the same ports.
        drop(self.subject.stop.take());
        self.subject = launch_frugal(&self.program, &node(""), &self.config)?;
        wait_for(LMTP)
    }
}

/// The server; it reads its settings from the file that was written with them.
const fn node(settings: &str) -> Node<'_> {
    Node {
        name: "nightmail",
        host: "127.0.0.1",
        settings,
    }
}

/// What the loads are run with.
struct Load<'a> {
    client: &'a Client,
    scale: &'a Scale,
    sizes: &'a Sizes,
}

impl Load<'_> {
    fn mailbox(&self, subject: &Subject, arguments: &str) -> Result<Value, TaskError> {
        let arguments = format!("mailbox {arguments} -t3600");
        self.client.run(subject, self.scale, &arguments)
    }

    fn fill(
        &self,
        subject: &Subject,
        user: u32,
        count: u32,
        octets: u32,
    ) -> Result<Value, TaskError> {
        let load = format!("fill {{imap}} --user {user} -c4 -n{count} --octets {octets}");
        self.mailbox(subject, &load)
    }

    /// Every command that both servers are asked.
    fn compared(&self, subject: &Subject) -> Result<Figures, TaskError> {
        let Sizes {
            large,
            texts,
            folders,
            ..
        } = *self.sizes;
        let mut figures = Figures::new();
        note(&mut figures, &self.fill(subject, LARGE, large, 1500)?);
        let access = format!("access {{imap}} --user {LARGE} --repeat 3");
        note(&mut figures, &self.mailbox(subject, &access)?);
        self.fill(subject, TEXTS, texts, 10_000)?;
        let find = format!("find {{imap}} --user {TEXTS} --repeat 3");
        note(&mut figures, &self.mailbox(subject, &find)?);
        let many = format!("folders {{imap}} --user {FOLDERS} -n{folders}");
        note(&mut figures, &self.mailbox(subject, &many)?);
        Ok(figures)
    }

    /// What the huge mailbox costs.
    fn alone(&self, ours: &mut Ours, statuses: Option<f64>) -> Result<Figures, TaskError> {
        let mut figures = Figures::new();
        if let Some(a_second) = statuses {
            figures.insert(STATUSES, f64::from(self.sizes.folders) / a_second * 1e3);
        }
        self.fill(&ours.subject, HUGE, self.sizes.huge, 1000)?;
        self.fill(&ours.subject, FEW, FEW_MESSAGES, 1000)?;
        ours.restart()?;
        self.open_huge(&ours.subject, &mut figures)?;
        let resync = |user: u32| -> Result<Option<f64>, TaskError> {
            let load = format!("resync {{imap}} --user {user} --repeat 20");
            let report = self.mailbox(&ours.subject, &load)?;
            Ok(figure(&report, "/timings/SELECT QRESYNC/median_ms"))
        };
        if let Some((huge, few)) = resync(HUGE)?.zip(resync(FEW)?) {
            println!("    {huge:.3} ms against {few:.3} ms");
            figures.insert(RESYNC, huge / few);
        }
        let deliver = |user: u32| -> Result<Option<f64>, TaskError> {
            let count = self.sizes.delivered;
            let load = format!(
                "smtp {LMTP} --lmtp -c1 -n{count} -t600 --user-template u{user:04}@example.test"
            );
            let report = self.client.run(&ours.subject, self.scale, &load)?;
            Ok(figure(&report, "/latency/p50_ms"))
        };
        // The first one makes both warm.
        deliver(EMPTY)?;
        if let Some((huge, empty)) = deliver(HUGE)?.zip(deliver(EMPTY)?) {
            println!("    {huge:.3} ms against {empty:.3} ms");
            figures.insert(DELIVERY, huge / empty);
        }
        self.idle(ours, &mut figures)?;
        Ok(figures)
    }

    /// What connections cost that only wait, each kind at a server that has done nothing yet.
    fn idle(&self, ours: &mut Ours, figures: &mut Figures) -> Result<(), TaskError> {
        let [plain, tls] = IDLERS;
        let mut hold = |address: &str, more: &str, count: u32| -> Result<Value, TaskError> {
            ours.restart()?;
            let load = format!("imap idle {address} {more} -c{count} -t3 --wake {WAKES}");
            self.client.run(&ours.subject, self.scale, &load)
        };
        let alone = hold(plain, "", 1)?;
        let among = hold(plain, "", self.sizes.idle)?;
        let secure = hold(tls, "--tls implicit", self.sizes.idle)?;
        for (name, report) in [(IDLE_PLAIN, &among), (IDLE_TLS, &secure)] {
            let octets = figure(report, "/idle/rss_bytes_per_connection");
            figures.extend(octets.map(|octets| (name, octets / 1e3)));
        }
        let cpu = |report: &Value| figure(report, "/idle/wake/cpu_micros_per_message");
        if let Some((among, alone)) = cpu(&among).zip(cpu(&alone)) {
            println!("    {among:.0} us of CPU against {alone:.0} us");
            figures.insert(WAKE, among / alone);
        }
        Ok(())
    }

    /// Opens the huge mailbox at a server that has done nothing yet but open a small one.
    fn open_huge(&self, subject: &Subject, figures: &mut Figures) -> Result<(), TaskError> {
        let open = |user: u32| {
            let load = format!("open {{imap}} --user {user} --repeat 3 --settle 2");
            self.mailbox(subject, &load)
        };
        open(FEW)?;
        let report = open(HUGE)?;
        let timed = |what: &str| figure(&report, &format!("/timings/open and FETCH flags/{what}"));
        if let Some((cold, warm)) = timed("first_ms").zip(timed("min_ms")) {
            println!("    cold {cold:.0} ms, warm {warm:.0} ms");
            figures.insert(HUGE_OPEN, cold / 1e3);
        }
        let resident = |when: &str| figure(&report, &format!("/servers/0/{when}/rss_bytes"));
        if let Some((after, before)) = resident("after").zip(resident("before")) {
            let each = (after - before) / f64::from(self.sizes.huge);
            println!(
                "    {:.1} MB resident before, {:.1} MB while selected",
                before / 1e6,
                after / 1e6
            );
            figures.insert(HUGE_MEMORY, each);
        }
        Ok(())
    }
}

/// Takes the figures out of a report.
fn note(figures: &mut Figures, report: &Value) {
    for command in &COMMANDS {
        let told = |what: &str| figure(report, &format!("/timings/{}/{what}", command.timed));
        if let Some((a_second, ms)) = told("per_second").zip(told("min_ms")) {
            let took = Duration::from_secs_f64(ms / 1e3);
            println!("    {}: {a_second:.0} ({took:.2?})", command.name);
            figures.insert(command.name, a_second);
        }
    }
}
