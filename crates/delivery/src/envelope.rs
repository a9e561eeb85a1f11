//! The queue's envelope in the words of an SMTP session.

use nightmail_core::{ForwardPath, Timestamp};
use nightmail_queue::{BodyType, DeliverBy, Notify, QueueMessage, Recipient, Ret};
use nightmail_smtp::client::{Delivery, Recipient as SmtpRecipient};
use nightmail_smtp::command::{
    BodyType as SmtpBody, ByMode, DeliverBy as SmtpDeliverBy, MailParams, Notify as SmtpNotify,
    OriginalRecipient, RcptParams, Return, Xtext,
};

/// The most that BY can say, either way (RFC 2852 §4).
const BY_SECONDS_MAX: i64 = 999_999_999;

/// The delivery of `message` to the recipients at `indexes`, begun at `now`.
pub(crate) fn delivery(message: &QueueMessage, indexes: &[usize], now: Timestamp) -> Delivery {
    let demands = &message.demands;
    let recipients = indexes
        .iter()
        .filter_map(|index| message.recipients.get(*index));
    Delivery {
        reverse_path: message.reverse_path.clone(),
        params: MailParams {
            size: Some(message.size()),
            body: match message.body {
                BodyType::SevenBit => SmtpBody::SevenBit,
                BodyType::EightBitMime => SmtpBody::EightBitMime,
                BodyType::BinaryMime => SmtpBody::BinaryMime,
            },
            smtputf8: message.smtputf8,
            auth: None,
            ret: message.ret.map(|ret| match ret {
                Ret::Full => Return::Full,
                Ret::Headers => Return::Headers,
            }),
            envid: message.envid.as_deref().and_then(Xtext::parse),
            require_tls: demands.require_tls,
            mt_priority: (demands.priority != 0).then_some(demands.priority),
            deliver_by: demands.deliver_by.map(|by| SmtpDeliverBy {
                seconds: seconds_left(by, now),
                mode: if by.notify {
                    ByMode::Notify
                } else {
                    ByMode::Return
                },
                trace: by.trace,
            }),
            hold: None,
        },
        recipients: recipients.map(recipient).collect(),
        content: Vec::new(),
    }
}

/// Whole seconds left until the message is to be delivered; negative once it is late.
pub(crate) fn seconds_left(by: DeliverBy, now: Timestamp) -> i64 {
    let millis = by.deadline.millis().saturating_sub(now.millis());
    millis
        .div_euclid(1_000)
        .clamp(-BY_SECONDS_MAX, BY_SECONDS_MAX)
}

fn recipient(recipient: &Recipient) -> SmtpRecipient {
    let notify = match recipient.notify {
        Notify::Unspecified => None,
        Notify::Never => Some(SmtpNotify::NEVER),
        Notify::On {
            success,
            failure,
            delay,
        } => Some(SmtpNotify {
            success,
            failure,
            delay,
        }),
    };
    SmtpRecipient {
        forward_path: ForwardPath::Address(recipient.address.clone()),
        params: RcptParams {
            notify,
            orcpt: recipient
                .orcpt
                .as_deref()
                .and_then(OriginalRecipient::parse),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_left_are_never_more_than_there_are() {
        let by = |millis| DeliverBy {
            deadline: Timestamp::from_millis(millis),
            notify: true,
            trace: false,
        };
        let now = Timestamp::from_millis(10_000);
        assert_eq!(seconds_left(by(11_999), now), 1);
        assert_eq!(seconds_left(by(10_000), now), 0);
        assert_eq!(seconds_left(by(9_999), now), -1);
        assert_eq!(seconds_left(by(i64::MAX), now), BY_SECONDS_MAX);
    }
}
