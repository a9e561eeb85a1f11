//! MAIL, RCPT and ETRN: the gate's say, the routing, and what each recipient was promised.

use nightmail_core::{ForwardPath, ReversePath};
use nightmail_queue::HurryTarget;
use nightmail_smtp::command::EtrnTarget;
use nightmail_smtp::server::{Answer, Role};
use nightmail_smtp::{Mail, Rcpt, Reply, replies};
use nightmail_switch::{Refusal, Routed};
use tracing::{info, warn};

use super::SmtpSession;
use super::arrival::answer;
use super::outcome::{failure_reply, refusal_reply};
use crate::gate::{Fate, Gated, Seen, Submitter};
use crate::metrics;
use crate::net::Transport;
use crate::services::Services;

/// What becomes of an accepted recipient.
#[derive(Debug)]
pub(super) enum Taken {
    /// Its copy goes there.
    Routed(Routed),
    /// Its copy is thrown away.
    Discarded,
}

impl SmtpSession {
    pub(super) async fn mail(&mut self, mail: &Mail, transport: &Transport) -> Answer {
        self.taken.clear();
        let gate = &self.service.services.gate;
        if let Some(visit) = &mut self.visit {
            let seen = Seen::of(self.machine.facts());
            if let Err(reply) = Box::pin(gate.mail(visit, &seen, mail)).await {
                self.note_refused(&mail.reverse_path, None, &reply);
                return Answer::Reject(reply);
            }
        }
        let Some(from) = self.submitter(transport) else {
            return Answer::Accept;
        };
        let now = nightmail_commit::now();
        answer(Box::pin(gate.submission.mail(&from, mail, now)).await)
    }

    /// Who submits, where this is a submission.
    pub(super) fn submitter(&self, transport: &Transport) -> Option<Submitter> {
        let msa = self.service.machine.role == Role::Msa;
        let account = self.account.filter(|_| msa)?;
        Some(Submitter {
            session: transport.session(),
            account,
            ip: self.client.ip(),
        })
    }

    pub(super) async fn recipient(&mut self, rcpt: &Rcpt, transport: &Transport) -> Answer {
        let protocol = self.service.protocol.as_str();
        match self.take_recipient(rcpt, transport).await {
            Ok(taken) => {
                self.taken.push(taken);
                metrics::counter(metrics::RECIPIENTS_ACCEPTED, protocol).increment(1);
                Answer::Accept
            }
            Err(reply) => {
                metrics::counter(metrics::RECIPIENTS_REJECTED, protocol).increment(1);
                let sender = self.machine.envelope().map(|it| &it.mail.reverse_path);
                let path = Some(&rcpt.forward_path);
                self.note_refused(sender.unwrap_or(&ReversePath::Null), path, &reply);
                Answer::Reject(reply)
            }
        }
    }

    async fn take_recipient(&mut self, rcpt: &Rcpt, transport: &Transport) -> Gated<Taken> {
        let service = std::sync::Arc::clone(&self.service);
        let services = &service.services;
        let gate = &services.gate;
        let (sender, size) = match self.machine.envelope() {
            Some(envelope) => (
                envelope.mail.reverse_path.clone(),
                envelope.mail.params.size,
            ),
            None => (ReversePath::Null, None),
        };
        let path = match &rcpt.forward_path {
            ForwardPath::Address(address) if is_postmaster_of(address, services) => {
                &ForwardPath::Postmaster
            }
            path => path,
        };
        let named = match &mut self.visit {
            Some(visit) => {
                let seen = Seen::of(self.machine.facts());
                Some(gate.recipient(visit, &seen, &sender, path)?)
            }
            None => None,
        };
        let fate = named.as_ref().map(|named| named.fate.clone());
        let taken = match fate.unwrap_or_default() {
            Fate::Discard => Taken::Discarded,
            Fate::Route(to) => {
                let to = ForwardPath::Address(to);
                Taken::Routed(self.route(&to, true, size, transport).await?)
            }
            Fate::Ordinary => {
                let relay = self.account.is_some() || self.trusted;
                Taken::Routed(self.route(path, relay, size, transport).await?)
            }
        };
        if let (Some(visit), Some(named)) = (&mut self.visit, &named) {
            let now = nightmail_commit::now();
            Box::pin(gate.known_recipient(visit, named, &sender, path, now)).await?;
        }
        if let Some(from) = self.submitter(transport) {
            gate.submission.recipient(&from)?;
        }
        Ok(taken)
    }

    /// Where a recipient's copies go. One that is not known counts against its client.
    pub(super) async fn route(
        &self,
        path: &ForwardPath,
        relay: bool,
        size: Option<u64>,
        transport: &Transport,
    ) -> Gated<Routed> {
        let services = &self.service.services;
        let session = transport.session();
        match services.switch.route(path, relay, size).await {
            Ok(Ok(routed)) => Ok(routed),
            Ok(Err(refusal)) => {
                info!(%session, recipient = %path, reason = %refusal, "recipient refused");
                if let (Refusal::UnknownUser, Some(visit)) = (&refusal, &self.visit) {
                    services.gate.unknown_recipient(visit);
                }
                Err(refusal_reply(&refusal))
            }
            Err(error) => {
                warn!(%session, recipient = %path, %error, "a recipient could not be looked up");
                Err(failure_reply(&error))
            }
        }
    }

    /// Sends what waits for a domain now: for clients that are trusted, and for whoever names a domain that mail waits
    /// for. It goes to that domain's own hosts in any case. A stranger learns of no other domain whether mail waits for it,
    /// but of one that has to ask.
    pub(super) async fn etrn(&self, target: &EtrnTarget, transport: &Transport) -> Reply {
        let session = transport.session();
        let services = &self.service.services;
        let wanted = match target {
            EtrnTarget::Domain(domain) => HurryTarget::Domain(domain.clone()),
            EtrnTarget::Subdomains(domain) => HurryTarget::Subdomains(domain.clone()),
            EtrnTarget::Queue(_) => return replies::ETRN_DENIED,
        };
        if let Some(visit) = &self.visit
            && let Err(reply) = services.gate.etrn(visit)
        {
            return reply;
        }
        let on_request = match target {
            EtrnTarget::Domain(domain) => services.gate.waits_for_request(domain),
            _ => false,
        };
        match services.queue.hurry(&wanted).await {
            Ok(0) if self.trusted || on_request => replies::ETRN_NOTHING,
            Ok(0) => replies::ETRN_DENIED,
            Ok(messages) => {
                info!(%session, %target, messages, "waiting mail is sent now");
                let text = format!("{messages} pending messages for {target} started");
                replies::ETRN_COUNT.with_text(text)
            }
            Err(error) => {
                warn!(%session, %target, %error, "waiting mail could not be hurried");
                replies::ETRN_UNABLE
            }
        }
    }
}

/// Whether the address is the postmaster of the host itself, which need not be a mail domain.
fn is_postmaster_of(address: &nightmail_core::Address, services: &Services) -> bool {
    address.local_part().lookup() == "postmaster" && address.domain() == services.hostname()
}
