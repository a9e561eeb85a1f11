//! COPY (RFC 3501 §6.4.7), MOVE (RFC 6851) and the COPYUID they answer with (RFC 4315 §3).

use super::{Command, messages};
use crate::io::{Answer, Ask, CopyUid};
use crate::name::MailboxName;
use crate::parse::{Parser, Result};
use crate::session::{Session, Step};
use crate::view::Messages;
use crate::write;

/// The arguments of COPY and MOVE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Copy {
    /// Which messages.
    pub messages: Messages,
    /// Where to.
    pub target: MailboxName,
    /// MOVE.
    pub moves: bool,
}

pub(super) fn parse(parser: &mut Parser<'_>, by_uid: bool, moves: bool) -> Result<Command> {
    let messages = messages(parser, by_uid)?;
    parser.space()?;
    let target = parser.mailbox()?;
    parser.end()?;
    Ok(Command::Copy(Copy {
        messages,
        target,
        moves,
    }))
}

pub(crate) fn run(session: &mut Session, copy: Copy) {
    let Copy {
        messages,
        target,
        moves,
    } = copy;
    if moves && !session.may_change() {
        return;
    }
    let Some(uids) = session.resolve(&messages) else {
        return;
    };
    if uids.is_empty() {
        return session.ok("No such messages");
    }
    if !moves && session.refuse_limited() {
        return;
    }
    if moves {
        session.ask(Ask::Move { uids, target }, Copying { moves });
    } else {
        session.ask(Ask::Copy { uids, target }, Copying { moves });
    }
}

struct Copying {
    moves: bool,
}

impl Step for Copying {
    /// MOVE tells COPYUID before the expunges (RFC 6851 §4.3), COPY with its completion.
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match (answer, self.moves) {
            (Answer::Copied(Some(copied)), true) => {
                let code = code(&copied);
                write::display(session.text(), format_args!("* OK [{code}] Moved\r\n"));
                session.ok_synchronized("Moved");
            }
            (Answer::Copied(Some(copied)), false) => session.ok_with(&code(&copied), "Copied"),
            (Answer::Copied(None), _) => session.ok("No such messages"),
            (other, _) => session.refuse_unexpected(other),
        }
    }
}

fn code(copied: &CopyUid) -> String {
    format!(
        "COPYUID {} {} {}",
        copied.uid_validity, copied.source, copied.target
    )
}
