//! LOGIN and AUTHENTICATE (RFC 3501 §6.2.2, §6.2.3).

use nightmail_core::{AccountId, Address};
use nightmail_imap::{Answer, Refusal, RefusalKind};
use nightmail_sasl::Question;
use nightmail_store::Quota;
use tracing::warn;

use super::ImapSession;
use super::failure::Failure;
use crate::auth::Caller;
use crate::config::Protocol;
use crate::net::Transport;

/// Who has logged in.
pub(super) struct User {
    pub(super) account: AccountId,
    pub(super) address: Address,
}

impl ImapSession {
    pub(super) async fn authenticate(
        &mut self,
        question: &Question,
        transport: &Transport,
    ) -> Answer {
        let services = &self.service.services;
        let caller = Caller::of(Protocol::Imap, transport);
        let decided = services.authenticate(caller, question).await;
        if let Some(user) = decided.user {
            self.user = Some(Box::new(User {
                account: user.account,
                address: user.address,
            }));
        }
        Answer::Authentication(decided.answer)
    }

    /// The client is nobody again; of the connection, TLS stays.
    pub(super) fn unauthenticate(&mut self, transport: &Transport) -> Answer {
        self.user = None;
        self.selected = None;
        self.watching = None;
        self.keywords = None;
        self.incoming = None;
        self.sources = Vec::new();
        Answer::LoggedOut(self.service.services.channel(transport))
    }

    pub(super) fn user(&self) -> Result<&User, Failure> {
        self.user.as_deref().ok_or_else(Failure::out_of_order)
    }

    pub(super) fn account(&self) -> Result<AccountId, Failure> {
        self.user().map(|user| user.account)
    }

    /// An account with this quota has got more mail.
    pub(super) fn has_grown(&self, account: AccountId, quota: Quota) {
        if quota != Quota::default() {
            self.service.services.switch.grown().note(account);
        }
    }

    /// An account's quota as it is now; it may have been changed since the login.
    pub(super) async fn quota(&self, account: AccountId) -> Result<Quota, Failure> {
        match self.service.services.directory.account(account).await {
            Ok(Some(record)) => Ok(Quota {
                bytes: record.quota.bytes,
                messages: record.quota.messages,
                mailboxes: record.quota.mailboxes,
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
