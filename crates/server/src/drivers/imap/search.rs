//! SEARCH (RFC 3501 §6.4.4): messages are looked at only as far as the question needs: what the snapshot knows, row,
//! structure, header, text.
//!
//! While one part of the messages is read, others are decoded and compared on threads of their own.

mod content;
mod mailboxes;
mod program;
mod progress;
mod sort;
mod thread;

use std::collections::VecDeque;
use std::sync::Arc;

use nightmail_core::{MailboxId, ModSeq, Uid};
use nightmail_imap::Answer;
use nightmail_imap::io::{Find, Found};
use nightmail_store::{Snapshot, StoreError};
use tokio::task::JoinHandle;
use tracing::warn;

use self::content::{Texts, texts};
use self::program::{Facts, Program};
use self::progress::Progress;
use super::ImapSession;
use super::failure::Failure;
use super::fetch::{Body, Item, Loader, Needs, header};
use crate::net::Transport;

/// Messages whose structure may be in memory at once.
const STRUCTURES_MAX: usize = 128;
/// Messages whose content may be in memory at once, for each thread that compares.
const CONTENTS_MAX: usize = 64;
/// Text above which what was read is compared before more is read.
const TEXTS_OCTETS_HIGH: usize = 8 << 20;

/// The messages of a mailbox among which is searched.
pub(super) struct Scope {
    mailbox: MailboxId,
    /// Those that the client may be told of, ascending.
    uids: Arc<[Uid]>,
    snapshot: Arc<Snapshot>,
}

impl Scope {
    fn modseqs_of(&self, uids: &[Uid]) -> Vec<ModSeq> {
        let modseq = |uid: &Uid| {
            let mark = self.snapshot.mark(uid.get());
            mark.map_or(self.snapshot.modseq, |mark| mark.modseq)
        };
        uids.iter().map(modseq).collect()
    }
}

/// A message in question, and its text where that was read.
struct Candidate {
    item: Item,
    texts: Texts,
}

impl ImapSession {
    pub(super) async fn search(
        &mut self,
        find: Find,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        let scope = self.selected_scope().await?;
        let table = self.reload_keywords().await?;
        self.tell_keywords();
        let program = Arc::new(Program::new(find.key, &table, nightmail_commit::now()));
        let mut uids = self.find(&scope, &program, transport).await?;
        if !find.order.is_empty() {
            uids = self.sort(&scope, uids, find.order, transport).await?;
        }
        let modseqs = match find.modseqs {
            true => scope.modseqs_of(&uids),
            false => Vec::new(),
        };
        Ok(Answer::Found(Found { uids, modseqs }))
    }

    /// The selected mailbox as the client numbers it.
    async fn selected_scope(&mut self) -> Result<Scope, Failure> {
        self.refresh_if_changed().await?;
        let mailbox = self.current()?.mailbox;
        let snapshot = self.store().snapshot(mailbox).await;
        Ok(Scope {
            mailbox,
            uids: self.machine.uids().cloned().unwrap_or_default(),
            snapshot: snapshot.map_err(Failure::of_selected)?,
        })
    }

    /// The messages that fit, ascending.
    async fn find(
        &mut self,
        scope: &Scope,
        program: &Arc<Program>,
        transport: &mut Transport,
    ) -> Result<Vec<Uid>, Failure> {
        let (mut found, open) = by_marks(scope, program);
        let mut progress = Progress::of(open.len());
        let mut comparing = Comparing::new(program);
        let needs = Needs::default();
        let mut loader = Loader::new(self.store().clone(), scope.mailbox, open, needs);
        while let Some(batch) = loader.next().await.map_err(Failure::of_selected)? {
            let count = batch.len();
            let open = settle(program, batch, &mut found, |item| Facts::of_row(item));
            progress.add(count - open.len());
            for part in parts_of(open, STRUCTURES_MAX) {
                progress.add(part.len());
                self.look_inside(&mut loader, part, &mut comparing, &mut found)
                    .await?;
                self.tell_progress(&mut progress, transport).await?;
            }
            self.tell_progress(&mut progress, transport).await?;
            tokio::task::coop::consume_budget().await;
        }
        if let Some(error) = loader.failed.take() {
            warn!(session = %self.id, %error, "messages could not be searched");
        }
        found.extend(comparing.finish().await?);
        found.sort_unstable();
        Ok(found)
    }

    /// Looks at structure, header and text, one after the other.
    async fn look_inside(
        &self,
        loader: &mut Loader,
        part: Vec<Item>,
        comparing: &mut Comparing,
        found: &mut Vec<Uid>,
    ) -> Result<(), Failure> {
        let structure = Needs {
            structure: true,
            ..Needs::default()
        };
        let part = loader.fill(part, structure).await;
        let program = Arc::clone(&comparing.program);
        let open = settle(&program, part, found, |item| Facts::of_structure(item));
        let content = Needs {
            content: true,
            ..Needs::default()
        };
        for part in parts_of(open, CONTENTS_MAX) {
            let part = loader.fill(part, content).await;
            self.compare(part, comparing, found).await?;
        }
        Ok(())
    }

    async fn compare(
        &self,
        part: Vec<Item>,
        comparing: &mut Comparing,
        found: &mut Vec<Uid>,
    ) -> Result<(), Failure> {
        let mut candidates = Vec::with_capacity(part.len());
        let mut octets = 0;
        for item in part {
            let header = header(self.store(), &item).await?;
            if matches!(item.body, Body::Stored(_)) {
                // What is long is read only where its header leaves the question open.
                match comparing.program.test(&Facts::of_header(&item, &header)) {
                    Some(true) => found.push(item.uid),
                    Some(false) => {}
                    None => {
                        let texts = texts(self.store(), &item, header).await?;
                        octets += texts.octets();
                        candidates.push(Candidate { item, texts });
                    }
                }
            } else {
                let texts = texts(self.store(), &item, header).await?;
                octets += texts.octets();
                candidates.push(Candidate { item, texts });
            }
            if octets > TEXTS_OCTETS_HIGH {
                octets = 0;
                let full = std::mem::take(&mut candidates);
                found.extend(comparing.begin(full).await?);
            }
        }
        found.extend(comparing.begin(candidates).await?);
        Ok(())
    }
}

/// Comparing on threads of their own: as many at once as there are processors.
struct Comparing {
    program: Arc<Program>,
    running: VecDeque<JoinHandle<Vec<Uid>>>,
    running_max: usize,
}

impl Comparing {
    fn new(program: &Arc<Program>) -> Self {
        Self {
            program: Arc::clone(program),
            running: VecDeque::new(),
            running_max: std::thread::available_parallelism().map_or(1, Into::into),
        }
    }

    /// Begins with these; waits for earlier ones, and gives what fits of them, where too many are being compared.
    async fn begin(&mut self, candidates: Vec<Candidate>) -> Result<Vec<Uid>, StoreError> {
        let mut found = Vec::new();
        if candidates.is_empty() {
            return Ok(found);
        }
        while self.running.len() >= self.running_max {
            found.extend(self.next().await?);
        }
        let program = Arc::clone(&self.program);
        let work = move || fitting(&program, &candidates);
        self.running.push_back(tokio::task::spawn_blocking(work));
        Ok(found)
    }

    async fn next(&mut self) -> Result<Vec<Uid>, StoreError> {
        let Some(oldest) = self.running.pop_front() else {
            return Ok(Vec::new());
        };
        oldest.await.map_err(|error| {
            StoreError::Failed(nightmail_commit::CommitFailure::Unavailable(
                error.to_string(),
            ))
        })
    }

    /// What fits of all that is still being compared.
    async fn finish(mut self) -> Result<Vec<Uid>, StoreError> {
        let mut found = Vec::new();
        while !self.running.is_empty() {
            found.extend(self.next().await?);
        }
        Ok(found)
    }
}

/// Those of the messages that fit.
fn fitting(program: &Program, candidates: &[Candidate]) -> Vec<Uid> {
    let fits = |candidate: &&Candidate| {
        let (item, header) = (&candidate.item, candidate.texts.header());
        let by_header = program.test(&Facts::of_header(item, header));
        by_header.unwrap_or_else(|| {
            let decoded = candidate.texts.decode(item);
            program.test(&Facts::of_text(item, header, &decoded)) == Some(true)
        })
    };
    let fitting = candidates.iter().filter(fits);
    fitting.map(|candidate| candidate.item.uid).collect()
}

/// What the snapshot alone decides: messages found, and those that are still open.
fn by_marks(scope: &Scope, program: &Program) -> (Vec<Uid>, Vec<u32>) {
    let (mut found, mut open) = (Vec::new(), Vec::new());
    let range = match (scope.uids.first(), scope.uids.last()) {
        (Some(first), Some(last)) => first.get()..=last.get(),
        _ => return (found, open),
    };
    if let Some(test) = program.flag_test()
        && scope.uids == scope.snapshot.uids
    {
        let marks = scope.snapshot.marks(range);
        let fitting = marks.filter(|(_, mark)| test.fits(mark));
        return (fitting.map(|(uid, _)| uid).collect(), open);
    }
    let mut known = scope.uids.iter().peekable();
    for (uid, mark) in scope.snapshot.marks(range) {
        while known.next_if(|known| **known < uid).is_some() {}
        if known.next_if(|known| **known == uid).is_none() {
            continue;
        }
        match program.test(&Facts::of_mark(uid, mark)) {
            Some(true) => found.push(uid),
            Some(false) => {}
            None => open.push(uid.get()),
        }
    }
    (found, open)
}

/// Takes out what is decided; returns the rest.
fn settle(
    program: &Program,
    mut batch: Vec<Item>,
    found: &mut Vec<Uid>,
    facts: impl for<'a> Fn(&'a Item) -> Facts<'a>,
) -> Vec<Item> {
    batch.retain(|item| {
        let fits = program.test(&facts(item));
        if fits == Some(true) {
            found.push(item.uid);
        }
        fits.is_none()
    });
    batch
}

/// Splits what is open into parts that are read together.
fn parts_of(open: Vec<Item>, count_max: usize) -> impl Iterator<Item = Vec<Item>> {
    let mut rest = open.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<_> = rest.by_ref().take(count_max).collect();
        (!part.is_empty()).then_some(part)
    })
}
