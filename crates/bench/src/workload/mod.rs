//! The loads, one module for each protocol, and the sink that load can be relayed to.

pub mod imap;
mod imap_client;
pub mod pop3;
pub mod sink;
mod slow;
pub mod smtp;
mod smtp_client;

pub(crate) use imap_client::ImapClient;
