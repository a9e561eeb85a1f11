//! Telling senders: delivery status notifications (RFC 3464, RFC 3461 §6) and the way they take.
//!
//! **Invariant:** a report has the null reverse-path, and nobody but the postmaster is told about a message that has it.

use nightmail_commit::{Abort, CommitFailure, NewBlob, Tx};
use nightmail_core::{Address, ForwardPath, QueueId, Timestamp};
use nightmail_engine::BoxFuture;
use nightmail_mime::report::{Action, Original, RecipientReport};
use nightmail_mime::{Report, generate_report};
use nightmail_queue::{Notify, QueueMessage, Recipient, Ret};
use nightmail_switch::report::{decode_orcpt, decode_xtext, header_of, prepare};

use crate::channel::Channel;
use crate::content::Content;
use crate::error::DeliveryError;
use crate::options::DoubleBounces;
use crate::retry::Judged;

/// The change that delivers or queues a report, or lets a held message go, run in the intent that retires the
/// recipients it speaks of. The blobs it brings along are the first of that intent (from index 0).
pub type ReportChange = Box<dyn FnMut(&mut Tx<'_>) -> Result<(), Abort<DeliveryError>> + Send>;

/// What letting a message go that was held back comes to (RFC 4865).
#[derive(Default)]
pub struct Release {
    /// The recipients whose copies the change delivers or queues, by their places in the message.
    pub accepted: Vec<usize>,
    /// That change; nothing where nobody is accepted.
    pub change: Option<ReportChange>,
    /// What the change brings along.
    pub blobs: Vec<NewBlob>,
    /// The recipients that cannot be routed, by their places, and why.
    pub refused: Vec<(usize, Unroutable)>,
}

/// Why a recipient of a held message is not routed when it is let go.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unroutable {
    /// Whether it is not worth trying again.
    pub permanent: bool,
    /// The enhanced status code (RFC 3463).
    pub status: String,
    /// For people.
    pub text: String,
}

/// The way of reports, and of mail that was held back, through the site: whoever routes mail implements it.
pub trait Reports: Send + Sync {
    /// Plans the delivery of the report `blob` from `<>` to `to`, an address here or elsewhere. `require_tls`: whether
    /// the message that it is about was to go over TLS only, which then holds for the report where it can be had.
    /// `notify` is what is asked for it on its way: the postmaster hears of a report that fails, and nobody of one to the
    /// postmaster, wherever that is passed on to.
    ///
    /// [`DeliveryError::Unroutable`], here or when the change is run, means that it can never reach `to`. Every other
    /// error is local trouble: the recipients stay in the queue and it is tried again.
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        blob: &'a NewBlob,
        require_tls: bool,
        notify: Notify,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>>;

    /// Plans where the copies of a held message go for the recipients at `recipients`. An error, here or when the
    /// change is run, leaves the message held, and it is tried again.
    fn release<'a>(
        &'a self,
        message: &'a QueueMessage,
        recipients: &'a [usize],
    ) -> BoxFuture<'a, Result<Release, DeliveryError>>;
}

/// A report that is ready to be planned.
pub(crate) struct Written {
    /// Its bytes.
    pub blob: NewBlob,
    /// To whom.
    pub to: Address,
}

impl Channel {
    /// Whom a report about this recipient goes to; `None` where nobody is to be told. What nobody else can be told of is
    /// the postmaster's, unless it was meant for the postmaster.
    fn told<'a>(&'a self, message: &'a QueueMessage, judged: &Judged) -> Option<&'a Address> {
        let action = judged.report?;
        if let Some(sender) = message.reverse_path.address() {
            return Some(sender);
        }
        let recipient = message.recipients.get(judged.outcome.index)?;
        let postmaster = self.options.postmaster.as_ref()?;
        let is_double = action == Action::Failed
            && self.options.double_bounces == DoubleBounces::Postmaster
            && recipient.address != *postmaster;
        is_double.then_some(postmaster)
    }

    /// Whether somebody is told about this recipient.
    pub(crate) fn is_told(&self, message: &QueueMessage, judged: &Judged) -> bool {
        self.told(message, judged).is_some()
    }

    /// Writes the report about the recipients in `judged` that call for one; `None` where nobody is to be told.
    pub(crate) async fn write_report(
        &self,
        id: QueueId,
        message: &QueueMessage,
        judged: &[Judged],
        now: Timestamp,
    ) -> Result<Option<Written>, DeliveryError> {
        let mut to = None;
        let mut about: Vec<(&Recipient, &Judged, Action)> = Vec::new();
        for judged in judged {
            let recipient = message.recipients.get(judged.outcome.index);
            if let (Some(told), Some(recipient), Some(action)) =
                (self.told(message, judged), recipient, judged.report)
            {
                to = Some(told);
                about.push((recipient, judged, action));
            }
        }
        let Some(to) = to else {
            return Ok(None);
        };
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
        let recipients: Vec<RecipientReport<'_>> = about
            .iter()
            .zip(&lines)
            .map(|((_, judged, action), line)| {
                let until = (*action == Action::Delayed).then_some(judged.deadline);
                line.report(*action, until)
            })
            .collect();
        let host = &self.options.host_name;
        let envelope_id = message.envid.as_ref().and_then(|envid| decode_xtext(envid));
        generate_report(&Report {
            reporting_mta: host,
            from: &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
            to,
            smtputf8: message.smtputf8,
            date: now,
            message_id: &format!("{id}.{:x}.{:x}@{host}", now.millis(), self.random.next()),
            boundary: &format!("=_{:016x}{:016x}", self.random.next(), self.random.next()),
            envelope_id: envelope_id.as_deref(),
            arrival: Some(message.created),
            deliver_by: message.demands.deliver_by.map(|by| by.deadline),
            recipients: &recipients,
            original: match returned {
                Returned::Headers(bytes) => Original::Headers(bytes),
                Returned::Message(bytes) => Original::Message(bytes),
            },
        })
    }

    /// What the report returns: the whole message where that was asked for, a failure is reported, it is not too large
    /// (RFC 3461 §6.2) and not to be read on the way, otherwise its header.
    async fn returned(
        &self,
        message: &QueueMessage,
        about: &[(&Recipient, &Judged, Action)],
    ) -> Result<Returned, DeliveryError> {
        let limits = &self.options.limits;
        let failed = about.iter().any(|(_, _, action)| *action == Action::Failed);
        // A report may travel where a message that needs TLS may not (RFC 8689 §5).
        let whole = failed
            && !message.demands.require_tls
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

    /// The first octets of a message.
    pub(crate) async fn head(
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
    answered: bool,
    at: Option<Timestamp>,
}

impl Line {
    fn of(recipient: &Recipient, judged: &Judged) -> Self {
        let attempt = &judged.attempt;
        let text = attempt.reply.as_ref().unwrap_or(&attempt.diagnostic);
        Self {
            path: ForwardPath::Address(recipient.address.clone()),
            original: recipient.orcpt.as_deref().and_then(decode_orcpt),
            status: match judged.status {
                Some(status) => status.to_owned(),
                None => attempt.status.clone(),
            },
            host: attempt.host.clone(),
            diagnostic: Some(text.clone()).filter(|text| !text.is_empty()),
            answered: attempt.reply.is_some(),
            at: Some(attempt.at),
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
            answered: self.answered,
            last_attempt: self.at,
            will_retry_until,
        }
    }
}
