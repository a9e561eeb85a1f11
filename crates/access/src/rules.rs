//! Access rules: an ordered table that says who may hand in what.
//!
//! Rules of one stage are looked at in their order; the first that fits and does not tag decides. All conditions of a
//! rule must hold, and of the patterns of one condition a single one. A rule without conditions fits everybody.
//!
//! Owns neither a session nor a clock: the same facts give the same decision, and [`Rules::explain`] says why.

mod condition;
mod pattern;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use nightmail_core::net::IpNetwork;
use nightmail_core::{Address, ForwardPath, ReversePath};
use thiserror::Error;

use crate::tags::Tags;
use condition::Condition;

/// When a rule is looked at.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Stage {
    /// When the client connects.
    Connect,
    /// After HELO or EHLO.
    Helo,
    /// After MAIL.
    Mail,
    /// After each RCPT.
    Rcpt,
    /// When the message is there.
    Data,
}

impl Stage {
    /// The stages in the order of a session.
    pub const ALL: [Self; 5] = [
        Self::Connect,
        Self::Helo,
        Self::Mail,
        Self::Rcpt,
        Self::Data,
    ];

    /// The word of the configuration, the log and metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Helo => "helo",
            Self::Mail => "mail",
            Self::Rcpt => "rcpt",
            Self::Data => "data",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a rule does.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Action {
    /// Lets pass.
    Accept,
    /// Refuses for good, with this text.
    Reject(String),
    /// Refuses for now, with this text.
    Defer(String),
    /// Takes the message and throws it away.
    Discard,
    /// Gives this tag; later rules are looked at.
    Tag(String),
    /// Sends the message there instead of to its recipients.
    Route(Address),
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("accept"),
            Self::Reject(text) => write!(f, "reject \"{text}\""),
            Self::Defer(text) => write!(f, "defer \"{text}\""),
            Self::Discard => f.write_str("discard"),
            Self::Tag(tag) => write!(f, "tag \"{tag}\""),
            Self::Route(to) => write!(f, "route to <{to}>"),
        }
    }
}

/// A rule as it is written. An empty list, or `None`, is no condition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rule {
    /// What it is called; unnamed ones are called by their place: "#1".
    pub name: String,
    /// When it is looked at.
    pub stage: Stage,
    /// Networks of clients.
    pub client: Vec<IpNetwork>,
    /// Names that lead back to the client's address: `a.example.org`, `*.example.org` for all below, `unknown` for none.
    pub client_name: Vec<String>,
    /// Names given in HELO or EHLO, `*` standing for any text.
    pub helo: Vec<String>,
    /// Senders: `ann@example.org`, `@example.org`, `@*.example.org`, `ann@`, or `<>`.
    pub sender: Vec<String>,
    /// Recipients, in the same forms but `<>`; known at [`Stage::Rcpt`] only.
    pub recipient: Vec<String>,
    /// Whether the client uses TLS.
    pub tls: Option<bool>,
    /// Whether the client has logged in.
    pub authenticated: Option<bool>,
    /// Tags given before.
    pub tagged: Vec<String>,
    /// What it does.
    pub action: Action,
}

/// Why rules cannot be used.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
pub enum RuleError {
    /// A pattern is not one of its condition's forms.
    #[error("access rule \"{rule}\": \"{pattern}\" is not a pattern of {condition}")]
    Pattern {
        /// The rule.
        rule: String,
        /// The condition.
        condition: &'static str,
        /// What is written there.
        pattern: String,
    },
    /// A condition speaks of what is not known at the rule's stage.
    #[error("access rule \"{rule}\": {condition} is not known at the stage \"{stage}\"")]
    NotKnown {
        /// The rule.
        rule: String,
        /// The condition.
        condition: &'static str,
        /// The rule's stage.
        stage: Stage,
    },
    /// A tag is empty, too long, or holds what cannot stand in a header.
    #[error("access rule \"{rule}\": \"{tag}\" cannot be a tag")]
    Tag {
        /// The rule.
        rule: String,
        /// The tag.
        tag: String,
    },
    /// The text for the client holds control characters.
    #[error("access rule \"{rule}\": its text holds control characters")]
    Text {
        /// The rule.
        rule: String,
    },
}

/// What is known of a client and its mail at the moment of asking. `None` is not known (yet).
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The client's address; none over a Unix-domain socket.
    pub client: Option<IpAddr>,
    /// The name that leads back to it.
    pub client_name: Option<&'a str>,
    /// What it said in HELO or EHLO.
    pub helo: Option<&'a str>,
    /// The sender.
    pub sender: Option<&'a ReversePath>,
    /// The recipient that is asked about.
    pub recipient: Option<&'a ForwardPath>,
    /// Whether the client uses TLS.
    pub tls: bool,
    /// Whether it has logged in.
    pub authenticated: bool,
    /// Tags that rules and checks have given so far.
    pub tags: &'a Tags,
}

/// What the rules of a stage decide, and which one did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Decision {
    /// No rule decides.
    Pass,
    /// Let it pass.
    Accept {
        /// The rule.
        rule: Arc<str>,
    },
    /// Refuse for good.
    Reject {
        /// The rule.
        rule: Arc<str>,
        /// What the client is told.
        text: Arc<str>,
    },
    /// Refuse for now.
    Defer {
        /// The rule.
        rule: Arc<str>,
        /// What the client is told.
        text: Arc<str>,
    },
    /// Take the message and throw it away.
    Discard {
        /// The rule.
        rule: Arc<str>,
    },
    /// Send it elsewhere.
    Route {
        /// The rule.
        rule: Arc<str>,
        /// Where to.
        to: Address,
    },
}

/// Whether a rule fits, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Explained {
    /// The rule.
    pub rule: String,
    /// Whether its conditions hold.
    pub fits: bool,
    /// Whether it is the one that decides: it fits, does not tag, and no rule before it decides.
    pub decides: bool,
    /// What it does.
    pub action: Action,
    /// Why it fits or does not.
    pub because: String,
}

#[derive(Debug)]
struct Compiled {
    name: Arc<str>,
    stage: Stage,
    conditions: Vec<Condition>,
    action: Action,
    /// What the client is told by a refusal.
    text: Arc<str>,
}

/// The rules of a site.
#[derive(Debug, Default)]
pub struct Rules(Vec<Compiled>);

impl Rules {
    /// Reads the rules. Fails on the first that cannot be understood, and names it and the pattern.
    pub fn new(rules: Vec<Rule>) -> Result<Self, RuleError> {
        let rules = rules.into_iter().enumerate();
        let compiled: Result<_, _> = rules.map(|(index, rule)| compile(index, rule)).collect();
        compiled.map(Self)
    }

    /// Whether there are no rules at all.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether no rule is looked at at this stage.
    pub fn is_empty_at(&self, stage: Stage) -> bool {
        self.at(stage).next().is_none()
    }

    /// Whether a rule of this stage asks for the client's name.
    pub fn wants_client_name_at(&self, stage: Stage) -> bool {
        let is_name = |condition: &Condition| matches!(condition, Condition::ClientName(_));
        self.at(stage)
            .any(|rule| rule.conditions.iter().any(is_name))
    }

    /// What the rules of a stage decide. Tags that they give are put into `tags`, where later rules see them beside
    /// those of `facts`.
    pub fn decide(&self, stage: Stage, facts: &Facts<'_>, tags: &mut Tags) -> Decision {
        for rule in self.at(stage) {
            if !rule
                .conditions
                .iter()
                .all(|condition| condition.holds(facts, tags))
            {
                continue;
            }
            match rule.decision() {
                Some(decision) => return decision,
                None => rule.tag(tags),
            }
        }
        Decision::Pass
    }

    /// For each rule of a stage whether it fits and why, in their order, those behind the one that decides too. Tags are
    /// given as [`Rules::decide`] gives them.
    pub fn explain(&self, stage: Stage, facts: &Facts<'_>, tags: &mut Tags) -> Vec<Explained> {
        let mut decided = false;
        let mut explained = Vec::new();
        for rule in self.at(stage) {
            let (fits, because) = rule.explain(facts, tags);
            let decides = fits && !decided && rule.decision().is_some();
            if fits && !decided {
                rule.tag(tags);
            }
            decided |= decides;
            explained.push(Explained {
                rule: rule.name.to_string(),
                fits,
                decides,
                action: rule.action.clone(),
                because,
            });
        }
        explained
    }

    fn at(&self, stage: Stage) -> impl Iterator<Item = &Compiled> {
        self.0.iter().filter(move |rule| rule.stage == stage)
    }
}

impl Compiled {
    /// What it decides when it fits; `None` when it tags.
    fn decision(&self) -> Option<Decision> {
        let rule = Arc::clone(&self.name);
        let text = || Arc::clone(&self.text);
        Some(match &self.action {
            Action::Accept => Decision::Accept { rule },
            Action::Reject(_) => Decision::Reject { rule, text: text() },
            Action::Defer(_) => Decision::Defer { rule, text: text() },
            Action::Discard => Decision::Discard { rule },
            Action::Route(to) => Decision::Route {
                rule,
                to: to.clone(),
            },
            Action::Tag(_) => return None,
        })
    }

    fn tag(&self, tags: &mut Tags) {
        if let Action::Tag(tag) = &self.action {
            tags.insert(tag);
        }
    }

    fn explain(&self, facts: &Facts<'_>, tags: &Tags) -> (bool, String) {
        let mut reasons = Vec::new();
        for condition in &self.conditions {
            let reason = condition.because(facts, tags);
            if !condition.holds(facts, tags) {
                return (false, reason);
            }
            reasons.push(reason);
        }
        match reasons.is_empty() {
            true => (true, "it has no conditions".into()),
            false => (true, reasons.join(", and ")),
        }
    }
}

fn compile(index: usize, rule: Rule) -> Result<Compiled, RuleError> {
    let name = match rule.name.is_empty() {
        true => format!("#{}", index + 1),
        false => rule.name.clone(),
    };
    let conditions = condition::conditions(&name, &rule)?;
    let text = match &rule.action {
        Action::Reject(text) | Action::Defer(text) if text.contains(char::is_control) => {
            return Err(RuleError::Text { rule: name });
        }
        Action::Tag(tag) if !Tags::is_tag(tag) => {
            let tag = tag.clone();
            return Err(RuleError::Tag { rule: name, tag });
        }
        Action::Reject(text) | Action::Defer(text) => text.as_str().into(),
        _ => Arc::from(""),
    };
    Ok(Compiled {
        name: name.into(),
        stage: rule.stage,
        conditions,
        action: rule.action,
        text,
    })
}

#[cfg(test)]
mod tests;
