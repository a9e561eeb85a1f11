//! Answers to the questions of all mechanisms, for all protocols.
//!
//! **Invariant:** an account that does not exist is answered as one whose password is wrong, in as much time.

use std::net::IpAddr;
use std::time::Instant;

use nightmail_core::{AccountId, Address};
use nightmail_directory::{AccountRecord, DirectoryError, PasswordHash};
use nightmail_sasl::{Answer, Channel, Mechanism, MechanismSet, Question, ScramHash, prepare};
use nightmail_store::Quota;
use tracing::{info, warn};

use super::attempts::{Attempts, LATE, Standing};
use super::scram::{Decoys, nonce, secret_for, secrets_of};
use super::token::{Issuers, TokenFault};
use super::{AuthError, Verifier, binding, certificate};
use crate::config::{ClientCertificates, Config, Protocol};
use crate::metrics;
use crate::net::Transport;
use crate::services::Services;

/// What logins need; shared by all drivers of the process.
pub struct Logins {
    verifier: Verifier,
    issuers: Issuers,
    attempts: Attempts,
    decoys: Decoys,
    iterations: u32,
    certificates: bool,
}

impl Logins {
    /// What a configuration says about logins. Hashes once, and reads the keys of token issuers.
    pub fn new(config: &Config) -> Result<Self, AuthError> {
        Ok(Self {
            verifier: Verifier::new(&config.auth)?,
            issuers: Issuers::load(&config.token_issuers)?,
            attempts: Attempts::new(config.auth.failures_per_address_per_hour),
            decoys: Decoys::new(config.auth.scram_iterations),
            iterations: config.auth.scram_iterations,
            certificates: config.tls.client_certificates != ClientCertificates::Off,
        })
    }

    /// The mechanisms that the configuration allows; the connection decides further.
    pub fn mechanisms(&self) -> MechanismSet {
        let allowed = |mechanism: &Mechanism| match mechanism {
            Mechanism::OAuthBearer | Mechanism::XOAuth2 => !self.issuers.is_empty(),
            Mechanism::External => self.certificates,
            _ => true,
        };
        MechanismSet::all().iter().filter(allowed).collect()
    }
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

/// Who wants to log in.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// What it speaks.
    pub protocol: Protocol,
    /// Its connection.
    pub transport: &'a Transport,
    /// Where it is; failed logins count against it. Nowhere on a socket of this machine.
    pub address: Option<IpAddr>,
}

impl<'a> Caller<'a> {
    /// The client of a connection.
    pub fn of(protocol: Protocol, transport: &'a Transport) -> Self {
        Self {
            protocol,
            transport,
            address: transport.peer().ip(),
        }
    }
}

/// An answer, and whose account it is about where it is [`Answer::Accepted`].
///
/// The client is logged in only when its machine says so: after SCRAM it can still break off.
#[derive(Debug)]
pub struct Authenticated {
    /// For the mechanism.
    pub answer: Answer,
    /// For the driver.
    pub user: Option<LoggedIn>,
}

impl From<Answer> for Authenticated {
    fn from(answer: Answer) -> Self {
        Self { answer, user: None }
    }
}

/// What a question came to.
enum Verdict {
    /// The client is this account, unless that is disabled.
    Is(AccountRecord),
    /// It is not.
    Wrong,
    /// Its token is no good.
    Token(TokenFault),
    /// The exchange goes on.
    Secret(Answer),
}

impl Services {
    /// What logins on a connection may be bound to; `None` without TLS.
    pub fn channel(&self, transport: &Transport) -> Option<Channel> {
        if !transport.is_tls() {
            return None;
        }
        let mut bindings = Vec::new();
        if let Some(exported) = transport.exporter() {
            bindings.push(("tls-exporter", exported));
        }
        let shown = self.tls.shown_to(transport);
        if let Some(hash) = shown.cert.first().and_then(|leaf| binding::end_point(leaf)) {
            bindings.push(("tls-server-end-point", hash));
        }
        Some(Channel {
            bindings,
            certificate: self.tls.verified_client(transport).is_some(),
        })
    }

    /// Answers a question of a mechanism. Takes its time where the client's network has been wrong too often.
    pub async fn authenticate(&self, caller: Caller<'_>, question: &Question) -> Authenticated {
        let (session, peer) = (caller.transport.session(), caller.transport.peer());
        let (method, name) = (method(question), question.identity().unwrap_or_default());
        if !self.may_try(caller.address).await {
            info!(%session, %peer, name, method, "login not looked at: too many were wrong");
            metrics::login(caller.protocol.as_str(), false);
            return Answer::Unavailable.into();
        }
        let decided = match self.judge(caller, question).await {
            Ok(verdict) => self.conclude(caller, verdict).await,
            Err(error) => Err(error),
        };
        match decided {
            Ok(Authenticated {
                answer,
                user: Some(user),
            }) => {
                info!(%session, %peer, user = %user.address, method, tls = caller.transport.is_tls(), "logged in");
                Authenticated {
                    answer,
                    user: Some(user),
                }
            }
            Ok(decided) => {
                if !matches!(decided.answer, Answer::Secret { .. }) {
                    info!(%session, %peer, name, method, "login refused");
                }
                decided
            }
            Err(error) => {
                warn!(%session, %error, "a login could not be checked");
                Answer::Unavailable.into()
            }
        }
    }

    /// The account that logs in by a name, where it may log in: for those who are believed without a proof.
    pub async fn open_account(&self, name: &str) -> Result<Option<LoggedIn>, LoginError> {
        match self.directory.find_login(&prepare(name)).await? {
            Some(record) if self.is_enabled(&record).await? => Ok(Some(logged_in(record))),
            _ => Ok(None),
        }
    }

    /// Whether the network of an address may try once more; waits where it was wrong often.
    async fn may_try(&self, address: Option<IpAddr>) -> bool {
        let standing = address.map_or(Standing::Good, |address| {
            self.logins.attempts.standing(address, Instant::now())
        });
        if standing != Standing::Good {
            tokio::time::sleep(LATE).await;
        }
        standing != Standing::Barred
    }

    async fn judge(&self, caller: Caller<'_>, question: &Question) -> Result<Verdict, LoginError> {
        match question {
            Question::Password {
                identity,
                password,
                authorization,
            } => {
                let acting_as = authorization.as_deref();
                self.judge_password(identity, password.as_str(), acting_as)
                    .await
            }
            Question::Scram {
                hash,
                identity,
                authorization,
            } => {
                let acting_as = authorization.as_deref();
                self.scram_secret(*hash, identity, acting_as).await
            }
            Question::Token { token, identity } => {
                self.judge_token(token.as_str(), identity.as_deref()).await
            }
            Question::Certificate { authorization } => {
                let verified = self.tls.verified_client(caller.transport);
                let Some(der) = verified else {
                    return Ok(Verdict::Wrong);
                };
                let acting_as = authorization.as_deref();
                let found = certificate::account_of(der, acting_as, &self.directory).await?;
                Ok(found.map_or(Verdict::Wrong, Verdict::Is))
            }
            Question::Proven { identity } => {
                let found = self.directory.find_login(&prepare(identity)).await?;
                Ok(found.map_or(Verdict::Wrong, Verdict::Is))
            }
            Question::Disproven { .. } => Ok(Verdict::Wrong),
        }
    }

    /// Answers, and counts what is over.
    async fn conclude(
        &self,
        caller: Caller<'_>,
        verdict: Verdict,
    ) -> Result<Authenticated, LoginError> {
        let protocol = caller.protocol.as_str();
        let wrong = |answer: Answer| {
            metrics::login(protocol, false);
            if let Some(address) = caller.address {
                self.logins.attempts.failed(address, Instant::now());
            }
            Ok(answer.into())
        };
        match verdict {
            Verdict::Secret(answer) => Ok(answer.into()),
            Verdict::Wrong => wrong(Answer::Refused),
            Verdict::Token(fault) => {
                let json = self.logins.issuers.explain(fault);
                match fault {
                    // Only asks what would be wanted.
                    TokenFault::Missing => Ok(Answer::TokenRefused { json }.into()),
                    _ => wrong(Answer::TokenRefused { json }),
                }
            }
            Verdict::Is(record) => {
                let enabled = self.is_enabled(&record).await?;
                metrics::login(protocol, enabled);
                if !enabled {
                    return Ok(Answer::Disabled.into());
                }
                Ok(Authenticated {
                    answer: Answer::Accepted {
                        identity: record.address.to_string().into(),
                    },
                    user: Some(logged_in(record)),
                })
            }
        }
    }

    async fn judge_password(
        &self,
        name: &str,
        password: &str,
        acting_as: Option<&str>,
    ) -> Result<Verdict, LoginError> {
        let found = self.directory.find_login(&prepare(name)).await?;
        let known = found
            .as_ref()
            .and_then(|record| Some((record.id, record.password.as_ref()?.as_str())));
        let verifier = &self.logins.verifier;
        let prepared = prepare(password);
        let mut right = verifier.verify(known, password.as_bytes()).await?;
        if !right && prepared != password {
            right = verifier.verify(known, prepared.as_bytes()).await?;
        }
        match found {
            Some(record) if right && self.is_self(&record, acting_as).await? => {
                self.complete_secrets(&record, password).await;
                Ok(Verdict::Is(record))
            }
            _ => Ok(Verdict::Wrong),
        }
    }

    /// Makes what SCRAM needs of a password that was set when it was not kept yet. A failure is made good at the next
    /// login.
    async fn complete_secrets(&self, record: &AccountRecord, password: &str) {
        let Some(hash) = record
            .password
            .as_ref()
            .filter(|hash| hash.scram().is_none())
        else {
            return;
        };
        if let Err(error) = self.add_secrets(record.id, hash.clone(), password).await {
            warn!(user = %record.address, %error, "a password's secrets for SCRAM could not be kept");
        }
    }

    async fn add_secrets(
        &self,
        account: AccountId,
        hash: PasswordHash,
        password: &str,
    ) -> Result<(), LoginError> {
        let (password, iterations) = (password.to_owned(), self.logins.iterations);
        let made = tokio::task::spawn_blocking(move || secrets_of(&password, iterations)).await;
        let secrets = made.map_err(|_| AuthError::Stopping)??;
        self.directory.add_scram(account, hash, secrets).await?;
        Ok(())
    }

    async fn scram_secret(
        &self,
        hash: ScramHash,
        name: &str,
        acting_as: Option<&str>,
    ) -> Result<Verdict, LoginError> {
        let name = prepare(name);
        let found = self.directory.find_login(&name).await?;
        let known = match found {
            Some(record) if self.is_self(&record, acting_as).await? => record.password,
            _ => None,
        };
        let secret = match known.as_ref().and_then(PasswordHash::scram) {
            Some(secrets) => secret_for(hash, secrets),
            None => {
                let decoys = &self.logins.decoys;
                decoys.secret(hash, &name, &self.directory).await?
            }
        };
        let nonce = nonce()?;
        Ok(Verdict::Secret(Answer::Secret { secret, nonce }))
    }

    async fn judge_token(&self, token: &str, named: Option<&str>) -> Result<Verdict, LoginError> {
        let account = match self.logins.issuers.account_of(token) {
            Ok(account) => account,
            Err(fault) => return Ok(Verdict::Token(fault)),
        };
        match self.directory.find_login(&account).await? {
            Some(record) if self.is_self(&record, named).await? => Ok(Verdict::Is(record)),
            _ => Ok(Verdict::Token(TokenFault::Invalid)),
        }
    }

    /// Whether a client that is an account wants to act as nobody else.
    async fn is_self(
        &self,
        record: &AccountRecord,
        acting_as: Option<&str>,
    ) -> Result<bool, LoginError> {
        match acting_as {
            None | Some("") => Ok(true),
            Some(name) => {
                let other = self.directory.find_login(&prepare(name)).await?;
                Ok(other.is_some_and(|other| other.id == record.id))
            }
        }
    }

    /// An account is open while it and its domain are.
    async fn is_enabled(&self, record: &AccountRecord) -> Result<bool, LoginError> {
        let domain = self.directory.domain(record.address.domain()).await?;
        Ok(record.enabled && domain.is_none_or(|domain| domain.enabled))
    }
}

fn logged_in(record: AccountRecord) -> LoggedIn {
    LoggedIn {
        account: record.id,
        quota: Quota {
            bytes: record.quota.bytes,
            messages: record.quota.messages,
            mailboxes: record.quota.mailboxes,
        },
        address: record.address,
    }
}

/// How a client wants to show who it is, for the log.
const fn method(question: &Question) -> &'static str {
    match question {
        Question::Password { .. } => "password",
        Question::Scram { .. } | Question::Proven { .. } | Question::Disproven { .. } => "scram",
        Question::Token { .. } => "token",
        Question::Certificate { .. } => "certificate",
    }
}
