//! Reading ahead: pages of messages are read and rendered on tasks of their own while the one before is sent.
//!
//! For what needs no message text, so that a page is small however large the messages are. Pages come in order.

use std::collections::VecDeque;

use bytes::Bytes;
use nightmail_core::MailboxId;
use nightmail_imap::command::fetch::FetchPlan;
use nightmail_store::{Store, StoreError};
use tokio::task::JoinHandle;

use super::load::{Item, Loader, Needs};
use super::section;

/// Messages of a page.
const PAGE: usize = 256;
/// Pages being read or waiting to be sent.
const PAGES_MAX: usize = 4;

/// ENVELOPE, BODY and BODYSTRUCTURE of a message as a client gets them; empty where the plan does not want them.
#[derive(Clone, Debug, Default)]
pub(super) struct Rendered {
    pub(super) envelope: Bytes,
    pub(super) body: Bytes,
    pub(super) body_structure: Bytes,
}

impl Rendered {
    /// Renders what the plan wants of messages, in their order.
    pub(super) fn all(items: &[Item], plan: &FetchPlan) -> Vec<Self> {
        let mut out = Vec::new();
        let ends: Vec<[usize; 3]> = items
            .iter()
            .map(|item| {
                if plan.envelope {
                    section::write_envelope(item, &mut out);
                }
                let envelope = out.len();
                if plan.body {
                    section::write_body(item, false, &mut out);
                }
                let body = out.len();
                if plan.body_structure {
                    section::write_body(item, true, &mut out);
                }
                [envelope, body, out.len()]
            })
            .collect();
        let out = Bytes::from(out);
        let mut start = 0;
        let mut take = |end| {
            let piece = out.slice(start..end);
            start = end;
            piece
        };
        let rendered = ends
            .into_iter()
            .map(|[envelope, body, body_structure]| Self {
                envelope: take(envelope),
                body: take(body),
                body_structure: take(body_structure),
            });
        rendered.collect()
    }
}

/// The forms under which renderings are kept.
const ENVELOPE: u8 = 0;
const BODY: u8 = 1;
const BODY_STRUCTURE: u8 = 2;

impl Rendered {
    /// What the plan wants of a message, if all of it was kept.
    fn kept(store: &Store, item: &Item, plan: &FetchPlan) -> Option<Self> {
        let of = |wanted: bool, form: u8| match wanted {
            true => store.rendering(item.row.blob, form),
            false => Some(Bytes::new()),
        };
        Some(Self {
            envelope: of(plan.envelope, ENVELOPE)?,
            body: of(plan.body, BODY)?,
            body_structure: of(plan.body_structure, BODY_STRUCTURE)?,
        })
    }

    /// Keeps it for the next who asks.
    fn keep(&self, store: &Store, item: &Item) {
        let blob = item.row.blob;
        let forms = [
            (ENVELOPE, &self.envelope, section::is_envelope_whole(item)),
            (BODY, &self.body, true),
            (BODY_STRUCTURE, &self.body_structure, true),
        ];
        for (form, rendering, follows_from_blob) in forms {
            if follows_from_blob && !rendering.is_empty() {
                store.keep_rendering(blob, form, rendering);
            }
        }
    }
}

/// Messages that can be sent.
#[derive(Default)]
pub(super) struct Page {
    pub(super) items: Vec<Item>,
    pub(super) rendered: Vec<Rendered>,
    /// How many more are not there.
    missing: usize,
    failed: Option<StoreError>,
}

/// A task that ends with whoever waits for it.
struct Reading(JoinHandle<Result<Page, StoreError>>);

impl Drop for Reading {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Messages of a mailbox, page by page, some pages ahead.
pub(super) struct Ahead {
    store: Store,
    mailbox: MailboxId,
    plan: FetchPlan,
    uids: Vec<u32>,
    /// How many of `uids` are being looked for, or were.
    begun: usize,
    pages: VecDeque<Reading>,
    /// How many messages are not there.
    pub(super) missing: usize,
    /// Why a message was left out.
    pub(super) failed: Option<StoreError>,
}

impl Ahead {
    /// Whether a plan is carried out in this way: for few messages it does not pay.
    pub(super) fn suits(plan: &FetchPlan, messages: usize) -> bool {
        messages > PAGE && !Needs::of(plan).content && !plan.set_seen
    }

    pub(super) fn new(store: Store, mailbox: MailboxId, uids: Vec<u32>, plan: FetchPlan) -> Self {
        Self {
            store,
            mailbox,
            plan,
            uids,
            begun: 0,
            pages: VecDeque::with_capacity(PAGES_MAX),
            missing: 0,
            failed: None,
        }
    }

    /// The next messages; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<Page>, StoreError> {
        while self.pages.len() < PAGES_MAX && self.begun < self.uids.len() {
            self.begin();
        }
        let Some(mut reading) = self.pages.pop_front() else {
            return Ok(None);
        };
        let page = (&mut reading.0).await.map_err(|error| {
            StoreError::Failed(nightmail_commit::CommitFailure::Unavailable(
                error.to_string(),
            ))
        })?;
        let mut page = page?;
        self.missing += page.missing;
        self.failed = page.failed.take().or(self.failed.take());
        if self.begun < self.uids.len() {
            self.begin();
        }
        Ok(Some(page))
    }

    fn begin(&mut self) {
        let rest = self.uids.get(self.begun..).unwrap_or_default();
        let uids = rest.get(..PAGE).unwrap_or(rest).to_vec();
        self.begun += uids.len();
        let (store, plan) = (self.store.clone(), self.plan.clone());
        let reading = read(store, self.mailbox, uids, plan);
        self.pages.push_back(Reading(tokio::spawn(reading)));
    }
}

async fn read(
    store: Store,
    mailbox: MailboxId,
    uids: Vec<u32>,
    plan: FetchPlan,
) -> Result<Page, StoreError> {
    let mut loader = Loader::new(store.clone(), mailbox, uids, Needs::default());
    let mut done: Vec<(Item, Rendered)> = Vec::with_capacity(PAGE);
    while let Some(batch) = loader.next().await? {
        let mut open = Vec::new();
        for item in batch {
            match Rendered::kept(&store, &item, &plan) {
                Some(rendered) => done.push((item, rendered)),
                None => open.push(item),
            }
        }
        if open.is_empty() {
            continue;
        }
        let filled = loader.fill(open, Needs::of(&plan)).await;
        let rendered = Rendered::all(&filled, &plan);
        for (item, rendered) in filled.into_iter().zip(rendered) {
            rendered.keep(&store, &item);
            done.push((item.without_structure(), rendered));
        }
    }
    done.sort_unstable_by_key(|(item, _)| item.uid);
    let (items, rendered) = done.into_iter().unzip();
    Ok(Page {
        items,
        rendered,
        missing: loader.missing,
        failed: loader.failed.take(),
    })
}
