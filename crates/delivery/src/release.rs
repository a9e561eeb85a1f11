//! Messages that are not sent but leave all the same: what was held back and is let go (RFC 4865), and what is given
//! up because the time for its delivery is over (RFC 2852).
//!
//! Letting go is one commit: the recipients leave the held message, and their copies are in mailboxes or in the queue.

use std::sync::Arc;

use nightmail_commit::{Intent, Tx};
use nightmail_core::Timestamp;
use nightmail_engine::RowKey;
use nightmail_queue::{
    Attempt, Destination, QueueError, QueueMessage, RecipientOutcome, Ticket, Verdict, tx,
};

use crate::attempt::Job;
use crate::channel::Channel;
use crate::error::DeliveryError;
use crate::report::{Release, Unroutable};
use crate::retry::{AttemptResult, Ended, TIME_OVER, is_time_over};
use crate::settle::Settled;

impl Channel {
    /// Lets the due recipients of a held message go.
    async fn let_go(&self, job: &Job) -> Result<Settled, DeliveryError> {
        let due = due_indexes(&job.message, nightmail_commit::now());
        if due.is_empty() {
            return Ok(Settled::Done);
        }
        let planned = self.reports.release(&job.message, &due).await;
        let (release, refused) = match planned {
            Ok(release) => {
                let refused = release.refused.clone();
                (Some(release), refused)
            }
            Err(DeliveryError::Unroutable(text)) => (None, all_refused(&due, &text)),
            Err(error) => return Err(error),
        };
        let refused = match release {
            Some(release) => match self.commit_release(job, release).await {
                Err(DeliveryError::Unroutable(text)) => all_refused(&due, &text),
                Ok(Settled::Outdated) => return Ok(Settled::Outdated),
                done => done.map(|_| refused)?,
            },
            None => refused,
        };
        let at = nightmail_commit::now();
        let results = refused.into_iter().map(|(index, why)| AttemptResult {
            index,
            ended: match why.permanent {
                true => Ended::Permanent,
                false => Ended::Temporary,
            },
            attempt: Attempt::new(at, None, &why.status, None, &why.text),
        });
        let settings = self.options.policies.default_settings();
        self.settle(job, results.collect(), settings).await
    }

    async fn commit_release(&self, job: &Job, release: Release) -> Result<Settled, DeliveryError> {
        let Some(mut change) = release.change else {
            return Ok(Settled::Done);
        };
        let outcomes: Vec<RecipientOutcome> =
            release.accepted.iter().copied().map(let_go_now).collect();
        let (id, guard) = (job.id, job.hold.guard().clone());
        let reads: Vec<RowKey> = guard.row().cloned().into_iter().collect();
        let intent = Intent::synced(move |tx: &mut Tx<'_>| {
            tx::record_attempt::<DeliveryError>(tx, id, &guard, &outcomes)?;
            change(tx)
        });
        let intent = release.blobs.into_iter().fold(intent, Intent::with_blob);
        let committed = self.queue.committer().submit(intent.reading(reads)).await;
        match committed.map_err(DeliveryError::from) {
            Ok(()) => {
                tracing::info!(queue_id = %job.id, "a message that was held back is let go");
                metrics::counter!("nightmail_delivery_released_total").increment(1);
                Ok(Settled::Done)
            }
            Err(DeliveryError::Queue(QueueError::NoSuchMessage)) => Ok(Settled::Done),
            // An operator has seen to some of it, or another node holds the lease now.
            Err(DeliveryError::Queue(QueueError::AlreadyRetired | QueueError::LeaseLost)) => {
                Ok(Settled::Outdated)
            }
            Err(error) => Err(error),
        }
    }

    /// Lets the held messages go that are due, until none is left.
    pub(crate) async fn let_all_go(self: Arc<Self>) {
        let limit = self.options.limits.batch_max.max(1);
        while !self.is_stopping() {
            let now = nightmail_commit::now();
            let taken = self
                .queue
                .take(&Destination::Unrouted, now, limit, true, true);
            match taken.await {
                Ok(tickets) if tickets.is_empty() => return,
                Ok(tickets) => {
                    for ticket in tickets {
                        self.let_one_go(ticket).await;
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "the queue could not be read; it is tried again");
                    self.pause().await;
                }
            }
        }
    }

    async fn let_one_go(&self, mut ticket: Ticket) {
        let id = ticket.id();
        let done = async {
            let Some(message) = self.queue.load(&[id]).await?.pop().flatten() else {
                return Ok(Settled::Done);
            };
            let job = Job {
                id,
                message: Arc::new(message),
                hold: ticket.hold().clone(),
            };
            match is_time_over(&job.message, nightmail_commit::now()) {
                true => self.give_up_late(&job).await,
                false => self.let_go(&job).await,
            }
        };
        match done.await {
            Ok(Settled::Done) => ticket.set_due(None),
            // It is given back, and is looked at again where it is still this node's.
            Ok(Settled::Outdated) => {}
            Err(error) => {
                tracing::error!(queue_id = %id, %error, "a message that was held back could not be let go");
                self.pause().await;
            }
        }
    }

    /// Gives up the due recipients of a held message that is to be returned rather than delivered late.
    async fn give_up_late(&self, job: &Job) -> Result<Settled, DeliveryError> {
        let now = nightmail_commit::now();
        let due = due_indexes(&job.message, now).into_iter();
        let results = due.map(|index| late_result(&job.message, index, now));
        let settings = self.options.policies.default_settings();
        self.settle(job, results.collect(), settings).await
    }
}

/// The end of a recipient that is to be given up rather than delivered late.
pub(crate) fn late_result(message: &QueueMessage, index: usize, now: Timestamp) -> AttemptResult {
    let last = message.recipients.get(index);
    let last = last.and_then(|recipient| recipient.last.as_ref());
    let before = last.map(|last| last.reply.as_ref().unwrap_or(&last.diagnostic));
    let text = match before {
        Some(before) => format!("the time given for delivery is over; before: {before}"),
        None => "the time given for delivery is over".to_owned(),
    };
    AttemptResult {
        index,
        ended: Ended::Permanent,
        attempt: Attempt::new(now, None, TIME_OVER, None, &text),
    }
}

fn due_indexes(message: &QueueMessage, now: Timestamp) -> Vec<usize> {
    let due = crate::route::due_recipients(message, now);
    due.map(|(index, _)| index).collect()
}

fn let_go_now(index: usize) -> RecipientOutcome {
    RecipientOutcome {
        index,
        verdict: Verdict::Delivered,
        attempt: None,
    }
}

/// Nobody can be routed now.
fn all_refused(due: &[usize], text: &str) -> Vec<(usize, Unroutable)> {
    let refused = |index: &usize| {
        let why = Unroutable {
            permanent: false,
            status: "4.3.0".into(),
            text: text.to_owned(),
        };
        (*index, why)
    };
    due.iter().map(refused).collect()
}
