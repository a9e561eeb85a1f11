//! The selected mailbox: opening it, leaving it, and bringing the machine up to date (RFC 3501 §6.3.1, §6.3.2, §6.4.2).
//!
//! Owns the place in the mailbox's history up to which the machine has been told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use nightmail_commit::{Subscription, Topic};
use nightmail_core::{AccountId, MailboxId, ModSeq, Uid, UidValidity};
use nightmail_imap::io::{FlagsRow, MailboxUpdate, Resync, Selected as Opened};
use nightmail_imap::{Answer, Input, MailboxName, UidSet};
use nightmail_store::{Changes, MailboxState, Rights, Snapshot, StoreError};
use tracing::warn;

use super::ImapSession;
use super::failure::Failure;
use super::place::permitted_changes;

/// When a session in IDLE looks again for news that could not be read.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// The selected mailbox, and what the machine knows of it.
pub(super) struct Selected {
    /// Whose it is: who pays for it, whose keywords it uses.
    pub(super) owner: AccountId,
    pub(super) mailbox: MailboxId,
    /// What the session may do with it.
    pub(super) rights: Rights,
    pub(super) read_only: bool,
    uid_validity: UidValidity,
    uid_next: u32,
    /// The machine knows every change up to this one.
    modseq: ModSeq,
    /// As many of the account's keywords the client knows.
    keywords_told: usize,
    /// How often the machine was told of flags that others changed.
    flag_news: u64,
    /// Whether messages came that other sessions may still take for recent.
    arrivals: bool,
    /// News could not be read, and no event tells of it again.
    stale: bool,
    subscription: Subscription,
}

impl Selected {
    /// Waits until something has happened that was not looked at, or until it is time to look again where looking
    /// failed.
    pub(super) async fn changed(&self) {
        match self.stale {
            true => tokio::time::sleep(LOOK_AGAIN).await,
            false => self.subscription.changed().await,
        }
    }

    /// Takes note of a change made by this session: nothing is left to read where it is the next one.
    pub(super) fn note_own_change(&mut self, modseq: ModSeq) -> bool {
        let is_next = self.modseq.next() == modseq;
        if is_next {
            self.modseq = modseq;
        }
        is_next
    }

    /// Fails unless the session has all these rights.
    pub(super) fn require(&self, wanted: Rights) -> Result<(), Failure> {
        match self.rights.contains(wanted) {
            true => Ok(()),
            false => Err(Failure::no_permission()),
        }
    }

    /// Grows whenever the machine is told of flags that others changed.
    pub(super) const fn flag_news(&self) -> u64 {
        self.flag_news
    }

    /// The UID after the last that any message has had; none where the last there can be was used.
    pub(super) fn uid_next(&self) -> Option<Uid> {
        Uid::new(self.uid_next)
    }

    fn advance(&mut self, snapshot: &Snapshot) {
        self.arrivals |= self.uid_next != snapshot.uid_next;
        self.modseq = snapshot.modseq;
        self.uid_next = snapshot.uid_next;
    }

    /// What the machine knows, as the store compares it.
    fn snapshot(&self, uids: &Arc<[Uid]>) -> Snapshot {
        let uids = Arc::clone(uids);
        let (modseq, uid_next) = (self.modseq, self.uid_next);
        Snapshot::known(self.mailbox, self.uid_validity, modseq, uid_next, uids)
    }
}

impl ImapSession {
    /// The selected mailbox.
    pub(super) fn current(&self) -> Result<&Selected, Failure> {
        self.selected.as_deref().ok_or_else(Failure::out_of_order)
    }

    pub(super) fn current_mut(&mut self) -> Result<&mut Selected, Failure> {
        self.selected
            .as_deref_mut()
            .ok_or_else(Failure::out_of_order)
    }

    /// The UIDs of a set that the client knows, ascending.
    pub(super) fn uids_in(&self, set: &UidSet) -> Vec<u32> {
        let known = self.machine.uids().map_or(&[][..], |uids| &**uids);
        let mut found = Vec::new();
        for (low, high) in set.ranges() {
            let start = known.partition_point(|uid| *uid < low);
            let end = known.partition_point(|uid| *uid <= high);
            let between = known.get(start..end).unwrap_or_default();
            found.extend(between.iter().map(|uid| uid.get()));
        }
        found
    }

    pub(super) async fn select(
        &mut self,
        name: &MailboxName,
        read_only: bool,
        resync: Option<&Resync>,
    ) -> Result<Answer, Failure> {
        self.leave().await;
        let place = self.place_with(name, Rights::READ).await?;
        let read_only = read_only || !place.rights.intersects(Rights::CHANGES);
        let (owner, mailbox) = (place.owner, place.mailbox);
        let store = self.store();
        let subscription = store
            .committer()
            .events()
            .subscribe(Topic::Mailbox(mailbox));
        let state = store.state(mailbox).await?;
        let recent_floor = match read_only {
            true => state.recent_floor,
            false => store.take_recent(mailbox).await?,
        };
        let snapshot = store.snapshot(mailbox).await?;
        let first_unseen = first_unseen(&snapshot, &state);
        let keywords = self.reload_keywords_of(owner).await?;
        let resynced = match resync {
            Some(resync) => self.resynced(&snapshot, resync, &keywords).await?,
            None => None,
        };
        self.selected = Some(Box::new(Selected {
            owner,
            mailbox,
            rights: place.rights,
            read_only,
            uid_validity: snapshot.uid_validity,
            uid_next: snapshot.uid_next,
            modseq: snapshot.modseq,
            keywords_told: keywords.len(),
            flag_news: 0,
            arrivals: false,
            stale: false,
            subscription,
        }));
        Ok(Answer::Selected(Opened {
            read_only,
            permitted: permitted_changes(place.rights),
            uids: Arc::clone(&snapshot.uids),
            uid_validity: snapshot.uid_validity,
            uid_next: uid_or_last(snapshot.uid_next),
            first_unseen,
            recent_floor: uid_or_last(recent_floor),
            keywords: keywords.all(),
            highest_modseq: snapshot.modseq,
            mailbox_id: mailbox,
            resynced,
        }))
    }

    /// CLOSE and UNSELECT.
    pub(super) async fn close(&mut self, expunge: bool) -> Result<Answer, Failure> {
        // Without the right to expunge, CLOSE leaves the messages as they are (RFC 4314 §4).
        let expunge = expunge
            && self.recheck_rights().await.is_ok()
            && self.current()?.rights.contains(Rights::EXPUNGE);
        let removed = match expunge {
            true => self.expunge_marked(None).await,
            false => Ok(()),
        };
        self.leave().await;
        match removed {
            // Where the mailbox is gone, so are its messages.
            Ok(()) | Err(Failure::Gone(_)) => Ok(Answer::Done),
            Err(failure) => Err(failure),
        }
    }

    /// Leaves the selected mailbox. What came while it was selected is recent in no later session, provided that the
    /// client was told of it.
    pub(super) async fn leave(&mut self) {
        let Some(selected) = self.selected.take() else {
            return;
        };
        if selected.read_only || !selected.arrivals {
            return;
        }
        let store = self.store();
        let taken = match store.state(selected.mailbox).await {
            Ok(state) if state.uid_next == selected.uid_next => {
                store.take_recent(selected.mailbox).await.map(drop)
            }
            _ => Ok(()),
        };
        if let Err(error) = taken {
            warn!(session = %self.id, %error, "recent messages could not be marked as told");
        }
    }

    /// Brings the machine up to date if something may have happened.
    pub(super) async fn refresh_if_changed(&mut self) -> Result<(), Failure> {
        let selected = self.current()?;
        match selected.stale || selected.subscription.has_changed() {
            true => Box::pin(self.refresh()).await,
            false => Ok(()),
        }
    }

    /// Brings the machine up to date after this session has changed something. Where the store does not answer just
    /// now a later command does it: a refusal would say that nothing was changed.
    pub(super) async fn refresh_after_change(&mut self) -> Result<(), Failure> {
        match self.refresh().await {
            Err(Failure::Store(error, _)) if error.is_temporary() => {
                warn!(session = %self.id, %error, "a mailbox that was changed could not be read again");
                Ok(())
            }
            refreshed => refreshed,
        }
    }

    /// CHECK: brings the machine up to date, and flags to stable storage (RFC 3501 §6.4.1).
    pub(super) async fn checkpoint(&mut self) -> Result<Answer, Failure> {
        self.refresh().await?;
        let synced = self.store().committer().engine().sync().await;
        synced.map_err(StoreError::from)?;
        Ok(Answer::Done)
    }

    /// Brings the machine up to date.
    pub(super) async fn refresh(&mut self) -> Result<(), Failure> {
        let selected = self.current_mut()?;
        selected.subscription.mark_seen();
        selected.stale = true;
        self.recheck_rights().await?;
        self.read_news().await?;
        self.current_mut()?.stale = false;
        Ok(())
    }

    async fn read_news(&mut self) -> Result<(), Failure> {
        let mailbox = self.current()?.mailbox;
        let store = self.store();
        let state = store.state(mailbox).await.map_err(Failure::of_selected)?;
        if state.highest_modseq <= self.current()?.modseq {
            return Ok(());
        }
        let Some(uids) = self.machine.latest_uids() else {
            return Ok(());
        };
        let known = self.current()?.snapshot(uids);
        let changes = self
            .store()
            .changes(&known)
            .await
            .map_err(Failure::of_selected)?;
        self.learn(changes).await
    }

    async fn learn(&mut self, changes: Changes) -> Result<(), Failure> {
        let ids = changes.changed.iter().flat_map(|row| &row.keywords);
        let table = self.keywords_with(ids.copied()).await?;
        let changed = changes.changed.into_iter().filter_map(|row| {
            Some(FlagsRow {
                uid: Uid::new(row.uid)?,
                flags: table.flag_list(row.flags, &row.keywords),
                modseq: row.modseq,
            })
        });
        let update = MailboxUpdate {
            uids: Arc::clone(&changes.snapshot.uids),
            modseq: changes.snapshot.modseq,
            changed: changed.collect(),
            keywords: None,
        };
        let selected = self.current_mut()?;
        selected.advance(&changes.snapshot);
        selected.flag_news += u64::from(!update.changed.is_empty());
        self.machine.handle(Instant::now(), Input::Update(update));
        Ok(())
    }

    /// Tells the machine of keywords that the client does not know.
    pub(super) fn tell_keywords(&mut self) {
        let (Some(selected), Some(table)) = (&mut self.selected, &self.keywords) else {
            return;
        };
        if table.len() <= selected.keywords_told {
            return;
        }
        let Some(uids) = self.machine.latest_uids() else {
            return;
        };
        selected.keywords_told = table.len();
        let update = MailboxUpdate {
            uids: Arc::clone(uids),
            modseq: selected.modseq,
            changed: Vec::new(),
            keywords: Some(table.all()),
        };
        self.machine.handle(Instant::now(), Input::Update(update));
    }
}

fn first_unseen(snapshot: &Snapshot, state: &MailboxState) -> Option<Uid> {
    match state.unseen {
        0 => None,
        _ => snapshot.first_unseen(),
    }
}

/// Zero stands for the UID after the last.
pub(super) fn uid_or_last(raw: u32) -> Uid {
    Uid::new(raw).or(Uid::new(u32::MAX)).unwrap_or(Uid::FIRST)
}
