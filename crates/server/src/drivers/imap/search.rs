//! SEARCH (RFC 3501 §6.4.4): messages are looked at only as far as the question needs: UID, row, structure, header,
//! text.

mod content;
mod program;

use std::sync::Arc;

use nightmail_core::Uid;
use nightmail_imap::command::search::SearchKey;
use nightmail_imap::{Answer, UidSet};
use tracing::warn;

use self::content::{Texts, texts};
use self::program::{Facts, Program};
use super::ImapSession;
use super::failure::Failure;
use super::fetch::{Item, Loader, Needs, blocking, header};

/// Messages whose content may be in memory at once.
const CONTENTS_MAX: usize = 64;
/// Text above which what was read is searched before more is read.
const TEXTS_OCTETS_HIGH: usize = 8 << 20;

/// A message in question, and its text where that was read.
struct Candidate {
    item: Item,
    texts: Texts,
}

impl ImapSession {
    pub(super) async fn search(&mut self, key: SearchKey<UidSet>) -> Result<Answer, Failure> {
        self.refresh_if_changed().await?;
        let table = self.reload_keywords().await?;
        self.tell_keywords();
        let program = Arc::new(Program::new(key, &table));
        let mailbox = self.current()?.mailbox;
        let (mut found, open) = self.by_uid(&program);
        let needs = Needs::default();
        let mut loader = Loader::new(self.store().clone(), mailbox, open, needs);
        while let Some(batch) = loader.next().await.map_err(Failure::of_selected)? {
            let open = settle(&program, batch, &mut found, |item| Facts::of_row(item));
            for part in parts_of(open) {
                self.look_inside(&mut loader, part, &program, &mut found)
                    .await?;
            }
            tokio::task::coop::consume_budget().await;
        }
        if let Some(error) = loader.failed.take() {
            warn!(session = %self.id, %error, "messages could not be searched");
        }
        found.sort_unstable();
        Ok(Answer::Found(found))
    }

    /// What the UIDs alone decide: UIDs found, and those that are still open.
    fn by_uid(&self, program: &Program) -> (Vec<Uid>, Vec<u32>) {
        let uids = self.machine.uids().map_or(&[][..], |uids| &**uids);
        let (mut found, mut open) = (Vec::new(), Vec::new());
        for uid in uids {
            match program.test(&Facts::of_uid(*uid)) {
                Some(true) => found.push(*uid),
                Some(false) => {}
                None => open.push(uid.get()),
            }
        }
        (found, open)
    }

    /// Looks at structure, header and text, one after the other.
    async fn look_inside(
        &self,
        loader: &mut Loader,
        batch: Vec<Item>,
        program: &Arc<Program>,
        found: &mut Vec<Uid>,
    ) -> Result<(), Failure> {
        let structure = Needs {
            structure: true,
            content: false,
        };
        let batch = loader.fill(batch, structure).await;
        let open = settle(program, batch, found, |item| Facts::of_structure(item));
        if open.is_empty() {
            return Ok(());
        }
        let content = Needs {
            structure: false,
            content: true,
        };
        let mut undecided = Vec::new();
        let mut octets = 0;
        for item in loader.fill(open, content).await {
            let header = header(self.store(), &item).await?;
            match program.test(&Facts::of_header(&item, &header)) {
                Some(true) => found.push(item.uid),
                Some(false) => {}
                None => {
                    let texts = texts(self.store(), &item, header).await?;
                    octets += texts.octets();
                    undecided.push(Candidate { item, texts });
                }
            }
            if octets > TEXTS_OCTETS_HIGH {
                octets = 0;
                let full = std::mem::take(&mut undecided);
                found.extend(read_texts(program, full).await?);
            }
        }
        found.extend(read_texts(program, undecided).await?);
        Ok(())
    }
}

/// Those of the messages that fit. Decoding takes long, so it is done on a blocking thread.
async fn read_texts(
    program: &Arc<Program>,
    candidates: Vec<Candidate>,
) -> Result<Vec<Uid>, Failure> {
    if candidates.is_empty() {
        return Ok(Vec::new());
    }
    let program = Arc::clone(program);
    let fitting = blocking(move || {
        let fits = |candidate: &&Candidate| {
            let decoded = candidate.texts.decode(&candidate.item);
            let facts = Facts::of_text(&candidate.item, candidate.texts.header(), &decoded);
            program.test(&facts) == Some(true)
        };
        let fitting = candidates.iter().filter(fits);
        fitting.map(|candidate| candidate.item.uid).collect()
    });
    Ok(fitting.await?)
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
fn parts_of(open: Vec<Item>) -> impl Iterator<Item = Vec<Item>> {
    let mut rest = open.into_iter();
    std::iter::from_fn(move || {
        let part: Vec<_> = rest.by_ref().take(CONTENTS_MAX).collect();
        (!part.is_empty()).then_some(part)
    })
}
