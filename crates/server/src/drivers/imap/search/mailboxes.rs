//! ESEARCH (RFC 7377): the same search in one mailbox after the other.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Instant;

use nightmail_core::Uid;
use nightmail_imap::command::multisearch::Source;
use nightmail_imap::command::search::{SearchKey, SearchSet};
use nightmail_imap::io::{Found, FoundIn};
use nightmail_imap::{Answer, Input, MailboxName};
use nightmail_store::{Rights, StoreError};

use super::super::ImapSession;
use super::super::failure::Failure;
use super::super::flags::KeywordTable;
use super::super::listing::Known;
use super::super::place::Place;
use super::super::selected::uid_or_last;
use super::Scope;
use super::program::Program;
use crate::net::Transport;

impl ImapSession {
    pub(in crate::drivers::imap) async fn search_mailboxes(
        &mut self,
        sources: &[Source],
        key: SearchKey<SearchSet>,
        modseqs: bool,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        if self.selected.is_some() {
            self.refresh_if_changed().await?;
        }
        let mut searched = HashSet::new();
        for name in self.names_of(sources).await? {
            let Some(place) = self.searchable(&name).await? else {
                continue;
            };
            if !searched.insert(place.mailbox) {
                continue;
            }
            let found = self.search_place(name, &place, key.clone(), modseqs, transport);
            if let Some(found) = Box::pin(found).await? {
                let answer = Input::Answer(Answer::FoundIn(found));
                self.machine.handle(Instant::now(), answer);
                self.drain(transport).await?;
            }
        }
        Ok(Answer::Done)
    }

    /// The mailbox of a name; none where there is none, or none that may be read: such are passed over.
    async fn searchable(&self, name: &MailboxName) -> Result<Option<Place>, Failure> {
        match self.place_with(name, Rights::READ).await {
            Ok(place) => Ok(Some(place)),
            Err(Failure::Refused(_) | Failure::Store(StoreError::NoSuchMailbox, _)) => Ok(None),
            Err(failure) => Err(failure),
        }
    }

    /// What is found in one mailbox; none where nothing is, or the mailbox is gone meanwhile.
    async fn search_place(
        &mut self,
        mailbox: MailboxName,
        place: &Place,
        key: SearchKey<SearchSet>,
        modseqs: bool,
        transport: &mut Transport,
    ) -> Result<Option<FoundIn>, Failure> {
        let store = self.store();
        let snapshot = match store.snapshot(place.mailbox).await {
            Ok(snapshot) => snapshot,
            Err(StoreError::NoSuchMailbox) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let uid_validity = snapshot.uid_validity;
        let table = KeywordTable::new(&self.store().keywords(place.owner).await?);
        let scope = Scope {
            mailbox: place.mailbox,
            uids: self.uids_told(place, &snapshot.uids),
            snapshot,
        };
        let floor = self.recent_floor(place).await;
        let key = key.over(&scope.uids, floor);
        let program = Arc::new(Program::new(key, &table, nightmail_commit::now()));
        let uids = match self.find(&scope, &program, transport).await {
            Err(Failure::Gone(_)) if !self.is_selected(place.mailbox) => Vec::new(),
            found => found?,
        };
        let modseqs = match modseqs {
            true => scope.modseqs_of(&uids),
            false => Vec::new(),
        };
        Ok((!uids.is_empty()).then_some(FoundIn {
            mailbox,
            uid_validity,
            found: Found { uids, modseqs },
        }))
    }

    /// From which UID on messages are `\Recent`: in the selected mailbox, as the client was told.
    async fn recent_floor(&self, place: &Place) -> Uid {
        match self.machine.recent_floor() {
            Some(floor) if self.is_selected(place.mailbox) => floor,
            _ => {
                let state = self.store().state(place.mailbox).await;
                uid_or_last(state.map_or(0, |state| state.recent_floor))
            }
        }
    }

    /// Of the selected mailbox, only what the client was told of.
    fn uids_told(&self, place: &Place, all: &Arc<[Uid]>) -> Arc<[Uid]> {
        match self.machine.uids() {
            Some(told) if self.is_selected(place.mailbox) => Arc::clone(told),
            _ => Arc::clone(all),
        }
    }

    /// The names that sources stand for, each once; not all of them need exist.
    async fn names_of(&self, sources: &[Source]) -> Result<BTreeSet<MailboxName>, Failure> {
        let below_others =
            |source: &Source| matches!(source, Source::Subtree(_) | Source::SubtreeOne(_));
        let known = self.names(sources.iter().any(below_others)).await?;
        let mut names = BTreeSet::new();
        for source in sources {
            let mut add = |wanted: &dyn Fn(&MailboxName, &Known) -> bool| {
                let wanted = known.iter().filter(|(name, known)| wanted(name, known));
                names.extend(wanted.map(|(name, _)| name.clone()));
            };
            match source {
                Source::Selected => names.extend(self.machine.selected_name().cloned()),
                Source::Inboxes => add(&|name, _| name.is_inbox()),
                Source::Personal => add(&|_, known| known.own && known.mailbox.is_some()),
                Source::Subscribed => add(&|_, known| known.subscribed),
                Source::Mailboxes(named) => names.extend(named.iter().cloned()),
                Source::Subtree(tops) => add(&|name, _| is_below(name, tops, usize::MAX)),
                Source::SubtreeOne(tops) => add(&|name, _| is_below(name, tops, 1)),
            }
        }
        Ok(names)
    }
}

/// Whether a name is one of these, or at most so many levels below one.
fn is_below(name: &MailboxName, tops: &[MailboxName], levels_max: usize) -> bool {
    tops.iter().any(|top| {
        let rest = match top.as_str() {
            "" => Some(name.as_str()),
            top => match name.as_str().strip_prefix(top) {
                Some("") => return true,
                rest => rest.and_then(|rest| rest.strip_prefix('/')),
            },
        };
        rest.is_some_and(|rest| rest.split('/').count() <= levels_max)
    })
}
