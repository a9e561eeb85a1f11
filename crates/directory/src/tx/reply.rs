//! Remembering whom an account has answered automatically.

use nightmail_commit::Tx;
use nightmail_core::{AccountId, Address};

use super::{Outcome, read};
use crate::reply::{decode_reply, encode_reply, reply_key};

/// Notes that account `id` answers `sender` now, unless it has done so less than `interval_days` ago. Whether it may.
///
/// Publishes nothing: nobody waits for it.
pub fn note_reply(
    tx: &mut Tx<'_>,
    id: AccountId,
    sender: &Address,
    interval_days: u32,
) -> Outcome<bool> {
    let key = reply_key(id, sender);
    let now = tx.now();
    let until = read(tx, &key, decode_reply)?;
    if until.is_some_and(|until| now < until) {
        return Ok(false);
    }
    tx.put(key, encode_reply(now, interval_days));
    Ok(true)
}
