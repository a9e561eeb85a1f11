//! What the drivers of all protocols share: the layers below, logins, limits.

use std::io;
use std::sync::Arc;

use nightmail_cluster::Cluster;
use nightmail_core::{AccountId, Address, Domain};
use nightmail_directory::{AccountRecord, Directory, DirectoryError};
use nightmail_store::{Quota, Store};
use nightmail_switch::Switch;

use crate::auth::{AuthError, Verifier};
use crate::config::{Config, Protocol};
use crate::drivers::pop3::MaildropLocks;
use crate::metrics;
use crate::net::Transport;
use crate::tls::TlsContext;

/// The layers below, as the drivers use them.
pub struct Services {
    /// Mailboxes.
    pub store: Store,
    /// Who is who.
    pub directory: Directory,
    /// Where messages go.
    pub switch: Switch,
    /// Passwords.
    pub verifier: Verifier,
    /// The server's certificate.
    pub tls: TlsContext,
    /// This server among the nodes.
    pub cluster: Arc<Cluster>,
    /// Maildrops that POP3 sessions hold.
    pub maildrops: MaildropLocks,
    /// The configuration in force.
    pub config: Config,
}

/// Why a login could not be decided.
#[derive(Debug, thiserror::Error)]
pub enum LoginError {
    /// The directory did not answer.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// The password could not be checked.
    #[error(transparent)]
    Auth(#[from] AuthError),
}

/// Who has logged in.
#[derive(Clone, Debug)]
pub struct LoggedIn {
    /// The account.
    pub account: AccountId,
    /// Its primary address.
    pub address: Address,
    /// Bounds of its mail.
    pub quota: Quota,
}

/// What a login came to.
#[derive(Clone, Debug)]
pub enum Login {
    /// Name and password are right.
    Accepted(LoggedIn),
    /// Name or password is wrong; which of them is not told.
    Refused,
    /// Both are right, but the account is disabled.
    Disabled,
}

impl Services {
    /// The server's name.
    pub const fn hostname(&self) -> &Domain {
        &self.config.server.hostname
    }

    /// Answers the TLS handshake that a client of a listener of `protocol` begins, after what waits has been sent.
    pub async fn start_tls(&self, transport: &mut Transport, protocol: Protocol) -> io::Result<()> {
        let timeout = self.config.timeouts.tls_handshake;
        let config = self.tls.config_for(protocol);
        transport.start_tls(config, timeout).await
    }

    /// Checks a name and a password. `acting_as` is whom the client wants to be, where it said so: only itself.
    pub async fn login(
        &self,
        protocol: &'static str,
        name: &str,
        password: &str,
        acting_as: Option<&str>,
    ) -> Result<Login, LoginError> {
        let found = self.directory.find_login(name).await?;
        let known = found
            .as_ref()
            .and_then(|record| Some((record.id, record.password.as_ref()?.as_str())));
        let right = self.verifier.verify(known, password.as_bytes()).await?;
        let login = match found {
            Some(record) if right && self.is_self(&record, acting_as).await? => {
                self.enabled(record).await?
            }
            _ => Login::Refused,
        };
        metrics::login(protocol, matches!(login, Login::Accepted(_)));
        Ok(login)
    }

    async fn is_self(
        &self,
        record: &AccountRecord,
        acting_as: Option<&str>,
    ) -> Result<bool, LoginError> {
        match acting_as {
            None | Some("") => Ok(true),
            Some(name) => {
                let other = self.directory.find_login(name).await?;
                Ok(other.is_some_and(|other| other.id == record.id))
            }
        }
    }

    /// An account is open while it and its domain are.
    async fn enabled(&self, record: AccountRecord) -> Result<Login, LoginError> {
        let domain = self.directory.domain(record.address.domain()).await?;
        if !record.enabled || domain.is_some_and(|domain| !domain.enabled) {
            return Ok(Login::Disabled);
        }
        Ok(Login::Accepted(LoggedIn {
            account: record.id,
            quota: Quota {
                bytes: record.quota.bytes,
                messages: record.quota.messages,
            },
            address: record.address,
        }))
    }
}

/// Services are shared by every connection.
pub type SharedServices = Arc<Services>;
