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
    async fn names_of(&self, sources: &[Source]) -> Result<Vec<MailboxName>, Failure> {
        let mut names = BTreeSet::new();
        for source in sources {
            match source {
                Source::Selected => names.extend(self.machine.selected_name().cloned()),
                Source::Inboxes => names.extend(MailboxName::new("INBOX")),
                Source::Personal => names.extend(self.own_names().await?),
                Source::Subscribed => names.extend(self.subscribed_names().await?),
                Source::Mailboxes(named) => names.extend(named.iter().cloned()),
                Source::Subtree(tops) => {
                    names.extend(self.names_below(tops, usize::MAX).await?);
                }
                Source::SubtreeOne(tops) => names.extend(self.names_below(tops, 1).await?),
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn own_names(&self) -> Result<Vec<MailboxName>, Failure> {
        let listed = self.store().list(self.account()?).await?;
        let name = |name: &str| MailboxName::new(name).ok();
        Ok(listed
            .iter()
            .filter_map(|mailbox| name(mailbox.name.as_str()))
            .collect())
    }

    async fn subscribed_names(&self) -> Result<Vec<MailboxName>, Failure> {
        let subscribed = self.store().subscriptions(self.account()?).await?;
        let name = |name: &str| MailboxName::new(name).ok();
        Ok(subscribed
            .iter()
            .filter_map(|subscribed| name(subscribed.as_str()))
            .collect())
    }

    /// These names and those at most so many levels below them.
    async fn names_below(
        &self,
        tops: &[MailboxName],
        levels_max: usize,
    ) -> Result<Vec<MailboxName>, Failure> {
        let mut names = self.own_names().await?;
        names.retain(|name| {
            tops.iter().any(|top| {
                let below = match top.as_str() {
                    "" => Some(name.as_str()),
                    top => name
                        .as_str()
                        .strip_prefix(top)
                        .and_then(|rest| rest.strip_prefix('/')),
                };
                below.is_some_and(|below| below.split('/').count() <= levels_max)
            })
        });
        names.extend(tops.iter().filter(|top| !top.as_str().is_empty()).cloned());
        Ok(names)
    }
}
