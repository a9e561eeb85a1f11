//! ESEARCH (RFC 7377): one search over several mailboxes.

use nightmail_core::Uid;

use super::Command;
use super::esearch::{self, Head, Returns, Row};
use super::search::{self, Charset, SearchKey, SearchSet};
use super::search_grammar::Program;
use crate::io::{Answer, Ask, FoundIn};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};

/// Sources of one search.
const SOURCES_MAX: usize = 32;
/// Mailboxes named in one source.
const NAMES_MAX: usize = 1000;

/// The arguments of ESEARCH.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MultiSearch {
    /// Which mailboxes; none: the selected one.
    pub sources: Vec<Source>,
    /// What of the results is wanted.
    pub returns: Returns,
    /// The charset of its texts.
    pub charset: Charset,
    /// What is sought.
    pub key: SearchKey<SearchSet>,
}

/// Mailboxes, as they are named in a search (RFC 7377 §2.2, RFC 5465 §6).
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Source {
    /// The one that is selected.
    Selected,
    /// Those that mail is delivered to.
    Inboxes,
    /// All of the user's own.
    Personal,
    /// All that are subscribed.
    Subscribed,
    /// These and all below them.
    Subtree(Vec<MailboxName>),
    /// These and those one level below them.
    SubtreeOne(Vec<MailboxName>),
    /// These.
    Mailboxes(Vec<MailboxName>),
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let sources = if parser.eat_word("IN") {
        parser.space()?;
        let sources = parse_sources(parser)?;
        parser.space()?;
        sources
    } else {
        Vec::new()
    };
    let returns = if parser.eat_word("RETURN") {
        parser.space()?;
        let returns = Returns::parse(parser)?;
        parser.space()?;
        returns
    } else {
        Returns::ALL
    };
    let program = Program::parse(parser)?;
    Ok(Command::MultiSearch(MultiSearch {
        sources,
        returns,
        charset: program.charset,
        key: program.key,
    }))
}

fn parse_sources(parser: &mut Parser<'_>) -> Result<Vec<Source>> {
    parser.expect(b'(', "expected a parenthesis")?;
    let mut sources = vec![parse_source(parser)?];
    while !parser.eat(b')') {
        parser.space()?;
        if parser.peek() == Some(b'(') {
            return Err(ParseError::Syntax("no scope option is known"));
        }
        if sources.len() >= SOURCES_MAX {
            return Err(ParseError::TooMany("sources"));
        }
        sources.push(parse_source(parser)?);
    }
    Ok(sources)
}

fn parse_source(parser: &mut Parser<'_>) -> Result<Source> {
    Ok(match parser.atom()?.to_ascii_lowercase().as_str() {
        "selected" | "selected-delayed" => Source::Selected,
        "inboxes" => Source::Inboxes,
        "personal" => Source::Personal,
        "subscribed" => Source::Subscribed,
        "subtree" => Source::Subtree(parse_names(parser)?),
        "subtree-one" => Source::SubtreeOne(parse_names(parser)?),
        "mailboxes" => Source::Mailboxes(parse_names(parser)?),
        _ => return Err(ParseError::Syntax("no such source of mailboxes")),
    })
}

fn parse_names(parser: &mut Parser<'_>) -> Result<Vec<MailboxName>> {
    parser.space()?;
    match parser.peek() {
        Some(b'(') => parser.list(NAMES_MAX, "mailboxes", Parser::mailbox),
        _ => Ok(vec![parser.mailbox()?]),
    }
}

pub(crate) fn run(session: &mut Session, search: MultiSearch) {
    let MultiSearch {
        sources,
        returns,
        charset,
        key,
    } = search;
    if !search::begin(session, charset, &key) {
        return;
    }
    if sources.iter().all(|source| *source == Source::Selected) {
        return search::run_in_selected(session, returns, key);
    }
    if sources.contains(&Source::Selected) && session.view().is_none() {
        return session.bad("No mailbox is selected");
    }
    if returns.save {
        return session.bad("Only what is found in the selected mailbox alone can be saved");
    }
    if key.is_of_selected() {
        return session.bad("Messages can be named in the selected mailbox alone");
    }
    let ask = Ask::SearchMailboxes {
        modseqs: key.has_modseq(),
        sources,
        key: Box::new(key),
    };
    session.ask(ask, Searching { returns });
}

struct Searching {
    returns: Returns,
}

impl Step for Searching {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::FoundIn(found) => {
                self.tell(session, &found);
                session.await_more(self);
            }
            Answer::Done => session.ok("Searched"),
            other => session.refuse_unexpected(other),
        }
    }
}

impl Searching {
    /// A mailbox in which nothing was found is not told (RFC 7377 §2.1).
    fn tell(&self, session: &mut Session, found: &FoundIn) {
        let rows: Vec<Row> = rows(found).collect();
        if rows.is_empty() {
            return;
        }
        let head = Head {
            tag: session.tag(),
            mailbox: Some((&found.mailbox, found.uid_validity)),
            by_uid: true,
            utf8: session.enabled().utf8(),
        };
        esearch::write(session.text(), &head, &self.returns, &rows, false);
    }
}

fn rows(found: &FoundIn) -> impl Iterator<Item = Row> + '_ {
    let mut modseqs = found.found.modseqs.iter();
    found.found.uids.iter().map(move |uid: &Uid| Row {
        uid: *uid,
        number: uid.get(),
        modseq: modseqs.next().copied(),
    })
}
