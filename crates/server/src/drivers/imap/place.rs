//! Where a mailbox name leads: whose mailbox it is and what may be done with it (RFC 2342, RFC 4314 §4).
//!
//! **Invariant:** a mailbox that an account may not look up is refused as one that does not exist.

use nightmail_core::{AccountId, Address, Flags, LocalPart, MailboxId};
use nightmail_directory::{AccountRecord, DirectoryError};
use nightmail_imap::io::{Farewell, Permitted};
use nightmail_imap::{FlagList, MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxName as StoreName, Rights, SEPARATOR, Shared, StoreError};
use tracing::warn;

use super::ImapSession;
use super::failure::{Failure, new_name, store_name};

/// What stands before the address of another account, and before its mailboxes' names.
pub(super) const OTHERS: &str = "Other Users/";
/// What stands before the local-part of a public account of the session's domain.
pub(super) const PUBLIC: &str = "Public/";

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

/// A name below a namespace that is not the session's own, as written.
enum Elsewhere<'a> {
    /// Below [`OTHERS`]: an account's address, and what follows it.
    Other(&'a str, &'a str),
    /// Below [`PUBLIC`]: the local-part of a public account of the session's domain, and what follows it.
    Public(&'a str, &'a str),
    /// A namespace itself, or a part of an address.
    Nowhere,
}

impl<'a> Elsewhere<'a> {
    /// What a name is that lies in no personal namespace.
    fn of(name: &'a str) -> Option<Self> {
        let below = |namespace: &str| {
            let root = namespace.trim_end_matches(SEPARATOR);
            let rest = name.strip_prefix(root)?;
            rest.is_empty()
                .then_some("")
                .or_else(|| rest.strip_prefix(SEPARATOR))
        };
        if let Some(rest) = below(OTHERS) {
            // A local-part may hold a separator, a domain may not.
            let at = rest.find('@').unwrap_or(rest.len());
            let (local, domain) = rest.split_at(at);
            let (domain, name) = domain.split_once(SEPARATOR).unwrap_or((domain, ""));
            let address = rest.get(..local.len() + domain.len()).unwrap_or(rest);
            return Some(match domain.is_empty() {
                true => Self::Nowhere,
                false => Self::Other(address, name),
            });
        }
        let rest = below(PUBLIC)?;
        Some(match rest.split_once(SEPARATOR) {
            Some((local, name)) => Self::Public(local, name),
            None => Self::Nowhere,
        })
    }

    const fn name(&self) -> &'a str {
        match self {
            Self::Other(_, name) | Self::Public(_, name) => name,
            Self::Nowhere => "",
        }
    }
}

/// A mailbox of another account as LIST shows it.
pub(super) struct SharedMailbox {
    /// Its name with its namespace, as UTF-8.
    pub(super) name: String,
    pub(super) shared: Shared,
}

impl ImapSession {
    /// The mailbox of a name.
    pub(super) async fn place(&self, name: &MailboxName) -> Result<Place, Failure> {
        let own = self.own_place(name).await;
        match (own, Elsewhere::of(name.as_str())) {
            // Another's mailbox is looked for only where there is no own one of that name.
            (Err(StoreError::NoSuchMailbox), Some(elsewhere)) => self.shared_place(elsewhere).await,
            (own, _) => Ok(own?),
        }
    }

    async fn own_place(&self, name: &MailboxName) -> Result<Place, StoreError> {
        let owner = self.account().map_err(|_| StoreError::NoSuchAccount)?;
        let name = store_name(name)?;
        let mailbox = self.store().lookup(owner, &name).await?.mailbox;
        Ok(Place {
            owner,
            name,
            mailbox,
            rights: Rights::ALL,
        })
    }

    async fn shared_place(&self, elsewhere: Elsewhere<'_>) -> Result<Place, Failure> {
        let name = StoreName::parse(elsewhere.name()).map_err(|_| StoreError::NoSuchMailbox)?;
        let owner = self.owner_of(&elsewhere).await?;
        let owner = owner.ok_or(StoreError::NoSuchMailbox)?;
        let mailbox = self.store().lookup(owner.id, &name).await?.mailbox;
        let rights = self.rights_in(&owner, mailbox).await?;
        if !rights.contains(Rights::LOOKUP) {
            return Err(StoreError::NoSuchMailbox.into());
        }
        Ok(Place {
            owner: owner.id,
            name,
            mailbox,
            rights,
        })
    }

    /// What the session may do with a mailbox of another account.
    async fn rights_in(
        &self,
        owner: &AccountRecord,
        mailbox: MailboxId,
    ) -> Result<Rights, Failure> {
        let user = self.user()?;
        let in_domain = owner.address.domain() == user.address.domain();
        let store = self.store();
        Ok(store.rights_of(mailbox, user.account, in_domain).await?)
    }

    /// The account whose namespace a name lies in. A public account of the session's domain is found in the public
    /// namespace alone, so that no mailbox has two names.
    async fn owner_of(&self, elsewhere: &Elsewhere<'_>) -> Result<Option<AccountRecord>, Failure> {
        let user = self.user()?;
        let (address, public) = match elsewhere {
            Elsewhere::Other(address, _) => (Address::parse(address).ok(), false),
            Elsewhere::Public(local, _) => {
                let local = LocalPart::parse(local).ok();
                let domain = user.address.domain();
                (local.map(|local| Address::new(local, domain.clone())), true)
            }
            Elsewhere::Nowhere => (None, false),
        };
        let Some(address) = address else {
            return Ok(None);
        };
        let found = self.service.services.directory.account_at(&address).await;
        let found = found.map_err(|error| self.directory_failed(&error))?;
        let is_public = |record: &AccountRecord| {
            record.public && record.address.domain() == user.address.domain()
        };
        Ok(found.filter(|record| record.id != user.account && is_public(record) == public))
    }

    /// The name of an account's mailboxes as the session sees them, in its namespace: what stands before theirs.
    fn prefix_of(&self, owner: &AccountRecord) -> Result<String, Failure> {
        let domain = self.user()?.address.domain();
        Ok(match owner.public && owner.address.domain() == domain {
            true => format!("{PUBLIC}{}{SEPARATOR}", owner.address.local_part().as_str()),
            false => format!("{OTHERS}{}{SEPARATOR}", owner.address),
        })
    }

    /// Every mailbox of other accounts that the session may look up.
    pub(super) async fn shared_mailboxes(&self) -> Result<Vec<SharedMailbox>, Failure> {
        let user = self.user()?;
        let domain = user.address.domain().as_str();
        let all = self.store().shared_with(user.account, domain).await?;
        let mut seen = Vec::with_capacity(all.len());
        let mut owner: Option<(AccountId, Option<String>)> = None;
        for shared in all {
            if owner.as_ref().is_none_or(|(id, _)| *id != shared.owner) {
                let record = self.record_of(shared.owner).await?;
                let prefix = record.map(|record| self.prefix_of(&record)).transpose()?;
                owner = Some((shared.owner, prefix));
            }
            if let Some((_, Some(prefix))) = &owner {
                let name = format!("{prefix}{}", shared.name);
                seen.push(SharedMailbox { name, shared });
            }
        }
        Ok(seen)
    }

    /// What the directory knows of an account; none where it is gone.
    pub(super) async fn record_of(
        &self,
        account: AccountId,
    ) -> Result<Option<AccountRecord>, Failure> {
        let found = self.service.services.directory.account(account).await;
        found.map_err(|error| self.directory_failed(&error))
    }

    /// What the directory knows of an account that owns something; the session ends where it is gone.
    pub(super) async fn record(&self, account: AccountId) -> Result<AccountRecord, Failure> {
        let found = self.record_of(account).await?;
        found.ok_or(Failure::Gone(Farewell::Operator))
    }

    pub(super) fn directory_failed(&self, error: &DirectoryError) -> Failure {
        warn!(session = %self.id, %error, "the directory could not be read");
        Failure::Refused(Refusal::new(
            RefusalKind::Unavailable,
            "The server cannot do this now",
        ))
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
    ///
    /// Below another account's mailbox it needs `k` on the nearest that exists (RFC 4314 §4). Whatever is in the way
    /// there, the refusal is the same.
    pub(super) async fn new_place(
        &self,
        name: &MailboxName,
    ) -> Result<(AccountId, StoreName), Failure> {
        let Some(elsewhere) = Elsewhere::of(name.as_str()) else {
            return Ok((self.account()?, new_name(name)?));
        };
        let Ok(name) = StoreName::parse(elsewhere.name()) else {
            return Err(Failure::no_permission());
        };
        let Some(owner) = self.owner_of(&elsewhere).await? else {
            return Err(Failure::no_permission());
        };
        let mut above = name.parent();
        while let Some(parent) = above {
            match self.store().lookup(owner.id, &parent).await {
                Ok(entry) => {
                    let rights = self.rights_in(&owner, entry.mailbox).await?;
                    let may = rights.contains(Rights::LOOKUP | Rights::CREATE);
                    return match may {
                        true => Ok((owner.id, name)),
                        false => Err(Failure::no_permission()),
                    };
                }
                Err(StoreError::NoSuchMailbox) => above = parent.parent(),
                Err(error) => return Err(error.into()),
            }
        }
        Err(Failure::no_permission())
    }

    /// Looks again what the session may do with the selected mailbox, where it is another's. One that may no longer be
    /// read is left as one that is gone.
    pub(super) async fn recheck_rights(&mut self) -> Result<(), Failure> {
        let (owner, mailbox) = (self.current()?.owner, self.current()?.mailbox);
        let rights = self.rights_now(owner, mailbox).await?;
        self.current_mut()?.rights = rights;
        Ok(())
    }

    /// What the session may do with a mailbox that is selected; a failure where it may no longer be read.
    pub(super) async fn rights_now(
        &self,
        owner: AccountId,
        mailbox: MailboxId,
    ) -> Result<Rights, Failure> {
        if owner == self.account()? {
            return Ok(Rights::ALL);
        }
        let gone = || Failure::Gone(Farewell::MailboxGone);
        let record = self.record_of(owner).await?.ok_or_else(gone)?;
        let rights = self.rights_in(&record, mailbox).await?;
        match rights.contains(Rights::LOOKUP | Rights::READ) {
            true => Ok(rights),
            false => Err(gone()),
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(name: &str) -> Option<(&'static str, String, String)> {
        Some(match Elsewhere::of(name)? {
            Elsewhere::Other(address, name) => ("other", address.into(), name.into()),
            Elsewhere::Public(local, name) => ("public", local.into(), name.into()),
            Elsewhere::Nowhere => ("nowhere", String::new(), String::new()),
        })
    }

    #[test]
    fn names_lead_to_their_namespaces() {
        let is = |kind, who: &str, name: &str| Some((kind, who.to_owned(), name.to_owned()));
        assert_eq!(parsed("INBOX"), None);
        assert_eq!(parsed("Publications/x"), None);
        assert_eq!(
            parsed("Other Users/ann@a.test/Work/x"),
            is("other", "ann@a.test", "Work/x")
        );
        assert_eq!(
            parsed("Other Users/a/b@a.test/x"),
            is("other", "a/b@a.test", "x")
        );
        assert_eq!(
            parsed("Other Users/ann@a.test"),
            is("other", "ann@a.test", "")
        );
        assert_eq!(parsed("Public/info/INBOX"), is("public", "info", "INBOX"));
        for name in [
            "Other Users",
            "Other Users/",
            "Other Users/ann/x",
            "Public",
            "Public/info",
        ] {
            assert_eq!(parsed(name), is("nowhere", "", ""), "{name}");
        }
    }

    #[test]
    fn each_right_allows_its_flags() {
        assert_eq!(flags_of(Rights::SEEN), Flags::SEEN);
        assert_eq!(flags_of(Rights::DELETE), Flags::DELETED);
        let others = Flags::ANSWERED | Flags::FLAGGED | Flags::DRAFT;
        assert_eq!(flags_of(Rights::WRITE), others);
        assert_eq!(flags_of(Rights::READ), Flags::EMPTY);
    }
}
