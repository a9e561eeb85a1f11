//! Working on one message: its destinations side by side, and what follows from each.
//!
//! An attempt's outcome and the report that it calls for are one commit. A crash before it repeats the attempt; after
//! it, neither the attempt nor the report is repeated.

use std::sync::Arc;

use nightmail_commit::{CommitFailure, Intent, NewBlob, Tx};
use nightmail_core::{QueueId, Timestamp};
use nightmail_queue::{
    Claim, QueueError, QueueMessage, RecipientOutcome, Recorded, Verdict, tx::record_attempt,
};
use tokio::task::{JoinError, JoinSet};

use crate::attempt::Job;
use crate::channel::Channel;
use crate::error::DeliveryError;
use crate::report::{ReportChange, Written};
use crate::retry::{AttemptResult, Ended, Judged};
use crate::route::{Destination, due_recipients, group};

/// Times an outcome is judged anew because an operator or another node changed the message meanwhile.
const REJUDGED_MAX: usize = 10;

impl Channel {
    /// Works on a claimed message until its due recipients have been tried, and gives the claim back.
    pub(crate) async fn work(self: Arc<Self>, mut claim: Claim) {
        match self.deliver(claim.id()).await {
            Ok(due) => claim.set_due(due),
            Err(error) => {
                tracing::error!(queue_id = %claim.id(), %error, "a message in the queue could not be worked on");
                // The claim is kept meanwhile, so that a failing store is not hammered.
                self.pause().await;
            }
        }
    }

    /// Tries the recipients that are due. Returns when the message is due next.
    async fn deliver(self: &Arc<Self>, id: QueueId) -> Result<Option<Timestamp>, DeliveryError> {
        let Some(message) = self.queue.show(id).await? else {
            return Ok(None);
        };
        let due = due_recipients(&message, nightmail_commit::now());
        let groups = group(due, self.options.smarthost.is_some());
        let job = Job {
            id,
            message: Arc::new(message),
        };
        let mut running = JoinSet::new();
        let mut failure = None;
        for (destination, indexes) in groups {
            if running.len() >= self.options.limits.destinations_per_message_max.max(1) {
                note_failure(running.join_next().await, &mut failure);
            }
            let (channel, job) = (Arc::clone(self), job.clone());
            running.spawn(async move { channel.deliver_group(&job, &destination, &indexes).await });
        }
        while let Some(ended) = running.join_next().await {
            note_failure(Some(ended), &mut failure);
        }
        match failure {
            Some(error) => Err(error),
            None => Ok(self.queue.show(id).await?.and_then(|message| message.due())),
        }
    }

    async fn deliver_group(
        &self,
        job: &Job,
        destination: &Destination,
        indexes: &[usize],
    ) -> Result<(), DeliveryError> {
        let slot = tokio::select! {
            slot = self.lanes.enter(destination) => slot,
            () = self.stopped() => return Ok(()),
        };
        let Some(slot) = slot else {
            return self.put_off(job, indexes).await;
        };
        let results = Box::pin(self.attempt(job, destination, indexes)).await;
        drop(slot);
        metrics::counter!("nightmail_delivery_attempts_total").increment(1);
        for result in &results {
            log_result(job, result);
        }
        self.settle(job, results).await
    }

    /// Too many messages wait for the destination: this one makes room. It is no attempt.
    async fn put_off(&self, job: &Job, indexes: &[usize]) -> Result<(), DeliveryError> {
        let next_attempt = nightmail_commit::now().plus_millis(self.options.limits.put_off_millis);
        let verdict = Verdict::Deferred {
            next_attempt,
            delay_reported: false,
        };
        let outcome = |index: &usize| RecipientOutcome {
            index: *index,
            verdict,
            attempt: None,
        };
        match self
            .queue
            .record_attempt(job.id, indexes.iter().map(outcome).collect())
            .await
        {
            Ok(_) | Err(QueueError::NoSuchMessage | QueueError::AlreadyRetired) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Records results until the store has taken them: what a peer has accepted must not be offered again because of
    /// trouble here.
    pub(crate) async fn settle(
        &self,
        job: &Job,
        results: Vec<AttemptResult>,
    ) -> Result<(), DeliveryError> {
        let (mut message, mut results) = (Arc::clone(&job.message), results);
        let mut rejudged = 0;
        loop {
            match self.settle_once(job.id, &message, &results).await {
                Ok(()) => return Ok(()),
                Err(DeliveryError::Queue(QueueError::NoSuchMessage)) => {
                    tracing::info!(queue_id = %job.id, "the message was removed while it was being worked on");
                    return Ok(());
                }
                Err(DeliveryError::Queue(QueueError::AlreadyRetired))
                    if rejudged < REJUDGED_MAX =>
                {
                    rejudged += 1;
                    let Some(current) = self.queue.show(job.id).await? else {
                        return Ok(());
                    };
                    results.retain(|result| is_pending(&current, result.index));
                    message = Arc::new(current);
                }
                Err(error) if self.is_stopping() => return Err(error),
                Err(error) => {
                    tracing::error!(queue_id = %job.id, %error, "an attempt could not be recorded; it is tried again");
                    self.pause().await;
                }
            }
        }
    }

    async fn settle_once(
        &self,
        id: QueueId,
        message: &QueueMessage,
        results: &[AttemptResult],
    ) -> Result<(), DeliveryError> {
        if results.is_empty() {
            return Ok(());
        }
        let policy = &self.options.retry;
        let judged: Vec<Judged> = results
            .iter()
            .filter_map(|result| {
                let recipient = message.recipients.get(result.index)?;
                Some(policy.judge(message, recipient, result, &self.random))
            })
            .collect();
        let report = self
            .write_report(id, message, &judged, nightmail_commit::now())
            .await?;
        let outcomes: Vec<RecipientOutcome> =
            judged.into_iter().map(|judged| judged.outcome).collect();
        count(&outcomes);
        match report {
            None => self
                .queue
                .record_attempt(id, outcomes)
                .await
                .map(drop)
                .map_err(DeliveryError::from),
            Some(report) => self.record_and_report(id, outcomes, report).await,
        }
    }

    /// Records outcomes together with their report: to the sender, else to the postmaster, else without it.
    async fn record_and_report(
        &self,
        id: QueueId,
        outcomes: Vec<RecipientOutcome>,
        report: Written,
    ) -> Result<(), DeliveryError> {
        let postmaster = self
            .options
            .postmaster
            .clone()
            .filter(|postmaster| *postmaster != report.to);
        for to in std::iter::once(report.to.clone()).chain(postmaster) {
            let recorded = match self.reports.plan(&to, &report.blob).await {
                Ok(change) => {
                    self.record_with(id, outcomes.clone(), report.blob.clone(), change)
                        .await
                }
                Err(error) => Err(error),
            };
            match recorded {
                Err(DeliveryError::Unroutable(reason)) => {
                    tracing::warn!(queue_id = %id, %to, %reason, "a report cannot be delivered");
                }
                Ok(_) => {
                    metrics::counter!("nightmail_delivery_reports_total").increment(1);
                    tracing::info!(queue_id = %id, %to, "report sent");
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
        }
        metrics::counter!("nightmail_delivery_reports_dropped_total").increment(1);
        tracing::error!(queue_id = %id, sender = %report.to, "a report could reach nobody and is dropped");
        self.queue.record_attempt(id, outcomes).await?;
        Ok(())
    }

    async fn record_with(
        &self,
        id: QueueId,
        outcomes: Vec<RecipientOutcome>,
        blob: NewBlob,
        mut change: ReportChange,
    ) -> Result<Recorded, DeliveryError> {
        let intent = Intent::synced(move |tx: &mut Tx<'_>| {
            let recorded = record_attempt::<DeliveryError>(tx, id, &outcomes)?;
            change(tx)?;
            Ok(recorded)
        });
        Ok(self
            .queue
            .committer()
            .submit(intent.with_blob(blob))
            .await?)
    }

    /// Waits after the store failed; not when the channel stops.
    async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(self.options.limits.store_pause) => {}
            () = self.stopped() => {}
        }
    }
}

fn is_pending(message: &QueueMessage, index: usize) -> bool {
    message
        .recipients
        .get(index)
        .is_some_and(|recipient| recipient.next_attempt().is_some())
}

fn note_failure(
    ended: Option<Result<Result<(), DeliveryError>, JoinError>>,
    failure: &mut Option<DeliveryError>,
) {
    match ended {
        Some(Ok(Err(error))) => *failure = Some(error),
        Some(Err(error)) => *failure = Some(CommitFailure::Unavailable(error.to_string()).into()),
        Some(Ok(Ok(()))) | None => {}
    }
}

fn count(outcomes: &[RecipientOutcome]) {
    for outcome in outcomes {
        let name = match outcome.verdict {
            Verdict::Delivered => "nightmail_delivery_delivered_total",
            Verdict::Deferred { .. } => "nightmail_delivery_deferred_total",
            Verdict::Failed => "nightmail_delivery_failed_total",
        };
        metrics::counter!(name).increment(1);
    }
}

fn log_result(job: &Job, result: &AttemptResult) {
    let outcome = match result.ended {
        Ended::Delivered { .. } => "delivered",
        Ended::Temporary => "not delivered yet",
        Ended::Permanent => "refused",
    };
    let recipient = job.message.recipients.get(result.index);
    let attempt = &result.attempt;
    tracing::info!(
        queue_id = %job.id,
        from = %job.message.reverse_path,
        to = recipient.map(|recipient| recipient.address.to_string()).unwrap_or_default(),
        host = attempt.host.as_deref().unwrap_or_default(),
        status = %attempt.status,
        reply = attempt.reply.as_deref().unwrap_or(&attempt.diagnostic),
        "{outcome}"
    );
}
