//! The changes of the directory, as functions over a transaction: several, of several crates, make one intent.
//!
//! Each reads the rows it depends on, refuses or writes, and publishes [`Topic::Directory`]. A refusal leaves
//! nothing behind.

mod account;
mod alias;
mod dkim;
mod domain;
mod reply;
mod sender;
mod warning;

pub use account::{
    AccountChange, NewAccount, account_at, add_account, add_login, add_scram, remove_account,
    remove_login, rename_account, update_account,
};
pub use alias::{add_alias, add_alias_targets, remove_alias, remove_alias_targets, set_alias};
pub use dkim::{add_dkim_key, dkim_keys, remove_dkim_key, set_dkim_key_state};
pub use domain::{
    DomainChange, NewDomain, add_alternate, add_domain, remove_alternate, remove_domain,
    update_domain,
};
pub use reply::note_reply;
pub use sender::{add_sender, remove_sender};
pub use warning::note_fullness;

use nightmail_commit::{Abort, Topic, Tx};
use nightmail_core::codec::RowError;
use nightmail_core::{AccountId, Address, Domain};
use nightmail_engine::RowKey;

use crate::error::DirectoryError;
use crate::record::{AccountRecord, DomainRecord};
use crate::row::{
    AddressRow, DomainRow, account_key, address_key, decode_account, domain_key, encode_account,
};

/// What a change ends with.
pub type Outcome<T> = Result<T, Abort<DirectoryError>>;

/// Targets of one alias or catch-all.
pub const TARGETS_MAX: usize = 1000;
/// Additional login names of one account.
pub const LOGINS_MAX: usize = 32;
/// Alternate names of one domain.
pub const ALTERNATES_MAX: usize = 256;
/// DKIM keys of one domain, retired ones included.
pub const DKIM_KEYS_MAX: usize = 16;
/// Addresses and domains that one account may be given to send as.
pub const SENDERS_MAX: usize = 256;

/// Addresses that one account may forward to.
pub const FORWARD_MAX: usize = 32;
/// Octets of the text of an automatic reply.
pub const VACATION_OCTETS_MAX: usize = 16 << 10;

fn read<T>(
    tx: &mut Tx<'_>,
    key: &RowKey,
    decode: impl FnOnce(&[u8]) -> Result<T, RowError>,
) -> Outcome<Option<T>> {
    let row = tx.get(key)?;
    let value = row.map(|row| decode(&row)).transpose();
    Ok(value.map_err(DirectoryError::from)?)
}

fn domain_row(tx: &mut Tx<'_>, name: &Domain) -> Outcome<Option<DomainRow>> {
    read(tx, &domain_key(name), DomainRow::decode)
}

/// The domain that `name` names or is an alternate of.
fn mapped_domain(tx: &mut Tx<'_>, name: &Domain) -> Outcome<DomainRecord> {
    match domain_row(tx, name)? {
        Some(DomainRow::Domain(record)) => Ok(record),
        Some(DomainRow::AlternateOf(of)) => own_domain(tx, &of),
        None => Err(DirectoryError::NoSuchDomain(name.clone()).into()),
    }
}

/// The domain of this very name.
fn own_domain(tx: &mut Tx<'_>, name: &Domain) -> Outcome<DomainRecord> {
    match domain_row(tx, name)? {
        Some(DomainRow::Domain(record)) => Ok(record),
        Some(DomainRow::AlternateOf(of)) => Err(DirectoryError::IsAlternate {
            alternate: name.clone(),
            of,
        }
        .into()),
        None => Err(DirectoryError::NoSuchDomain(name.clone()).into()),
    }
}

fn put_domain(tx: &mut Tx<'_>, record: DomainRecord) {
    let key = domain_key(&record.name);
    tx.put(key, DomainRow::Domain(record).encode());
    tx.publish(Topic::Directory);
}

/// The address under its domain's own name, and that domain.
fn mapped(tx: &mut Tx<'_>, address: &Address) -> Outcome<(Address, DomainRecord)> {
    let domain = mapped_domain(tx, address.domain())?;
    Ok((
        Address::new(address.local_part().clone(), domain.name.clone()),
        domain,
    ))
}

/// The key of an address whose domain is no alternate.
fn key_of(address: &Address) -> RowKey {
    address_key(&address.local_part().lookup(), address.domain())
}

fn address_row(tx: &mut Tx<'_>, address: &Address) -> Outcome<Option<AddressRow>> {
    read(tx, &key_of(address), AddressRow::decode)
}

fn require_free(tx: &mut Tx<'_>, address: &Address) -> Outcome<()> {
    match address_row(tx, address)? {
        None => Ok(()),
        Some(row) => {
            let refusal = DirectoryError::AddressTaken {
                address: address.clone(),
                by: row.kind(),
            };
            Err(refusal.into())
        }
    }
}

fn account(tx: &mut Tx<'_>, id: AccountId) -> Outcome<AccountRecord> {
    read(tx, &account_key(id), decode_account)?
        .ok_or_else(|| DirectoryError::NoSuchAccount(id.to_string()).into())
}

fn put_account(tx: &mut Tx<'_>, record: &AccountRecord) {
    tx.put(account_key(record.id), encode_account(record));
    tx.publish(Topic::Directory);
}

fn require_at_most(max: usize, count: usize, what: &'static str) -> Result<(), DirectoryError> {
    if count > max {
        Err(DirectoryError::TooMany { what, max })
    } else {
        Ok(())
    }
}

/// Drops repeated addresses, keeping the first of each.
fn without_repeats(addresses: impl IntoIterator<Item = Address>) -> Vec<Address> {
    let mut seen = std::collections::HashSet::new();
    addresses
        .into_iter()
        .filter(|address| seen.insert(address.lookup()))
        .collect()
}
