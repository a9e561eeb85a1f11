//! FETCH (RFC 3501 §6.4.5): messages in batches, the next one being read while one is sent.

mod load;
mod section;

use std::io;
use std::time::Instant;

use bytes::{Buf, Bytes};
use nightmail_core::{BlobId, Flags};
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_imap::io::{BlobRange, FetchRow};
use nightmail_imap::{Answer, Input, UidSet};
use nightmail_store::{FlagOperation, MessageReader, Rights};
use tracing::warn;

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
        let wanted = self.uids_in(uids);
        let mut loader = Loader::new(self.store().clone(), mailbox, wanted, Needs::of(&plan));
        let mut next = loader.next().await.map_err(Failure::of_selected)?;
        while let Some(batch) = next {
            let (loaded, sent) = tokio::join!(
                biased;
                loader.next(),
                self.send_batch(batch, &plan, transport)
            );
            sent?;
            next = loaded.map_err(Failure::of_selected)?;
        }
        match loader.failed.take() {
            Some(error) => Err(error.into()),
            None => Ok(Answer::FetchDone {
                gone: loader.missing > 0,
            }),
        }
    }

    async fn send_batch(
        &mut self,
        mut batch: Vec<Item>,
        plan: &FetchPlan,
        transport: &mut Transport,
    ) -> Result<(), Failure> {
        if plan.set_seen && self.current()?.rights.contains(Rights::SEEN) {
            Box::pin(self.mark_seen(&mut batch)).await?;
        }
        let ids = batch.iter().flat_map(|item| &item.row.keywords);
        let table = self.keywords_with(ids.copied()).await?;
        let now = Instant::now();
        for item in batch {
            let row = self.fetch_row(item, plan, &table).await?;
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
            .change_flags(&uids, FlagOperation::Add, Flags::SEEN, Vec::new())
            .await;
        let rows = match stored {
            Ok(stored) => stored.rows,
            Err(Failure::Store(error, _)) => {
                warn!(session = %self.id, %error, "messages could not be marked as seen");
                return Ok(());
            }
            Err(failure) => return Err(failure),
        };
        let mut items = batch.iter_mut();
        for row in rows {
            if let Some(item) = items.find(|item| item.uid.get() == row.uid) {
                item.flags_changed = row.changed;
                item.row.flags = row.flags;
                item.row.keywords = row.keywords;
                item.row.modseq = row.modseq;
            }
        }
        Ok(())
    }

    async fn fetch_row(
        &mut self,
        item: Item,
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
        let rendered = |wanted: bool, write: fn(&Item, &mut Vec<u8>)| {
            let mut out = Vec::new();
            if wanted {
                write(&item, &mut out);
            }
            Bytes::from(out)
        };
        Ok(FetchRow {
            envelope: rendered(plan.envelope, section::write_envelope),
            body: rendered(plan.body, |item, out| section::write_body(item, false, out)),
            body_structure: rendered(plan.body_structure, |item, out| {
                section::write_body(item, true, out);
            }),
            uid: item.uid,
            flags: table.flag_list(item.row.flags, &item.row.keywords),
            flags_changed: item.flags_changed,
            modseq: item.row.modseq,
            internal_date: item.row.internal_date,
            octets: item.row.size,
            sections,
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
