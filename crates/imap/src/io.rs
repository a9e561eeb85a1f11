//! What goes into a session and what comes out.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{Flags, MailboxId, ModSeq, Timestamp, Uid, UidValidity};
use nightmail_sasl::{self as sasl, Channel, Question};

use crate::command::acl::{AclAnswer, AclAsk};
use crate::command::fetch::FetchPlan;
use crate::command::metadata::MetadataAsk;
use crate::command::quota::{QuotaAsk, QuotaRoot};
use crate::command::list::{ListScope, MailboxDetails};
use crate::command::notify::{Notice, NotifyPlan};
use crate::command::multisearch::Source;
use crate::command::search::{SearchKey, SearchSet};
use crate::command::sort::SortKey;
use crate::command::status::StatusItem;
use crate::command::store::FlagChange;
use crate::command::thread::Threading;
use crate::flag::{FlagList, Keyword};
use crate::name::MailboxName;
use crate::refusal::Refusal;
use crate::set::UidSet;
use crate::url::ImapUrl;

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
    /// News that NOTIFY asked for, at any time but while a question is open.
    Notice(Notice),
    /// How far the answer to the open question has come (RFC 9585): so many of so many, where that is known.
    Progress {
        /// How much is done.
        done: Option<u32>,
        /// How much there is to do.
        goal: Option<u32>,
    },
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
    /// The next octets of the message that the last [`Ask::AppendBegin`] opened.
    Body(Bytes),
    /// The APPEND is off: drop what was received of the message. No answer is given.
    AbortBody,
    /// A question. The next one comes only after it is answered.
    Ask(Ask),
    /// Begin TLS once everything before is sent; then `TlsEstablished`. Nothing read before counts.
    StartTls,
    /// Compress what is sent from here on, and take what is read from here on as compressed (RFC 4978), or no longer
    /// do so. Nothing that was read before counts.
    Compress(bool),
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
        /// What the client still knows of it (RFC 7162 §3.2.5).
        resync: Option<Box<Resync>>,
    },
    /// Leave the selected mailbox: `Done`. No update may follow.
    Close {
        /// Whether messages marked `\Deleted` are removed first, without telling.
        expunge: bool,
    },
    /// Vouch for a URL of the user's own (RFC 4467): `UrlToken`.
    AuthorizeUrl(Box<ImapUrl>),
    /// What an authorized URL names (RFC 4467): `UrlData`, absent where it names nothing that may be read.
    FetchUrl(Box<ImapUrl>),
    /// Make void every URL of a mailbox, or of all of them, that was vouched for (RFC 4467): `Done`.
    ResetUrlKeys(Option<MailboxName>),
    /// The client is nobody again (RFC 8437); the selected mailbox, if any, is left as it is: `LoggedOut`.
    Unauthenticate,
    /// Push what is new in the selected mailbox as an update, then `Done`.
    Refresh {
        /// CHECK: make flags durable as well.
        checkpoint: bool,
    },
    /// All mailboxes of a scope, and all subscriptions: `Mailboxes`.
    Mailboxes(ListScope),
    /// More of mailboxes that `Mailboxes` named: `Details`.
    Details {
        /// Which.
        mailboxes: Vec<MailboxId>,
        /// The fields of [`StatusData`] that are looked at; none where it is empty.
        items: Vec<StatusItem>,
        /// Names of metadata entries; none where it is empty.
        metadata: Vec<Box<str>>,
    },
    /// What to tell of from now on, whatever was told before; none: nothing any more. Where a mailbox is selected,
    /// its news comes first, as an update: `Notified`.
    Notify(Option<Box<NotifyPlan>>),
    /// Counts of a mailbox: `Status`.
    Status {
        /// Which.
        mailbox: MailboxName,
        /// The fields of [`StatusData`] that are looked at.
        items: Vec<StatusItem>,
    },
    /// Make a mailbox and what is missing above it: `Created`.
    Create {
        /// Its name.
        mailbox: MailboxName,
        /// What it is for.
        special_use: Option<SpecialUse>,
    },
    /// Delete a mailbox, never INBOX: `Done`.
    Delete(MailboxName),
    /// Rename a mailbox and all below it; renaming INBOX moves its messages (RFC 3501 §6.3.5): `Done`.
    Rename {
        /// The old name.
        from: MailboxName,
        /// The new name.
        to: MailboxName,
    },
    /// Who may do what with a mailbox.
    Acl(AclAsk),
    /// What an account may use.
    Quota(QuotaAsk),
    /// What is noted about a mailbox or the server.
    Metadata(MetadataAsk),
    /// Add a name to the subscriptions: `Done`.
    Subscribe(MailboxName),
    /// Take a name off the subscriptions: `Done`.
    Unsubscribe(MailboxName),
    /// May this message come: `AppendReady`; then `Body` chunks and `AppendUrl` follow, then another message of the
    /// same command, `AppendFinish` or `AbortBody`.
    AppendBegin(AppendBegin),
    /// Go on with what a URL names (RFC 4469): `AppendedPart`. Where it names nothing, refused as
    /// [`RefusalKind::BadUrl`](crate::RefusalKind::BadUrl).
    AppendUrl {
        /// The URL, as the client wrote it.
        url: String,
        /// The part may be this long, else it is refused as `TooBig`.
        octets_max: u64,
    },
    /// All messages were given; make all of them durable, or none: `Appended`.
    AppendFinish,
    /// Give messages, ascending by UID: `Vanished` where the plan wants it, `FetchRow` for each, then `FetchDone`.
    Fetch {
        /// Which.
        uids: UidSet,
        /// What of them.
        plan: FetchPlan,
    },
    /// Change flags: `StoreRow` or `StoreModSeq` for each message there is, then `Stored`.
    Store {
        /// Which.
        uids: UidSet,
        /// How.
        change: FlagChange,
        /// What is told of messages that nobody else changed since the last news of them; of the others, everything.
        telling: Telling,
        /// Only messages that have not changed after this (RFC 7162 §3.1.3).
        unchanged_since: Option<ModSeq>,
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
    Search(Box<Find>),
    /// Find messages and what belongs together among them (RFC 5256): `Threads`.
    Thread {
        /// What is sought.
        key: Box<SearchKey<UidSet>>,
        /// By what they belong together.
        threading: Threading,
    },
    /// Find messages in several mailboxes (RFC 7377): `FoundIn` for each in which there are some, then `Done`.
    SearchMailboxes {
        /// Where.
        sources: Vec<Source>,
        /// What is sought.
        key: Box<SearchKey<SearchSet>>,
        /// Whether the modification sequences of what is found are needed.
        modseqs: bool,
    },
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
    /// More of each mailbox asked for, in their order.
    Details(Vec<MailboxDetails>),
    /// The mailbox is made.
    Created(MailboxId),
    /// What is asked for is watched; what the client is to be told of it at once.
    Notified(Vec<Notice>),
    /// The counts.
    Status(StatusData),
    /// Who may do what.
    Acl(AclAnswer),
    /// Quota roots.
    Quota(Vec<QuotaRoot>),
    /// Annotations by name, and their values.
    Metadata(Vec<(String, Bytes)>),
    /// The message may come.
    AppendReady,
    /// What vouches for a URL: a token of letters and digits.
    UrlToken(String),
    /// What a URL names.
    UrlData(SectionData),
    /// The client is nobody again; the TLS connection, where there is one, as logins may be bound to it.
    LoggedOut(Option<Channel>),
    /// The part was put at the end of the message, so many octets.
    AppendedPart(u64),
    /// The messages are durable; where the client may not see UIDs, none.
    Appended(Option<AppendUid>),
    /// UIDs of the plan that were expunged after its modification sequence; before all rows.
    Vanished(UidSet),
    /// One message of a fetch.
    FetchRow(FetchRow),
    /// No more messages.
    FetchDone {
        /// Whether messages asked for were gone, expunged by another session.
        gone: bool,
    },
    /// One message of a store.
    StoreRow(FlagsRow),
    /// Messages of a store of which only their modification sequence is to be told.
    StoreModSeq {
        /// Which; none is named that was not to be stored.
        uids: UidSet,
        /// What they have in common.
        modseq: ModSeq,
    },
    /// The flags are changed.
    Stored {
        /// The modification sequence all rows share, so that the session knows its own change when it comes back
        /// in an update; rows with other ones were told in `StoreRow`.
        modseq: Option<ModSeq>,
        /// Whether messages asked for were gone, expunged by another session.
        gone: bool,
        /// Messages that had changed after what `unchanged_since` named, and were left as they are.
        modified: UidSet,
    },
    /// The messages are copied or moved; none where there was none left to copy.
    Copied(Option<CopyUid>),
    /// What was found.
    Found(Found),
    /// What belongs together.
    Threads(Vec<ThreadRow>),
    /// What was found in one of several mailboxes.
    FoundIn(FoundIn),
}

/// What is to be found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Find {
    /// What is sought.
    pub key: SearchKey<UidSet>,
    /// The order of what is found; where it is empty, or decides nothing, that of the mailbox.
    pub order: Vec<SortKey>,
    /// Whether the modification sequences of what is found are needed.
    pub modseqs: bool,
}

/// What was found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Found {
    /// The messages, in the order that was asked for.
    pub uids: Vec<Uid>,
    /// Where they were asked for, when each of them last changed.
    pub modseqs: Vec<ModSeq>,
}

/// What was found in a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FoundIn {
    /// Which mailbox.
    pub mailbox: MailboxName,
    /// Its UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The messages, in the order of the mailbox.
    pub found: Found,
}

/// A message in a list of conversations: each stands before what is below it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ThreadRow {
    /// How many messages are above it; at most one more than the row before it has.
    pub depth: u32,
    /// The message; none: it is not there, and two or more below it belong together.
    pub uid: Option<Uid>,
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
    /// The name of the mailbox that stays with it for ever (RFC 8474).
    pub mailbox_id: MailboxId,
    /// The difference to what the client knows, where it said that and its UIDVALIDITY is right.
    pub resynced: Option<Resynced>,
}

/// What a client knows of a mailbox that it selects again (RFC 7162 §3.2.5).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Resync {
    /// The UIDVALIDITY of what it knows.
    pub uid_validity: UidValidity,
    /// It knows every change up to this.
    pub modseq: ModSeq,
    /// The messages that it knows; where it does not say, all.
    pub known: Option<UidSet>,
    /// Messages with the sequence numbers that they had, ascending.
    pub matched: Vec<MatchedRun>,
}

/// Messages with the sequence numbers from `seq` on and the UIDs from `uid` on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MatchedRun {
    /// The first sequence number; never 0.
    pub seq: u32,
    /// The first UID.
    pub uid: Uid,
    /// How many; never 0.
    pub count: u32,
}

/// What happened since a client knew a mailbox.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Resynced {
    /// UIDs that are gone.
    pub vanished: UidSet,
    /// Messages that changed or came, ascending.
    pub changed: Vec<FlagsRow>,
}

/// What STORE tells of messages whose new flags the client can work out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Telling {
    /// Their flags.
    Flags,
    /// Their modification sequence.
    ModSeq,
    /// Nothing.
    Nothing,
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

    /// The system flags among them.
    pub fn flags(self) -> Flags {
        let named = Flags::SEEN | Flags::DELETED;
        let parts = [
            (self.seen, Flags::SEEN),
            (self.deleted, Flags::DELETED),
            (self.others, !named),
        ];
        let permitted = parts.into_iter().filter(|(is, _)| *is);
        permitted.fold(Flags::EMPTY, |all, (_, flags)| all | flags)
    }
}

/// News of the selected mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MailboxUpdate {
    /// The UIDs of all messages now, ascending. Compared with what the client knows, this tells arrivals and expunges.
    pub uids: Arc<[Uid]>,
    /// The modification sequence up to which nothing is left to tell once this is told.
    pub modseq: ModSeq,
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
    /// The mailbox; none where the name is only subscribed.
    pub mailbox: Option<MailboxId>,
    /// Whether it is there and the account may open it.
    pub selectable: bool,
    /// Whether it is subscribed.
    pub subscribed: bool,
    /// What it is for (RFC 6154).
    pub special_use: Option<SpecialUse>,
    /// What the account may do with it, as RFC 4314 writes it; none where it was not asked for.
    pub rights: Option<Box<str>>,
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
    /// Messages with `\Deleted`.
    pub deleted: u32,
    /// Octets of all messages.
    pub octets: u64,
    /// Octets of the messages with `\Deleted`.
    pub deleted_octets: u64,
    /// The highest modification sequence.
    pub highest_modseq: ModSeq,
    /// Which mailbox it is.
    pub mailbox: MailboxId,
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
    /// The exact length of the message; where it is put together from parts, none.
    pub octets: Option<u64>,
    /// The message of the selected mailbox that goes when this one is there (RFC 8508).
    pub replaces: Option<Uid>,
}

/// Where appended messages are (RFC 4315).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AppendUid {
    /// The mailbox's UIDVALIDITY.
    pub uid_validity: UidValidity,
    /// The messages' UIDs, in the order of the messages.
    pub uids: UidSet,
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
    /// SAVEDATE (RFC 8514).
    pub save_date: Timestamp,
    /// The name of the message's content that stays with it for ever (RFC 8474).
    pub email_id: u64,
    /// The conversation it belongs to, where conversations are known.
    pub thread_id: Option<u64>,
    /// PREVIEW (RFC 8970): text without line ends; none where it is not known.
    pub preview: Option<String>,
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
    /// The decoded parts of the plan, in its order.
    pub binaries: Vec<BinaryData>,
}

impl FetchRow {
    /// A row that tells nothing but which message it is.
    pub fn new(uid: Uid) -> Self {
        Self {
            uid,
            flags: FlagList::default(),
            flags_changed: false,
            modseq: ModSeq::default(),
            internal_date: Timestamp::default(),
            save_date: Timestamp::default(),
            email_id: 0,
            thread_id: None,
            preview: None,
            octets: 0,
            envelope: Bytes::new(),
            body: Bytes::new(),
            body_structure: Bytes::new(),
            sections: Vec::new(),
            binaries: Vec::new(),
        }
    }
}

/// A part of a message without its transfer encoding (RFC 3516).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum BinaryData {
    /// Its octets.
    Octets(SectionData),
    /// How many they are.
    Size(u64),
    /// The message has no such part.
    Absent,
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
