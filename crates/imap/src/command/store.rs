//! STORE (RFC 3501 §6.4.6), also of messages that have not changed meanwhile (RFC 7162 §3.1.3).

use std::sync::Arc;

use nightmail_core::{ModSeq, Uid};

use super::{Command, messages, synchronize};
use crate::enabled::Extension;
use crate::flag::FlagList;
use crate::io::{Answer, Ask, Telling};
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::set::UidSet;
use crate::view::Messages;
use crate::write::{self, FlagsNews};

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
    /// Only messages that have not changed after this (RFC 7162 §3.1.3).
    pub unchanged_since: Option<ModSeq>,
}

pub(super) fn parse(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    let messages = messages(parser, by_uid)?;
    parser.space()?;
    let unchanged_since = synchronize::unchanged_since(parser)?;
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
        unchanged_since,
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
    if store.unchanged_since.is_some() {
        session.enable_condstore();
    }
    // News that waits would be stale once this is done, so the new flags are told instead.
    let silent = store.silent && !session.view().is_some_and(|view| view.has_news_of(&uids));
    let telling = match silent {
        false => Telling::Flags,
        true if session.enabled().has(Extension::Condstore) => Telling::ModSeq,
        true => Telling::Nothing,
    };
    session.ask(
        Ask::Store {
            uids,
            change: store.change,
            telling,
            unchanged_since: store.unchanged_since,
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
                if let Some(view) = session.view_mut() {
                    view.remember_own_row(row.modseq, row.uid);
                }
                self.tell(session, row.uid, Some(&row.flags), row.modseq);
                session.await_more(self);
            }
            Answer::StoreModSeq { uids, modseq } => {
                self.tell_modseq(session, &uids, modseq);
                session.await_more(self);
            }
            Answer::Stored {
                modseq,
                gone,
                modified,
            } => {
                if let (Some(modseq), Some(view)) = (modseq, session.view_mut()) {
                    let left = view.members(&modified);
                    view.remember_own(modseq, &self.uids.without(&left));
                }
                self.complete(session, gone, &modified);
            }
            other => session.refuse_unexpected(other),
        }
    }
}

impl Storing {
    fn tell(&mut self, session: &mut Session, uid: Uid, flags: Option<&FlagList>, modseq: ModSeq) {
        let enabled = session.enabled();
        let (out, Some(view)) = session.text_and_view() else {
            return;
        };
        let Some(seq) = view.seq_of(uid, &mut self.hint) else {
            return;
        };
        let news = FlagsNews {
            seq,
            uid,
            tells_uid: self.by_uid,
            flags,
            recent: view.is_recent(uid),
            modseq,
        };
        write::fetch_flags(out, &news, enabled);
    }

    fn tell_modseq(&mut self, session: &mut Session, uids: &UidSet, modseq: ModSeq) {
        let Some(view) = session.view() else {
            return;
        };
        let known = Arc::clone(view.uids());
        for (low, high) in uids.ranges() {
            let start = known.partition_point(|uid| *uid < low);
            let stored = known.get(start..).unwrap_or_default().iter();
            for uid in stored.take_while(|uid| **uid <= high) {
                self.tell(session, *uid, None, modseq);
            }
        }
    }

    /// What was left as it is because it had changed is named in the way in which the client named it.
    fn complete(&self, session: &mut Session, gone: bool, modified: &UidSet) {
        let Some(view) = session.view().filter(|_| !modified.is_empty()) else {
            return session.ok_gone(gone && !self.by_uid, "Stored");
        };
        let named = match self.by_uid {
            true => modified.clone(),
            false => view.numbers_of(modified),
        };
        let code = format!("MODIFIED {named}");
        if gone && !self.by_uid {
            session.no_with(&code, "Some messages are gone, others have changed");
        } else {
            session.ok_with(&code, "Some messages have changed");
        }
    }
}
