//! AUTH: the questions of a SASL exchange, answered by the services.

use nightmail_smtp::sasl::{self, Question};

use super::SmtpSession;
use crate::auth::Caller;
use crate::net::Transport;

impl SmtpSession {
    pub(super) async fn authenticate(
        &mut self,
        question: Question,
        transport: &Transport,
    ) -> sasl::Answer {
        let caller = Caller {
            address: self.client.ip(),
            ..Caller::of(self.service.protocol, transport)
        };
        let services = &self.service.services;
        let decided = services.authenticate(caller, &question).await;
        if let Some(user) = decided.user {
            self.account = Some(user.account);
        }
        decided.answer
    }
}
