//! What is to be accepted, and what accepting it came to.

use bytes::Bytes;
use nightmail_commit::NewBlob;
use nightmail_core::{AccountId, Address, BlobId, ForwardPath, QueueId, ReversePath};
use nightmail_directory::Target;
use nightmail_queue::{BodyType, Demands, Notify, Rank, Ret, Source};
use nightmail_store::Appended;

use crate::plan::{Outcome, QuotaPolicy};

/// A recipient that has been routed: where its copies go.
#[derive(Clone, Debug)]
pub struct Routed {
    pub(crate) path: ForwardPath,
    pub(crate) targets: Vec<Target>,
}

impl Routed {
    /// The forward-path that was routed.
    pub const fn path(&self) -> &ForwardPath {
        &self.path
    }

    /// Where its copies go: at least one place.
    pub fn targets(&self) -> &[Target] {
        &self.targets
    }

    /// Whether any of its copies leaves for another site.
    pub fn is_remote(&self) -> bool {
        let is_remote =
            |target: &Target| matches!(target, Target::Remote(_) | Target::Forwarded { .. });
        self.targets.iter().any(is_remote)
    }
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
    /// Header fields in front of those, for copies to other sites only, each ended by CRLF: signatures and seals.
    pub sealed: Bytes,
    /// Octets that the message grows by when every line ends in CRLF.
    pub missing_line_ends: u64,
    /// What a full mailbox means for the others.
    pub policy: QuotaPolicy,
    /// What the sender asks of the message's way. One that is to be held until later is queued for every recipient.
    pub demands: Demands,
    /// How important it is: the lower, the sooner it goes on to other sites.
    pub precedence: i32,
    /// The strict band in which it goes on; see [`Rank`].
    pub band: u8,
}

impl Envelope {
    /// The envelope of a report on a message that goes over TLS only, or may go otherwise (RFC 8689 §5).
    #[must_use]
    pub fn requiring_tls(mut self, require_tls: bool) -> Self {
        self.demands.require_tls = require_tls;
        self
    }

    /// Whether this was written here, so that nobody is told what becomes of it.
    pub(crate) fn is_report(&self) -> bool {
        self.source == Source::Local && self.reverse_path == ReversePath::Null
    }

    /// The envelope of a report to its addressee: from `<>`, and nobody is told of it.
    pub fn of_report(to: Routed) -> Self {
        let smtputf8 = !to.path.to_string().is_ascii();
        Self {
            reverse_path: ReversePath::Null,
            recipients: vec![EnvelopeRecipient {
                routed: to,
                notify: Notify::Never,
                orcpt: None,
            }],
            source: Source::Local,
            body: BodyType::SevenBit,
            smtputf8,
            ret: None,
            envid: None,
            trace: Bytes::new(),
            sealed: Bytes::new(),
            missing_line_ends: 0,
            policy: QuotaPolicy::Together,
            demands: Demands::default(),
            precedence: 0,
            band: Rank::NORMAL,
        }
    }
}

/// The bytes of a message to be accepted.
#[derive(Clone, Copy)]
pub enum Body<'a> {
    /// Bytes that the accepting intent brings along.
    New(&'a NewBlob),
    /// Bytes that are in the store.
    Stored {
        /// Which.
        blob: BlobId,
        /// How many octets.
        size: u64,
    },
}

impl Body<'_> {
    /// Which bytes they are.
    pub(crate) fn id(&self) -> BlobId {
        match self {
            Self::New(new) => new.blob.id(),
            Self::Stored { blob, .. } => *blob,
        }
    }

    /// Octets.
    pub fn size(&self) -> u64 {
        match self {
            Self::New(new) => new.blob.size(),
            Self::Stored { size, .. } => *size,
        }
    }
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
    /// Who was answered automatically, and on whose behalf.
    pub replied: Vec<(AccountId, Address)>,
}
