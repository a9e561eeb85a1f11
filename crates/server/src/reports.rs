//! Reports to senders, routed by the switch: how the outbound channel's notifications find their way.

use bytes::Bytes;
use nightmail_commit::{NewBlob, Tx};
use nightmail_core::{Address, ForwardPath, ReversePath};
use nightmail_delivery::{DeliveryError, ReportChange, Reports};
use nightmail_engine::BoxFuture;
use nightmail_queue::{BodyType, Notify, Source};
use nightmail_switch::{Envelope, EnvelopeRecipient, Outcome, QuotaPolicy, Switch, SwitchError};

/// Routes reports through the switch.
pub struct SwitchedReports(pub Switch);

impl Reports for SwitchedReports {
    fn plan<'a>(
        &'a self,
        to: &'a Address,
        blob: &'a NewBlob,
    ) -> BoxFuture<'a, Result<ReportChange, DeliveryError>> {
        Box::pin(async move {
            let path = ForwardPath::Address(to.clone());
            // A report goes wherever its sender is, so relaying is allowed; its size is known only roughly to quota.
            let routed = self
                .0
                .route(&path, true, Some(blob.blob.size()))
                .await
                .map_err(local)?
                .map_err(|refusal| DeliveryError::Unroutable(refusal.to_string()))?;
            let envelope = Envelope {
                reverse_path: ReversePath::Null,
                recipients: vec![EnvelopeRecipient {
                    routed,
                    notify: Notify::Never,
                    orcpt: None,
                }],
                source: Source::Local,
                body: BodyType::SevenBit,
                smtputf8: !to.is_ascii(),
                ret: None,
                envid: None,
                trace: Bytes::new(),
                missing_line_ends: 0,
                policy: QuotaPolicy::Together,
            };
            let plan = self
                .0
                .plan(envelope, blob.blob.size())
                .await
                .map_err(local)?;
            let change = move |tx: &mut Tx<'_>| {
                let applied = plan.apply(tx, 0).map_err(|abort| abort.map(local))?;
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
}

/// Local trouble: the recipients stay in the queue and the report is tried again.
fn local(error: SwitchError) -> DeliveryError {
    DeliveryError::Failed(nightmail_commit::CommitFailure::Unavailable(
        error.to_string(),
    ))
}
