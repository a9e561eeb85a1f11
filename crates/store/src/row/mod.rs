//! The rows of the store and their keys.

mod account;
mod mailbox;
mod message;
mod names;

pub use account::{AccountUsage, KeywordId, Keywords};
pub use mailbox::MailboxState;
pub use message::MessageRow;
pub use names::{MailboxEntry, SpecialUse};

pub(crate) use account::{keywords_key, next_mailbox_key, pop3_login_key, usage_key};
pub(crate) use mailbox::{doomed_key, doomed_prefix, mailbox_key};
pub(crate) use message::{
    change_key, change_range, decode_uids, encode_uids, expunge_key, expunge_range, message_key,
    message_range, parse_change_key, parse_expunge_key, parse_message_key,
};
pub(crate) use names::{
    name_key, names_prefix, parse_name_key, parse_subscription_key, subscription_key,
    subscriptions_prefix,
};

use bytes::Bytes;

/// The value of rows whose key says everything.
pub(crate) const PRESENT: Bytes = Bytes::from_static(&[1]);
