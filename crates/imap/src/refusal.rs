//! Refusals and the one place where they become responses (RFC 3501 §7.1, RFC 5530).

use std::borrow::Cow;

/// Why a command is refused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusalKind {
    /// There is no such mailbox.
    NoSuchMailbox,
    /// There is no such mailbox, and CREATE could make it: the target of APPEND, COPY and MOVE.
    TryCreate,
    /// The name is taken.
    AlreadyExists,
    /// The account's quota is used up.
    OverQuota,
    /// The mailbox is open for reading only.
    ReadOnly,
    /// The account may not do this.
    NoPermission,
    /// This can never be done.
    Cannot,
    /// A mailbox with mailboxes below it.
    HasChildren,
    /// Some part of the server does not answer; trying again may help.
    Unavailable,
    /// Another session stands in the way for now.
    InUse,
    /// A bound other than quota was reached.
    Limit,
    /// There would be too many annotations (RFC 5464 §4.3).
    TooManyAnnotations,
    /// The message is larger than is accepted.
    TooBig,
    /// A URL names nothing, or nothing that may be read (RFC 4469).
    BadUrl,
    /// User or password is wrong.
    AuthenticationFailed,
    /// The password is right, and the user may not act as asked.
    AuthorizationFailed,
    /// The credentials are no longer valid.
    Expired,
    /// A password needs a private connection.
    PrivacyRequired,
    /// A part is encoded in a way that is not known (RFC 3516).
    UnknownCte,
    /// A special use that a mailbox cannot be given.
    SpecialUse,
    /// More mailboxes than one session may watch.
    NotificationOverflow,
    /// A bug of this program.
    ServerBug,
}

impl RefusalKind {
    /// The response code.
    const fn code(self) -> &'static str {
        match self {
            Self::NoSuchMailbox => "NONEXISTENT",
            Self::TryCreate => "TRYCREATE",
            Self::AlreadyExists => "ALREADYEXISTS",
            Self::OverQuota => "OVERQUOTA",
            Self::ReadOnly => "READ-ONLY",
            Self::NoPermission => "NOPERM",
            Self::Cannot => "CANNOT",
            Self::HasChildren => "HASCHILDREN",
            Self::Unavailable => "UNAVAILABLE",
            Self::InUse => "INUSE",
            Self::Limit => "LIMIT",
            Self::TooManyAnnotations => "METADATA TOOMANY",
            Self::TooBig => "TOOBIG",
            // Never written as it is: the URL belongs to the code.
            Self::BadUrl => "CANNOT",
            Self::AuthenticationFailed => "AUTHENTICATIONFAILED",
            Self::AuthorizationFailed => "AUTHORIZATIONFAILED",
            Self::Expired => "EXPIRED",
            Self::PrivacyRequired => "PRIVACYREQUIRED",
            Self::UnknownCte => "UNKNOWN-CTE",
            Self::SpecialUse => "USEATTR",
            Self::NotificationOverflow => "NOTIFICATIONOVERFLOW",
            Self::ServerBug => "SERVERBUG",
        }
    }
}

/// A refusal: its kind and a sentence for people.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    kind: RefusalKind,
    text: Cow<'static, str>,
}

impl Refusal {
    /// The text should be printable ASCII; what is not is written as `?`.
    pub fn new(kind: RefusalKind, text: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            text: text.into(),
        }
    }

    /// The kind.
    pub const fn kind(&self) -> RefusalKind {
        self.kind
    }

    /// The sentence.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Everything of the response after the tag, without its line end: `NO [CODE] text`.
    pub(crate) fn response(&self) -> String {
        let printable = |c: char| if matches!(c, ' '..='~') { c } else { '?' };
        let text: String = self.text.chars().map(printable).collect();
        format!("NO [{}] {text}", self.kind.code())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_never_breaks_its_line() {
        let refusal = Refusal::new(RefusalKind::TryCreate, "no\r\n* BYE é");
        assert_eq!(refusal.response(), "NO [TRYCREATE] no??* BYE ?");
    }
}
