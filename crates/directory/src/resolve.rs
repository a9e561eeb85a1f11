//! What an address means: accounts here, addresses elsewhere, or nobody.
//!
//! An alternate domain is mapped to its own first. Then counts, in this order: the address itself, the address without
//! its detail (RFC 5233), the duty of every domain to have a postmaster (RFC 5321 §4.5.1), the domain's catch-all.
//! Aliases, and what accounts forward to, are followed breadth-first, every address once.

use nightmail_core::{AccountId, Address, Domain};

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::record::{AccountRecord, DomainRecord, Quota, Subaddress};
use crate::row::{AddressRow, DomainRow, address_key, domain_key};
use crate::services::AccountServices;
use crate::walk::{Meaning, Walk};

/// Accounts looked at for one that can be the postmaster.
const POSTMASTER_CANDIDATES_MAX: usize = 100;

/// One place where a message goes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Target {
    /// An account of this server.
    Account {
        /// The account.
        id: AccountId,
        /// The address by which it was reached: as given, or as an alias names it.
        address: Address,
        /// What followed the subaddress separator, in the case it was given.
        detail: Option<String>,
        /// Bounds of the account's mail.
        quota: Quota,
        /// What is done with its mail beyond keeping it, where that is anything.
        services: Option<Box<AccountServices>>,
    },
    /// An address elsewhere, to which an alias leads.
    Remote(Address),
    /// An address elsewhere, to which an account of this server forwards.
    Forwarded {
        /// The address.
        to: Address,
        /// The account.
        account: AccountId,
        /// The account's own address, in whose name the mail is sent on.
        sender: Address,
    },
    /// An account of this server that sends its mail on and keeps none; where to, other targets say.
    PassedOn {
        /// The account.
        id: AccountId,
        /// The address by which it was reached.
        address: Address,
        /// What followed the subaddress separator, in the case it was given.
        detail: Option<String>,
        /// Bounds of the account's mail.
        quota: Quota,
        /// What is done with its mail beyond keeping it.
        services: Option<Box<AccountServices>>,
    },
}

/// What an address means.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Resolution {
    /// At least one target; no account and no address twice.
    Recipients(Vec<Target>),
    /// The domain is ours and has nobody of that name.
    UnknownUser,
    /// Whoever it means gets no mail now. `temporary`: the sender is to try again.
    ///
    /// An alias is so, temporarily, as soon as one of its targets is, that nobody's copy is lost.
    Disabled {
        /// Whether that may pass.
        temporary: bool,
    },
    /// The domain is not ours.
    NotLocal,
    /// Aliases lead in a circle and nowhere else, too deep, or to too many recipients.
    LoopOrTooMany,
}

impl Target {
    /// The same account where it keeps none of its mail.
    pub(crate) fn passed_on(self) -> Self {
        match self {
            Self::Account {
                id,
                address,
                detail,
                quota,
                services,
            } => Self::PassedOn {
                id,
                address,
                detail,
                quota,
                services,
            },
            target => target,
        }
    }

    /// The same account where it keeps its mail after all.
    #[must_use]
    pub fn kept(self) -> Self {
        match self {
            Self::PassedOn {
                id,
                address,
                detail,
                quota,
                services,
            } => Self::Account {
                id,
                address,
                detail,
                quota,
                services,
            },
            target => target,
        }
    }

    /// The address that is meant.
    pub const fn address(&self) -> &Address {
        match self {
            Self::Account { address, .. }
            | Self::PassedOn { address, .. }
            | Self::Remote(address)
            | Self::Forwarded { to: address, .. } => address,
        }
    }
}

impl Directory {
    /// What `address` means. Comparison ignores case.
    pub async fn resolve(&self, address: &Address) -> Result<Resolution, DirectoryError> {
        let mut walk = Walk::from(address);
        while let Some(step) = walk.step() {
            if step.depth > self.options.alias_depth_max {
                return Ok(Resolution::LoopOrTooMany);
            }
            match self.meaning(&step.address).await? {
                Meaning::NotLocal if step.depth == 0 => return Ok(Resolution::NotLocal),
                meaning => walk.take(step, meaning),
            }
            let too_many = walk.targets() > self.options.recipients_max
                || walk.addresses() > self.options.lookups_max;
            if too_many {
                return Ok(Resolution::LoopOrTooMany);
            }
        }
        Ok(walk.finish())
    }

    /// Where mail for a `Postmaster` without a domain goes (RFC 5321 §4.5.1).
    pub async fn resolve_postmaster(&self) -> Result<Resolution, DirectoryError> {
        if let Some(postmaster) = &self.options.postmaster {
            let resolution = self.resolve(postmaster).await?;
            if matches!(resolution, Resolution::Recipients(_)) {
                return Ok(resolution);
            }
            if matches!(resolution, Resolution::NotLocal) {
                return Ok(Resolution::Recipients(vec![Target::Remote(
                    postmaster.clone(),
                )]));
            }
        }
        if let Some(domain) = &self.options.default_domain
            && let Ok(address) = Address::parse(&format!("postmaster@{domain}"))
        {
            let resolution = self.resolve(&address).await?;
            if matches!(resolution, Resolution::Recipients(_)) {
                return Ok(resolution);
            }
        }
        Ok(match self.first_admin().await? {
            Some(admin) => Resolution::Recipients(vec![Target::Account {
                id: admin.id,
                address: admin.address,
                detail: None,
                quota: admin.quota,
                services: None,
            }]),
            None => Resolution::UnknownUser,
        })
    }

    async fn meaning(&self, address: &Address) -> Result<Meaning, DirectoryError> {
        let local = address.local_part().lookup();
        let Some((domain, row)) = self.domain_and_address(address.domain(), &local).await? else {
            return Ok(Meaning::NotLocal);
        };
        if !domain.enabled {
            return Ok(Meaning::DomainDisabled);
        }
        if let Some(row) = row {
            return self.address_meaning(row, None).await;
        }
        if let Some((user, detail)) = self.split_detail(&domain, address)
            && let Some(row) = self.address_in(&domain.name, &user.to_lowercase()).await?
        {
            return self.address_meaning(row, Some(detail.to_owned())).await;
        }
        if (local == "postmaster" || (local == "abuse" && self.options.accept_abuse))
            && let Some(meaning) = self.postmaster_meaning(address).await?
        {
            return Ok(meaning);
        }
        match domain.catch_all.is_empty() {
            true => Ok(Meaning::Unknown),
            false => Ok(Meaning::Expand(domain.catch_all)),
        }
    }

    /// The domain that `name` means, and the row of `local` in it: one read, or two for an alternate name.
    pub(crate) async fn domain_and_address(
        &self,
        name: &Domain,
        local: &str,
    ) -> Result<Option<(DomainRecord, Option<AddressRow>)>, DirectoryError> {
        let mut name = name.clone();
        for _ in 0..2 {
            let rows = self
                .rows(&[domain_key(&name), address_key(local, &name)])
                .await?;
            let mut rows = rows.into_iter();
            let Some(domain) = rows.next().flatten() else {
                return Ok(None);
            };
            match DomainRow::decode(&domain)? {
                DomainRow::AlternateOf(of) => name = of,
                DomainRow::Domain(domain) => {
                    let row = rows.next().flatten();
                    let row = row.map(|row| AddressRow::decode(&row)).transpose()?;
                    return Ok(Some((domain, row)));
                }
            }
        }
        Ok(None)
    }

    pub(crate) async fn address_in(
        &self,
        domain: &Domain,
        local: &str,
    ) -> Result<Option<AddressRow>, DirectoryError> {
        let row = self
            .rows(&[address_key(local, domain)])
            .await?
            .pop()
            .flatten();
        Ok(row.map(|row| AddressRow::decode(&row)).transpose()?)
    }

    pub(crate) fn split_detail<'a>(
        &self,
        domain: &DomainRecord,
        address: &'a Address,
    ) -> Option<(&'a str, &'a str)> {
        let separator = match domain.subaddress {
            Subaddress::Default => self.options.subaddress_separator?,
            Subaddress::Off => return None,
            Subaddress::Separator(separator) => separator,
        };
        let (user, detail) = address.local_part().as_str().split_once(separator)?;
        (!user.is_empty()).then_some((user, detail))
    }

    async fn address_meaning(
        &self,
        row: AddressRow,
        detail: Option<String>,
    ) -> Result<Meaning, DirectoryError> {
        match row {
            AddressRow::Alias(alias) => Ok(Meaning::Expand(alias.targets)),
            AddressRow::Account(id) => Ok(match self.account(id).await? {
                Some(account) => Meaning::Account(Box::new(account), detail),
                None => Meaning::Unknown,
            }),
        }
    }

    async fn postmaster_meaning(
        &self,
        address: &Address,
    ) -> Result<Option<Meaning>, DirectoryError> {
        match &self.options.postmaster {
            Some(postmaster) if postmaster.lookup() != address.lookup() => {
                Ok(Some(Meaning::Expand(vec![postmaster.clone()])))
            }
            _ => Ok(self
                .first_admin()
                .await?
                .map(|admin| Meaning::Account(Box::new(admin), None))),
        }
    }

    async fn first_admin(&self) -> Result<Option<AccountRecord>, DirectoryError> {
        for id in self.admins().await? {
            if let Some(account) = self.account(id).await?.filter(|account| account.enabled) {
                return Ok(Some(account));
            }
        }
        // Somebody has to get it: without any administrator, whoever comes first.
        let first = self
            .list_accounts(None, None, POSTMASTER_CANDIDATES_MAX)
            .await?;
        Ok(first.items.into_iter().find(|account| account.enabled))
    }
}
