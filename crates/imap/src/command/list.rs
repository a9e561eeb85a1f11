//! LIST and LSUB (RFC 3501 §6.3.8, §6.3.9), LIST-EXTENDED (RFC 5258), CHILDREN (RFC 3348), SPECIAL-USE (RFC 6154), and
//! what LIST gives beside names: LIST-STATUS (RFC 5819), LIST-MYRIGHTS (RFC 8440), LIST-METADATA (RFC 9590).
//!
//! The driver gives all names; which of them are answered, and with which attributes, is worked out here. Only then
//! is the driver asked for more of the mailboxes that are answered.

mod grammar;

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use nightmail_core::MailboxId;

pub(super) use self::grammar::{parse_list, parse_lsub};
use super::namespace::{OTHER_USERS, PUBLIC};
use super::status::{StatusItem, enable_by_use};
use crate::enabled::Extension;
use crate::io::{Answer, Ask, MailboxEntry, SpecialUse, StatusData};
use crate::pattern::ListPattern;
use crate::session::{Session, Step};
use crate::write;

/// The arguments of LIST and LSUB.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct List {
    /// LSUB.
    pub lsub: bool,
    /// Which names are chosen.
    pub select: ListSelect,
    /// The patterns, each with the reference before it.
    pub patterns: Vec<ListPattern>,
    /// What more is told of them.
    pub give: ListReturn,
}

/// Selection options (RFC 5258 §3.1).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListSelect {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// RECURSIVEMATCH
    pub recursive_match: bool,
    /// SPECIAL-USE
    pub special_use: bool,
}

/// Return options (RFC 5258 §3.2). CHILDREN and SPECIAL-USE are told always, which they allow.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ListReturn {
    /// SUBSCRIBED
    pub subscribed: bool,
    /// Whether the command is an extended one: then a name without a mailbox is `\NonExistent`.
    pub extended: bool,
    /// STATUS, with these items; none where it is empty.
    pub status: Vec<StatusItem>,
    /// MYRIGHTS
    pub rights: bool,
    /// METADATA, with these entries; none where it is empty.
    pub metadata: Vec<Box<str>>,
}

/// Which mailboxes the driver is to name, and with what.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ListScope {
    /// Those of other users and public ones as well.
    pub shared: bool,
    /// What the account may do with each.
    pub rights: bool,
}

/// More of one mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct MailboxDetails {
    /// What STATUS tells; none where the mailbox is no more or cannot be looked at.
    pub status: Option<StatusData>,
    /// The entries asked for with their values; none where they cannot be read.
    pub metadata: Option<Vec<(Box<str>, Option<Bytes>)>>,
}

pub(crate) fn run(session: &mut Session, mut list: List) {
    let asks_separator = !list.give.extended && list.patterns.iter().all(ListPattern::is_empty);
    if asks_separator && !list.lsub {
        session
            .text()
            .put_slice(b"* LIST (\\Noselect) \"/\" \"\"\r\n");
        return session.ok("Listed");
    }
    list.give.extended |= session.enabled().has(Extension::Imap4Rev2);
    enable_by_use(session, &list.give.status);
    let reaches = |prefix| list.patterns.iter().any(|p| p.may_reach(prefix));
    let scope = ListScope {
        shared: !list.lsub && (reaches(OTHER_USERS) || reaches(PUBLIC)),
        rights: list.give.rights,
    };
    session.ask(Ask::Mailboxes(scope), Listing { list });
}

struct Listing {
    list: List,
}

impl Step for Listing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Mailboxes(entries) => self.list.answer(session, entries),
            other => session.refuse_unexpected(other),
        }
    }
}

/// The names are known; more of them is being looked up.
struct Detailing {
    list: List,
    entries: Arc<[MailboxEntry]>,
}

impl Step for Detailing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Details(details) => {
                self.list.write(session, &self.entries, details);
                session.ok("Listed");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

/// One name to answer.
#[derive(Clone, Copy, Default)]
struct Line<'a> {
    /// The entry of this name; none where only names below it exist.
    entry: Option<&'a MailboxEntry>,
    /// Whether the name itself is chosen, not only one below it.
    chosen: bool,
    /// Whether a chosen name lies below it, for RECURSIVEMATCH.
    child_info: bool,
    /// Whether one of those is not answered itself.
    hidden_child: bool,
}

impl Line<'_> {
    /// The mailbox of which more may be told.
    fn mailbox(&self) -> Option<MailboxId> {
        let entry = self.entry.filter(|entry| self.chosen && entry.selectable);
        entry.and_then(|entry| entry.mailbox)
    }
}

impl List {
    fn answer(self, session: &mut Session, entries: Arc<[MailboxEntry]>) {
        if self.give.status.is_empty() && self.give.metadata.is_empty() {
            self.write(session, &entries, Vec::new());
            return session.ok("Listed");
        }
        let lines = self.lines(&entries);
        let mailboxes = lines.values().filter_map(Line::mailbox).collect();
        let ask = Ask::Details {
            mailboxes,
            items: self.give.status.clone(),
            metadata: self.give.metadata.clone(),
        };
        let list = self;
        session.ask(ask, Detailing { list, entries });
    }

    /// Writes all names. `details`: of each mailbox of which more may be told, in order.
    fn write(&self, session: &mut Session, entries: &[MailboxEntry], details: Vec<MailboxDetails>) {
        let utf8 = session.enabled().utf8();
        let asked = !details.is_empty();
        let mut details = details.into_iter();
        for (name, line) in self.lines(entries) {
            let detail = line
                .mailbox()
                .filter(|_| asked)
                .and_then(|_| details.next());
            // A mailbox that could not be looked at cannot be selected either (RFC 5819 §2).
            let closed = detail
                .as_ref()
                .is_some_and(|d| d.status.is_none() && !self.give.status.is_empty());
            let out = session.text();
            out.put_slice(if self.lsub { b"* LSUB (" } else { b"* LIST (" });
            self.write_attributes(out, line, closed, has_children(entries, name));
            out.put_slice(b") \"/\" ");
            write::mailbox_text(out, name, utf8);
            if line.child_info {
                self.write_child_info(out);
            }
            out.put_slice(b"\r\n");
            self.write_details(session, name, line, detail);
        }
    }

    fn write_details(
        &self,
        session: &mut Session,
        name: &str,
        line: Line<'_>,
        detail: Option<MailboxDetails>,
    ) {
        let detail = detail.unwrap_or_default();
        if let Some(data) = detail.status.filter(|_| !self.give.status.is_empty()) {
            session.write_status(name, &self.give.status, &data);
        }
        let entry = line.entry.filter(|_| self.give.rights && line.chosen);
        let utf8 = session.enabled().utf8();
        let out = session.text();
        if let Some(rights) = entry.and_then(|entry| entry.rights.as_deref()) {
            out.put_slice(b"* MYRIGHTS ");
            write::mailbox_text(out, name, utf8);
            write::display(out, format_args!(" {rights}\r\n"));
        }
        if let Some(metadata) = detail.metadata.filter(|metadata| !metadata.is_empty()) {
            write_metadata(out, name, utf8, &metadata);
        }
    }

    fn chooses(&self, entry: &MailboxEntry) -> bool {
        (!self.select.subscribed || entry.subscribed)
            && (!self.select.special_use || entry.special_use.is_some())
            && (self.select.subscribed || entry.mailbox.is_some())
    }

    fn matches(&self, name: &str) -> bool {
        self.patterns
            .iter()
            .any(|pattern| pattern.matches_str(name))
    }

    /// The names to answer. A level above a chosen name is answered as well: by LIST always, unless only some names
    /// are selected; by LSUB where a final `%` stops at it; with RECURSIVEMATCH where a chosen name below it is not
    /// answered itself (RFC 5258 §3.5).
    fn lines<'a>(&self, entries: &'a [MailboxEntry]) -> BTreeMap<&'a str, Line<'a>> {
        let mut lines: BTreeMap<&str, Line<'_>> = BTreeMap::new();
        let recursive = self.select.recursive_match;
        let wants_parents = if self.lsub {
            self.patterns.iter().any(ListPattern::wants_parents)
        } else {
            recursive || self.select == ListSelect::default()
        };
        for entry in entries.iter().filter(|entry| self.chooses(entry)) {
            let answered = self.matches(entry.name.as_str());
            if answered {
                lines.entry(entry.name.as_str()).or_default().chosen = true;
            }
            if wants_parents {
                for above in entry.name.ancestors().filter(|above| self.matches(above)) {
                    let line = lines.entry(above).or_default();
                    line.child_info |= recursive;
                    line.hidden_child |= !answered;
                }
            }
        }
        lines.retain(|_, line| line.chosen || line.hidden_child || !recursive);
        for (name, line) in &mut lines {
            let found = entries.binary_search_by(|entry| entry.name.as_str().cmp(name));
            line.entry = found.ok().and_then(|index| entries.get(index));
        }
        lines
    }

    fn write_attributes(
        &self,
        out: &mut BytesMut,
        line: Line<'_>,
        closed: bool,
        has_children: bool,
    ) {
        let subscribed = line.entry.is_some_and(|entry| entry.subscribed);
        if self.lsub {
            // LSUB speaks of subscriptions, not of mailboxes.
            return out.put_slice(if subscribed { b"" } else { b"\\Noselect" });
        }
        let attributes = Attributes {
            exists: line.entry.is_some_and(|entry| entry.mailbox.is_some()),
            selectable: line.entry.is_some_and(|entry| entry.selectable) && !closed,
            has_children,
            subscribed: self.give.subscribed && subscribed,
            special_use: line.entry.and_then(|entry| entry.special_use),
        };
        attributes.write(out, self.give.extended);
    }

    fn write_child_info(&self, out: &mut BytesMut) {
        let options = [
            (self.select.subscribed, "\"SUBSCRIBED\""),
            (self.select.special_use, "\"SPECIAL-USE\""),
        ];
        let names: Vec<_> = options
            .iter()
            .filter(|(on, _)| *on)
            .map(|(_, name)| *name)
            .collect();
        write::display(out, format_args!(" (\"CHILDINFO\" ({}))", names.join(" ")));
    }
}

/// What LIST says of a name.
#[derive(Clone, Copy, Default)]
pub(crate) struct Attributes {
    pub(crate) exists: bool,
    pub(crate) selectable: bool,
    pub(crate) has_children: bool,
    pub(crate) subscribed: bool,
    pub(crate) special_use: Option<SpecialUse>,
}

impl Attributes {
    /// Writes them without the parentheses. `extended`: the client knows `\NonExistent`.
    pub(crate) fn write(self, out: &mut BytesMut, extended: bool) {
        let place = match (self.exists, self.selectable) {
            (false, _) if extended => Some("\\NonExistent"),
            (false, _) | (true, false) => Some("\\Noselect"),
            (true, true) => None,
        };
        let children = if self.has_children {
            "\\HasChildren"
        } else {
            "\\HasNoChildren"
        };
        let all = [
            place,
            Some(children),
            self.subscribed.then_some("\\Subscribed"),
            self.special_use.map(SpecialUse::attribute),
        ];
        for (index, attribute) in all.into_iter().flatten().enumerate() {
            if index > 0 {
                out.put_u8(b' ');
            }
            out.put_slice(attribute.as_bytes());
        }
    }
}

/// An untagged METADATA with values (RFC 5464 §4.4.1).
fn write_metadata(
    out: &mut BytesMut,
    mailbox: &str,
    utf8: bool,
    metadata: &[(Box<str>, Option<Bytes>)],
) {
    out.put_slice(b"* METADATA ");
    write::mailbox_text(out, mailbox, utf8);
    for (index, (entry, value)) in metadata.iter().enumerate() {
        out.put_slice(if index == 0 { b" (" } else { b" " });
        write::astring(out, entry);
        out.put_u8(b' ');
        match value {
            None => out.put_slice(b"NIL"),
            Some(value) => {
                let mark = if value.contains(&0) { "~" } else { "" };
                write::display(out, format_args!("{mark}{{{}}}\r\n", value.len()));
                out.put_slice(value);
            }
        }
    }
    out.put_slice(b")\r\n");
}

/// Whether a mailbox lies below a name.
fn has_children(entries: &[MailboxEntry], name: &str) -> bool {
    let below = format!("{name}/");
    let start = entries.partition_point(|entry| entry.name.as_str() < below.as_str());
    entries
        .get(start..)
        .unwrap_or_default()
        .iter()
        .take_while(|entry| entry.name.as_str().starts_with(&below))
        .any(|entry| entry.mailbox.is_some())
}
