//! One test of a match expression: a field, an operator, a value.

use std::cmp::Ordering;

use nightmail_core::{Address, Domain, QueueId, ReversePath, Timestamp};

use crate::record::{QueueMessage, Recipient, Source};

/// What is looked at.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Field {
    Domain,
    Sender,
    Recipient,
    Reply,
    Status,
    Relay,
    Source,
    Age,
    Size,
    Attempts,
    Priority,
    Id,
    Held,
}

impl Field {
    pub const ALL: [(Self, &str); 13] = [
        (Self::Domain, "domain"),
        (Self::Sender, "sender"),
        (Self::Recipient, "recipient"),
        (Self::Reply, "reply"),
        (Self::Status, "status"),
        (Self::Relay, "relay"),
        (Self::Source, "source"),
        (Self::Age, "age"),
        (Self::Size, "size"),
        (Self::Attempts, "attempts"),
        (Self::Priority, "priority"),
        (Self::Id, "id"),
        (Self::Held, "held"),
    ];

    pub fn name(self) -> &'static str {
        let entry = Self::ALL.iter().find(|(field, _)| *field == self);
        entry.map_or("", |(_, name)| name)
    }

    /// Whether it is compared by `operator`.
    pub const fn takes(self, operator: Operator) -> bool {
        match operator {
            Operator::Is | Operator::IsNot => true,
            Operator::Like => matches!(
                self,
                Self::Domain
                    | Self::Sender
                    | Self::Recipient
                    | Self::Reply
                    | Self::Status
                    | Self::Relay
            ),
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => {
                matches!(
                    self,
                    Self::Age | Self::Size | Self::Attempts | Self::Priority
                )
            }
        }
    }
}

/// How it is compared.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Operator {
    Is,
    IsNot,
    AtMost,
    Less,
    AtLeast,
    More,
    Like,
}

impl Operator {
    /// Those that begin another come after it.
    pub const ALL: [(Self, &str); 7] = [
        (Self::IsNot, "!="),
        (Self::AtMost, "<="),
        (Self::AtLeast, ">="),
        (Self::Is, "="),
        (Self::Less, "<"),
        (Self::More, ">"),
        (Self::Like, "~"),
    ];

    pub fn sign(self) -> &'static str {
        let entry = Self::ALL.iter().find(|(operator, _)| *operator == self);
        entry.map_or("", |(_, sign)| sign)
    }

    fn orders(self, order: Ordering) -> bool {
        match self {
            Self::Is | Self::Like => order.is_eq(),
            Self::IsNot => order.is_ne(),
            Self::Less => order.is_lt(),
            Self::AtMost => order.is_le(),
            Self::More => order.is_gt(),
            Self::AtLeast => order.is_ge(),
        }
    }
}

/// What it is compared with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Value {
    /// In lower case, but for relays.
    Text(String),
    Domain(Domain),
    Address(Address),
    Source(SourceKind),
    /// Seconds of age, octets of size, or a count.
    Number(i64),
    Id(QueueId),
    Flag(bool),
}

/// Where messages come from, without the account.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum SourceKind {
    Submission,
    Relay,
    Local,
}

impl SourceKind {
    pub const ALL: [(Self, &str); 3] = [
        (Self::Submission, "submission"),
        (Self::Relay, "relay"),
        (Self::Local, "local"),
    ];

    pub const fn of(source: Source) -> Self {
        match source {
            Source::Submission(_) => Self::Submission,
            Source::Relay => Self::Relay,
            Source::Local => Self::Local,
        }
    }
}

/// One test.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Test {
    pub field: Field,
    pub operator: Operator,
    pub value: Value,
}

impl Test {
    /// Of a test of `held`: whether it is held recipients that fit.
    pub fn wants_held(&self) -> bool {
        (self.value == Value::Flag(true)) == (self.operator == Operator::Is)
    }

    pub fn fits(
        &self,
        message: &QueueMessage,
        id: QueueId,
        recipient: &Recipient,
        now: Timestamp,
    ) -> bool {
        match self.field {
            Field::Domain => self.domain_fits(recipient.address.domain()),
            Field::Sender => self.sender_fits(&message.reverse_path),
            Field::Recipient => self.address_fits(&recipient.address),
            Field::Reply => self.text_fits(&last_words(recipient).to_lowercase()),
            Field::Status => {
                let status = recipient.last.as_ref().map(|last| last.status.as_str());
                self.text_fits(&status.unwrap_or_default().to_lowercase())
            }
            Field::Relay => {
                let relay = recipient.relay.as_ref().map(|relay| relay.as_str());
                self.text_fits(relay.unwrap_or_default())
            }
            Field::Source => self.is(&Value::Source(SourceKind::of(message.source))),
            Field::Age => self.number_fits(now.secs().saturating_sub(message.created.secs())),
            Field::Size => self.number_fits(i64::try_from(message.size()).unwrap_or(i64::MAX)),
            Field::Attempts => self.number_fits(i64::from(recipient.attempts)),
            Field::Priority => self.number_fits(i64::from(message.demands.priority)),
            Field::Id => self.is(&Value::Id(id)),
            Field::Held => self.is(&Value::Flag(recipient.hold.is_some())),
        }
    }

    fn is(&self, value: &Value) -> bool {
        (self.value == *value) == (self.operator == Operator::Is)
    }

    fn domain_fits(&self, domain: &Domain) -> bool {
        match &self.value {
            Value::Domain(wanted) => (wanted == domain) == (self.operator == Operator::Is),
            _ => self.text_fits(domain.as_str()),
        }
    }

    fn sender_fits(&self, sender: &ReversePath) -> bool {
        match (sender, &self.value) {
            (ReversePath::Address(sender), _) => self.address_fits(sender),
            (ReversePath::Null, Value::Address(_)) => self.operator == Operator::IsNot,
            (ReversePath::Null, _) => self.text_fits(""),
        }
    }

    fn address_fits(&self, address: &Address) -> bool {
        match &self.value {
            Value::Address(wanted) => {
                (wanted.lookup() == address.lookup()) == (self.operator == Operator::Is)
            }
            _ => self.text_fits(&address.lookup()),
        }
    }

    fn text_fits(&self, text: &str) -> bool {
        let Value::Text(wanted) = &self.value else {
            return false;
        };
        match self.operator {
            Operator::Like => is_like(text, wanted),
            operator => (text == wanted) == (operator == Operator::Is),
        }
    }

    fn number_fits(&self, number: i64) -> bool {
        matches!(&self.value, Value::Number(wanted) if self.operator.orders(number.cmp(wanted)))
    }
}

/// The peer's reply to the last attempt, or what is said in its place.
fn last_words(recipient: &Recipient) -> &str {
    let last = recipient.last.as_ref();
    last.map_or("", |last| last.reply.as_deref().unwrap_or(&last.diagnostic))
}

/// Whether `text` is `pattern`, in which each `*` stands for any characters.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let inner = text
        .strip_prefix(first)
        .and_then(|text| text.strip_suffix(last));
    let Some(mut inner) = inner else {
        return false;
    };
    for piece in middle.split('*') {
        match inner
            .find(piece)
            .and_then(|at| inner.get(at + piece.len()..))
        {
            Some(behind) => inner = behind,
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters_and_for_none() {
        for (text, pattern) in [
            ("", ""),
            ("", "*"),
            ("abc", "*"),
            ("abc", "abc"),
            ("abc", "a*c"),
            ("abc", "*b*"),
            ("abc", "**abc**"),
            ("a.b.c", "*.b.*"),
            ("aXbXc", "a*X*c"),
            ("é", "*é"),
        ] {
            assert!(is_like(text, pattern), "{text:?} {pattern:?}");
        }
        for (text, pattern) in [
            ("", "a"),
            ("abc", "ab"),
            ("abc", "b*"),
            ("aa", "aa*a"),
            ("abc", "*c*b*"),
            ("abc", "*b"),
        ] {
            assert!(!is_like(text, pattern), "{text:?} {pattern:?}");
        }
    }
}
