//! IMAP over loopback: the driver, the machine and the store together.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod acl;
mod append;
mod corpus;
mod fetch;
mod flags;
mod harness;
mod logins;
mod mailboxes;
mod metadata;
mod quota;
mod search;
mod sessions;
mod shared;
