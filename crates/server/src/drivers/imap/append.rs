//! APPEND (RFC 3501 §6.3.11): a message comes in chunks, and is durable before it is answered.

use bytes::Bytes;
use nightmail_core::codec::RowWriter;
use nightmail_core::{AccountId, MailboxId, Timestamp};
use nightmail_imap::io::{AppendBegin, AppendUid};
use nightmail_imap::{Answer, FlagList};
use nightmail_store::{NewMessage, Quota, Rights, StoreError};
use tracing::debug;

use super::super::incoming::IncomingMessage;
use super::ImapSession;
use super::failure::Failure;
use super::place::permitted;

/// A message on its way into a mailbox.
pub(super) struct Incoming {
    owner: AccountId,
    mailbox: MailboxId,
    quota: Quota,
    flags: FlagList,
    internal_date: Option<Timestamp>,
    message: IncomingMessage,
}

impl Incoming {
    /// Takes octets of the message. What fails is told at its end.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.message.push(octets);
    }
}

impl ImapSession {
    /// Refuses what could not be kept before the client sends it.
    pub(super) async fn begin_append(&mut self, begin: AppendBegin) -> Result<Answer, Failure> {
        let place = self
            .place_with(&begin.mailbox, Rights::INSERT)
            .await
            .map_err(Failure::at_target)?;
        let quota = self.quota(place.owner).await?;
        let usage = self.store().usage(place.owner).await?;
        if !quota.allows(&usage, begin.octets, 1) {
            return Err(StoreError::OverQuota.into());
        }
        self.incoming = Some(Box::new(Incoming {
            owner: place.owner,
            mailbox: place.mailbox,
            quota,
            flags: permitted(begin.flags, place.rights),
            internal_date: begin.internal_date,
            message: IncomingMessage::new(self.store().heap()),
        }));
        Ok(Answer::AppendReady)
    }

    pub(super) async fn finish_append(&mut self) -> Result<Answer, Failure> {
        let incoming = self.incoming.take().ok_or_else(Failure::out_of_order)?;
        let received = incoming.message.finish(self.heap_envelope()?);
        let received = received.map_err(StoreError::from)?;
        let keywords = incoming.flags.keywords.iter();
        let message = NewMessage {
            mailbox: incoming.mailbox,
            flags: incoming.flags.flags,
            keywords: keywords.map(|keyword| keyword.as_str().into()).collect(),
            internal_date: incoming.internal_date.unwrap_or_else(nightmail_commit::now),
            prefix: Bytes::new(),
            blob_size: received.blob.blob.size(),
            missing_line_ends: received.missing_line_ends,
        };
        let octets = message.blob_size;
        let appended = self
            .store()
            .append(incoming.owner, incoming.quota, received.blob, message)
            .await
            .map_err(Failure::of_target)?;
        debug!(session = %self.id, uid = %appended.uid, octets, "message appended");
        if self.is_selected(incoming.mailbox) {
            self.refresh_after_change().await?;
            self.tell_new_keywords(&incoming.flags).await?;
        }
        Ok(Answer::Appended(Some(AppendUid {
            uid_validity: appended.uid_validity,
            uid: appended.uid,
        })))
    }

    /// Who the message was accepted for, kept beside its bytes: version, no reverse-path, the user.
    fn heap_envelope(&self) -> Result<Bytes, Failure> {
        let mut row = RowWriter::new(1);
        row.str("");
        row.varint(1);
        row.str(&self.user()?.address.to_string());
        Ok(row.finish().into())
    }

    pub(super) fn is_selected(&self, mailbox: MailboxId) -> bool {
        let selected = self.selected.as_ref();
        selected.is_some_and(|selected| selected.mailbox == mailbox)
    }
}
