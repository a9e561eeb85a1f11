//! A message in the queue and the state of each of its recipients.

use bytes::Bytes;
use nightmail_core::{AccountId, Address, BlobId, ReversePath, Timestamp};

use crate::destination::{Destination, RelayName};
use crate::rank::Rank;

/// Bytes kept of a peer's reply or another diagnostic; what is longer is cut.
pub const DIAGNOSTIC_BYTES_MAX: usize = 1024;

/// How the body may be encoded (RFC 6152, RFC 3030).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum BodyType {
    /// `7BIT`, or not declared.
    #[default]
    SevenBit,
    /// `8BITMIME`.
    EightBitMime,
    /// `BINARYMIME`.
    BinaryMime,
}

/// How much of the message a report returns (RFC 3461 §4.3).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Ret {
    /// The whole message.
    Full,
    /// Only its header.
    Headers,
}

/// When the sender wants to hear of a recipient (RFC 3461 §4.1).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Notify {
    /// No NOTIFY was given: of failures, and of delays where the site reports them.
    Unspecified,
    /// `NEVER`.
    Never,
    /// The conditions named.
    On {
        /// `SUCCESS`
        success: bool,
        /// `FAILURE`
        failure: bool,
        /// `DELAY`
        delay: bool,
    },
}

impl Notify {
    /// Whether a delivery is to be reported.
    pub const fn success(self) -> bool {
        matches!(self, Self::On { success: true, .. })
    }

    /// Whether a failure is to be reported.
    pub const fn failure(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { failure: true, .. })
    }

    /// Whether a delay is to be reported.
    pub const fn delay(self) -> bool {
        matches!(self, Self::Unspecified | Self::On { delay: true, .. })
    }
}

/// Where a message came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Source {
    /// Submitted by an account.
    Submission(AccountId),
    /// Taken in from another site, or forwarded on behalf of a recipient here.
    Relay,
    /// Written here: a report.
    Local,
}

/// By when a message is to be delivered (RFC 2852).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct DeliverBy {
    /// By when.
    pub deadline: Timestamp,
    /// What happens then: the sender is told of the delay and tries go on; otherwise the message is given up.
    pub notify: bool,
    /// Whether the sender is told of every system that passes the message on.
    pub trace: bool,
}

/// What the sender asks of the way that a message takes. By default: nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Demands {
    /// How urgent it is, from -9 to 9 (RFC 6710).
    pub priority: i8,
    /// Whether it goes only over TLS to hosts that prove their names and promise the same (RFC 8689).
    pub require_tls: bool,
    /// Whether it goes although the TLS that the recipient's site promises is not to be had (`TLS-Required: No`,
    /// RFC 8689 §3). Nothing where `require_tls` is set.
    pub tls_optional: bool,
    /// By when it is to be delivered.
    pub deliver_by: Option<DeliverBy>,
    /// Until when it is held back (RFC 4865).
    pub hold_until: Option<Timestamp>,
}

/// What a message that is held back needs when it is let go. It is kept as it came: its recipients are the ones that
/// the sender named, those here among them, and are routed only then.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Unrouted {
    /// Octets at the front of the prefix that are for copies to other sites only.
    pub sealed_octets: u32,
    /// Octets that the message grows by when every line ends in CRLF.
    pub missing_line_ends: u64,
}

/// What became of one attempt.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Attempt {
    /// When it ended.
    pub at: Timestamp,
    /// The host that was reached or tried, if it came to that.
    pub host: Option<String>,
    /// The enhanced status code (RFC 3463), such as `4.4.1`.
    pub status: String,
    /// The peer's reply, in one line.
    pub reply: Option<String>,
    /// What to tell a person where there was no reply.
    pub diagnostic: String,
}

impl Attempt {
    /// An attempt with its texts cut to [`DIAGNOSTIC_BYTES_MAX`].
    pub fn new(
        at: Timestamp,
        host: Option<&str>,
        status: &str,
        reply: Option<&str>,
        diagnostic: &str,
    ) -> Self {
        Self {
            at,
            host: host.map(|host| cut(host).to_owned()),
            status: cut(status).to_owned(),
            reply: reply.map(|reply| cut(reply).to_owned()),
            diagnostic: cut(diagnostic).to_owned(),
        }
    }
}

/// The longest start of `text` that fits and ends at a character.
fn cut(text: &str) -> &str {
    let end = (0..=DIAGNOSTIC_BYTES_MAX.min(text.len()))
        .rev()
        .find(|end| text.is_char_boundary(*end));
    end.and_then(|end| text.get(..end)).unwrap_or_default()
}

/// Where a recipient stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecipientState {
    /// To be tried at `next_attempt`.
    Pending {
        /// When.
        next_attempt: Timestamp,
    },
    /// A peer has taken responsibility.
    Delivered,
    /// Given up; whoever was to be told has been told in the same commit.
    Failed,
}

/// What a pending recipient waits for until its time.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Waiting {
    /// Nothing: it has not been tried.
    #[default]
    Fresh,
    /// Another attempt after one that failed.
    Retry,
    /// The schedule of its destination to open.
    Window,
    /// Somebody to ask for its destination's mail (ETRN, ATRN, or an operator).
    Request,
    /// Nothing: somebody has asked for it, so that neither a schedule nor the lack of a request holds it back.
    Hurried,
}

/// One recipient of a queued message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// The forward-path.
    pub address: Address,
    /// When the sender wants to hear of it.
    pub notify: Notify,
    /// The original recipient, `addr-type;xtext` as it was given (RFC 3461 §4.2).
    pub orcpt: Option<String>,
    /// Where it stands.
    pub state: RecipientState,
    /// Attempts that ended.
    pub attempts: u32,
    /// The last attempt that ended.
    pub last: Option<Attempt>,
    /// Whether a delay has been reported.
    pub delay_reported: bool,
    /// What it waits for, while it is pending.
    pub waiting: Waiting,
    /// The relay that an operator sends it to.
    pub relay: Option<RelayName>,
    /// Why it is held: it is not tried until an operator releases it.
    pub hold: Option<Box<str>>,
}

impl Recipient {
    /// Where its mail goes.
    pub fn destination(&self) -> Destination {
        match &self.relay {
            Some(relay) => Destination::Relay(relay.clone()),
            None => Destination::Domain(self.address.domain().clone()),
        }
    }

    /// When it is to be tried next; `None` once it is retired.
    pub const fn next_attempt(&self) -> Option<Timestamp> {
        match self.state {
            RecipientState::Pending { next_attempt } => Some(next_attempt),
            RecipientState::Delivered | RecipientState::Failed => None,
        }
    }
}

/// A message in the queue.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QueueMessage {
    /// When it was accepted.
    pub created: Timestamp,
    /// Where its reports go.
    pub reverse_path: ReversePath,
    /// Its bytes, without the prefix.
    pub blob: BlobId,
    /// What goes in front of the blob: the trace fields of this hop.
    pub prefix: Bytes,
    /// Octets of the blob.
    pub blob_size: u64,
    /// How its body is encoded.
    pub body: BodyType,
    /// Whether it needs SMTPUTF8 (RFC 6531).
    pub smtputf8: bool,
    /// How much of it a report returns.
    pub ret: Option<Ret>,
    /// The envelope id, in xtext as it was given (RFC 3461 §4.4).
    pub envid: Option<String>,
    /// Where it came from.
    pub source: Source,
    /// Its recipients, retired ones included, in the order they were given.
    pub recipients: Vec<Recipient>,
    /// What the sender asks of its way.
    pub demands: Demands,
    /// For a message that is held back.
    pub unrouted: Option<Unrouted>,
    /// Its place among those that are ready to go.
    pub rank: Rank,
}

impl QueueMessage {
    /// Octets as sent: prefix and blob.
    pub fn size(&self) -> u64 {
        self.blob_size.saturating_add(self.prefix.len() as u64)
    }

    /// The earliest next attempt; `None` once every recipient is retired or held.
    pub fn due(&self) -> Option<Timestamp> {
        self.recipients
            .iter()
            .filter(|recipient| recipient.hold.is_none())
            .filter_map(Recipient::next_attempt)
            .min()
    }

    /// The prefix of copies for accounts here, of a message that is held back.
    pub fn local_prefix(&self) -> Bytes {
        let sealed = self.unrouted.map_or(0, |unrouted| unrouted.sealed_octets);
        let sealed = usize::try_from(sealed).unwrap_or(usize::MAX);
        self.prefix.slice(sealed.min(self.prefix.len())..)
    }

    /// The pending recipients with their places in [`Self::recipients`].
    pub fn pending(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        self.recipients
            .iter()
            .enumerate()
            .filter(|(_, recipient)| recipient.next_attempt().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_diagnostics_are_cut_at_a_character() {
        let attempt = Attempt::new(Timestamp::default(), None, "4.0.0", None, &"é".repeat(600));
        assert_eq!(attempt.diagnostic, "é".repeat(512));
        let attempt = Attempt::new(
            Timestamp::default(),
            None,
            "4.0.0",
            None,
            &format!("a{}", "é".repeat(600)),
        );
        assert_eq!(attempt.diagnostic.len(), 1023);
    }

    #[test]
    fn without_notify_failures_are_reported_and_deliveries_are_not() {
        assert!(Notify::Unspecified.failure() && !Notify::Unspecified.success());
        assert!(!Notify::Never.failure() && !Notify::Never.delay());
        let success_only = Notify::On {
            success: true,
            failure: false,
            delay: false,
        };
        assert!(success_only.success() && !success_only.failure() && !success_only.delay());
    }
}
