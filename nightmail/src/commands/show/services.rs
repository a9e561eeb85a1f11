//! What accounts and folders want done with mail, as text for people.

use nightmail_admin::{
    AttachmentsSetting, DeletedView, LoginDelaySetting, OverQuotaSetting, RetentionView,
    ServicesView,
};

use crate::output::{Fields, Table, yes};

/// Adds the fields of an account's services that say anything.
pub(super) fn add(fields: &mut Fields, view: &ServicesView) {
    fields.add("public", yes(view.public));
    if !view.forward.to.is_empty() {
        let kept = match view.forward.keep_copy {
            true => "and kept",
            false => "and not kept",
        };
        let to = view.forward.to.join(", ");
        fields.add("sent on", format!("to {to}, {kept}"));
    }
    if let Some(vacation) = &view.vacation {
        let mut text = format!("once in {} days", vacation.interval_days);
        if let Some(from) = &vacation.from {
            text.push_str(&format!(", from {from}"));
        }
        if let Some(until) = &vacation.until {
            text.push_str(&format!(", until {until}"));
        }
        fields.add("answers", text);
    }
    if view.attachments == AttachmentsSetting::Apart {
        fields.add("attachments", "messages of their own");
    }
    match view.over_quota {
        OverQuotaSetting::Default => {}
        OverQuotaSetting::Defer => drop(fields.add("when full", "senders try again")),
        OverQuotaSetting::Refuse => drop(fields.add("when full", "mail is refused")),
    }
    if view.save_sent {
        fields.add("sent mail", "kept");
    }
    if let LoginDelaySetting::Secs(seconds) = view.login_delay {
        fields.add("POP3 login delay", format!("{seconds} s"));
    }
}

/// How long a folder keeps its messages.
pub(super) fn retention(view: &RetentionView) -> String {
    let days = match view.days {
        Some(days) => format!("{days} days"),
        None => "as the server is configured".to_owned(),
    };
    let mut fields = Fields::new();
    fields.add("mailbox", &view.mailbox).add("kept", days);
    if let Some(keep) = view.keep {
        fields.add("at least", format!("{keep} messages"));
    }
    fields.render()
}

/// Messages that can be brought back.
pub(super) fn deleted(items: &[DeletedView]) -> String {
    let mut table = Table::new(&["MAILBOX", "UID", "DELETED", "SUBJECT"]);
    for view in items {
        let at = view.at.clone().unwrap_or_default();
        let subject = view.subject.clone().unwrap_or_default();
        table.row([view.mailbox.clone(), view.uid.to_string(), at, subject]);
    }
    table.render()
}
