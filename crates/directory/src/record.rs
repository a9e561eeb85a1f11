//! What the directory knows of a domain, an account and an alias.

use std::fmt;

use nightmail_core::{AccountId, Address, Domain, Timestamp};

/// Bounds of an account's mail; `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Quota {
    /// Bytes of messages.
    pub bytes: Option<u64>,
    /// Number of messages.
    pub messages: Option<u64>,
}

impl Quota {
    /// No bound at all.
    pub const UNLIMITED: Self = Self {
        bytes: None,
        messages: None,
    };
}

/// How `user+tag@domain` is read (RFC 5233).
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum Subaddress {
    /// As the server is configured.
    #[default]
    Default,
    /// The whole local-part is the user.
    Off,
    /// What follows the first such character is the detail.
    Separator(char),
}

/// A domain whose addresses this server knows.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DomainRecord {
    /// Its name.
    pub name: Domain,
    /// Other names whose every address means the same local-part here.
    pub alternates: Vec<Domain>,
    /// Mail is deferred and login refused while this is false.
    pub enabled: bool,
    /// Where mail for unknown local-parts goes; empty: it is refused.
    pub catch_all: Vec<Address>,
    /// How its subaddresses are read.
    pub subaddress: Subaddress,
    /// Given to new accounts that bring no quota of their own.
    pub default_quota: Quota,
    /// When it was added.
    pub created: Timestamp,
    /// Accounts in it.
    pub accounts: u64,
    /// Aliases in it.
    pub aliases: u64,
}

/// A password as a PHC string (`$argon2id$…`). Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash(Box<str>);

impl PasswordHash {
    /// Wraps a PHC string that the caller has made.
    pub fn new(phc: impl Into<Box<str>>) -> Self {
        Self(phc.into())
    }

    /// The PHC string, to verify a password against.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What happens to mail for a disabled account.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub enum WhenDisabled {
    /// The sender is told that there is no such mailbox now: a 5xx.
    #[default]
    Reject,
    /// The sender is asked to try again: a 4xx.
    Defer,
}

/// One user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccountRecord {
    /// Never given twice.
    pub id: AccountId,
    /// The primary address; also a login name.
    pub address: Address,
    /// Additional login names, in the form by which they are found: lower-case.
    pub logins: Vec<String>,
    /// Without one nobody can log in.
    pub password: Option<PasswordHash>,
    /// Login is refused while this is false.
    pub enabled: bool,
    /// What happens to mail while `enabled` is false.
    pub when_disabled: WhenDisabled,
    /// Bounds of its mail.
    pub quota: Quota,
    /// The person's name, for people to read.
    pub full_name: String,
    /// When it was added.
    pub created: Timestamp,
    /// May operate the server; the first of them is the postmaster of last resort.
    pub admin: bool,
}

/// An address that stands for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasRecord {
    /// The address, as given.
    pub address: Address,
    /// Where its mail goes: local and remote addresses.
    pub targets: Vec<Address>,
}
