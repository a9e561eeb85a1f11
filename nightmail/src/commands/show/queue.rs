//! Answers about the queue as text.

use nightmail_admin::{
    DestinationView, QueueAlteredView, QueueRuleView, QueueView, QueueWhyView, RecipientView,
};

use crate::output::{Fields, Table};
use crate::size::show_bytes;

pub(super) fn messages(items: &[QueueView]) -> String {
    let mut table = Table::new(&[
        "ID",
        "ACCEPTED",
        "SIZE",
        "NEXT ATTEMPT",
        "FROM",
        "RECIPIENTS",
    ]);
    for view in items {
        let pending = view
            .recipients
            .iter()
            .filter(|recipient| matches!(recipient.state.as_str(), "pending" | "held"));
        let pending: Vec<&str> = pending
            .map(|recipient| recipient.address.as_str())
            .collect();
        table.row([
            view.id.clone(),
            view.created.clone(),
            show_bytes(view.size),
            next_attempt(view),
            sender(view),
            pending.join(", "),
        ]);
    }
    table.render()
}

fn next_attempt(view: &QueueView) -> String {
    match view.active {
        true => "now".to_owned(),
        false => view.due.clone().unwrap_or_else(|| "held".to_owned()),
    }
}

fn sender(view: &QueueView) -> String {
    if view.from.is_empty() {
        "<>".to_owned()
    } else {
        view.from.clone()
    }
}

pub(super) fn message(view: &QueueView) -> String {
    let mut fields = Fields::new();
    fields
        .add("id", &view.id)
        .add("from", sender(view))
        .add("accepted", &view.created)
        .add("size", show_bytes(view.size))
        .add("next attempt", next_attempt(view));
    if let Some(until) = &view.held_until {
        fields.add("held until", until);
    }
    if view.priority != 0 {
        fields.add("priority", view.priority);
    }
    if view.require_tls {
        fields.add("goes", "over TLS only");
    }
    if view.tls_optional {
        fields.add("goes", "without TLS where a site has none that is right");
    }
    if let Some(by) = &view.deliver_by {
        fields.add("deliver by", by);
    }
    let mut table = Table::new(&["RECIPIENT", "STATE", "ATTEMPTS", "LAST"]);
    for recipient in &view.recipients {
        let last = recipient.hold.as_ref().or(recipient.last.as_ref());
        table.row([
            recipient.address.clone(),
            standing(recipient),
            recipient.attempts.to_string(),
            last.cloned().unwrap_or_default(),
        ]);
    }
    format!("{}\n{}", fields.render(), table.render())
}

/// Where a recipient stands, and by which relay it goes.
fn standing(recipient: &RecipientView) -> String {
    match &recipient.relay {
        Some(relay) => format!("{} by {relay}", recipient.state),
        None => recipient.state.clone(),
    }
}

pub(super) fn altered(view: QueueAlteredView) -> String {
    let verb = if view.dry_run { "would be" } else { "were" };
    format!(
        "{} recipient(s) of {} message(s) {verb} changed\n",
        view.recipients, view.messages
    )
}

pub(super) fn why(view: &QueueWhyView) -> String {
    let mut text = String::new();
    if let Some(node) = &view.node {
        text.push_str(&format!("sent by the node {node}\n"));
    }
    for recipient in &view.recipients {
        text.push_str(&format!(
            "{}: {}, to {}\n",
            recipient.address, recipient.state, recipient.destination
        ));
        for because in &recipient.because {
            text.push_str(&format!("  {because}\n"));
        }
    }
    text
}

pub(super) fn destinations(items: &[DestinationView]) -> String {
    let mut table = Table::new(&[
        "DESTINATION",
        "PENDING",
        "DEFERRED",
        "OLDEST",
        "NEXT ATTEMPT",
        "STATE",
    ]);
    for view in items {
        table.row([
            view.destination.clone(),
            view.pending.to_string(),
            view.deferred.to_string(),
            view.oldest.clone(),
            view.next_due.clone().unwrap_or_default(),
            view.state.clone(),
        ]);
    }
    table.render()
}

pub(super) fn rules(items: &[QueueRuleView]) -> String {
    let mut table = Table::new(&["RULE", "SINCE", "MATCH", "ACTION"]);
    for view in items {
        table.row([
            view.name.clone(),
            view.created.clone(),
            view.matching.clone(),
            view.action.clone(),
        ]);
    }
    table.render()
}
