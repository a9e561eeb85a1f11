//! What the admin API answers when it does not do as asked.

use nightmail_cluster::ClusterError;
use nightmail_commit::{Abort, CommitFailure, SubmitError};
use nightmail_core::AddressError;
use nightmail_directory::DirectoryError;
use nightmail_queue::QueueError;
use nightmail_store::{NameError, StoreError};
use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whose fault an error is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ErrorKind {
    /// The request cannot be understood, or names a domain that this server does not have.
    Usage,
    /// The request is clear, and what it asks for is not possible as things are.
    Refused,
    /// The server could not carry it out now.
    Failed,
}

/// Why a request was not carried out. The message says how to mend what the operator can mend.
#[derive(Clone, PartialEq, Eq, Debug, Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct AdminError {
    /// Whose fault it is.
    pub kind: ErrorKind,
    /// What is wrong.
    pub message: String,
}

impl AdminError {
    /// The operator's request cannot be understood.
    pub fn usage(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Usage,
            message: message.into(),
        }
    }

    /// The request cannot be met as things are.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Refused,
            message: message.into(),
        }
    }

    /// The server failed.
    pub fn failed(message: impl Into<String>) -> Self {
        Self {
            kind: ErrorKind::Failed,
            message: message.into(),
        }
    }

    /// An address that does not parse.
    pub(crate) fn address(text: &str, error: AddressError) -> Self {
        Self::usage(format!("{text:?}: {error}; write it as user@domain"))
    }
}

impl From<DirectoryError> for AdminError {
    fn from(error: DirectoryError) -> Self {
        let kind = match &error {
            DirectoryError::NoSuchDomain(_)
            | DirectoryError::LiteralDomain(_)
            | DirectoryError::InvalidLogin(_) => ErrorKind::Usage,
            error if error.is_temporary() => ErrorKind::Failed,
            _ => ErrorKind::Refused,
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

impl From<StoreError> for AdminError {
    fn from(error: StoreError) -> Self {
        let kind = if error.is_temporary() {
            ErrorKind::Failed
        } else {
            ErrorKind::Refused
        };
        Self {
            kind,
            message: error.to_string(),
        }
    }
}

impl From<QueueError> for AdminError {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Damaged(_) | QueueError::Link(_) | QueueError::Failed(_) => {
                Self::failed(error.to_string())
            }
            _ => Self::refused(error.to_string()),
        }
    }
}

impl From<ClusterError> for AdminError {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::NoSuchNode(_) | ClusterError::Live(_) => Self::refused(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

impl From<NameError> for AdminError {
    fn from(error: NameError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<CommitFailure> for AdminError {
    fn from(error: CommitFailure) -> Self {
        Self::failed(error.to_string())
    }
}

impl From<SubmitError<AdminError>> for AdminError {
    fn from(error: SubmitError<AdminError>) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Store(failure) => failure.into(),
        }
    }
}

/// Lets changes of several crates join in one intent.
pub(crate) fn join<T, E: Into<AdminError>>(
    result: Result<T, Abort<E>>,
) -> Result<T, Abort<AdminError>> {
    result.map_err(|abort| match abort {
        Abort::Need(need) => Abort::Need(need),
        Abort::Refused(error) => Abort::Refused(error.into()),
    })
}
