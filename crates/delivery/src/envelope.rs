//! The queue's envelope in the words of an SMTP session.

use nightmail_core::ForwardPath;
use nightmail_queue::{BodyType, Notify, QueueMessage, Recipient, Ret};
use nightmail_smtp::client::{Delivery, Recipient as SmtpRecipient};
use nightmail_smtp::command::{
    BodyType as SmtpBody, MailParams, Notify as SmtpNotify, OriginalRecipient, RcptParams, Return,
    Xtext,
};

/// The delivery of `message` to the recipients at `indexes`.
pub(crate) fn delivery(message: &QueueMessage, indexes: &[usize]) -> Delivery {
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
            ..MailParams::default()
        },
        recipients: recipients.map(recipient).collect(),
    }
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
