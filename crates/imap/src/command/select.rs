//! SELECT, EXAMINE, CLOSE and UNSELECT (RFC 3501 §6.3.1, §6.3.2, §6.4.2; RFC 3691).

use bytes::{BufMut, BytesMut};

use super::{Command, synchronize};
use crate::enabled::{Enabled, Extension};
use crate::io::{Answer, Ask, Resync, Resynced, Selected};
use crate::name::MailboxName;
use crate::parse::{Parser, Result};
use crate::session::{Session, Step};
use crate::view::View;
use crate::write::{self, FlagsNews};

/// The arguments of SELECT and EXAMINE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Select {
    /// Which mailbox.
    pub mailbox: MailboxName,
    /// EXAMINE.
    pub read_only: bool,
    /// `CONDSTORE`: the client wants modification sequences from now on (RFC 7162 §3.1.8).
    pub condstore: bool,
    /// `QRESYNC`: what the client knows already.
    pub resync: Option<Box<Resync>>,
}

pub(super) fn parse(parser: &mut Parser<'_>, read_only: bool) -> Result<Command> {
    parser.space()?;
    let mut select = Select {
        mailbox: parser.mailbox()?,
        read_only,
        condstore: false,
        resync: None,
    };
    if !parser.is_at_end() {
        parser.space()?;
        synchronize::select_parameters(parser, &mut select)?;
    }
    parser.end()?;
    Ok(Command::Select(select))
}

/// The mailbox selected before is left first, whether or not this one can be opened.
pub(crate) fn run(session: &mut Session, select: Select) {
    let Select {
        mailbox,
        read_only,
        condstore,
        resync,
    } = select;
    if let Some(resync) = &resync {
        if !session.enabled().has(Extension::Qresync) {
            return session.bad("Enable QRESYNC first");
        }
        if session.enabled().has(Extension::UidOnly) && !resync.matched.is_empty() {
            return session.bad_with("UIDREQUIRED", "Messages have no numbers in this session");
        }
    }
    if session.view().is_some() {
        // What comes before this is of the old mailbox, what comes after it of the new one (RFC 7162 §3.2.11).
        session
            .text()
            .put_slice(b"* OK [CLOSED] The mailbox before is closed\r\n");
    }
    session.deselect();
    if condstore {
        session.enable(Extension::Condstore);
    }
    let name = mailbox.clone();
    let ask = Ask::Select {
        mailbox,
        read_only,
        resync,
    };
    session.ask(ask, Selecting { name });
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
        write_selected(session, selected, &view, &self.name);
        session.select(self.name, selected.read_only, view);
        if selected.read_only {
            session.ok_with("READ-ONLY", "Open for reading");
        } else {
            session.ok_with("READ-WRITE", "Open");
        }
    }
}

fn write_selected(session: &mut Session, selected: &Selected, view: &View, name: &MailboxName) {
    let enabled = session.enabled();
    let out = session.text();
    if selected.read_only {
        out.put_slice(b"* FLAGS ");
        write::all_flags(out, &selected.keywords, None);
        out.put_slice(b"\r\n* OK [PERMANENTFLAGS ()] Read-only\r\n");
    } else {
        write::flags_in_use(out, &selected.keywords, selected.permitted);
    }
    write::count(out, view.exists(), "EXISTS");
    if enabled.tells_recent() {
        write::count(out, view.recent(), "RECENT");
        write_first_unseen(out, selected, view, enabled);
    } else {
        out.put_slice(b"* LIST () \"/\" ");
        write::mailbox(out, name, enabled.utf8());
        out.put_slice(b"\r\n");
    }
    let (validity, next) = (selected.uid_validity, selected.uid_next);
    let (modseq, id) = (selected.highest_modseq, selected.mailbox_id.get());
    write::display(
        out,
        format_args!("* OK [UIDVALIDITY {validity}] UIDs valid\r\n"),
    );
    write::display(out, format_args!("* OK [UIDNEXT {next}] Next UID\r\n"));
    write::highest_modseq(out, modseq);
    write::display(
        out,
        format_args!("* OK [MAILBOXID (M{id:016x})] Mailbox\r\n"),
    );
    if let Some(resynced) = &selected.resynced {
        write_resynced(out, resynced, view, enabled);
    }
}

/// IMAP4rev2 has no UNSEEN here, and UIDONLY no number to give.
fn write_first_unseen(out: &mut BytesMut, selected: &Selected, view: &View, enabled: Enabled) {
    let unseen = selected
        .first_unseen
        .filter(|_| !enabled.has(Extension::UidOnly))
        .and_then(|uid| view.seq_of(uid, &mut 0));
    if let Some(seq) = unseen {
        write::display(out, format_args!("* OK [UNSEEN {seq}] First unseen\r\n"));
    }
}

/// Expunges first, then the messages that changed (RFC 7162 §3.2.5.1).
fn write_resynced(out: &mut BytesMut, resynced: &Resynced, view: &View, enabled: Enabled) {
    write::vanished(out, true, &resynced.vanished);
    let mut hint = 0;
    for row in &resynced.changed {
        if let Some(seq) = view.seq_of(row.uid, &mut hint) {
            let news = FlagsNews {
                seq,
                uid: row.uid,
                tells_uid: true,
                flags: Some(&row.flags),
                recent: view.is_recent(row.uid),
                modseq: row.modseq,
            };
            write::fetch_flags(out, &news, enabled);
        }
    }
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
