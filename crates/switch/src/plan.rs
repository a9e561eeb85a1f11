//! A plan: what accepting one message writes. Made outside the intent, applied inside it.

use nightmail_commit::{Abort, NewBlob, Tx};
use nightmail_core::{AccountId, Flags, MailboxId, QueueId};
use nightmail_engine::RowKey;
use nightmail_queue::{Content, Enqueued, NewQueueMessage};
use nightmail_store::{Appended, NewMessage, Quota, StoreError};

use crate::error::{Refusal, SwitchError};

/// One copy for one account.
#[derive(Clone, Debug)]
pub(crate) struct LocalCopy {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub quota: Quota,
    pub prefix: bytes::Bytes,
}

/// What a full mailbox means for the other recipients.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum QuotaPolicy {
    /// Each recipient has its own answer (LMTP).
    PerRecipient,
    /// There is one answer for all: a mailbox that has filled up since RCPT is overrun by this message, unless no
    /// recipient at all could take it (SMTP).
    Together,
}

/// What became of one recipient.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// In its mailbox or in the queue.
    Accepted,
    /// Not accepted.
    Refused(Refusal),
}

/// What accepting a message writes: copies for accounts here, one queue entry for everybody else.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) copies: Vec<LocalCopy>,
    pub(crate) queued: Option<(QueueId, NewQueueMessage)>,
    pub(crate) blob_size: u64,
    pub(crate) missing_line_ends: u64,
    pub(crate) policy: QuotaPolicy,
    /// For each recipient, the copies that it depends on; one that depends on none is queued.
    pub(crate) copies_of: Vec<Vec<usize>>,
    pub(crate) reports: Vec<PlannedReport>,
}

/// A report on recipients of the message, accepted together with it.
#[derive(Clone)]
pub(crate) struct PlannedReport {
    /// The recipients it speaks of: refused, they make it untrue.
    pub about: Vec<usize>,
    pub blob: NewBlob,
    pub plan: Plan,
}

impl std::fmt::Debug for PlannedReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedReport({:?}, {:?})", self.about, self.blob.blob)
    }
}

/// What applying a plan came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// For each recipient of the plan.
    pub outcomes: Vec<Outcome>,
    /// Where each copy went.
    pub appended: Vec<(AccountId, Appended)>,
    /// What was queued, reports included, to be announced to the queue once it is committed.
    pub queued: Enqueued,
}

impl Plan {
    /// The rows an intent that applies this plan reads.
    pub fn reads(&self) -> Vec<RowKey> {
        self.copies
            .iter()
            .flat_map(|copy| nightmail_store::append_reads(copy.account, copy.mailbox))
            .chain(self.reports.iter().flat_map(|report| report.plan.reads()))
            .collect()
    }

    /// The bytes of reports, to be brought along by the intent that applies this plan, next to each other.
    pub fn report_blobs(&self) -> Vec<NewBlob> {
        let blobs = self.reports.iter().map(|report| report.blob.clone());
        blobs.collect()
    }

    /// The entry in the queue, where there is one.
    pub fn queue_id(&self) -> Option<QueueId> {
        self.queued.as_ref().map(|(id, _)| *id)
    }

    /// Writes the copies and the queue entry of `content`, and the reports that go with them, whose blobs the intent
    /// brings along from place `reports_from` on.
    pub fn apply(
        &self,
        tx: &mut Tx<'_>,
        content: Content,
        reports_from: usize,
    ) -> Result<Applied, Abort<SwitchError>> {
        let mut appended = Vec::with_capacity(self.copies.len());
        for copy in &self.copies {
            appended.push(self.put(tx, content, copy, copy.quota)?);
        }
        let somebody = self.queued.is_some() || appended.iter().any(Option::is_some);
        if self.policy == QuotaPolicy::Together && somebody {
            for (copy, done) in self.copies.iter().zip(&mut appended) {
                if done.is_none() {
                    *done = self.put(tx, content, copy, Quota::default())?;
                }
            }
        }
        let mut queued = match &self.queued {
            Some((id, message)) => nightmail_queue::tx::enqueue(tx, *id, content, message)?,
            None => Enqueued::default(),
        };
        let outcomes: Vec<Outcome> = self
            .copies_of
            .iter()
            .map(|copies| outcome(copies, &appended))
            .collect();
        for (place, report) in self.reports.iter().enumerate() {
            let is_accepted = |about: &usize| outcomes.get(*about) == Some(&Outcome::Accepted);
            if report.about.iter().all(is_accepted) {
                let content = Content::New(reports_from + place);
                queued.extend(report.plan.apply(tx, content, 0)?.queued);
            }
        }
        let appended = self
            .copies
            .iter()
            .zip(appended)
            .filter_map(|(copy, done)| Some((copy.account, done?)))
            .collect();
        Ok(Applied {
            outcomes,
            appended,
            queued,
        })
    }

    /// Puts one copy; `None` when it does not fit.
    fn put(
        &self,
        tx: &mut Tx<'_>,
        content: Content,
        copy: &LocalCopy,
        quota: Quota,
    ) -> Result<Option<Appended>, Abort<SwitchError>> {
        let message = NewMessage {
            mailbox: copy.mailbox,
            flags: Flags::EMPTY,
            keywords: Vec::new(),
            internal_date: tx.now(),
            prefix: copy.prefix.clone(),
            blob_size: self.blob_size,
            missing_line_ends: self.missing_line_ends,
        };
        let put = match content {
            Content::New(blob) => nightmail_store::tx::append(tx, quota, blob, &message),
            Content::Stored(blob) => nightmail_store::tx::append_stored(tx, quota, blob, &message),
        };
        match put {
            Ok(appended) => Ok(Some(appended)),
            // The quota is looked at before anything is written.
            Err(Abort::Refused(StoreError::OverQuota)) => Ok(None),
            Err(abort) => Err(abort.map(SwitchError::from)),
        }
    }
}

fn outcome(copies: &[usize], appended: &[Option<Appended>]) -> Outcome {
    let full = copies
        .iter()
        .any(|copy| appended.get(*copy).is_some_and(Option::is_none));
    if full {
        Outcome::Refused(Refusal::OverQuota)
    } else {
        Outcome::Accepted
    }
}
