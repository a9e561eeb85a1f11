//! The conditions of a rule: whether they hold, and what is to be said about it.

use std::fmt::Display;

use nightmail_core::net::IpNetwork;

use super::pattern::{Glob, NamePattern, PathPattern};
use super::{Facts, Rule, RuleError, Stage};
use crate::tags::Tags;

#[derive(Clone, Debug)]
pub(super) enum Condition {
    Client(Vec<IpNetwork>),
    ClientName(Vec<NamePattern>),
    Helo(Vec<Glob>),
    Sender(Vec<PathPattern>),
    Recipient(Vec<PathPattern>),
    Tls(bool),
    Authenticated(bool),
    Tagged(Vec<String>),
}

impl Condition {
    /// Whether it holds. What is not known fits no pattern.
    pub fn holds(&self, facts: &Facts<'_>, tags: &Tags) -> bool {
        match self {
            Self::Tls(wanted) => facts.tls == *wanted,
            Self::Authenticated(wanted) => facts.authenticated == *wanted,
            _ => self.fitting(facts, tags).is_some(),
        }
    }

    /// The first pattern that fits, as text.
    fn fitting(&self, facts: &Facts<'_>, tags: &Tags) -> Option<&dyn Display> {
        match self {
            Self::Client(networks) => {
                let client = facts.client?;
                find(networks, |network| network.contains(client))
            }
            Self::ClientName(patterns) => find(patterns, |p| p.fits(facts.client_name)),
            Self::Helo(globs) => {
                let helo = facts.helo?;
                find(globs, |glob| glob.fits(helo))
            }
            Self::Sender(patterns) => {
                let sender = facts.sender?;
                find(patterns, |pattern| pattern.fits_sender(sender))
            }
            Self::Recipient(patterns) => {
                let recipient = facts.recipient?;
                find(patterns, |pattern| pattern.fits_recipient(recipient))
            }
            Self::Tagged(wanted) => {
                find(wanted, |tag| tags.contains(tag) || facts.tags.contains(tag))
            }
            Self::Tls(_) | Self::Authenticated(_) => None,
        }
    }

    /// What is so, in words: "the client 192.0.2.1 is in 192.0.2.0/24".
    pub fn because(&self, facts: &Facts<'_>, tags: &Tags) -> String {
        let subject = self.subject(facts, tags);
        match self {
            Self::Tls(_) | Self::Authenticated(_) => subject,
            Self::Client(networks) => match self.fitting(facts, tags) {
                Some(network) => format!("{subject} is in {network}"),
                None => format!("{subject} is not in {}", list(networks)),
            },
            Self::ClientName(patterns) => self.fit(&subject, facts, tags, &list(patterns)),
            Self::Helo(globs) => self.fit(&subject, facts, tags, &list(globs)),
            Self::Sender(patterns) | Self::Recipient(patterns) => {
                self.fit(&subject, facts, tags, &list(patterns))
            }
            Self::Tagged(wanted) => match self.fitting(facts, tags) {
                Some(tag) => format!("it is tagged \"{tag}\""),
                None => format!("{subject}, not \"{}\"", list(wanted)),
            },
        }
    }

    fn fit(&self, subject: &str, facts: &Facts<'_>, tags: &Tags, patterns: &str) -> String {
        match self.fitting(facts, tags) {
            Some(pattern) => format!("{subject} fits \"{pattern}\""),
            None => format!("{subject} does not fit \"{patterns}\""),
        }
    }

    /// What it speaks of, as far as it is known.
    fn subject(&self, facts: &Facts<'_>, tags: &Tags) -> String {
        match self {
            Self::Client(_) => match facts.client {
                Some(ip) => format!("the client {ip}"),
                None => "a client without an address".into(),
            },
            Self::ClientName(_) => match facts.client_name {
                Some(name) => format!("the client's name {name}"),
                None => "a client whose name is not known".into(),
            },
            Self::Helo(_) => match facts.helo {
                Some(name) => format!("the HELO name \"{name}\""),
                None => "a client that has not said HELO".into(),
            },
            Self::Sender(_) => match facts.sender {
                Some(sender) => format!("the sender <{sender}>"),
                None => "a sender that is not known".into(),
            },
            Self::Recipient(_) => match facts.recipient {
                Some(recipient) => format!("the recipient <{recipient}>"),
                None => "a recipient that is not known".into(),
            },
            Self::Tls(_) => match facts.tls {
                true => "the client uses TLS".into(),
                false => "the client does not use TLS".into(),
            },
            Self::Authenticated(_) => match facts.authenticated {
                true => "the client has logged in".into(),
                false => "the client has not logged in".into(),
            },
            Self::Tagged(_) => {
                let mut given = tags.clone();
                facts.tags.iter().for_each(|tag| {
                    given.insert(tag);
                });
                let given: Vec<&str> = given.iter().collect();
                match given.is_empty() {
                    true => "it is not tagged".into(),
                    false => format!("it is tagged \"{}\"", given.join("\", \"")),
                }
            }
        }
    }
}

fn find<P: Display>(patterns: &[P], fits: impl Fn(&P) -> bool) -> Option<&dyn Display> {
    let found = patterns.iter().find(|pattern| fits(pattern));
    found.map(|pattern| pattern as &dyn Display)
}

fn list<P: Display>(patterns: &[P]) -> String {
    let texts: Vec<String> = patterns.iter().map(ToString::to_string).collect();
    texts.join(", ")
}

/// The conditions of a rule, those that cost least first.
pub(super) fn conditions(name: &str, rule: &Rule) -> Result<Vec<Condition>, RuleError> {
    let reader = Reader { name, rule };
    let mut conditions = Vec::new();
    conditions.extend(rule.tls.map(Condition::Tls));
    conditions.extend(rule.authenticated.map(Condition::Authenticated));
    if !rule.client.is_empty() {
        conditions.push(Condition::Client(rule.client.clone()));
    }
    let tagged = reader.read("tagged", Stage::Connect, &rule.tagged, |text| {
        Tags::is_tag(text).then(|| text.to_owned())
    })?;
    conditions.extend(tagged.map(Condition::Tagged));
    let recipient = |text: &str| PathPattern::parse(text).filter(|p| *p != PathPattern::Null);
    let recipient = reader.read("recipient", Stage::Rcpt, &rule.recipient, recipient)?;
    if recipient.is_some() && rule.stage != Stage::Rcpt {
        return Err(reader.not_known("recipient"));
    }
    conditions.extend(recipient.map(Condition::Recipient));
    let sender = reader.read("sender", Stage::Mail, &rule.sender, PathPattern::parse)?;
    conditions.extend(sender.map(Condition::Sender));
    let client_name = &rule.client_name;
    let client_name = reader.read(
        "client_name",
        Stage::Connect,
        client_name,
        NamePattern::parse,
    )?;
    conditions.extend(client_name.map(Condition::ClientName));
    let helo = reader.read("helo", Stage::Helo, &rule.helo, Glob::parse)?;
    conditions.extend(helo.map(Condition::Helo));
    Ok(conditions)
}

struct Reader<'a> {
    name: &'a str,
    rule: &'a Rule,
}

impl Reader<'_> {
    /// The patterns of a condition, `None` without any. `from` is the stage at which it is known first.
    fn read<P>(
        &self,
        condition: &'static str,
        from: Stage,
        texts: &[String],
        parse: impl Fn(&str) -> Option<P>,
    ) -> Result<Option<Vec<P>>, RuleError> {
        if texts.is_empty() {
            return Ok(None);
        }
        if self.rule.stage < from {
            return Err(self.not_known(condition));
        }
        let parse = |text: &String| {
            parse(text).ok_or_else(|| RuleError::Pattern {
                rule: self.name.to_owned(),
                condition,
                pattern: text.clone(),
            })
        };
        texts.iter().map(parse).collect::<Result<_, _>>().map(Some)
    }

    fn not_known(&self, condition: &'static str) -> RuleError {
        RuleError::NotKnown {
            rule: self.name.to_owned(),
            condition,
            stage: self.rule.stage,
        }
    }
}
