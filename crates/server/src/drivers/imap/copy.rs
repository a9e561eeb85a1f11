//! COPY, MOVE and EXPUNGE (RFC 3501 §6.4.3, §6.4.7; RFC 4315; RFC 6851).

use nightmail_core::{Flags, Uid};
use nightmail_imap::io::CopyUid;
use nightmail_imap::{Answer, MailboxName, UidSet};
use nightmail_store::{Copied, FlagOperation, FlagUpdate, Rights};

use super::ImapSession;
use super::failure::Failure;
use super::place::{Place, flags_of};
use crate::net::Transport;

impl ImapSession {
    pub(super) async fn copy(
        &mut self,
        uids: &UidSet,
        target: &MailboxName,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        self.refresh_if_changed().await?;
        let target = self.target(target).await?;
        let quota = self.quota(target.owner).await?;
        let source = self.current()?.mailbox;
        let wanted = self.uids_in(uids);
        let store = self.store().clone();
        let work = Box::pin(store.copy(target.owner, quota, source, target.mailbox, wanted));
        let copied = self.watched(work, transport).await?;
        let copied = copied.map_err(Failure::of_target)?;
        self.has_grown(target.owner, quota);
        self.drop_forbidden_flags(&target, &copied).await?;
        if self.is_selected(target.mailbox) {
            self.refresh_after_change().await?;
        }
        Ok(answer(&copied))
    }

    pub(super) async fn move_messages(
        &mut self,
        uids: &UidSet,
        target: &MailboxName,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        self.refresh_if_changed().await?;
        let target = self.target(target).await?;
        let current = self.current()?;
        current.require(Rights::DELETE | Rights::EXPUNGE)?;
        let source = current.mailbox;
        let quota = self.quota(target.owner).await?;
        let wanted = self.uids_in(uids);
        let store = self.store().clone();
        let work = store.move_messages(target.owner, quota, source, target.mailbox, wanted);
        let moved = self.watched(Box::pin(work), transport).await?;
        let moved = moved.map_err(Failure::of_target)?;
        self.has_grown(target.owner, quota);
        self.drop_forbidden_flags(&target, &moved).await?;
        self.refresh_after_change().await?;
        Ok(answer(&moved))
    }

    async fn target(&self, name: &MailboxName) -> Result<Place, Failure> {
        self.place_with(name, Rights::INSERT)
            .await
            .map_err(Failure::at_target)
    }

    /// Takes the flags from copies that the session may not set there (RFC 4314 §4).
    async fn drop_forbidden_flags(&self, target: &Place, copied: &Copied) -> Result<(), Failure> {
        let settable = Rights::SEEN | Rights::WRITE | Rights::DELETE;
        if target.rights.contains(settable) || copied.uids.is_empty() {
            return Ok(());
        }
        let uids = copied.uids.iter().map(|(_, copy)| *copy).collect();
        let update = FlagUpdate {
            operation: FlagOperation::ReplaceAmong {
                flags: !flags_of(target.rights),
                keywords: !target.rights.contains(Rights::WRITE),
            },
            flags: Flags::EMPTY,
            keywords: Vec::new(),
            unchanged_since: None,
        };
        let store = self.store();
        store
            .store_flags(target.owner, target.mailbox, uids, update)
            .await?;
        Ok(())
    }

    pub(super) async fn expunge(&mut self, uids: Option<&UidSet>) -> Result<Answer, Failure> {
        self.recheck_rights().await?;
        self.current()?.require(Rights::EXPUNGE)?;
        self.expunge_marked(uids).await?;
        self.refresh_after_change().await?;
        Ok(Answer::Done)
    }

    /// Removes messages marked `\Deleted`, among `uids` where they are named.
    pub(super) async fn expunge_marked(&self, uids: Option<&UidSet>) -> Result<(), Failure> {
        let (account, mailbox) = (self.current()?.owner, self.current()?.mailbox);
        let store = self.store();
        let removed = match uids {
            Some(uids) => store.expunge(account, mailbox, &self.uids_in(uids)).await,
            None => match store.snapshot(mailbox).await {
                Ok(snapshot) => store.expunge(account, mailbox, &snapshot.raw_uids()).await,
                Err(error) => Err(error),
            },
        };
        removed.map(drop).map_err(Failure::of_selected)
    }
}

fn answer(copied: &Copied) -> Answer {
    if copied.uids.is_empty() {
        return Answer::Copied(None);
    }
    let set = |raw: fn(&(u32, u32)) -> u32| {
        let uids = copied.uids.iter().map(raw);
        uids.filter_map(Uid::new).collect()
    };
    Answer::Copied(Some(CopyUid {
        uid_validity: copied.uid_validity,
        source: set(|(source, _)| *source),
        target: set(|(_, target)| *target),
    }))
}
