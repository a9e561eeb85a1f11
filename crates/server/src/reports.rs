//! Reports to senders, routed by the switch: how the outbound channel's notifications find their way.

use nightmail_commit::{NewBlob, Tx};
use nightmail_core::{Address, ForwardPath};
use nightmail_delivery::{DeliveryError, ReportChange, Reports};
use nightmail_engine::BoxFuture;
use nightmail_queue::Content;
use nightmail_switch::{Body, Envelope, Outcome, Switch, SwitchError};

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
            let plan = self
                .0
                .plan(Envelope::of_report(routed), Body::New(blob))
                .await
                .map_err(local)?;
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
}

/// Local trouble: the recipients stay in the queue and the report is tried again.
fn local(error: SwitchError) -> DeliveryError {
    DeliveryError::Failed(nightmail_commit::CommitFailure::Unavailable(
        error.to_string(),
    ))
}
