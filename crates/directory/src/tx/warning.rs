//! Remembering how full an account has been told that it is.

use nightmail_commit::Tx;
use nightmail_core::AccountId;

use super::{Outcome, account, read};
use crate::warning::{decode_warning, encode_warning, warning_key};

/// Notes that account `id` has reached `percent` of its quota, 0 where it has reached no figure that matters. Whether that
/// is more than it has been told of, so that it is to be told now.
pub fn note_fullness(tx: &mut Tx<'_>, id: AccountId, percent: u8) -> Outcome<bool> {
    account(tx, id)?;
    let key = warning_key(id);
    let told = read(tx, &key, decode_warning)?.unwrap_or(0);
    match percent {
        0 if told == 0 => {}
        0 => tx.delete(key),
        percent if percent == told => {}
        percent => tx.put(key, encode_warning(percent)),
    }
    Ok(percent > told)
}
