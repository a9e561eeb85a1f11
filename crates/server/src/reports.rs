//! Reports to senders, routed by the switch: how the outbound channel's notifications find their way, and mail that
//! was held back its.

use nightmail_commit::{Abort, NewBlob, Tx};
use nightmail_core::{Address, ForwardPath};
use nightmail_delivery::{DeliveryError, Release, ReportChange, Reports, Unroutable};
use nightmail_engine::BoxFuture;
use nightmail_pace::Precedence;
use nightmail_queue::{Content, Notify, QueueMessage};
use nightmail_switch::{
    Applied, Body, Demands, Envelope, EnvelopeRecipient, Outcome, QuotaPolicy, Refusal, Switch,
    SwitchError,
};

/// Routes reports through the switch.
pub struct SwitchedReports {
    /// Routes them.
    pub switch: Switch,
    /// How urgent they are where they go to other sites.
    pub precedence: Precedence,
}

impl Reports for SwitchedReports {
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        blob: &'a NewBlob,
        require_tls: bool,
        notify: Notify,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>> {
        Box::pin(async move {
            let path = ForwardPath::Address(to.clone());
            // A report goes wherever its sender is, so relaying is allowed; its size is known only roughly to quota.
            let routed = self
                .switch
                .route(&path, true, Some(blob.blob.size()))
                .await
                .map_err(local)?
                .map_err(|refusal| DeliveryError::Unroutable(refusal.to_string()))?;
            let mut envelope = Envelope {
                precedence: self.precedence.precedence,
                band: self.precedence.band,
                ..Envelope::of_report(routed).requiring_tls(require_tls)
            };
            for recipient in &mut envelope.recipients {
                recipient.notify = notify;
            }
            let plan = self.switch.plan(envelope, Body::New(blob)).await;
            let plan = plan.map_err(local)?;
            let change = move |tx: &mut Tx<'_>| {
                let applied = plan
                    .apply(tx, Content::New(0), 1)
                    .map_err(|abort| abort.map(local))?;
                match applied.outcomes.first() {
                    Some(Outcome::Refused(refusal)) => {
                        Err(DeliveryError::Unroutable(refusal.to_string()).into())
                    }
                    _ => Ok(()),
                }
            };
            Ok(Box::new(change) as ReportChange)
        })
    }

    fn release<'a>(
        &'a self,
        message: &'a QueueMessage,
        recipients: &'a [usize],
    ) -> BoxFuture<'a, Result<Release, DeliveryError>> {
        Box::pin(self.let_go(message, recipients))
    }
}

impl SwitchedReports {
    /// Routes a held message anew, as whoever submitted it may: it was checked when it was taken in.
    async fn let_go(
        &self,
        message: &QueueMessage,
        recipients: &[usize],
    ) -> Result<Release, DeliveryError> {
        let mut release = Release::default();
        let mut routed = Vec::new();
        for index in recipients {
            let Some(recipient) = message.recipients.get(*index) else {
                continue;
            };
            let path = ForwardPath::Address(recipient.address.clone());
            let size = Some(message.size());
            match self.switch.route(&path, true, size).await.map_err(local)? {
                Ok(to) => {
                    release.accepted.push(*index);
                    routed.push(EnvelopeRecipient {
                        routed: to,
                        notify: recipient.notify,
                        orcpt: recipient.orcpt.clone(),
                    });
                }
                Err(refusal) => release.refused.push((*index, unroutable(&refusal))),
            }
        }
        if routed.is_empty() {
            return Ok(release);
        }
        let stored = Body::Stored {
            blob: message.blob,
            size: message.blob_size,
        };
        let plan = self.switch.plan(envelope_of(message, routed), stored).await;
        let plan = plan.map_err(local)?;
        release.blobs = plan.further_blobs();
        let content = Content::Stored(message.blob);
        release.change = Some(Box::new(move |tx: &mut Tx<'_>| {
            let applied = plan.apply(tx, content, 0);
            let applied = applied.map_err(|abort| abort.map(local))?;
            refused_by_all(&applied)
        }));
        Ok(release)
    }
}

/// Room that was there at routing and is not any more: nothing is let go, and it is tried again.
fn refused_by_all(applied: &Applied) -> Result<(), Abort<DeliveryError>> {
    let refused = applied.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal),
        Outcome::Accepted => None,
    });
    match refused {
        Some(refusal) => Err(DeliveryError::Unroutable(refusal.to_string()).into()),
        None => Ok(()),
    }
}

/// The envelope under which a held message goes on.
fn envelope_of(message: &QueueMessage, recipients: Vec<EnvelopeRecipient>) -> Envelope {
    let trace = message.local_prefix();
    let sealed = message.prefix.len() - trace.len();
    Envelope {
        reverse_path: message.reverse_path.clone(),
        recipients,
        source: message.source,
        body: message.body,
        smtputf8: message.smtputf8,
        ret: message.ret,
        envid: message.envid.clone(),
        sealed: message.prefix.slice(..sealed),
        trace,
        missing_line_ends: message
            .unrouted
            .map_or(0, |unrouted| unrouted.missing_line_ends),
        policy: QuotaPolicy::Together,
        demands: Demands {
            hold_until: None,
            ..message.demands
        },
        precedence: 0,
        band: message.rank.band,
    }
}

/// A refusal in the words of a report.
fn unroutable(refusal: &Refusal) -> Unroutable {
    let (permanent, status) = match refusal {
        Refusal::UnknownUser => (true, "5.1.1"),
        Refusal::RelayDenied => (true, "5.7.1"),
        Refusal::Disabled { temporary: true } => (false, "4.2.1"),
        Refusal::Disabled { temporary: false } => (true, "5.2.1"),
        Refusal::Loop => (true, "5.4.6"),
        Refusal::OverQuota { temporary: true } => (false, "4.2.2"),
        Refusal::OverQuota { temporary: false } => (true, "5.2.2"),
        Refusal::TooLarge => (true, "5.2.3"),
    };
    Unroutable {
        permanent,
        status: status.to_owned(),
        text: refusal.to_string(),
    }
}

/// Local trouble: the recipients stay in the queue and the report is tried again.
fn local(error: SwitchError) -> DeliveryError {
    DeliveryError::Failed(nightmail_commit::CommitFailure::Unavailable(
        error.to_string(),
    ))
}
