//! What goes into a session and what comes out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{ModSeq, Timestamp, Uid, UidValidity};
use nightmail_sasl::{self as sasl, Channel, Question};

use crate::command::fetch::FetchPlan;
use crate::command::search::SearchKey;
use crate::command::status::StatusItem;
use crate::command::store::FlagChange;
use crate::flag::{FlagList, Keyword};
use crate::name::MailboxName;
use crate::refusal::Refusal;
use crate::set::UidSet;

/// What the driver hands in.
#[derive(Debug)]
pub enum Input<'a> {
    /// Octets read from the client. Only while [`Session::wants_input`](crate::Session::wants_input) says so.
    Bytes(&'a [u8]),
    /// The answer to the open question, or one more part of it.
    Answer(Answer),
    /// News of the selected mailbox, at any time after `Selected`. Where the session's own command made the change,
    /// this comes before the answer that ends the command, so that the client is told in order.
    Update(MailboxUpdate),
    /// The TLS handshake asked for by [`Output::StartTls`] is done.
    TlsEstablished(Channel),
    /// The time of `poll_timeout` has come.
    Timeout,
    /// The client is gone. An unfinished APPEND is to be dropped.
    PeerClosed,
    /// The session is to end.
    Shutdown(Farewell),
}

/// Why the server ends a session.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Farewell {
    /// The program stops or restarts.
    ServerStops,
    /// The selected mailbox was deleted, or its UIDVALIDITY changed.
    MailboxGone,
    /// An operator ended it, or the account is no more.
    Operator,
}

/// What the driver does for the session, in order.
#[derive(Debug)]
pub enum Output {
    /// Octets for the client.
    Send(Bytes),
    /// A part of a message body for the client. The length was already announced: exactly it must follow, or the
    /// connection must be closed.
    SendBlob(BlobRange),
    /// The next octets of the message of the APPEND that [`Ask::AppendBegin`] opened.
    Body(Bytes),
    /// The APPEND is off: drop what was received of the message. No answer is given.
    AbortBody,
    /// A question. The next one comes only after it is answered.
    Ask(Ask),
    /// Begin TLS once everything before is sent; then `TlsEstablished`. Nothing read before counts.
    StartTls,
    /// Whether the client waits for news (RFC 2177): push updates as they happen while `true`.
    Idle(bool),
    /// What the client said about itself (RFC 2971), for the log.
    ClientId(Vec<(String, Option<String>)>),
    /// Close the connection once everything before is sent. Nothing comes after it.
    Close,
}

/// A question to the driver. Each names the answers that fit; [`Answer::Refused`] fits all.
#[derive(Debug)]
pub enum Ask {
    /// Who is the client: `Authentication`.
    Authenticate(Question),
    /// Leave the selected mailbox, if any, and open another: `Selected`.
    Select {
        /// Which.
        mailbox: MailboxName,
        /// EXAMINE: nothing may change, `\Recent` stays.
        read_only: bool,
    },
    /// Leave the selected mailbox: `Done`. No update may follow.
    Close {
        /// Whether messages marked `\Deleted` are removed first, without telling.
        expunge: bool,
    },
    /// Push what is new in the selected mailbox as an update, then `Done`.
    Refresh {
        /// CHECK: make flags durable as well.
        checkpoint: bool,
    },
    /// All mailboxes and subscriptions: `Mailboxes`.
    Mailboxes,
    /// Counts of a mailbox: `Status`.
    Status {
        /// Which.
        mailbox: MailboxName,
        /// The fields of [`StatusData`] that are looked at.
        items: Vec<StatusItem>,
    },
    /// Make a mailbox and what is missing above it: `Done`.
    Create(MailboxName),
    /// Delete a mailbox, never INBOX: `Done`.
    Delete(MailboxName),
    /// Rename a mailbox and all below it; renaming INBOX moves its messages (RFC 3501 §6.3.5): `Done`.
    Rename {
        /// The old name.
        from: MailboxName,
        /// The new name.
        to: MailboxName,
    },
    /// Add a name to the subscriptions: `Done`.
    Subscribe(MailboxName),
    /// Take a name off the subscriptions: `Done`.
    Unsubscribe(MailboxName),
    /// May this message come: `AppendReady`; then `Body` chunks follow, then `AppendFinish` or `AbortBody`.
    AppendBegin(AppendBegin),
    /// All of the message was given; make it durable: `Appended`.
    AppendFinish,
    /// Give messages, ascending by UID: `FetchRow` for each, then `FetchDone`.
    Fetch {
        /// Which.
        uids: UidSet,
        /// What of them.
        plan: FetchPlan,
    },
    /// Change flags: `StoreRow` for each message there is, then `Stored`.
    Store {
        /// Which.
        uids: UidSet,
        /// How.
        change: FlagChange,
        /// Whether rows are needed only for messages that others changed since the last news of them.
        silent: bool,
    },
    /// Copy messages, all or none: `Copied`.
    Copy {
        /// Which.
        uids: UidSet,
        /// Where to.
        target: MailboxName,
    },
    /// Move messages, all or none (RFC 6851): an update, then `Copied`.
    Move {
        /// Which.
        uids: UidSet,
        /// Where to.
        target: MailboxName,
    },
    /// Remove messages marked `\Deleted`: an update, then `Done`.
    Expunge {
        /// Only among these (UID EXPUNGE); none: among all.
        uids: Option<UidSet>,
    },
    /// Find messages: `Found`.
    Search(SearchKey<UidSet>),
}

/// An answer to an [`Ask`].
#[derive(Debug)]
pub enum Answer {
    /// It was not done, and why.
    Refused(Refusal),
    /// It was done.
    Done,
    /// Whether the client is who it says, or what the mechanism needs to find out.
    Authentication(sasl::Answer),
    /// The mailbox is open.
    Selected(Selected),
    /// Every mailbox and every subscription, sorted by name.
    Mailboxes(Arc<[MailboxEntry]>),
    /// The counts.
    Status(StatusData),
    /// The message may come.
    AppendReady,
    /// The message is durable; where the client may not see UIDs, none.
    Appended(Option<AppendUid>),
    /// One message of a fetch.
    FetchRow(FetchRow),
    /// No more messages.
    FetchDone {
        /// Whether messages asked for were gone, expunged by another session.
        gone: bool,
    },
    /// One message of a store.
    StoreRow(FlagsRow),
    /// The flags are changed.
    Stored {
        /// The modification sequence all rows share, so that the session knows its own change when it comes back
        /// in an update; rows with other ones were told in `StoreRow`.
        modseq: Option<ModSeq>,
        /// Whether messages asked for were gone, expunged by another session.
        gone: bool,
    },
    /// The messages are copied or moved; none where there was none left to copy.
    Copied(Option<CopyUid>),
    /// UIDs found, ascending.
    Found(Vec<Uid>),
}

/// Octets that no log shows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// Wraps octets.
    pub fn new(octets: impl Into<Box<[u8]>>) -> Self {
        Self(octets.into())
    }

    /// The octets.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// An opened mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selected {
    /// Whether nothing can be changed, by wish or by right.
    pub read_only: bool,
    /// Which flags can be changed, by right.
    pub permitted: Permitted,
    /// The UIDs of all messages, ascending; may be shared by all sessions.
    pub uids: Arc<[Uid]>,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// The first message without `\Seen`.
    pub first_unseen: Option<Uid>,
    /// Messages from this UID on are `\Recent` in this session, those that arrive later included.
    pub recent_floor: Uid,
    /// The keywords in use.
    pub keywords: Arc<[Keyword]>,
    /// The modification sequence of this snapshot; updates at or before it are no news.
    pub highest_modseq: ModSeq,
}

/// Which flags of the messages in a mailbox the client may change (RFC 4314 §4).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Permitted {
    /// `\\Seen`.
    pub seen: bool,
    /// `\\Deleted`.
    pub deleted: bool,
    /// All others, and keywords.
    pub others: bool,
}

impl Permitted {
    /// Every flag.
    pub const ALL: Self = Self {
        seen: true,
        deleted: true,
        others: true,
    };
}

/// News of the selected mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxUpdate {
    /// The UIDs of all messages now, ascending. Compared with what the client knows, this tells arrivals and expunges.
    pub uids: Arc<[Uid]>,
    /// Messages whose flags changed, with the flags they have now. The session's own changes may be among them.
    pub changed: Vec<FlagsRow>,
    /// The keywords in use, where one is new.
    pub keywords: Option<Arc<[Keyword]>>,
}

/// The flags of one message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FlagsRow {
    /// Which message.
    pub uid: Uid,
    /// Its flags and keywords.
    pub flags: FlagList,
    /// When they last changed.
    pub modseq: ModSeq,
}

/// A mailbox or a subscribed name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxEntry {
    /// The name.
    pub name: MailboxName,
    /// Whether it can be selected; a subscribed name may not exist, a level above others may hold no messages.
    pub selectable: bool,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// What it is for (RFC 6154).
    pub special_use: Option<SpecialUse>,
}

/// What a mailbox is for (RFC 6154 §2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SpecialUse {
    /// `\All`
    All,
    /// `\Archive`
    Archive,
    /// `\Drafts`
    Drafts,
    /// `\Flagged`
    Flagged,
    /// `\Junk`
    Junk,
    /// `\Sent`
    Sent,
    /// `\Trash`
    Trash,
}

impl SpecialUse {
    /// The attribute in LIST.
    pub const fn attribute(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }
}

/// The counts of a mailbox. Those not asked for may be anything.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct StatusData {
    /// Messages.
    pub messages: u32,
    /// Messages no session was told of yet.
    pub recent: u32,
    /// UIDNEXT.
    pub uid_next: Uid,
    /// UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// Messages without `\Seen`.
    pub unseen: u32,
}

/// What APPEND says before the message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendBegin {
    /// Where to.
    pub mailbox: MailboxName,
    /// The flags it gets.
    pub flags: FlagList,
    /// INTERNALDATE, where the client names one.
    pub internal_date: Option<Timestamp>,
    /// The exact length of the message.
    pub octets: u64,
}

/// Where an appended message is (RFC 4315).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AppendUid {
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The message's UID.
    pub uid: Uid,
}

/// Where copied messages are (RFC 4315). Both sets ascend, the n-th UID of one is the n-th of the other.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct CopyUid {
    /// The target's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// UIDs in the selected mailbox; exactly those copied.
    pub source: UidSet,
    /// UIDs in the target.
    pub target: UidSet,
}

/// What a fetch gives of one message. What the plan does not need may be anything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FetchRow {
    /// Which message.
    pub uid: Uid,
    /// Its flags and keywords, after `\Seen` was set where the plan says so.
    pub flags: FlagList,
    /// Whether this fetch set `\Seen`.
    pub flags_changed: bool,
    /// When its flags last changed.
    pub modseq: ModSeq,
    /// INTERNALDATE.
    pub internal_date: Timestamp,
    /// RFC822.SIZE.
    pub octets: u64,
    /// ENVELOPE as RFC 3501 §7.4.2 writes it, parentheses included.
    pub envelope: Bytes,
    /// BODY in the same way.
    pub body: Bytes,
    /// BODYSTRUCTURE in the same way.
    pub body_structure: Bytes,
    /// The sections of the plan, in its order, each whole: the session cuts out what `<p.n>` asks for.
    pub sections: Vec<SectionData>,
}

/// One section of a message.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum SectionData {
    /// The message has no such part.
    Absent,
    /// The octets themselves: for short ones and those put together, such as chosen header fields.
    Bytes(Bytes),
    /// Octets that the driver sends itself.
    Blob(BlobRange),
}

/// A run of octets that only the driver can reach.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlobRange {
    /// The driver's own name for the octets; comes back as given.
    pub token: u64,
    /// The first octet.
    pub start: u64,
    /// How many.
    pub octets: u64,
}
