//! SETACL, DELETEACL, GETACL, LISTRIGHTS and MYRIGHTS (RFC 4314 §3).

use bytes::{BufMut, BytesMut};

use super::Command;
use crate::io::{Answer, Ask};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::write;

/// The letters of all rights, those of RFC 2086 among them.
const RIGHTS: &str = "lrswipkxteacd";

/// A question about who may do what with a mailbox.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AclAsk {
    /// Everybody's rights: `Acl(List)`.
    Get(MailboxName),
    /// What the user may do: `Acl(Mine)`.
    Mine(MailboxName),
    /// What somebody could be given: `Acl(Possible)`.
    Possible {
        /// Of which mailbox.
        mailbox: MailboxName,
        /// Who.
        identifier: String,
    },
    /// Change somebody's rights: `Done`.
    Set {
        /// Of which mailbox.
        mailbox: MailboxName,
        /// Who; what begins with `-` names rights to take away.
        identifier: String,
        /// How.
        how: SetRights,
        /// Letters of known rights.
        rights: String,
    },
    /// Remove somebody's entry: `Done`.
    Delete {
        /// Of which mailbox.
        mailbox: MailboxName,
        /// Who.
        identifier: String,
    },
}

/// How rights change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SetRights {
    /// These and no others.
    Replace,
    /// `+`: these as well.
    Add,
    /// `-`: these no more.
    Remove,
}

/// What is known of who may do what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum AclAnswer {
    /// Identifiers and the letters of their rights.
    List(Vec<(String, String)>),
    /// The letters of the user's rights.
    Mine(String),
    /// What an identifier could be given.
    Possible {
        /// The letters of what it always has.
        always: String,
        /// Letters that are given together, or alone.
        each: Vec<String>,
    },
}

pub(super) fn parse_get(parser: &mut Parser<'_>) -> Result<Command> {
    mailbox(parser, AclAsk::Get)
}

pub(super) fn parse_my_rights(parser: &mut Parser<'_>) -> Result<Command> {
    mailbox(parser, AclAsk::Mine)
}

fn mailbox(parser: &mut Parser<'_>, ask: fn(MailboxName) -> AclAsk) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.end()?;
    Ok(Command::Acl(ask(mailbox)))
}

fn mailbox_and_identifier(parser: &mut Parser<'_>) -> Result<(MailboxName, String)> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.space()?;
    let identifier = parser.utf8_astring()?;
    if identifier.chars().any(char::is_control) {
        return Err(ParseError::Syntax("not an identifier"));
    }
    Ok((mailbox, identifier))
}

pub(super) fn parse_list_rights(parser: &mut Parser<'_>) -> Result<Command> {
    let (mailbox, identifier) = mailbox_and_identifier(parser)?;
    parser.end()?;
    Ok(Command::Acl(AclAsk::Possible {
        mailbox,
        identifier,
    }))
}

pub(super) fn parse_delete(parser: &mut Parser<'_>) -> Result<Command> {
    let (mailbox, identifier) = mailbox_and_identifier(parser)?;
    parser.end()?;
    Ok(Command::Acl(AclAsk::Delete {
        mailbox,
        identifier,
    }))
}

pub(super) fn parse_set(parser: &mut Parser<'_>) -> Result<Command> {
    let (mailbox, identifier) = mailbox_and_identifier(parser)?;
    parser.space()?;
    let text = parser.utf8_astring()?;
    parser.end()?;
    let (how, rights) = match (text.strip_prefix('+'), text.strip_prefix('-')) {
        (Some(rights), _) => (SetRights::Add, rights),
        (_, Some(rights)) => (SetRights::Remove, rights),
        _ => (SetRights::Replace, text.as_str()),
    };
    if !rights.chars().all(|right| RIGHTS.contains(right)) {
        return Err(ParseError::Syntax("no such right"));
    }
    Ok(Command::Acl(AclAsk::Set {
        mailbox,
        identifier,
        how,
        rights: rights.to_owned(),
    }))
}

pub(crate) fn run(session: &mut Session, ask: AclAsk) {
    session.ask(Ask::Acl(ask.clone()), Asking { ask });
}

struct Asking {
    ask: AclAsk,
}

impl Step for Asking {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let utf8 = session.enabled().utf8();
        match (self.ask, answer) {
            (AclAsk::Set { .. } | AclAsk::Delete { .. }, Answer::Done) => {
                session.ok("Rights changed");
            }
            (AclAsk::Get(mailbox), Answer::Acl(AclAnswer::List(entries))) => {
                let out = begin(session, "ACL", &mailbox);
                for (identifier, rights) in &entries {
                    word(out, identifier, utf8);
                    word(out, rights, utf8);
                }
                end(session);
            }
            (AclAsk::Mine(mailbox), Answer::Acl(AclAnswer::Mine(rights))) => {
                word(begin(session, "MYRIGHTS", &mailbox), &rights, utf8);
                end(session);
            }
            (
                AclAsk::Possible {
                    mailbox,
                    identifier,
                },
                Answer::Acl(AclAnswer::Possible { always, each }),
            ) => {
                let out = begin(session, "LISTRIGHTS", &mailbox);
                word(out, &identifier, utf8);
                word(out, &always, utf8);
                each.iter().for_each(|rights| word(out, rights, utf8));
                end(session);
            }
            (_, other) => session.refuse_unexpected(other),
        }
    }
}

fn begin<'a>(session: &'a mut Session, name: &str, mailbox: &MailboxName) -> &'a mut BytesMut {
    let utf8 = session.enabled().utf8();
    let out = session.text();
    write::display(out, format_args!("* {name} "));
    write::mailbox(out, mailbox, utf8);
    out
}

/// A space and an astring.
fn word(out: &mut BytesMut, text: &str, utf8: bool) {
    out.put_u8(b' ');
    match text.is_ascii() {
        true => write::astring(out, text),
        false => write::text(out, text, utf8),
    }
}

fn end(session: &mut Session) {
    session.text().put_slice(b"\r\n");
    session.ok("Rights told");
}
