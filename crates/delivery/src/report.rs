//! Telling senders: delivery status notifications (RFC 3464, RFC 3461 §6) and the way they take.
//!
//! **Invariant:** a report has the null reverse-path, and no report is written about a message that has it.

use bytes::Bytes;
use nightmail_commit::{Abort, CommitFailure, NewBlob, Tx};
use nightmail_core::{Address, ForwardPath, QueueId, Timestamp};
use nightmail_engine::BoxFuture;
use nightmail_heap::{BlobBuilder, Heap, HeapError};
use nightmail_mime::report::{Action, Original, RecipientReport};
use nightmail_mime::{Report, generate_report, scan};
use nightmail_queue::{QueueMessage, Recipient, Ret};
use nightmail_smtp::command::Xtext;

use crate::channel::Channel;
use crate::content::Content;
use crate::error::DeliveryError;
use crate::retry::Judged;

/// The change that delivers or queues a report, run in the intent that retires the recipients it speaks of.
/// The report's bytes are the first blob of that intent (index 0).
pub type ReportChange = Box<dyn FnMut(&mut Tx<'_>) -> Result<(), Abort<DeliveryError>> + Send>;

/// The way of reports through the site: whoever routes mail implements it.
pub trait Reports: Send + Sync {
    /// Plans the delivery of the report `blob` from `<>` to `to`, an address here or elsewhere.
    ///
    /// [`DeliveryError::Unroutable`], here or when the change is run, means that it can never reach `to`. Every other
    /// error is local trouble: the recipients stay in the queue and it is tried again.
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        blob: &'a NewBlob,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>>;
}

/// A report that is ready to be planned.
pub(crate) struct Written {
    /// Its bytes.
    pub blob: NewBlob,
    /// To whom.
    pub to: Address,
}

impl Channel {
    /// Writes the report about the recipients in `judged` that call for one; `None` where nobody is to be told.
    pub(crate) async fn write_report(
        &self,
        id: QueueId,
        message: &QueueMessage,
        judged: &[Judged],
        now: Timestamp,
    ) -> Result<Option<Written>, DeliveryError> {
        let Some(to) = message.reverse_path.address() else {
            return Ok(None);
        };
        let about: Vec<(&Recipient, &Judged, Action)> = judged
            .iter()
            .filter_map(|judged| {
                let recipient = message.recipients.get(judged.outcome.index)?;
                Some((recipient, judged, judged.report?))
            })
            .collect();
        if about.is_empty() {
            return Ok(None);
        }
        let returned = self.returned(message, &about).await?;
        let bytes = self.compose(id, message, to, &about, &returned, now);
        let blob = prepare(self.queue.committer().heap(), to, bytes).await?;
        Ok(Some(Written {
            blob,
            to: to.clone(),
        }))
    }

    fn compose(
        &self,
        id: QueueId,
        message: &QueueMessage,
        to: &Address,
        about: &[(&Recipient, &Judged, Action)],
        returned: &Returned,
        now: Timestamp,
    ) -> Vec<u8> {
        let lines: Vec<Line> = about
            .iter()
            .map(|(recipient, judged, _)| Line::of(recipient, judged))
            .collect();
        let deadline = self.options.retry.deadline(message);
        let recipients: Vec<RecipientReport<'_>> = about
            .iter()
            .zip(&lines)
            .map(|((_, _, action), line)| {
                line.report(*action, (*action == Action::Delayed).then_some(deadline))
            })
            .collect();
        let host = &self.options.host_name;
        let envelope_id = message.envid.as_ref().and_then(|envid| decode_xtext(envid));
        generate_report(&Report {
            reporting_mta: host,
            from: &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
            to,
            date: now,
            message_id: &format!("{id}.{:x}.{:x}@{host}", now.millis(), self.random.next()),
            boundary: &format!("=_{:016x}{:016x}", self.random.next(), self.random.next()),
            envelope_id: envelope_id.as_deref(),
            arrival: Some(message.created),
            recipients: &recipients,
            original: match returned {
                Returned::Headers(bytes) => Original::Headers(bytes),
                Returned::Message(bytes) => Original::Message(bytes),
            },
        })
    }

    /// What the report returns: the whole message where that was asked for, a failure is reported and it is not too
    /// large (RFC 3461 §6.2), otherwise its header.
    async fn returned(
        &self,
        message: &QueueMessage,
        about: &[(&Recipient, &Judged, Action)],
    ) -> Result<Returned, DeliveryError> {
        let limits = &self.options.limits;
        let failed = about.iter().any(|(_, _, action)| *action == Action::Failed);
        let whole = failed
            && message.ret == Some(Ret::Full)
            && message.size() <= limits.report_message_octets_max;
        let octets_max = if whole {
            limits.report_message_octets_max
        } else {
            limits.report_header_octets_max
        };
        match self.head(message, octets_max).await {
            Ok(message) if whole => Ok(Returned::Message(message)),
            Ok(head) => Ok(Returned::Headers(header_of(head))),
            // Bytes that are lost cannot be returned; the sender is told all the more.
            Err(DeliveryError::Link(_) | DeliveryError::Failed(CommitFailure::Corrupt(_))) => {
                Ok(Returned::Headers(message.prefix.to_vec()))
            }
            Err(error) => Err(error),
        }
    }

    async fn head(
        &self,
        message: &QueueMessage,
        octets_max: u64,
    ) -> Result<Vec<u8>, DeliveryError> {
        Content::open(self.queue.committer(), message)
            .await?
            .head(octets_max)
            .await
    }
}

enum Returned {
    Headers(Vec<u8>),
    Message(Vec<u8>),
}

/// The texts of one recipient's part of a report.
struct Line {
    path: ForwardPath,
    original: Option<String>,
    status: String,
    host: Option<String>,
    diagnostic: Option<String>,
    at: Option<Timestamp>,
}

impl Line {
    fn of(recipient: &Recipient, judged: &Judged) -> Self {
        let attempt = judged.outcome.attempt.as_ref();
        let text = attempt.map(|attempt| {
            attempt
                .reply
                .as_ref()
                .unwrap_or(&attempt.diagnostic)
                .clone()
        });
        Self {
            path: ForwardPath::Address(recipient.address.clone()),
            original: recipient.orcpt.as_deref().and_then(decode_orcpt),
            status: attempt.map_or_else(|| "5.0.0".into(), |attempt| attempt.status.clone()),
            host: attempt.and_then(|attempt| attempt.host.clone()),
            diagnostic: text.filter(|text| !text.is_empty()),
            at: attempt.map(|attempt| attempt.at),
        }
    }

    fn report(&self, action: Action, will_retry_until: Option<Timestamp>) -> RecipientReport<'_> {
        RecipientReport {
            recipient: &self.path,
            original_recipient: self.original.as_deref(),
            action,
            status: &self.status,
            remote_mta: self.host.as_deref(),
            diagnostic: self.diagnostic.as_deref(),
            last_attempt: self.at,
            will_retry_until,
        }
    }
}

fn decode_xtext(text: &str) -> Option<String> {
    Some(Xtext::parse(text)?.decode())
}

/// `rfc822;a+2Bb@x.test` as `rfc822; a+b@x.test`.
fn decode_orcpt(orcpt: &str) -> Option<String> {
    let (kind, address) = orcpt.split_once(';')?;
    Some(format!("{kind};{}", decode_xtext(address)?))
}

/// Cuts after the blank line that ends the header, and back to the last whole line where there is none.
fn header_of(mut head: Vec<u8>) -> Vec<u8> {
    let end = head
        .windows(4)
        .position(|four| four == b"\r\n\r\n")
        .map(|at| at + 2);
    let end = end.or_else(|| {
        head.iter()
            .rposition(|byte| *byte == b'\n')
            .map(|at| at + 1)
    });
    head.truncate(end.unwrap_or(0));
    head
}

/// Makes the report a blob, with its structure and, for salvage, its envelope.
async fn prepare(heap: &Heap, to: &Address, bytes: Vec<u8>) -> Result<NewBlob, DeliveryError> {
    let (heap, envelope) = (heap.clone(), Bytes::from(format!("<>\n<{to}>\n")));
    let prepared = tokio::task::spawn_blocking(move || {
        let mut builder = BlobBuilder::new(&heap);
        builder.push(&bytes)?;
        let meta = Bytes::from(scan(&bytes).encode());
        Ok::<_, HeapError>(NewBlob {
            blob: builder.finish()?,
            envelope,
            meta,
        })
    })
    .await;
    Ok(prepared.map_err(|error| HeapError::Io(error.to_string()))??)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_cut_at_its_blank_line_or_at_its_last_whole_line() {
        assert_eq!(header_of(b"A: b\r\n\r\nbody\r\n".to_vec()), b"A: b\r\n");
        assert_eq!(header_of(b"A: b\r\nC: d".to_vec()), b"A: b\r\n");
        assert_eq!(header_of(b"no line".to_vec()), b"");
    }
}
