//! The keys with which URLs are authorized (RFC 4467): one for each mailbox, made when it is first needed.

use bytes::Bytes;
use nightmail_commit::{Abort, Intent};
use nightmail_core::MailboxId;
use nightmail_engine::RowKey;

use crate::error::StoreError;
use crate::row::{mailbox_key, url_key};
use crate::store::Store;

/// Octets of a key.
pub const URL_KEY_OCTETS: usize = 32;

impl Store {
    /// The key of a mailbox; none where no URL of it was ever authorized, or not since its key was taken away.
    pub async fn url_key(&self, mailbox: MailboxId) -> Result<Option<Bytes>, StoreError> {
        let found = self.engine().get_many(&[url_key(mailbox)]).await?;
        Ok(found.into_iter().flatten().next())
    }

    /// The key of a mailbox, which becomes `fresh` where it has none.
    pub async fn url_key_or(
        &self,
        mailbox: MailboxId,
        fresh: [u8; URL_KEY_OCTETS],
    ) -> Result<Bytes, StoreError> {
        if let Some(key) = self.url_key(mailbox).await? {
            return Ok(key);
        }
        let (state, row) = (mailbox_key(mailbox), url_key(mailbox));
        let reads: [RowKey; 2] = [state.clone(), row.clone()];
        let intent = Intent::synced(move |tx| {
            if tx.get(&state)?.is_none() {
                return Err(Abort::Refused(StoreError::NoSuchMailbox));
            }
            if let Some(key) = tx.get(&row)? {
                return Ok(key);
            }
            let key = Bytes::copy_from_slice(&fresh);
            tx.put(row.clone(), key.clone());
            Ok(key)
        });
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }

    /// Takes the keys of mailboxes away: every URL that was authorized with one is void.
    pub async fn drop_url_keys(&self, mailboxes: &[MailboxId]) -> Result<(), StoreError> {
        let rows: Vec<RowKey> = mailboxes.iter().map(|mailbox| url_key(*mailbox)).collect();
        let intent = Intent::synced(move |tx| {
            rows.iter().cloned().for_each(|row| tx.delete(row));
            Ok::<_, Abort<StoreError>>(())
        });
        Ok(self.committer().submit(intent).await?)
    }
}
