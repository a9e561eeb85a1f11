//! Routing recipients and accepting messages.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_commit::{Intent, NewBlob};
use nightmail_core::{AccountId, Address, ForwardPath, QueueId, ReversePath};
use nightmail_directory::{Directory, Resolution, Target};
use nightmail_queue::{BodyType, NewQueueMessage, NewRecipient, Notify, Queue, Ret, Source};
use nightmail_store::{Appended, Quota, Store};

use crate::error::{Refusal, SwitchError};
use crate::plan::{LocalCopy, Outcome, Plan, QuotaPolicy};

/// A recipient that has been routed: where its copies go.
#[derive(Clone, Debug)]
pub struct Routed {
    targets: Vec<Target>,
}

/// One recipient of a message to be accepted.
#[derive(Clone, Debug)]
pub struct EnvelopeRecipient {
    /// Where it was routed to.
    pub routed: Routed,
    /// When the sender wants to hear of it.
    pub notify: Notify,
    /// The original recipient, as given.
    pub orcpt: Option<String>,
}

/// The envelope of a message to be accepted.
#[derive(Clone, Debug)]
pub struct Envelope {
    /// Where its reports go.
    pub reverse_path: ReversePath,
    /// At least one recipient.
    pub recipients: Vec<EnvelopeRecipient>,
    /// Where the message came from.
    pub source: Source,
    /// How its body is encoded.
    pub body: BodyType,
    /// Whether it needs SMTPUTF8.
    pub smtputf8: bool,
    /// How much of it a report returns.
    pub ret: Option<Ret>,
    /// The envelope id, as given.
    pub envid: Option<String>,
    /// Header fields that this hop adds for every recipient, each ended by CRLF: Received and what submission mends.
    pub trace: Bytes,
    /// Octets that the message grows by when every line ends in CRLF.
    pub missing_line_ends: u64,
    /// What a full mailbox means for the others.
    pub policy: QuotaPolicy,
}

/// What accepting a message came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// For each recipient of the envelope.
    pub outcomes: Vec<Outcome>,
    /// The entry in the queue, where there is one.
    pub queue_id: Option<QueueId>,
    /// Where each copy went.
    pub appended: Vec<(AccountId, Appended)>,
}

/// Routes and accepts. Cheap to clone.
#[derive(Clone)]
pub struct Switch {
    store: Store,
    directory: Directory,
    queue: Arc<Queue>,
}

impl Switch {
    /// A switch over mailboxes, directory and queue of one store.
    pub const fn new(store: Store, directory: Directory, queue: Arc<Queue>) -> Self {
        Self {
            store,
            directory,
            queue,
        }
    }

    /// Routes a recipient. `relay`: whether mail for domains elsewhere is taken. `size`: octets, where announced.
    pub async fn route(
        &self,
        path: &ForwardPath,
        relay: bool,
        size: Option<u64>,
    ) -> Result<Result<Routed, Refusal>, SwitchError> {
        let resolution = match path {
            ForwardPath::Postmaster => self.directory.resolve_postmaster().await?,
            ForwardPath::Address(address) => self.directory.resolve(address).await?,
        };
        let targets = match (resolution, path) {
            (Resolution::Recipients(targets), _) => targets,
            (Resolution::NotLocal, ForwardPath::Address(address)) if relay => {
                vec![Target::Remote(address.clone())]
            }
            (Resolution::NotLocal, _) => return Ok(Err(Refusal::RelayDenied)),
            (Resolution::UnknownUser, _) => return Ok(Err(Refusal::UnknownUser)),
            (Resolution::Disabled { temporary }, _) => {
                return Ok(Err(Refusal::Disabled { temporary }));
            }
            (Resolution::LoopOrTooMany, _) => return Ok(Err(Refusal::Loop)),
        };
        if let Some(refusal) = self.full(&targets, size.unwrap_or(1)).await? {
            return Ok(Err(refusal));
        }
        Ok(Ok(Routed { targets }))
    }

    /// Why one of the accounts cannot take `size` octets more.
    async fn full(&self, targets: &[Target], size: u64) -> Result<Option<Refusal>, SwitchError> {
        for target in targets {
            let Target::Account { id, quota, .. } = target else {
                continue;
            };
            if quota.bytes.is_some_and(|limit| size > limit) {
                return Ok(Some(Refusal::TooLarge));
            }
            let quota = Quota {
                bytes: quota.bytes,
                messages: quota.messages,
            };
            if quota != Quota::default() && !quota.allows(&self.store.usage(*id).await?, size, 1) {
                return Ok(Some(Refusal::OverQuota));
            }
        }
        Ok(None)
    }

    /// Accepts a message: when this returns, its bytes and every recipient's copy are on stable storage.
    pub async fn accept(&self, envelope: Envelope, blob: NewBlob) -> Result<Receipt, SwitchError> {
        let plan = self.plan(envelope, blob.blob.size()).await?;
        let queue_id = plan.queue_id();
        let reads = plan.reads();
        let intent = Intent::synced(move |tx| plan.apply(tx, 0))
            .with_blob(blob)
            .reading(reads);
        let applied = self
            .store
            .committer()
            .submit(intent)
            .await
            .map_err(SwitchError::from)?;
        Ok(Receipt {
            outcomes: applied.outcomes,
            queue_id,
            appended: applied.appended,
        })
    }

    /// What accepting a message of `blob_size` octets will write; for intents that do more than accept.
    pub async fn plan(&self, envelope: Envelope, blob_size: u64) -> Result<Plan, SwitchError> {
        let mut places: HashMap<AccountId, usize> = HashMap::new();
        let mut copies = Vec::new();
        let mut remote: Vec<NewRecipient> = Vec::new();
        let mut copies_of = Vec::with_capacity(envelope.recipients.len());
        for recipient in &envelope.recipients {
            let mut depends_on = Vec::new();
            for target in &recipient.routed.targets {
                match target {
                    Target::Account {
                        id, address, quota, ..
                    } => {
                        let place = match places.get(id) {
                            Some(place) => *place,
                            None => {
                                let quota = Quota {
                                    bytes: quota.bytes,
                                    messages: quota.messages,
                                };
                                copies.push(self.copy(&envelope, *id, address, quota).await?);
                                places.insert(*id, copies.len() - 1);
                                copies.len() - 1
                            }
                        };
                        depends_on.push(place);
                    }
                    Target::Remote(address) => {
                        if !remote.iter().any(|known| known.address == *address) {
                            remote.push(NewRecipient {
                                address: address.clone(),
                                notify: recipient.notify,
                                orcpt: recipient.orcpt.clone(),
                            });
                        }
                    }
                }
            }
            copies_of.push(depends_on);
        }
        let policy = envelope.policy;
        let missing_line_ends = envelope.missing_line_ends;
        let queued = match remote.is_empty() {
            true => None,
            false => Some((
                self.queue.next_id().await?,
                queue_message(envelope, blob_size, remote),
            )),
        };
        Ok(Plan {
            copies,
            queued,
            blob_size,
            missing_line_ends,
            policy,
            copies_of,
        })
    }

    async fn copy(
        &self,
        envelope: &Envelope,
        account: AccountId,
        address: &Address,
        quota: Quota,
    ) -> Result<LocalCopy, SwitchError> {
        let mailbox = self.store.inbox(account).await?;
        let mut prefix = format!(
            "Return-Path: <{}>\r\nDelivered-To: {address}\r\n",
            envelope.reverse_path
        )
        .into_bytes();
        prefix.extend_from_slice(&envelope.trace);
        Ok(LocalCopy {
            account,
            mailbox,
            quota,
            prefix: prefix.into(),
        })
    }
}

fn queue_message(
    envelope: Envelope,
    blob_size: u64,
    recipients: Vec<NewRecipient>,
) -> NewQueueMessage {
    NewQueueMessage {
        reverse_path: envelope.reverse_path,
        prefix: envelope.trace,
        blob_size,
        body: envelope.body,
        smtputf8: envelope.smtputf8,
        ret: envelope.ret,
        envid: envelope.envid,
        source: envelope.source,
        recipients,
    }
}
