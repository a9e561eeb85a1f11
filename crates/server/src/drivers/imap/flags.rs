//! Flags and keywords: the account's table of keywords, and STORE (RFC 3501 §6.4.6).

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Instant;

use nightmail_core::{AccountId, Flags, ModSeq, Uid};
use nightmail_imap::command::store::FlagChange;
use nightmail_imap::io::{FlagsRow, Telling};
use nightmail_imap::{Answer, FlagList, Input, Keyword, UidSet};
use nightmail_store::{FlagOperation, FlagUpdate, KeywordId, Keywords, Rights, Stored};
use tracing::warn;

use super::ImapSession;
use super::failure::Failure;
use super::place::{flags_of, permitted};
use crate::net::Transport;

/// Messages whose flags are changed in one intent.
const STORE_CHUNK: usize = 1 << 20;

/// The keywords of an account, by their place.
#[derive(Default)]
pub(super) struct KeywordTable(Vec<Option<Keyword>>);

impl KeywordTable {
    pub(super) fn new(keywords: &Keywords) -> Self {
        Self(
            keywords
                .names()
                .iter()
                .map(|name| Keyword::new(name))
                .collect(),
        )
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    fn knows(&self, id: KeywordId) -> bool {
        usize::from(id.get()) < self.0.len()
    }

    /// All of them.
    pub(super) fn all(&self) -> Arc<[Keyword]> {
        self.0.iter().flatten().cloned().collect()
    }

    /// The place of a keyword, compared without case.
    pub(super) fn find(&self, keyword: &Keyword) -> Option<KeywordId> {
        let is_it = |known: &Option<Keyword>| {
            known
                .as_ref()
                .is_some_and(|known| known.as_str().eq_ignore_ascii_case(keyword.as_str()))
        };
        let place = self.0.iter().position(is_it)?;
        u16::try_from(place).ok().map(KeywordId::new)
    }

    /// Flags and keywords of a row as the client sees them.
    pub(super) fn flag_list(&self, flags: Flags, ids: &[KeywordId]) -> FlagList {
        let keyword = |id: &KeywordId| self.0.get(usize::from(id.get())).cloned().flatten();
        FlagList {
            flags,
            keywords: ids.iter().filter_map(keyword).collect(),
        }
    }
}

impl ImapSession {
    /// Reads the keywords of the selected mailbox's owner anew.
    pub(super) async fn reload_keywords(&mut self) -> Result<Arc<KeywordTable>, Failure> {
        let owner = self.current()?.owner;
        self.reload_keywords_of(owner).await
    }

    /// Reads an account's keywords anew; they are those of the selected mailbox from now on.
    pub(super) async fn reload_keywords_of(
        &mut self,
        owner: AccountId,
    ) -> Result<Arc<KeywordTable>, Failure> {
        let keywords = self.store().keywords(owner).await?;
        let table = Arc::new(KeywordTable::new(&keywords));
        self.keywords = Some(Arc::clone(&table));
        Ok(table)
    }

    /// The account's keywords, among them those with these ids. The client is told of new ones before it sees them.
    pub(super) async fn keywords_with(
        &mut self,
        mut ids: impl Iterator<Item = KeywordId>,
    ) -> Result<Arc<KeywordTable>, Failure> {
        let missing = match &self.keywords {
            Some(table) => ids.any(|id| !table.knows(id)),
            None => ids.next().is_some(),
        };
        if missing {
            Box::pin(self.reload_keywords()).await?;
            self.tell_keywords();
        }
        Ok(self.keywords.clone().unwrap_or_default())
    }

    pub(super) async fn store_flags(
        &mut self,
        uids: &UidSet,
        change: FlagChange,
        telling: Telling,
        unchanged_since: Option<ModSeq>,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        let before = self.current()?.flag_news();
        self.refresh_if_changed().await?;
        // Where others changed flags meanwhile, the client could not know what its own change came to.
        let mut alone = telling != Telling::Flags && self.current()?.flag_news() == before;
        let (operation, list) = match change {
            FlagChange::Replace(list) => (FlagOperation::Replace, list),
            FlagChange::Add(list) => (FlagOperation::Add, list),
            FlagChange::Remove(list) => (FlagOperation::Remove, list),
        };
        let (operation, list) = self.changeable(operation, list)?;
        let keywords: Vec<String> = list.keywords.iter().map(|k| k.as_str().into()).collect();
        let wanted = self.uids_in(uids);
        let mut found = 0;
        let mut modseq = None;
        let mut modified = UidSet::default();
        for chunk in wanted.chunks(STORE_CHUNK) {
            let keywords = keywords.clone();
            let (stored, still_alone) = self
                .change_flags(chunk, operation, list.flags, keywords, unchanged_since)
                .await?;
            found += stored.found();
            alone &= still_alone;
            modseq = stored.modseq().or(modseq);
            let left = stored.modified.iter();
            left.filter_map(|uid| Uid::new(*uid))
                .for_each(|uid| modified.insert(uid));
            match telling {
                Telling::ModSeq if alone => {
                    let all = unchanged_since.is_some();
                    self.tell_modseqs(&stored, all, transport).await?;
                }
                Telling::Nothing if alone => {}
                _ => self.tell_stored(&stored, transport).await?,
            }
        }
        self.tell_new_keywords(&list).await?;
        Ok(Answer::Stored {
            modseq,
            gone: found < wanted.len(),
            modified,
        })
    }

    /// As much of a change as the session may make; fails where that is nothing (RFC 4314 §4).
    fn changeable(
        &self,
        operation: FlagOperation,
        list: FlagList,
    ) -> Result<(FlagOperation, FlagList), Failure> {
        let rights = self.current()?.rights;
        let wanted = (list.flags.is_empty(), list.keywords.is_empty());
        let list = permitted(list, rights);
        if wanted != (true, true) && list == FlagList::default() {
            return Err(Failure::no_permission());
        }
        let keywords = rights.contains(Rights::WRITE);
        let flags = flags_of(rights);
        let operation = match operation {
            FlagOperation::Replace => FlagOperation::ReplaceAmong { flags, keywords },
            operation => operation,
        };
        Ok((operation, list))
    }

    /// Changes flags in one step. Says also whether nobody else has changed the mailbox since the machine was told last.
    pub(super) async fn change_flags(
        &mut self,
        uids: &[u32],
        operation: FlagOperation,
        flags: Flags,
        keywords: Vec<String>,
        unchanged_since: Option<ModSeq>,
    ) -> Result<(Stored, bool), Failure> {
        let (account, mailbox) = (self.current()?.owner, self.current()?.mailbox);
        let update = FlagUpdate {
            operation,
            flags,
            keywords,
            unchanged_since,
        };
        let stored = self
            .store()
            .store_flags(account, mailbox, uids.to_vec(), update)
            .await
            .map_err(Failure::of_selected)?;
        let selected = self.current_mut()?;
        let modseq = stored.modseq();
        let alone = modseq.is_none_or(|modseq| selected.note_own_change(modseq));
        Ok((stored, alone))
    }

    /// Tells the modification sequences of what was changed, or of all that was looked at.
    async fn tell_modseqs(
        &mut self,
        stored: &Stored,
        all: bool,
        transport: &mut Transport,
    ) -> Result<(), Failure> {
        let now = Instant::now();
        for (modseq, uids) in by_modseq(stored, all) {
            let answer = Answer::StoreModSeq { uids, modseq };
            self.machine.handle(now, Input::Answer(answer));
            if self.machine.output_is_full() {
                self.drain(transport).await?;
            }
        }
        Ok(())
    }

    async fn tell_stored(
        &mut self,
        stored: &Stored,
        transport: &mut Transport,
    ) -> Result<(), Failure> {
        let ids = stored.rows().flat_map(|(_, row)| &row.keywords);
        let table = self.keywords_with(ids.copied()).await?;
        let now = Instant::now();
        for (uids, row) in stored.rows() {
            let flags = table.flag_list(row.flags, &row.keywords);
            for uid in uids.filter_map(Uid::new) {
                let row = FlagsRow {
                    uid,
                    flags: flags.clone(),
                    modseq: row.modseq,
                };
                self.machine
                    .handle(now, Input::Answer(Answer::StoreRow(row)));
                if self.machine.output_is_full() {
                    self.drain(transport).await?;
                }
            }
        }
        Ok(())
    }

    /// A keyword that is new is told although the flags of the messages are not.
    pub(super) async fn tell_new_keywords(&mut self, list: &FlagList) -> Result<(), Failure> {
        if list.keywords.is_empty() {
            return Ok(());
        }
        let table = self.keywords.clone().unwrap_or_default();
        if list.keywords.iter().any(|new| table.find(new).is_none()) {
            match self.reload_keywords().await {
                Ok(_) => self.tell_keywords(),
                // What was asked for is done; the client learns them before the next flags that it is told.
                Err(Failure::Store(error, _)) if error.is_temporary() => {
                    warn!(session = %self.id, %error, "new keywords could not be read");
                    self.keywords = None;
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }
}

/// Messages that follow each other and have a modification sequence in common; of those that did not change, only where
/// `all` are wanted.
fn by_modseq(stored: &Stored, all: bool) -> Vec<(ModSeq, UidSet)> {
    let wanted: Vec<_> = stored
        .rows()
        .filter(|(_, row)| all || row.changed)
        .map(|(uids, row)| (row.modseq, uids))
        .collect();
    let runs = wanted.chunk_by(|(one, _), (next, _)| one == next);
    let ends =
        |uids: &RangeInclusive<u32>| Some((Uid::new(*uids.start())?, Uid::new(*uids.end())?));
    let set = |run: &[(ModSeq, RangeInclusive<u32>)]| {
        UidSet::from_ranges(run.iter().filter_map(|(_, uids)| ends(uids)))
    };
    runs.filter_map(|run| Some((run.first()?.0, set(run))))
        .collect()
}
