//! What goes into a session and what comes out.

use bytes::Bytes;
use nightmail_sasl::{self as sasl, Channel, Question};

/// What the driver hands in.
#[derive(Debug)]
pub enum Input<'a> {
    /// Octets read from the client. Only while [`Session::wants_input`](crate::Session::wants_input) says so.
    Bytes(&'a [u8]),
    /// The answer to the open [`Ask`], or to [`Output::SendMessage`].
    Answer(Answer),
    /// The TLS handshake asked for by [`Output::StartTls`] is done.
    TlsEstablished(Channel),
    /// The time of `poll_timeout` has come.
    Timeout,
    /// The client is gone.
    PeerClosed,
    /// The session is to end as soon as what is under way is done. No messages are removed.
    Shutdown,
}

/// What the driver does for the session, in order.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Octets for the client.
    Send(Bytes),
    /// Open a message; then send `reply` and the message through a [`DotStuffer`](crate::DotStuffer); then answer
    /// [`Answer::Sent`]. Where the message cannot be opened, send nothing and answer [`Answer::Unavailable`].
    /// Where it breaks off, close the connection.
    SendMessage {
        /// Which message.
        index: MessageIndex,
        /// How much of it.
        mode: RetrieveMode,
        /// The status line to send before it.
        reply: Bytes,
    },
    /// A question. The next one comes only after it is answered.
    Ask(Ask),
    /// Begin TLS once everything before is sent; then `TlsEstablished`. Nothing read before counts.
    StartTls,
    /// Close the connection once everything before is sent. Nothing comes after it.
    Close,
}

/// A question to the driver.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Ask {
    /// Who is the client: [`Answer::Authentication`].
    Authenticate(Question),
    /// The client is whom the last [`Answer::Authentication`] accepted: lock its maildrop for this session and list it,
    /// [`Answer::Opened`] or [`Answer::Refused`]. The lock ends with [`Ask::Update`], or else with the connection.
    Open,
    /// Remove messages durably and let go of the maildrop (RFC 1939 §6), so that a client that has read the answer
    /// can log in again at once: [`Answer::Updated`] or [`Answer::UpdateFailed`].
    Update {
        /// The messages to remove, in their order; often none.
        delete: Vec<MessageIndex>,
    },
}

/// What the driver answers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Answer {
    /// Whether the client is who it says, or what the mechanism needs to find out.
    Authentication(sasl::Answer),
    /// This is the client's maildrop.
    Opened(Maildrop),
    /// It cannot be opened.
    Refused(LoginRefusal),
    /// The message was sent whole.
    Sent,
    /// The message could not be opened and nothing was sent.
    Unavailable,
    /// All messages named are removed.
    Updated,
    /// Some messages named are still there.
    UpdateFailed,
}

/// Why there is no login.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LoginRefusal {
    /// Wrong name or password.
    Failed,
    /// Another session holds the maildrop.
    InUse,
    /// The last login was too short a time ago (RFC 2449 §8.1.1).
    TooSoon,
    /// Something is amiss here; later it may work.
    TempFail,
    /// The account may not log in.
    Disabled,
}

/// The messages of a maildrop as they were at login.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Maildrop {
    /// The messages in the order of their numbers.
    pub messages: Vec<MessageEntry>,
    /// How long this account has to wait between logins, in seconds.
    pub login_delay_secs: Option<u32>,
    /// After how many days this account's messages are removed.
    pub expire_days: Option<u32>,
}

/// One message of a maildrop.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageEntry {
    /// Its unique id.
    pub uid: UniqueId,
    /// Its octets as RETR sends it, before dot-stuffing: as [`retrieved_octets`](crate::retrieved_octets) counts.
    pub octets: u64,
}

/// A message's place in [`Maildrop::messages`], from 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct MessageIndex(usize);

impl MessageIndex {
    pub(crate) const fn new(index: usize) -> Self {
        Self(index)
    }

    /// The place, from 0.
    pub const fn get(self) -> usize {
        self.0
    }
}

/// How much of a message is sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RetrieveMode {
    /// All of it (RETR).
    Whole,
    /// The header, the blank line and so many lines of the body (TOP).
    Top(u64),
}

/// A unique id: 1 to 70 visible ASCII characters that name a message for ever (RFC 1939 §7).
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct UniqueId(Box<str>);

impl UniqueId {
    /// A unique id, unless its length or a character is not allowed.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=70).contains(&text.len());
        (fits && text.bytes().all(|byte| byte.is_ascii_graphic())).then(|| Self(text.into()))
    }

    /// The id as UIDL shows it.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}
