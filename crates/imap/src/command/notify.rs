//! NOTIFY (RFC 5465): what the client is told without asking.
//!
//! Events of the selected mailbox are worked out here, from updates; those of other mailboxes by the driver, which
//! hands them in as a [`Notice`] each.

mod grammar;
mod push;

use bytes::{BufMut, BytesMut};

pub(super) use self::grammar::parse;
pub(crate) use self::push::SelectedWatch;
use super::fetch::FetchItem;
use super::list::Attributes;
use super::status::StatusItem;
use crate::enabled::Extension;
use crate::io::{Answer, Ask, SpecialUse, StatusData};
use crate::name::MailboxName;
use crate::session::{Session, Step};
use crate::write;

/// The arguments of NOTIFY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notify {
    /// NONE
    None,
    /// SET
    Set(NotifySet),
    /// An event that is not known: refused with a list of those that are.
    BadEvent,
}

/// The arguments of NOTIFY SET.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NotifySet {
    /// STATUS: how the mailboxes are at first.
    pub status: bool,
    /// What is told of the selected mailbox.
    pub selected: Option<SelectedEvents>,
    /// What is told of others.
    pub groups: Vec<EventGroup>,
}

/// What is told of the selected mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SelectedEvents {
    /// SELECTED-DELAYED: expunges are told only where a command allows it.
    pub delayed: bool,
    /// Which events; none: nothing is told.
    pub events: Events,
    /// What is told of each new message.
    pub fetch: Vec<FetchItem>,
}

/// What the driver watches.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NotifyPlan {
    /// Whether the state of each mailbox is told at first.
    pub status: bool,
    /// Which mailboxes for which events.
    pub groups: Vec<EventGroup>,
}

/// Events of some mailboxes, other than the selected one where they are about messages.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventGroup {
    /// Of which mailboxes.
    pub filter: MailboxFilter,
    /// Which events.
    pub events: Events,
}

/// Which mailboxes are meant (RFC 5465 §6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum MailboxFilter {
    /// Those to which mail may be delivered.
    Inboxes,
    /// One's own.
    Personal,
    /// Those subscribed.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<MailboxName>),
    /// Exactly these.
    Mailboxes(Vec<MailboxName>),
}

/// Kinds of events (RFC 5465 §5). Arrivals and expunges always come together.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Events {
    /// MessageNew and MessageExpunge
    pub messages: bool,
    /// FlagChange
    pub flags: bool,
    /// MailboxName
    pub names: bool,
    /// SubscriptionChange
    pub subscriptions: bool,
    /// MailboxMetadataChange
    pub metadata: bool,
    /// ServerMetadataChange
    pub server_metadata: bool,
}

impl Events {
    /// The events of either.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self {
            messages: self.messages || other.messages,
            flags: self.flags || other.flags,
            names: self.names || other.names,
            subscriptions: self.subscriptions || other.subscriptions,
            metadata: self.metadata || other.metadata,
            server_metadata: self.server_metadata || other.server_metadata,
        }
    }
}

/// News of something other than the messages of the selected mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Notice {
    /// The messages of a mailbox.
    Status {
        /// Which.
        mailbox: MailboxName,
        /// What of it is new.
        news: StatusNews,
        /// How it is now.
        data: StatusData,
    },
    /// The name, or the subscription, of a mailbox.
    Name(NameNotice),
    /// Metadata entries that have changed.
    Metadata {
        /// Of which mailbox; none: of the server.
        mailbox: Option<MailboxName>,
        /// Their names.
        entries: Vec<Box<str>>,
    },
    /// There is too much to watch: nothing is watched any more.
    Overflow,
}

/// What of a mailbox is new.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StatusNews {
    /// Nothing is: this is how it was when NOTIFY began.
    pub initial: bool,
    /// Messages came or went.
    pub messages: bool,
    /// Flags changed.
    pub flags: bool,
    /// The number of unseen messages changed.
    pub unseen: bool,
}

/// What LIST says of a name now.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct NameNotice {
    /// The name; none only by default.
    pub name: Option<MailboxName>,
    /// Whether a mailbox has it.
    pub exists: bool,
    /// Whether that can be opened.
    pub selectable: bool,
    /// Whether the account lacks a right that the events need.
    pub no_access: bool,
    /// Whether there are mailboxes below it.
    pub has_children: bool,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// What it is for.
    pub special_use: Option<SpecialUse>,
    /// The name it had, where it was renamed.
    pub old_name: Option<MailboxName>,
}

impl NameNotice {
    /// Of a name.
    pub fn of(name: MailboxName) -> Self {
        Self {
            name: Some(name),
            ..Self::default()
        }
    }
}

/// The events that can be asked for.
const EVENTS: &str = "MessageNew MessageExpunge FlagChange MailboxName SubscriptionChange \
                      MailboxMetadataChange ServerMetadataChange";

pub(crate) fn run(session: &mut Session, notify: Notify) {
    let (plan, selected) = match notify {
        Notify::BadEvent => {
            let code = format!("BADEVENT ({EVENTS})");
            return session.no_with(&code, "No such event");
        }
        Notify::None => (None, None),
        Notify::Set(set) => {
            let plan = NotifyPlan {
                status: set.status,
                groups: set.groups,
            };
            (Some(Box::new(plan)), set.selected)
        }
    };
    session.ask(Ask::Notify(plan), Setting { selected });
}

struct Setting {
    selected: Option<SelectedEvents>,
}

impl Step for Setting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Notified(notices) => {
                // What has gathered until now is told in any case (RFC 5465 §3.1).
                session.tell_news();
                session.watch(self.selected);
                for notice in &notices {
                    session.write_notice(notice);
                }
                session.ok("Notified");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

impl Session {
    /// Writes news that NOTIFY asked for.
    pub(crate) fn write_notice(&mut self, notice: &Notice) {
        match notice {
            Notice::Status {
                mailbox,
                news,
                data,
            } => {
                let items = self.status_items(*news);
                if !items.is_empty() {
                    self.write_status(mailbox.as_str(), &items, data);
                }
            }
            Notice::Name(notice) => self.write_name(notice),
            Notice::Metadata { mailbox, entries } => {
                let name = mailbox.as_ref().map_or("", MailboxName::as_str);
                self.write_metadata_names(name, entries);
            }
            Notice::Overflow => {
                self.watch(None);
                self.text()
                    .put_slice(b"* OK [NOTIFICATIONOVERFLOW] Too much to watch\r\n");
            }
        }
    }

    /// Which items tell it (RFC 5465 §3.1, §5.1 to §5.3).
    fn status_items(&self, news: StatusNews) -> Vec<StatusItem> {
        let modseq = self.enabled().has(Extension::Condstore);
        let mut items = Vec::new();
        if news.messages {
            items.extend([StatusItem::Messages, StatusItem::UidNext]);
        }
        if news.unseen {
            items.push(StatusItem::Unseen);
        }
        if news.messages || (news.flags && (modseq || news.initial)) {
            items.push(StatusItem::UidValidity);
        }
        if (modseq && (news.messages || news.flags)) || (news.initial && news.flags) {
            items.push(StatusItem::HighestModSeq);
        }
        items
    }

    fn write_name(&mut self, notice: &NameNotice) {
        let Some(name) = &notice.name else {
            return;
        };
        let utf8 = self.enabled().utf8();
        let out = self.text();
        out.put_slice(b"* LIST (");
        if notice.no_access {
            out.put_slice(b"\\NoAccess");
        } else {
            let attributes = Attributes {
                exists: notice.exists,
                selectable: notice.selectable,
                has_children: notice.has_children,
                subscribed: notice.subscribed,
                special_use: notice.special_use,
            };
            attributes.write(out, true);
        }
        end_name(out, name, notice.old_name.as_ref(), utf8);
    }

    /// The answer to RENAME that IMAP4rev2 has (RFC 9051 §6.3.9.7).
    pub(crate) fn write_renamed(&mut self, from: &MailboxName, to: &MailboxName) {
        let utf8 = self.enabled().utf8();
        let out = self.text();
        out.put_slice(b"* LIST (");
        end_name(out, to, Some(from), utf8);
    }

    /// An untagged METADATA that names entries (RFC 5464 §4.4.2).
    fn write_metadata_names(&mut self, mailbox: &str, entries: &[Box<str>]) {
        let utf8 = self.enabled().utf8();
        let out = self.text();
        out.put_slice(b"* METADATA ");
        write::mailbox_text(out, mailbox, utf8);
        for entry in entries {
            out.put_u8(b' ');
            write::astring(out, entry);
        }
        out.put_slice(b"\r\n");
    }
}

/// Ends a LIST response after its attributes.
fn end_name(out: &mut BytesMut, name: &MailboxName, old_name: Option<&MailboxName>, utf8: bool) {
    out.put_slice(b") \"/\" ");
    write::mailbox(out, name, utf8);
    if let Some(old_name) = old_name {
        out.put_slice(b" (\"OLDNAME\" (");
        write::mailbox(out, old_name, utf8);
        out.put_slice(b"))");
    }
    out.put_slice(b"\r\n");
}
