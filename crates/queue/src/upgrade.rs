//! The index of stores from before there were destinations.

use nightmail_commit::{Abort, Intent, Tx};
use nightmail_core::QueueId;
use nightmail_engine::{Key, KeyRange, Order, RowKey, Space};

use crate::error::QueueError;
use crate::index::OLD_DUE_KEY_LEN;
use crate::queue::{PAGE_ROWS, Queue};
use crate::row::{message_key, parse_message_key};
use crate::tx::put_entries;

/// The version of the index that this program writes.
const VERSION: u8 = 2;

fn version_key() -> RowKey {
    RowKey::new(Space::Meta, b"queue-index".as_slice())
}

impl Queue {
    /// Brings the index of an older store up to date; to be called before work is handed out. Returns how many
    /// messages were indexed anew: none, where that has been done. Several nodes may do so at once.
    pub async fn prepare(&self) -> Result<u64, QueueError> {
        let version = self.committer().engine().get_many(&[version_key()]).await?;
        let is_current = |row: &bytes::Bytes| row.first() == Some(&VERSION);
        if version
            .first()
            .and_then(Option::as_ref)
            .is_some_and(is_current)
        {
            return Ok(0);
        }
        let indexed = self.index_all().await?;
        self.forget_old_rows().await?;
        let intent = Intent::synced(|tx: &mut Tx<'_>| {
            tx.put(version_key(), vec![VERSION]);
            Ok::<_, Abort<QueueError>>(())
        });
        self.committer().submit(intent).await?;
        Ok(indexed)
    }

    async fn index_all(&self) -> Result<u64, QueueError> {
        let mut indexed = 0;
        let mut range = KeyRange::all();
        loop {
            let rows = self.page(Space::Queue, &range).await?;
            let ids = rows.iter().map(|(key, _)| parse_message_key(key));
            let ids: Vec<QueueId> = ids.collect::<Result<_, _>>()?;
            indexed += ids.len() as u64;
            let reads: Vec<RowKey> = ids.iter().map(|id| message_key(*id)).collect();
            let intent = Intent::synced(move |tx: &mut Tx<'_>| {
                ids.iter().try_for_each(|id| put_entries(tx, *id))
            });
            self.committer().submit(intent.reading(reads)).await?;
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => return Ok(indexed),
            }
        }
    }

    async fn forget_old_rows(&self) -> Result<(), QueueError> {
        let mut range = KeyRange::all();
        loop {
            let rows = self.page(Space::Due, &range).await?;
            let keys = rows.iter().map(|(key, _)| key);
            let old: Vec<Key> = keys
                .filter(|key| key.len() == OLD_DUE_KEY_LEN)
                .cloned()
                .collect();
            if !old.is_empty() {
                let intent = Intent::synced(move |tx: &mut Tx<'_>| {
                    for key in &old {
                        tx.delete(RowKey::new(Space::Due, key.clone()));
                    }
                    Ok::<_, Abort<QueueError>>(())
                });
                self.committer().submit(intent).await?;
            }
            match rows.last() {
                Some((last, _)) if rows.len() == PAGE_ROWS => {
                    range = range.beyond(last, Order::Ascending);
                }
                _ => return Ok(()),
            }
        }
    }
}
