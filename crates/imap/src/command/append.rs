//! APPEND (RFC 3501 §6.3.11) and APPENDUID (RFC 4315 §3).
//!
//! The driver is asked before the client gets leave to send the message, so that a mailbox that is not there costs no
//! upload. The message passes in chunks.

use bytes::Bytes;

use super::Command;
use crate::io::{Answer, AppendBegin, Ask, Output};
use crate::parse::{ParseError, Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};

/// What APPEND says up to its message.
pub(crate) enum Announced {
    /// The literal is the mailbox name, the message is yet to come.
    Mailbox,
    /// The literal is the message; its length is not filled in.
    Message(AppendBegin),
}

/// Reads the arguments up to a literal that is announced and not part of the text.
pub(crate) fn parse_announced(parser: &mut Parser<'_>) -> Result<Announced> {
    parser.space()?;
    if parser.is_at_end() {
        return Ok(Announced::Mailbox);
    }
    let mut begin = AppendBegin {
        mailbox: parser.mailbox()?,
        flags: Default::default(),
        internal_date: None,
        octets: 0,
    };
    parser.space()?;
    if parser.peek() == Some(b'(') {
        begin.flags = parser.flag_list()?;
        parser.space()?;
    }
    if parser.peek() == Some(b'"') {
        begin.internal_date = Some(parser.date_time()?);
        parser.space()?;
    }
    parser.end()?;
    Ok(Announced::Message(begin))
}

/// A whole APPEND that had no literal for its message.
pub(super) fn parse_without_message(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    parser.mailbox()?;
    Err(ParseError::Syntax("expected the message as a literal"))
}

/// The message is announced: asks whether it may come.
pub(crate) fn run(session: &mut Session, begin: AppendBegin, sync: bool) {
    let limits = &session.config().limits;
    let refusal = if begin.octets > limits.message_octets_max {
        Some(Refusal::new(RefusalKind::TooBig, "The message is too big"))
    } else if begin.octets == 0 {
        Some(Refusal::new(RefusalKind::Cannot, "The message is empty"))
    } else {
        None
    };
    match refusal {
        Some(refusal) => refuse(session, sync, &refusal),
        None => session.ask(Ask::AppendBegin(begin), Beginning { sync }),
    }
}

fn refuse(session: &mut Session, sync: bool, refusal: &Refusal) {
    session.refuse_message(sync);
    session.refuse(refusal);
}

struct Beginning {
    sync: bool,
}

impl Step for Beginning {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::AppendReady if self.sync => session.prompt("Send the message", Receiving),
            Answer::AppendReady => session.await_line(Receiving),
            Answer::Refused(refusal) => refuse(session, self.sync, &refusal),
            other => {
                session.refuse_message(self.sync);
                session.refuse_unexpected(other);
            }
        }
    }
}

struct Receiving;

impl Step for Receiving {
    /// NUL cannot be in a literal (RFC 3501 §4.3).
    fn chunk(self: Box<Self>, session: &mut Session, octets: Bytes) {
        if memchr::memchr(0, &octets).is_some() {
            session.push(Output::AbortBody);
            session.refuse_message(false);
            return session.bad("The message must not hold NUL");
        }
        session.push(Output::Body(octets));
        session.await_line(*self);
    }

    /// The rest of the line after the message: nothing.
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        if line.is_empty() {
            return session.ask(Ask::AppendFinish, Finishing);
        }
        session.push(Output::AbortBody);
        session.bad("Unexpected text after the message");
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        session.push(Output::AbortBody);
    }
}

struct Finishing;

impl Step for Finishing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Appended(Some(at)) => {
                let code = format!("APPENDUID {} {}", at.uid_validity, at.uid);
                session.ok_with(&code, "Appended");
            }
            Answer::Appended(None) => session.ok("Appended"),
            other => session.refuse_unexpected(other),
        }
    }
}
