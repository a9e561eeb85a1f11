//! What the directory knows of a domain, an account and an alias.

use std::fmt;

use nightmail_core::{AccountId, Address, Domain, Timestamp};

use crate::services::AccountServices;

/// Bounds of an account's mail; `None` is no bound.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Quota {
    /// Bytes of messages.
    pub bytes: Option<u64>,
    /// Number of messages.
    pub messages: Option<u64>,
    /// Number of mailboxes.
    pub mailboxes: Option<u64>,
}

impl Quota {
    /// No bound at all.
    pub const UNLIMITED: Self = Self {
        bytes: None,
        messages: None,
        mailboxes: None,
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

/// A password as a PHC string (`$argon2id$…`), and what SCRAM needs of it. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct PasswordHash {
    phc: Box<str>,
    scram: Option<Box<ScramSecrets>>,
}

impl PasswordHash {
    /// Wraps a PHC string that the caller has made.
    pub fn new(phc: impl Into<Box<str>>) -> Self {
        Self {
            phc: phc.into(),
            scram: None,
        }
    }

    /// Adds the secrets of the same password.
    #[must_use]
    pub fn with_scram(mut self, secrets: ScramSecrets) -> Self {
        self.scram = Some(Box::new(secrets));
        self
    }

    /// The PHC string, to verify a password against.
    pub fn as_str(&self) -> &str {
        &self.phc
    }

    /// The secrets for SCRAM; none where the password was set before they were kept.
    pub fn scram(&self) -> Option<&ScramSecrets> {
        self.scram.as_deref()
    }
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash(…)")
    }
}

/// What SCRAM needs of a password, for each of its hashes. Never printed by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramSecrets {
    /// For SHA-1 (RFC 5802).
    pub sha1: ScramKeys,
    /// For SHA-256 (RFC 7677).
    pub sha256: ScramKeys,
}

impl fmt::Debug for ScramSecrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramSecrets(…)")
    }
}

/// What SCRAM needs of a password for one hash (RFC 5802 §3).
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    /// The salt.
    pub salt: Vec<u8>,
    /// How often the hash is iterated.
    pub iterations: u32,
    /// `StoredKey`.
    pub stored_key: Vec<u8>,
    /// `ServerKey`.
    pub server_key: Vec<u8>,
}

impl fmt::Debug for ScramKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScramKeys(…)")
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
    /// Its mailboxes are shown to everybody of its domain, as far as their access lists allow.
    pub public: bool,
    /// What is done with its mail beyond keeping it.
    pub services: AccountServices,
}

/// An address that stands for others.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AliasRecord {
    /// The address, as given.
    pub address: Address,
    /// Where its mail goes: local and remote addresses.
    pub targets: Vec<Address>,
}
