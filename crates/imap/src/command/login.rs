//! LOGIN (RFC 3501 §6.2.3), and how every login ends.

use bytes::BufMut;

use super::Command;
use crate::io::{Answer, Ask, Credentials, Secret};
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
    check(
        session,
        Credentials {
            mechanism: "LOGIN",
            authorization: None,
            user: login.user,
            password: login.password,
        },
    );
}

/// Asks whether credentials are good. An empty user or password never is, and NUL is in none.
pub(super) fn check(session: &mut Session, credentials: Credentials) {
    let password = credentials.password.expose();
    let impossible = credentials.user.is_empty() || password.is_empty();
    if impossible || credentials.user.contains('\0') || password.contains(&0) {
        let refusal = Refusal::new(RefusalKind::AuthenticationFailed, "Invalid credentials");
        return session.refuse_login(&refusal);
    }
    session.ask(Ask::Login(credentials), LoggingIn);
}

struct LoggingIn;

impl Step for LoggingIn {
    fn answer(self: Box<Self>, session: &mut Session, answer: Answer) {
        match answer {
            Answer::LoggedIn => {
                session.enter();
                session.write_tag();
                session.text().put_slice(b"OK [CAPABILITY ");
                session.write_capabilities();
                session.text().put_slice(b"] Logged in\r\n");
                session.finish();
            }
            Answer::Refused(refusal) => session.refuse_login(&refusal),
            other => session.refuse_unexpected(other),
        }
    }
}
