//! NOTIFY (RFC 5465): watching mailboxes that are not selected, and the names of mailboxes.
//!
//! What a session watches lives in a box that sessions without NOTIFY never get. Looking compares what is there with
//! what was there at the last look, so that a wake-up too many tells nothing and a lost one is healed by the next.

mod annotations;
mod names;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use nightmail_commit::{Topic, Watch};
use nightmail_core::{AccountId, MailboxId, ModSeq, UidValidity};
use nightmail_imap::command::notify::{
    EventGroup, Events, MailboxFilter, NameNotice, Notice, NotifyPlan, StatusNews,
};
use nightmail_imap::{Answer, Input, MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxState, StoreError};
use tracing::warn;

use self::annotations::Annotations;
use super::ImapSession;
use super::failure::Failure;
use super::listing::{Known, Names};
use super::mailboxes::counters;

/// Mailboxes whose messages one session may watch; beyond it the client is told that it is too much.
const WATCHED_MAX: usize = 4096;
/// When a look is repeated that failed.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a session watches.
pub(super) struct Watching {
    groups: Vec<EventGroup>,
    account: AccountId,
    watch: Watch,
    /// The names as the client was told of them.
    names: Names,
    mailboxes: HashMap<MailboxId, Watched>,
    /// Annotations of the server, where their changes are wanted.
    server: Option<Annotations>,
    /// The last look failed: everything is looked at anew.
    stale: bool,
}

/// A mailbox that is watched.
struct Watched {
    name: MailboxName,
    events: Events,
    /// How the client knows it.
    seen: Seen,
    /// Its annotations, where their changes are wanted.
    annotations: Option<Annotations>,
}

/// What of a mailbox's counters tells that something happened.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
struct Seen {
    validity: Option<UidValidity>,
    uid_next: u32,
    exists: u32,
    unseen: u32,
    modseq: ModSeq,
}

impl From<&MailboxState> for Seen {
    fn from(state: &MailboxState) -> Self {
        Self {
            validity: Some(state.uid_validity),
            uid_next: state.uid_next,
            exists: state.exists,
            unseen: state.unseen,
            modseq: state.highest_modseq,
        }
    }
}

/// A change by the session itself, of which it is not told.
#[derive(Clone, Copy)]
pub(super) enum OwnChange<'a> {
    Made(&'a MailboxName),
    Deleted(&'a MailboxName),
    Renamed(&'a MailboxName, &'a MailboxName),
    Subscribed(&'a MailboxName),
}

impl OwnChange<'_> {
    /// Whether a name is as it is by this change.
    fn concerns(self, name: &MailboxName) -> bool {
        let is_or_above = |of: &MailboxName| name == of || is_below(of, name);
        let is_or_below = |of: &MailboxName| name == of || is_below(name, of);
        match self {
            Self::Made(made) => is_or_above(made),
            Self::Deleted(gone) => name == gone,
            Self::Renamed(from, to) => is_or_below(from) || is_or_below(to) || is_or_above(to),
            Self::Subscribed(of) => name == of,
        }
    }
}

/// Whether `name` lies below `above`.
fn is_below(name: &MailboxName, above: &MailboxName) -> bool {
    let rest = name.as_str().strip_prefix(above.as_str());
    rest.is_some_and(|rest| rest.starts_with('/'))
}

/// Whether a filter means a name.
fn means(filter: &MailboxFilter, name: &MailboxName, known: &Known) -> bool {
    match filter {
        // Delivery may file into any of them.
        MailboxFilter::Inboxes | MailboxFilter::Personal => known.own,
        MailboxFilter::Subscribed => known.subscribed,
        MailboxFilter::Subtree(roots) => roots
            .iter()
            .any(|root| name == root || is_below(name, root)),
        MailboxFilter::Mailboxes(these) => these.contains(name),
    }
}

impl Watching {
    fn new(plan: NotifyPlan, account: AccountId, mut watch: Watch) -> Self {
        let wanted = plan.groups.iter().map(|group| group.events);
        let wanted = wanted.fold(Events::default(), Events::or);
        // What is shared with everybody, and annotations of the server, are told of under the directory.
        for topic in [Topic::MailboxList(account), Topic::Directory] {
            watch.add(topic);
        }
        Self {
            groups: plan.groups,
            account,
            watch,
            names: Names::new(),
            mailboxes: HashMap::new(),
            server: wanted.server_metadata.then(Annotations::default),
            stale: false,
        }
    }

    /// Whether mailboxes of other accounts may be meant.
    fn reaches_others(&self) -> bool {
        let others = |group: &EventGroup| {
            !matches!(
                group.filter,
                MailboxFilter::Inboxes | MailboxFilter::Personal
            )
        };
        self.groups.iter().any(others)
    }

    /// Waits until there may be news.
    pub(super) async fn changed(&self) {
        match self.stale {
            true => tokio::time::sleep(LOOK_AGAIN).await,
            false => self.watch.changed().await,
        }
    }

    /// The events that are wanted of a name.
    fn events_of(&self, name: &MailboxName, known: &Known) -> Events {
        self.groups
            .iter()
            .filter(|group| means(&group.filter, name, known))
            .fold(Events::default(), |all, group| all.or(group.events))
    }

    /// Takes these names for those there are, and watches the mailboxes that are meant now.
    fn adopt(&mut self, names: Names) {
        let mut watched = HashMap::new();
        for (name, known) in &names {
            let Some((mailbox, ..)) = known.mailbox.filter(|_| known.selectable()) else {
                continue;
            };
            let events = self.events_of(name, known);
            if !events.messages && !events.metadata {
                continue;
            }
            let before = self.mailboxes.remove(&mailbox);
            let (seen, annotations) = match before {
                Some(before) => (before.seen, before.annotations),
                None => (Seen::default(), None),
            };
            let wanted = Watched {
                name: name.clone(),
                events,
                seen,
                annotations: annotations.or(events.metadata.then(Annotations::default)),
            };
            watched.insert(mailbox, wanted);
        }
        self.mailboxes = watched;
        self.names = names;
        self.listen();
    }

    /// Listens to what is watched now, and to nothing else.
    fn listen(&mut self) {
        let mut owners: Vec<AccountId> = self
            .names
            .values()
            .filter_map(|known| known.mailbox.map(|(_, owner, _)| owner))
            .collect();
        owners.push(self.account);
        owners.sort_unstable();
        owners.dedup();
        let directory = self.server.is_some() || self.reaches_others();
        let mailboxes = &self.mailboxes;
        self.watch.retain(|topic| match topic {
            Topic::Mailbox(mailbox) => mailboxes.contains_key(&mailbox),
            Topic::MailboxList(owner) => owners.binary_search(&owner).is_ok(),
            Topic::Directory => directory,
            Topic::Queue => false,
        });
        for mailbox in mailboxes.keys() {
            self.watch.add(Topic::Mailbox(*mailbox));
        }
        for owner in owners {
            self.watch.add(Topic::MailboxList(owner));
        }
    }

    fn is_too_much(&self) -> bool {
        self.mailboxes.len() > WATCHED_MAX
    }
}

impl Watched {
    /// What is new; takes it for told.
    fn compare(&mut self, state: &MailboxState) -> StatusNews {
        let now = Seen::from(state);
        let before = std::mem::replace(&mut self.seen, now);
        let moved = before.uid_next != now.uid_next
            || before.exists != now.exists
            || before.validity != now.validity;
        StatusNews {
            initial: false,
            messages: self.events.messages && moved,
            flags: self.events.flags && before.modseq != now.modseq,
            unseen: self.events.flags && before.unseen != now.unseen,
        }
    }

    /// How it is at first.
    const fn initial(&self) -> StatusNews {
        StatusNews {
            initial: true,
            messages: self.events.messages,
            flags: self.events.flags,
            unseen: false,
        }
    }
}

impl ImapSession {
    /// Watches what is wanted from now on, in place of what was watched before.
    pub(super) async fn notify(&mut self, plan: Option<NotifyPlan>) -> Result<Answer, Failure> {
        if self.selected.is_some() {
            self.refresh_if_changed().await?;
        }
        let Some(plan) = plan else {
            self.watching = None;
            return Ok(Answer::Notified(Vec::new()));
        };
        let status = plan.status;
        let events = self.store().committer().events();
        let mut watching = Watching::new(plan, self.account()?, events.watch());
        let names = self.names(watching.reaches_others()).await?;
        watching.adopt(names);
        if watching.is_too_much() {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::NotificationOverflow,
                "These are too many mailboxes to watch",
            )));
        }
        let mut notices = watching.without_access();
        let all: Vec<MailboxId> = watching.mailboxes.keys().copied().collect();
        self.look_at_messages(&mut watching, all, Some(status), &mut notices)
            .await?;
        self.look_at_annotations(&mut watching, None).await?;
        self.watching = Some(Box::new(watching));
        Ok(Answer::Notified(notices))
    }

    /// Tells the machine what has happened in what is watched.
    pub(super) async fn tell_notices(&mut self) {
        let Some(mut watching) = self.watching.take() else {
            return;
        };
        if !watching.stale && !watching.watch.has_changed() {
            self.watching = Some(watching);
            return;
        }
        let mut notices = Vec::new();
        match self.look(&mut watching, &mut notices).await {
            Ok(()) => watching.stale = false,
            Err(Failure::Store(error, _)) => {
                warn!(session = %self.id, %error, "news of mailboxes could not be read");
                watching.stale = true;
            }
            Err(_) => watching.stale = true,
        }
        let overflows = watching.is_too_much();
        if overflows {
            notices.push(Notice::Overflow);
        } else {
            self.watching = Some(watching);
        }
        let now = Instant::now();
        for notice in notices {
            self.machine.handle(now, Input::Notice(notice));
        }
    }

    async fn look(
        &self,
        watching: &mut Watching,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Failure> {
        let changed = watching.watch.take_changed();
        let listed = |topic: &Topic| matches!(topic, Topic::MailboxList(_) | Topic::Directory);
        let mut mailboxes: Vec<MailboxId> = changed
            .iter()
            .filter_map(|topic| match topic {
                Topic::Mailbox(mailbox) => Some(*mailbox),
                _ => None,
            })
            .collect();
        if watching.stale || changed.iter().any(listed) {
            let names = self.names(watching.reaches_others()).await?;
            watching.compare_names(names, notices);
            self.look_at_annotations(watching, Some(notices)).await?;
        }
        let is_new = |watched: &Watched| watched.seen.validity.is_none();
        let unseen = watching.mailboxes.iter();
        let unseen = unseen.filter(|(_, watched)| watching.stale || is_new(watched));
        mailboxes.extend(unseen.map(|(mailbox, _)| *mailbox));
        mailboxes.sort_unstable();
        mailboxes.dedup();
        mailboxes.retain(|mailbox| watching.mailboxes.contains_key(mailbox));
        self.look_at_messages(watching, mailboxes, None, notices)
            .await
    }

    /// Compares mailboxes with how they were. `initial`: they are looked at for the first time, and whether the client
    /// is told how they are. Of the selected one it is told by other means.
    async fn look_at_messages(
        &self,
        watching: &mut Watching,
        mailboxes: Vec<MailboxId>,
        initial: Option<bool>,
        notices: &mut Vec<Notice>,
    ) -> Result<(), Failure> {
        if mailboxes.is_empty() {
            return Ok(());
        }
        let states = self.store().states(&mailboxes).await?;
        let selected = self.selected.as_ref().map(|selected| selected.mailbox);
        let mut told = Vec::new();
        for (mailbox, state) in mailboxes.into_iter().zip(states) {
            let (Some(watched), Some(state)) = (watching.mailboxes.get_mut(&mailbox), state) else {
                continue;
            };
            let is_empty = state.exists == 0 && watched.seen.validity.is_none();
            let compared = watched.compare(&state);
            let news = match initial {
                Some(true) => watched.initial(),
                Some(false) => StatusNews::default(),
                // A mailbox that has just been made, and is still empty, is told by its name.
                None if is_empty => StatusNews::default(),
                None => compared,
            };
            if selected != Some(mailbox) && news != StatusNews::default() {
                let data = counters(mailbox, &state);
                told.push((watched.name.clone(), news, data));
            }
        }
        told.sort_unstable_by(|one, other| one.0.cmp(&other.0));
        notices.extend(
            told.into_iter()
                .map(|(mailbox, news, data)| Notice::Status {
                    mailbox,
                    news,
                    data,
                }),
        );
        Ok(())
    }

    /// Takes note of a change that the session has made itself, so that it is not told of it.
    pub(super) async fn note_own_change(&mut self, change: OwnChange<'_>) {
        let Some(mut watching) = self.watching.take() else {
            return;
        };
        match self.names(watching.reaches_others()).await {
            Ok(now) => {
                watching.take_over(&now, |name| change.concerns(name));
            }
            Err(Failure::Store(StoreError::Failed(error), _)) => {
                warn!(session = %self.id, %error, "names could not be read again");
            }
            Err(_) => {}
        }
        self.watching = Some(watching);
    }
}

/// What LIST says of a name as it is now.
fn name_notice(names: &Names, name: &MailboxName) -> NameNotice {
    let known = names.get(name);
    let below = names
        .range(name.clone()..)
        .skip_while(|(at, _)| *at == name);
    let mut below = below.take_while(|(at, _)| at.as_str().starts_with(name.as_str()));
    NameNotice {
        exists: known.is_some_and(|known| known.mailbox.is_some()),
        selectable: known.is_some_and(Known::selectable),
        has_children: below.any(|(at, known)| is_below(at, name) && known.mailbox.is_some()),
        subscribed: known.is_some_and(|known| known.subscribed),
        special_use: known.and_then(|known| known.special_use),
        ..NameNotice::of(name.clone())
    }
}
