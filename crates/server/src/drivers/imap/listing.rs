//! The names that an account knows: its own mailboxes, those of others that it may look up, and its subscriptions.

use std::collections::BTreeMap;

use nightmail_core::{AccountId, MailboxId};
use nightmail_imap::MailboxName;
use nightmail_imap::io::{MailboxEntry, SpecialUse};
use nightmail_store::{Rights, SpecialUse as StoredUse};

use super::ImapSession;
use super::failure::Failure;

/// What is known of one name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    /// The mailbox, its owner and what the session may do with it; none where the name is only subscribed.
    pub(super) mailbox: Option<(MailboxId, AccountId, Rights)>,
    /// Whether it is one of the account's own.
    pub(super) own: bool,
    pub(super) subscribed: bool,
    pub(super) special_use: Option<SpecialUse>,
}

/// Names in order.
pub(super) type Names = BTreeMap<MailboxName, Known>;

impl Known {
    const NOTHING: Self = Self {
        mailbox: None,
        own: true,
        subscribed: false,
        special_use: None,
    };

    /// Which mailbox it is.
    pub(super) fn id(&self) -> Option<MailboxId> {
        self.mailbox.map(|(id, ..)| id)
    }

    /// Whether it is there and may be opened.
    pub(super) fn selectable(&self) -> bool {
        self.mailbox
            .is_some_and(|(_, _, rights)| rights.contains(Rights::READ))
    }
}

impl ImapSession {
    /// Every mailbox of the account and every subscription; those of others as well where they are `shared`.
    pub(super) async fn names(&self, shared: bool) -> Result<Names, Failure> {
        let account = self.account()?;
        let mut names = Names::new();
        for mailbox in self.store().list(account).await? {
            let known = Known {
                mailbox: Some((mailbox.entry.mailbox, account, Rights::ALL)),
                special_use: mailbox.entry.special_use.map(special_use),
                ..Known::NOTHING
            };
            if let Ok(name) = MailboxName::new(mailbox.name.as_str()) {
                names.insert(name, known);
            }
        }
        if shared {
            for mailbox in self.shared_mailboxes().await? {
                let shared = mailbox.shared;
                let known = Known {
                    mailbox: Some((shared.entry.mailbox, shared.owner, shared.rights)),
                    own: false,
                    ..Known::NOTHING
                };
                if let Ok(name) = MailboxName::new(&mailbox.name) {
                    // Where an account has named one of its own so, that is what the name means.
                    names.entry(name).or_insert(known);
                }
            }
        }
        for subscription in self.store().subscriptions(account).await? {
            if let Ok(name) = MailboxName::new(subscription.as_str()) {
                names.entry(name).or_insert(Known::NOTHING).subscribed = true;
            }
        }
        Ok(names)
    }
}

/// As the machine lists it.
pub(super) fn entry(name: MailboxName, known: &Known, rights: bool) -> MailboxEntry {
    let granted = known.mailbox.filter(|_| rights);
    MailboxEntry {
        name,
        mailbox: known.id(),
        selectable: known.selectable(),
        subscribed: known.subscribed,
        special_use: known.special_use,
        rights: granted.map(|(_, _, rights)| rights.with_obsolete().into_boxed_str()),
    }
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

/// What is kept of a use; none for those that no mailbox can have.
pub(super) const fn stored_use(wanted: SpecialUse) -> Option<StoredUse> {
    match wanted {
        SpecialUse::Archive => Some(StoredUse::Archive),
        SpecialUse::Drafts => Some(StoredUse::Drafts),
        SpecialUse::Junk => Some(StoredUse::Junk),
        SpecialUse::Sent => Some(StoredUse::Sent),
        SpecialUse::Trash => Some(StoredUse::Trash),
        SpecialUse::All | SpecialUse::Flagged => None,
    }
}
