//! GETQUOTA, GETQUOTAROOT and SETQUOTA (RFC 9208 §4).

use bytes::BufMut;

use super::Command;
use crate::io::{Answer, Ask};
use crate::name::MailboxName;
use crate::parse::{ParseError, Parser, Result};
use crate::session::{Session, Step};
use crate::write;

/// More than there are kinds of resources.
const RESOURCES_MAX: usize = 10;

/// What a quota root bounds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Resource {
    /// `STORAGE`: octets of all messages, in units of 1024.
    Storage,
    /// `MESSAGE`: messages.
    Message,
    /// `MAILBOX`: mailboxes.
    Mailbox,
}

const NAMES: [(Resource, &str); 3] = [
    (Resource::Storage, "STORAGE"),
    (Resource::Message, "MESSAGE"),
    (Resource::Mailbox, "MAILBOX"),
];

impl Resource {
    /// The name on the wire.
    pub fn name(self) -> &'static str {
        let found = NAMES.iter().find(|(resource, _)| *resource == self);
        found.map_or("", |(_, name)| name)
    }

    fn parse(name: &str) -> Option<Self> {
        let mut known = NAMES.iter();
        let found = known.find(|(_, known)| known.eq_ignore_ascii_case(name));
        found.map(|(resource, _)| *resource)
    }
}

/// A question about quota roots.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum QuotaAsk {
    /// What a root bounds: `Quota` with that root. The empty name is that of the user's own root.
    Get(String),
    /// The roots of a mailbox: `Quota`.
    Roots(MailboxName),
    /// Bound these and nothing else: `Quota` with that root.
    Set {
        /// Which root.
        root: String,
        /// The bounds, in the units of their resources; none where a resource is not known here.
        limits: Vec<(Option<Resource>, u64)>,
    },
}

/// A quota root.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaRoot {
    /// Its name.
    pub name: String,
    /// What it bounds, how much of that is used, and how much may be; in the units of the resource. None where the user
    /// may not know.
    pub resources: Option<Vec<(Resource, u64, u64)>>,
}

fn root(parser: &mut Parser<'_>) -> Result<String> {
    parser.space()?;
    parser.utf8_astring()
}

pub(super) fn parse_get(parser: &mut Parser<'_>) -> Result<Command> {
    let root = root(parser)?;
    parser.end()?;
    Ok(Command::Quota(QuotaAsk::Get(root)))
}

pub(super) fn parse_roots(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let mailbox = parser.mailbox()?;
    parser.end()?;
    Ok(Command::Quota(QuotaAsk::Roots(mailbox)))
}

pub(super) fn parse_set(parser: &mut Parser<'_>) -> Result<Command> {
    let root = root(parser)?;
    parser.space()?;
    let mut nothing = parser.clone();
    let limits = if nothing.eat(b'(') && nothing.eat(b')') {
        *parser = nothing;
        Vec::new()
    } else {
        parser.list(RESOURCES_MAX, "resources", limit)?
    };
    parser.end()?;
    Ok(Command::Quota(QuotaAsk::Set { root, limits }))
}

fn limit(parser: &mut Parser<'_>) -> Result<(Option<Resource>, u64)> {
    let resource = Resource::parse(parser.atom()?);
    parser.space()?;
    let limit = parser.number64()?;
    match i64::try_from(limit) {
        Ok(_) => Ok((resource, limit)),
        Err(_) => Err(ParseError::Syntax("the number is too great")),
    }
}

pub(crate) fn run(session: &mut Session, ask: QuotaAsk) {
    let of = match &ask {
        QuotaAsk::Roots(mailbox) => Some(mailbox.clone()),
        QuotaAsk::Get(_) | QuotaAsk::Set { .. } => None,
    };
    session.ask(Ask::Quota(ask), Asking { of });
}

struct Asking {
    /// The mailbox whose roots were asked for.
    of: Option<MailboxName>,
}

impl Step for Asking {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        let Answer::Quota(roots) = answer else {
            return session.refuse_unexpected(answer);
        };
        if let Some(mailbox) = &self.of {
            tell_roots(session, mailbox, &roots);
        }
        for root in &roots {
            tell_root(session, root);
        }
        session.ok("Quota told");
    }
}

fn tell_roots(session: &mut Session, mailbox: &MailboxName, roots: &[QuotaRoot]) {
    let utf8 = session.enabled().utf8();
    let out = session.text();
    out.put_slice(b"* QUOTAROOT ");
    write::mailbox(out, mailbox, utf8);
    for root in roots {
        out.put_u8(b' ');
        write::text(out, &root.name, utf8);
    }
    out.put_slice(b"\r\n");
}

fn tell_root(session: &mut Session, root: &QuotaRoot) {
    let Some(resources) = &root.resources else {
        return;
    };
    let utf8 = session.enabled().utf8();
    let out = session.text();
    out.put_slice(b"* QUOTA ");
    write::text(out, &root.name, utf8);
    out.put_slice(b" (");
    for (index, (resource, usage, limit)) in resources.iter().enumerate() {
        let gap = if index == 0 { "" } else { " " };
        let name = resource.name();
        write::display(out, format_args!("{gap}{name} {usage} {limit}"));
    }
    out.put_slice(b")\r\n");
}
