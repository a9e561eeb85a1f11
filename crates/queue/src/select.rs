//! Match expressions: which recipients of queued messages an operator means.
//!
//! ```text
//! domain = far.test and age > 2d and not (sender ~ *@us.test or size >= 10M)
//! ```
//!
//! A test names a field, an operator and a value; `not` binds closest, then `and`, then `or`. `all` fits everything, a
//! queue id by itself is `id = …`. Text is compared without regard to case; `~` takes `*` for any characters. A value
//! with spaces, parentheses or quotes stands in `"quotes"`, where a backslash takes the meaning from a quote.
//!
//! | field | operators | value |
//! |---|---|---|
//! | `domain` | `=` `!=` `~` | domain of the recipient |
//! | `sender`, `recipient` | `=` `!=` `~` | an address; the sender also `""` for none |
//! | `reply`, `status` | `=` `!=` `~` | what the last attempt ended with; its status code, such as `4.4.1` |
//! | `relay` | `=` `!=` `~` | where an operator has rerouted it to; `""`: nowhere. As written, in its case |
//! | `source` | `=` `!=` | `submission`, `relay` or `local` |
//! | `age` | all but `~` | time since acceptance, such as `90m` or `2d` |
//! | `size`, `attempts`, `priority` | all but `~` | octets, such as `10M`; numbers |
//! | `id` | `=` `!=` | a queue id |
//! | `held` | `=` `!=` | `yes` or `no`; `held` alone is `held = yes` |
//!
//! Owns the language and what it means; reads no store and no clock. What is printed parses to the same selection.

mod parse;
mod show;
mod test;

use nightmail_core::{QueueId, Timestamp};
use thiserror::Error;

use crate::destination::{Destination, RelayName};
use crate::record::{QueueMessage, Recipient};
use test::{Field, Operator, Test, Value};

/// Octets of an expression.
pub const SELECTION_OCTETS_MAX: usize = 4096;

/// What is wrong with an expression, and where.
#[derive(Clone, PartialEq, Eq, Debug, Error)]
#[error("at character {place}: {problem}")]
pub struct SelectionError {
    /// The character it is about, counted from 1.
    pub place: usize,
    /// What is wrong.
    pub problem: String,
}

/// Which recipients of queued messages are meant.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Selection(Expression);

#[derive(Clone, PartialEq, Eq, Debug)]
enum Expression {
    All,
    Test(Test),
    Not(Box<Expression>),
    /// At least two.
    And(Vec<Expression>),
    /// At least two.
    Or(Vec<Expression>),
}

impl Selection {
    /// Reads an expression.
    ///
    /// Fails with the place of what cannot be understood.
    pub fn parse(text: &str) -> Result<Self, SelectionError> {
        parse::parse(text).map(Self)
    }

    /// Every recipient.
    pub const fn all() -> Self {
        Self(Expression::All)
    }

    /// Whether a recipient of a message is meant at `now`.
    pub fn fits(
        &self,
        message: &QueueMessage,
        id: QueueId,
        recipient: &Recipient,
        now: Timestamp,
    ) -> bool {
        self.0.fits(message, id, recipient, now)
    }

    /// The messages, where the expression names them one by one.
    pub fn ids(&self) -> Option<Vec<QueueId>> {
        self.0.ids()
    }

    /// What every recipient that is meant goes to, where the expression names that: a relay, or a domain. Of a domain,
    /// those that an operator has rerouted are meant too.
    pub fn destination(&self) -> Option<Destination> {
        let named = |test: &Test| match (test.field, &test.value) {
            _ if test.operator != Operator::Is => None,
            (Field::Relay, Value::Text(name)) => RelayName::new(name).map(Destination::Relay),
            (Field::Domain, Value::Domain(domain)) => Some(Destination::Domain(domain.clone())),
            _ => None,
        };
        self.required().filter_map(named).max()
    }

    /// Whether recipients that are held can be meant.
    pub fn may_be_held(&self) -> bool {
        !self
            .required()
            .any(|test| test.field == Field::Held && !test.wants_held())
    }

    /// Whether the expression asks where recipients were rerouted to.
    pub fn tests_relay(&self) -> bool {
        self.0.any(&|test| test.field == Field::Relay)
    }

    /// Tests that hold for whatever fits.
    fn required(&self) -> impl Iterator<Item = &Test> {
        let parts = match &self.0 {
            Expression::And(parts) => parts.as_slice(),
            other => std::slice::from_ref(other),
        };
        parts.iter().filter_map(|part| match part {
            Expression::Test(test) => Some(test),
            _ => None,
        })
    }
}

impl Expression {
    fn fits(
        &self,
        message: &QueueMessage,
        id: QueueId,
        recipient: &Recipient,
        now: Timestamp,
    ) -> bool {
        let fits = |part: &Self| part.fits(message, id, recipient, now);
        match self {
            Self::All => true,
            Self::Test(test) => test.fits(message, id, recipient, now),
            Self::Not(inner) => !fits(inner),
            Self::And(parts) => parts.iter().all(fits),
            Self::Or(parts) => parts.iter().any(fits),
        }
    }

    fn ids(&self) -> Option<Vec<QueueId>> {
        match self {
            Self::Test(test) => match test.value {
                Value::Id(id) if test.operator == Operator::Is => Some(vec![id]),
                _ => None,
            },
            Self::And(parts) => parts.iter().find_map(Self::ids),
            Self::Or(parts) => {
                let ids: Option<Vec<Vec<QueueId>>> = parts.iter().map(Self::ids).collect();
                let mut ids = ids?.concat();
                ids.sort_unstable();
                ids.dedup();
                Some(ids)
            }
            Self::All | Self::Not(_) => None,
        }
    }

    fn any(&self, wanted: &impl Fn(&Test) -> bool) -> bool {
        match self {
            Self::All => false,
            Self::Test(test) => wanted(test),
            Self::Not(inner) => inner.any(wanted),
            Self::And(parts) | Self::Or(parts) => parts.iter().any(|part| part.any(wanted)),
        }
    }
}

#[cfg(test)]
mod tests;
