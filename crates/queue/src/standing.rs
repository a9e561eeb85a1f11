//! Standing rules: what an operator wants done with whatever fits, for as long as the rule stands.
//!
//! Owns the rows of `Meta` that begin with `queue-rule/`: name → expression and action. A rule is looked at when a
//! message is picked up to be sent, on every node; of several that fit, the oldest decides. [`RuleBook`] keeps what it
//! has read for [`RULES_AGE_MAX`], so that a new rule holds everywhere after that.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use nightmail_commit::{Abort, Committer, Intent, SubmitError, Tx};
use nightmail_core::codec::{RowError, RowReader, RowWriter};
use nightmail_core::{QueueId, Timestamp};
use nightmail_engine::{Engine, KeyRange, Order, RowKey, Space};
use parking_lot::Mutex;
use thiserror::Error;
use tokio::time::Instant;

use crate::destination::RelayName;
use crate::error::QueueError;
use crate::record::{QueueMessage, Recipient};
use crate::select::Selection;

/// How long rules that were read are taken for those that stand.
pub const RULES_AGE_MAX: Duration = Duration::from_secs(5);
/// Rules of a store.
pub const RULES_MAX: usize = 500;
/// Octets of a rule's name.
pub const RULE_NAME_OCTETS_MAX: usize = 64;

const PREFIX: &[u8] = b"queue-rule/";
const VERSION: u8 = 1;

const HOLD: u8 = 1;
const REROUTE: u8 = 2;
const DIRECT: u8 = 3;
const BOUNCE: u8 = 4;
const DROP: u8 = 5;

/// What is done with a recipient that fits.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum StandingAction {
    /// It is held, for this reason, until it is released and the rule is gone.
    Hold(String),
    /// It goes by this relay; `None`: by the route of the configuration.
    Reroute(Option<RelayName>),
    /// It is given up and its sender told this.
    Bounce(String),
    /// It is dropped; nobody is told.
    Drop,
}

impl StandingAction {
    /// Whether it has been done with this recipient.
    fn is_done(&self, recipient: &Recipient) -> bool {
        match self {
            Self::Hold(_) => recipient.hold.is_some(),
            Self::Reroute(relay) => recipient.relay == *relay,
            Self::Bounce(_) | Self::Drop => false,
        }
    }
}

impl fmt::Display for StandingAction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hold(reason) => write!(f, "hold: {reason}"),
            Self::Reroute(Some(relay)) => write!(f, "reroute to {relay}"),
            Self::Reroute(None) => f.write_str("reroute to where the configuration says"),
            Self::Bounce(reason) => write!(f, "bounce: {reason}"),
            Self::Drop => f.write_str("drop"),
        }
    }
}

/// A rule that stands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StandingRule {
    /// What it is called.
    pub name: String,
    /// Whom it is about.
    pub selection: Selection,
    /// What is done.
    pub action: StandingAction,
    /// Since when it stands.
    pub created: Timestamp,
}

/// Why a rule was not added or removed.
#[derive(Debug, Error, Clone)]
pub enum RuleError {
    /// The name is none.
    #[error(
        "{0:?} is no name for a rule: take letters, digits, `-`, `_` and `.`, at most {RULE_NAME_OCTETS_MAX}"
    )]
    Name(String),
    /// There is one of that name.
    #[error("there is a rule {0} already; remove it first")]
    Exists(String),
    /// There is none of that name.
    #[error("there is no rule {0}")]
    NoSuchRule(String),
    /// There are too many.
    #[error("there are {RULES_MAX} rules already")]
    TooMany,
    /// It could send mail to and fro.
    #[error("a rule that reroutes cannot ask where mail was rerouted to")]
    Circular,
    /// The queue could not answer.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

impl From<SubmitError<RuleError>> for RuleError {
    fn from(error: SubmitError<RuleError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Queue(failure.into()),
        }
    }
}

impl From<RuleError> for Abort<RuleError> {
    fn from(error: RuleError) -> Self {
        Self::Refused(error)
    }
}

/// The rules as they stood when they were read, the oldest first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StandingRules(Vec<StandingRule>);

impl StandingRules {
    /// Reads the rules. One that cannot be read, such as that of a newer version, is logged and left out.
    pub async fn load(engine: &dyn Engine) -> Result<Self, QueueError> {
        let range = KeyRange::prefix(PREFIX);
        let rows = engine
            .scan(Space::Meta, range, Order::Ascending, RULES_MAX)
            .await?;
        let read = |(key, row): &(Vec<u8>, bytes::Bytes)| {
            let name = key.strip_prefix(PREFIX).unwrap_or_default();
            let name = String::from_utf8_lossy(name).into_owned();
            let rule = decode(&name, row);
            if let Err(error) = &rule {
                tracing::error!(rule = name, %error, "a standing rule of the queue cannot be read");
            }
            rule.ok()
        };
        let mut rules: Vec<StandingRule> = rows.iter().filter_map(read).collect();
        rules.sort_by_key(|rule| rule.created);
        Ok(Self(rules))
    }

    /// What is to be done with a pending recipient before it is tried. `None`: nothing, or nothing that is not done.
    pub fn decide(
        &self,
        id: QueueId,
        message: &QueueMessage,
        recipient: &Recipient,
        now: Timestamp,
    ) -> Option<&StandingRule> {
        let first = self
            .0
            .iter()
            .find(|rule| rule.selection.fits(message, id, recipient, now));
        first.filter(|rule| !rule.action.is_done(recipient))
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The rules, the oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &StandingRule> {
        self.0.iter()
    }
}

/// The rules of a store.
pub struct RuleBook {
    committer: Committer,
    read: Mutex<Option<(Instant, Arc<StandingRules>)>>,
}

impl RuleBook {
    /// The rules of the store behind `committer`.
    pub const fn new(committer: Committer) -> Self {
        Self {
            committer,
            read: Mutex::new(None),
        }
    }

    /// The rules; read anew when they were read more than [`RULES_AGE_MAX`] ago.
    pub async fn current(&self) -> Result<Arc<StandingRules>, QueueError> {
        let known = self.read.lock().clone();
        match known {
            Some((at, rules)) if at.elapsed() < RULES_AGE_MAX => Ok(rules),
            _ => self.reload().await,
        }
    }

    /// The rules as they stand now.
    pub async fn reload(&self) -> Result<Arc<StandingRules>, QueueError> {
        let at = Instant::now();
        let engine = self.committer.engine();
        let rules = Arc::new(StandingRules::load(engine.as_ref()).await?);
        *self.read.lock() = Some((at, Arc::clone(&rules)));
        Ok(rules)
    }

    /// Adds a rule. On stable storage when it returns.
    pub async fn add(
        &self,
        name: &str,
        selection: Selection,
        action: StandingAction,
    ) -> Result<(), RuleError> {
        if !is_name(name) {
            return Err(RuleError::Name(name.to_owned()));
        }
        if matches!(action, StandingAction::Reroute(_)) && selection.tests_relay() {
            return Err(RuleError::Circular);
        }
        if self.reload().await?.0.len() >= RULES_MAX {
            return Err(RuleError::TooMany);
        }
        let name = name.to_owned();
        let key = rule_key(&name);
        let intent = Intent::synced(move |tx: &mut Tx<'_>| {
            if tx.get(&rule_key(&name))?.is_some() {
                return Err(RuleError::Exists(name.clone()).into());
            }
            let row = encode(&selection, &action, tx.now());
            tx.put(rule_key(&name), row);
            Ok(())
        });
        self.committer.submit(intent.reading([key])).await?;
        self.forget();
        Ok(())
    }

    /// Removes a rule. On stable storage when it returns; what it has done stays done.
    pub async fn remove(&self, name: &str) -> Result<(), RuleError> {
        let name = name.to_owned();
        let key = rule_key(&name);
        let intent = Intent::synced(move |tx: &mut Tx<'_>| {
            if tx.get(&rule_key(&name))?.is_none() {
                return Err(RuleError::NoSuchRule(name.clone()).into());
            }
            tx.delete(rule_key(&name));
            Ok(())
        });
        self.committer.submit(intent.reading([key])).await?;
        self.forget();
        Ok(())
    }

    fn forget(&self) {
        *self.read.lock() = None;
    }
}

fn is_name(name: &str) -> bool {
    (1..=RULE_NAME_OCTETS_MAX).contains(&name.len())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn rule_key(name: &str) -> RowKey {
    RowKey::new(Space::Meta, [PREFIX, name.as_bytes()].concat())
}

fn encode(selection: &Selection, action: &StandingAction, created: Timestamp) -> Vec<u8> {
    let (code, text) = match action {
        StandingAction::Hold(reason) => (HOLD, reason.as_str()),
        StandingAction::Reroute(Some(relay)) => (REROUTE, relay.as_str()),
        StandingAction::Reroute(None) => (DIRECT, ""),
        StandingAction::Bounce(reason) => (BOUNCE, reason.as_str()),
        StandingAction::Drop => (DROP, ""),
    };
    let mut row = RowWriter::new(VERSION);
    row.i64(created.millis())
        .str(&selection.to_string())
        .u8(code)
        .str(text);
    row.finish()
}

fn decode(name: &str, row: &[u8]) -> Result<StandingRule, RowError> {
    let (mut row, _) = RowReader::new(row, VERSION)?;
    let created = Timestamp::from_millis(row.i64()?);
    let selection =
        Selection::parse(row.str()?).map_err(|_| RowError::Invalid("match expression"))?;
    let (code, text) = (row.u8()?, row.str()?);
    let action = match code {
        HOLD => StandingAction::Hold(text.to_owned()),
        REROUTE => {
            let relay = RelayName::new(text).ok_or(RowError::Invalid("relay"))?;
            StandingAction::Reroute(Some(relay))
        }
        DIRECT => StandingAction::Reroute(None),
        BOUNCE => StandingAction::Bounce(text.to_owned()),
        DROP => StandingAction::Drop,
        _ => return Err(RowError::Invalid("action")),
    };
    Ok(StandingRule {
        name: name.to_owned(),
        selection,
        action,
        created,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(row in any::<Vec<u8>>()) {
            let _ = decode("x", &row);
        }
    }

    #[test]
    fn rows_say_what_was_written() {
        let selection = Selection::parse("domain = far.test and age > 2d").unwrap();
        for action in [
            StandingAction::Hold("why".to_owned()),
            StandingAction::Reroute(RelayName::new("hub")),
            StandingAction::Reroute(None),
            StandingAction::Bounce(String::new()),
            StandingAction::Drop,
        ] {
            let created = Timestamp::from_secs(7);
            let row = encode(&selection, &action, created);
            let rule = decode("x", &row).unwrap();
            assert_eq!(
                (rule.selection, rule.action, rule.created),
                (selection.clone(), action, created)
            );
        }
    }

    #[test]
    fn names_are_short_words() {
        assert!(is_name("no-far.test_2"));
        for name in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(!is_name(name), "{name:?}");
        }
    }
}
