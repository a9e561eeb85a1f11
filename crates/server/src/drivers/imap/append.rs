//! APPEND (RFC 3501 §6.3.11), of several messages (RFC 3502) and from parts (RFC 4469), and REPLACE (RFC 8508): messages
//! come in chunks, and all of them are durable before the command is answered.

use std::mem;

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_core::codec::RowWriter;
use nightmail_core::{MailboxId, Timestamp, Uid};
use nightmail_imap::io::{AppendBegin, AppendUid, SectionData};
use nightmail_imap::{Answer, FlagList, Refusal, RefusalKind};
use nightmail_store::{NewMessage, Quota, Replaced, Rights, StoreError};
use tracing::debug;

use super::super::incoming::IncomingMessage;
use super::ImapSession;
use super::failure::Failure;
use super::place::{Place, permitted};

/// Messages on their way into a mailbox.
pub(super) struct Incoming {
    place: Place,
    quota: Quota,
    replaced: Option<Uid>,
    /// Those that have come whole.
    complete: Vec<(NewBlob, NewMessage)>,
    /// And their octets.
    octets: u64,
    /// Flags of any of them.
    flags: Vec<FlagList>,
    head: Head,
    message: IncomingMessage,
}

/// What is said of a message before it comes.
struct Head {
    flags: FlagList,
    internal_date: Option<Timestamp>,
}

impl Incoming {
    /// Takes octets of the message. What fails is told at its end.
    pub(super) fn push(&mut self, octets: &[u8]) {
        self.message.push(octets);
    }

    /// The message that was coming is whole; another may come.
    fn complete(
        &mut self,
        envelope: Bytes,
        next: IncomingMessage,
        next_head: Head,
    ) -> Result<(), StoreError> {
        let received = mem::replace(&mut self.message, next).finish(envelope)?;
        let head = mem::replace(&mut self.head, next_head);
        let keywords = head.flags.keywords.iter();
        let message = NewMessage {
            mailbox: self.place.mailbox,
            flags: head.flags.flags,
            keywords: keywords.map(|keyword| keyword.as_str().into()).collect(),
            internal_date: head.internal_date.unwrap_or_else(nightmail_commit::now),
            prefix: Bytes::new(),
            blob_size: received.blob.blob.size(),
            missing_line_ends: received.missing_line_ends,
        };
        self.octets = self.octets.saturating_add(message.blob_size);
        self.flags.push(head.flags);
        self.complete.push((received.blob, message));
        Ok(())
    }
}

impl ImapSession {
    /// Refuses what could not be kept before the client sends it.
    pub(super) async fn begin_append(&mut self, begin: AppendBegin) -> Result<Answer, Failure> {
        let octets = begin.octets.unwrap_or_default();
        let message = IncomingMessage::new(self.store().heap());
        let mut head = Head {
            flags: begin.flags,
            internal_date: begin.internal_date,
        };
        if let Some(mut incoming) = self.incoming.take() {
            head.flags = permitted(head.flags, incoming.place.rights);
            incoming.complete(self.heap_envelope()?, message, head)?;
            let count = incoming.complete.len() as u64 + 1;
            let octets = incoming.octets.saturating_add(octets);
            self.check_quota(&incoming.place, incoming.quota, octets, count)
                .await?;
            self.incoming = Some(incoming);
            return Ok(Answer::AppendReady);
        }
        let place = self.place_with(&begin.mailbox, Rights::INSERT).await;
        let place = place.map_err(Failure::at_target)?;
        if begin.replaces.is_some() {
            self.recheck_rights().await?;
            let rights = self.current()?.rights;
            if !rights.contains(Rights::DELETE | Rights::EXPUNGE) {
                return Err(Failure::no_permission());
            }
        }
        let quota = self.quota(place.owner).await?;
        if begin.replaces.is_none() {
            self.check_quota(&place, quota, octets, 1).await?;
        }
        head.flags = permitted(head.flags, place.rights);
        self.incoming = Some(Box::new(Incoming {
            place,
            quota,
            replaced: begin.replaces,
            complete: Vec::new(),
            octets: 0,
            flags: Vec::new(),
            head,
            message,
        }));
        Ok(Answer::AppendReady)
    }

    async fn check_quota(
        &self,
        place: &Place,
        quota: Quota,
        octets: u64,
        messages: u64,
    ) -> Result<(), Failure> {
        let usage = self.store().usage(place.owner).await?;
        match quota.allows(&usage, octets, messages) {
            true => Ok(()),
            false => Err(StoreError::OverQuota.into()),
        }
    }

    /// Puts what a URL names at the end of the message that is coming, chunk by chunk.
    pub(super) async fn append_url(
        &mut self,
        url: &str,
        octets_max: u64,
    ) -> Result<Answer, Failure> {
        let part = self.find_url(url).await?;
        let octets = match &part.data {
            SectionData::Absent => 0,
            SectionData::Bytes(octets) => octets.len() as u64,
            SectionData::Blob(range) => range.octets,
        };
        if octets > octets_max {
            return Err(Failure::Refused(Refusal::new(
                RefusalKind::TooBig,
                "The message is too big",
            )));
        }
        let store = self.store().clone();
        let incoming = self.incoming.as_mut();
        let incoming = incoming.ok_or_else(Failure::out_of_order)?;
        match (part.data, part.source) {
            (SectionData::Bytes(octets), _) => incoming.push(&octets),
            (SectionData::Blob(range), Some(source)) => {
                let mut left = range.octets;
                let mut reader = source
                    .reader(store, &range)
                    .ok_or_else(Failure::out_of_order)?;
                while let Some(chunk) = Box::pin(reader.next_chunk()).await? {
                    left = left.saturating_sub(chunk.len() as u64);
                    incoming.push(&chunk);
                }
                if left > 0 {
                    return Err(Failure::Refused(Refusal::new(
                        RefusalKind::Unavailable,
                        "A message is shorter than it should be",
                    )));
                }
            }
            _ => {}
        }
        Ok(Answer::AppendedPart(octets))
    }

    pub(super) async fn finish_append(&mut self) -> Result<Answer, Failure> {
        let mut incoming = self.incoming.take().ok_or_else(Failure::out_of_order)?;
        let none = Head {
            flags: FlagList::default(),
            internal_date: None,
        };
        let next = IncomingMessage::new(self.store().heap());
        incoming.complete(self.heap_envelope()?, next, none)?;
        let replaced = match incoming.replaced {
            Some(uid) => {
                let selected = self.current()?;
                Some(Replaced {
                    account: selected.owner,
                    mailbox: selected.mailbox,
                    uid: uid.get(),
                })
            }
            None => None,
        };
        let Incoming {
            place,
            quota,
            complete,
            octets,
            flags,
            ..
        } = *incoming;
        let count = complete.len();
        let appended = self
            .store()
            .append_all(place.owner, quota, complete, replaced)
            .await
            .map_err(Failure::of_target)?;
        self.has_grown(place.owner, quota);
        debug!(session = %self.id, messages = count, octets, "messages appended");
        if replaced.is_some() || self.is_selected(place.mailbox) {
            self.refresh_after_change().await?;
        }
        if self.is_selected(place.mailbox) {
            for flags in flags.iter().filter(|flags| !flags.keywords.is_empty()) {
                self.tell_new_keywords(flags).await?;
            }
        }
        let uid_validity = appended.first().map(|first| first.uid_validity);
        Ok(Answer::Appended(uid_validity.map(|uid_validity| {
            AppendUid {
                uid_validity,
                uids: appended.iter().map(|appended| appended.uid).collect(),
            }
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
