//! APPEND (RFC 3501 §6.3.11) of one or several messages (RFC 3502), put together from parts (RFC 4469), with UTF-8 in
//! their headers (RFC 6855 §4) or NUL in their bodies (RFC 3516 §4.3); REPLACE (RFC 8508); APPENDUID (RFC 4315 §3).
//!
//! The driver is asked before the client gets leave to send a message, so that a mailbox that is not there costs no
//! upload. Messages pass in chunks. The text between them is read by [`super::append_grammar`] and carried out item
//! by item.
//!
//! **Invariant:** whatever fails, nothing is appended: the driver is told to finish only after the last message.

use std::collections::VecDeque;

use bytes::Bytes;
use nightmail_core::Uid;

use super::Command;
use super::append_grammar::{Follows, Item, Place, Text, parse};
use crate::io::{Answer, AppendBegin, AppendUid, Ask, Output};
use crate::parse::{ParseError, Parser, Result};
use crate::reader::Literal;
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};
use crate::view::Messages;
use crate::write;

/// A whole APPEND that had no literal for its message; one that is put together from URLs alone is understood.
pub(super) fn parse_without_message(parser: &mut Parser<'_>) -> Result<Command> {
    parse(parser, Place::Append, false).map(|text| Command::Append(Box::new(text)))
}

/// The same of REPLACE.
pub(super) fn parse_replace(parser: &mut Parser<'_>, by_uid: bool) -> Result<Command> {
    parse(parser, Place::Replace { by_uid }, false).map(|text| Command::Append(Box::new(text)))
}

/// A command with a message has come up to its first literal.
pub(crate) fn begin(session: &mut Session, literal: Literal) {
    Append::default().read_on(session, Place::Name, Some(literal), &[]);
}

/// A command with a message has come whole, without any literal that is one.
pub(crate) fn run(session: &mut Session, text: Text) {
    Append::default().carry_out(session, text, None);
}

/// A command in progress.
#[derive(Default)]
struct Append {
    /// The message it replaces.
    replaces: Option<Uid>,
    /// Whether it is a REPLACE.
    is_replace: bool,
    /// Messages begun.
    messages: usize,
    /// Octets of the message that is being given.
    octets: u64,
    /// Parts of it.
    parts: usize,
}

impl Append {
    /// Reads the text that has come: `line`, or what stands before a literal.
    fn read_on(self, session: &mut Session, place: Place, literal: Option<Literal>, line: &[u8]) {
        let config = session.config();
        let utf8 = session.enabled().utf8();
        let text = literal.map_or(line, |literal| session.text_before(literal));
        let mut parser = Parser::new(text, &config.limits).with_utf8(utf8);
        match (
            parse(&mut parser, place.clone(), literal.is_some()),
            literal,
        ) {
            (Ok(text), Some(literal)) if text.follows == Follows::Word => {
                if session.accept_literal(literal, config.limits.append_text_octets_max) {
                    session.await_line(Reading {
                        append: self,
                        place,
                    });
                } else {
                    self.drop_messages(session);
                }
            }
            (Ok(text), literal) => self.carry_out(session, text, literal),
            (Err(error), literal) => {
                self.leave(session, literal);
                session.reject(error);
            }
        }
    }

    fn carry_out(mut self, session: &mut Session, text: Text, literal: Option<Literal>) {
        if let Some(messages) = &text.replaces {
            self.is_replace = true;
            match find_replaced(session, messages) {
                Ok(uid) => self.replaces = Some(uid),
                Err(refusal) => return self.fail(session, literal, refusal),
            }
        }
        let work = Work {
            append: self,
            items: text.items.into(),
            follows: text.follows,
            literal,
        };
        work.go_on(session);
    }

    /// Drops what the driver holds.
    fn drop_messages(&self, session: &mut Session) {
        if self.messages > 0 {
            session.push(Output::AbortBody);
        }
    }

    /// Drops everything: what the driver holds, and the literal that was announced.
    fn leave(&self, session: &mut Session, literal: Option<Literal>) {
        self.drop_messages(session);
        if let Some(literal) = literal {
            session.refuse_literal(literal);
        }
    }

    fn fail(self, session: &mut Session, literal: Option<Literal>, why: Refused) {
        self.leave(session, literal);
        match why {
            Refused::With(refusal) => session.refuse(&refusal),
            Refused::Bad(text) => session.bad(text),
            Refused::Url(url, text) => {
                let shown = |c: &char| matches!(c, ' '..='~') && !matches!(c, '"' | '\\' | ']');
                let url: String = url.chars().filter(shown).collect();
                session.no_with(&format!("BADURL \"{url}\""), &text);
            }
        }
    }
}

/// Why a command ends without having done anything.
enum Refused {
    With(Refusal),
    Bad(&'static str),
    /// A URL, and what is wrong with it.
    Url(String, String),
}

impl Refused {
    fn with(kind: RefusalKind, text: &'static str) -> Self {
        Self::With(Refusal::new(kind, text))
    }
}

/// The one message that REPLACE names.
fn find_replaced(session: &mut Session, messages: &Messages) -> std::result::Result<Uid, Refused> {
    if session.is_read_only() {
        return Err(Refused::with(
            RefusalKind::ReadOnly,
            "Open for reading only",
        ));
    }
    let by_uid = messages.is_uid();
    let found = session.view().and_then(|view| view.resolve(messages));
    let found: Vec<_> = found
        .iter()
        .flat_map(|uids| uids.ranges().take(2))
        .collect();
    match found.as_slice() {
        [(first, last)] if first == last => Ok(*first),
        [] if by_uid => Err(Refused::with(RefusalKind::NoSuchMailbox, "No such message")),
        [] => Err(Refused::Bad("No message has that sequence number")),
        _ => Err(Refused::Bad("One message is replaced at a time")),
    }
}

/// A text that waits for more of itself: the literal that is coming is a word of it.
struct Reading {
    append: Append,
    place: Place,
}

impl Step for Reading {
    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        self.append.read_on(session, self.place, None, line);
    }

    fn literal(self: Box<Self>, session: &mut Session, literal: Literal) {
        self.append.read_on(session, self.place, Some(literal), &[]);
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        self.append.drop_messages(session);
    }
}

/// A text that is being carried out.
struct Work {
    append: Append,
    items: VecDeque<Item>,
    follows: Follows,
    /// The literal after it, on which nothing is decided yet.
    literal: Option<Literal>,
}

impl Work {
    fn go_on(mut self, session: &mut Session) {
        while let Some(item) = self.items.pop_front() {
            let done = match item {
                Item::Begin(begin) => return self.begin(session, begin),
                Item::Url(url) => return self.url(session, url),
                Item::End => self.end_of_parts(),
            };
            if let Err(refused) = done {
                return self.append.fail(session, self.literal, refused);
            }
        }
        match (self.follows.clone(), self.literal) {
            (Follows::Message { place, utf8 }, Some(literal)) => {
                self.receive(session, literal, place, utf8);
            }
            _ => {
                let is_replace = self.append.is_replace;
                session.ask(Ask::AppendFinish, Finishing { is_replace });
            }
        }
    }

    fn begin(mut self, session: &mut Session, mut begin: AppendBegin) {
        let limits = &session.config().limits;
        if let (true, Some(literal)) = (begin.octets.is_some(), self.literal) {
            begin.octets = Some(literal.octets);
        }
        begin.replaces = self.append.replaces;
        let octets = begin.octets.unwrap_or(1);
        let refused = if octets > limits.message_octets_max {
            Refused::with(RefusalKind::TooBig, "The message is too big")
        } else if octets == 0 {
            Refused::with(RefusalKind::Cannot, "The message is empty")
        } else if self.append.messages >= limits.append_messages_max {
            Refused::with(RefusalKind::Limit, "Too many messages at once")
        } else {
            self.append.messages += 1;
            self.append.octets = 0;
            self.append.parts = 0;
            return session.ask(Ask::AppendBegin(begin), self);
        };
        self.append.fail(session, self.literal, refused);
    }

    fn url(mut self, session: &mut Session, url: String) {
        let limits = &session.config().limits;
        if let Err(refused) = self.append.count_part(limits.append_parts_max) {
            return self.append.fail(session, self.literal, refused);
        }
        let octets_max = limits.message_octets_max.saturating_sub(self.append.octets);
        let ask = Ask::AppendUrl {
            url: url.clone(),
            octets_max,
        };
        session.ask(ask, Fetching { work: self, url });
    }

    fn end_of_parts(&self) -> std::result::Result<(), Refused> {
        match self.append.octets {
            0 => Err(Refused::with(RefusalKind::Cannot, "The message is empty")),
            _ => Ok(()),
        }
    }

    /// Lets the octets come.
    fn receive(mut self, session: &mut Session, literal: Literal, place: Place, utf8: bool) {
        let limits = &session.config().limits;
        let counted = self.append.count_part(limits.append_parts_max);
        let octets = self.append.octets.saturating_add(literal.octets);
        if let Err(refused) = counted {
            return self.append.fail(session, Some(literal), refused);
        }
        if octets > limits.message_octets_max {
            let refused = Refused::with(RefusalKind::TooBig, "The message is too big");
            return self.append.fail(session, Some(literal), refused);
        }
        self.append.octets = octets;
        session.take_message(literal);
        session.await_line(Receiving {
            append: self.append,
            place,
            binary: literal.binary && !utf8,
        });
    }
}

impl Append {
    fn count_part(&mut self, parts_max: usize) -> std::result::Result<(), Refused> {
        self.parts += 1;
        if self.parts > parts_max {
            return Err(Refused::with(RefusalKind::Limit, "Too many parts"));
        }
        Ok(())
    }
}

/// A message was begun.
impl Step for Work {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::AppendReady => self.go_on(session),
            Answer::Refused(refusal) => {
                // It was not begun after all.
                self.append.messages -= 1;
                self.append
                    .fail(session, self.literal, Refused::With(refusal));
            }
            other => {
                self.append.leave(session, self.literal);
                session.refuse_unexpected(other);
            }
        }
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        self.append.drop_messages(session);
    }
}

/// What a URL names is being put at the end of the message.
struct Fetching {
    work: Work,
    url: String,
}

impl Step for Fetching {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let Self { mut work, url } = *self;
        match answer {
            Answer::AppendedPart(octets) => {
                work.append.octets = work.append.octets.saturating_add(octets);
                work.go_on(session);
            }
            Answer::Refused(refusal) => {
                let refused = match refusal.kind() {
                    RefusalKind::BadUrl => Refused::Url(url, refusal.text().to_owned()),
                    _ => Refused::With(refusal),
                };
                work.append.fail(session, work.literal, refused);
            }
            other => {
                work.append.leave(session, work.literal);
                session.refuse_unexpected(other);
            }
        }
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        self.work.append.drop_messages(session);
    }
}

/// The octets of a message, or of a part of one, are coming.
struct Receiving {
    append: Append,
    /// What the text after them may be.
    place: Place,
    /// Whether they may hold NUL.
    binary: bool,
}

impl Step for Receiving {
    /// NUL can only be in a literal8 (RFC 3501 §4.3, RFC 3516 §4.4).
    fn chunk(self: Box<Self>, session: &mut Session, octets: Bytes) {
        if !self.binary && memchr::memchr(0, &octets).is_some() {
            self.append.drop_messages(session);
            session.refuse_message();
            return session.bad("The message must not hold NUL");
        }
        session.push(Output::Body(octets));
        session.await_line(*self);
    }

    fn line(self: Box<Self>, session: &mut Session, line: &[u8]) {
        self.append.read_on(session, self.place, None, line);
    }

    fn literal(self: Box<Self>, session: &mut Session, literal: Literal) {
        self.append.read_on(session, self.place, Some(literal), &[]);
    }

    fn abandoned(self: Box<Self>, session: &mut Session) {
        self.append.drop_messages(session);
    }
}

struct Finishing {
    is_replace: bool,
}

impl Step for Finishing {
    /// REPLACE tells where the new message is before it tells that the old one is gone (RFC 8508 §3.5).
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match (answer, self.is_replace) {
            (Answer::Appended(Some(at)), true) => {
                let code = code(&at);
                write::display(
                    session.text(),
                    format_args!("* OK [{code}] Replacement there\r\n"),
                );
                session.ok("Replaced");
            }
            (Answer::Appended(None), true) => session.ok("Replaced"),
            (Answer::Appended(Some(at)), false) => session.ok_with(&code(&at), "Appended"),
            (Answer::Appended(None), false) => session.ok("Appended"),
            (other, _) => session.refuse_unexpected(other),
        }
    }
}

fn code(at: &AppendUid) -> String {
    format!("APPENDUID {} {}", at.uid_validity, at.uids)
}

/// A message was expected, and the command ended.
pub(super) const NO_MESSAGE: ParseError = ParseError::Syntax("expected the message as a literal");
