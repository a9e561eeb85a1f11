//! With what a domain's mail is signed, and as whom an account may send.

use nightmail_core::{AccountId, Address, Domain};
use nightmail_engine::{KeyRange, Order};

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::row::AddressRow;
use crate::sender::{Sender, decode_senders, senders_key};
use crate::signing::{DkimKeyRecord, DkimKeyState, SIGNING_PREFIX, decode_dkim_keys, signing_key};
use crate::tx;

/// Domains whose keys are read from the engine at once.
const SCAN_ROWS: usize = 256;
/// Addresses on the way to an account: an alias, another one, the account's own.
const STEPS_MAX: usize = 3;

impl Directory {
    /// The keys of this very name, from the cache; or those of every name, from the engine.
    pub async fn dkim_keys(
        &self,
        domain: Option<&Domain>,
    ) -> Result<Vec<DkimKeyRecord>, DirectoryError> {
        let Some(domain) = domain else {
            return self.all_dkim_keys().await;
        };
        let row = self.row(signing_key(domain), decode_dkim_keys).await?;
        Ok(row.unwrap_or_default())
    }

    async fn all_dkim_keys(&self) -> Result<Vec<DkimKeyRecord>, DirectoryError> {
        let mut range = KeyRange::prefix(SIGNING_PREFIX.as_bytes());
        let mut keys = Vec::new();
        loop {
            let page = self.scan(range.clone(), SCAN_ROWS).await?;
            for (_, row) in &page {
                keys.extend(decode_dkim_keys(row)?);
            }
            match page.last() {
                Some((last, _)) if page.len() == SCAN_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => return Ok(keys),
            }
        }
    }

    /// [`tx::add_dkim_key`] alone.
    pub async fn add_dkim_key(&self, key: DkimKeyRecord) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::add_dkim_key(tx, &key)).await
    }

    /// [`tx::set_dkim_key_state`] alone.
    pub async fn set_dkim_key_state(
        &self,
        domain: Domain,
        selector: String,
        state: DkimKeyState,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::set_dkim_key_state(tx, &domain, &selector, state))
            .await
    }

    /// [`tx::remove_dkim_key`] alone.
    pub async fn remove_dkim_key(
        &self,
        domain: Domain,
        selector: String,
    ) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::remove_dkim_key(tx, &domain, &selector))
            .await
    }

    /// [`tx::add_sender`] alone.
    pub async fn add_sender(&self, id: AccountId, sender: Sender) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::add_sender(tx, id, &sender)).await
    }

    /// [`tx::remove_sender`] alone.
    pub async fn remove_sender(&self, id: AccountId, sender: Sender) -> Result<(), DirectoryError> {
        self.change(move |tx| tx::remove_sender(tx, id, &sender))
            .await
    }

    /// What an account was given to send as, beyond what is its own.
    pub async fn senders(&self, id: AccountId) -> Result<Vec<Sender>, DirectoryError> {
        let row = self.row(senders_key(id), decode_senders).await?;
        Ok(row.unwrap_or_default())
    }

    /// Whether account `id` may send as `address`: mail to that address comes to it and to nobody else, it logs in under
    /// it, or it was given it ([`tx::add_sender`]).
    ///
    /// The first are its own address, aliases whose only target it is (directly or over one more alias), and either
    /// with a detail (RFC 5233), each under any name of the domain. What a catch-all brings is nobody's.
    pub async fn may_send_as(
        &self,
        id: AccountId,
        address: &Address,
    ) -> Result<bool, DirectoryError> {
        if self.leads_to_alone(id, address).await? {
            return Ok(true);
        }
        let Some(account) = self.account(id).await? else {
            return Ok(false);
        };
        let own_name = match self.domain(address.domain()).await? {
            Some(domain) => domain.name,
            None => address.domain().clone(),
        };
        let mapped = Address::new(address.local_part().clone(), own_name);
        let lookups = [address.lookup(), mapped.lookup()];
        if account.logins.iter().any(|login| lookups.contains(login)) {
            return Ok(true);
        }
        let given = self.senders(id).await?;
        Ok(given.iter().any(|sender| match sender {
            Sender::Address(given) => lookups.contains(&given.lookup()),
            Sender::Domain(given) => [address.domain(), mapped.domain()].contains(&given),
        }))
    }

    async fn leads_to_alone(
        &self,
        id: AccountId,
        address: &Address,
    ) -> Result<bool, DirectoryError> {
        let mut address = address.clone();
        for _ in 0..STEPS_MAX {
            match self.row_with_detail(&address).await? {
                Some(AddressRow::Account(found)) => return Ok(found == id),
                Some(AddressRow::Alias(alias)) => match <[Address; 1]>::try_from(alias.targets) {
                    Ok([target]) => address = target,
                    Err(_) => return Ok(false),
                },
                None => return Ok(false),
            }
        }
        Ok(false)
    }

    /// What the address, or the address without its detail, is in an enabled domain.
    async fn row_with_detail(
        &self,
        address: &Address,
    ) -> Result<Option<AddressRow>, DirectoryError> {
        let local = address.local_part().lookup();
        let found = self.domain_and_address(address.domain(), &local).await?;
        let Some((domain, row)) = found.filter(|(domain, _)| domain.enabled) else {
            return Ok(None);
        };
        match (row, self.split_detail(&domain, address)) {
            (Some(row), _) => Ok(Some(row)),
            (None, Some((user, _))) => self.address_in(&domain.name, &user.to_lowercase()).await,
            (None, None) => Ok(None),
        }
    }
}
