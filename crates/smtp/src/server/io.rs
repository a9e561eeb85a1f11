//! What passes between a session and its driver.

use bytes::Bytes;

use nightmail_core::Domain;

use super::config::Role;
use super::recipients::Recipients;
use crate::command::{BodyType, EtrnTarget, HelloName, Mail, Rcpt, XAttribute};
use crate::reply::Reply;
use crate::sasl;
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
    /// The session is over and its connection goes on the other way round, after sending all before this: this host is
    /// the client now, and the octets are what the peer has sent already. Nothing follows.
    TurnAround(Bytes),
    /// Close the connection, after sending all before this. Nothing follows.
    Close,
}

/// A question for the driver. [`Answer::Reject`] fits every one.
#[derive(Debug, PartialEq, Eq)]
pub enum Ask {
    /// May this client have a session? Comes first of all, before the greeting, and again after XCLIENT.
    /// [`Answer::Accept`] or [`Answer::Welcome`] greets; the reply of [`Answer::Reject`] takes the greeting's place, and
    /// the connection is closed. The driver may take its time and hand in what comes meanwhile:
    /// [`super::Server::has_spoken_early`].
    Connect,
    /// May it go on under this name? [`Answer::Accept`].
    Hello(Hello),
    /// A question of a SASL exchange. [`Answer::Authentication`].
    Authenticate(sasl::Question),
    /// May this sender start a transaction? [`Answer::Accept`], or [`Answer::Reply`] to say more than the usual.
    Mail(Mail),
    /// Is this recipient taken? [`Answer::Accept`], or [`Answer::Reply`] to say more than the usual. The sender is in
    /// [`super::Server::envelope`].
    Recipient(Rcpt),
    /// Content follows: make room for it. [`Answer::Accept`]. All recipients are in
    /// [`super::Server::envelope`].
    BeginMessage,
    /// The content is whole: make the message safe. [`Answer::Accept`] or [`Answer::Accepted`] only once it
    /// is on stable storage; [`Answer::PerRecipient`] under LMTP.
    EndOfMessage(Box<EndOfMessage>),
    /// Is this text of VRFY a mailbox? [`Answer::Verified`].
    Verify(Box<str>),
    /// ETRN: send what waits for this target. [`Answer::Reply`] with one of the replies of [`crate::replies`] for it.
    Etrn(EtrnTarget),
    /// ATRN: may the peer have the mail for these domains, or for all that are its own where none is named?
    /// [`Answer::Accept`] turns the connection; [`crate::replies`] has the refusals.
    Atrn(Vec<Domain>),
    /// A proxy says who the client is: take that from now on for the truth. [`Answer::Accept`]; the session then starts
    /// over with [`Ask::Connect`], with HELO for its name and LOGIN for its identity where they were given.
    Xclient(Vec<XAttribute>),
    /// A filter says where the next messages come from; later attributes add to earlier ones. [`Answer::Accept`].
    Xforward(Vec<XAttribute>),
}

/// An answer. One that does not fit the question counts as a local failure: 451 4.3.0.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Yes, with the usual reply.
    Accept,
    /// No, or not now: a reply of 4yz or 5yz. 421 also closes.
    Reject(Reply),
    /// The session may go on as told.
    Welcome(Welcome),
    /// The answer to a question of a SASL exchange.
    Authentication(sasl::Answer),
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
    /// The reply to ETRN, of any code but 3yz; for MAIL, RCPT and a message, one of 2yz in place of the usual.
    Reply(Reply),
}

/// What a client may do beyond the usual.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Welcome {
    /// It may use XCLIENT.
    pub xclient: bool,
    /// It may use XFORWARD.
    pub xforward: bool,
}

/// Sender and recipients of a transaction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Envelope {
    /// The reverse-path and the parameters of MAIL.
    pub mail: Mail,
    /// The accepted recipients with the parameters of RCPT, in the order given.
    pub recipients: Recipients,
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
    /// The peer has spoken before the greeting.
    pub early_talker: bool,
    /// The peer has sent commands ahead before the reply to EHLO had allowed it, or after HELO, which does not.
    pub pipelined_early: bool,
}

impl Facts {
    pub(super) const fn new(role: Role, tls: Option<TlsFacts>) -> Self {
        Self {
            role,
            hello: None,
            tls,
            identity: None,
            early_talker: false,
            pipelined_early: false,
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
