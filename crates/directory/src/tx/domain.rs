//! Adding, changing and removing domains and their alternate names.

use nightmail_commit::{Topic, Tx};
use nightmail_core::{Address, Domain};

use super::{
    ALTERNATES_MAX, Outcome, TARGETS_MAX, domain_row, own_domain, put_domain, require_at_most,
    without_repeats,
};
use crate::error::DirectoryError;
use crate::record::{DomainRecord, Quota, Subaddress};
use crate::row::{DomainRow, domain_key};
use crate::signing::signing_key;

/// A domain to add.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NewDomain {
    /// Its name.
    pub name: Domain,
    /// Where mail for unknown local-parts goes; empty: it is refused.
    pub catch_all: Vec<Address>,
    /// How its subaddresses are read.
    pub subaddress: Subaddress,
    /// Given to new accounts that bring no quota of their own.
    pub default_quota: Quota,
}

impl NewDomain {
    /// A domain with the defaults: no catch-all, the server's subaddressing, no quota.
    pub const fn named(name: Domain) -> Self {
        Self {
            name,
            catch_all: Vec::new(),
            subaddress: Subaddress::Default,
            default_quota: Quota::UNLIMITED,
        }
    }
}

/// What to change of a domain; `None` leaves a field as it is.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct DomainChange {
    /// Takes mail and logins, or not for now.
    pub enabled: Option<bool>,
    /// Where mail for unknown local-parts goes.
    pub catch_all: Option<Vec<Address>>,
    /// How its subaddresses are read.
    pub subaddress: Option<Subaddress>,
    /// Given to new accounts that bring no quota of their own; existing ones keep theirs.
    pub default_quota: Option<Quota>,
}

/// Adds a domain.
///
/// Fails when the name is a domain or an alternate name already, or an address literal.
pub fn add_domain(tx: &mut Tx<'_>, new: &NewDomain) -> Outcome<()> {
    require_new_name(tx, &new.name)?;
    require_at_most(TARGETS_MAX, new.catch_all.len(), "catch-all targets")?;
    let record = DomainRecord {
        name: new.name.clone(),
        alternates: Vec::new(),
        enabled: true,
        catch_all: without_repeats(new.catch_all.iter().cloned()),
        subaddress: new.subaddress,
        default_quota: new.default_quota,
        created: tx.now(),
        accounts: 0,
        aliases: 0,
    };
    put_domain(tx, record);
    Ok(())
}

fn require_new_name(tx: &mut Tx<'_>, name: &Domain) -> Outcome<()> {
    if name.as_literal().is_some() {
        return Err(DirectoryError::LiteralDomain(name.clone()).into());
    }
    match domain_row(tx, name)? {
        None => Ok(()),
        Some(DomainRow::Domain(_)) => Err(DirectoryError::DomainExists(name.clone()).into()),
        Some(DomainRow::AlternateOf(of)) => Err(DirectoryError::IsAlternate {
            alternate: name.clone(),
            of,
        }
        .into()),
    }
}

/// Changes a domain's settings.
pub fn update_domain(tx: &mut Tx<'_>, name: &Domain, change: &DomainChange) -> Outcome<()> {
    let mut record = own_domain(tx, name)?;
    if let Some(enabled) = change.enabled {
        record.enabled = enabled;
    }
    if let Some(catch_all) = &change.catch_all {
        require_at_most(TARGETS_MAX, catch_all.len(), "catch-all targets")?;
        record.catch_all = without_repeats(catch_all.iter().cloned());
    }
    if let Some(subaddress) = change.subaddress {
        record.subaddress = subaddress;
    }
    if let Some(quota) = change.default_quota {
        record.default_quota = quota;
    }
    put_domain(tx, record);
    Ok(())
}

/// Makes every address of `alternate` mean the same local-part in `domain`.
pub fn add_alternate(tx: &mut Tx<'_>, domain: &Domain, alternate: &Domain) -> Outcome<()> {
    let mut record = own_domain(tx, domain)?;
    require_new_name(tx, alternate)?;
    require_at_most(
        ALTERNATES_MAX,
        record.alternates.len() + 1,
        "alternate names",
    )?;
    record.alternates.push(alternate.clone());
    put_domain(tx, record);
    tx.put(
        domain_key(alternate),
        DomainRow::AlternateOf(domain.clone()).encode(),
    );
    Ok(())
}

/// Takes an alternate name away from `domain`, with the keys that sign its mail.
pub fn remove_alternate(tx: &mut Tx<'_>, domain: &Domain, alternate: &Domain) -> Outcome<()> {
    let mut record = own_domain(tx, domain)?;
    let before = record.alternates.len();
    record.alternates.retain(|known| known != alternate);
    if record.alternates.len() == before {
        let refusal = DirectoryError::NoSuchAlternate {
            domain: domain.clone(),
            alternate: alternate.clone(),
        };
        return Err(refusal.into());
    }
    put_domain(tx, record);
    tx.delete(domain_key(alternate));
    tx.delete(signing_key(alternate));
    Ok(())
}

/// Removes a domain, its alternate names and the keys that sign their mail. Fails while it has accounts or aliases.
pub fn remove_domain(tx: &mut Tx<'_>, name: &Domain) -> Outcome<()> {
    let record = own_domain(tx, name)?;
    let DomainRecord {
        name: domain,
        alternates,
        accounts,
        aliases,
        ..
    } = record;
    if accounts > 0 || aliases > 0 {
        return Err(DirectoryError::DomainInUse {
            domain,
            accounts,
            aliases,
        }
        .into());
    }
    for alternate in &alternates {
        tx.delete(domain_key(alternate));
        tx.delete(signing_key(alternate));
    }
    tx.delete(domain_key(name));
    tx.delete(signing_key(name));
    tx.publish(Topic::Directory);
    Ok(())
}
