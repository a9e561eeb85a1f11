//! What passes between a sending session and its driver.

use bytes::Bytes;
use nightmail_core::{Address, ForwardPath, ReversePath};

use crate::command::{MailParams, RcptParams};
use crate::replies;
use crate::reply::{Reply, ReplyError};
use crate::tls::TlsFacts;

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The server sent bytes (under TLS: decrypted).
    Bytes(&'a [u8]),
    /// A message to deliver. Best given after [`Output::Ready`]; one given earlier waits.
    Deliver(Box<Delivery>),
    /// The next chunk of content, asked for by [`Output::WantBody`]: CRLF lines, not dot-stuffed.
    Body(Bytes),
    /// The content is whole; also an answer to [`Output::WantBody`].
    BodyEnd,
    /// The content cannot be read: the connection is dropped, so that nobody takes a part for the whole.
    BodyFailed,
    /// The handshake asked for by [`Output::StartTls`] is done.
    TlsEstablished(TlsFacts),
    /// It failed; the connection is of no more use.
    TlsFailed,
    /// The time of [`super::Client::poll_timeout`] has come.
    Timeout,
    /// The server sends no more.
    PeerClosed,
    /// No more deliveries: QUIT, after the one under way.
    Quit,
}

/// What the driver does, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Bytes),
    /// Do a TLS handshake, after sending all before this. Bytes read already are not part of it: drop them.
    StartTls,
    /// The session can take a delivery.
    Ready,
    /// Give the next chunk of content, or its end.
    WantBody,
    /// What became of the delivery.
    Done(Outcome),
    /// The session failed; [`Output::Close`] follows.
    Failed(Failure),
    /// Close the connection, after sending all before this. Nothing follows but the outcome of a delivery
    /// given later.
    Close,
}

/// A message and whom to deliver it to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    /// Where notices go.
    pub reverse_path: ReversePath,
    /// The parameters of MAIL as known; only those that the server offers are sent. `size` counts octets
    /// before dot-stuffing.
    pub params: MailParams,
    /// To whom, in the order of [`Outcome::recipients`].
    pub recipients: Vec<Recipient>,
    /// The whole content in pieces, where it is small and at hand: at most 64 KiB or so. Where there is none,
    /// [`Output::WantBody`] asks for it. CRLF lines, not dot-stuffed.
    pub content: Vec<Bytes>,
}

/// One recipient of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// The recipient.
    pub forward_path: ForwardPath,
    /// The parameters of RCPT; only those that the server offers are sent.
    pub params: RcptParams,
}

impl Delivery {
    /// Whether it goes nowhere without the promise of TLS: a report goes on all the same (RFC 8689 §5).
    pub(super) fn insists_on_tls(&self) -> bool {
        self.params.require_tls && self.reverse_path != ReversePath::Null
    }

    /// Whether it fits an SMTPUTF8 transaction only.
    pub(super) fn needs_utf8(&self) -> bool {
        let ascii = self.has_ascii_sender() && self.recipients.iter().all(Recipient::is_ascii);
        self.params.smtputf8 || !ascii
    }

    pub(super) fn has_ascii_sender(&self) -> bool {
        self.reverse_path.address().is_none_or(Address::is_ascii)
    }
}

impl Recipient {
    pub(super) fn is_ascii(&self) -> bool {
        match &self.forward_path {
            ForwardPath::Address(address) => address.is_ascii(),
            ForwardPath::Postmaster => true,
        }
    }
}

/// What became of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// One for each recipient, in their order.
    pub recipients: Vec<Fate>,
    /// The connection was lost after the end of the content had been sent and before all replies had come: whoever is
    /// refused at [`Stage::Connection`] may have got the message.
    pub in_doubt: bool,
}

/// What became of a recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server has taken responsibility, with this reply.
    Delivered(Reply),
    /// Worth trying again.
    Temporary(Refusal),
    /// Not worth trying again.
    Permanent(Refusal),
}

/// Why a recipient was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The server's reply, or our own for [`Stage::Local`] and for a connection lost without a word.
    pub reply: Reply,
    /// What the reply was to.
    pub stage: Stage,
}

/// The point at which a recipient was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Stage {
    /// Before anything was sent: the server lacks what the message needs.
    Local,
    /// The connection as a whole.
    Connection,
    /// MAIL.
    Mail,
    /// RCPT.
    Recipient,
    /// DATA.
    Data,
    /// The end of data, or within data.
    Content,
}

impl Fate {
    /// 4yz is temporary, 5yz permanent; anything else that is no success is temporary.
    pub(super) fn refused(reply: Reply, stage: Stage) -> Self {
        match reply.is_permanent() {
            true => Self::Permanent(Refusal { reply, stage }),
            false => Self::Temporary(Refusal { reply, stage }),
        }
    }

    /// What a reply to the end of data means.
    pub(super) fn at_end(reply: Reply) -> Self {
        match reply.is_success() {
            true => Self::Delivered(reply),
            false => Self::refused(reply, Stage::Content),
        }
    }

    /// Temporary, whatever the reply: another connection may do better.
    pub(super) fn connection_lost(reply: Option<Reply>) -> Self {
        Self::Temporary(Refusal {
            reply: reply.unwrap_or(replies::CONNECTION_LOST),
            stage: Stage::Connection,
        })
    }
}

/// Why a session failed. Whether another host may do better is the driver's judgement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// At what.
    pub kind: FailureKind,
    /// The server's reply, where there was one.
    pub reply: Option<Reply>,
}

/// At what a session failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The greeting was a refusal.
    Greeting,
    /// EHLO, and HELO where tried, was refused.
    Hello,
    /// TLS is required and not offered, or STARTTLS was refused.
    TlsUnavailable,
    /// The TLS handshake failed.
    TlsFailed,
    /// AUTH is needed and not offered, or not without TLS.
    AuthUnavailable,
    /// AUTH was refused.
    AuthRefused,
    /// The server was silent for too long.
    TimedOut,
    /// The server closed the connection, or said 421.
    ClosedByPeer,
    /// What the server sent is not a reply.
    Malformed(ReplyError),
    /// The server's reply does not fit what it is for.
    Unexpected,
    /// The driver could not read the content.
    BodyFailed,
}

impl FailureKind {
    /// Whether every command has had its reply, so that the next one would have its own.
    pub(super) const fn leaves_in_step(self) -> bool {
        matches!(
            self,
            Self::Greeting
                | Self::Hello
                | Self::TlsUnavailable
                | Self::AuthUnavailable
                | Self::AuthRefused
        )
    }
}
