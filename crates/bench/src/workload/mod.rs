//! The loads, one module for each protocol, and the sources and sinks that a relay stands between.

pub mod hole;
mod idle;
pub mod imap;
mod imap_client;
pub mod mailbox;
pub mod pop3;
pub mod relay;
pub mod sink;
mod slow;
pub mod smtp;
mod smtp_client;
pub mod source;

pub(crate) use imap_client::ImapClient;
