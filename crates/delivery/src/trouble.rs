//! Why a session ended, or a host was passed over, without deciding about everybody.

use nightmail_smtp::client::{Failure, FailureKind};

use crate::route::Target;

/// The message needs a host that keeps it under TLS (RFC 8689 §4.2.1).
pub(crate) const TLS_REQUIRED: &str = "5.7.30";

/// TLS is not as it has to be (RFC 3463 §3.8: a cryptographic failure).
pub(crate) const TLS_NOT_RIGHT: &str = "4.7.5";

/// Why a session ended without deciding everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    /// Whether the host said that it will never take this.
    pub permanent: bool,
    /// The enhanced status code.
    pub status: String,
    /// The host's reply, on one line.
    pub reply: Option<String>,
    /// What to tell a person.
    pub text: String,
    /// Whether it is only that TLS is not as it has to be: mail that may go without is not held up.
    pub about_tls: bool,
}

impl Trouble {
    pub fn permanent(status: &str, text: impl Into<String>) -> Self {
        Self {
            permanent: true,
            ..Self::temporary(status, text)
        }
    }

    pub fn temporary(status: &str, text: impl Into<String>) -> Self {
        Self {
            permanent: false,
            status: status.into(),
            reply: None,
            text: text.into(),
            about_tls: false,
        }
    }

    /// TLS is not as the recipient's site promises.
    pub fn of_tls(text: impl Into<String>) -> Self {
        Self {
            about_tls: true,
            ..Self::temporary(TLS_NOT_RIGHT, text)
        }
    }

    /// What a failed session with `target` means.
    pub fn of(failure: &Failure, target: &Target, tls_error: Option<&str>) -> Self {
        let (status, text) = match failure.kind {
            FailureKind::Greeting => ("4.3.2", "greeted with a refusal".to_owned()),
            FailureKind::Hello => ("4.5.0", "refused EHLO".to_owned()),
            FailureKind::TlsUnavailable => {
                ("4.7.4", "TLS is required and was not to be had".to_owned())
            }
            FailureKind::TlsFailed => (
                TLS_NOT_RIGHT,
                format!("TLS failed: {}", tls_error.unwrap_or("no reason given")),
            ),
            FailureKind::AuthUnavailable => ("4.7.4", "no way to authenticate".to_owned()),
            FailureKind::AuthRefused => ("4.7.8", "authentication refused".to_owned()),
            FailureKind::TimedOut => ("4.4.2", "did not answer in time".to_owned()),
            FailureKind::ClosedByPeer => ("4.4.2", "closed the connection".to_owned()),
            FailureKind::Malformed(error) => ("4.5.0", error.to_string()),
            FailureKind::Unexpected => ("4.5.0", "gave a reply out of turn".to_owned()),
            FailureKind::BodyFailed => ("4.3.0", "the message could not be read".to_owned()),
        };
        let refuses_all = matches!(failure.kind, FailureKind::Greeting | FailureKind::Hello);
        let reply = failure.reply.as_ref();
        let permanent = refuses_all && reply.is_some_and(|reply| reply.is_permanent());
        let class = if permanent { 5 } else { 4 };
        let said = reply
            .and_then(|reply| reply.enhanced())
            .filter(|enhanced| enhanced.class() == class);
        let status = match said {
            Some(enhanced) => enhanced.to_string(),
            None if permanent => "5.3.2".into(),
            None => status.into(),
        };
        Self {
            permanent,
            status,
            reply: reply.map(ToString::to_string),
            text: format!("{}[{}]: {text}", target.host, target.address.ip()),
            about_tls: matches!(
                failure.kind,
                FailureKind::TlsUnavailable | FailureKind::TlsFailed
            ),
        }
    }

    /// The same for a message that needs TLS: it is not kept until a host has it (RFC 8689 §4.2.1).
    pub fn for_tls_only(self) -> Self {
        Self {
            permanent: true,
            status: TLS_REQUIRED.into(),
            ..self
        }
    }
}
