//! EXPUNGE (RFC 3501 §6.4.3) and UID EXPUNGE (RFC 4315 §2.1).

use super::{Command, messages};
use crate::io::{Answer, Ask};
use crate::parse::{Parser, Result};
use crate::session::{Session, Step};
use crate::view::Messages;

pub(super) fn parse_uid(parser: &mut Parser<'_>) -> Result<Command> {
    let uids = messages(parser, true)?;
    parser.end()?;
    Ok(Command::Expunge(Some(uids)))
}

pub(crate) fn run(session: &mut Session, named: Option<Messages>) {
    if !session.may_change() {
        return;
    }
    let Some(view) = session.view() else { return };
    let uids = named.and_then(|named| view.resolve(&named));
    if uids.as_ref().is_some_and(|uids| uids.is_empty()) {
        return session.ok("Nothing to expunge");
    }
    session.ask(Ask::Expunge { uids }, Expunging);
}

struct Expunging;

impl Step for Expunging {
    /// The EXPUNGE responses come from the update that precedes the answer.
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok_synchronized("Expunged"),
            other => session.refuse_unexpected(other),
        }
    }
}
