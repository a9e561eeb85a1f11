//! The counters of many mailboxes at once.

use nightmail_core::MailboxId;

use crate::error::StoreError;
use crate::row::{MailboxState, mailbox_key};
use crate::store::Store;

impl Store {
    /// The counters of several mailboxes, in their order, in one look; none for one that is no more.
    pub async fn states(
        &self,
        mailboxes: &[MailboxId],
    ) -> Result<Vec<Option<MailboxState>>, StoreError> {
        let keys: Vec<_> = mailboxes.iter().map(|id| mailbox_key(*id)).collect();
        let rows = self.engine().get_many(&keys).await?;
        let decode = |row: Option<bytes::Bytes>| {
            row.map(|row| MailboxState::decode(&row))
                .transpose()
                .map_err(StoreError::from)
        };
        rows.into_iter().map(decode).collect()
    }
}
