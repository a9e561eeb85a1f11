//! Mailboxes as such: LIST, STATUS, CREATE, DELETE, RENAME and subscriptions (RFC 3501 §6.3.3 to §6.3.10).

use std::collections::BTreeMap;

use nightmail_imap::command::status::StatusItem;
use nightmail_imap::io::{MailboxEntry, SpecialUse, StatusData};
use nightmail_imap::{Answer, MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxStatus, Rights, SpecialUse as StoredUse};

use super::ImapSession;
use super::failure::{Failure, new_name, store_name};
use super::selected::uid_or_last;

impl ImapSession {
    /// Every mailbox, and every subscription to what is none.
    pub(super) async fn list_mailboxes(&self) -> Result<Answer, Failure> {
        let account = self.account()?;
        let listed = self.store().list(account).await?;
        let subscriptions = self.store().subscriptions(account).await?;
        let mut entries: BTreeMap<MailboxName, MailboxEntry> = BTreeMap::new();
        for mailbox in &listed {
            if let Some(entry) = entry_of(&mut entries, mailbox.name.as_str()) {
                entry.selectable = true;
                entry.special_use = mailbox.entry.special_use.map(special_use);
            }
        }
        for name in &subscriptions {
            if let Some(entry) = entry_of(&mut entries, name.as_str()) {
                entry.subscribed = true;
            }
        }
        Ok(Answer::Mailboxes(entries.into_values().collect()))
    }

    pub(super) async fn status(
        &self,
        mailbox: &MailboxName,
        items: &[StatusItem],
    ) -> Result<Answer, Failure> {
        let place = self.place_with(mailbox, Rights::READ).await?;
        let status = MailboxStatus {
            mailbox: place.mailbox,
            state: self.store().state(place.mailbox).await?,
        };
        let recent = match items.contains(&StatusItem::Recent) {
            true => self.recent(&status).await?,
            false => 0,
        };
        Ok(Answer::Status(StatusData {
            messages: status.state.exists,
            recent,
            uid_next: uid_or_last(status.state.uid_next),
            uid_validity: status.state.uid_validity,
            unseen: status.state.unseen,
        }))
    }

    /// Messages that no session was told of.
    async fn recent(&self, status: &MailboxStatus) -> Result<u32, Failure> {
        let floor = status.state.recent_floor;
        if floor == status.state.uid_next {
            return Ok(0);
        }
        let snapshot = self.store().snapshot(status.mailbox).await?;
        let before = snapshot.uids.partition_point(|uid| uid.get() < floor);
        Ok(u32::try_from(snapshot.uids.len() - before).unwrap_or(u32::MAX))
    }

    pub(super) async fn create(&self, mailbox: &MailboxName) -> Result<Answer, Failure> {
        let (owner, name) = self.new_place(mailbox).await?;
        self.store().create_mailbox(owner, name, None).await?;
        Ok(Answer::Done)
    }

    /// The machine leaves the mailbox if it is the selected one.
    pub(super) async fn delete(&mut self, mailbox: &MailboxName) -> Result<Answer, Failure> {
        let place = self.place_with(mailbox, Rights::DELETE_MAILBOX).await?;
        self.store().delete_mailbox(place.owner, place.name).await?;
        self.selected
            .take_if(|selected| selected.mailbox == place.mailbox);
        Ok(Answer::Done)
    }

    pub(super) async fn rename(
        &mut self,
        from: &MailboxName,
        to: &MailboxName,
    ) -> Result<Answer, Failure> {
        let (owner, new) = self.new_place(to).await?;
        let place = self.place_with(from, Rights::DELETE_MAILBOX).await?;
        if owner != place.owner {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::Cannot,
                "A mailbox stays with its owner",
            )));
        }
        self.store().rename_mailbox(owner, place.name, new).await?;
        if from.is_inbox() && self.selected.is_some() {
            // The messages of INBOX have moved, and INBOX may be what is selected.
            self.refresh_if_changed().await?;
        }
        Ok(Answer::Done)
    }

    pub(super) async fn subscribe(
        &self,
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
        Ok(Answer::Done)
    }
}

fn entry_of<'a>(
    entries: &'a mut BTreeMap<MailboxName, MailboxEntry>,
    name: &str,
) -> Option<&'a mut MailboxEntry> {
    let name = MailboxName::new(name).ok()?;
    Some(entries.entry(name.clone()).or_insert_with(|| MailboxEntry {
        name,
        selectable: false,
        subscribed: false,
        special_use: None,
    }))
}

const fn special_use(stored: StoredUse) -> SpecialUse {
    match stored {
        StoredUse::Archive => SpecialUse::Archive,
        StoredUse::Drafts => SpecialUse::Drafts,
        StoredUse::Junk => SpecialUse::Junk,
        StoredUse::Sent => SpecialUse::Sent,
        StoredUse::Trash => SpecialUse::Trash,
    }
}
