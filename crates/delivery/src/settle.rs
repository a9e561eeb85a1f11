//! Recording what attempts came to, and telling senders.
//!
//! An attempt's outcome and the report that it calls for are one commit. A crash before it repeats the attempt; after
//! it, neither the attempt nor the report is repeated. Of several nodes, one that has lost the message's lease records
//! nothing and leaves the message to the one that holds it.
//!
//! Connections do not wait for commits: what they have decided goes through a channel of bounded length to whoever
//! records it, many messages in one commit where no report is due.

use std::sync::Arc;

use nightmail_commit::{Intent, NewBlob, Tx};
use nightmail_core::Address;
use nightmail_engine::RowKey;
use nightmail_journal::{Event, EventKind};
use nightmail_pace::Settings;
use nightmail_queue::{
    Attempted, Notify, QueueError, QueueMessage, RecipientOutcome, Recorded, Verdict,
    tx::record_attempt,
};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;

use crate::attempt::Job;
use crate::channel::Channel;
use crate::error::DeliveryError;
use crate::flights::Taken;
use crate::options::DoubleBounces;
use crate::report::{ReportChange, Written};
use crate::retry::{AttemptResult, Ended, Judge, Judged};

/// Outcomes recorded in one commit.
const TOGETHER_MAX: usize = 256;
/// Commits under way at once.
const COMMITS_MAX: usize = 4;
/// Outcomes that are recorded each by itself, at once. One that waits for the store to mend has no part in that, so
/// that what cannot be recorded keeps nothing else from it.
const ALONE_MAX: usize = 64;

/// What was decided about a message, to be recorded.
pub(crate) struct Settlement {
    pub job: Job,
    pub taken: Vec<Taken>,
    pub results: Vec<AttemptResult>,
    pub settings: Arc<Settings>,
}

/// What has become of a message.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Settled {
    /// What was decided is recorded, or the message is not in the queue any more.
    Done,
    /// It is not, and does not hold any more: the lease was lost, or somebody has changed the message.
    Outdated,
}

impl Settlement {
    fn finish(self) {
        self.taken.into_iter().for_each(Taken::finish);
    }
}

impl Channel {
    /// Records what comes in until all senders are gone.
    pub(crate) async fn settle_all(self: Arc<Self>, mut incoming: mpsc::Receiver<Settlement>) {
        let (mut running, mut alone) = (JoinSet::new(), JoinSet::new());
        let turns = Arc::new(Semaphore::new(ALONE_MAX));
        let mut batch = Vec::new();
        let mut is_closed = false;
        loop {
            tokio::select! {
                Some(left) = running.join_next() => {
                    for settlement in left.unwrap_or_default() {
                        let (channel, turns) = (Arc::clone(&self), Arc::clone(&turns));
                        alone.spawn(async move {
                            Box::pin(channel.settle_by_itself(settlement, &turns)).await;
                        });
                    }
                }
                Some(_) = alone.join_next() => {}
                count = incoming.recv_many(&mut batch, TOGETHER_MAX),
                    if !is_closed && running.len() < COMMITS_MAX =>
                {
                    is_closed = count == 0;
                    let (channel, batch) = (Arc::clone(&self), std::mem::take(&mut batch));
                    running.spawn(async move { channel.settle_many(batch).await });
                }
                else => return,
            }
        }
    }

    /// Records many outcomes that nobody is told of in one commit. Gives back the others, and those that could not be
    /// recorded: each is to be recorded by itself.
    async fn settle_many(&self, settlements: Vec<Settlement>) -> Vec<Settlement> {
        let (mut plain, mut told) = (Vec::new(), Vec::new());
        for settlement in settlements {
            log_results(&settlement.job, &settlement.results);
            let job = &settlement.job;
            let judged = self.judge(job, &job.message, &settlement.results, &settlement.settings);
            match judged
                .iter()
                .any(|judged| self.is_told(&job.message, judged))
            {
                true => told.push(settlement),
                false => plain.push((settlement, judged)),
            }
        }
        told.extend(self.record_plain(plain).await);
        told
    }

    /// Records outcomes that nobody is told of. Gives back those that could not be.
    async fn record_plain(&self, plain: Vec<(Settlement, Vec<Judged>)>) -> Vec<Settlement> {
        if plain.is_empty() {
            return Vec::new();
        }
        let attempted = plain.iter().map(|(settlement, judged)| Attempted {
            id: settlement.job.id,
            guard: settlement.job.hold.guard().clone(),
            outcomes: judged.iter().map(|judged| judged.outcome.clone()).collect(),
        });
        let recorded = self.queue.record_many(attempted.collect()).await;
        let Ok(recorded) = recorded else {
            return plain
                .into_iter()
                .map(|(settlement, _)| settlement)
                .collect();
        };
        let mut left = Vec::new();
        for ((settlement, judged), recorded) in plain.into_iter().zip(recorded) {
            match recorded {
                Ok(_) => {
                    self.count(&settlement.job, &judged);
                    settlement.finish();
                }
                Err(_) => left.push(settlement),
            }
        }
        left
    }

    async fn settle_by_itself(&self, settlement: Settlement, turns: &Semaphore) {
        let Settlement {
            job,
            results,
            settings,
            ..
        } = &settlement;
        let settled = self.settle_in_turn(job, results.clone(), settings, Some(turns));
        match settled.await {
            Ok(Settled::Done) => settlement.finish(),
            // It is given back, and is tried again where it is still this node's.
            Ok(Settled::Outdated) => {}
            Err(error) => {
                tracing::error!(queue_id = %job.id, %error, "a message in the queue could not be worked on");
            }
        }
    }

    /// Records results until the store has taken them: what a peer has accepted must not be offered again because of
    /// trouble here. Fails only when the channel stops.
    pub(crate) async fn settle(
        &self,
        job: &Job,
        results: Vec<AttemptResult>,
        settings: &Settings,
    ) -> Result<Settled, DeliveryError> {
        self.settle_in_turn(job, results, settings, None).await
    }

    async fn settle_in_turn(
        &self,
        job: &Job,
        mut results: Vec<AttemptResult>,
        settings: &Settings,
        turns: Option<&Semaphore>,
    ) -> Result<Settled, DeliveryError> {
        let mut message = Arc::clone(&job.message);
        loop {
            let turn = match turns {
                Some(turns) => turns.acquire().await.ok(),
                None => None,
            };
            let tried = self.settle_or_update(job, &mut message, &mut results, settings);
            let error = match tried.await {
                Ok(Some(settled)) => return Ok(settled),
                Ok(None) => continue,
                Err(error) => error,
            };
            if self.is_stopping() {
                return Err(error);
            }
            drop(turn);
            tracing::error!(queue_id = %job.id, %error, "an attempt could not be recorded; it is tried again");
            self.pause().await;
        }
    }

    /// Records results; `None` where somebody has retired recipients meanwhile, who are left out of the results then.
    async fn settle_or_update(
        &self,
        job: &Job,
        message: &mut Arc<QueueMessage>,
        results: &mut Vec<AttemptResult>,
        settings: &Settings,
    ) -> Result<Option<Settled>, DeliveryError> {
        let error = match self.settle_once(job, message, results, settings).await {
            Ok(()) => return Ok(Some(Settled::Done)),
            Err(error) => error,
        };
        match error {
            DeliveryError::Queue(QueueError::LeaseLost) => {
                tracing::info!(queue_id = %job.id, "another node has taken the message over");
                metrics::counter!("nightmail_delivery_lease_lost_total").increment(1);
                Ok(Some(Settled::Outdated))
            }
            DeliveryError::Queue(QueueError::NoSuchMessage) => {
                tracing::info!(queue_id = %job.id, "the message was removed while it was being worked on");
                Ok(Some(Settled::Done))
            }
            DeliveryError::Queue(QueueError::AlreadyRetired) => {
                let Some(current) = self.queue.show(job.id).await? else {
                    return Ok(Some(Settled::Done));
                };
                let before = results.len();
                results.retain(|result| is_pending(&current, result.index));
                *message = Arc::new(current);
                match results.len() < before {
                    true => Ok(None),
                    // What has retired them is not to be read yet.
                    false => Err(error),
                }
            }
            error => Err(error),
        }
    }

    fn judge(
        &self,
        job: &Job,
        message: &QueueMessage,
        results: &[AttemptResult],
        settings: &Settings,
    ) -> Vec<Judged> {
        let judge = Judge {
            settings,
            delay_reports_unasked: self.options.delay_reports_unasked,
            random: &self.random,
        };
        let judged = results.iter().filter_map(|result| {
            let recipient = message.recipients.get(result.index)?;
            Some(judge.judge(message, recipient, result))
        });
        let judged: Vec<Judged> = judged.collect();
        debug_assert!(judged.len() == results.len(), "{}", job.id);
        judged
    }

    async fn settle_once(
        &self,
        job: &Job,
        message: &QueueMessage,
        results: &[AttemptResult],
        settings: &Settings,
    ) -> Result<(), DeliveryError> {
        if results.is_empty() {
            return Ok(());
        }
        let judged = self.judge(job, message, results, settings);
        let report = self
            .write_report(job.id, message, &judged, nightmail_commit::now())
            .await?;
        let outcomes: Vec<RecipientOutcome> =
            judged.iter().map(|judged| judged.outcome.clone()).collect();
        match report {
            None => drop(
                self.queue
                    .record_attempt(job.id, job.hold.guard(), outcomes)
                    .await?,
            ),
            Some(report) => self.record_and_report(job, outcomes, report).await?,
        }
        self.count(job, &judged);
        Ok(())
    }

    /// Counts what was recorded, and notes it in the log of events.
    fn count(&self, job: &Job, judged: &[Judged]) {
        let has_journal = self.options.journal.is_on();
        for judged in judged {
            let (counter, kind) = match judged.outcome.verdict {
                Verdict::Delivered => ("nightmail_delivery_delivered_total", EventKind::Sent),
                Verdict::Deferred { .. } => {
                    ("nightmail_delivery_deferred_total", EventKind::Deferred)
                }
                Verdict::Failed => ("nightmail_delivery_failed_total", EventKind::Failed),
                Verdict::Held { .. } => ("nightmail_delivery_held_total", EventKind::Held),
            };
            metrics::counter!(counter).increment(1);
            if has_journal {
                self.note_outcome(job, judged, kind);
            }
        }
    }

    fn note_outcome(&self, job: &Job, judged: &Judged, kind: EventKind) {
        let recipient = job.message.recipients.get(judged.outcome.index);
        let attempt = &judged.attempt;
        let text = attempt.reply.as_ref().unwrap_or(&attempt.diagnostic);
        self.options.journal.note(Event {
            queue_id: Some(job.id),
            sender: sender_of(&job.message),
            recipient: recipient.map(|recipient| recipient.address.to_string()),
            host: attempt.host.clone(),
            status: Some(attempt.status.clone()),
            text: Some(text.clone()),
            ..Event::new(attempt.at, kind)
        });
    }

    /// Records outcomes together with their report: to the sender, else to the postmaster, else without it.
    async fn record_and_report(
        &self,
        job: &Job,
        outcomes: Vec<RecipientOutcome>,
        report: Written,
    ) -> Result<(), DeliveryError> {
        let id = job.id;
        let postmaster = self.options.postmaster.clone().filter(|postmaster| {
            self.options.double_bounces == DoubleBounces::Postmaster && *postmaster != report.to
        });
        for to in std::iter::once(report.to.clone()).chain(postmaster) {
            let require_tls = job.message.demands.require_tls;
            let notify = match self.options.postmaster.as_ref() == Some(&to) {
                true => Notify::Never,
                false => Notify::Unspecified,
            };
            let planned = self
                .reports
                .plan(&to, &report.blob, require_tls, notify)
                .await;
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
                    self.note_report(job, &to);
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

    fn note_report(&self, job: &Job, to: &Address) {
        if self.options.journal.is_on() {
            self.options.journal.note(Event {
                queue_id: Some(job.id),
                sender: sender_of(&job.message),
                recipient: Some(to.to_string()),
                ..Event::new(nightmail_commit::now(), EventKind::Reported)
            });
        }
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
    pub(crate) async fn pause(&self) {
        tokio::select! {
            () = tokio::time::sleep(self.options.limits.store_pause) => {}
            () = self.stopped() => {}
        }
    }
}

fn sender_of(message: &QueueMessage) -> Option<String> {
    let address = message.reverse_path.address();
    Some(address.map(ToString::to_string).unwrap_or_default())
}

fn is_pending(message: &QueueMessage, index: usize) -> bool {
    message
        .recipients
        .get(index)
        .is_some_and(|recipient| recipient.next_attempt().is_some())
}

/// What came of an attempt, for each recipient.
fn log_results(job: &Job, results: &[AttemptResult]) {
    for result in results {
        let outcome = match result.ended {
            Ended::Delivered { .. } => "delivered",
            Ended::Temporary => "not delivered yet",
            Ended::Permanent => "refused",
            Ended::NotNow { .. } => "put off",
            Ended::Held => "held",
            Ended::Dropped => "dropped",
        };
        let Some(recipient) = job.message.recipients.get(result.index) else {
            continue;
        };
        let attempt = &result.attempt;
        tracing::info!(
            queue_id = %job.id,
            from = %job.message.reverse_path,
            to = %recipient.address,
            host = attempt.host.as_deref().unwrap_or_default(),
            status = %attempt.status,
            reply = attempt.reply.as_deref().unwrap_or(&attempt.diagnostic),
            "{outcome}"
        );
    }
}
