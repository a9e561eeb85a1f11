//! `nightmail queue`.

use clap::{Args, Subcommand, ValueEnum};
use nightmail_admin::{AdminRequest, QueueChange};

use crate::error::CommandError;

#[derive(Debug, Subcommand)]
pub(crate) enum QueueCommand {
    /// List messages waiting to be sent elsewhere, and those that are held back.
    ///
    /// A MATCH says which: `domain = far.test and age > 2d and not sender ~ "*@us.test"`. Fields are domain, sender,
    /// recipient, age, reply, status, size, attempts, source, relay, id, priority and held; operators = != < <= > >= and
    /// ~ with * for any characters; `and`, `or`, `not` and parentheses join them; `all` fits everything. An id by itself
    /// is a MATCH too. Put it in single quotes, so that the shell leaves it alone.
    List {
        /// Which messages; absent: all.
        #[arg(value_name = "MATCH", allow_negative_numbers = true)]
        matching: Vec<String>,
        /// So many at most.
        #[arg(long)]
        limit: Option<usize>,
        /// Those behind this id.
        #[arg(long, value_name = "ID")]
        after: Option<String>,
    },
    /// Show such a message and what became of its recipients.
    Show {
        /// Its id.
        id: String,
    },
    /// Say what a message waits for.
    Why {
        /// Its id.
        id: String,
    },
    /// Hold mail: it is not tried until it is released.
    Hold {
        #[command(flatten)]
        which: Which,
        /// Why; shown with it.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Try mail that is held again, at once.
    Release {
        #[command(flatten)]
        which: Which,
    },
    /// Try mail again now; a message named by its id is let go where its sender wants it held back.
    Retry {
        /// Which: a match expression (see `queue list --help`) or an id.
        #[arg(
            value_name = "MATCH",
            allow_negative_numbers = true,
            required_unless_present = "all"
        )]
        matching: Vec<String>,
        /// Every message but those that are held or held back.
        #[arg(long, conflicts_with = "matching")]
        all: bool,
        /// Only say how much it would be.
        #[arg(long)]
        dry_run: bool,
    },
    /// Send mail another way, at once.
    Reroute {
        #[command(flatten)]
        which: Which,
        /// By this relay of the configuration.
        #[arg(long, value_name = "RELAY", required_unless_present = "direct")]
        to: Option<String>,
        /// By the route that the configuration says.
        #[arg(long, conflicts_with = "to")]
        direct: bool,
    },
    /// Give mail up and tell its senders.
    Bounce {
        #[command(flatten)]
        which: Which,
        /// What the senders are told.
        #[arg(long)]
        reason: Option<String>,
    },
    /// Take mail out of the queue, by recipients. Nobody is told.
    Drop {
        #[command(flatten)]
        which: Which,
    },
    /// Take a message out of the queue. Nobody is told.
    Remove {
        /// Its id.
        id: String,
    },
    /// Show how much waits for each destination, and what is being done about it.
    Destinations,
    /// Try all mail for a domain now, once, whatever its schedule.
    Run {
        /// The domain.
        domain: String,
    },
    /// Rules about mail that is about to be tried.
    #[command(subcommand)]
    Rule(RuleCommand),
}

/// Whom a change is about.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// Which: a match expression (see `queue list --help`) or an id.
    #[arg(value_name = "MATCH", required = true, allow_negative_numbers = true)]
    matching: Vec<String>,
    /// Only say how much it would be.
    #[arg(long)]
    dry_run: bool,
}

impl Which {
    fn alter(self, change: QueueChange) -> AdminRequest {
        AdminRequest::QueueAlter {
            matching: expression(&self.matching),
            change,
            dry_run: self.dry_run,
        }
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum RuleCommand {
    /// Add a rule. What waits already falls under it when it is tried next.
    Add {
        /// Its name.
        name: String,
        /// Which mail: a match expression (see `queue list --help`).
        #[arg(value_name = "MATCH")]
        matching: String,
        /// What is done with it.
        action: RuleAction,
        /// Why it is held, or what senders are told.
        #[arg(long)]
        reason: Option<String>,
        /// The relay it goes by; absent: it is rerouted to where the configuration says.
        #[arg(long, value_name = "RELAY")]
        to: Option<String>,
    },
    /// List the rules.
    List,
    /// Remove a rule. What it has done stays done.
    Remove {
        /// Its name.
        name: String,
    },
}

/// What a rule does.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum RuleAction {
    /// It is not tried until it is released; it falls under the rule again, if that still stands.
    Hold,
    /// It goes by another route.
    Reroute,
    /// It is given up and its sender told.
    Bounce,
    /// It leaves the queue. Nobody is told.
    Drop,
}

impl QueueCommand {
    pub(crate) fn request(self) -> Result<AdminRequest, CommandError> {
        Ok(match self {
            Self::List {
                matching,
                limit,
                after,
            } => AdminRequest::QueueList {
                matching: (!matching.is_empty()).then(|| expression(&matching)),
                after,
                limit,
            },
            Self::Show { id } => AdminRequest::QueueShow { id },
            Self::Why { id } => AdminRequest::QueueWhy { id },
            Self::Hold { which, reason } => which.alter(QueueChange::Hold { reason }),
            Self::Release { which } => which.alter(QueueChange::Release),
            Self::Retry {
                all: true,
                dry_run: false,
                ..
            } => AdminRequest::QueueRetry { id: None },
            Self::Retry {
                matching,
                all,
                dry_run,
            } => AdminRequest::QueueAlter {
                matching: if all {
                    "all".into()
                } else {
                    expression(&matching)
                },
                change: QueueChange::Retry,
                dry_run,
            },
            Self::Reroute { which, to, .. } => which.alter(QueueChange::Reroute { to }),
            Self::Bounce { which, reason } => which.alter(QueueChange::Bounce { reason }),
            Self::Drop { which } => which.alter(QueueChange::Drop),
            Self::Remove { id } => AdminRequest::QueueRemove { id },
            Self::Destinations => AdminRequest::QueueDestinations {
                after: None,
                limit: None,
            },
            Self::Run { domain } => AdminRequest::QueueRun { domain },
            Self::Rule(command) => command.request()?,
        })
    }
}

impl RuleCommand {
    fn request(self) -> Result<AdminRequest, CommandError> {
        Ok(match self {
            Self::Add {
                name,
                matching,
                action,
                reason,
                to,
            } => AdminRequest::QueueRuleAdd {
                name,
                matching,
                change: change(action, reason, to)?,
            },
            Self::List => AdminRequest::QueueRuleList,
            Self::Remove { name } => AdminRequest::QueueRuleRemove { name },
        })
    }
}

fn change(
    action: RuleAction,
    reason: Option<String>,
    to: Option<String>,
) -> Result<QueueChange, CommandError> {
    let misplaced = |option: &str| {
        let text = format!("{option} says nothing about what this rule does");
        Err(CommandError::Usage(text))
    };
    match (action, reason, to) {
        (RuleAction::Hold, reason, None) => Ok(QueueChange::Hold { reason }),
        (RuleAction::Bounce, reason, None) => Ok(QueueChange::Bounce { reason }),
        (RuleAction::Reroute, None, to) => Ok(QueueChange::Reroute { to }),
        (RuleAction::Drop, None, None) => Ok(QueueChange::Drop),
        (RuleAction::Reroute, Some(_), _) | (RuleAction::Drop, Some(_), _) => misplaced("--reason"),
        (_, _, Some(_)) => misplaced("--to"),
    }
}

/// An expression that the shell may have taken apart: what it passes as one of several words stays one.
fn expression(words: &[String]) -> String {
    if let [whole] = words {
        return whole.clone();
    }
    let word = |word: &String| {
        if word.is_empty() || word.contains(char::is_whitespace) {
            format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
        } else {
            word.clone()
        }
    };
    words.iter().map(word).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_shell_took_apart_is_put_together() {
        let words =
            |words: &[&str]| expression(&words.iter().map(|w| (*w).to_owned()).collect::<Vec<_>>());
        assert_eq!(words(&["domain = x and held"]), "domain = x and held");
        assert_eq!(words(&["age", ">", "2d"]), "age > 2d");
        assert_eq!(words(&["sender", "=", ""]), "sender = \"\"");
        assert_eq!(
            words(&["reply", "=", "a \"b\" c"]),
            r#"reply = "a \"b\" c""#
        );
    }

    #[test]
    fn options_that_do_not_belong_to_the_action_are_refused() {
        let text = || Some("x".to_owned());
        assert!(change(RuleAction::Drop, text(), None).is_err());
        assert!(change(RuleAction::Hold, text(), text()).is_err());
        assert!(change(RuleAction::Reroute, text(), text()).is_err());
        let there = change(RuleAction::Reroute, None, text()).unwrap();
        assert_eq!(there, QueueChange::Reroute { to: text() });
    }
}
