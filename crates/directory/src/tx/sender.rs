//! Giving accounts addresses to send as that are not their own.

use nightmail_commit::{Topic, Tx};
use nightmail_core::{AccountId, Address};

use super::{Outcome, SENDERS_MAX, account, domain_row, read, require_at_most};
use crate::error::DirectoryError;
use crate::row::DomainRow;
use crate::sender::{Sender, decode_senders, encode_senders, senders_key};

/// Lets an account send as an address or as a whole domain. Given twice, it is given once.
///
/// Neither needs to be of this server, or to exist.
pub fn add_sender(tx: &mut Tx<'_>, id: AccountId, sender: &Sender) -> Outcome<()> {
    account(tx, id)?;
    let sender = mapped_sender(tx, sender)?;
    let mut senders = read(tx, &senders_key(id), decode_senders)?.unwrap_or_default();
    if senders.iter().any(|known| same(known, &sender)) {
        return Ok(());
    }
    require_at_most(
        SENDERS_MAX,
        senders.len() + 1,
        "further senders of an account",
    )?;
    senders.push(sender);
    put_senders(tx, id, &senders);
    Ok(())
}

/// Takes an address or a whole domain away that an account was given to send as.
pub fn remove_sender(tx: &mut Tx<'_>, id: AccountId, sender: &Sender) -> Outcome<()> {
    account(tx, id)?;
    let mapped = mapped_sender(tx, sender)?;
    let mut senders = read(tx, &senders_key(id), decode_senders)?.unwrap_or_default();
    let before = senders.len();
    // As given, too: its domain may have become an alternate name since.
    senders.retain(|known| !same(known, &mapped) && !same(known, sender));
    if senders.len() == before {
        return Err(DirectoryError::NoSuchSender(sender.to_string()).into());
    }
    put_senders(tx, id, &senders);
    Ok(())
}

fn put_senders(tx: &mut Tx<'_>, id: AccountId, senders: &[Sender]) {
    match senders {
        [] => tx.delete(senders_key(id)),
        senders => tx.put(senders_key(id), encode_senders(senders)),
    }
    tx.publish(Topic::Directory);
}

/// An address under its domain's own name. A domain stays as it is, so that an alternate name can be given alone.
fn mapped_sender(tx: &mut Tx<'_>, sender: &Sender) -> Outcome<Sender> {
    let Sender::Address(address) = sender else {
        return Ok(sender.clone());
    };
    Ok(match domain_row(tx, address.domain())? {
        Some(DomainRow::AlternateOf(of)) => {
            Sender::Address(Address::new(address.local_part().clone(), of))
        }
        _ => sender.clone(),
    })
}

fn same(one: &Sender, other: &Sender) -> bool {
    match (one, other) {
        (Sender::Address(one), Sender::Address(other)) => one.lookup() == other.lookup(),
        (one, other) => one == other,
    }
}
