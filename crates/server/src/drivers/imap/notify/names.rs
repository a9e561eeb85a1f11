//! What became of names between two looks (RFC 5465 §5.4, §5.5).

use std::collections::{BTreeMap, HashMap};

use nightmail_core::MailboxId;
use nightmail_imap::MailboxName;
use nightmail_imap::command::notify::{Events, NameNotice, Notice};

use super::super::listing::{Known, Names};
use super::{Watching, name_notice};

/// Why a name is told.
#[derive(Default)]
struct Affected {
    /// A mailbox was made, deleted or renamed.
    name: bool,
    subscription: bool,
    old_name: Option<MailboxName>,
}

impl Watching {
    /// Names of which something was asked that the account may not know: those it may list and not open.
    pub(super) fn without_access(&self) -> Vec<Notice> {
        let closed = self.names.iter().filter(|(name, known)| {
            let events = self.events_of(name, known);
            known.mailbox.is_some() && !known.selectable() && (events.messages || events.metadata)
        });
        closed
            .map(|(name, _)| {
                Notice::Name(NameNotice {
                    no_access: true,
                    ..NameNotice::of(name.clone())
                })
            })
            .collect()
    }

    /// Takes `now` for the names, and tells what the client wants to know of the difference.
    pub(super) fn compare_names(&mut self, now: Names, notices: &mut Vec<Notice>) {
        let affected = affected(&self.names, &now);
        for (name, why) in affected {
            let events = self.events_at(&name, &why, &now);
            if !(why.name && events.names || why.subscription && events.subscriptions) {
                continue;
            }
            let old_name = why.old_name.filter(|_| events.names);
            notices.push(Notice::Name(NameNotice {
                old_name,
                ..name_notice(&now, &name)
            }));
        }
        self.adopt(now);
    }

    /// The events wanted of a name as it is, as it was, and by the name it had.
    fn events_at(&self, name: &MailboxName, why: &Affected, now: &Names) -> Events {
        let mut events = Events::default();
        // A level above others, which has no mailbox, lies where its mailboxes lie.
        let level = Known {
            mailbox: None,
            own: !name.as_str().starts_with("Other Users") && !name.as_str().starts_with("Public"),
            subscribed: false,
            special_use: None,
        };
        let places = [Some(name), why.old_name.as_ref()];
        for place in places.into_iter().flatten() {
            for names in [now, &self.names] {
                let known = names.get(place).unwrap_or(&level);
                events = events.or(self.events_of(place, known));
            }
        }
        events
    }

    /// Takes over how names are now that are meant by `wanted`, without telling.
    pub(super) fn take_over(&mut self, now: &Names, wanted: impl Fn(&MailboxName) -> bool) {
        let mut names = std::mem::take(&mut self.names);
        names.retain(|name, _| !wanted(name) || now.contains_key(name));
        for (name, known) in now.iter().filter(|(name, _)| wanted(name)) {
            names.insert(name.clone(), *known);
        }
        self.adopt(names);
    }
}

/// The names that differ, and why.
fn affected(before: &Names, now: &Names) -> BTreeMap<MailboxName, Affected> {
    let was: HashMap<MailboxId, &MailboxName> = by_id(before);
    let is: HashMap<MailboxId, &MailboxName> = by_id(now);
    let mut affected: BTreeMap<MailboxName, Affected> = BTreeMap::new();
    for (mailbox, name) in &is {
        match was.get(mailbox) {
            Some(old) if old == name => {}
            Some(old) if follows(old, name, before, now) => {}
            Some(old) => {
                let entry = affected.entry((*name).clone()).or_default();
                entry.name = true;
                entry.old_name = Some((*old).clone());
            }
            None => made_or_gone(&mut affected, name),
        }
    }
    for (mailbox, name) in &was {
        if !is.contains_key(mailbox) {
            made_or_gone(&mut affected, name);
        }
    }
    let subscribed = |names: &Names, name| names.get(name).is_some_and(|known| known.subscribed);
    for name in before.keys().chain(now.keys()) {
        if subscribed(before, name) != subscribed(now, name) {
            affected.entry(name.clone()).or_default().subscription = true;
        }
    }
    affected
}

fn by_id(names: &Names) -> HashMap<MailboxId, &MailboxName> {
    let known = names.iter();
    known
        .filter_map(|(name, known)| known.id().map(|id| (id, name)))
        .collect()
}

/// A mailbox that is made or deleted concerns the level above it as well.
fn made_or_gone(affected: &mut BTreeMap<MailboxName, Affected>, name: &MailboxName) {
    affected.entry(name.clone()).or_default().name = true;
    let above = name.ancestors().last().map(MailboxName::new);
    if let Some(Ok(above)) = above {
        affected.entry(above).or_default().name = true;
    }
}

/// Whether a mailbox has another name only because one above it was renamed.
fn follows(old: &MailboxName, new: &MailboxName, before: &Names, now: &Names) -> bool {
    let (mut old, mut new) = (old.as_str(), new.as_str());
    while let (Some((old_above, old_leaf)), Some((new_above, new_leaf))) =
        (old.rsplit_once('/'), new.rsplit_once('/'))
    {
        if old_leaf != new_leaf {
            return false;
        }
        let id = |names: &Names, name: &str| {
            let name = MailboxName::new(name).ok()?;
            names.get(&name)?.id()
        };
        if id(before, old_above).is_some_and(|above| id(now, new_above) == Some(above)) {
            return true;
        }
        (old, new) = (old_above, new_above);
    }
    false
}
