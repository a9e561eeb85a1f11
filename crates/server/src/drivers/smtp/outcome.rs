//! What the layers below say, as replies: the one place where their refusals become codes.

use nightmail_smtp::server::{Answer, EndOfMessage};
use nightmail_smtp::{Reply, replies};
use nightmail_switch::{Outcome, Receipt, Refusal, SwitchError};
use tracing::{debug, info};

use crate::net::Transport;

pub(super) fn log_receipt(
    session: nightmail_core::SessionId,
    message: &str,
    from: &str,
    size: u64,
    receipt: &Receipt,
    accepted: &EndOfMessage,
) {
    let message = message.get(..16).unwrap_or(message);
    let queue_id = receipt
        .queue_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    info!(%session, message, from, size, copies = receipt.appended.len(), queue_id, "message accepted");
    for rcpt in accepted.envelope.recipients.iter() {
        debug!(%session, message, recipient = %rcpt.forward_path, "recipient");
    }
    for (account, appended) in &receipt.appended {
        debug!(%session, message, %account, uid = %appended.uid, "delivered");
    }
}

/// SMTP has one answer for all recipients: refused only where nobody could take the message.
pub(super) fn smtp_answer(receipt: &Receipt, transport: &Transport) -> Answer {
    let refused = receipt.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal),
        Outcome::Accepted => None,
    });
    let nobody = receipt.appended.is_empty() && receipt.queue_id.is_none();
    match refused {
        Some(refusal) if nobody => Answer::Reject(refusal_reply(refusal)),
        _ => Answer::Accepted {
            id: receipt
                .queue_id
                .map_or_else(|| transport.session().to_string(), |id| id.to_string())
                .into(),
        },
    }
}

pub(super) fn lmtp_replies(receipt: &Receipt) -> Vec<Reply> {
    let reply = |outcome: &Outcome| match outcome {
        Outcome::Accepted => replies::OK,
        Outcome::Refused(refusal) => refusal_reply(refusal),
    };
    receipt.outcomes.iter().map(reply).collect()
}

pub(super) fn refusal_reply(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::UnknownUser => replies::MAILBOX_UNKNOWN,
        Refusal::RelayDenied => replies::RELAY_DENIED,
        Refusal::Disabled { temporary: true } => replies::MAILBOX_BUSY,
        Refusal::Disabled { temporary: false } => replies::MAILBOX_DISABLED,
        Refusal::Loop => replies::LOOP,
        Refusal::OverQuota { temporary: true } => replies::MAILBOX_FULL,
        Refusal::OverQuota { temporary: false } | Refusal::TooLarge => replies::QUOTA_EXCEEDED,
    }
}

/// Local trouble is a 4yz, never a 5yz.
pub(super) fn failure_reply(error: &SwitchError) -> Reply {
    if error.is_full() {
        replies::OUT_OF_SPACE
    } else {
        replies::LOCAL_ERROR
    }
}
