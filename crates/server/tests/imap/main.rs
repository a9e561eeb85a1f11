//! IMAP over loopback: the driver, the machine and the store together.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod acl;
mod append;
mod clients;
mod compress;
mod condstore;
mod corpus;
mod fetch;
mod flags;
mod harness;
mod interleavings;
mod items;
mod limits;
mod list;
mod logins;
mod mailboxes;
mod measure;
mod metadata;
mod multisearch;
mod namespaces;
mod notify;
mod qresync;
mod quota;
mod search;
mod sessions;
mod shared;
mod sort;
mod status;
mod thread;
mod uidonly;
mod urlauth;
mod utf8;
