//! CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.3 to §6.3.7).

use super::Command;
use crate::io::{Answer, Ask};
use crate::name::MailboxName;
use crate::parse::{Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};

/// One mailbox name.
pub(super) fn parse(
    parser: &mut Parser<'_>,
    command: fn(MailboxName) -> Command,
) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.end()?;
    Ok(command(mailbox))
}

/// A separator at the end only says that mailboxes will be made below; the name is without it.
pub(super) fn parse_create(parser: &mut Parser<'_>) -> Result<Command> {
    parse(parser, |name| {
        Command::Create(name.without_trailing_separator())
    })
}

pub(super) fn parse_rename(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let from = parser.mailbox()?;
    parser.space()?;
    let to = parser.mailbox()?.without_trailing_separator();
    parser.end()?;
    Ok(Command::Rename { from, to })
}

pub(crate) fn create(session: &mut Session, mailbox: MailboxName) {
    if let Err(refusal) = creatable(&mailbox) {
        return session.refuse(&refusal);
    }
    session.ask(Ask::Create(mailbox), Doing("Created"));
}

fn creatable(mailbox: &MailboxName) -> std::result::Result<(), Refusal> {
    if mailbox.is_inbox() {
        return Err(Refusal::new(
            RefusalKind::AlreadyExists,
            "INBOX is always there",
        ));
    }
    if !mailbox.is_creatable() {
        return Err(Refusal::new(
            RefusalKind::Cannot,
            "Not a name for a mailbox",
        ));
    }
    Ok(())
}

pub(crate) fn delete(session: &mut Session, mailbox: MailboxName) {
    if mailbox.is_inbox() {
        let refusal = Refusal::new(RefusalKind::Cannot, "INBOX cannot be deleted");
        return session.refuse(&refusal);
    }
    let name = mailbox.clone();
    session.ask(Ask::Delete(mailbox), Deleting { name });
}

/// A mailbox renamed below itself would be its own parent.
pub(crate) fn rename(session: &mut Session, from: MailboxName, to: MailboxName) {
    if let Err(refusal) = creatable(&to) {
        return session.refuse(&refusal);
    }
    if to.ancestors().any(|above| above == from.as_str()) && !from.is_inbox() {
        let refusal = Refusal::new(RefusalKind::Cannot, "A mailbox cannot move below itself");
        return session.refuse(&refusal);
    }
    let names = (from.clone(), to.clone());
    session.ask(Ask::Rename { from, to }, Renaming { names });
}

pub(crate) fn subscribe(session: &mut Session, mailbox: MailboxName) {
    session.ask(Ask::Subscribe(mailbox), Doing("Subscribed"));
}

pub(crate) fn unsubscribe(session: &mut Session, mailbox: MailboxName) {
    session.ask(Ask::Unsubscribe(mailbox), Doing("Unsubscribed"));
}

struct Doing(&'static str);

impl Step for Doing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok(self.0),
            other => session.refuse_unexpected(other),
        }
    }
}

/// Deleting the selected mailbox leaves it.
struct Deleting {
    name: MailboxName,
}

impl Step for Deleting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => {
                if session.selected_name() == Some(&self.name) {
                    session.deselect();
                }
                session.ok("Deleted");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

/// Renaming the selected mailbox keeps it selected under its new name.
struct Renaming {
    names: (MailboxName, MailboxName),
}

impl Step for Renaming {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => {
                let (from, to) = &self.names;
                session.rename_selected(from, to);
                session.ok("Renamed");
            }
            other => session.refuse_unexpected(other),
        }
    }
}
