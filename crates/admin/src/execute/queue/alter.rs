//! Changing whatever fits a match expression.
//!
//! Goes through the queue in pages and changes a page in a few commits. Whom a change is about is decided anew in its
//! commit. What comes in meanwhile may or may not be found.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures_util::{StreamExt, TryStreamExt};
use nightmail_core::{QueueId, Timestamp};
use nightmail_journal::{Event, EventKind, Journal};
use nightmail_queue::{
    Alteration, Altered, Destination, QueueMessage, Recipient, Selected, Selection, Waiting,
};

use super::{gone, parse_relay, parse_selection};
use crate::context::AdminContext;
use crate::error::AdminError;
use crate::execute::Answer;
use crate::request::QueueChange;
use crate::response::{AdminResponse, QueueAlteredView};
use crate::sending::{Sending, Whom};

/// Messages given up at once, each with its report: they share the commits' syncs.
const BOUNCED_AT_ONCE: usize = 64;
/// What is kept where the operator gives no reason.
pub(super) const HOLD_REASON: &str = "held by the operator";
/// What senders are told where the operator gives no reason.
pub(super) const BOUNCE_REASON: &str = "given up by the operator";

/// What the log of events says where there is no more to say.
const BY_OPERATOR: &str = "by the operator";

/// What is done with each recipient.
#[derive(Clone)]
enum Deed {
    Alter(Alteration),
    Bounce(String),
}

/// A deed and whom it is about.
#[derive(Clone)]
struct Order {
    selection: Arc<Selection>,
    deed: Deed,
    now: Timestamp,
    /// Whether mail that its sender wants held back is meant: only where it is named itself.
    held_back: bool,
}

impl Order {
    /// Whether a pending recipient is meant, and there is something to be done.
    fn concerns(&self, message: &QueueMessage, id: QueueId, recipient: &Recipient) -> bool {
        let held = recipient.hold.is_some();
        // What is hurried moves ahead in the index: a walk along it that hurried it again would not end.
        let due = |at| at <= nightmail_commit::now();
        let hurried =
            recipient.waiting == Waiting::Hurried && recipient.next_attempt().is_some_and(due);
        let open = match &self.deed {
            Deed::Alter(Alteration::Hold(_)) => !held,
            Deed::Alter(Alteration::Release) => held,
            Deed::Alter(Alteration::Retry) => !(held || hurried),
            Deed::Alter(Alteration::Reroute(relay)) => recipient.relay != *relay,
            Deed::Alter(Alteration::Drop) | Deed::Bounce(_) => true,
        };
        let routed = message.unrouted.is_none() || self.held_back;
        open && routed && self.selection.fits(message, id, recipient, self.now)
    }

    fn concerned<'a>(&'a self, selected: &'a Selected) -> impl Iterator<Item = &'a Recipient> {
        let message = &selected.message;
        let pending = message.pending().map(|(_, recipient)| recipient);
        pending.filter(|recipient| self.concerns(message, selected.id, recipient))
    }

    fn count(&self, selected: &Selected) -> u64 {
        self.concerned(selected).count() as u64
    }

    /// Whether mail is to be tried now, even at a site that has just failed.
    const fn is_hurry(&self) -> bool {
        matches!(
            self.deed,
            Deed::Alter(Alteration::Retry | Alteration::Release)
        )
    }

    fn destinations<'a>(&'a self, selected: &'a Selected) -> impl Iterator<Item = Destination> {
        self.concerned(selected).map(Recipient::destination)
    }

    /// Notes in the log of events what was done with a message; what it does not speak of is noted by whoever sends.
    fn note(&self, journal: &Journal, selected: &Selected) {
        let (kind, text) = match &self.deed {
            Deed::Alter(Alteration::Hold(reason)) => (EventKind::Held, reason.to_string()),
            Deed::Alter(Alteration::Release) => (EventKind::Released, BY_OPERATOR.to_owned()),
            Deed::Alter(Alteration::Reroute(Some(relay))) => {
                (EventKind::Rerouted, format!("to the relay {relay}"))
            }
            Deed::Alter(Alteration::Reroute(None)) => (
                EventKind::Rerouted,
                "to where the configuration says".to_owned(),
            ),
            Deed::Alter(Alteration::Drop) => (EventKind::Dropped, BY_OPERATOR.to_owned()),
            Deed::Alter(Alteration::Retry) | Deed::Bounce(_) => return,
        };
        let message = &selected.message;
        for recipient in self.concerned(selected) {
            journal.note(Event {
                queue_id: Some(selected.id),
                sender: Some(message.reverse_path.to_string()),
                recipient: Some(recipient.address.to_string()),
                text: Some(text.clone()),
                ..Event::new(nightmail_commit::now(), kind)
            });
        }
    }

    /// Whether what is held can be meant.
    const fn reaches_held(&self) -> bool {
        !matches!(
            self.deed,
            Deed::Alter(Alteration::Hold(_) | Alteration::Retry)
        )
    }
}

pub(super) async fn alter(
    context: &AdminContext,
    matching: &str,
    change: QueueChange,
    dry_run: bool,
) -> Answer {
    let selection = parse_selection(matching)?;
    let named = selection.ids();
    if let Some([id]) = named.as_deref()
        && context.queue.show(*id).await?.is_none()
    {
        return Err(gone(*id));
    }
    let order = Order {
        deed: deed(context, change)?,
        now: nightmail_commit::now(),
        held_back: named.is_some(),
        selection: Arc::new(selection),
    };
    let mut view = QueueAlteredView {
        dry_run,
        ..QueueAlteredView::default()
    };
    let selection = Arc::clone(&order.selection);
    let mut walk = context.queue.walk(&selection, order.reaches_held()).await?;
    while let Some(mut page) = walk.next(order.now).await? {
        page.retain(|selected| order.count(selected) > 0);
        let altered = match dry_run {
            true => Altered {
                messages: page.len() as u64,
                recipients: page.iter().map(|selected| order.count(selected)).sum(),
            },
            false => alter_page(context, &order, &page).await?,
        };
        view.messages += altered.messages;
        view.recipients += altered.recipients;
    }
    Ok(AdminResponse::QueueAltered(view))
}

async fn alter_page(
    context: &AdminContext,
    order: &Order,
    page: &[Selected],
) -> Result<Altered, AdminError> {
    let ids = page.iter().map(|selected| selected.id).collect();
    let altered = carry_out(context, order, ids).await?;
    for selected in page {
        order.note(context.journal(), selected);
    }
    if let Some(sending) = context.sending()
        && order.is_hurry()
    {
        let destinations = page
            .iter()
            .flat_map(|selected| order.destinations(selected));
        for destination in destinations.collect::<BTreeSet<_>>() {
            sending.run_now(&destination);
        }
    }
    Ok(altered)
}

fn deed(context: &AdminContext, change: QueueChange) -> Result<Deed, AdminError> {
    let reason = |given: Option<String>, otherwise: &str| given.unwrap_or_else(|| otherwise.into());
    Ok(match change {
        QueueChange::Hold { reason: given } => {
            Deed::Alter(Alteration::Hold(reason(given, HOLD_REASON).into()))
        }
        QueueChange::Release => Deed::Alter(Alteration::Release),
        QueueChange::Retry => Deed::Alter(Alteration::Retry),
        QueueChange::Reroute { to } => {
            let relay = to.map(|name| parse_relay(context, &name)).transpose()?;
            Deed::Alter(Alteration::Reroute(relay))
        }
        QueueChange::Bounce { reason: given } => {
            sending(context)?;
            Deed::Bounce(reason(given, BOUNCE_REASON))
        }
        QueueChange::Drop => Deed::Alter(Alteration::Drop),
    })
}

/// Changes these messages. One that has gone meanwhile has no recipient left to change.
async fn carry_out(
    context: &AdminContext,
    order: &Order,
    ids: Vec<QueueId>,
) -> Result<Altered, AdminError> {
    match &order.deed {
        Deed::Alter(alteration) => {
            let order = order.clone();
            let whom = move |id, message: &QueueMessage, recipient: &Recipient| {
                order.concerns(message, id, recipient)
            };
            let alteration = alteration.clone();
            Ok(context.queue.alter_many(ids, alteration, whom).await?)
        }
        Deed::Bounce(reason) => bounce(context, order, reason, ids).await,
    }
}

fn sending(context: &AdminContext) -> Result<&dyn Sending, AdminError> {
    context.sending().ok_or_else(|| {
        AdminError::refused("mail is given up by a server that runs and sends mail; ask one")
    })
}

/// Gives these messages up, many at once.
async fn bounce(
    context: &AdminContext,
    order: &Order,
    reason: &str,
    ids: Vec<QueueId>,
) -> Result<Altered, AdminError> {
    let sending = sending(context)?;
    let bounces = ids.into_iter().map(|id| {
        let order = order.clone();
        let whom: Whom = Box::new(move |message, recipient| order.concerns(message, id, recipient));
        sending.bounce(id, reason.to_owned(), whom)
    });
    let given_up: Vec<u64> = futures_util::stream::iter(bounces)
        .buffer_unordered(BOUNCED_AT_ONCE)
        .try_collect()
        .await?;
    Ok(Altered {
        messages: given_up.iter().filter(|count| **count > 0).count() as u64,
        recipients: given_up.iter().sum(),
    })
}
