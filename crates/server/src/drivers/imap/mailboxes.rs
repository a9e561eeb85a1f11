//! Mailboxes as such: LIST, STATUS, CREATE, DELETE, RENAME and subscriptions (RFC 3501 §6.3.3 to §6.3.10).

use nightmail_core::{AccountId, Flags, MailboxId};
use nightmail_imap::command::list::{ListScope, MailboxDetails};
use nightmail_imap::command::status::StatusItem;
use nightmail_imap::io::{SpecialUse, StatusData};
use nightmail_imap::{Answer, MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxName as StoreName, MailboxState, Rights, StoreError};

use super::ImapSession;
use super::failure::{Failure, new_name, store_name};
use super::listing::{entry, stored_use};
use super::notify::OwnChange;
use super::selected::uid_or_last;

impl ImapSession {
    /// Every mailbox, and every subscription to what is none.
    pub(super) async fn list_mailboxes(&self, scope: ListScope) -> Result<Answer, Failure> {
        let names = self.names(scope.shared).await?;
        let entries = names
            .into_iter()
            .map(|(name, known)| entry(name, &known, scope.rights));
        Ok(Answer::Mailboxes(entries.collect()))
    }

    /// More of mailboxes that were listed, with one look for all of them.
    pub(super) async fn details(
        &self,
        mailboxes: &[MailboxId],
        items: &[StatusItem],
        metadata: &[Box<str>],
    ) -> Result<Answer, Failure> {
        let mut details = vec![MailboxDetails::default(); mailboxes.len()];
        if !items.is_empty() {
            let states = self.store().states(mailboxes).await?;
            for ((mailbox, state), detail) in mailboxes.iter().zip(states).zip(&mut details) {
                if let Some(state) = state {
                    detail.status = Some(self.status_data(*mailbox, &state, items).await?);
                }
            }
        }
        if !metadata.is_empty() {
            let entries: Vec<String> = metadata.iter().map(|entry| entry.to_string()).collect();
            let viewer = self.account()?;
            let found = self.store().metadata_many(mailboxes, viewer, &entries);
            for (annotations, detail) in found.await?.into_iter().zip(&mut details) {
                let values = annotations.into_iter();
                let values = values.map(|one| (one.entry.into_boxed_str(), one.value));
                detail.metadata = Some(values.collect());
            }
        }
        Ok(Answer::Details(details))
    }

    pub(super) async fn status(
        &mut self,
        mailbox: &MailboxName,
        items: &[StatusItem],
    ) -> Result<Answer, Failure> {
        let place = self.place_with(mailbox, Rights::READ).await?;
        if self.is_selected(place.mailbox) {
            self.refresh_if_changed().await?;
        }
        let state = self.store().state(place.mailbox).await?;
        let data = self.status_data(place.mailbox, &state, items).await?;
        Ok(Answer::Status(data))
    }

    /// What STATUS tells. Only items that the counters do not answer cost a look.
    async fn status_data(
        &self,
        mailbox: MailboxId,
        state: &MailboxState,
        items: &[StatusItem],
    ) -> Result<StatusData, Failure> {
        let mut data = counters(mailbox, state);
        if items.contains(&StatusItem::Recent) {
            data.recent = self.recent(mailbox, state).await?;
        }
        if items.contains(&StatusItem::DeletedStorage) && state.deleted > 0 {
            data.deleted_octets = self.deleted_octets(mailbox).await?;
        }
        Ok(data)
    }

    /// Messages that no session was told of.
    async fn recent(&self, mailbox: MailboxId, state: &MailboxState) -> Result<u32, Failure> {
        let floor = state.recent_floor;
        if floor == state.uid_next {
            return Ok(0);
        }
        let snapshot = self.store().snapshot(mailbox).await?;
        let before = snapshot.uids.partition_point(|uid| uid.get() < floor);
        Ok(u32::try_from(snapshot.uids.len() - before).unwrap_or(u32::MAX))
    }

    /// What an expunge would free (RFC 9208 §4.1.4).
    async fn deleted_octets(&self, mailbox: MailboxId) -> Result<u64, Failure> {
        let uids = self.store().snapshot(mailbox).await?.raw_uids();
        let is_deleted = |flags: Flags| flags.contains(Flags::DELETED);
        let found = self
            .store()
            .uids_where(mailbox, &uids, usize::MAX, is_deleted)
            .await?;
        let mut octets = 0;
        for page in found.chunks(ROWS_AT_ONCE) {
            let rows = self.store().rows(mailbox, page).await?;
            octets += rows.iter().map(|(_, row)| row.size).sum::<u64>();
        }
        Ok(octets)
    }

    pub(super) async fn create(
        &mut self,
        mailbox: &MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Result<Answer, Failure> {
        let (owner, name) = self.new_place(mailbox).await?;
        let stored = special_use.and_then(stored_use);
        if special_use.is_some() && (stored.is_none() || owner != self.account()?) {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::SpecialUse,
                "This mailbox cannot be for that",
            )));
        }
        let quota = self.quota(owner).await?;
        let store = self.store();
        let made = store
            .create_mailbox_within(quota, owner, name, stored)
            .await?;
        self.note_own_change(OwnChange::Made(mailbox)).await;
        Ok(Answer::Created(made))
    }

    /// The machine leaves the mailbox if it is the selected one.
    pub(super) async fn delete(&mut self, mailbox: &MailboxName) -> Result<Answer, Failure> {
        let place = self.place_with(mailbox, Rights::DELETE_MAILBOX).await?;
        self.store().delete_mailbox(place.owner, place.name).await?;
        self.selected
            .take_if(|selected| selected.mailbox == place.mailbox);
        self.note_own_change(OwnChange::Deleted(mailbox)).await;
        Ok(Answer::Done)
    }

    pub(super) async fn rename(
        &mut self,
        from: &MailboxName,
        to: &MailboxName,
    ) -> Result<Answer, Failure> {
        let (owner, new) = self.new_place(to).await?;
        let (old_owner, old) = self.old_place(from).await?;
        if owner != old_owner {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::Cannot,
                "A mailbox stays with its owner",
            )));
        }
        self.store().rename_mailbox(owner, old, new).await?;
        if from.is_inbox() && self.selected.is_some() {
            // The messages of INBOX have moved, and INBOX may be what is selected.
            self.refresh_if_changed().await?;
        }
        self.note_own_change(OwnChange::Renamed(from, to)).await;
        Ok(Answer::Done)
    }

    /// Whose the mailbox to be renamed is, and its name there. An own name without a mailbox may have some below it,
    /// which the store finds.
    async fn old_place(&self, name: &MailboxName) -> Result<(AccountId, StoreName), Failure> {
        match self.place_with(name, Rights::DELETE_MAILBOX).await {
            Ok(place) => Ok((place.owner, place.name)),
            Err(Failure::Store(StoreError::NoSuchMailbox, _)) => {
                Ok((self.account()?, store_name(name)?))
            }
            Err(failure) => Err(failure),
        }
    }

    pub(super) async fn subscribe(
        &mut self,
        mailbox: &MailboxName,
        subscribed: bool,
    ) -> Result<Answer, Failure> {
        let name = match subscribed {
            true => new_name(mailbox)?,
            false => store_name(mailbox)?,
        };
        let account = self.account()?;
        self.store()
            .set_subscribed(account, name, subscribed)
            .await?;
        self.note_own_change(OwnChange::Subscribed(mailbox)).await;
        Ok(Answer::Done)
    }
}

/// Rows read at once.
const ROWS_AT_ONCE: usize = 4096;

/// What a mailbox's counters tell; the rest is left at nothing.
pub(super) fn counters(mailbox: MailboxId, state: &MailboxState) -> StatusData {
    StatusData {
        messages: state.exists,
        recent: 0,
        uid_next: uid_or_last(state.uid_next),
        uid_validity: state.uid_validity,
        unseen: state.unseen,
        deleted: state.deleted,
        octets: state.bytes,
        deleted_octets: 0,
        highest_modseq: state.highest_modseq,
        mailbox,
    }
}
