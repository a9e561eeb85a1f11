//! CREATE, DELETE, RENAME, SUBSCRIBE and UNSUBSCRIBE (RFC 3501 §6.3.3 to §6.3.7), CREATE-SPECIAL-USE (RFC 6154 §3).

use super::Command;
use super::status::mailbox_id;
use crate::enabled::Extension;
use crate::io::{Answer, Ask, SpecialUse};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};

/// What a mailbox to be made is to be for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum UseWanted {
    /// Nothing special.
    None,
    /// This.
    One(SpecialUse),
    /// What no mailbox here can be for, or several things at once.
    Unsupported,
}

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
    parser.space()?;
    let mailbox = parser.mailbox()?.without_trailing_separator();
    let mut special_use = UseWanted::None;
    if parser.eat(b' ') {
        parser.expect(b'(', "expected parameters")?;
        if !parser.eat_word("USE") {
            return Err(ParseError::Syntax("no such parameter"));
        }
        parser.space()?;
        special_use = parse_use(parser)?;
        parser.expect(b')', "expected the end of the parameters")?;
    }
    parser.end()?;
    Ok(Command::Create {
        mailbox,
        special_use,
    })
}

fn parse_use(parser: &mut Parser<'_>) -> Result<UseWanted> {
    let mut wanted = UseWanted::None;
    parser.expect(b'(', "expected a list of uses")?;
    let mut first = true;
    while !parser.eat(b')') {
        if !std::mem::take(&mut first) {
            parser.space()?;
        }
        parser.expect(b'\\', "expected a use")?;
        let found = SpecialUse::of_mailbox(parser.atom()?);
        wanted = match (wanted, found) {
            (UseWanted::None, Some(found)) => UseWanted::One(found),
            (UseWanted::One(before), Some(found)) if before == found => wanted,
            _ => UseWanted::Unsupported,
        };
    }
    Ok(wanted)
}

impl SpecialUse {
    /// The use of this name, without its backslash, where a mailbox can be made for it. `\All` and `\Flagged` are
    /// views of other mailboxes, which there are none of.
    fn of_mailbox(name: &str) -> Option<Self> {
        let all = [
            Self::Archive,
            Self::Drafts,
            Self::Junk,
            Self::Sent,
            Self::Trash,
        ];
        let is_it = |known: &Self| {
            let known = known.attribute().get(1..);
            known.is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        all.into_iter().find(is_it)
    }
}

pub(super) fn parse_rename(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let from = parser.mailbox()?;
    parser.space()?;
    let to = parser.mailbox()?.without_trailing_separator();
    parser.end()?;
    Ok(Command::Rename { from, to })
}

pub(crate) fn create(session: &mut Session, mailbox: MailboxName, wanted: UseWanted) {
    if let Err(refusal) = creatable(&mailbox) {
        return session.refuse(&refusal);
    }
    let special_use = match wanted {
        UseWanted::None => None,
        UseWanted::One(special_use) => Some(special_use),
        UseWanted::Unsupported => {
            let text = "A mailbox is for one of \\Archive \\Drafts \\Junk \\Sent \\Trash";
            return session.refuse(&Refusal::new(RefusalKind::SpecialUse, text));
        }
    };
    let ask = Ask::Create {
        mailbox,
        special_use,
    };
    session.ask(ask, Creating);
}

struct Creating;

impl Step for Creating {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Created(mailbox) => {
                let code = format!("MAILBOXID ({})", mailbox_id(mailbox));
                session.ok_with(&code, "Created");
            }
            other => session.refuse_unexpected(other),
        }
    }
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
                if session.enabled().has(Extension::Imap4Rev2) && !from.is_inbox() {
                    session.write_renamed(from, to);
                }
                session.ok("Renamed");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Instant;

    use nightmail_sasl::Channel;

    use super::*;
    use crate::io::{Input, Output};

    #[test]
    fn imap4rev2_is_told_the_old_name_of_what_was_renamed() {
        let now = Instant::now();
        let config = Arc::new(crate::Config::default());
        let mut session = Session::new(config, Some(Channel::default()), now);
        session.enter();
        session.enable(Extension::Imap4Rev2);
        while session.poll_output().is_some() {}
        session.handle(now, Input::Bytes("a RENAME \"é\" \"ü b\"\r\n".as_bytes()));
        assert!(matches!(
            session.poll_output(),
            Some(Output::Ask(Ask::Rename { .. }))
        ));
        session.handle(now, Input::Answer(Answer::Done));
        let Some(Output::Send(text)) = session.poll_output() else {
            panic!("a response");
        };
        let expected = "* LIST () \"/\" \"ü b\" (\"OLDNAME\" (\"é\"))\r\na OK Renamed\r\n";
        assert_eq!(std::str::from_utf8(&text), Ok(expected));
    }
}
