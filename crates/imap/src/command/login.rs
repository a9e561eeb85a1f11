//! LOGIN (RFC 3501 §6.2.3), and how every login ends.

use bytes::BufMut;
use nightmail_sasl::{self as sasl, Failure, Password, Question};

use super::Command;
use crate::io::{Answer, Ask, Secret};
use crate::parse::{Parser, Result};
use crate::refusal::{Refusal, RefusalKind};
use crate::session::{Session, Step};

/// The arguments of LOGIN.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The password.
    pub password: Secret,
}

pub(super) fn parse(parser: &mut Parser<'_>) -> Result<Command> {
    parser.space()?;
    let user = parser.utf8_astring()?;
    parser.space()?;
    let password = Secret::new(parser.astring()?.into_owned());
    parser.end()?;
    Ok(Command::Login(Login { user, password }))
}

pub(crate) fn run(session: &mut Session, login: Login) {
    let Some(question) = question(&login) else {
        return fail(session, Failure::Refused);
    };
    session.ask(Ask::Authenticate(question), LoggingIn);
}

/// An empty user or password never is right, and NUL is in none.
fn question(login: &Login) -> Option<Question> {
    let password = std::str::from_utf8(login.password.expose()).ok()?;
    let impossible = |field: &str| field.is_empty() || field.contains('\0');
    if impossible(&login.user) || impossible(password) {
        return None;
    }
    Some(Question::Password {
        identity: login.user.as_str().into(),
        password: Password::new(password),
        authorization: None,
    })
}

struct LoggingIn;

impl Step for LoggingIn {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::Authentication(sasl::Answer::Accepted { .. }) => welcome(session),
            Answer::Authentication(sasl::Answer::Refused) => fail(session, Failure::Refused),
            Answer::Authentication(sasl::Answer::Disabled) => fail(session, Failure::Disabled),
            Answer::Authentication(_) => fail(session, Failure::Unavailable),
            Answer::Refused(refusal) => session.refuse_login(&refusal),
            other => session.refuse_unexpected(other),
        }
    }
}

/// The client is logged in.
pub(super) fn welcome(session: &mut Session) {
    session.enter();
    session.write_tag();
    session.text().put_slice(b"OK [CAPABILITY ");
    session.write_capabilities();
    session.text().put_slice(b"] Logged in\r\n");
    session.finish();
}

/// The client is not logged in, although it said what it should.
pub(super) fn fail(session: &mut Session, failure: Failure) {
    let (kind, text) = match failure {
        Failure::Unavailable => (RefusalKind::Unavailable, "The login cannot be checked now"),
        Failure::Disabled => (RefusalKind::AuthenticationFailed, "The account is disabled"),
        Failure::Refused | Failure::Invalid => {
            (RefusalKind::AuthenticationFailed, "Invalid credentials")
        }
    };
    session.refuse_login(&Refusal::new(kind, text));
}
