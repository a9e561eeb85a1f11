//! GENURLAUTH, URLFETCH and RESETKEY (RFC 4467): URLs of messages that others may read.

use std::collections::VecDeque;

use bytes::BufMut;

use super::Command;
use crate::io::{Answer, Ask, Output, SectionData};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};
use crate::url::ImapUrl;
use crate::write;

/// URLs in one command.
const URLS_MAX: usize = 100;
/// The one mechanism.
const INTERNAL: &str = "INTERNAL";

/// The arguments of RESETKEY.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ResetKey {
    /// Which mailbox; none: all.
    pub mailbox: Option<MailboxName>,
    /// The mechanisms whose keys are meant; none: all.
    pub mechanisms: Vec<String>,
}

pub(super) fn parse_generate(parser: &mut Parser<'_>) -> Result<Command> {
    let urls = list(parser, |parser| {
        let url = parser.utf8_astring()?;
        parser.space()?;
        Ok((url, parser.atom()?.to_owned()))
    })?;
    Ok(Command::GenUrlAuth(urls))
}

pub(super) fn parse_fetch(parser: &mut Parser<'_>) -> Result<Command> {
    list(parser, Parser::utf8_astring).map(Command::UrlFetch)
}

/// At least one of something, with a space before each, to the end of the command.
fn list<'a, T>(
    parser: &mut Parser<'a>,
    one: impl Fn(&mut Parser<'a>) -> Result<T>,
) -> Result<Vec<T>> {
    let mut found = Vec::new();
    while found.is_empty() || !parser.is_at_end() {
        parser.space()?;
        if found.len() >= URLS_MAX {
            return Err(ParseError::TooMany("URLs"));
        }
        found.push(one(parser)?);
    }
    Ok(found)
}

pub(super) fn parse_reset(parser: &mut Parser<'_>) -> Result<Command> {
    let mut command = ResetKey {
        mailbox: None,
        mechanisms: Vec::new(),
    };
    if !parser.is_at_end() {
        parser.space()?;
        command.mailbox = Some(parser.mailbox()?);
        while !parser.is_at_end() {
            parser.space()?;
            command.mechanisms.push(parser.atom()?.to_ascii_uppercase());
        }
    }
    Ok(Command::ResetKey(command))
}

/// All URLs are vouched for, or none.
pub(crate) fn generate(session: &mut Session, urls: Vec<(String, String)>) {
    let limits = &session.config().limits;
    let mut wanted = VecDeque::new();
    for (text, mechanism) in urls {
        if !mechanism.eq_ignore_ascii_case(INTERNAL) {
            return session.bad("The mechanism is INTERNAL");
        }
        let url = match ImapUrl::parse(&text, limits) {
            Ok(url) => url,
            Err(error) => return session.bad(&error.to_string()),
        };
        let authorization = url.authorization.as_ref();
        if authorization.is_none_or(|authorization| authorization.token.is_some()) {
            return session.bad("The URL must end in who may use it");
        }
        wanted.push_back((text, url));
    }
    let generating = Generating {
        asked: String::new(),
        wanted,
        answered: Vec::new(),
    };
    generating.go_on(session);
}

struct Generating {
    /// The URL in question.
    asked: String,
    wanted: VecDeque<(String, ImapUrl)>,
    answered: Vec<String>,
}

impl Generating {
    fn go_on(mut self, session: &mut Session) {
        if let Some((text, url)) = self.wanted.pop_front() {
            self.asked = text;
            return session.ask(Ask::AuthorizeUrl(Box::new(url)), self);
        }
        let out = session.text();
        out.put_slice(b"* GENURLAUTH");
        for url in &self.answered {
            out.put_u8(b' ');
            write::quoted(out, url);
        }
        out.put_slice(b"\r\n");
        session.ok("URLs authorized");
    }
}

impl Step for Generating {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::UrlToken(token) => {
                let url = std::mem::take(&mut self.asked);
                self.answered.push(format!("{url}:internal:{token}"));
                self.go_on(session);
            }
            other => session.refuse_unexpected(other),
        }
    }
}

/// A URL that names nothing that may be read is answered NIL.
pub(crate) fn fetch(session: &mut Session, urls: Vec<String>) {
    let fetching = Fetching { urls: urls.into() };
    fetching.go_on(session);
}

struct Fetching {
    /// The URLs, the one in question first.
    urls: VecDeque<String>,
}

impl Fetching {
    fn go_on(mut self, session: &mut Session) {
        let limits = &session.config().limits;
        while let Some(text) = self.urls.front() {
            let url = ImapUrl::parse(text, limits).ok();
            let is_authorized = |url: &ImapUrl| {
                let authorization = url.authorization.as_ref();
                authorization.is_some_and(|authorization| authorization.token.is_some())
            };
            if let Some(url) = url.filter(is_authorized) {
                return session.ask(Ask::FetchUrl(Box::new(url)), self);
            }
            self.write(session, &SectionData::Absent);
        }
        session.ok("URLs fetched");
    }

    fn write(&mut self, session: &mut Session, data: &SectionData) {
        let url = self.urls.pop_front().unwrap_or_default();
        let out = session.text();
        out.put_slice(b"* URLFETCH ");
        write::quoted(out, &url);
        match data {
            SectionData::Absent => out.put_slice(b" NIL"),
            SectionData::Bytes(octets) => {
                write::display(out, format_args!(" {{{}}}\r\n", octets.len()));
                out.put_slice(octets);
            }
            SectionData::Blob(range) => {
                write::display(out, format_args!(" {{{}}}\r\n", range.octets));
                session.push(Output::SendBlob(*range));
            }
        }
        session.text().put_slice(b"\r\n");
    }
}

impl Step for Fetching {
    fn answer(mut self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::UrlData(data) => {
                self.write(session, &data);
                self.go_on(session);
            }
            other => session.refuse_unexpected(other),
        }
    }
}

pub(crate) fn reset(session: &mut Session, command: ResetKey) {
    if command.mechanisms.iter().any(|name| name != INTERNAL) {
        let refusal = Refusal::new(RefusalKind::Cannot, "The mechanism is INTERNAL");
        return session.refuse(&refusal);
    }
    session.ask(Ask::ResetUrlKeys(command.mailbox), Resetting);
}

struct Resetting;

impl Step for Resetting {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Done => session.ok_with("URLMECH INTERNAL", "Keys reset"),
            other => session.refuse_unexpected(other),
        }
    }
}
