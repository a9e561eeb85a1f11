//! What goes into a session and what comes out.

mod mailbox;
mod message;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use nightmail_core::{MailboxId, ModSeq};
use nightmail_sasl::{self as sasl, Channel, Question};

pub use self::mailbox::{
    FlagsRow, MailboxEntry, MailboxUpdate, MatchedRun, Permitted, Resync, Resynced, Selected,
    SpecialUse, StatusData,
};
pub use self::message::{
    AppendBegin, AppendUid, BinaryData, BlobRange, CopyUid, FetchRow, Find, Found, FoundIn,
    SectionData, Telling, ThreadRow,
};
use crate::command::acl::{AclAnswer, AclAsk};
use crate::command::fetch::FetchPlan;
use crate::command::list::{ListScope, MailboxDetails};
use crate::command::metadata::MetadataAsk;
use crate::command::multisearch::Source;
use crate::command::notify::{Notice, NotifyPlan};
use crate::command::quota::{QuotaAsk, QuotaRoot};
use crate::command::search::{SearchKey, SearchSet};
use crate::command::status::StatusItem;
use crate::command::store::FlagChange;
use crate::command::thread::Threading;
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
