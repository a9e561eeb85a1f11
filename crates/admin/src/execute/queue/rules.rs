//! Standing rules of the queue.

use nightmail_queue::{RuleBook, RuleError, StandingAction, StandingRule};

use super::alter::{BOUNCE_REASON, HOLD_REASON};
use super::{parse_relay, parse_selection};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::execute::Answer;
use crate::request::QueueChange;
use crate::response::{AdminResponse, QueueRuleView};

fn rules(context: &AdminContext) -> RuleBook {
    RuleBook::new(context.queue.committer().clone())
}

pub(super) async fn add(
    context: &AdminContext,
    name: &str,
    matching: &str,
    change: QueueChange,
) -> Answer {
    let selection = parse_selection(matching)?;
    let action = action(context, change)?;
    rules(context).add(name, selection, action).await?;
    Ok(AdminResponse::Done)
}

pub(super) async fn list(context: &AdminContext) -> Answer {
    let standing = rules(context).reload().await?;
    Ok(AdminResponse::QueueRules {
        items: standing.iter().map(view).collect(),
    })
}

pub(super) async fn remove(context: &AdminContext, name: &str) -> Answer {
    rules(context).remove(name).await?;
    Ok(AdminResponse::Done)
}

fn action(context: &AdminContext, change: QueueChange) -> Result<StandingAction, AdminError> {
    let reason = |given: Option<String>, otherwise: &str| given.unwrap_or_else(|| otherwise.into());
    Ok(match change {
        QueueChange::Hold { reason: given } => StandingAction::Hold(reason(given, HOLD_REASON)),
        QueueChange::Bounce { reason: given } => {
            StandingAction::Bounce(reason(given, BOUNCE_REASON))
        }
        QueueChange::Reroute { to } => {
            let relay = to.map(|name| parse_relay(context, &name)).transpose()?;
            StandingAction::Reroute(relay)
        }
        QueueChange::Drop => StandingAction::Drop,
        QueueChange::Release | QueueChange::Retry => {
            return Err(AdminError::usage(
                "a rule can hold, reroute, bounce or drop; to release or retry is done once",
            ));
        }
    })
}

fn view(rule: &StandingRule) -> QueueRuleView {
    QueueRuleView {
        name: rule.name.clone(),
        matching: rule.selection.to_string(),
        action: rule.action.to_string(),
        created: rule.created.to_string(),
    }
}

impl From<RuleError> for AdminError {
    fn from(error: RuleError) -> Self {
        match error {
            RuleError::Queue(error) => error.into(),
            RuleError::Name(_) => Self::usage(error.to_string()),
            RuleError::NoSuchRule(_) => Self::refused(format!("{error}; see `queue rule list`")),
            _ => Self::refused(error.to_string()),
        }
    }
}
