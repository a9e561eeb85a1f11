//! What all clients share: where the nodes are, what was promised, and when to stop.

use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::common::cluster::ClusterSite;
use super::common::line::Lines;
use super::common::site::PASSWORD;
use super::common::{Imap, Service, Smtp};
use super::ledger::Ledger;
use super::rng::Rng;

/// How long a client waits for an answer, unless it is that to a whole message.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a client waits for the answer to a whole message.
const FINAL_TIMEOUT: Duration = Duration::from_secs(40);

/// The place and the time of the load.
pub struct World {
    pub seed: u64,
    pub users: usize,
    pub ledger: Mutex<Ledger>,
    nodes: Vec<Ports>,
    stop: AtomicBool,
    began: Instant,
}

#[derive(Clone, Copy)]
struct Ports {
    smtp: SocketAddr,
    submission: SocketAddr,
    imap: SocketAddr,
}

/// The login name of a user.
pub fn login(user: usize) -> String {
    format!("u{user}")
}

/// The address of a user.
pub fn address(user: usize) -> String {
    format!("u{user}@example.test")
}

impl World {
    pub fn new(cluster: &ClusterSite, seed: u64, users: usize) -> Self {
        let ports = |node: &super::common::cluster::Node| Ports {
            smtp: node.address(Service::Smtp),
            submission: node.address(Service::Submission),
            imap: node.address(Service::Imap),
        };
        Self {
            seed,
            users,
            ledger: Mutex::default(),
            nodes: cluster.nodes.iter().map(ports).collect(),
            stop: AtomicBool::new(false),
            began: Instant::now(),
        }
    }

    /// Seconds since the load began, for the record.
    pub fn clock(&self) -> String {
        format!("{:.2}s", self.began.elapsed().as_secs_f64())
    }

    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub fn is_stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Waits for a random time, unless the load ends.
    pub fn pause(&self, rng: &mut Rng, millis: std::ops::Range<u64>) {
        let wait = Duration::from_millis(rng.within(millis));
        let began = Instant::now();
        while began.elapsed() < wait && !self.is_stopped() {
            let left = wait.saturating_sub(began.elapsed());
            std::thread::sleep(left.min(Duration::from_millis(100)));
        }
    }

    /// Any node.
    pub fn node(&self, rng: &mut Rng) -> usize {
        rng.below(self.nodes.len())
    }

    pub fn smtp(&self, node: usize) -> io::Result<Smtp> {
        let lines = Lines::connect_within(self.nodes[node].smtp, ANSWER_TIMEOUT)?;
        Smtp::over(lines, "EHLO client.test")
    }

    /// A connection of u0's to the MSA.
    pub fn submission(&self, node: usize) -> io::Result<Smtp> {
        let lines = Lines::connect_within(self.nodes[node].submission, ANSWER_TIMEOUT)?;
        let mut smtp = Smtp::over(lines, "EHLO client.test")?;
        // NUL u0 NUL demo
        let reply = smtp.say("AUTH PLAIN AHUwAGRlbW8=")?;
        match reply.code {
            235 => Ok(smtp),
            400..500 => Err(io::Error::other(reply.text)),
            _ => panic!("a login is refused for good: {reply:?}"),
        }
    }

    /// A session that has logged in.
    pub fn imap(&self, node: usize, user: usize) -> io::Result<Imap> {
        let lines = Lines::connect_within(self.nodes[node].imap, ANSWER_TIMEOUT)?;
        let mut imap = Imap::over(lines)?;
        let answer = imap.say(&format!("LOGIN {} {PASSWORD}", login(user)))?;
        self.obeyed(&answer.status)?;
        Ok(imap)
    }

    /// Waits longer or shorter on a connection: for the answer to a whole message or to anything else.
    pub fn patience(lines: &mut Lines, whole_message: bool) {
        lines.patience(match whole_message {
            true => FINAL_TIMEOUT,
            false => ANSWER_TIMEOUT,
        });
    }

    /// Whether a command was carried out. A refusal that is not for the time being is a broken promise.
    pub fn obeyed(&self, status: &str) -> io::Result<()> {
        if status.starts_with("OK") {
            return Ok(());
        }
        let mut ledger = self.ledger.lock().unwrap();
        ledger.refused(status);
        if !status.contains("UNAVAILABLE") && !status.contains("INUSE") {
            let when = self.clock();
            ledger
                .broken
                .push(format!("{when}: an IMAP command was answered {status:?}"));
        }
        Err(io::Error::other(status.to_owned()))
    }
}
