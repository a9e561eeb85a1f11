//! A visit: what the gate knows of one client and of its mail transaction.
//!
//! Owns tags, points and decisions. A client that no check and no rule concerns has no visit.

use std::net::IpAddr;

use nightmail_access::{ClientName, ClientNet, Facts, Score, Tags, tag};
use nightmail_core::{ForwardPath, ReversePath, SessionId};
use nightmail_smtp::server;
use nightmail_trust::Spf;

use super::decision::Fate;

/// The tags that checks give before a message has come.
const CHECK_TAGS: [&str; 8] = [
    tag::EARLY_TALKER,
    tag::PIPELINING,
    tag::REVERSE_DNS,
    tag::HELO,
    tag::SENDER_DOMAIN,
    tag::DNS_LIST,
    tag::SPF_FAIL,
    tag::SPF_SOFTFAIL,
];

/// What the gate knows of one client.
#[derive(Debug)]
pub(crate) struct Visit {
    pub(super) session: SessionId,
    pub(super) ip: IpAddr,
    pub(super) net: ClientNet,
    /// No check is made: the client is trusted or has logged in, or a rule has said so.
    pub(super) exempt: bool,
    /// It has logged in, or is about to: a client of a submission listener.
    pub(super) inside: bool,
    pub(super) name: Option<ClientName>,
    pub(super) tags: Tags,
    pub(super) score: Score,
    pub(super) fate: Fate,
    pub(super) mail: Option<Box<MailVisit>>,
}

/// What it knows of one mail transaction.
#[derive(Debug, Default)]
pub(super) struct MailVisit {
    pub(super) exempt: bool,
    pub(super) tags: Tags,
    pub(super) score: Score,
    pub(super) fate: Fate,
    pub(super) spf: Option<Spf>,
    /// The message has been counted.
    pub(super) counted: bool,
}

/// What the session knows of the client at this moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen<'a> {
    pub(crate) hello: Option<&'a str>,
    pub(crate) tls: bool,
    pub(crate) authenticated: bool,
    pub(crate) early_talker: bool,
    pub(crate) pipelined_early: bool,
}

impl<'a> Seen<'a> {
    /// What the machine knows.
    pub(crate) fn of(facts: &'a server::Facts) -> Self {
        Self {
            hello: facts.hello.as_ref().map(|hello| hello.name.as_str()),
            tls: facts.tls.is_some(),
            authenticated: facts.identity.is_some(),
            early_talker: facts.early_talker,
            pipelined_early: facts.pipelined_early,
        }
    }
}

/// The paths of the transaction, as far as they are known.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Paths<'a> {
    pub(super) sender: Option<&'a ReversePath>,
    pub(super) recipient: Option<&'a ForwardPath>,
}

impl Visit {
    pub(super) fn new(session: SessionId, ip: IpAddr) -> Self {
        Self {
            session,
            ip,
            net: ClientNet::of(ip),
            exempt: false,
            inside: false,
            name: None,
            tags: Tags::default(),
            score: Score::default(),
            fate: Fate::Ordinary,
            mail: None,
        }
    }

    /// The name that leads back to the client's address.
    pub(crate) fn client_name(&self) -> Option<&str> {
        match &self.name {
            Some(ClientName::Confirmed(name)) => Some(name),
            _ => None,
        }
    }

    /// Whether checks are left out for the mail transaction.
    pub(super) fn is_exempt(&self) -> bool {
        self.exempt || self.mail.as_ref().is_some_and(|mail| mail.exempt)
    }

    /// What SPF has said about the sender.
    pub(super) fn spf(&self) -> Option<&Spf> {
        self.mail.as_ref()?.spf.as_ref()
    }

    pub(super) fn tag(&mut self, tag: &str) {
        match &mut self.mail {
            Some(mail) => mail.tags.insert(tag),
            None => self.tags.insert(tag),
        };
    }

    /// The tags of session and transaction.
    pub(super) fn tags(&self) -> &Tags {
        self.mail.as_ref().map_or(&self.tags, |mail| &mail.tags)
    }

    /// Whether a check has something against the client or the sender. Tags of rules do not count.
    pub(super) fn is_suspect(&self) -> bool {
        self.tags().iter().any(|tag| CHECK_TAGS.contains(&tag))
    }

    /// What becomes of the message, whoever it is for.
    pub(crate) fn fate(&self) -> Fate {
        let mail = self.mail.as_ref().map(|mail| mail.fate.clone());
        mail.unwrap_or_default().or(&self.fate)
    }
}

/// What rules can see.
pub(super) fn facts<'a>(
    visit: &'a Visit,
    seen: &Seen<'a>,
    paths: Paths<'a>,
    tags: &'a Tags,
) -> Facts<'a> {
    Facts {
        client: Some(visit.ip),
        client_name: visit.client_name(),
        helo: seen.hello,
        sender: paths.sender,
        recipient: paths.recipient,
        tls: seen.tls,
        authenticated: seen.authenticated,
        tags,
    }
}
