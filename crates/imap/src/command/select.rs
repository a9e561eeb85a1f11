//! SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 §6.3.1, §6.3.2, §6.4.2; RFC 3691).

use bytes::BufMut;

use super::Command;
use crate::io::{Answer, Ask, Selected};
use crate::name::MailboxName;
use crate::parse::{Parser, Result};
use crate::session::{Session, Step};
use crate::view::View;
use crate::write;

pub(super) fn parse(parser: &mut Parser<'_>, read_only: bool) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.end()?;
    Ok(Command::Select { mailbox, read_only })
}

/// The mailbox selected before is left first, whether or not this one can be opened.
pub(crate) fn run(session: &mut Session, mailbox: MailboxName, read_only: bool) {
    session.deselect();
    let name = mailbox.clone();
    session.ask(Ask::Select { mailbox, read_only }, Selecting { name });
}

struct Selecting {
    name: MailboxName,
}

impl Step for Selecting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Selected(selected) => self.enter(session, &selected),
            other => session.refuse_unexpected(other),
        }
    }
}

impl Selecting {
    fn enter(self, session: &mut Session, selected: &Selected) {
        let view = View::new(selected);
        write_selected(session, selected, &view);
        session.select(self.name, selected.read_only, view);
        if selected.read_only {
            session.ok_with("READ-ONLY", "Open for reading");
        } else {
            session.ok_with("READ-WRITE", "Open");
        }
    }
}

fn write_selected(session: &mut Session, selected: &Selected, view: &View) {
    let out = session.text();
    if selected.read_only {
        out.put_slice(b"* FLAGS ");
        write::all_flags(out, &selected.keywords, None);
        out.put_slice(b"\r\n* OK [PERMANENTFLAGS ()] Read-only\r\n");
    } else {
        write::flags_in_use(out, &selected.keywords);
    }
    write::count(out, view.exists(), "EXISTS");
    write::count(out, view.recent(), "RECENT");
    if let Some(seq) = selected
        .first_unseen
        .and_then(|uid| view.seq_of(uid, &mut 0))
    {
        write::display(out, format_args!("* OK [UNSEEN {seq}] First unseen\r\n"));
    }
    let (validity, next) = (selected.uid_validity, selected.uid_next);
    write::display(
        out,
        format_args!("* OK [UIDVALIDITY {validity}] UIDs valid\r\n"),
    );
    write::display(out, format_args!("* OK [UIDNEXT {next}] Next UID\r\n"));
}

/// CLOSE expunges unless the mailbox is read-only; UNSELECT never does.
pub(crate) fn close(session: &mut Session, expunge: bool) {
    let expunge = expunge && !session.is_read_only();
    session.deselect();
    session.ask(Ask::Close { expunge }, Closing);
}

struct Closing;

impl Step for Closing {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok("Closed"),
            other => session.refuse_unexpected(other),
        }
    }
}
