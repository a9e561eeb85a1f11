//! Why a question could not be answered, and the one place where that becomes a refusal (RFC 3501 §7.1, RFC 5530).

use std::io;

use nightmail_commit::CommitFailure;
use nightmail_imap::io::Farewell;
use nightmail_imap::{MailboxName, Refusal, RefusalKind};
use nightmail_store::{MailboxName as StoreName, NameError, StoreError};

/// Why a question has no answer.
pub(super) enum Failure {
    /// The command is refused.
    Refused(Refusal),
    /// The store refused or failed; a mailbox that is missing is refused in this way.
    Store(StoreError, RefusalKind),
    /// The selected mailbox or the account is no more: the session ends.
    Gone(Farewell),
    /// The connection failed, or cannot go on.
    Connection(io::Error),
}

/// Of a command on a mailbox by its name.
impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchAccount => Self::Gone(Farewell::Operator),
            error => Self::Store(error, RefusalKind::NoSuchMailbox),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Connection(error)
    }
}

impl Failure {
    /// Of a command whose target mailbox CREATE could make.
    pub(super) fn of_target(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchMailbox => Self::Store(error, RefusalKind::TryCreate),
            error => error.into(),
        }
    }

    /// Of a command on the selected mailbox.
    pub(super) fn of_selected(error: StoreError) -> Self {
        match error {
            StoreError::NoSuchMailbox => Self::Gone(Farewell::MailboxGone),
            error => error.into(),
        }
    }

    /// The machine asked what its state does not allow.
    pub(super) fn out_of_order() -> Self {
        Self::Refused(Refusal::new(RefusalKind::ServerBug, "Asked out of order"))
    }
}

/// The refusal for what the store says. Local trouble is `UNAVAILABLE`: the client may try again.
pub(super) fn refusal(error: &StoreError, missing: RefusalKind) -> Refusal {
    let (kind, text) = match error {
        StoreError::NoSuchMailbox => (missing, "No such mailbox"),
        StoreError::NoSuchAccount => (RefusalKind::AuthorizationFailed, "The account is gone"),
        StoreError::AlreadyExists => (RefusalKind::AlreadyExists, "A mailbox of that name exists"),
        StoreError::CannotDelete => (RefusalKind::Cannot, "This mailbox cannot be deleted"),
        StoreError::CannotRename => (RefusalKind::Cannot, "This mailbox cannot be renamed so"),
        StoreError::OverQuota => (RefusalKind::OverQuota, "The account is over its quota"),
        StoreError::Limit(_) => (RefusalKind::Limit, "The account has as many as it may have"),
        StoreError::UidsExhausted => (RefusalKind::Limit, "The mailbox has used its last UID"),
        StoreError::Failed(CommitFailure::Full(_)) => {
            (RefusalKind::Unavailable, "The server has no space left")
        }
        StoreError::Damaged(_) | StoreError::Link(_) | StoreError::Failed(_) => {
            (RefusalKind::Unavailable, "The server cannot do this now")
        }
    };
    Refusal::new(kind, text)
}

/// The name of a mailbox that may exist; what cannot be a name names none.
pub(super) fn store_name(name: &MailboxName) -> Result<StoreName, StoreError> {
    StoreName::parse(name.as_str()).map_err(|_| StoreError::NoSuchMailbox)
}

/// The name of a mailbox to be made.
pub(super) fn new_name(name: &MailboxName) -> Result<StoreName, Failure> {
    StoreName::parse(name.as_str()).map_err(|error| {
        Failure::Refused(Refusal::new(
            RefusalKind::Cannot,
            match error {
                NameError::Empty => "The name has an empty level",
                NameError::Character => "The name holds a character that is not allowed",
                NameError::TooLong => "The name is too long",
            },
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(error: StoreError) -> RefusalKind {
        refusal(&error, RefusalKind::TryCreate).kind()
    }

    #[test]
    fn a_missing_target_may_be_created_and_a_missing_source_is_just_missing() {
        assert_eq!(kind(StoreError::NoSuchMailbox), RefusalKind::TryCreate);
        let named = Failure::from(StoreError::NoSuchMailbox);
        assert!(matches!(
            named,
            Failure::Store(_, RefusalKind::NoSuchMailbox)
        ));
        let selected = Failure::of_selected(StoreError::NoSuchMailbox);
        assert!(matches!(selected, Failure::Gone(Farewell::MailboxGone)));
    }

    #[test]
    fn local_trouble_asks_to_try_again() {
        let full = CommitFailure::Full("disk".into());
        assert_eq!(kind(StoreError::Failed(full)), RefusalKind::Unavailable);
        let away = CommitFailure::Unavailable("engine".into());
        assert_eq!(kind(StoreError::Failed(away)), RefusalKind::Unavailable);
        assert_eq!(kind(StoreError::OverQuota), RefusalKind::OverQuota);
    }
}
