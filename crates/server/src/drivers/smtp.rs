//! Drives the SMTP, submission, LMTP and ODMR machine: answers its questions from the gate, the directory and the switch.
//!
//! Message content goes chunk by chunk into a blob builder and a structure scanner; no connection holds a message.
//!
//! **Invariant:** a positive reply to the end of a message is given only after [`Switch::accept`] has returned.
//!
//! [`Switch::accept`]: nightmail_switch::Switch::accept

mod acceptance;
mod arrival;
mod client;
mod notes;
mod odmr;
mod outcome;
mod settings;
mod transaction;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use nightmail_core::AccountId;
use nightmail_smtp::server::{Answer, Ask, Config, Input, Output, Role, Server};
use nightmail_smtp::{TlsFacts, replies};
use tracing::debug;

use super::incoming::IncomingMessage;
use super::{Flow, Session, Wake, serve};
use crate::auth::Caller;
use crate::config::{self, Protocol};
use crate::gate::{Tarpit, Visit};
use crate::net::{self, Received, Service, Transport};
use crate::services::SharedServices;
use crate::shutdown::Shutdown;

use arrival::Greeting;
use client::Client;
use odmr::Turn;
use transaction::Taken;

/// Sessions of one SMTP, submission, LMTP or ODMR listener.
pub struct SmtpService {
    services: SharedServices,
    machine: Arc<Config>,
    protocol: Protocol,
}

impl SmtpService {
    /// A service for a listener of that protocol.
    pub fn new(services: SharedServices, listener: &config::Listener) -> Self {
        let machine = settings::machine_config(&services, listener);
        Self {
            services,
            machine: Arc::new(machine),
            protocol: listener.protocol,
        }
    }
}

impl Service for SmtpService {
    fn refusal(&self, _: net::Refusal) -> &'static [u8] {
        b"421 4.7.0 Too many connections\r\n"
    }

    async fn serve(self: Arc<Self>, transport: Box<Transport>, shutdown: Shutdown) {
        let session = transport.session();
        let peer = transport.peer();
        debug!(%session, %peer, protocol = self.protocol.as_str(), "connected");
        let services = Arc::clone(&self.services);
        let mut driven = SmtpSession::new(self, &transport);
        match serve(&mut driven, transport, shutdown.clone()).await {
            Ok(None) => debug!(%session, "disconnected"),
            Ok(Some(transport)) => {
                if let Some(turn) = driven.turn.take() {
                    drop(driven);
                    Box::pin(odmr::turn(services, transport, *turn, shutdown)).await;
                }
            }
            Err(error) => debug!(%session, %error, "connection lost"),
        }
    }
}

fn tls_facts(transport: &Transport) -> Option<TlsFacts> {
    transport.tls_info().map(|info| TlsFacts {
        version: info.version.into(),
        cipher: info.cipher.into(),
        server_name: None,
        peer_verified: false,
    })
}

struct SmtpSession {
    machine: Server,
    service: Arc<SmtpService>,
    client: Client,
    /// Who has logged in, once the machine says so.
    account: Option<AccountId>,
    /// The client passes every check and may relay.
    trusted: bool,
    /// What the gate knows of the client, where it looks at it at all.
    visit: Option<Box<Visit>>,
    greeting: Option<Greeting>,
    tarpit: Tarpit,
    /// What becomes of each accepted recipient of the transaction.
    taken: Vec<Taken>,
    body: Option<Box<IncomingMessage>>,
    /// What a customer is granted that turns the connection around.
    turn: Option<Box<Turn>>,
}

impl SmtpSession {
    fn new(service: Arc<SmtpService>, transport: &Transport) -> Self {
        let config = Arc::clone(&service.machine);
        let mut machine = Server::new(config, Instant::now(), tls_facts(transport));
        machine.set_clock(nightmail_commit::now());
        if let Some(channel) = service.services.channel(transport) {
            machine.set_channel(channel);
        }
        Self {
            machine,
            service,
            client: Client::new(transport.peer()),
            account: None,
            trusted: false,
            visit: None,
            greeting: None,
            tarpit: Tarpit::default(),
            taken: Vec::new(),
            body: None,
            turn: None,
        }
    }
}

impl Session for SmtpSession {
    async fn advance(&mut self, transport: &mut Transport) -> io::Result<Flow> {
        if let Some(replies) = self.tarpit.release() {
            transport.send(replies);
        }
        if self.greeting.is_some() {
            match self.greet(Instant::now()) {
                Some(answer) => self.machine.handle(Instant::now(), Input::Answer(answer)),
                None => return Ok(Flow::Continue),
            }
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(replies) => match self.slowly(replies) {
                    Some(replies) => transport.send(replies),
                    None => return Ok(Flow::Continue),
                },
                Output::Body(octets) => {
                    if let Some(body) = &mut self.body {
                        body.push(&octets);
                    }
                }
                Output::DiscardBody => self.body = None,
                Output::Ask(Ask::Connect) => {
                    Box::pin(self.connect(transport)).await;
                    self.hear_early(transport)?;
                    match self.greet(Instant::now()) {
                        Some(answer) => self.machine.handle(Instant::now(), Input::Answer(answer)),
                        None => return Ok(Flow::Continue),
                    }
                }
                Output::Ask(ask) => {
                    let answer = self.answer(ask, transport).await;
                    self.machine.handle(Instant::now(), Input::Answer(answer));
                }
                Output::StartTls => self.start_tls(transport).await?,
                Output::TurnAround(early) => {
                    if let Some(turn) = &mut self.turn {
                        turn.early = early;
                    }
                    return Ok(Flow::HandOver);
                }
                Output::Close => return Ok(Flow::Close),
            }
            if transport.is_full() {
                transport.flush().await?;
            }
        }
        Ok(Flow::Continue)
    }

    fn wake(&mut self, now: Instant, wake: Wake<'_>) {
        let input = match wake {
            Wake::Bytes(octets) => Input::Bytes(octets),
            Wake::Timeout | Wake::Event => Input::Timeout,
            Wake::PeerClosed => Input::PeerClosed,
            Wake::Shutdown => Input::Shutdown,
        };
        self.machine.handle(now, input);
    }

    fn deadline(&self) -> Option<Instant> {
        let greeting = self.greeting.as_ref().map(|greeting| greeting.until);
        greeting.or(self.machine.poll_timeout())
    }

    fn pause(&self) -> Option<Instant> {
        self.tarpit.until()
    }
}

impl SmtpSession {
    /// Takes what a client has sent before it is greeted.
    fn hear_early(&mut self, transport: &mut Transport) -> io::Result<()> {
        if self.greeting.is_none() || self.client.is_told() {
            return Ok(());
        }
        let machine = &mut self.machine;
        let now = Instant::now();
        match transport.try_recv(|octets| machine.handle(now, Input::Bytes(octets)))? {
            Received::Eof => machine.handle(now, Input::PeerClosed),
            Received::Bytes(_) | Received::Nothing => {}
        }
        Ok(())
    }

    async fn answer(&mut self, ask: Ask, transport: &mut Transport) -> Answer {
        match ask {
            Ask::Connect => Answer::Accept,
            Ask::Hello(hello) => self.hello(&hello),
            Ask::Authenticate(question) => {
                let caller = Caller {
                    protocol: self.service.protocol,
                    transport,
                    address: self.client.ip(),
                };
                let services = &self.service.services;
                let decided = Box::pin(services.authenticate(caller, &question)).await;
                if let Some(user) = decided.user {
                    self.account = Some(user.account);
                }
                Answer::Authentication(decided.answer)
            }
            Ask::Mail(mail) => self.mail(&mail, transport).await,
            Ask::Recipient(rcpt) => self.recipient(&rcpt, transport).await,
            Ask::BeginMessage => {
                self.body = Some(Box::new(self.begin_message(transport)));
                Answer::Accept
            }
            Ask::EndOfMessage(message) => self.end_of_message(*message, transport).await,
            Ask::Verify(_) => Answer::Verified(replies::CANNOT_VERIFY),
            Ask::Etrn(target) => Answer::Reply(Box::pin(self.etrn(&target, transport)).await),
            Ask::Atrn(domains) => Box::pin(self.atrn(domains, transport)).await,
            Ask::Xclient(said) => Box::pin(self.xclient(&said, transport)).await,
            Ask::Xforward(said) => self.xforward(&said),
        }
    }

    /// Replies that go at once; those to errors of clients from outside are held back for a while.
    fn slowly(&mut self, replies: bytes::Bytes) -> Option<bytes::Bytes> {
        let known = self.trusted || self.account.is_some();
        if known || self.service.machine.role == Role::Lmtp || self.client.ip().is_none() {
            return Some(replies);
        }
        let pace = self.service.services.gate.pace();
        self.tarpit.pass(pace, replies, Instant::now())
    }

    async fn start_tls(&mut self, transport: &mut Transport) -> io::Result<()> {
        let protocol = self.service.protocol;
        let services = &self.service.services;
        services.start_tls(transport, protocol).await?;
        if let Some(channel) = services.channel(transport) {
            self.machine.set_channel(channel);
        }
        // Nothing that was said in clear counts.
        self.account = None;
        let facts = tls_facts(transport).unwrap_or_default();
        self.machine
            .handle(Instant::now(), Input::TlsEstablished(facts));
        Ok(())
    }

    /// Room for a message: how it is looked at depends on who it comes from.
    fn begin_message(&self, transport: &Transport) -> IncomingMessage {
        let services = &self.service.services;
        let gate = &services.gate;
        let mut body = IncomingMessage::new(services.store.heap());
        let inspector = match (self.submitter(transport), &self.visit) {
            (Some(_), _) => gate.submission_inspector(),
            (None, Some(visit)) => gate.inspector(visit),
            (None, None) => None,
        };
        if let Some(inspector) = inspector {
            body = body.inspected_by(inspector);
        }
        // What trusted neighbours say they have found is believed.
        if self.service.machine.role != Role::Lmtp && !self.trusted {
            body = body.filtered_by(gate.header_filter());
        }
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Besides this an idle session has its task's few hundred octets and its socket.
    #[test]
    fn a_session_that_waits_takes_little_room() {
        assert!(
            size_of::<SmtpSession>() <= 2048,
            "{}",
            size_of::<SmtpSession>()
        );
        assert!(size_of::<Visit>() <= 512, "{}", size_of::<Visit>());
    }
}
