//! A plan: what accepting one message writes. Made outside the intent, applied inside it.

use bytes::Bytes;
use nightmail_commit::{Abort, NewBlob, Tx};
use nightmail_core::{AccountId, Address, Flags, MailboxId, QueueId};
use nightmail_engine::RowKey;
use nightmail_mime::header::fields;
use nightmail_queue::{Content, Enqueued, NewQueueMessage};
use nightmail_store::{Appended, NewMessage, Quota, StoreError};

use crate::apart::Piece;
use crate::error::{Refusal, SwitchError};

/// One copy for one account.
#[derive(Clone, Debug)]
pub(crate) struct LocalCopy {
    pub account: AccountId,
    pub mailbox: MailboxId,
    pub quota: Quota,
    pub prefix: Bytes,
    pub flags: Flags,
    /// As the pieces of the message, where it has been broken apart.
    pub apart: bool,
    /// A full mailbox is told as something that does not pass.
    pub refuses: bool,
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

/// What accepting a message writes: copies for accounts here, an entry in the queue for everybody else, and one for each
/// account that sends it on.
#[derive(Clone, Debug)]
pub struct Plan {
    pub(crate) copies: Vec<LocalCopy>,
    /// The copy among the sent mail of whoever submitted the message.
    pub(crate) saved: Option<LocalCopy>,
    /// What the message was broken into.
    pub(crate) pieces: Vec<Piece>,
    pub(crate) queued: Vec<(QueueId, NewQueueMessage)>,
    pub(crate) blob_size: u64,
    pub(crate) missing_line_ends: u64,
    pub(crate) policy: QuotaPolicy,
    /// For each recipient, the copies that it depends on; one that depends on none is queued.
    pub(crate) copies_of: Vec<Vec<usize>>,
    pub(crate) reports: Vec<PlannedReport>,
    pub(crate) replies: Vec<PlannedReply>,
}

/// A report on recipients of the message, accepted together with it.
#[derive(Clone)]
pub(crate) struct PlannedReport {
    /// The recipients it speaks of: refused, they make it untrue.
    pub about: Vec<usize>,
    pub blob: NewBlob,
    pub plan: Plan,
}

/// An automatic reply, accepted together with the message that it answers.
#[derive(Clone)]
pub(crate) struct PlannedReply {
    /// The recipient on whose behalf it answers.
    pub about: usize,
    pub account: AccountId,
    pub to: Address,
    pub interval_days: u32,
    pub blob: NewBlob,
    pub plan: Plan,
}

impl std::fmt::Debug for PlannedReport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedReport({:?}, {:?})", self.about, self.blob.blob)
    }
}

impl std::fmt::Debug for PlannedReply {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PlannedReply({:?}, {})", self.account, self.to)
    }
}

impl std::fmt::Debug for Piece {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Piece({:?})", self.blob.blob)
    }
}

/// What applying a plan came to.
#[derive(Clone, Debug)]
pub struct Applied {
    /// For each recipient of the plan.
    pub outcomes: Vec<Outcome>,
    /// Where each copy went: of a message that was broken apart, its text.
    pub appended: Vec<(AccountId, Appended)>,
    /// Who was answered, and on whose behalf.
    pub replied: Vec<(AccountId, Address)>,
    /// What was queued, reports and replies included, to be announced to the queue once it is committed.
    pub queued: Enqueued,
}

/// A message that is put into a mailbox: its bytes, their number, and how many they grow by with every line ended by CRLF.
#[derive(Clone, Copy)]
struct Item {
    content: Content,
    octets: u64,
    missing_line_ends: u64,
}

impl Plan {
    /// The rows an intent that applies this plan reads.
    pub fn reads(&self) -> Vec<RowKey> {
        let reports = self.reports.iter().map(|report| &report.plan);
        let replies = self.replies.iter().map(|reply| &reply.plan);
        self.copies
            .iter()
            .chain(&self.saved)
            .flat_map(|copy| nightmail_store::append_reads(copy.account, copy.mailbox))
            .chain(reports.chain(replies).flat_map(Self::reads))
            .collect()
    }

    /// The bytes beyond those of the message, to be brought along by the intent that applies this plan, next to each
    /// other: what the message is broken into, reports and replies.
    pub fn further_blobs(&self) -> Vec<NewBlob> {
        let pieces = self.pieces.iter().map(|piece| piece.blob.clone());
        let reports = self.reports.iter().map(|report| report.blob.clone());
        let replies = self.replies.iter().map(|reply| reply.blob.clone());
        pieces.chain(reports).chain(replies).collect()
    }

    /// The entry in the queue for the recipients elsewhere, where there is one; else that of mail that is sent on.
    pub fn queue_id(&self) -> Option<QueueId> {
        self.queued.first().map(|(id, _)| *id)
    }

    /// The accounts that get a copy and have a bound.
    pub(crate) fn bounded(&self) -> Vec<AccountId> {
        let copies = self.copies.iter().chain(&self.saved);
        copies
            .filter(|copy| copy.quota != Quota::default())
            .map(|copy| copy.account)
            .collect()
    }

    /// Writes the copies and the queue entries of `content`, and what goes with them. The further blobs are brought along
    /// by the intent from place `further_from` on.
    pub fn apply(
        &self,
        tx: &mut Tx<'_>,
        content: Content,
        further_from: usize,
    ) -> Result<Applied, Abort<SwitchError>> {
        let whole = Item {
            content,
            octets: self.blob_size,
            missing_line_ends: self.missing_line_ends,
        };
        let appended = self.put_copies(tx, whole, further_from)?;
        let mut queued = Enqueued::default();
        for (id, message) in &self.queued {
            queued.extend(nightmail_queue::tx::enqueue(tx, *id, content, message)?);
        }
        let outcomes: Vec<Outcome> = self
            .copies_of
            .iter()
            .map(|copies| self.outcome(copies, &appended))
            .collect();
        if let Some(saved) = &self.saved
            && outcomes.contains(&Outcome::Accepted)
        {
            put(tx, &[whole], saved, saved.quota)?;
        }
        let reports_from = further_from + self.pieces.len();
        for (place, report) in self.reports.iter().enumerate() {
            let is_accepted = |about: &usize| outcomes.get(*about) == Some(&Outcome::Accepted);
            if report.about.iter().all(is_accepted) {
                let content = Content::New(reports_from + place);
                queued.extend(report.plan.apply(tx, content, 0)?.queued);
            }
        }
        let replies_from = reports_from + self.reports.len();
        let replied = self.reply(tx, &outcomes, replies_from, &mut queued)?;
        let appended = self
            .copies
            .iter()
            .zip(appended)
            .filter_map(|(copy, done)| Some((copy.account, done?)))
            .collect();
        Ok(Applied {
            outcomes,
            appended,
            replied,
            queued,
        })
    }

    fn put_copies(
        &self,
        tx: &mut Tx<'_>,
        whole: Item,
        pieces_from: usize,
    ) -> Result<Vec<Option<Appended>>, Abort<SwitchError>> {
        let pieces = self.pieces.iter().enumerate().map(|(place, piece)| Item {
            content: Content::New(pieces_from + place),
            octets: piece.blob.blob.size(),
            missing_line_ends: piece.missing_line_ends,
        });
        let pieces: Vec<Item> = pieces.collect();
        let items = |copy: &LocalCopy| match copy.apart && !pieces.is_empty() {
            true => pieces.clone(),
            false => vec![whole],
        };
        let mut appended = Vec::with_capacity(self.copies.len());
        for copy in &self.copies {
            appended.push(put(tx, &items(copy), copy, copy.quota)?);
        }
        let somebody = !self.queued.is_empty() || appended.iter().any(Option::is_some);
        if self.policy == QuotaPolicy::Together && somebody {
            for (copy, done) in self.copies.iter().zip(&mut appended) {
                if done.is_none() {
                    *done = put(tx, &items(copy), copy, Quota::default())?;
                }
            }
        }
        Ok(appended)
    }

    fn reply(
        &self,
        tx: &mut Tx<'_>,
        outcomes: &[Outcome],
        replies_from: usize,
        queued: &mut Enqueued,
    ) -> Result<Vec<(AccountId, Address)>, Abort<SwitchError>> {
        let mut replied = Vec::new();
        for (place, reply) in self.replies.iter().enumerate() {
            if outcomes.get(reply.about) != Some(&Outcome::Accepted) {
                continue;
            }
            let (account, to) = (reply.account, &reply.to);
            let may = nightmail_directory::tx::note_reply(tx, account, to, reply.interval_days);
            if may.map_err(|abort| abort.map(SwitchError::from))? {
                let content = Content::New(replies_from + place);
                queued.extend(reply.plan.apply(tx, content, 0)?.queued);
                replied.push((account, to.clone()));
            }
        }
        Ok(replied)
    }

    fn outcome(&self, copies: &[usize], appended: &[Option<Appended>]) -> Outcome {
        let full = copies
            .iter()
            .find(|copy| appended.get(**copy).is_some_and(Option::is_none));
        match full.and_then(|copy| self.copies.get(*copy)) {
            None => Outcome::Accepted,
            Some(copy) => Outcome::Refused(Refusal::OverQuota {
                temporary: !copy.refuses,
            }),
        }
    }
}

/// Puts one copy, as one message or several; `None` when it does not fit. The first of several is returned.
fn put(
    tx: &mut Tx<'_>,
    items: &[Item],
    copy: &LocalCopy,
    quota: Quota,
) -> Result<Option<Appended>, Abort<SwitchError>> {
    let Some((first, others)) = items.split_first() else {
        return Ok(None);
    };
    // All of them fit or none is put: the first leaves room for the others.
    let prefix = copy.prefix.len() as u64;
    let reserved: u64 = others.iter().map(|item| item.octets + prefix).sum();
    let tight = Quota {
        bytes: quota.bytes.map(|bytes| bytes.saturating_sub(reserved)),
        messages: quota
            .messages
            .map(|messages| messages.saturating_sub(others.len() as u64)),
        ..quota
    };
    let appended = match put_one(tx, *first, copy, copy.prefix.clone(), tight) {
        Ok(appended) => appended,
        // The quota is looked at before anything is written.
        Err(Abort::Refused(StoreError::OverQuota)) => return Ok(None),
        Err(abort) => return Err(abort.map(SwitchError::from)),
    };
    if !others.is_empty() {
        let prefix = without_message_id(&copy.prefix);
        for item in others {
            put_one(tx, *item, copy, prefix.clone(), Quota::default())
                .map_err(|abort| abort.map(SwitchError::from))?;
        }
    }
    Ok(Some(appended))
}

fn put_one(
    tx: &mut Tx<'_>,
    item: Item,
    copy: &LocalCopy,
    prefix: Bytes,
    quota: Quota,
) -> Result<Appended, Abort<StoreError>> {
    let message = NewMessage {
        mailbox: copy.mailbox,
        flags: copy.flags,
        keywords: Vec::new(),
        internal_date: tx.now(),
        prefix,
        blob_size: item.octets,
        missing_line_ends: item.missing_line_ends,
    };
    match item.content {
        Content::New(blob) => nightmail_store::tx::append(tx, quota, blob, &message),
        Content::Stored(blob) => nightmail_store::tx::append_stored(tx, quota, blob, &message),
    }
}

/// What a submission lacked and was given is the text's; an attachment has an id of its own.
fn without_message_id(prefix: &[u8]) -> Bytes {
    let kept = fields(prefix).filter(|field| !field.is("Message-ID"));
    kept.flat_map(|field| field.raw).copied().collect()
}
