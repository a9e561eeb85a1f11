//! What is sought, added, copied and told of messages.

use bytes::Bytes;
use nightmail_core::{ModSeq, Timestamp, Uid, UidValidity};

use crate::command::search::SearchKey;
use crate::command::sort::SortKey;
use crate::flag::FlagList;
use crate::name::MailboxName;
use crate::set::UidSet;

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
