//! The end of a message: judged, signed, accepted for all its recipients or refused for them all.

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nightmail_core::codec::RowWriter;
use nightmail_core::{ForwardPath, Timestamp};
use nightmail_heap::HeapError;
use nightmail_journal::EventKind;
use nightmail_mime::{KnownField, ListItem, Structure};
use nightmail_pace::{MailSource, Precedence};
use nightmail_queue::{Notify, Ret, Source};
use nightmail_smtp::command::{ByMode, MailParams, RcptParams, Return};
use nightmail_smtp::server::{Answer, EndOfMessage, Role};
use nightmail_smtp::{BodyType, Reply, replies};
use nightmail_switch::{
    DeliverBy, Demands, Envelope, EnvelopeRecipient, QuotaPolicy, Receipt, Routed,
};
use tracing::{info, warn};

use super::SmtpSession;
use super::outcome::{failure_reply, lmtp_replies, log_receipt, smtp_answer};
use super::transaction::Taken;
use crate::drivers::incoming::Received;
use crate::gate::{Fate, Judged, Seen, held_until};
use crate::metrics;
use crate::net::Transport;
use crate::services::Services;
use crate::trace_fields::{Origin, received, submission_fields};

impl SmtpSession {
    pub(super) async fn end_of_message(
        &mut self,
        message: EndOfMessage,
        transport: &Transport,
    ) -> Answer {
        let started = Instant::now();
        let protocol = self.service.protocol.as_str();
        let lmtp = message.facts.role == Role::Lmtp;
        let recipients = message.envelope.recipients.len();
        let mut noted_id = None;
        let accepted = Box::pin(self.accept(&message, &mut noted_id, transport)).await;
        if let Err(reply) = &accepted {
            self.note_message_refused(&message, noted_id.as_deref(), reply);
        }
        let answer = match accepted {
            Ok(Some(receipt)) if lmtp => Answer::PerRecipient(lmtp_replies(&receipt)),
            Ok(Some(receipt)) => smtp_answer(&receipt, transport),
            // The client is not to learn that its message went nowhere.
            Ok(None) => Answer::Accepted {
                id: transport.session().to_string().into(),
            },
            Err(reply) if lmtp => Answer::PerRecipient(vec![reply; recipients]),
            Err(reply) => Answer::Reject(reply),
        };
        let name = match &answer {
            Answer::Reject(_) => metrics::MESSAGES_REJECTED,
            _ => metrics::MESSAGES_ACCEPTED,
        };
        metrics::counter(name, protocol).increment(1);
        ::metrics::histogram!(metrics::ACCEPT_SECONDS, "protocol" => protocol)
            .record(started.elapsed());
        answer
    }

    /// Accepts the message for all its recipients, or says with which reply it is refused. `None`: it was thrown away,
    /// as a rule wants it. `noted_id` is set to what the log of events knows the message by, as soon as it is there.
    async fn accept(
        &mut self,
        message: &EndOfMessage,
        noted_id: &mut Option<String>,
        transport: &Transport,
    ) -> Result<Option<Receipt>, Reply> {
        let session = transport.session();
        let services = Arc::clone(&self.service.services);
        let body = self.body.take().ok_or(replies::LOCAL_ERROR)?;
        let failed = |error: HeapError| {
            warn!(%session, %error, "message content could not be kept");
            match error {
                HeapError::Full(_) => replies::OUT_OF_SPACE,
                _ => replies::LOCAL_ERROR,
            }
        };
        let mut incoming = body.finish(heap_envelope(message)).map_err(failed)?;
        *noted_id = self.noted_id(&incoming);
        let hops = incoming.structure.received_count();
        if hops as usize > services.config.limits.received_fields_max {
            info!(%session, hops, "message refused: it is going in circles");
            return Err(replies::LOOP);
        }
        let judged = self.judge(message, &mut incoming, transport).await?;
        let id = noted_id.as_deref();
        let recipients = self.recipients(message, id, judged.fate.clone(), transport);
        let recipients = recipients.await?;
        if recipients.is_empty() {
            info!(%session, from = %message.envelope.mail.reverse_path, "message thrown away, as a rule wants it");
            return Ok(None);
        }
        let now = nightmail_commit::now();
        let envelope = self.envelope(message, &incoming, judged, recipients, transport, now);
        let envelope = envelope.await;
        let notes = self.notes(&envelope, noted_id.as_deref(), &incoming, transport);
        let receipt = self.hand_over(&services, envelope, incoming, transport);
        let (receipt, id, size) = receipt.await?;
        if let Some(notes) = notes {
            notes.note(&services.journal, &receipt);
        }
        let from = message.envelope.mail.reverse_path.to_string();
        log_receipt(session, &id, &from, size, &receipt, message);
        Ok(Some(receipt))
    }

    /// Gives the message to the switch; also its id and its size in octets.
    async fn hand_over(
        &self,
        services: &Services,
        envelope: Envelope,
        incoming: Received,
        transport: &Transport,
    ) -> Result<(Receipt, String, u64), Reply> {
        let session = transport.session();
        let blob = incoming.blob;
        let (id, size) = (blob.blob.id().to_string(), blob.blob.size());
        let receipt = services.switch.accept(envelope, blob).await;
        let receipt = receipt.map_err(|error| {
            warn!(%session, %error, "message could not be accepted");
            failure_reply(&error)
        })?;
        let protocol = self.service.protocol.as_str();
        metrics::counter(metrics::OCTETS_ACCEPTED, protocol).increment(size);
        metrics::plain_counter(metrics::DELIVERIES_LOCAL).increment(receipt.appended.len() as u64);
        Ok((receipt, id, size))
    }

    /// What the gate says of the whole message.
    async fn judge(
        &mut self,
        message: &EndOfMessage,
        incoming: &mut Received,
        transport: &Transport,
    ) -> Result<Judged, Reply> {
        let gate = &self.service.services.gate;
        let submitter = self.submitter(transport);
        let mut judged = Judged::default();
        if let Some(visit) = &mut self.visit {
            let seen = Seen::of(&message.facts);
            // What a submission shows is for its signature.
            let inspected = match submitter {
                None => incoming.inspected.take(),
                Some(_) => None,
            };
            let sender = &message.envelope.mail.reverse_path;
            judged = Box::pin(gate.message(visit, &seen, sender, inspected)).await?;
        }
        if let Some(from) = submitter {
            let authors = authors(&incoming.structure);
            let inspected = incoming.inspected.as_ref();
            let submission = &gate.submission;
            submission.authors(&from, &authors, inspected).await?;
        }
        Ok(judged)
    }

    /// Whom the message goes to, when all has been decided; nobody where it is thrown away.
    async fn recipients(
        &mut self,
        message: &EndOfMessage,
        noted_id: Option<&str>,
        fate: Fate,
        transport: &Transport,
    ) -> Result<Vec<EnvelopeRecipient>, Reply> {
        let taken = std::mem::take(&mut self.taken);
        match fate {
            Fate::Discard => {
                let text = "thrown away, as a rule wants it";
                self.note_ruled(message, noted_id, EventKind::Dropped, text);
                Ok(Vec::new())
            }
            Fate::Route(to) => {
                let text = format!("to {to}, as a rule wants it");
                self.note_ruled(message, noted_id, EventKind::Rerouted, &text);
                let path = ForwardPath::Address(to);
                let size = Some(message.octets);
                let routed = self.route(&path, true, size, transport).await?;
                Ok(vec![EnvelopeRecipient {
                    routed,
                    notify: Notify::Never,
                    orcpt: None,
                }])
            }
            Fate::Ordinary => {
                let pairs = message.envelope.recipients.iter().zip(taken);
                Ok(pairs
                    .filter_map(|(rcpt, taken)| match taken {
                        Taken::Routed(routed) => Some(envelope_recipient(&rcpt.params, routed)),
                        Taken::Discarded => {
                            self.note_discarded(message, noted_id, &rcpt.forward_path);
                            None
                        }
                    })
                    .collect())
            }
        }
    }

    async fn envelope(
        &self,
        message: &EndOfMessage,
        incoming: &Received,
        judged: Judged,
        recipients: Vec<EnvelopeRecipient>,
        transport: &Transport,
        now: Timestamp,
    ) -> Envelope {
        let services = &self.service.services;
        let params = &message.envelope.mail.params;
        let leaves = recipients
            .iter()
            .any(|recipient| recipient.routed.is_remote());
        let sealed = match leaves {
            true => services.gate.signers.seal(&judged).await,
            false => Vec::new(),
        };
        let mut trace = judged.fields;
        trace.extend(self.trace(message, incoming, transport, now).await);
        let Precedence { precedence, band } = self.precedence(message, incoming);
        Envelope {
            reverse_path: message.envelope.mail.reverse_path.clone(),
            recipients,
            source: self.account.map_or(Source::Relay, Source::Submission),
            body: match params.body {
                BodyType::SevenBit => nightmail_queue::BodyType::SevenBit,
                BodyType::EightBitMime => nightmail_queue::BodyType::EightBitMime,
                BodyType::BinaryMime => nightmail_queue::BodyType::BinaryMime,
            },
            smtputf8: params.smtputf8,
            ret: params.ret.map(|ret| match ret {
                Return::Full => Ret::Full,
                Return::Headers => Ret::Headers,
            }),
            envid: params.envid.as_ref().map(|envid| envid.as_str().to_owned()),
            trace: trace.into(),
            sealed: sealed.into(),
            missing_line_ends: incoming.missing_line_ends,
            policy: match message.facts.role {
                Role::Lmtp => QuotaPolicy::PerRecipient,
                Role::Mta | Role::Msa | Role::Odmr => QuotaPolicy::Together,
            },
            demands: demands(params, &incoming.structure, now),
            precedence,
            band,
        }
    }

    /// How urgent the message is where it goes on to other sites.
    fn precedence(&self, message: &EndOfMessage, incoming: &Received) -> Precedence {
        let source = match self.account {
            Some(_) => MailSource::Submission,
            None => MailSource::Relay,
        };
        let in_bulk = is_bulk(&incoming.structure);
        let mail = &message.envelope.mail;
        let priority = mail.params.mt_priority.unwrap_or(0);
        let precedences = &self.service.services.gate.precedences;
        precedences.of(source, in_bulk, &mail.reverse_path, priority)
    }

    /// The fields of this hop: the signature of a submission, Received, and what a submission lacks.
    async fn trace(
        &self,
        message: &EndOfMessage,
        incoming: &Received,
        transport: &Transport,
        now: Timestamp,
    ) -> Vec<u8> {
        let services = &self.service.services;
        let hostname = services.hostname();
        let (peer, told_name, told_hello) = self.client.origin();
        let known = self.visit.as_ref().and_then(|visit| visit.client_name());
        let origin = Origin {
            peer,
            name: told_name.or(known),
            hello: told_hello,
        };
        let received = received(message, &origin, transport.session(), hostname, now);
        if message.facts.role != Role::Msa {
            return received;
        }
        let mut added = Vec::new();
        let structure = &incoming.structure;
        let has_date = structure.has_field(KnownField::Date);
        let has_id = structure.has_field(KnownField::MessageId);
        let session = transport.session();
        submission_fields(&mut added, has_date, has_id, session, hostname, now);
        let author = authors(structure).into_iter().next();
        let signers = &services.gate.signers;
        let inspected = incoming.inspected.as_ref();
        let mut trace = signers
            .sign(author.as_deref(), inspected, &added, now)
            .await;
        trace.extend(received);
        trace.extend(added);
        trace
    }
}

fn envelope_recipient(params: &RcptParams, routed: Routed) -> EnvelopeRecipient {
    EnvelopeRecipient {
        routed,
        notify: match params.notify {
            None => Notify::Unspecified,
            Some(notify) if !(notify.success || notify.failure || notify.delay) => Notify::Never,
            Some(notify) => Notify::On {
                success: notify.success,
                failure: notify.failure,
                delay: notify.delay,
            },
        },
        orcpt: params.orcpt.as_ref().map(ToString::to_string),
    }
}

/// What the parameters of MAIL and the header ask of the message's way.
fn demands(params: &MailParams, structure: &Structure, now: Timestamp) -> Demands {
    Demands {
        priority: params.mt_priority.unwrap_or(0),
        require_tls: params.require_tls,
        tls_optional: !params.require_tls && structure.tls_is_optional(),
        deliver_by: params.deliver_by.map(|by| DeliverBy {
            deadline: now.plus_millis(by.seconds.saturating_mul(1000)),
            notify: by.mode == ByMode::Notify,
            trace: by.trace,
        }),
        hold_until: params.hold.map(|hold| held_until(hold, now)),
    }
}

/// Whether the header says that the message is one of many: of a list, or of a mailing.
fn is_bulk(structure: &Structure) -> bool {
    let fields = [
        KnownField::ListId,
        KnownField::ListUnsubscribe,
        KnownField::Precedence,
    ];
    fields.into_iter().any(|field| structure.has_field(field))
}

/// The addresses of the From field.
fn authors(structure: &Structure) -> Vec<String> {
    let items = structure.envelope().from.iter();
    items
        .filter_map(|item| match item {
            ListItem::Mailbox(mailbox) => {
                let local = String::from_utf8_lossy(&mailbox.local_part);
                let domain = mailbox.domain.as_deref().unwrap_or_default();
                Some(format!("{local}@{}", String::from_utf8_lossy(domain)))
            }
            ListItem::GroupStart(_) | ListItem::GroupEnd => None,
        })
        .collect()
}

/// Who a message was accepted for, kept beside its bytes: version, reverse-path, recipients.
fn heap_envelope(message: &EndOfMessage) -> Bytes {
    let envelope = &message.envelope;
    let mut row = RowWriter::new(1);
    row.str(&envelope.mail.reverse_path.to_string());
    row.varint(envelope.recipients.len() as u64);
    for rcpt in envelope.recipients.iter() {
        row.str(&rcpt.forward_path.to_string());
    }
    row.finish().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mail_of_lists_and_mailings_is_bulk() {
        let is_bulk_of = |header: &str| {
            let message = format!("From: a@b.test\r\n{header}\r\ntext\r\n");
            is_bulk(&nightmail_mime::scan(message.as_bytes()))
        };
        for header in [
            "List-Id: <news.b.test>\r\n",
            "list-unsubscribe: <https://b.test/u>\r\n",
            "Precedence: bulk\r\n",
        ] {
            assert!(is_bulk_of(header), "{header}");
        }
        assert!(!is_bulk_of("Subject: Precedence: bulk\r\n"));
        assert!(!is_bulk_of(""));
    }
}
