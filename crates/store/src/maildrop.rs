//! What POP3 keeps of an account: when it was last opened, and unique ids that came from another server.
//!
//! A message's unique id follows from UIDVALIDITY and UID, and so stays for ever. Where mail was moved here from another
//! server, the ids that its clients know are kept beside it, so that they do not fetch everything again (RFC 1939 §7).

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use nightmail_commit::{Abort, Intent};
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, MailboxId, Timestamp};
use nightmail_engine::{KeyRange, Space};

use crate::error::StoreError;
use crate::row::{pop3_login_key, unique_id_key, unique_ids_prefix};
use crate::store::Store;

const VERSION: u8 = 1;

/// Unique ids written in one step.
const IDS_AT_ONCE: usize = 1000;

/// The unique ids that messages of a mailbox brought along, by UID.
pub type UniqueIds = HashMap<u32, String>;

impl Store {
    /// Takes note of a POP3 login at `now`, unless the last one is less than `delay` ago: then `false`.
    pub async fn note_pop3_login(
        &self,
        account: AccountId,
        now: Timestamp,
        delay: Duration,
    ) -> Result<bool, StoreError> {
        let key = pop3_login_key(account);
        let delay = i64::try_from(delay.as_millis()).unwrap_or(i64::MAX);
        let intent = Intent::soon({
            let key = key.clone();
            move |tx| {
                let last = match tx.get(&key)? {
                    Some(row) => decode_login(&row).map_err(StoreError::from)?,
                    None => Timestamp::from_millis(i64::MIN),
                };
                // A clock that was put back must not lock anybody out.
                let too_soon = last <= now && now.millis().saturating_sub(last.millis()) < delay;
                if !too_soon {
                    tx.put(key.clone(), encode_login(now));
                }
                Ok::<_, Abort<StoreError>>(!too_soon)
            }
        });
        Ok(self.committer().submit(intent.reading([key])).await?)
    }

    /// The unique ids that messages of a mailbox brought along.
    pub async fn unique_ids(&self, mailbox: MailboxId) -> Result<UniqueIds, StoreError> {
        let range = KeyRange::prefix(&unique_ids_prefix(mailbox));
        let rows = self.scan_all(Space::Attribute, range).await?;
        let mut ids = UniqueIds::with_capacity(rows.len());
        for (key, row) in &rows {
            if let Some(uid) = key.last_chunk::<4>() {
                ids.insert(u32::from_be_bytes(*uid), decode_id(row)?);
            }
        }
        Ok(ids)
    }

    /// Removes the unique ids of a mailbox that has been deleted.
    pub(crate) async fn forget_unique_ids(&self, mailbox: MailboxId) -> Result<(), StoreError> {
        let uids = self.unique_ids(mailbox).await?.into_keys();
        let keys: Vec<_> = uids.map(|uid| unique_id_key(mailbox, uid)).collect();
        match keys.is_empty() {
            true => Ok(()),
            false => self.delete_rows(keys).await,
        }
    }

    /// Gives messages of a mailbox the unique ids that they had elsewhere. An id that another message has is refused
    /// together with all others: nothing is written then.
    pub async fn import_unique_ids(
        &self,
        mailbox: MailboxId,
        ids: &[(u32, String)],
    ) -> Result<(), StoreError> {
        let mut all = self.unique_ids(mailbox).await?;
        all.extend(ids.iter().cloned());
        let distinct: HashSet<&String> = all.values().collect();
        if distinct.len() < all.len() {
            return Err(StoreError::AlreadyExists);
        }
        for step in ids.chunks(IDS_AT_ONCE) {
            let step = step.to_vec();
            let intent = Intent::synced(move |tx| {
                for (uid, id) in &step {
                    tx.put(unique_id_key(mailbox, *uid), encode_id(id));
                }
                Ok::<_, Abort<StoreError>>(())
            });
            self.committer().submit(intent).await?;
        }
        Ok(())
    }
}

fn encode_login(at: Timestamp) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.i64(at.millis());
    row.finish()
}

fn decode_login(row: &[u8]) -> Result<Timestamp, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    Ok(Timestamp::from_millis(reader.i64()?))
}

fn encode_id(id: &str) -> Vec<u8> {
    let mut row = RowWriter::new(VERSION);
    row.bytes(id.as_bytes());
    row.finish()
}

fn decode_id(row: &[u8]) -> Result<String, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    let id = std::str::from_utf8(reader.bytes()?).map_err(|_| RowError::Invalid("unique id"))?;
    Ok(id.to_owned())
}
