//! THREAD (RFC 5256 §3): reading what conversations are found by.

use std::collections::HashMap;

use bytes::Bytes;
use nightmail_core::Uid;
use nightmail_imap::command::search::SearchKey;
use nightmail_imap::command::thread::Threading;
use nightmail_imap::io::ThreadRow;
use nightmail_imap::{Answer, UidSet};
use nightmail_mime::casemap::fold;
use nightmail_mime::header::{first, message_ids};
use nightmail_mime::thread::{Facts, Threaded, Threader, by_subject};
use nightmail_mime::{Envelope, KnownField};
use nightmail_store::StoreError;
use tracing::warn;

use super::super::ImapSession;
use super::super::failure::Failure;
use super::super::fetch::{Item, Loader, Needs, blocking, envelope, header};
use super::program::Program;
use super::sort::{base_subject, sent_millis};
use super::{Progress, Scope};
use crate::net::Transport;

/// Messages found so far, by the algorithm that is asked for.
enum Gathering {
    BySubject(Vec<Facts>),
    ByReferences(Box<Threader>),
}

impl ImapSession {
    pub(in crate::drivers::imap) async fn thread(
        &mut self,
        key: SearchKey<UidSet>,
        threading: Threading,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        let scope = self.selected_scope().await?;
        let table = self.reload_keywords().await?;
        self.tell_keywords();
        let program = Program::new(key, &table, nightmail_commit::now()).into();
        let uids = self.find(&scope, &program, transport).await?;
        let mut gathering = match threading {
            Threading::OrderedSubject => Gathering::BySubject(Vec::new()),
            Threading::References => Gathering::ByReferences(Box::default()),
        };
        let uids = self.gather(&scope, uids, &mut gathering, transport).await?;
        let threads = blocking(move || gathering.finish()).await?;
        let row = |row: Threaded| ThreadRow {
            depth: row.depth,
            uid: row
                .message
                .and_then(|place| uids.get(place as usize).copied()),
        };
        Ok(Answer::Threads(threads.into_iter().map(row).collect()))
    }

    /// Reads the messages; gives those that are there, in the order of their places.
    async fn gather(
        &mut self,
        scope: &Scope,
        uids: Vec<Uid>,
        gathering: &mut Gathering,
        transport: &mut Transport,
    ) -> Result<Vec<Uid>, Failure> {
        let needs = Needs {
            structure: true,
            ..Needs::default()
        };
        let mut progress = Progress::of(uids.len());
        let mut gathered = Vec::with_capacity(uids.len());
        let raw = uids.iter().map(|uid| uid.get()).collect();
        let mut loader = Loader::new(self.store().clone(), scope.mailbox, raw, needs);
        while let Some(batch) = loader.next().await.map_err(Failure::of_selected)? {
            progress.add(batch.len());
            let (items, headers) = match gathering {
                Gathering::BySubject(_) => (batch, HashMap::new()),
                Gathering::ByReferences(_) => self.with_headers(&mut loader, batch).await?,
            };
            for item in &items {
                gathered.push(item.uid);
                gathering.add(item, headers.get(&item.uid));
            }
            self.tell_progress(&mut progress, transport).await?;
            tokio::task::coop::consume_budget().await;
        }
        if let Some(error) = loader.failed.take() {
            warn!(session = %self.id, %error, "messages could not be threaded");
        }
        Ok(gathered)
    }

    /// The headers of those that have References: that field is not kept beside the message.
    async fn with_headers(
        &self,
        loader: &mut Loader,
        batch: Vec<Item>,
    ) -> Result<(Vec<Item>, HashMap<Uid, Bytes>), StoreError> {
        let (referring, mut items): (Vec<_>, Vec<_>) = batch
            .into_iter()
            .partition(|item| item.structure.has_field(KnownField::References));
        let content = Needs {
            content: true,
            ..Needs::default()
        };
        let mut headers = HashMap::with_capacity(referring.len());
        for item in loader.fill(referring, content).await {
            headers.insert(item.uid, header(self.store(), &item).await?);
            items.push(item);
        }
        items.sort_unstable_by_key(|item| item.uid);
        Ok((items, headers))
    }
}

impl Gathering {
    fn add(&mut self, item: &Item, header: Option<&Bytes>) {
        let envelope = envelope(item);
        let base = base_subject(&envelope);
        let facts = Facts {
            subject: fold(&base.text).into_owned(),
            is_reply: base.is_reply,
            sent_millis: sent_millis(item),
        };
        match self {
            Self::BySubject(messages) => messages.push(facts),
            Self::ByReferences(threader) => {
                let id = envelope.message_id.as_deref().unwrap_or_default();
                threader.add(message_ids(id).next(), references(&envelope, header), facts);
            }
        }
    }

    fn finish(self) -> Vec<Threaded> {
        match self {
            Self::BySubject(messages) => by_subject(&messages),
            Self::ByReferences(threader) => threader.finish(),
        }
    }
}

/// The ids of References; where there are none, the first of In-Reply-To.
fn references<'a>(envelope: &'a Envelope, header: Option<&'a Bytes>) -> Vec<&'a [u8]> {
    let field = header.and_then(|header| first(header, "References"));
    let found: Vec<_> = message_ids(field.unwrap_or_default()).collect();
    if !found.is_empty() {
        return found;
    }
    let field = envelope.in_reply_to.as_deref().unwrap_or_default();
    message_ids(field)
        .find(|id| id.contains(&b'@'))
        .into_iter()
        .collect()
}
