//! On-demand relay (RFC 2645): a customer logs in, says ATRN, and is sent its mail over the connection it has made.
//!
//! Owns who may fetch what. The mail itself is sent by the outbound channel of this node.

use std::sync::Arc;

use nightmail_core::{Address, Domain};
use nightmail_queue::Destination;
use nightmail_smtp::server::Answer;
use nightmail_smtp::{Reply, TlsFacts, replies};
use tracing::{info, warn};

use super::{SmtpSession, tls_facts};
use crate::metrics;
use crate::net::{Transport, Turned};
use crate::services::Services;
use crate::shutdown::Shutdown;

/// What a customer has been granted: octets that it has sent ahead, and the domains whose mail it gets.
#[derive(Debug, Default)]
pub(super) struct Turn {
    pub(super) domains: Vec<Domain>,
    pub(super) early: bytes::Bytes,
}

impl SmtpSession {
    /// Decides whether the customer gets the mail of the domains it names, or of all its domains.
    pub(super) async fn atrn(&mut self, asked: Vec<Domain>, transport: &Transport) -> Answer {
        let session = transport.session();
        let identity = self.machine.facts().identity.as_deref();
        let account = identity.and_then(|name| Address::parse(name).ok());
        let Some(account) = account else {
            return Answer::Reject(replies::AUTH_REQUIRED);
        };
        let services = &self.service.services;
        match grant(services, &account, asked).await {
            Ok(domains) => {
                info!(%session, customer = %account, domains = domains.len(), "the connection is turned around");
                self.turn = Some(Box::new(Turn {
                    domains,
                    ..Turn::default()
                }));
                Answer::Accept
            }
            Err(reply) => {
                info!(%session, customer = %account, %reply, "no mail for the customer");
                Answer::Reject(reply)
            }
        }
    }
}

/// The domains whose mail `account` gets, or why it gets none.
async fn grant(
    services: &Services,
    account: &Address,
    asked: Vec<Domain>,
) -> Result<Vec<Domain>, Reply> {
    let own = services.config.domains_of(account);
    let domains = match asked.is_empty() {
        true => own,
        false if asked.iter().all(|domain| own.contains(domain)) => asked,
        false => return Err(replies::ATRN_REFUSED),
    };
    if domains.is_empty() {
        return Err(replies::ATRN_REFUSED);
    }
    if services.delivery.get().is_none() {
        warn!("customers fetch their mail from nodes that send mail; this one does not");
        return Err(replies::ATRN_UNABLE);
    }
    for domain in &domains {
        let destination = Destination::Domain(domain.clone());
        match services.queue.list_destination(&destination, None, 1).await {
            Ok((waiting, _)) if waiting.is_empty() => {}
            Ok(_) => return Ok(domains),
            Err(error) => {
                warn!(%domain, %error, "waiting mail could not be looked up");
                return Err(replies::ATRN_UNABLE);
            }
        }
    }
    Err(replies::ATRN_NO_MAIL)
}

/// Sends the customer its mail. Ends with the connection, or when the server has to.
pub(super) async fn turn(
    services: Arc<Services>,
    transport: Box<Transport>,
    turn: Turn,
    mut shutdown: Shutdown,
) {
    let session = transport.session();
    let Some(delivery) = services.delivery.get() else {
        return;
    };
    // Whoever may say ATRN has logged in.
    let tls = tls_facts(&transport).map(|facts| TlsFacts {
        peer_verified: true,
        ..facts
    });
    let stream = Box::new(Turned::new(transport, &turn.early));
    let sending = Box::pin(delivery.turn(stream, tls, turn.domains));
    let report = tokio::select! {
        report = sending => report,
        () = shutdown.aborting() => return,
    };
    match report {
        Ok(report) => {
            metrics::plain_counter(metrics::ODMR_TURNS).increment(1);
            info!(%session, ?report, "the customer has its mail");
        }
        Err(error) => warn!(%session, %error, "the customer could not be sent its mail"),
    }
}
