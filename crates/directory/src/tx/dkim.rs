//! Adding, changing and removing the keys that sign a domain's mail.

use nightmail_commit::{Topic, Tx};
use nightmail_core::Domain;

use super::{Outcome, domain_row, read, require_at_most};
use crate::error::DirectoryError;
use crate::signing::{
    DkimKeyRecord, DkimKeyState, decode_dkim_keys, encode_dkim_keys, signing_key,
};

/// The keys of a domain or alternate name, the oldest first.
pub fn dkim_keys(tx: &mut Tx<'_>, domain: &Domain) -> Outcome<Vec<DkimKeyRecord>> {
    Ok(read(tx, &signing_key(domain), decode_dkim_keys)?.unwrap_or_default())
}

/// Adds a key.
///
/// Fails when its domain is neither a domain of the directory nor an alternate name of one, when the selector is taken
/// or can be none, and beyond [`super::DKIM_KEYS_MAX`].
pub fn add_dkim_key(tx: &mut Tx<'_>, key: &DkimKeyRecord) -> Outcome<()> {
    if domain_row(tx, &key.domain)?.is_none() {
        return Err(DirectoryError::NoSuchDomain(key.domain.clone()).into());
    }
    let selector = parse_selector(&key.selector)?;
    let mut keys = dkim_keys(tx, &key.domain)?;
    if keys.iter().any(|known| known.selector == selector) {
        let refusal = DirectoryError::DkimKeyExists {
            domain: key.domain.clone(),
            selector,
        };
        return Err(refusal.into());
    }
    require_at_most(
        super::DKIM_KEYS_MAX,
        keys.len() + 1,
        "DKIM keys of a domain",
    )?;
    keys.push(DkimKeyRecord {
        selector,
        ..key.clone()
    });
    put_keys(tx, &key.domain, &keys);
    Ok(())
}

/// Puts a key into another state.
pub fn set_dkim_key_state(
    tx: &mut Tx<'_>,
    domain: &Domain,
    selector: &str,
    state: DkimKeyState,
) -> Outcome<()> {
    let mut keys = dkim_keys(tx, domain)?;
    let now = tx.now();
    let found = keys
        .iter_mut()
        .find(|key| key.selector.eq_ignore_ascii_case(selector));
    match found {
        Some(key) if key.state == state => return Ok(()),
        Some(key) => {
            key.state = state;
            key.changed = now;
        }
        None => return Err(no_such_key(domain, selector).into()),
    }
    put_keys(tx, domain, &keys);
    Ok(())
}

/// Removes a key, which is lost then.
pub fn remove_dkim_key(tx: &mut Tx<'_>, domain: &Domain, selector: &str) -> Outcome<()> {
    let mut keys = dkim_keys(tx, domain)?;
    let before = keys.len();
    keys.retain(|key| !key.selector.eq_ignore_ascii_case(selector));
    if keys.len() == before {
        return Err(no_such_key(domain, selector).into());
    }
    put_keys(tx, domain, &keys);
    Ok(())
}

fn put_keys(tx: &mut Tx<'_>, domain: &Domain, keys: &[DkimKeyRecord]) {
    match keys {
        [] => tx.delete(signing_key(domain)),
        keys => tx.put(signing_key(domain), encode_dkim_keys(keys)),
    }
    tx.publish(Topic::Directory);
}

/// A selector is one label of DNS or several (RFC 6376 §3.1). Found in any case, kept in lower-case.
fn parse_selector(text: &str) -> Result<String, DirectoryError> {
    match Domain::parse(text) {
        Ok(name) if name.as_literal().is_none() => Ok(name.to_string()),
        _ => Err(DirectoryError::InvalidSelector(text.to_owned())),
    }
}

fn no_such_key(domain: &Domain, selector: &str) -> DirectoryError {
    DirectoryError::NoSuchDkimKey {
        domain: domain.clone(),
        selector: selector.to_owned(),
    }
}
