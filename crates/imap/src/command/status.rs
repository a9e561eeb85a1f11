//! STATUS (RFC 3501 §6.3.10).

use bytes::BufMut;

use super::Command;
use crate::io::{Answer, Ask, StatusData};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::write;

/// A count of a mailbox.
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
}

const ITEMS: [(StatusItem, &str); 5] = [
    (StatusItem::Messages, "MESSAGES"),
    (StatusItem::Recent, "RECENT"),
    (StatusItem::UidNext, "UIDNEXT"),
    (StatusItem::UidValidity, "UIDVALIDITY"),
    (StatusItem::Unseen, "UNSEEN"),
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

    const fn of(self, data: &StatusData) -> u32 {
        match self {
            Self::Messages => data.messages,
            Self::Recent => data.recent,
            Self::UidNext => data.uid_next.get(),
            Self::UidValidity => data.uid_validity.get(),
            Self::Unseen => data.unseen,
        }
    }
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.space()?;
    let items = parser.list(ITEMS.len(), "status items", StatusItem::parse)?;
    parser.end()?;
    Ok(Command::Status { mailbox, items })
}

pub(crate) fn run(session: &mut Session, mailbox: MailboxName, items: Vec<StatusItem>) {
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
        let utf8 = session.enabled().utf8();
        let out = session.text();
        out.put_slice(b"* STATUS ");
        write::mailbox(out, &self.mailbox, utf8);
        for (index, item) in self.items.iter().enumerate() {
            out.put_slice(if index == 0 { b" (" } else { b" " });
            out.put_slice(item.name().as_bytes());
            out.put_u8(b' ');
            write::number(out, u64::from(item.of(&data)));
        }
        out.put_slice(b")\r\n");
        session.ok("Status given");
    }
}
