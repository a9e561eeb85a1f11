//! Requests about mail waiting to be sent elsewhere.

use nightmail_core::QueueId;
use nightmail_queue::{Attempt, DeliverBy, QueueMessage, Recipient, RecipientState};

use super::{Answer, page_limit};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::response::{AdminResponse, QueueView, RecipientView};

fn parse_id(text: &str) -> Result<QueueId, AdminError> {
    let wrong = || AdminError::usage(format!("{text:?} is not a queue id; see `queue list`"));
    QueueId::parse(text).ok_or_else(wrong)
}

pub(super) async fn list(
    context: &AdminContext,
    after: Option<String>,
    limit: Option<usize>,
) -> Answer {
    let after = after.as_deref().map(parse_id).transpose()?;
    let limit = page_limit(limit);
    let listed = context.queue.list(after, limit).await?;
    let next = (listed.len() == limit).then(|| listed.last().map(|(id, _)| id.to_string()));
    let items = listed
        .iter()
        .map(|(id, message)| view(context, *id, message))
        .collect();
    Ok(AdminResponse::Queue {
        items,
        next: next.flatten(),
    })
}

pub(super) async fn show(context: &AdminContext, id: &str) -> Answer {
    let id = parse_id(id)?;
    let found = context.queue.show(id).await?;
    let gone = || {
        AdminError::refused(format!(
            "there is no message {id} in the queue; see `queue list`"
        ))
    };
    Ok(AdminResponse::Queued(view(
        context,
        id,
        &found.ok_or_else(gone)?,
    )))
}

pub(super) async fn retry(context: &AdminContext, id: Option<&str>) -> Answer {
    let count = match id {
        Some(id) => {
            context.queue.retry(parse_id(id)?).await?;
            1
        }
        None => context.queue.retry_all().await?,
    };
    Ok(AdminResponse::Retried { count })
}

pub(super) async fn remove(context: &AdminContext, id: &str) -> Answer {
    context.queue.remove(parse_id(id)?).await?;
    Ok(AdminResponse::Done)
}

fn view(context: &AdminContext, id: QueueId, message: &QueueMessage) -> QueueView {
    let demands = &message.demands;
    let held = demands.hold_until.filter(|_| message.unrouted.is_some());
    QueueView {
        id: id.to_string(),
        created: message.created.to_string(),
        from: message.reverse_path.to_string(),
        size: message.size(),
        due: message.due().map(|due| due.to_string()),
        active: context.queue.is_claimed(id),
        priority: demands.priority,
        held_until: held.map(|until| until.to_string()),
        require_tls: demands.require_tls,
        deliver_by: demands.deliver_by.map(deadline),
        recipients: message.recipients.iter().map(recipient_view).collect(),
    }
}

/// `2026-11-22T16:22:00Z, or it comes back`
fn deadline(by: DeliverBy) -> String {
    let then = match by.notify {
        true => "or its sender is told",
        false => "or it comes back",
    };
    format!("{}, {then}", by.deadline)
}

fn recipient_view(recipient: &Recipient) -> RecipientView {
    let state = match recipient.state {
        RecipientState::Pending { .. } => "pending",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed => "failed",
    };
    RecipientView {
        address: recipient.address.to_string(),
        state: state.to_owned(),
        next_attempt: recipient.next_attempt().map(|at| at.to_string()),
        attempts: recipient.attempts,
        last: recipient.last.as_ref().map(in_words),
    }
}

/// `4.4.1 mx.example.org: connection refused`
fn in_words(attempt: &Attempt) -> String {
    let mut text = attempt.status.clone();
    if let Some(host) = &attempt.host {
        text.push_str(&format!(" {host}:"));
    }
    let said = attempt.reply.as_deref().unwrap_or(&attempt.diagnostic);
    format!("{text} {said}")
}
