//! What the directory refuses, and why it could not answer.

use nightmail_commit::{Abort, CommitFailure, SubmitError};
use nightmail_core::codec::RowError;
use nightmail_core::{Address, Domain};
use nightmail_engine::EngineError;
use thiserror::Error;

/// Why a change or a question was not carried out. The text says how to mend what the caller can mend.
#[derive(Debug, Error, Clone)]
pub enum DirectoryError {
    /// The domain is not in the directory.
    #[error("{0} is not a domain of this server; add it first: `domain add {0}`")]
    NoSuchDomain(Domain),
    /// The name is a domain already.
    #[error("{0} is a domain of this server already")]
    DomainExists(Domain),
    /// The name is an alternate name of another domain.
    #[error(
        "{alternate} is an alternate name of {of}; use {of}, or remove the alternate name first"
    )]
    IsAlternate {
        /// The alternate name.
        alternate: Domain,
        /// The domain it stands for.
        of: Domain,
    },
    /// The domain has no such alternate name.
    #[error("{alternate} is not an alternate name of {domain}")]
    NoSuchAlternate {
        /// The domain.
        domain: Domain,
        /// The name that is not one of its alternates.
        alternate: Domain,
    },
    /// An address literal cannot be a domain of the directory.
    #[error("{0} is an address literal, not a domain name")]
    LiteralDomain(Domain),
    /// The domain still has accounts or aliases.
    #[error(
        "{domain} still has {accounts} account(s) and {aliases} alias(es); remove or rename them first"
    )]
    DomainInUse {
        /// The domain.
        domain: Domain,
        /// Accounts in it.
        accounts: u64,
        /// Aliases in it.
        aliases: u64,
    },
    /// No account has that id, address or login name.
    #[error("there is no account {0}")]
    NoSuchAccount(String),
    /// No alias has that address.
    #[error("there is no alias {0}")]
    NoSuchAlias(Address),
    /// The address is taken.
    #[error("{address} is taken by an {by}; choose another address or remove that {by} first")]
    AddressTaken {
        /// The address.
        address: Address,
        /// `account` or `alias`.
        by: &'static str,
    },
    /// The login name is taken.
    #[error("the login name {0} belongs to another account")]
    LoginTaken(String),
    /// The account has no such additional login name.
    #[error("the account has no additional login name {0}")]
    NoSuchLogin(String),
    /// The text cannot be a login name.
    #[error("{0:?} cannot be a login name: 1 to 255 bytes, no spaces and no control characters")]
    InvalidLogin(String),
    /// The text cannot be a selector.
    #[error("{0:?} cannot be a DKIM selector: letters, digits and hyphens, such as s2026")]
    InvalidSelector(String),
    /// The domain has such a key already.
    #[error("{domain} has a DKIM key with the selector {selector} already; choose another")]
    DkimKeyExists {
        /// The domain.
        domain: Domain,
        /// The selector.
        selector: String,
    },
    /// The domain has no such key.
    #[error("{domain} has no DKIM key with the selector {selector}; see `dkim list {domain}`")]
    NoSuchDkimKey {
        /// The domain.
        domain: Domain,
        /// The selector.
        selector: String,
    },
    /// The account was not given such a sender.
    #[error("the account was not given {0} to send as")]
    NoSuchSender(String),
    /// An alias must lead somewhere.
    #[error("{0} would have no target; name at least one, or remove it")]
    NoTarget(Address),
    /// A list is longer than it may be.
    #[error("at most {max} {what} are allowed")]
    TooMany {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        max: usize,
    },
    /// A row does not read as what its space holds.
    #[error("the directory holds a damaged row: {0}")]
    Damaged(#[from] RowError),
    /// The engine failed.
    #[error(transparent)]
    Failed(#[from] CommitFailure),
}

impl DirectoryError {
    /// Whether this is local trouble that may pass: the peer is to try again.
    pub const fn is_temporary(&self) -> bool {
        matches!(self, Self::Damaged(_) | Self::Failed(_))
    }
}

impl From<EngineError> for DirectoryError {
    fn from(error: EngineError) -> Self {
        Self::Failed(error.into())
    }
}

impl From<SubmitError<DirectoryError>> for DirectoryError {
    fn from(error: SubmitError<DirectoryError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => Self::Failed(failure),
        }
    }
}

impl From<DirectoryError> for Abort<DirectoryError> {
    fn from(error: DirectoryError) -> Self {
        Self::Refused(error)
    }
}
