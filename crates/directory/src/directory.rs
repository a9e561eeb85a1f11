//! The directory as the rest of the program holds it: reads through a cache, changes through the committer.

use std::sync::Arc;

use nightmail_commit::{Abort, Committer, Intent, Tx};
use nightmail_core::codec::RowError;
use nightmail_core::{AccountId, Address, Domain};
use nightmail_engine::{RowKey, Value};

use crate::cache::DirectoryCache;
use crate::error::DirectoryError;
use crate::record::{AccountRecord, AliasRecord, DomainRecord, PasswordHash, ScramSecrets};
use crate::row::{
    AddressRow, DomainRow, account_key, address_key, admins_key, decode_account, decode_id,
    decode_ids, domain_key, login_key,
};
use crate::tx::{self, AccountChange, DomainChange, NewAccount, NewDomain};

/// Settings of the directory that come from the server's configuration, and its bounds.
#[derive(Clone, Debug)]
pub struct DirectoryOptions {
    /// Completes login names that have no domain, and names where a bare `Postmaster` is looked for.
    pub default_domain: Option<Domain>,
    /// Gets mail for any `postmaster` that has no account or alias of its own; otherwise the first enabled administrator.
    pub postmaster: Option<Address>,
    /// Treats `abuse` as `postmaster` is treated (RFC 2142 §4).
    pub accept_abuse: bool,
    /// Begins the detail of a subaddress in domains that do not say otherwise; `None`: no subaddresses.
    pub subaddress_separator: Option<char>,
    /// Aliases leading to aliases, at most.
    pub alias_depth_max: usize,
    /// Recipients that one address may stand for.
    pub recipients_max: usize,
    /// Addresses looked at while one is resolved, and addresses that may wait for it.
    pub lookups_max: usize,
    /// Rows kept in memory.
    pub cached_rows_max: usize,
}

impl Default for DirectoryOptions {
    fn default() -> Self {
        Self {
            default_domain: None,
            postmaster: None,
            accept_abuse: true,
            subaddress_separator: Some('+'),
            alias_depth_max: 20,
            recipients_max: 1000,
            lookups_max: 4000,
            cached_rows_max: 16_384,
        }
    }
}

/// Domains, accounts and aliases. Cheap to clone; clones share the cache.
#[derive(Clone)]
pub struct Directory {
    committer: Committer,
    pub(crate) options: Arc<DirectoryOptions>,
    cache: Arc<DirectoryCache>,
}

impl Directory {
    /// The directory in the store behind `committer`.
    pub fn new(committer: Committer, options: DirectoryOptions) -> Self {
        let cache = DirectoryCache::new(committer.events(), options.cached_rows_max);
        Self {
            committer,
            options: Arc::new(options),
            cache: Arc::new(cache),
        }
    }

    /// The committer that changes go through.
    pub const fn committer(&self) -> &Committer {
        &self.committer
    }

    /// The settings in force.
    pub fn options(&self) -> &DirectoryOptions {
        &self.options
    }

    /// Makes changes of [`tx`] in one intent; on stable storage when it returns `Ok`.
    pub async fn change<T: Send + 'static>(
        &self,
        apply: impl FnMut(&mut Tx<'_>) -> Result<T, Abort<DirectoryError>> + Send + 'static,
    ) -> Result<T, DirectoryError> {
        Ok(self.committer.submit(Intent::synced(apply)).await?)
    }

    /// [`tx::add_domain`] alone.
    pub async fn add_domain(&self, new: NewDomain) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::add_domain(tx, &new)).await
    }

    /// [`tx::update_domain`] alone.
    pub async fn update_domain(
        &self,
        name: Domain,
        change: DomainChange,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::update_domain(tx, &name, &change))
            .await
    }

    /// [`tx::remove_domain`] alone.
    pub async fn remove_domain(&self, name: Domain) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::remove_domain(tx, &name)).await
    }

    /// [`tx::add_alternate`] alone.
    pub async fn add_alternate(
        &self,
        domain: Domain,
        alternate: Domain,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::add_alternate(tx, &domain, &alternate))
            .await
    }

    /// [`tx::remove_alternate`] alone.
    pub async fn remove_alternate(
        &self,
        domain: Domain,
        alternate: Domain,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::remove_alternate(tx, &domain, &alternate))
            .await
    }

    /// [`tx::add_account`] alone. Whoever wants mailboxes too joins the store's change in one intent.
    pub async fn add_account(&self, new: NewAccount) -> Result<AccountId, DirectoryError> {
        self.change(move |tx| tx::add_account(tx, &new)).await
    }

    /// [`tx::update_account`] alone.
    pub async fn update_account(
        &self,
        id: AccountId,
        change: AccountChange,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::update_account(tx, id, &change))
            .await
    }

    /// [`tx::add_scram`] alone.
    pub async fn add_scram(
        &self,
        id: AccountId,
        password: PasswordHash,
        secrets: ScramSecrets,
    ) -> Result<bool, DirectoryError> {
        self.change(move |tx| tx::add_scram(tx, id, &password, &secrets))
            .await
    }

    /// [`tx::rename_account`] alone.
    pub async fn rename_account(
        &self,
        id: AccountId,
        address: Address,
        keep_old: bool,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::rename_account(tx, id, &address, keep_old))
            .await
    }

    /// [`tx::add_alias`] alone.
    pub async fn add_alias(
        &self,
        address: Address,
        targets: Vec<Address>,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::add_alias(tx, &address, &targets))
            .await
    }

    /// [`tx::remove_alias`] alone.
    pub async fn remove_alias(&self, address: Address) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::remove_alias(tx, &address)).await
    }

    /// The domain that `name` names or is an alternate name of.
    pub async fn domain(&self, name: &Domain) -> Result<Option<DomainRecord>, DirectoryError> {
        match self.row(domain_key(name), DomainRow::decode).await? {
            Some(DomainRow::Domain(record)) => Ok(Some(record)),
            Some(DomainRow::AlternateOf(of)) => {
                match self.row(domain_key(&of), DomainRow::decode).await? {
                    Some(DomainRow::Domain(record)) => Ok(Some(record)),
                    _ => Ok(None),
                }
            }
            None => Ok(None),
        }
    }

    /// The account of this id.
    pub async fn account(&self, id: AccountId) -> Result<Option<AccountRecord>, DirectoryError> {
        self.row(account_key(id), decode_account).await
    }

    /// The account whose primary address this is, alternate names of its domain included.
    pub async fn account_at(
        &self,
        address: &Address,
    ) -> Result<Option<AccountRecord>, DirectoryError> {
        match self.address(address).await? {
            Some(AddressRow::Account(id)) => self.account(id).await,
            _ => Ok(None),
        }
    }

    /// The alias at this address, alternate names of its domain included.
    pub async fn alias(&self, address: &Address) -> Result<Option<AliasRecord>, DirectoryError> {
        match self.address(address).await? {
            Some(AddressRow::Alias(alias)) => Ok(Some(alias)),
            _ => Ok(None),
        }
    }

    async fn address(&self, address: &Address) -> Result<Option<AddressRow>, DirectoryError> {
        let Some(domain) = self.domain(address.domain()).await? else {
            return Ok(None);
        };
        self.row(
            address_key(&address.local_part().lookup(), &domain.name),
            AddressRow::decode,
        )
        .await
    }

    /// The account that logs in under `name`, in any case; without a domain, the default domain's is tried too.
    ///
    /// A disabled account is returned as such, and one of a disabled domain as disabled: it is for the caller to refuse
    /// the login, after the same work as for a wrong password.
    pub async fn find_login(&self, name: &str) -> Result<Option<AccountRecord>, DirectoryError> {
        let literal = name.to_lowercase();
        if let Some(id) = self.row(login_key(&literal), decode_id).await? {
            return self.login_account(id).await;
        }
        let Some(lookup) = self
            .mapped_login(name)
            .await?
            .filter(|lookup| *lookup != literal)
        else {
            return Ok(None);
        };
        match self.row(login_key(&lookup), decode_id).await? {
            Some(id) => self.login_account(id).await,
            None => Ok(None),
        }
    }

    /// The login name under its domain's own name, or with the default domain.
    async fn mapped_login(&self, name: &str) -> Result<Option<String>, DirectoryError> {
        let address = match (Address::parse(name), &self.options.default_domain) {
            (Ok(address), _) => address,
            (Err(_), Some(domain)) => match Address::parse(&format!("{name}@{domain}")) {
                Ok(address) => address,
                Err(_) => return Ok(None),
            },
            (Err(_), None) => return Ok(None),
        };
        let domain = self.domain(address.domain()).await?;
        Ok(domain.map(|domain| Address::new(address.local_part().clone(), domain.name).lookup()))
    }

    async fn login_account(&self, id: AccountId) -> Result<Option<AccountRecord>, DirectoryError> {
        let Some(mut record) = self.account(id).await? else {
            return Ok(None);
        };
        let domain = self.domain(record.address.domain()).await?;
        record.enabled &= domain.is_some_and(|domain| domain.enabled);
        Ok(Some(record))
    }

    /// The administrators' ids, the one who has been it longest first.
    pub async fn admins(&self) -> Result<Vec<AccountId>, DirectoryError> {
        Ok(self
            .row(admins_key(), decode_ids)
            .await?
            .unwrap_or_default())
    }

    pub(crate) async fn row<T>(
        &self,
        key: RowKey,
        decode: impl FnOnce(&[u8]) -> Result<T, RowError>,
    ) -> Result<Option<T>, DirectoryError> {
        let row = self.rows(&[key]).await?.pop().flatten();
        Ok(row.map(|row| decode(&row)).transpose()?)
    }

    /// The values of `keys`, in their order, from the cache or the engine.
    pub(crate) async fn rows(&self, keys: &[RowKey]) -> Result<Vec<Option<Value>>, DirectoryError> {
        let (epoch, known) = self.cache.look_up(keys);
        let missing: Vec<RowKey> = keys
            .iter()
            .zip(&known)
            .filter(|(_, known)| known.is_none())
            .map(|(key, _)| key.clone())
            .collect();
        if missing.is_empty() {
            return Ok(known.into_iter().flatten().collect());
        }
        let read = self.committer.engine().get_many(&missing).await?;
        let rows = missing
            .into_iter()
            .map(|key| key.key)
            .zip(read.iter().cloned());
        self.cache.insert(epoch, rows);
        let mut read = read.into_iter();
        Ok(known
            .into_iter()
            .map(|known| known.or_else(|| read.next()).flatten())
            .collect())
    }
}
