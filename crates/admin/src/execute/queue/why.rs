//! What a message waits for: what its row says, and what the channel that sends it knows.

use nightmail_cluster::{LeaseName, Shard};
use nightmail_core::{QueueId, Timestamp};
use nightmail_queue::{
    Destination, QueueMessage, Recipient, RecipientState, RuleBook, StandingRules, Waiting,
};

use super::{gone, in_words, parse_id, state};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::execute::Answer;
use crate::response::{AdminResponse, QueueWhyView, RecipientWhyView};

pub(super) async fn why(context: &AdminContext, id: &str) -> Answer {
    let id = parse_id(id)?;
    let message = context.queue.show(id).await?.ok_or_else(|| gone(id))?;
    let rules = RuleBook::new(context.queue.committer().clone());
    let asked = Asked {
        id,
        message: &message,
        rules: &*rules.reload().await?,
        now: nightmail_commit::now(),
    };
    let mut recipients: Vec<RecipientWhyView> = message
        .recipients
        .iter()
        .map(|one| asked.view(one))
        .collect();
    explain(context, id, &mut recipients).await?;
    Ok(AdminResponse::QueueWhy(QueueWhyView {
        id: id.to_string(),
        node: sender(context, id).await?,
        recipients,
    }))
}

/// What the question is about.
struct Asked<'a> {
    id: QueueId,
    message: &'a QueueMessage,
    rules: &'a StandingRules,
    now: Timestamp,
}

impl Asked<'_> {
    fn view(&self, recipient: &Recipient) -> RecipientWhyView {
        let destination = match self.message.unrouted {
            Some(_) => Destination::Unrouted,
            None => recipient.destination(),
        };
        RecipientWhyView {
            address: recipient.address.to_string(),
            destination: destination.to_string(),
            state: state(recipient).to_owned(),
            because: self.because(recipient),
        }
    }

    fn because(&self, recipient: &Recipient) -> Vec<String> {
        let mut because = Vec::new();
        if let RecipientState::Pending { next_attempt } = recipient.state {
            because.push(self.waits(recipient, next_attempt));
            let rule = self
                .rules
                .decide(self.id, self.message, recipient, self.now)
                .filter(|_| recipient.hold.is_none());
            because.extend(rule.map(|rule| {
                format!(
                    "the standing rule {} fits when it is tried next: {}",
                    rule.name, rule.action
                )
            }));
        }
        because.extend(recipient.last.as_ref().map(|last| {
            format!(
                "attempt {} ended at {}: {}",
                recipient.attempts,
                last.at,
                in_words(last)
            )
        }));
        because
    }

    /// What a pending recipient waits for by the message's row.
    fn waits(&self, recipient: &Recipient, at: Timestamp) -> String {
        if let Some(reason) = &recipient.hold {
            return format!("held until `queue release`: {reason}");
        }
        let due = at <= self.now;
        if self.message.unrouted.is_some() {
            return match due {
                true => format!("let go since {at}"),
                false => format!("held back until {at}, as its sender wants"),
            };
        }
        match recipient.waiting {
            _ if due => format!("due since {at}"),
            Waiting::Fresh | Waiting::Retry | Waiting::Hurried => {
                format!("waits for the next attempt at {at}")
            }
            Waiting::Window => {
                format!("waits for the schedule of its destination to open, at {at}")
            }
            Waiting::Request => format!(
                "waits until its destination asks for mail, or `queue run`; looked at again at {at}"
            ),
        }
    }
}

/// The node that sends the message, among several.
async fn sender(context: &AdminContext, id: QueueId) -> Result<Option<String>, AdminError> {
    let engine = context.store.committer().engine();
    let lease = LeaseName::Queue(Shard::of(id.get()));
    let nodes = nightmail_cluster::nodes(engine.as_ref()).await?;
    let holder = nodes.iter().find(|node| node.leases.contains(&lease));
    Ok(holder.map(|node| node.name.to_string()))
}

/// Adds what the channel of this process knows.
async fn explain(
    context: &AdminContext,
    id: QueueId,
    recipients: &mut [RecipientWhyView],
) -> Result<(), AdminError> {
    let Some(sending) = context.sending() else {
        return Ok(());
    };
    for (index, text) in sending.explain(id).await? {
        if let Some(recipient) = recipients.get_mut(index) {
            recipient.because.push(format!("here: {text}"));
        }
    }
    Ok(())
}
