//! LOGIN and AUTHENTICATE (RFC 3501 §6.2.2, §6.2.3).

use nightmail_core::{AccountId, Address};
use nightmail_imap::io::Credentials;
use nightmail_imap::{Answer, Refusal, RefusalKind};
use nightmail_store::Quota;
use tracing::{info, warn};

use super::ImapSession;
use super::failure::Failure;
use crate::config::Protocol;
use crate::net::Transport;
use crate::services::Login;

/// Who has logged in.
pub(super) struct User {
    pub(super) account: AccountId,
    pub(super) address: Address,
}

impl ImapSession {
    pub(super) async fn login(
        &mut self,
        credentials: Credentials,
        transport: &Transport,
    ) -> Result<Answer, Failure> {
        let (session, peer) = (self.id, transport.peer());
        let name = credentials.user.as_str();
        let mechanism = credentials.mechanism;
        let services = &self.service.services;
        let login = match std::str::from_utf8(credentials.password.expose()) {
            Ok(password) => {
                let acting_as = credentials.authorization.as_deref();
                services
                    .login(Protocol::Imap.as_str(), name, password, acting_as)
                    .await
            }
            Err(_) => Ok(Login::Refused),
        };
        match login {
            Ok(Login::Accepted(user)) => {
                info!(%session, %peer, user = %user.address, mechanism, tls = transport.is_tls(), "logged in");
                self.user = Some(Box::new(User {
                    account: user.account,
                    address: user.address,
                }));
                Ok(Answer::LoggedIn)
            }
            Ok(Login::Refused | Login::Disabled) => {
                info!(%session, %peer, name, mechanism, "login refused");
                Err(Failure::Refused(Refusal::new(
                    RefusalKind::AuthenticationFailed,
                    "User or password is wrong",
                )))
            }
            Err(error) => {
                warn!(%session, %error, "a login could not be checked");
                Err(Failure::Refused(Refusal::new(
                    RefusalKind::Unavailable,
                    "The login cannot be checked now",
                )))
            }
        }
    }

    pub(super) fn user(&self) -> Result<&User, Failure> {
        self.user.as_deref().ok_or_else(Failure::out_of_order)
    }

    pub(super) fn account(&self) -> Result<AccountId, Failure> {
        self.user().map(|user| user.account)
    }

    /// The quota as it is now; it may have been changed since the login.
    pub(super) async fn quota(&self) -> Result<Quota, Failure> {
        let account = self.account()?;
        match self.service.services.directory.account(account).await {
            Ok(Some(record)) => Ok(Quota {
                bytes: record.quota.bytes,
                messages: record.quota.messages,
            }),
            Ok(None) => Err(Failure::Gone(nightmail_imap::io::Farewell::Operator)),
            Err(error) => {
                warn!(session = %self.id, %error, "a quota could not be read");
                Err(Failure::Refused(Refusal::new(
                    RefusalKind::Unavailable,
                    "The quota cannot be read now",
                )))
            }
        }
    }
}
