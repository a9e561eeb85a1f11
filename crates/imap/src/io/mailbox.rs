//! What the driver says of mailboxes.

use std::sync::Arc;

use nightmail_core::{Flags, MailboxId, ModSeq, Uid, UidValidity};

use crate::flag::{FlagList, Keyword};
use crate::name::MailboxName;
use crate::set::UidSet;

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
