//! The rows of the store and their keys.

mod account;
mod attribute;
mod block;
mod log;
mod mailbox;
mod message;
mod names;

pub use account::{AccountUsage, KeywordId, Keywords};
pub use attribute::FolderSettings;
pub use mailbox::MailboxState;
pub use message::MessageRow;
pub use names::{MailboxEntry, SpecialUse};

pub(crate) use account::{keywords_key, next_mailbox_key, pop3_login_key, usage_key};
pub(crate) use attribute::{
    acl_key, grant_key, grants_prefix, metadata_key, metadata_prefix, metadata_scope,
    parse_grant_key, parse_settings_key, settings_key, settings_prefix, unique_id_key,
    unique_ids_prefix, url_key,
};
pub(crate) use block::{
    Block, Change, Fate, block_key, block_of, change_key, change_range, low, parse_block_key,
    parse_change_key,
};
pub(crate) use log::{
    Leave, LogEntry, expunge_key, expunge_range, parse_purge_key, purge_key, purge_range, ranges_of,
};
pub(crate) use mailbox::{digest, doomed_key, doomed_prefix, mailbox_key};
pub(crate) use message::{
    Base, blob_and_size, copy_of, has_keywords, message_key, message_range, parse_message_key,
};
pub(crate) use names::{
    name_key, names_prefix, parse_name_key, parse_subscription_key, subscription_key,
    subscriptions_prefix,
};

use bytes::Bytes;

/// The value of rows whose key says everything.
pub(crate) const PRESENT: Bytes = Bytes::from_static(&[1]);
