//! FETCH (RFC 3501 §6.4.5): messages in batches, the next one being read while one is sent.

mod ahead;
mod binary;
mod load;
mod marks;
mod section;

use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes};
use nightmail_core::{BlobId, Flags, MailboxId};
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::command::section::Section;
use nightmail_imap::io::{BlobRange, FetchRow, SectionData};
use nightmail_imap::{Answer, Input, UidSet};
use nightmail_store::{FlagOperation, MessageReader, Rights, Store, StoreError};
use tracing::warn;

use self::ahead::{Ahead, Rendered};
pub(super) use self::load::{Item, Loader, Needs, blocking};
pub(super) use self::section::{envelope, header};
use super::ImapSession;
use super::failure::Failure;
use super::flags::KeywordTable;
use crate::net::Transport;

/// Octets of one message that the machine has announced and the driver sends.
pub(super) struct Source {
    prefix: Bytes,
    body: Body,
}

impl Source {
    /// Reads octets of a message as they are needed; none where it is in memory.
    pub(super) fn reader(&self, store: Store, range: &BlobRange) -> Option<MessageReader> {
        let octets = range.start..range.start.saturating_add(range.octets);
        match self.body {
            Body::Stored(blob) => Some(MessageReader::new(store, &self.prefix, blob, octets)),
            Body::Loaded(_) => None,
        }
    }
}

/// The octets of a section of a message of which only the structure is loaded, and where they are if they are many.
/// `token` is the place that they will have among the sources.
pub(super) async fn section_data(
    store: &Store,
    item: &Item,
    section: &Section,
    token: usize,
) -> Result<(SectionData, Option<Source>), StoreError> {
    let found = section::data(store, item, section, token).await?;
    Ok((found.data, found.source))
}

/// The message after its prefix.
#[derive(Clone)]
pub(super) enum Body {
    /// All of it.
    Loaded(Bytes),
    /// To be read as it is sent.
    Stored(BlobId),
}

impl ImapSession {
    pub(super) async fn fetch(
        &mut self,
        uids: &UidSet,
        plan: FetchPlan,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        self.refresh_if_changed().await?;
        let mailbox = self.current()?.mailbox;
        let wanted = self.narrowed(uids, &plan, transport).await?;
        if marks::know(&plan) {
            let snapshot = self.store().snapshot(mailbox).await;
            let snapshot = snapshot.map_err(Failure::of_selected)?;
            let sized = |uid: &u32| snapshot.mark(*uid).is_none_or(|mark| mark.size().is_some());
            if !plan.size || wanted.iter().all(sized) {
                return Box::pin(self.fetch_marks(&wanted, &snapshot, transport)).await;
            }
        }
        if Ahead::suits(&plan, wanted.len()) {
            return Box::pin(self.fetch_ahead(mailbox, wanted, plan, transport)).await;
        }
        let mut loader = Loader::new(self.store().clone(), mailbox, wanted, Needs::of(&plan));
        let mut next = loader.next().await.map_err(Failure::of_selected)?;
        while let Some(batch) = next {
            let (loaded, sent) = tokio::join!(
                biased;
                loader.next(),
                self.send_batch(batch, None, &plan, transport)
            );
            sent?;
            next = loaded.map_err(Failure::of_selected)?;
        }
        fetched(loader.failed.take(), loader.missing)
    }

    async fn fetch_ahead(
        &mut self,
        mailbox: MailboxId,
        wanted: Vec<u32>,
        plan: FetchPlan,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        let mut ahead = Ahead::new(self.store().clone(), mailbox, wanted, plan.clone());
        while let Some(page) = ahead.next().await.map_err(Failure::of_selected)? {
            let rendered = Some(page.rendered);
            self.send_batch(page.items, rendered, &plan, transport)
                .await?;
        }
        fetched(ahead.failed.take(), ahead.missing)
    }

    /// The messages that are left by what narrows a plan; tells of those that are gone, where the plan wants it.
    async fn narrowed(
        &mut self,
        uids: &UidSet,
        plan: &FetchPlan,
        transport: &mut Transport,
    ) -> Result<Vec<u32>, Failure> {
        let mut wanted = self.uids_in(uids);
        if let Some(since) = plan.changed_since {
            wanted = Box::pin(self.changed_since(&wanted, since)).await?;
            if let Some(asked) = &plan.vanished {
                let vanished = Box::pin(self.vanished_since(asked, since)).await?;
                let answer = Input::Answer(Answer::Vanished(vanished));
                self.machine.handle(Instant::now(), answer);
                self.drain(transport).await?;
            }
        }
        Ok(match plan.partial {
            Some(range) => range.cut(&wanted).to_vec(),
            None => wanted,
        })
    }

    async fn send_batch(
        &mut self,
        mut batch: Vec<Item>,
        rendered: Option<Vec<Rendered>>,
        plan: &FetchPlan,
        transport: &mut Transport,
    ) -> Result<(), Failure> {
        if plan.set_seen && self.current()?.rights.contains(Rights::SEEN) {
            Box::pin(self.mark_seen(&mut batch)).await?;
        }
        let ids = batch.iter().flat_map(|item| &item.row.keywords);
        let table = self.keywords_with(ids.copied()).await?;
        let now = Instant::now();
        let rendered = rendered.unwrap_or_else(|| Rendered::all(&batch, plan));
        for (item, rendered) in batch.into_iter().zip(rendered) {
            let row = self.fetch_row(item, rendered, plan, &table).await?;
            self.machine
                .handle(now, Input::Answer(Answer::FetchRow(row)));
            if !self.sources.is_empty() || self.machine.output_is_full() {
                self.drain(transport).await?;
                self.sources.clear();
            }
        }
        Ok(())
    }

    /// Sets `\Seen` on those that lack it. That it cannot be set keeps nobody from reading.
    async fn mark_seen(&mut self, batch: &mut [Item]) -> Result<(), Failure> {
        let unseen = batch
            .iter()
            .filter(|item| !item.row.flags.contains(Flags::SEEN));
        let uids: Vec<u32> = unseen.map(|item| item.uid.get()).collect();
        if uids.is_empty() {
            return Ok(());
        }
        let stored = self
            .change_flags(&uids, FlagOperation::Add, Flags::SEEN, Vec::new(), None)
            .await;
        let stored = match stored {
            Ok((stored, _)) => stored,
            Err(Failure::Store(error, _)) => {
                warn!(session = %self.id, %error, "messages could not be marked as seen");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let mut items = batch.iter_mut();
        for (uids, row) in stored.rows() {
            for uid in uids {
                if let Some(item) = items.find(|item| item.uid.get() == uid) {
                    item.flags_changed = row.changed;
                    item.row.flags = row.flags;
                    item.row.keywords.clone_from(&row.keywords);
                    item.row.modseq = row.modseq;
                }
            }
        }
        Ok(())
    }

    async fn fetch_row(
        &mut self,
        item: Item,
        rendered: Rendered,
        plan: &FetchPlan,
        table: &KeywordTable,
    ) -> Result<FetchRow, Failure> {
        let mut sections = Vec::with_capacity(plan.sections.len());
        for section in &plan.sections {
            let data = section::data(self.store(), &item, section, self.sources.len()).await?;
            if let Some(source) = data.source {
                self.sources.push(source);
            }
            sections.push(data.data);
        }
        let mut binaries = Vec::with_capacity(plan.binaries.len());
        for part in &plan.binaries {
            let decoded = binary::data(self.store(), &item, part, self.sources.len()).await?;
            if let Some(source) = decoded.source {
                self.sources.push(source);
            }
            binaries.push(decoded.data);
        }
        let preview = match plan.preview {
            true => Some(section::preview(self.store(), &item).await?),
            false => None,
        };
        Ok(FetchRow {
            envelope: rendered.envelope,
            body: rendered.body,
            body_structure: rendered.body_structure,
            uid: item.uid,
            flags: table.flag_list(item.row.flags, &item.row.keywords),
            flags_changed: item.flags_changed,
            modseq: item.row.modseq,
            internal_date: item.row.internal_date,
            octets: item.row.size,
            sections,
            binaries,
            preview,
            save_date: item.row.save_date,
            email_id: item.row.email_id,
            thread_id: None,
        })
    }

    /// Sends a part of a message that was announced; where it falls short, the connection is of no more use.
    pub(super) async fn send_source(
        &mut self,
        range: BlobRange,
        transport: &mut Transport,
    ) -> io::Result<()> {
        let short = || io::Error::other("a message is shorter than announced");
        let token = usize::try_from(range.token).map_err(io::Error::other)?;
        let source = self.sources.get(token).ok_or_else(short)?;
        let end = range.start + range.octets;
        let before = source.prefix.len() as u64;
        match &source.body {
            Body::Loaded(body) => {
                let head = cut(&source.prefix, range.start, end);
                let rest = cut(
                    body,
                    range.start.saturating_sub(before),
                    end.saturating_sub(before),
                );
                if (head.len() + rest.len()) as u64 != range.octets {
                    return Err(short());
                }
                for piece in [head, rest] {
                    if !piece.is_empty() {
                        transport.send(piece);
                    }
                }
                Ok(())
            }
            Body::Stored(blob) => {
                let store = self.store().clone();
                let octets = range.start..end;
                let reader = MessageReader::new(store, &source.prefix, *blob, octets);
                Box::pin(stream(reader, range.octets, transport)).await
            }
        }
    }
}

/// How a fetch ended of which some messages could not be read, or were not there.
fn fetched(failed: Option<StoreError>, missing: usize) -> Result<Answer, Failure> {
    match failed {
        Some(error) => Err(error.into()),
        None => Ok(Answer::FetchDone { gone: missing > 0 }),
    }
}

/// What lies between two places of `octets`, which may be beyond its end.
fn cut(octets: &Bytes, start: u64, end: u64) -> Bytes {
    let len = octets.len() as u64;
    let mut piece = octets.slice(..end.min(len) as usize);
    piece.advance(start.min(piece.len() as u64) as usize);
    piece
}

async fn stream(
    mut reader: MessageReader,
    announced: u64,
    transport: &mut Transport,
) -> io::Result<()> {
    let mut left = announced;
    while let Some(chunk) = reader.next_chunk().await.map_err(io::Error::other)? {
        left = left
            .checked_sub(chunk.len() as u64)
            .ok_or_else(|| io::Error::other("a message is longer than announced"))?;
        transport.send(chunk);
        if transport.is_full() {
            transport.flush().await?;
        }
    }
    match left {
        0 => Ok(()),
        _ => Err(io::Error::other("a message is shorter than announced")),
    }
}
