//! News of the selected mailbox, told without a command (RFC 5465 §5.1 to §5.3, §6.1).

use nightmail_core::Uid;

use super::super::Spec;
use super::super::fetch::pushed;
use super::super::fetch_rows::Fetching;
use super::SelectedEvents;
use crate::io::{Answer, Ask};
use crate::session::{Session, Step};
use crate::set::UidSet;

/// What the client, having used NOTIFY, is told of the selected mailbox.
#[derive(Debug, Default)]
pub(crate) struct SelectedWatch {
    wanted: SelectedEvents,
    /// New messages that the client was told of, and not yet what it wants to know of each.
    arrived: Option<(Uid, Uid)>,
}

/// Tells of new messages; no client can name it.
pub(crate) static PUSH: Spec = Spec::pushing("RFC 5465 5.2");

/// Commands whose own result are news of the selected mailbox: they are told whatever NOTIFY says.
const CHANGING: [&str; 6] = [
    "EXPUNGE",
    "UID EXPUNGE",
    "MOVE",
    "UID MOVE",
    "REPLACE",
    "UID REPLACE",
];

/// Commands by which a client itself adds messages.
const ADDING: [&str; 8] = [
    "APPEND",
    "COPY",
    "UID COPY",
    "MOVE",
    "UID MOVE",
    "REPLACE",
    "UID REPLACE",
    "NOTIFY",
];

impl SelectedWatch {
    pub(crate) fn new(wanted: Option<SelectedEvents>) -> Self {
        Self {
            wanted: wanted.unwrap_or_default(),
            arrived: None,
        }
    }

    /// Whether messages that come and go are told.
    pub(crate) const fn tells_messages(&self) -> bool {
        self.wanted.events.messages
    }

    /// Whether changes of flags are told.
    pub(crate) const fn tells_flags(&self) -> bool {
        self.wanted.events.flags
    }

    /// Whether expunges are told at any time.
    pub(crate) const fn tells_expunges_at_once(&self) -> bool {
        self.wanted.events.messages && !self.wanted.delayed
    }

    /// Whether news is told in the result of a command.
    pub(crate) fn lets_tell(&self, command: &str) -> bool {
        self.wanted.events.messages || CHANGING.contains(&command)
    }

    /// Takes note of messages that the client was told of by `command`; none: by no command.
    pub(crate) fn note_arrivals(&mut self, first: Uid, last: Uid, command: Option<&str>) {
        let own = command.is_some_and(|name| ADDING.contains(&name));
        if own || self.wanted.fetch.is_empty() || !self.wanted.events.messages {
            return;
        }
        let first = self.arrived.map_or(first, |(before, _)| before.min(first));
        self.arrived = Some((first, last));
    }
}

impl Session {
    /// From now on the client is told this of the selected mailbox, and nothing else.
    pub(crate) fn watch(&mut self, wanted: Option<SelectedEvents>) {
        *self.selected_watch() = Some(Box::new(SelectedWatch::new(wanted)));
    }

    /// Gives what the client wants to know of messages that have just come.
    pub(crate) fn push_arrivals(&mut self) {
        let Some(watch) = self.selected_watch() else {
            return;
        };
        let Some((first, last)) = watch.arrived.take() else {
            return;
        };
        let items = watch.wanted.fetch.clone();
        let Some(view) = self.view() else {
            return;
        };
        let uids: UidSet = view
            .uids()
            .iter()
            .copied()
            .filter(|uid| (first..=last).contains(uid))
            .collect();
        if uids.is_empty() {
            return;
        }
        let (plan, fetching) = pushed(self, items);
        self.begin_pushing(&PUSH, |resume| {
            let step = Pushing { fetching, resume };
            (Ask::Fetch { uids, plan }, Box::new(step))
        });
    }
}

/// Rows of new messages are coming; afterwards the command that waited, IDLE, goes on.
struct Pushing {
    fetching: Fetching,
    resume: Option<Box<dyn Step>>,
}

impl Step for Pushing {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::FetchRow(row) => {
                self.fetching.row(session, &row);
                session.await_more(self);
            }
            // That a message cannot be read now is no news; it can be fetched later.
            _ => session.end_pushing(self.resume),
        }
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        if let Some(step) = self.resume {
            step.abandoned(session);
        }
    }
}
