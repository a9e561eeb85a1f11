//! Where a mailbox name leads: whose mailbox it is and what may be done with it (RFC 2342, RFC 4314 §4).
//!
//! **Invariant:** a mailbox that an account may not look up is refused as one that does not exist.

use nightmail_core::{AccountId, Flags, MailboxId};
use nightmail_imap::io::Permitted;
use nightmail_imap::{FlagList, MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxName as StoreName, Rights, StoreError};

use super::ImapSession;
use super::failure::{Failure, new_name, store_name};

/// A mailbox that exists and that the session may look up.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// Whose it is: who pays for it, whose keywords it uses.
    pub(super) owner: AccountId,
    /// Its name among its owner's.
    pub(super) name: StoreName,
    pub(super) mailbox: MailboxId,
    /// What the session may do with it; an owner may do everything.
    pub(super) rights: Rights,
}

impl Place {
    /// Fails unless all these rights are there.
    pub(super) fn require(&self, wanted: Rights) -> Result<(), Failure> {
        match self.rights.contains(wanted) {
            true => Ok(()),
            false => Err(Failure::no_permission()),
        }
    }
}

impl Failure {
    /// The account lacks a right.
    pub(super) fn no_permission() -> Self {
        Self::Refused(Refusal::new(
            RefusalKind::NoPermission,
            "You have no right to do this",
        ))
    }

    /// Of a command whose target mailbox CREATE could make, where the target was looked for.
    pub(super) fn at_target(self) -> Self {
        match self {
            Self::Store(StoreError::NoSuchMailbox, _) => {
                Self::Store(StoreError::NoSuchMailbox, RefusalKind::TryCreate)
            }
            failure => failure,
        }
    }
}

impl ImapSession {
    /// The mailbox of a name.
    pub(super) async fn place(&self, name: &MailboxName) -> Result<Place, Failure> {
        let owner = self.account()?;
        let name = store_name(name)?;
        let mailbox = self.store().lookup(owner, &name).await?.mailbox;
        Ok(Place {
            owner,
            name,
            mailbox,
            rights: Rights::ALL,
        })
    }

    /// The mailbox of a name, for what has these rights.
    pub(super) async fn place_with(
        &self,
        name: &MailboxName,
        wanted: Rights,
    ) -> Result<Place, Failure> {
        let place = self.place(name).await?;
        place.require(wanted)?;
        Ok(place)
    }

    /// Whose a mailbox of this name would be, and its name there, where the session may make it.
    pub(super) async fn new_place(
        &self,
        name: &MailboxName,
    ) -> Result<(AccountId, StoreName), Failure> {
        Ok((self.account()?, new_name(name)?))
    }
}

/// The flags that these rights allow to change.
pub(super) fn flags_of(rights: Rights) -> Flags {
    let others = !(Flags::SEEN | Flags::DELETED);
    let parts = [
        (Rights::SEEN, Flags::SEEN),
        (Rights::DELETE, Flags::DELETED),
        (Rights::WRITE, others),
    ];
    let granted = parts.iter().filter(|(right, _)| rights.contains(*right));
    granted.fold(Flags::EMPTY, |all, (_, flags)| all | *flags)
}

/// What of `list` these rights allow to set; the rest is passed over (RFC 4314 §4).
pub(super) fn permitted(mut list: FlagList, rights: Rights) -> FlagList {
    list.flags = list.flags & flags_of(rights);
    if !rights.contains(Rights::WRITE) {
        list.keywords.clear();
    }
    list
}

/// The same, as the machine tells it.
pub(super) const fn permitted_changes(rights: Rights) -> Permitted {
    Permitted {
        seen: rights.contains(Rights::SEEN),
        deleted: rights.contains(Rights::DELETE),
        others: rights.contains(Rights::WRITE),
    }
}
