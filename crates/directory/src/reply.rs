//! Whom accounts have answered automatically: `v` id, address → until when that is remembered.

use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{AccountId, Address, Timestamp};
use nightmail_engine::{KeyRange, RowKey, Space};

use crate::directory::Directory;
use crate::error::DirectoryError;
use crate::row::directory_key;

const VERSION: u8 = 1;
/// Begins the keys of these rows.
const REPLIES_PREFIX: &str = "v";
const DAY_MILLIS: i64 = 86_400_000;

pub(crate) fn reply_key(id: AccountId, sender: &Address) -> RowKey {
    let mut rest = id.to_be_bytes().to_vec();
    rest.extend_from_slice(sender.lookup().as_bytes());
    directory_key(REPLIES_PREFIX, &rest)
}

pub(crate) fn encode_reply(now: Timestamp, interval_days: u32) -> Vec<u8> {
    let until = now.plus_millis(i64::from(interval_days.max(1)).saturating_mul(DAY_MILLIS));
    RowWriter::new(VERSION).i64(until.millis()).finish()
}

pub(crate) fn decode_reply(row: &[u8]) -> Result<Timestamp, RowError> {
    let (mut reader, _) = RowReader::new(row, VERSION)?;
    Ok(Timestamp::from_millis(reader.i64()?))
}

impl Directory {
    /// Whether account `id` has answered `sender` so lately that it does not again.
    pub async fn has_replied(
        &self,
        id: AccountId,
        sender: &Address,
        now: Timestamp,
    ) -> Result<bool, DirectoryError> {
        let engine = self.committer().engine();
        let row = engine.get_many(&[reply_key(id, sender)]).await?.pop();
        let until = row.flatten().map(|row| decode_reply(&row)).transpose()?;
        Ok(until.is_some_and(|until| now < until))
    }

    /// Forgets answers given so long ago that they mean nothing any more; looks at `budget` rows from `after` on.
    /// Where to go on; `None` at the end.
    pub async fn forget_replies(
        &self,
        now: Timestamp,
        after: Option<RowKey>,
        budget: usize,
    ) -> Result<Option<RowKey>, DirectoryError> {
        let mut range = KeyRange::prefix(REPLIES_PREFIX.as_bytes());
        if let Some(after) = after {
            range = range.beyond(&after.key, nightmail_engine::Order::Ascending);
        }
        let page = self.scan(range, budget).await?;
        let last = page.last().map(|(key, _)| key.clone());
        let next = last.filter(|_| page.len() == budget);
        let is_old = |row: &[u8]| decode_reply(row).is_ok_and(|until| until <= now);
        let old: Vec<RowKey> = page
            .into_iter()
            .filter(|(_, row)| is_old(row))
            .map(|(key, _)| RowKey::new(Space::Directory, key))
            .collect();
        if !old.is_empty() {
            self.change(move |tx| {
                for key in &old {
                    let row = tx.get(key)?;
                    if row.is_some_and(|row| decode_reply(&row).is_ok_and(|until| until <= now)) {
                        tx.delete(key.clone());
                    }
                }
                Ok(())
            })
            .await?;
        }
        Ok(next.map(|key| RowKey::new(Space::Directory, key)))
    }
}
