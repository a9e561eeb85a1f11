//! STATUS (RFC 3501 §6.3.10) and its items: SIZE (RFC 8438), HIGHESTMODSEQ (RFC 7162 §3.1.3), DELETED and
//! DELETED-STORAGE (RFC 9208 §4.1.4), APPENDLIMIT (RFC 7889 §4), MAILBOXID (RFC 8474 §4.3).

use bytes::{BufMut, BytesMut};

use super::Command;
use crate::io::{Answer, Ask, StatusData};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::write;

/// Something of a mailbox that STATUS tells.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum StatusItem {
    /// MESSAGES
    Messages,
    /// RECENT
    Recent,
    /// UIDNEXT
    UidNext,
    /// UIDVALIDITY
    UidValidity,
    /// UNSEEN
    Unseen,
    /// SIZE
    Size,
    /// HIGHESTMODSEQ
    HighestModSeq,
    /// DELETED
    Deleted,
    /// DELETED-STORAGE
    DeletedStorage,
    /// APPENDLIMIT
    AppendLimit,
    /// MAILBOXID
    MailboxId,
}

const ITEMS: [(StatusItem, &str); 11] = [
    (StatusItem::Messages, "MESSAGES"),
    (StatusItem::Recent, "RECENT"),
    (StatusItem::UidNext, "UIDNEXT"),
    (StatusItem::UidValidity, "UIDVALIDITY"),
    (StatusItem::Unseen, "UNSEEN"),
    (StatusItem::Size, "SIZE"),
    (StatusItem::HighestModSeq, "HIGHESTMODSEQ"),
    (StatusItem::Deleted, "DELETED"),
    (StatusItem::DeletedStorage, "DELETED-STORAGE"),
    (StatusItem::AppendLimit, "APPENDLIMIT"),
    (StatusItem::MailboxId, "MAILBOXID"),
];

impl StatusItem {
    fn name(self) -> &'static str {
        let found = ITEMS.iter().find(|(item, _)| *item == self);
        found.map_or("", |(_, name)| name)
    }

    fn parse(parser: &mut Parser<'_>) -> Result<Self> {
        let name = parser.atom()?;
        ITEMS
            .iter()
            .find(|(_, known)| known.eq_ignore_ascii_case(name))
            .map(|(item, _)| *item)
            .ok_or(ParseError::Syntax("no such status item"))
    }

    fn write(self, out: &mut BytesMut, data: &StatusData, append_limit: u64) {
        out.put_slice(self.name().as_bytes());
        out.put_u8(b' ');
        let value = match self {
            Self::Messages => u64::from(data.messages),
            Self::Recent => u64::from(data.recent),
            Self::UidNext => u64::from(data.uid_next.get()),
            Self::UidValidity => u64::from(data.uid_validity.get()),
            Self::Unseen => u64::from(data.unseen),
            Self::Size => data.octets,
            Self::HighestModSeq => data.highest_modseq.get(),
            Self::Deleted => u64::from(data.deleted),
            Self::DeletedStorage => data.deleted_octets,
            Self::AppendLimit => append_limit,
            Self::MailboxId => {
                return write::display(out, format_args!("({})", mailbox_id(data.mailbox)));
            }
        };
        write::number(out, value);
    }
}

/// How the id of a mailbox is written (RFC 8474 §4).
pub(crate) fn mailbox_id(mailbox: nightmail_core::MailboxId) -> String {
    format!("M{:016x}", mailbox.get())
}

/// Items in parentheses.
pub(super) fn parse_items(parser: &mut Parser<'_>) -> Result<Vec<StatusItem>> {
    let mut items = Vec::new();
    let named = parser.list(4 * ITEMS.len(), "status items", StatusItem::parse)?;
    for item in named {
        if !items.contains(&item) {
            items.push(item);
        }
    }
    Ok(items)
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.space()?;
    let items = parse_items(parser)?;
    parser.end()?;
    Ok(Command::Status { mailbox, items })
}

/// Asking for HIGHESTMODSEQ enables CONDSTORE (RFC 7162 §3.1).
pub(super) fn enable_by_use(session: &mut Session, items: &[StatusItem]) {
    if items.contains(&StatusItem::HighestModSeq) {
        session.enable_condstore();
    }
}

pub(crate) fn run(session: &mut Session, mailbox: MailboxName, items: Vec<StatusItem>) {
    enable_by_use(session, &items);
    let asking = Asking {
        mailbox: mailbox.clone(),
        items: items.clone(),
    };
    session.ask(Ask::Status { mailbox, items }, asking);
}

struct Asking {
    mailbox: MailboxName,
    items: Vec<StatusItem>,
}

impl Step for Asking {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let Answer::Status(data) = answer else {
            return session.refuse_unexpected(answer);
        };
        session.write_status(self.mailbox.as_str(), &self.items, &data);
        session.ok("Status given");
    }
}

impl Session {
    /// An untagged STATUS.
    pub(crate) fn write_status(&mut self, mailbox: &str, items: &[StatusItem], data: &StatusData) {
        let utf8 = self.enabled().utf8();
        let append_limit = self.config().limits.message_octets_max;
        let out = self.text();
        out.put_slice(b"* STATUS ");
        write::mailbox_text(out, mailbox, utf8);
        for (index, item) in items.iter().enumerate() {
            out.put_slice(if index == 0 { b" (" } else { b" " });
            item.write(out, data, append_limit);
        }
        out.put_slice(b")\r\n");
    }
}
