//! Telling senders of what was delivered here, where they asked for it (RFC 3461 §6).
//!
//! An address that stands for one other keeps what was asked for it. One that stands for several is reported as
//! expanded, and what its copies come to is reported only where it goes wrong (RFC 3461 §5.2.7).

use nightmail_core::{Address, Domain, ForwardPath, Timestamp};
use nightmail_directory::Target;
use nightmail_mime::report::{Action, Original, RecipientReport};
use nightmail_mime::{Report, generate_report};
use nightmail_queue::Notify;
use nightmail_smtp::command::OriginalRecipient;

use crate::envelope::{Envelope, EnvelopeRecipient};
use crate::report::{decode_orcpt, decode_xtext};

/// What a sender is told about one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notice {
    /// Its place in the envelope.
    pub recipient: usize,
    path: ForwardPath,
    original: Option<String>,
    action: Action,
}

impl Notice {
    /// What the sender is told once the copies of that recipient are accepted; `None` where it is nothing.
    pub fn about(place: usize, recipient: &EnvelopeRecipient) -> Option<Self> {
        if !recipient.notify.success() {
            return None;
        }
        // Where an account sends its mail on to is nobody else's to know.
        let is_shown =
            |target: &&Target| matches!(target, Target::Account { .. } | Target::Remote(_));
        let shown: Vec<&Target> = recipient.routed.targets.iter().filter(is_shown).collect();
        let action = match (shown.as_slice(), recipient.routed.targets.as_slice()) {
            (_, [] | [Target::Remote(_)]) => return None,
            ([] | [Target::Account { .. }], _) => Action::Delivered,
            _ => Action::Expanded,
        };
        Some(Self {
            recipient: place,
            path: recipient.routed.path.clone(),
            original: recipient.orcpt.as_deref().and_then(decode_orcpt),
            action,
        })
    }

    fn report(&self, now: Timestamp) -> RecipientReport<'_> {
        RecipientReport {
            recipient: &self.path,
            original_recipient: self.original.as_deref(),
            action: self.action,
            status: "2.0.0",
            remote_mta: None,
            diagnostic: None,
            answered: false,
            last_attempt: Some(now),
            will_retry_until: None,
        }
    }
}

/// What is asked for the copies to other sites of a recipient.
pub(crate) fn notify_elsewhere(recipient: &EnvelopeRecipient) -> Notify {
    match recipient.notify {
        Notify::On {
            failure: false,
            delay: false,
            ..
        } if recipient.routed.targets.len() > 1 => Notify::Never,
        Notify::On { failure, delay, .. } if recipient.routed.targets.len() > 1 => Notify::On {
            success: false,
            failure,
            delay,
        },
        notify => notify,
    }
}

/// The original recipient of a copy to `address`: as given, or the address that an alias stands for, which is the one
/// that the sender knows.
pub(crate) fn original_recipient(
    recipient: &EnvelopeRecipient,
    address: &Address,
) -> Option<String> {
    let named = match &recipient.routed.path {
        ForwardPath::Address(path) if path != address => Some(path.to_string()),
        _ => None,
    };
    let by_alias = || Some(OriginalRecipient::for_address(&named?).to_string());
    recipient.orcpt.clone().or_else(by_alias)
}

/// Writes the report `id` of `notices` to `to`. `header`: what is returned of the message.
pub(crate) fn compose(
    host: &Domain,
    to: &Address,
    envelope: &Envelope,
    notices: &[Notice],
    header: &[u8],
    id: u128,
    now: Timestamp,
) -> Vec<u8> {
    let recipients: Vec<RecipientReport<'_>> =
        notices.iter().map(|notice| notice.report(now)).collect();
    generate_report(&Report {
        reporting_mta: host,
        from: &format!("Mail Delivery System <MAILER-DAEMON@{host}>"),
        to,
        smtputf8: envelope.smtputf8,
        date: now,
        message_id: &format!("{id:032x}@{host}"),
        boundary: &format!("=_{id:032x}"),
        envelope_id: envelope.envid.as_deref().and_then(decode_xtext).as_deref(),
        arrival: Some(now),
        deliver_by: envelope.demands.deliver_by.map(|by| by.deadline),
        recipients: &recipients,
        original: Original::Headers(header),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::Routed;

    fn recipient(notify: Notify, targets: &[&str]) -> EnvelopeRecipient {
        let remote = |text: &&str| Target::Remote(text.parse().unwrap());
        EnvelopeRecipient {
            routed: Routed {
                path: ForwardPath::Address("alias@near.test".parse().unwrap()),
                targets: targets.iter().map(remote).collect(),
            },
            notify,
            orcpt: None,
        }
    }

    const ALL: Notify = Notify::On {
        success: true,
        failure: true,
        delay: false,
    };

    #[test]
    fn an_alias_for_one_address_keeps_what_was_asked() {
        let one = recipient(ALL, &["a@far.test"]);
        assert_eq!(notify_elsewhere(&one), ALL);
        assert_eq!(Notice::about(0, &one), None);
        let original = original_recipient(&one, &"a@far.test".parse().unwrap());
        assert_eq!(original.as_deref(), Some("rfc822;alias@near.test"));
    }

    #[test]
    fn an_alias_for_several_is_expanded_and_its_copies_report_trouble_only() {
        let two = recipient(ALL, &["a@far.test", "b@far.test"]);
        let left = Notify::On {
            success: false,
            failure: true,
            delay: false,
        };
        assert_eq!(notify_elsewhere(&two), left);
        assert_eq!(Notice::about(0, &two).unwrap().action, Action::Expanded);
        let success_only = Notify::On {
            success: true,
            failure: false,
            delay: false,
        };
        let two = recipient(success_only, &["a@far.test", "b@far.test"]);
        assert_eq!(notify_elsewhere(&two), Notify::Never);
        let unasked = recipient(Notify::Unspecified, &["a@far.test", "b@far.test"]);
        assert_eq!(notify_elsewhere(&unasked), Notify::Unspecified);
        assert_eq!(Notice::about(0, &unasked), None);
    }

    #[test]
    fn a_recipient_that_was_routed_to_itself_has_no_original() {
        let address = "alias@near.test".parse().unwrap();
        let same = recipient(ALL, &["alias@near.test"]);
        assert_eq!(original_recipient(&same, &address), None);
    }
}
