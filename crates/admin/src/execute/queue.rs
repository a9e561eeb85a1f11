//! Requests about mail waiting to be sent elsewhere.

mod alter;
mod destinations;
mod rules;
mod why;

use nightmail_core::QueueId;
use nightmail_queue::{
    Attempt, DeliverBy, QueueMessage, Recipient, RecipientState, RelayName, Selection,
};

use super::{Answer, page_limit};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::{AdminResponse, QueueView, RecipientView};

/// Messages looked through at once for those that fit.
const LOOKED_AT_ONCE: usize = 512;

/// Carries a request about the queue out.
pub(super) async fn execute(context: &AdminContext, request: AdminRequest) -> Answer {
    use AdminRequest as R;
    match request {
        R::QueueList {
            matching,
            after,
            limit,
        } => list(context, matching.as_deref(), after.as_deref(), limit).await,
        R::QueueShow { id } => show(context, &id).await,
        R::QueueRetry { id } => retry(context, id.as_deref()).await,
        R::QueueRemove { id } => remove(context, &id).await,
        R::QueueWhy { id } => why::why(context, &id).await,
        R::QueueAlter {
            matching,
            change,
            dry_run,
        } => alter::alter(context, &matching, change, dry_run).await,
        R::QueueDestinations { after, limit } => {
            destinations::list(context, after.as_deref(), limit).await
        }
        R::QueueRun { domain } => destinations::run(context, &domain).await,
        R::QueueRuleAdd {
            name,
            matching,
            change,
        } => rules::add(context, &name, &matching, change).await,
        R::QueueRuleList => rules::list(context).await,
        R::QueueRuleRemove { name } => rules::remove(context, &name).await,
        _ => Err(AdminError::failed("not a request about the queue")),
    }
}

fn parse_id(text: &str) -> Result<QueueId, AdminError> {
    let wrong = || AdminError::usage(format!("{text:?} is not a queue id; see `queue list`"));
    QueueId::parse(text).ok_or_else(wrong)
}

fn parse_selection(text: &str) -> Result<Selection, AdminError> {
    Selection::parse(text).map_err(|error| AdminError::usage(format!("{text:?}: {error}")))
}

fn parse_relay(context: &AdminContext, name: &str) -> Result<RelayName, AdminError> {
    let known = context.relays();
    if !known.iter().any(|known| known == name) {
        let known = match known {
            [] => "none".to_owned(),
            names => names.join(", "),
        };
        let unknown = format!("the configuration has no relay {name:?}; it has {known}");
        return Err(AdminError::usage(unknown));
    }
    RelayName::new(name).ok_or_else(|| AdminError::usage(format!("{name:?} is no relay's name")))
}

fn gone(id: QueueId) -> AdminError {
    AdminError::refused(format!(
        "there is no message {id} in the queue; see `queue list`"
    ))
}

async fn list(
    context: &AdminContext,
    matching: Option<&str>,
    after: Option<&str>,
    limit: Option<usize>,
) -> Answer {
    let selection = matching.map(parse_selection).transpose()?;
    let after = after.map(parse_id).transpose()?;
    let limit = page_limit(limit);
    let (found, next) = match selection {
        None => {
            let found = context.queue.list(after, limit).await?;
            let next = (found.len() == limit).then(|| found.last().map(|(id, _)| *id));
            (found, next.flatten())
        }
        Some(selection) => matches(context, &selection, after, limit).await?,
    };
    let items = found
        .iter()
        .map(|(id, message)| view(context, *id, message))
        .collect();
    Ok(AdminResponse::Queue {
        items,
        next: next.map(|id| id.to_string()),
    })
}

type Found = (Vec<(QueueId, QueueMessage)>, Option<QueueId>);

/// The next messages with a pending recipient that fits, and where to go on.
async fn matches(
    context: &AdminContext,
    selection: &Selection,
    mut after: Option<QueueId>,
    limit: usize,
) -> Result<Found, AdminError> {
    let now = nightmail_commit::now();
    let mut found = Vec::new();
    if let Some(ids) = selection.ids() {
        let messages = context.queue.load(&ids).await?;
        let named = ids.into_iter().zip(messages);
        let named = named.filter_map(|(id, message)| Some((id, message?)));
        found.extend(named.filter(|(id, message)| any_fits(selection, *id, message, now)));
        return Ok((found, None));
    }
    loop {
        let page = context.queue.list(after, LOOKED_AT_ONCE).await?;
        let at_end = page.len() < LOOKED_AT_ONCE;
        for (id, message) in page {
            after = Some(id);
            if !any_fits(selection, id, &message, now) {
                continue;
            }
            found.push((id, message));
            if found.len() == limit {
                return Ok((found, after));
            }
        }
        if at_end {
            return Ok((found, None));
        }
    }
}

fn any_fits(
    selection: &Selection,
    id: QueueId,
    message: &QueueMessage,
    now: nightmail_core::Timestamp,
) -> bool {
    message
        .pending()
        .any(|(_, recipient)| selection.fits(message, id, recipient, now))
}

async fn show(context: &AdminContext, id: &str) -> Answer {
    let id = parse_id(id)?;
    let found = context.queue.show(id).await?.ok_or_else(|| gone(id))?;
    Ok(AdminResponse::Queued(view(context, id, &found)))
}

async fn retry(context: &AdminContext, id: Option<&str>) -> Answer {
    let count = match id {
        Some(id) => {
            context.queue.retry(parse_id(id)?).await?;
            1
        }
        None => context.queue.retry_all().await?,
    };
    Ok(AdminResponse::Retried { count })
}

async fn remove(context: &AdminContext, id: &str) -> Answer {
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
        active: context.queue.is_in_hand(id),
        priority: demands.priority,
        held_until: held.map(|until| until.to_string()),
        require_tls: demands.require_tls,
        tls_optional: demands.tls_optional && !demands.require_tls,
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
    let next_attempt = recipient
        .next_attempt()
        .filter(|_| recipient.hold.is_none());
    RecipientView {
        address: recipient.address.to_string(),
        state: state(recipient).to_owned(),
        next_attempt: next_attempt.map(|at| at.to_string()),
        attempts: recipient.attempts,
        last: recipient.last.as_ref().map(in_words),
        hold: recipient.hold.as_deref().map(str::to_owned),
        relay: recipient.relay.as_ref().map(ToString::to_string),
    }
}

const fn state(recipient: &Recipient) -> &'static str {
    match recipient.state {
        RecipientState::Pending { .. } if recipient.hold.is_some() => "held",
        RecipientState::Pending { .. } => "pending",
        RecipientState::Delivered => "delivered",
        RecipientState::Failed => "failed",
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
