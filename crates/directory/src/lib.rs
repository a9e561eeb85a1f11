//! The directory: domains, accounts and aliases; who an address means, who may log in, and as whom mail is sent.
//!
//! Owns the rows of the `Directory` space and the account counter in `Meta`. Every change is an intent: the functions
//! in [`tx`] compose with other crates' in one intent, [`Directory`] submits them alone and reads. Passwords arrive
//! hashed and leave hashed; nothing here verifies one. Mailboxes and usage belong to the store.
//!
//! **Invariant:** an address means one account or one alias, a login name one account, and an account id is never
//! given twice.

mod cache;
mod check;
mod directory;
mod error;
mod list;
mod record;
mod reply;
mod resolve;
mod row;
mod sender;
mod sending;
mod services;
mod signing;
pub mod tx;
mod walk;
mod warning;

pub use check::DirectoryReport;
pub use directory::{Directory, DirectoryOptions};
pub use error::DirectoryError;
pub use list::Page;
pub use record::{
    AccountRecord, AliasRecord, DomainRecord, PasswordHash, Quota, ScramKeys, ScramSecrets,
    Subaddress, WhenDisabled,
};
pub use resolve::{Resolution, Target};
pub use sender::Sender;
pub use services::{AccountServices, AttachmentMode, OverQuota, Vacation};
pub use signing::{DkimKeyRecord, DkimKeyState};
pub use tx::{AccountChange, DomainChange, NewAccount, NewDomain};
