//! AUTH to a smarthost (RFC 4954): PLAIN where offered, LOGIN otherwise.

use super::{Client, FailureKind, Login, Phase};
use crate::command::{Auth, Command};
use crate::reply::Reply;
use crate::sasl::{self, Mechanism};

/// What the next reply answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AuthStep {
    /// `AUTH LOGIN`.
    LoginStart,
    /// The identity.
    LoginIdentity,
    /// The response that holds the password.
    Password,
}

impl Client {
    /// Authenticates where a login is configured; then the session is ready.
    pub(super) fn authenticate(&mut self) {
        let config = self.config.clone();
        let Some(login) = &config.login else {
            return self.ready();
        };
        let offered = self.capabilities.mechanisms;
        let spoken = [Mechanism::Plain, Mechanism::Login];
        let mechanism = spoken.into_iter().find(|m| offered.contains(*m));
        match mechanism {
            Some(mechanism) if self.tls.is_some() || login.without_tls => {
                self.start_auth(mechanism, login);
            }
            _ => self.fail(FailureKind::AuthUnavailable, None),
        }
    }

    fn start_auth(&mut self, mechanism: Mechanism, login: &Login) {
        let (initial, step) = match mechanism {
            Mechanism::Plain => {
                let response = sasl::client::plain(&login.identity, &login.password);
                (Some(sasl::encode(&response).into()), AuthStep::Password)
            }
            _ => (None, AuthStep::LoginStart),
        };
        self.send(&Command::Auth(Auth {
            mechanism: mechanism.as_str().into(),
            initial,
        }));
        self.phase = Phase::Auth(step);
        self.wait(self.config.timeouts.hello);
    }

    pub(super) fn auth_reply(&mut self, step: AuthStep, reply: Reply) {
        let config = self.config.clone();
        let login = config.login.as_ref();
        let (response, next) = match (step, login) {
            (AuthStep::Password, _) if reply.is_success() => return self.ready(),
            (AuthStep::LoginStart, Some(login)) if reply.is_intermediate() => {
                (login.identity.as_str(), AuthStep::LoginIdentity)
            }
            (AuthStep::LoginIdentity, Some(login)) if reply.is_intermediate() => {
                (login.password.as_str(), AuthStep::Password)
            }
            _ => return self.fail(FailureKind::AuthRefused, Some(reply)),
        };
        self.send_line(&sasl::encode(response.as_bytes()));
        self.phase = Phase::Auth(next);
        self.wait(self.config.timeouts.hello);
    }
}
