//! Messages that are not sent but leave all the same: what was held back and is let go (RFC 4865), and what is given
//! up because the time for its delivery is over (RFC 2852).
//!
//! Letting go is one commit: the recipients leave the held message, and their copies are in mailboxes or in the queue.

use nightmail_commit::{Intent, Tx};
use nightmail_core::Timestamp;
use nightmail_engine::RowKey;
use nightmail_queue::{Attempt, QueueError, QueueMessage, RecipientOutcome, Verdict, tx};

use crate::attempt::Job;
use crate::channel::Channel;
use crate::error::DeliveryError;
use crate::report::{Release, Unroutable};
use crate::retry::{AttemptResult, Ended, TIME_OVER};

impl Channel {
    /// Lets the due recipients of a held message go.
    pub(crate) async fn let_go(&self, job: &Job) -> Result<(), DeliveryError> {
        let due = due_indexes(&job.message, nightmail_commit::now());
        if due.is_empty() {
            return Ok(());
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
                done => done.map(|()| refused)?,
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
        self.settle(job, results.collect()).await
    }

    async fn commit_release(&self, job: &Job, release: Release) -> Result<(), DeliveryError> {
        let Some(mut change) = release.change else {
            return Ok(());
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
                Ok(())
            }
            // Somebody else has seen to it: an operator, or the node that holds the lease now.
            Err(DeliveryError::Queue(
                QueueError::NoSuchMessage | QueueError::AlreadyRetired | QueueError::LeaseLost,
            )) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Gives up the due recipients of a message that is to be returned rather than delivered late.
    pub(crate) async fn give_up_late(&self, job: &Job) -> Result<(), DeliveryError> {
        let now = nightmail_commit::now();
        let due = due_indexes(&job.message, now).into_iter();
        let results = due.map(|index| {
            let last = job.message.recipients.get(index);
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
        });
        self.settle(job, results.collect()).await
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
