//! Working on one message: its destinations side by side, and what follows from each.
//!
//! An attempt's outcome and the report that it calls for are one commit. A crash before it repeats the attempt; after
//! it, neither the attempt nor the report is repeated. Of several nodes, one that has lost the message's lease records
//! nothing and leaves the message to the one that holds it.

use std::sync::Arc;

use nightmail_commit::{CommitFailure, Intent, NewBlob, Tx};
use nightmail_core::Timestamp;
use nightmail_engine::RowKey;
use nightmail_queue::{
    Claim, QueueError, QueueMessage, RecipientOutcome, Recorded, Verdict, tx::record_attempt,
};
use tokio::task::JoinSet;

use crate::attempt::Job;
use crate::channel::Channel;
use crate::error::DeliveryError;
use crate::report::{ReportChange, Written};
use crate::retry::{AttemptResult, Ended, Judged, is_time_over};
use crate::route::{Destination, due_recipients, group};

/// Times an outcome is judged anew because an operator or another node changed the message meanwhile.
const REJUDGED_MAX: usize = 10;

/// How a message is left after its due recipients were tried.
enum Left {
    /// When it is due next; `None` when it has left the queue.
    Due(Option<Timestamp>),
    /// This destination had no room; others may have been tried.
    Waiting(Destination),
}

impl Channel {
    /// Works on a claimed message until its due recipients have been tried, and gives the claim back; or parks it.
    pub(crate) async fn work(self: Arc<Self>, mut claim: Claim) {
        if !claim.hold().is_current() {
            return;
        }
        match self.deliver(&claim).await {
            Ok(Left::Due(due)) => claim.set_due(due),
            Ok(Left::Waiting(destination)) => {
                let Err(mut claim) = self.lanes.park(&destination, claim) else {
                    return;
                };
                if let Err(error) = self.put_off(&mut claim, &destination).await {
                    self.hold_back(&claim, &error).await;
                }
            }
            Err(error) => self.hold_back(&claim, &error).await,
        }
    }

    /// Keeps a message claimed for a while, so that a failing store is not hammered.
    async fn hold_back(&self, claim: &Claim, error: &DeliveryError) {
        tracing::error!(queue_id = %claim.id(), %error, "a message in the queue could not be worked on");
        self.pause().await;
    }

    /// Tries the recipients that are due.
    async fn deliver(self: &Arc<Self>, claim: &Claim) -> Result<Left, DeliveryError> {
        let id = claim.id();
        let Some(message) = self.queue.show(id).await? else {
            return Ok(Left::Due(None));
        };
        let job = Job {
            id,
            message: Arc::new(message),
            hold: claim.hold().clone(),
        };
        let now = nightmail_commit::now();
        if job.message.unrouted.is_some() {
            self.let_go(&job).await?;
            return self.left(claim).await;
        }
        if is_time_over(&job.message, now) {
            self.give_up_late(&job).await?;
            return self.left(claim).await;
        }
        let due = due_recipients(&job.message, now);
        let groups = group(due, self.options.smarthost.is_some());
        let mut running = JoinSet::new();
        let mut ended = Vec::new();
        for (destination, indexes) in groups {
            if running.len() >= self.options.limits.destinations_per_message_max.max(1) {
                ended.extend(running.join_next().await);
            }
            let (channel, job) = (Arc::clone(self), job.clone());
            running.spawn(async move { channel.deliver_group(&job, destination, &indexes).await });
        }
        while let Some(group) = running.join_next().await {
            ended.push(group);
        }
        let mut waiting = None;
        for group in ended {
            waiting =
                waiting.or(group.map_err(|error| CommitFailure::Unavailable(error.to_string()))??);
        }
        match waiting {
            Some(destination) => Ok(Left::Waiting(destination)),
            None => self.left(claim).await,
        }
    }

    async fn left(&self, claim: &Claim) -> Result<Left, DeliveryError> {
        let message = self.queue.show(claim.id()).await?;
        Ok(Left::Due(message.and_then(|message| message.due())))
    }

    /// Tries one destination; gives it back when it has no room now.
    async fn deliver_group(
        &self,
        job: &Job,
        destination: Destination,
        indexes: &[usize],
    ) -> Result<Option<Destination>, DeliveryError> {
        let entering = async {
            let slot = self.lanes.enter(&destination).await?;
            Some((slot, self.connections.acquire().await.ok()?))
        };
        let room = tokio::select! {
            room = entering => room,
            () = self.stopped() => return Ok(None),
        };
        let Some(room) = room else {
            return Ok(Some(destination));
        };
        if !job.hold.is_current() {
            return Ok(None);
        }
        let results = Box::pin(self.attempt(job, &destination, indexes)).await;
        drop(room);
        metrics::counter!("nightmail_delivery_attempts_total").increment(1);
        for result in &results {
            log_result(job, result);
        }
        self.settle(job, results).await?;
        Ok(None)
    }

    /// Too many messages are parked: this one is put off in the queue, for the destination that had no room. It is no
    /// attempt.
    async fn put_off(
        &self,
        claim: &mut Claim,
        destination: &Destination,
    ) -> Result<(), DeliveryError> {
        let id = claim.id();
        let Some(message) = self.queue.show(id).await? else {
            claim.set_due(None);
            return Ok(());
        };
        let now = nightmail_commit::now();
        let next_attempt = now.plus_millis(self.options.limits.put_off_millis);
        let verdict = Verdict::Deferred {
            next_attempt,
            delay_reported: false,
        };
        let outcomes = group(
            due_recipients(&message, now),
            self.options.smarthost.is_some(),
        )
        .into_iter()
        .filter(|(due, _)| due == destination)
        .flat_map(|(_, indexes)| indexes)
        .map(|index| RecipientOutcome {
            index,
            verdict,
            attempt: None,
        })
        .collect();
        let guard = claim.hold().guard();
        match self.queue.record_attempt(id, guard, outcomes).await {
            Ok(recorded) => claim.set_due(recorded.due),
            Err(QueueError::NoSuchMessage) => claim.set_due(None),
            Err(QueueError::AlreadyRetired | QueueError::LeaseLost) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
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
            match self.settle_once(job, &message, &results).await {
                Ok(()) => return Ok(()),
                Err(DeliveryError::Queue(QueueError::LeaseLost)) => {
                    tracing::info!(queue_id = %job.id, "another node has taken the message over");
                    metrics::counter!("nightmail_delivery_lease_lost_total").increment(1);
                    return Ok(());
                }
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
        job: &Job,
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
            .write_report(job.id, message, &judged, nightmail_commit::now())
            .await?;
        let outcomes: Vec<RecipientOutcome> =
            judged.into_iter().map(|judged| judged.outcome).collect();
        let counts = outcomes
            .iter()
            .map(|outcome| counter(outcome.verdict))
            .collect::<Vec<_>>();
        match report {
            None => drop(
                self.queue
                    .record_attempt(job.id, job.hold.guard(), outcomes)
                    .await?,
            ),
            Some(report) => self.record_and_report(job, outcomes, report).await?,
        }
        for name in counts {
            metrics::counter!(name).increment(1);
        }
        Ok(())
    }

    /// Records outcomes together with their report: to the sender, else to the postmaster, else without it.
    async fn record_and_report(
        &self,
        job: &Job,
        outcomes: Vec<RecipientOutcome>,
        report: Written,
    ) -> Result<(), DeliveryError> {
        let id = job.id;
        let postmaster = self
            .options
            .postmaster
            .clone()
            .filter(|postmaster| *postmaster != report.to);
        for to in std::iter::once(report.to.clone()).chain(postmaster) {
            let require_tls = job.message.demands.require_tls;
            let planned = self.reports.plan(&to, &report.blob, require_tls).await;
            let recorded = match planned {
                Ok(change) => {
                    self.record_with(job, outcomes.clone(), report.blob.clone(), change)
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
        self.queue
            .record_attempt(id, job.hold.guard(), outcomes)
            .await?;
        Ok(())
    }

    async fn record_with(
        &self,
        job: &Job,
        outcomes: Vec<RecipientOutcome>,
        blob: NewBlob,
        mut change: ReportChange,
    ) -> Result<Recorded, DeliveryError> {
        let (id, guard) = (job.id, job.hold.guard().clone());
        let reads: Vec<RowKey> = guard.row().cloned().into_iter().collect();
        let intent = Intent::synced(move |tx: &mut Tx<'_>| {
            let recorded = record_attempt::<DeliveryError>(tx, id, &guard, &outcomes)?;
            change(tx)?;
            Ok(recorded)
        });
        Ok(self
            .queue
            .committer()
            .submit(intent.with_blob(blob).reading(reads))
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

const fn counter(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Delivered => "nightmail_delivery_delivered_total",
        Verdict::Deferred { .. } => "nightmail_delivery_deferred_total",
        Verdict::Failed => "nightmail_delivery_failed_total",
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
