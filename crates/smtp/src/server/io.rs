//! What passes between a session and its driver.

use bytes::Bytes;

use super::config::Role;
use crate::command::{BodyType, HelloName, Mail, Rcpt};
use crate::reply::Reply;
use crate::sasl::Credentials;
use crate::tls::TlsFacts;

/// What happens to a session.
#[derive(Debug)]
pub enum Input<'a> {
    /// The peer sent bytes (under TLS: decrypted).
    Bytes(&'a [u8]),
    /// The answer to the outstanding [`Ask`].
    Answer(Answer),
    /// The handshake asked for by [`Output::StartTls`] is done.
    TlsEstablished(TlsFacts),
    /// The time of [`super::Server::poll_timeout`] has come.
    Timeout,
    /// The peer sends no more. What it sent before is still worked off.
    PeerClosed,
    /// The server stops: a message under way is finished, then 421; otherwise 421 at once.
    Shutdown,
}

/// What the driver does, in order.
#[derive(Debug, PartialEq, Eq)]
pub enum Output {
    /// Send these bytes.
    Send(Bytes),
    /// Message content, without dot-stuffing, for the message that [`Ask::BeginMessage`] opened.
    Body(Bytes),
    /// Forget the message that [`Ask::BeginMessage`] opened: it was cut off, refused or taken back.
    DiscardBody,
    /// Answer this with [`Input::Answer`]. No other question comes before.
    Ask(Ask),
    /// Do a TLS handshake, after sending all before this. Bytes read already are not part of it: drop them.
    StartTls,
    /// Close the connection, after sending all before this. Nothing follows.
    Close,
}

/// A question for the driver. [`Answer::Reject`] fits every one.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask {
    /// Are these credentials right? [`Answer::Authenticated`].
    Authenticate(Credentials),
    /// May this sender start a transaction? [`Answer::Accept`].
    Mail(Mail),
    /// Is this recipient taken? [`Answer::Accept`]. The sender is in [`super::Server::envelope`].
    Recipient(Rcpt),
    /// Content follows: make room for it. [`Answer::Accept`]. All recipients are in
    /// [`super::Server::envelope`].
    BeginMessage,
    /// The content is whole: make the message safe. [`Answer::Accept`] or [`Answer::Accepted`] only once it
    /// is on stable storage; [`Answer::PerRecipient`] under LMTP.
    EndOfMessage(Box<EndOfMessage>),
    /// Is this text of VRFY a mailbox? [`Answer::Verified`].
    Verify(Box<str>),
}

/// An answer. One that does not fit the question counts as a local failure: 451 4.3.0.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with the usual reply.
    Accept,
    /// No, or not now: a reply of 4yz or 5yz. 421 also closes.
    Reject(Reply),
    /// The credentials are right.
    Authenticated {
        /// Whom the peer now acts as.
        identity: Box<str>,
    },
    /// The message is on stable storage.
    Accepted {
        /// Its id, as the reply shows it.
        id: Box<str>,
    },
    /// LMTP: what became of the message for each accepted recipient, in their order. A missing one is told
    /// 451 4.3.0.
    PerRecipient(Vec<Reply>),
    /// The reply to VRFY, of any code.
    Verified(Reply),
}

/// Sender and recipients of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path and the parameters of MAIL.
    pub mail: Mail,
    /// The accepted recipients with the parameters of RCPT, in the order given.
    pub recipients: Vec<Rcpt>,
}

/// A whole message has been received.
#[derive(Debug, PartialEq, Eq)]
pub struct EndOfMessage {
    /// Whom it is from and for.
    pub envelope: Envelope,
    /// Octets of content given out as [`Output::Body`].
    pub octets: u64,
    /// What is known of the peer.
    pub facts: Facts,
}

impl EndOfMessage {
    /// The protocol for the `with` clause of `Received:`.
    pub const fn with_protocol(&self) -> &'static str {
        self.facts.with_protocol(self.envelope.mail.params.smtputf8)
    }

    /// What octets the content has.
    pub const fn body_type(&self) -> BodyType {
        self.envelope.mail.params.body
    }
}

/// The peer's greeting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// The name it gave; not checked.
    pub name: HelloName,
    /// Whether it was EHLO or LHLO, not HELO.
    pub extended: bool,
}

/// What is known of the peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Whom the session serves.
    pub role: Role,
    /// The last EHLO, HELO or LHLO since the start or since STARTTLS.
    pub hello: Option<Hello>,
    /// TLS, where active.
    pub tls: Option<TlsFacts>,
    /// Whom the peer has authenticated as.
    pub identity: Option<Box<str>>,
}

impl Facts {
    pub(super) const fn new(role: Role, tls: Option<TlsFacts>) -> Self {
        Self {
            role,
            hello: None,
            tls,
            identity: None,
        }
    }

    /// The protocol for the `with` clause of `Received:` (RFC 3848, RFC 6531 §4.3).
    pub const fn with_protocol(&self, smtputf8: bool) -> &'static str {
        let lmtp = matches!(self.role, Role::Lmtp);
        let extended = matches!(&self.hello, Some(Hello { extended: true, .. }));
        match (lmtp, smtputf8, self.tls.is_some(), self.identity.is_some()) {
            (true, false, false, false) => "LMTP",
            (true, false, true, false) => "LMTPS",
            (true, false, false, true) => "LMTPA",
            (true, false, true, true) => "LMTPSA",
            (true, true, false, false) => "UTF8LMTP",
            (true, true, true, false) => "UTF8LMTPS",
            (true, true, false, true) => "UTF8LMTPA",
            (true, true, true, true) => "UTF8LMTPSA",
            (false, true, false, false) => "UTF8SMTP",
            (false, true, true, false) => "UTF8SMTPS",
            (false, true, false, true) => "UTF8SMTPA",
            (false, true, true, true) => "UTF8SMTPSA",
            (false, false, true, false) => "ESMTPS",
            (false, false, false, true) => "ESMTPA",
            (false, false, true, true) => "ESMTPSA",
            (false, false, false, false) if extended => "ESMTP",
            (false, false, false, false) => "SMTP",
        }
    }
}
