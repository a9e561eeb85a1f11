//! `nightmail trace`.

use clap::Args;
use nightmail_admin::{AdminRequest, EventView, TracedView};

use crate::output::{Table, visible};

#[derive(Debug, Args)]
pub(crate) struct TraceArgs {
    /// An address (sender or recipient), every address of a domain as "@example.org", a Message-ID, or a queue id.
    #[arg(value_name = "ADDRESS|MESSAGE-ID|QUEUE-ID")]
    text: String,
    /// Only from then on: "2h" for two hours ago (s, m, h, d), "2026-11-22", or "2026-11-22T16:22:00Z".
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only before then.
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Events that fit, at most, the newest; the rest of their messages' lives comes with them.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    limit: usize,
}

impl TraceArgs {
    pub(crate) fn request(self) -> AdminRequest {
        AdminRequest::Trace {
            text: self.text,
            since: self.since,
            until: self.until,
            limit: Some(self.limit),
        }
    }
}

/// The lives of messages, one after the other.
pub(crate) fn show(items: &[TracedView], more: bool) -> String {
    if items.is_empty() {
        return "nothing is known of it in the log of events\n".to_owned();
    }
    let mut lives: Vec<String> = items.iter().map(life).collect();
    if more {
        lives
            .push("there is more: narrow it by --since and --until, or raise --limit\n".to_owned());
    }
    lives.join("\n")
}

fn life(message: &TracedView) -> String {
    let mut table = Table::new(&["TIME", "EVENT", "RECIPIENT", "HOST", "WHAT"]);
    for event in &message.events {
        table.row([
            event.at.clone(),
            event.event.clone(),
            event.recipient.clone().unwrap_or_default(),
            event.host.clone().unwrap_or_default(),
            what(event),
        ]);
    }
    format!("{}\n{}", heading(message), table.render())
}

/// `message a@b from ann@x.test in the queue as q1`
fn heading(message: &TracedView) -> String {
    let mut heading = "message".to_owned();
    if let Some(id) = &message.message_id {
        heading.push_str(&format!(" {}", visible(id)));
    }
    let mut senders = message.events.iter().filter_map(|it| it.sender.as_deref());
    match senders.next() {
        Some("") => heading.push_str(" from <>"),
        Some(sender) => heading.push_str(&format!(" from {}", visible(sender))),
        None => {}
    }
    let mut ids: Vec<&str> = Vec::new();
    for id in message
        .events
        .iter()
        .filter_map(|it| it.queue_id.as_deref())
    {
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if !ids.is_empty() {
        heading.push_str(&format!(" in the queue as {}", ids.join(", ")));
    }
    heading
}

/// What was said, after the status where it does not say it itself.
fn what(event: &EventView) -> String {
    let text = event.text.clone().unwrap_or_default();
    match &event.status {
        Some(status) if !text.contains(status.as_str()) => format!("{status} {text}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(event: &str, status: &str, text: &str) -> EventView {
        EventView {
            at: "2026-11-22T16:22:00.000Z".to_owned(),
            event: event.to_owned(),
            queue_id: Some("q1".to_owned()),
            sender: Some(String::new()),
            recipient: None,
            host: None,
            status: Some(status.to_owned()),
            text: Some(text.to_owned()),
        }
    }

    #[test]
    fn a_message_is_shown_under_its_names() {
        let message = TracedView {
            message_id: Some("a@b".to_owned()),
            events: vec![
                event("queued", "2.0.0", ""),
                event("sent", "2.0.0", "250 2.0.0 Ok"),
            ],
        };
        let text = show(&[message], true);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "message a@b from <> in the queue as q1");
        assert!(lines[2].ends_with("2.0.0"), "{text}");
        assert!(lines[3].ends_with("250 2.0.0 Ok") && !lines[3].contains("2.0.0 250"));
        assert!(lines[5].starts_with("there is more"), "{text}");
    }
}
