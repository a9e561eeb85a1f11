//! SORT (RFC 5256 §3, RFC 5957 §3): what is compared of each message, and in which order.

use std::cmp::Ordering;

use nightmail_core::Uid;
use nightmail_imap::command::sort::{SortBy, SortKey};
use nightmail_mime::casemap::fold;
use nightmail_mime::encoded_word::decode_words;
use nightmail_mime::subject::BaseSubject;
use nightmail_mime::{Envelope, ListItem, charset};
use tracing::warn;

use super::super::ImapSession;
use super::super::failure::Failure;
use super::super::fetch::{Item, Loader, Needs, blocking, envelope};
use super::{Progress, Scope};
use crate::net::Transport;

/// What is compared.
#[derive(PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Value {
    Number(i64),
    Text(Box<str>),
}

/// A message and what is compared of it, in the order of the criteria.
struct Sortable {
    uid: Uid,
    values: Box<[Value]>,
}

impl ImapSession {
    /// Puts messages into the order that is asked for. Those that are gone meanwhile are left out.
    pub(super) async fn sort(
        &mut self,
        scope: &Scope,
        uids: Vec<Uid>,
        order: Vec<SortKey>,
        transport: &mut Transport,
    ) -> Result<Vec<Uid>, Failure> {
        let by_row = |key: &SortKey| matches!(key.by, SortBy::Arrival | SortBy::Size);
        let needs = Needs {
            structure: !order.iter().all(by_row),
            ..Needs::default()
        };
        let mut progress = Progress::of(uids.len());
        let mut sortable = Vec::with_capacity(uids.len());
        let raw = uids.iter().map(|uid| uid.get()).collect();
        let mut loader = Loader::new(self.store().clone(), scope.mailbox, raw, needs);
        while let Some(batch) = loader.next().await.map_err(Failure::of_selected)? {
            progress.add(batch.len());
            sortable.extend(batch.iter().map(|item| Sortable::new(item, &order)));
            self.tell_progress(&mut progress, transport).await?;
            tokio::task::coop::consume_budget().await;
        }
        if let Some(error) = loader.failed.take() {
            warn!(session = %self.id, %error, "messages could not be sorted");
        }
        let sorted = blocking(move || {
            sortable.sort_unstable_by(|one, other| one.compare(other, &order));
            sortable.into_iter().map(|message| message.uid).collect()
        });
        Ok(sorted.await?)
    }
}

impl Sortable {
    fn new(item: &Item, order: &[SortKey]) -> Self {
        Self {
            uid: item.uid,
            values: order.iter().map(|key| value(item, key.by)).collect(),
        }
    }

    /// Where nothing else decides, the order of the mailbox does, also where others are reversed.
    fn compare(&self, other: &Self, order: &[SortKey]) -> Ordering {
        let values = self.values.iter().zip(&other.values).zip(order);
        values
            .map(|((one, other), key)| match key.reverse {
                true => other.cmp(one),
                false => one.cmp(other),
            })
            .find(|ordering| ordering.is_ne())
            .unwrap_or_else(|| self.uid.cmp(&other.uid))
    }
}

fn value(item: &Item, by: SortBy) -> Value {
    let envelope = || item.structure.envelope();
    let text = |text: &str| Value::Text(fold(text).into());
    match by {
        SortBy::Arrival => Value::Number(item.row.internal_date.millis()),
        SortBy::Size => Value::Number(i64::try_from(item.row.size).unwrap_or(i64::MAX)),
        SortBy::Date => Value::Number(sent_millis(item)),
        SortBy::Subject => text(&base_subject(envelope()).text),
        SortBy::Cc => text(&mailbox_of(&envelope().cc)),
        SortBy::From => text(&mailbox_of(&envelope().from)),
        SortBy::To => text(&mailbox_of(&envelope().to)),
        SortBy::DisplayFrom => text(&display(&envelope().from)),
        SortBy::DisplayTo => text(&display(&envelope().to)),
    }
}

/// When the message was sent; where its header does not say, when it came (RFC 5256 §2.2).
pub(super) fn sent_millis(item: &Item) -> i64 {
    let sent = envelope(item).sent.map(|sent| sent.time);
    sent.unwrap_or(item.row.internal_date).millis()
}

pub(super) fn base_subject(envelope: &Envelope) -> BaseSubject {
    let subject = envelope.subject.as_deref().unwrap_or_default();
    BaseSubject::of(&decode_words(subject))
}

/// The mailbox of the first address; of a group, its name.
fn mailbox_of(list: &[ListItem]) -> String {
    match list.first() {
        Some(ListItem::Mailbox(mailbox)) => charset::decode_unnamed(&mailbox.local_part),
        Some(ListItem::GroupStart(name)) => decode_words(name),
        Some(ListItem::GroupEnd) | None => String::new(),
    }
}

/// How the first address is displayed (RFC 5957 §3).
fn display(list: &[ListItem]) -> String {
    let Some(ListItem::Mailbox(mailbox)) = list.first() else {
        return mailbox_of(list);
    };
    let name = mailbox.name.as_deref().map(decode_words);
    name.filter(|name| !name.is_empty()).unwrap_or_else(|| {
        let local = charset::decode_unnamed(&mailbox.local_part);
        match &mailbox.domain {
            Some(domain) => format!("{local}@{}", charset::decode_unnamed(domain)),
            None => local,
        }
    })
}
