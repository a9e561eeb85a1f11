//! STORE (RFC 3501 §6.4.6).

use super::{Command, messages};
use crate::flag::FlagList;
use crate::io::{Answer, Ask, FlagsRow};
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::set::UidSet;
use crate::view::Messages;
use crate::write;

/// How flags change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FlagChange {
    /// `FLAGS`: these and no others.
    Replace(FlagList),
    /// `+FLAGS`: these as well.
    Add(FlagList),
    /// `-FLAGS`: these no more.
    Remove(FlagList),
}

/// The arguments of STORE.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Store {
    /// Which messages.
    pub messages: Messages,
    /// How their flags change.
    pub change: FlagChange,
    /// Whether the new flags are not to be told.
    pub silent: bool,
}

pub(super) fn parse(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    let messages = messages(parser, by_uid)?;
    parser.space()?;
    let item = parser.atom()?.to_ascii_uppercase();
    let (item, silent) = match item.strip_suffix(".SILENT") {
        Some(item) => (item, true),
        None => (item.as_str(), false),
    };
    let change = match item {
        "FLAGS" => FlagChange::Replace,
        "+FLAGS" => FlagChange::Add,
        "-FLAGS" => FlagChange::Remove,
        _ => return Err(ParseError::Syntax("expected FLAGS, +FLAGS or -FLAGS")),
    };
    parser.space()?;
    let change = change(parser.final_flags()?);
    parser.end()?;
    Ok(Command::Store(Store {
        messages,
        change,
        silent,
    }))
}

pub(crate) fn run(session: &mut Session, store: Store) {
    if !session.may_change() {
        return;
    }
    let Some(uids) = session.resolve(&store.messages) else {
        return;
    };
    if uids.is_empty() {
        return session.ok("No such messages");
    }
    let storing = Storing {
        uids: uids.clone(),
        by_uid: store.messages.is_uid(),
        hint: 0,
    };
    // News that waits would be stale once this is done, so the new flags are told instead.
    let silent = store.silent && !session.view().is_some_and(|view| view.has_news_of(&uids));
    let change = store.change;
    session.ask(
        Ask::Store {
            uids,
            change,
            silent,
        },
        storing,
    );
}

struct Storing {
    uids: UidSet,
    by_uid: bool,
    hint: usize,
}

impl Step for Storing {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::StoreRow(row) => {
                self.row(session, &row);
                session.await_more(self);
            }
            Answer::Stored { modseq, gone } => {
                if let (Some(modseq), Some(view)) = (modseq, session.view_mut()) {
                    view.remember_own(modseq, &self.uids);
                }
                session.ok_gone(gone && !self.by_uid, "Stored");
            }
            other => session.refuse_unexpected(other),
        }
    }
}

impl Storing {
    fn row(&mut self, session: &mut Session, row: &FlagsRow) {
        let Some(view) = session.view_mut() else {
            return;
        };
        view.remember_own_row(row.modseq, row.uid);
        let recent = view.is_recent(row.uid);
        if let Some(seq) = view.seq_of(row.uid, &mut self.hint) {
            let uid = self.by_uid.then_some(row.uid);
            write::fetch_flags(session.text(), seq, uid, &row.flags, recent);
        }
    }
}
