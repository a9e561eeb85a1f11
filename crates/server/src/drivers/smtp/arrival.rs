//! The beginning of a session: who may have one, when it is greeted, and under which name it goes on.

use std::time::Instant;

use nightmail_access::Stage;
use nightmail_smtp::command::{XAttribute, XName};
use nightmail_smtp::server::{Answer, Hello, Role, Welcome};
use nightmail_smtp::{Reply, replies};
use tracing::{info, warn};

use super::SmtpSession;
use crate::gate::{Gated, Seen};
use crate::net::Transport;

/// What a client is answered once it has waited for its greeting.
#[derive(Debug)]
pub(super) struct Greeting {
    pub(super) until: Instant,
    answer: Answer,
}

impl SmtpSession {
    /// Decides whether the client may have a session, and how long it waits for its greeting.
    pub(super) async fn connect(&mut self, transport: &Transport) {
        self.visit = None;
        let role = self.service.machine.role;
        let gate = &self.service.services.gate;
        let connected = self.client.connected().ip();
        let permitted = role != Role::Lmtp && connected.is_some_and(|ip| gate.takes_xclient(ip));
        let mut greeting = Greeting {
            until: Instant::now(),
            answer: Answer::Welcome(Welcome {
                xclient: permitted,
                xforward: permitted,
            }),
        };
        if let (Role::Mta, Some(ip)) = (role, self.client.ip()) {
            self.trusted = gate.trusts(ip);
            let name = self.client.known_name();
            let session = transport.session();
            match gate.connect(session, ip, name, transport.is_tls()).await {
                Ok(visit) => self.visit = visit,
                Err(reply) => greeting.answer = Answer::Reject(reply),
            }
            if !self.trusted {
                greeting.until = Instant::now() + gate.greeting_delay();
            }
        }
        if let (Role::Msa, Some(ip)) = (role, self.client.ip()) {
            self.visit = gate.submission_visit(transport.session(), ip);
        }
        self.greeting = Some(greeting);
    }

    /// The answer that a waiting client is owed, where its time has come: at once when it has spoken.
    pub(super) fn greet(&mut self, now: Instant) -> Option<Answer> {
        let spoken = self.machine.has_spoken_early();
        let greeting = self
            .greeting
            .take_if(|greeting| spoken || greeting.until <= now)?;
        let gate = &self.service.services.gate;
        if let (Some(visit), Answer::Welcome(_)) = (&mut self.visit, &greeting.answer) {
            let seen = Seen::of(self.machine.facts());
            if let Err(reply) = gate.early(visit, &seen, Stage::Connect) {
                return Some(Answer::Reject(reply));
            }
        }
        Some(greeting.answer)
    }

    pub(super) fn hello(&mut self, hello: &Hello) -> Answer {
        let gate = &self.service.services.gate;
        self.taken.clear();
        match &mut self.visit {
            None => Answer::Accept,
            Some(visit) => {
                let seen = Seen::of(self.machine.facts());
                answer(gate.hello(visit, hello.name.as_str(), &seen))
            }
        }
    }

    /// A proxy says who the client is. Whom it says has logged in is logged in.
    pub(super) async fn xclient(
        &mut self,
        attributes: &[XAttribute],
        transport: &Transport,
    ) -> Answer {
        let (session, peer) = (transport.session(), transport.peer());
        let login = attributes
            .iter()
            .find(|attribute| attribute.name == XName::Login)
            .and_then(|attribute| attribute.value.as_deref());
        let account = match login {
            None => None,
            Some(name) => match self.service.services.open_account(name).await {
                Ok(Some(user)) => Some(user),
                Ok(None) => return Answer::Reject(replies::ATTRIBUTES_DENIED),
                Err(error) => {
                    warn!(%session, %error, "an account could not be looked up");
                    return Answer::Reject(replies::LOCAL_ERROR);
                }
            },
        };
        if self.client.take_xclient(attributes).is_err() {
            return Answer::Reject(replies::ARGUMENTS);
        }
        self.account = account.map(|user| user.account);
        info!(%session, %peer, client = ?self.client.ip(), login, "a proxy speaks for a client");
        Answer::Accept
    }

    pub(super) fn xforward(&mut self, attributes: &[XAttribute]) -> Answer {
        match self.client.take_xforward(attributes) {
            Ok(()) => Answer::Accept,
            Err(_) => Answer::Reject(replies::ARGUMENTS),
        }
    }
}

/// Passes, or the refusal.
pub(super) fn answer(gated: Gated<()>) -> Answer {
    gated.map_or_else(refusal, |()| Answer::Accept)
}

pub(super) const fn refusal(reply: Reply) -> Answer {
    Answer::Reject(reply)
}
