//! Adding, changing and removing aliases.

use std::collections::HashSet;

use nightmail_commit::{Topic, Tx};
use nightmail_core::Address;

use super::{
    Outcome, TARGETS_MAX, address_row, key_of, mapped, put_domain, require_at_most, require_free,
    without_repeats,
};
use crate::error::DirectoryError;
use crate::record::{AliasRecord, DomainRecord};
use crate::row::AddressRow;

/// Adds an alias. Its targets may be local, remote, or not exist yet.
///
/// Fails when the address is taken, its domain is not in the directory, or `targets` is empty.
pub fn add_alias(tx: &mut Tx<'_>, address: &Address, targets: &[Address]) -> Outcome<()> {
    let (address, mut domain) = mapped(tx, address)?;
    require_free(tx, &address)?;
    domain.aliases += 1;
    put_domain(tx, domain);
    put_alias(
        tx,
        AliasRecord {
            address,
            targets: without_repeats(targets.iter().cloned()),
        },
    )
}

/// Exchanges an alias's targets.
pub fn set_alias(tx: &mut Tx<'_>, address: &Address, targets: &[Address]) -> Outcome<()> {
    let (alias, _) = existing(tx, address)?;
    put_alias(
        tx,
        AliasRecord {
            targets: without_repeats(targets.iter().cloned()),
            ..alias
        },
    )
}

/// Adds targets to an alias; those it has already are left as they are.
pub fn add_alias_targets(tx: &mut Tx<'_>, address: &Address, targets: &[Address]) -> Outcome<()> {
    let (alias, _) = existing(tx, address)?;
    let targets = without_repeats(alias.targets.into_iter().chain(targets.iter().cloned()));
    put_alias(
        tx,
        AliasRecord {
            address: alias.address,
            targets,
        },
    )
}

/// Takes targets away from an alias. Fails when none would be left.
pub fn remove_alias_targets(
    tx: &mut Tx<'_>,
    address: &Address,
    targets: &[Address],
) -> Outcome<()> {
    let (mut alias, _) = existing(tx, address)?;
    let gone: HashSet<String> = targets.iter().map(Address::lookup).collect();
    alias
        .targets
        .retain(|target| !gone.contains(&target.lookup()));
    put_alias(tx, alias)
}

/// Removes an alias.
pub fn remove_alias(tx: &mut Tx<'_>, address: &Address) -> Outcome<()> {
    let (alias, mut domain) = existing(tx, address)?;
    domain.aliases = domain.aliases.saturating_sub(1);
    put_domain(tx, domain);
    tx.delete(key_of(&alias.address));
    Ok(())
}

fn existing(tx: &mut Tx<'_>, address: &Address) -> Outcome<(AliasRecord, DomainRecord)> {
    let (address, domain) = mapped(tx, address)?;
    match address_row(tx, &address)? {
        Some(AddressRow::Alias(alias)) => Ok((alias, domain)),
        _ => Err(DirectoryError::NoSuchAlias(address).into()),
    }
}

fn put_alias(tx: &mut Tx<'_>, alias: AliasRecord) -> Outcome<()> {
    require_at_most(TARGETS_MAX, alias.targets.len(), "alias targets")?;
    if alias.targets.is_empty() {
        return Err(DirectoryError::NoTarget(alias.address).into());
    }
    tx.put(key_of(&alias.address), AddressRow::Alias(alias).encode());
    tx.publish(Topic::Directory);
    Ok(())
}
