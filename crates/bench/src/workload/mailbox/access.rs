//! What is done to a large mailbox as a whole, each command timed by itself on a server that is warm.

use std::time::Duration;

use super::fill::RARE_WORD;
use super::raw::{Raw, Told};
use super::{MailboxArgs, Timings};
use crate::error::BenchError;

/// A mailbox with next to nothing in it, to leave the large one for.
const SMALL: &str = "Small";
/// How often it is opened in a turn: that takes so little time that single ones differ much.
const SELECTS: usize = 32;
/// Messages whose envelopes and structures are fetched.
const ENVELOPES: u64 = 50_000;

/// One connection with a mailbox that is measured.
pub(super) struct Bench<'a> {
    args: &'a MailboxArgs,
    raw: Raw,
    exists: u64,
    timings: Timings,
}

impl<'a> Bench<'a> {
    fn begin(args: &'a MailboxArgs) -> Result<Self, BenchError> {
        let mut raw = args.login()?;
        // It may be there from an earlier run.
        let _ = raw.command("CREATE", SMALL);
        Ok(Self {
            args,
            raw,
            exists: 0,
            timings: Timings::default(),
        })
    }

    /// Logs in, makes the small mailbox and selects the large one.
    pub(super) fn open(args: &'a MailboxArgs) -> Result<Self, BenchError> {
        let mut bench = Self::begin(args)?;
        bench.exists = bench.select()?.exists().unwrap_or(0);
        match bench.exists {
            0 => Err(BenchError::Usage(format!("{} is empty", args.mailbox))),
            _ => Ok(bench),
        }
    }

    /// Every command of the comparison, as often as wanted.
    pub(super) fn access(mut self) -> Result<Timings, BenchError> {
        for turn in 0..self.args.repeat {
            self.opening()?;
            self.reading()?;
            self.storing()?;
            self.moving(turn)?;
        }
        Ok(self.timings)
    }

    /// What stands in texts and headers.
    pub(super) fn find(mut self) -> Result<Timings, BenchError> {
        let rare = [
            ("SEARCH text", format!("TEXT {RARE_WORD}")),
            ("SEARCH body", format!("BODY {RARE_WORD}")),
            ("SEARCH subject", format!("SUBJECT {RARE_WORD}")),
            ("SEARCH header", "HEADER Message-ID nobody".to_owned()),
        ];
        for _ in 0..self.args.repeat {
            for (name, key) in &rare {
                let told = self.raw.command("UID SEARCH", key)?;
                self.note(name, &told, self.exists);
            }
        }
        Ok(self.timings)
    }

    /// Opens the mailbox as a client does that knows nothing of it. The connection stays, with the mailbox selected.
    pub(super) fn opened(args: &'a MailboxArgs) -> Result<(Timings, Raw), BenchError> {
        let mut bench = Self::begin(args)?;
        for _ in 0..args.repeat {
            let took = bench.open_once()?;
            let exists = bench.exists;
            bench.timings.add("open and FETCH flags", took, exists);
        }
        Ok((bench.timings, bench.raw))
    }

    /// SELECT and FETCH 1:* (UID FLAGS), after the mailbox has been left: how long both took.
    fn open_once(&mut self) -> Result<Duration, BenchError> {
        self.raw.command("SELECT", SMALL)?;
        let selected = self.select()?;
        self.exists = selected.exists().unwrap_or(0);
        let fetched = self.raw.command("FETCH", "1:* (UID FLAGS)")?;
        self.check_lines(&fetched, self.exists)?;
        Ok(selected.took + fetched.took)
    }

    /// SELECT with what a client remembers of a mailbox that has not changed (RFC 7162 §3.2.5).
    pub(super) fn resync(mut self) -> Result<Timings, BenchError> {
        if !self.raw.can("QRESYNC") {
            return Ok(self.timings);
        }
        self.raw.command("ENABLE", "QRESYNC")?;
        for _ in 0..self.args.repeat {
            self.raw.command("SELECT", SMALL)?;
            let told = self.select()?;
            let number = |before: &str| {
                let missing = || BenchError::Unexpected(format!("SELECT told no {before}"));
                told.number_after(before).ok_or_else(missing)
            };
            let (validity, modseq) = (number("UIDVALIDITY ")?, number("HIGHESTMODSEQ ")?);
            self.raw.command("SELECT", SMALL)?;
            let again = format!("{} (QRESYNC ({validity} {modseq}))", self.args.mailbox);
            let told = self.raw.command("SELECT", &again)?;
            self.note("SELECT QRESYNC", &told, 1);
        }
        Ok(self.timings)
    }

    fn select(&mut self) -> Result<Told, BenchError> {
        self.raw.command("SELECT", &self.args.mailbox)
    }

    fn note(&mut self, name: &'static str, told: &Told, units: u64) {
        self.timings.add(name, told.took, units);
    }

    /// Fails where fewer lines came than there are messages.
    fn check_lines(&self, told: &Told, wanted: u64) -> Result<(), BenchError> {
        match told.lines > wanted {
            true => Ok(()),
            false => Err(BenchError::Unexpected(format!(
                "{} lines came for {wanted} messages",
                told.lines
            ))),
        }
    }

    fn opening(&mut self) -> Result<(), BenchError> {
        for _ in 0..SELECTS {
            self.raw.command("SELECT", SMALL)?;
            let told = self.select()?;
            self.note("SELECT", &told, 1);
        }
        let mut fresh = self.args.login()?;
        let told = fresh.command("SELECT", &self.args.mailbox)?;
        self.note("SELECT in a new session", &told, 1);
        Ok(())
    }

    fn reading(&mut self) -> Result<(), BenchError> {
        let told = self.raw.command("FETCH", "1:* (FLAGS)")?;
        self.check_lines(&told, self.exists)?;
        self.note("FETCH flags", &told, self.exists);
        for (name, key) in [
            ("SEARCH all", "ALL"),
            ("SEARCH unseen", "UNSEEN"),
            ("SEARCH keyword", "KEYWORD $Important"),
            ("SEARCH since", "SINCE 1-Dec-2025"),
        ] {
            let told = self.raw.command("UID SEARCH", key)?;
            self.note(name, &told, self.exists);
        }
        let some = self.exists.min(ENVELOPES);
        let items = format!("1:{some} (ENVELOPE BODYSTRUCTURE)");
        let told = self.raw.command("FETCH", &items)?;
        self.check_lines(&told, some)?;
        self.note("FETCH envelopes", &told, some);
        Ok(())
    }

    fn storing(&mut self) -> Result<(), BenchError> {
        let told = self.raw.command("STORE", "1:* +FLAGS.SILENT (\\Flagged)")?;
        self.note("STORE silent", &told, self.exists);
        self.raw.command("STORE", "1:* -FLAGS.SILENT (\\Flagged)")?;
        let told = self.raw.command("STORE", "1:* +FLAGS (\\Answered)")?;
        self.check_lines(&told, self.exists)?;
        self.note("STORE", &told, self.exists);
        self.raw
            .command("STORE", "1:* -FLAGS.SILENT (\\Answered)")?;
        Ok(())
    }

    /// COPY to a new mailbox, and EXPUNGE of everything in it.
    fn moving(&mut self, turn: u32) -> Result<(), BenchError> {
        let target = format!("Copy{turn}");
        // One of an earlier run.
        let _ = self.raw.command("DELETE", &target);
        self.raw.command("CREATE", &target)?;
        let told = self.raw.command("COPY", &format!("1:* {target}"))?;
        self.note("COPY", &told, self.exists);
        self.raw.command("SELECT", &target)?;
        self.raw.command("STORE", "1:* +FLAGS.SILENT (\\Deleted)")?;
        let told = self.raw.command("EXPUNGE", "")?;
        self.check_lines(&told, self.exists)?;
        self.note("EXPUNGE", &told, self.exists);
        self.select()?;
        self.raw.command("DELETE", &target)?;
        Ok(())
    }
}
