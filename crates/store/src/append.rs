//! Messages that come together, or in the place of another (RFC 3502, RFC 8508).

use std::sync::Arc;

use nightmail_commit::{Intent, NewBlob};
use nightmail_core::{AccountId, MailboxId};

use crate::error::StoreError;
use crate::store::{Store, append_reads};
use crate::tx::{self, Appended, NewMessage, Quota};

/// A message that goes when others have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Replaced {
    /// Whose it is.
    pub account: AccountId,
    /// Where it is.
    pub mailbox: MailboxId,
    /// Its UID.
    pub uid: u32,
}

impl Store {
    /// Puts messages into mailboxes of one account, in their order, and takes another away: all of it or nothing, in
    /// one step. That the other is gone already is no error.
    pub async fn append_all(
        &self,
        account: AccountId,
        quota: Quota,
        messages: Vec<(NewBlob, NewMessage)>,
        replaced: Option<Replaced>,
    ) -> Result<Vec<Appended>, StoreError> {
        let (blobs, messages): (Vec<_>, Vec<_>) = messages.into_iter().unzip();
        let mut reads: Vec<_> = messages
            .iter()
            .flat_map(|message| append_reads(account, message.mailbox))
            .collect();
        let leaving = match replaced {
            Some(replaced) => {
                reads.extend(append_reads(replaced.account, replaced.mailbox));
                let snapshot = self.snapshot(replaced.mailbox).await?;
                Some((Arc::clone(&snapshot), replaced.uid))
            }
            None => None,
        };
        let intent = Intent::synced(move |tx| {
            // The place of the old message may be what the quota has left for the new one.
            if let Some((snapshot, uid)) = &leaving {
                tx::remove(tx, snapshot, &[*uid])?;
            }
            let numbered = messages.iter().enumerate();
            numbered
                .map(|(blob, message)| tx::append(tx, quota, blob, message))
                .collect()
        });
        let intent = blobs.into_iter().fold(intent, Intent::with_blob);
        Ok(self.committer().submit(intent.reading(reads)).await?)
    }
}
