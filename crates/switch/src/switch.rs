//! Routing recipients and accepting messages.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use nightmail_commit::{CommitFailure, Intent, NewBlob};
use nightmail_core::{Address, Domain, ForwardPath, Timestamp};
use nightmail_directory::{Directory, Resolution, Target};
use nightmail_engine::BoxFuture;
use nightmail_heap::HeapError;
use nightmail_queue::{Content, NewQueueMessage, NewRecipient, Queue, Unrouted};
use nightmail_store::{MessageReader, Quota, Store};

use crate::copies::{bounds, held_recipients, queue_prefix, stop_circles};
use crate::envelope::{Body, Envelope, Receipt, Routed};
use crate::error::{Refusal, SwitchError};
use crate::grown::Grown;
use crate::notice::{Notice, compose};
use crate::plan::{Plan, PlannedReport, QuotaPolicy};
use crate::report::{header_of, prepare};
use crate::services::{is_plain, needs_structure};

/// How much of a header is returned in a report.
const REPORT_HEADER_OCTETS_MAX: u64 = 64 << 10;

/// Signs what is written here in the name of an account.
pub trait SignReply: Send + Sync {
    /// The header fields to stand in front of `message`, each ended by CRLF; nothing where it is not signed.
    fn sign<'a>(&'a self, author: &'a Address, message: &'a [u8]) -> BoxFuture<'a, Vec<u8>>;
}

/// Routes and accepts. Cheap to clone.
#[derive(Clone)]
pub struct Switch {
    store: Store,
    directory: Directory,
    queue: Arc<Queue>,
    host: Option<Domain>,
    refuses_over_quota: bool,
    grown: Grown,
    signer: Arc<OnceLock<Arc<dyn SignReply>>>,
}

impl Switch {
    /// A switch over mailboxes, directory and queue of one store. It writes nothing itself: no reports, no replies.
    pub fn new(store: Store, directory: Directory, queue: Arc<Queue>) -> Self {
        Self {
            store,
            directory,
            queue,
            host: None,
            refuses_over_quota: false,
            grown: Grown::default(),
            signer: Arc::default(),
        }
    }

    /// The switch, telling senders of a full mailbox that this does not pass, where its account does not say otherwise.
    #[must_use]
    pub fn refusing_over_quota(self, refuses_over_quota: bool) -> Self {
        Self {
            refuses_over_quota,
            ..self
        }
    }

    /// Lets `signer` sign the replies of this switch and its clones. The first one stays.
    pub fn sign_replies(&self, signer: Arc<dyn SignReply>) {
        let _ = self.signer.set(signer);
    }

    pub(crate) fn signer(&self) -> Option<&dyn SignReply> {
        self.signer.get().map(AsRef::as_ref)
    }

    /// The accounts with a bound whose mail has grown.
    pub const fn grown(&self) -> &Grown {
        &self.grown
    }

    pub(crate) const fn store(&self) -> &Store {
        &self.store
    }

    pub(crate) const fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(crate) fn queue(&self) -> &Queue {
        &self.queue
    }

    pub(crate) const fn host(&self) -> Option<&Domain> {
        self.host.as_ref()
    }

    pub(crate) const fn refuses_over_quota(&self) -> bool {
        self.refuses_over_quota
    }

    /// The switch, reporting deliveries to senders who ask for it, answering for people who are away, and breaking messages
    /// apart, in the name of `host`.
    #[must_use]
    pub fn reporting_as(self, host: Domain) -> Self {
        Self {
            host: Some(host),
            ..self
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
        Ok(Ok(Routed {
            path: path.clone(),
            targets,
        }))
    }

    /// Why one of the accounts cannot take `size` octets more.
    async fn full(&self, targets: &[Target], size: u64) -> Result<Option<Refusal>, SwitchError> {
        for target in targets {
            let Target::Account {
                id,
                quota,
                services,
                ..
            } = target
            else {
                continue;
            };
            if quota.bytes.is_some_and(|limit| size > limit) {
                return Ok(Some(Refusal::TooLarge));
            }
            let quota = bounds(*quota);
            if quota != Quota::default() && !quota.allows(&self.store.usage(*id).await?, size, 1) {
                let temporary = !self.refuses(services.as_deref());
                return Ok(Some(Refusal::OverQuota { temporary }));
            }
        }
        Ok(None)
    }

    /// Accepts a message: when this returns, its bytes and every recipient's copy are on stable storage.
    pub async fn accept(&self, envelope: Envelope, blob: NewBlob) -> Result<Receipt, SwitchError> {
        let plan = self.plan(envelope, Body::New(&blob)).await?;
        let queue_id = plan.queue_id();
        let reads = plan.reads();
        let bounded = plan.bounded();
        let blobs = std::iter::once(blob).chain(plan.further_blobs());
        let blobs: Vec<NewBlob> = blobs.collect();
        let intent = Intent::synced(move |tx| plan.apply(tx, Content::New(0), 1)).reading(reads);
        let intent = blobs.into_iter().fold(intent, Intent::with_blob);
        let applied = self
            .store
            .committer()
            .submit(intent)
            .await
            .map_err(SwitchError::from)?;
        self.queue.announce(&applied.queued);
        for account in bounded {
            self.grown.note(account);
        }
        Ok(Receipt {
            outcomes: applied.outcomes,
            queue_id,
            appended: applied.appended,
            replied: applied.replied,
        })
    }

    /// What accepting a message will write; for intents that do more than accept.
    pub async fn plan(&self, envelope: Envelope, body: Body<'_>) -> Result<Plan, SwitchError> {
        let now = nightmail_commit::now();
        let saved = self.plan_saved(&envelope, body).await?;
        if envelope.demands.hold_until.is_some_and(|until| until > now) {
            let plan = self.plan_held(envelope, body).await?;
            return Ok(Plan { saved, ..plan });
        }
        if is_plain(&envelope.recipients) {
            let reports = self.plan_reports(&envelope, body, now).await?;
            let plan = self.plan_copies(envelope, body.size()).await?;
            return Ok(Plan {
                reports,
                saved,
                ..plan
            });
        }
        let plan = Box::pin(self.plan_with_services(envelope, body, now)).await?;
        Ok(Plan { saved, ..plan })
    }

    /// The plan of a message for accounts that want more done with it than to be kept.
    async fn plan_with_services(
        &self,
        mut envelope: Envelope,
        body: Body<'_>,
        now: Timestamp,
    ) -> Result<Plan, SwitchError> {
        let structure = match needs_structure(&envelope) {
            true => Some(self.structure(body).await?),
            false => None,
        };
        let structure = structure.as_ref();
        stop_circles(&mut envelope, structure);
        let reports = self.plan_reports(&envelope, body, now).await?;
        let replies = self.plan_replies(&envelope, body, now).await?;
        let pieces = self.plan_pieces(&envelope, body, structure).await?;
        let plan = self.plan_copies(envelope, body.size()).await?;
        Ok(Plan {
            reports,
            replies,
            pieces,
            ..plan
        })
    }

    /// A message that is held back is queued for every recipient as it was named.
    async fn plan_held(&self, envelope: Envelope, body: Body<'_>) -> Result<Plan, SwitchError> {
        let recipients = envelope
            .recipients
            .iter()
            .flat_map(held_recipients)
            .collect();
        let unrouted = Unrouted {
            sealed_octets: u32::try_from(envelope.sealed.len()).unwrap_or(u32::MAX),
            missing_line_ends: envelope.missing_line_ends,
        };
        let id = self.queue.next_id().await?;
        Ok(Plan {
            copies: Vec::new(),
            saved: None,
            pieces: Vec::new(),
            blob_size: body.size(),
            missing_line_ends: envelope.missing_line_ends,
            policy: envelope.policy,
            copies_of: vec![Vec::new(); envelope.recipients.len()],
            reports: Vec::new(),
            replies: Vec::new(),
            queued: vec![(
                id,
                NewQueueMessage {
                    unrouted: Some(unrouted),
                    ..self.queue_message(envelope, body.size(), recipients)
                },
            )],
        })
    }

    /// The reports on what this message's acceptance delivers here: one, or one for each recipient that has an answer
    /// of its own.
    async fn plan_reports(
        &self,
        envelope: &Envelope,
        body: Body<'_>,
        now: Timestamp,
    ) -> Result<Vec<PlannedReport>, SwitchError> {
        let (Some(host), Some(to)) = (&self.host, envelope.reverse_path.address()) else {
            return Ok(Vec::new());
        };
        let recipients = envelope.recipients.iter().enumerate();
        let notices: Vec<Notice> = recipients
            .filter_map(|(place, recipient)| Notice::about(place, recipient))
            .collect();
        if notices.is_empty() {
            return Ok(Vec::new());
        }
        let header = self.header(envelope, body).await?;
        let size = match envelope.policy {
            QuotaPolicy::Together => notices.len(),
            QuotaPolicy::PerRecipient => 1,
        };
        let mut reports = Vec::new();
        for notices in notices.chunks(size) {
            let id = random_id()?;
            let bytes = compose(host, to, envelope, notices, &header, id, now);
            let blob = prepare(self.store.heap(), to, bytes).await.map_err(heap)?;
            let require_tls = envelope.demands.require_tls;
            let Some(plan) = self.plan_report(to, &blob, require_tls).await? else {
                return Ok(Vec::new());
            };
            let about = notices.iter().map(|notice| notice.recipient).collect();
            reports.push(PlannedReport { about, blob, plan });
        }
        Ok(reports)
    }

    /// The way of a report or a reply to `to`; `None` where there is none.
    pub(crate) async fn plan_report(
        &self,
        to: &Address,
        blob: &NewBlob,
        require_tls: bool,
    ) -> Result<Option<Plan>, SwitchError> {
        let size = blob.blob.size();
        let path = ForwardPath::Address(to.clone());
        match self.route(&path, true, Some(size)).await? {
            Ok(routed) => {
                let envelope = Envelope::of_report(routed).requiring_tls(require_tls);
                Ok(Some(self.plan_copies(envelope, size).await?))
            }
            Err(refusal) => {
                tracing::info!(%to, %refusal, "what was written to a sender cannot be delivered");
                Ok(None)
            }
        }
    }

    pub(crate) fn queue_message(
        &self,
        envelope: Envelope,
        blob_size: u64,
        recipients: Vec<NewRecipient>,
    ) -> NewQueueMessage {
        let handicap_millis = self
            .queue
            .weights()
            .handicap_millis(envelope.precedence, blob_size);
        NewQueueMessage {
            prefix: queue_prefix(&envelope),
            reverse_path: envelope.reverse_path,
            blob_size,
            body: envelope.body,
            smtputf8: envelope.smtputf8,
            ret: envelope.ret,
            envid: envelope.envid,
            source: envelope.source,
            recipients,
            demands: envelope.demands,
            unrouted: None,
            band: envelope.band,
            handicap_millis,
        }
    }

    /// The header of a message with the trace fields of this hop, as far as a report returns it.
    pub(crate) async fn header(
        &self,
        envelope: &Envelope,
        body: Body<'_>,
    ) -> Result<Vec<u8>, SwitchError> {
        let mut head = envelope.trace.to_vec();
        match body {
            Body::New(new) => {
                let blob = new.blob.clone();
                let read = move || blob.read(0..REPORT_HEADER_OCTETS_MAX);
                let read = tokio::task::spawn_blocking(read).await;
                let read = read.map_err(|error| heap(HeapError::Io(error.to_string())))?;
                head.extend_from_slice(&read.map_err(heap)?);
            }
            Body::Stored { blob, .. } => {
                let range = 0..REPORT_HEADER_OCTETS_MAX;
                let mut reader = MessageReader::new(self.store.clone(), &Bytes::new(), blob, range);
                while let Some(chunk) = reader.next_chunk().await? {
                    head.extend_from_slice(&chunk);
                }
            }
        }
        Ok(header_of(head))
    }
}

pub(crate) fn heap(error: HeapError) -> SwitchError {
    SwitchError::Failed(error.into())
}

pub(crate) fn random_id() -> Result<u128, SwitchError> {
    let mut id = [0; 16];
    getrandom::fill(&mut id)
        .map_err(|error| SwitchError::Failed(CommitFailure::Unavailable(error.to_string())))?;
    Ok(u128::from_be_bytes(id))
}
