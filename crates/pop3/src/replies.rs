//! Every reply of the server; nothing else writes status lines. Response codes are of RFC 2449 and RFC 3206.

use std::fmt::Write as _;

use bytes::Bytes;

use crate::io::LoginRefusal;

/// A negative reply.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Refusal {
    UnknownCommand,
    WrongState,
    Syntax,
    LineTooLong,
    NeedsTls,
    NoTls,
    TlsActive,
    UserFirst,
    NoMechanism,
    AuthCancelled,
    AuthMalformed,
    Login(LoginRefusal),
    NoLanguage,
    NoSuchMessage,
    AlreadyDeleted,
    MessageUnavailable,
    UpdateFailed,
    TooManyErrors,
}

impl Refusal {
    const fn text(self) -> &'static str {
        match self {
            Self::UnknownCommand => "unknown command",
            Self::WrongState => "not in this state",
            Self::Syntax => "bad arguments",
            Self::LineTooLong => "line too long",
            Self::NeedsTls => "[AUTH] TLS is needed first",
            Self::NoTls => "TLS is not offered",
            Self::TlsActive => "TLS is active already",
            Self::UserFirst => "USER first",
            Self::NoMechanism => "mechanism is not offered",
            Self::AuthCancelled => "authentication cancelled",
            Self::AuthMalformed => "malformed authentication response",
            Self::Login(LoginRefusal::Failed) => "[AUTH] authentication failed",
            Self::Login(LoginRefusal::InUse) => "[IN-USE] maildrop is open in another session",
            Self::Login(LoginRefusal::TooSoon) => "[LOGIN-DELAY] too soon after the last login",
            Self::Login(LoginRefusal::TempFail) => "[SYS/TEMP] login is not possible right now",
            Self::Login(LoginRefusal::Disabled) => "[SYS/PERM] the account is disabled",
            Self::NoLanguage => "no such language",
            Self::NoSuchMessage => "no such message",
            Self::AlreadyDeleted => "message is already deleted",
            Self::MessageUnavailable => "[SYS/TEMP] message is not available right now",
            Self::UpdateFailed => "[SYS/TEMP] some deleted messages not removed",
            Self::TooManyErrors => "too many errors",
        }
    }

    pub(crate) fn reply(self) -> Bytes {
        format!("-ERR {}\r\n", self.text()).into()
    }
}

/// A positive reply with its text.
pub(crate) fn ok(text: &str) -> Bytes {
    format!("+OK {text}\r\n").into()
}

/// A challenge of an AUTH exchange (RFC 5034 §4).
pub(crate) fn challenge(base64: &str) -> Bytes {
    format!("+ {base64}\r\n").into()
}

/// A positive reply and the lines that follow it, with the terminator.
pub(crate) fn multi_line(text: &str, lines: impl IntoIterator<Item = String>) -> Bytes {
    let mut out = format!("+OK {text}\r\n");
    for line in lines {
        let _ = write!(out, "{line}\r\n");
    }
    out.push_str(".\r\n");
    out.into()
}

/// What a maildrop holds.
pub(crate) fn maildrop(messages: usize, octets: u64) -> Bytes {
    ok(&format!("{messages} messages ({octets} octets)"))
}
