//! Drives the SMTP, submission and LMTP machine: answers its questions from the directory and the switch.
//!
//! Message content goes chunk by chunk into a blob builder and a structure scanner; no connection holds a message.
//!
//! **Invariant:** a positive reply to the end of a message is given only after [`Switch::accept`] has returned.
//!
//! [`Switch::accept`]: nightmail_switch::Switch::accept

use std::io;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use nightmail_core::codec::RowWriter;
use nightmail_core::{AccountId, ForwardPath, Timestamp};
use nightmail_heap::HeapError;
use nightmail_mime::KnownField;
use nightmail_queue::{Notify, Ret, Source};
use nightmail_smtp::command::{Extensions, Return};
use nightmail_smtp::sasl::{self, Question};
use nightmail_smtp::server::{
    Answer, Ask, AuthOffer, Config, EndOfMessage, Input, Limits, Output, Role, Server, TlsOffer,
};
use nightmail_smtp::{BodyType, Rcpt, Reply, TlsFacts, replies};
use nightmail_switch::{
    Envelope, EnvelopeRecipient, Outcome, QuotaPolicy, Receipt, Refusal, Routed, SwitchError,
};
use tracing::{debug, info, warn};

use super::incoming::{IncomingMessage, Received};
use super::{Flow, Session, Wake, run};
use crate::config::{self, Protocol, TlsMode};
use crate::metrics;
use crate::net::{self, Service, Transport};
use crate::services::{Login, Services, SharedServices};
use crate::shutdown::Shutdown;
use crate::trace_fields::{received, submission_fields};

/// Sessions of one SMTP, submission or LMTP listener.
pub struct SmtpService {
    services: SharedServices,
    machine: Arc<Config>,
    protocol: Protocol,
}

impl SmtpService {
    /// A service for a listener of that protocol.
    pub fn new(services: SharedServices, listener: &config::Listener) -> Self {
        let role = match listener.protocol {
            Protocol::Submission => Role::Msa,
            Protocol::Lmtp => Role::Lmtp,
            _ => Role::Mta,
        };
        let machine = machine_config(&services, listener, role);
        Self {
            services,
            machine: Arc::new(machine),
            protocol: listener.protocol,
        }
    }
}

fn machine_config(services: &Services, listener: &config::Listener, role: Role) -> Config {
    let settings = &services.config;
    let mut machine = Config::new(role, services.hostname().as_str());
    machine.banner = "Nightmail".to_owned();
    machine.tls = match listener.tls_mode() {
        TlsMode::Starttls => TlsOffer::Offered,
        TlsMode::None | TlsMode::Implicit => TlsOffer::Off,
    };
    machine.auth = match (role, listener.plaintext_auth) {
        (Role::Msa, true) => AuthOffer::Always,
        (Role::Msa, false) => AuthOffer::OverTls,
        (Role::Mta | Role::Lmtp, _) => AuthOffer::Off,
    };
    machine.extensions = Extensions {
        dsn: false,
        ..Extensions::USUAL
    };
    machine.limits = Limits {
        message_octets_max: settings.message_size_max().get(),
        recipients_max: settings.limits.recipients_max,
        errors_max: count(settings.limits.errors_max),
        auth_failures_max: count(settings.limits.auth_failures_max),
        transactions_max: count(settings.limits.transactions_max),
        command_timeout: settings.timeouts.smtp_command,
        data_timeout: settings.timeouts.smtp_data,
        handshake_timeout: settings.timeouts.tls_handshake,
        ..Limits::default()
    };
    machine
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

impl Service for SmtpService {
    fn refusal(&self, _: net::Refusal) -> &'static [u8] {
        b"421 4.7.0 Too many connections\r\n"
    }

    async fn serve(self: Arc<Self>, transport: Box<Transport>, shutdown: Shutdown) {
        let session = transport.session();
        let peer = transport.peer();
        debug!(%session, %peer, protocol = self.protocol.as_str(), "connected");
        let mut driven = SmtpSession {
            machine: Server::new(
                Arc::clone(&self.machine),
                Instant::now(),
                tls_facts(&transport),
            ),
            service: self,
            account: None,
            routed: Vec::new(),
            body: None,
        };
        match run(&mut driven, transport, shutdown).await {
            Ok(()) => debug!(%session, "disconnected"),
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
    account: Option<AccountId>,
    /// Where each accepted recipient of the transaction goes.
    routed: Vec<Routed>,
    body: Option<Box<IncomingMessage>>,
}

impl Session for SmtpSession {
    async fn advance(&mut self, transport: &mut Transport) -> io::Result<Flow> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(octets) => transport.send(octets),
                Output::Body(octets) => {
                    if let Some(body) = &mut self.body {
                        body.push(&octets);
                    }
                }
                Output::DiscardBody => self.body = None,
                Output::Ask(ask) => {
                    let answer = self.answer(ask, transport).await;
                    self.machine.handle(Instant::now(), Input::Answer(answer));
                }
                Output::StartTls => {
                    self.service
                        .services
                        .start_tls(transport, self.service.protocol)
                        .await?;
                    let facts = tls_facts(transport).unwrap_or_default();
                    self.machine
                        .handle(Instant::now(), Input::TlsEstablished(facts));
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
        self.machine.poll_timeout()
    }
}

impl SmtpSession {
    async fn answer(&mut self, ask: Ask, transport: &mut Transport) -> Answer {
        match ask {
            Ask::Connect | Ask::Hello(_) => Answer::Accept,
            Ask::Authenticate(question) => {
                Answer::Authentication(self.authenticate(question, transport).await)
            }
            Ask::Etrn(_) => Answer::Reply(replies::ETRN_DENIED),
            Ask::Xclient(_) | Ask::Xforward(_) => Answer::Reject(replies::ATTRIBUTES_DENIED),
            Ask::Mail(_) => {
                self.routed.clear();
                Answer::Accept
            }
            Ask::Recipient(rcpt) => self.recipient(&rcpt, transport).await,
            Ask::BeginMessage => {
                let heap = self.service.services.store.heap();
                self.body = Some(Box::new(IncomingMessage::new(heap)));
                Answer::Accept
            }
            Ask::EndOfMessage(message) => self.end_of_message(*message, transport).await,
            Ask::Verify(_) => Answer::Verified(replies::CANNOT_VERIFY),
        }
    }

    async fn authenticate(
        &mut self,
        question: Question,
        transport: &mut Transport,
    ) -> sasl::Answer {
        let Question::Password {
            identity,
            password,
            authorization,
        } = question
        else {
            return sasl::Answer::Refused;
        };
        let session = transport.session();
        let name = identity.as_ref();
        let acting_as = authorization.as_deref();
        let services = &self.service.services;
        let protocol = self.service.protocol.as_str();
        match services
            .login(protocol, name, password.as_str(), acting_as)
            .await
        {
            Ok(Login::Accepted(user)) => {
                info!(%session, peer = %transport.peer(), user = %user.address, "logged in");
                self.account = Some(user.account);
                sasl::Answer::Accepted {
                    identity: user.address.to_string().into(),
                }
            }
            Ok(Login::Refused | Login::Disabled) => {
                info!(%session, peer = %transport.peer(), name, "login refused");
                sasl::Answer::Refused
            }
            Err(error) => {
                warn!(%session, %error, "a login could not be checked");
                sasl::Answer::Unavailable
            }
        }
    }

    async fn recipient(&mut self, rcpt: &Rcpt, transport: &mut Transport) -> Answer {
        let services = &self.service.services;
        let protocol = self.service.protocol.as_str();
        let size = self
            .machine
            .envelope()
            .and_then(|envelope| envelope.mail.params.size);
        let path = match &rcpt.forward_path {
            ForwardPath::Address(address) if is_postmaster_of(address, services) => {
                &ForwardPath::Postmaster
            }
            path => path,
        };
        let relay = self.account.is_some();
        let session = transport.session();
        match services.switch.route(path, relay, size).await {
            Ok(Ok(routed)) => {
                self.routed.push(routed);
                metrics::counter(metrics::RECIPIENTS_ACCEPTED, protocol).increment(1);
                Answer::Accept
            }
            Ok(Err(refusal)) => {
                metrics::counter(metrics::RECIPIENTS_REJECTED, protocol).increment(1);
                info!(%session, recipient = %rcpt.forward_path, reason = %refusal, "recipient refused");
                Answer::Reject(refusal_reply(&refusal))
            }
            Err(error) => {
                warn!(%session, recipient = %rcpt.forward_path, %error, "a recipient could not be looked up");
                Answer::Reject(failure_reply(&error))
            }
        }
    }

    async fn end_of_message(&mut self, message: EndOfMessage, transport: &mut Transport) -> Answer {
        let started = Instant::now();
        let protocol = self.service.protocol.as_str();
        let lmtp = message.facts.role == Role::Lmtp;
        let recipients = message.envelope.recipients.len();
        let answer = match self.accept(message, transport).await {
            Ok(receipt) if lmtp => Answer::PerRecipient(lmtp_replies(&receipt)),
            Ok(receipt) => smtp_answer(&receipt, transport),
            Err(reply) if lmtp => Answer::PerRecipient(vec![reply; recipients]),
            Err(reply) => Answer::Reject(reply),
        };
        let name = match &answer {
            Answer::Reject(_) => metrics::MESSAGES_REJECTED,
            _ => metrics::MESSAGES_ACCEPTED,
        };
        metrics::counter(name, protocol).increment(1);
        ::metrics::histogram!(metrics::ACCEPT_SECONDS, "protocol" => protocol)
            .record(started.elapsed());
        answer
    }

    /// Accepts the message for all its recipients, or says with which reply it is refused.
    async fn accept(
        &mut self,
        message: EndOfMessage,
        transport: &Transport,
    ) -> Result<Receipt, Reply> {
        let session = transport.session();
        let services = Arc::clone(&self.service.services);
        let body = self.body.take().ok_or(replies::LOCAL_ERROR)?;
        let failed = |error: HeapError| {
            warn!(%session, %error, "message content could not be kept");
            match error {
                HeapError::Full(_) => replies::OUT_OF_SPACE,
                _ => replies::LOCAL_ERROR,
            }
        };
        let received = body.finish(heap_envelope(&message)).map_err(failed)?;
        let hops = received.structure.received_count();
        if hops as usize > services.config.limits.received_fields_max {
            info!(%session, hops, "message refused: it is going in circles");
            return Err(replies::LOOP);
        }
        let envelope = self.envelope(&message, &received, transport, nightmail_commit::now());
        let blob = received.blob;
        let size = blob.blob.size();
        let id = blob.blob.id();
        let from = envelope.reverse_path.clone();
        let receipt = services
            .switch
            .accept(envelope, blob)
            .await
            .map_err(|error| {
                warn!(%session, %error, "message could not be accepted");
                failure_reply(&error)
            })?;
        let protocol = self.service.protocol.as_str();
        metrics::counter(metrics::OCTETS_ACCEPTED, protocol).increment(size);
        metrics::plain_counter(metrics::DELIVERIES_LOCAL).increment(receipt.appended.len() as u64);
        log_receipt(
            session,
            &id.to_string(),
            &from.to_string(),
            size,
            &receipt,
            &message,
        );
        Ok(receipt)
    }

    fn envelope(
        &mut self,
        message: &EndOfMessage,
        incoming: &Received,
        transport: &Transport,
        now: Timestamp,
    ) -> Envelope {
        let hostname = self.service.services.hostname();
        let mut trace = received(message, transport, hostname, now);
        let structure = &incoming.structure;
        if message.facts.role == Role::Msa {
            let has_date = structure.has_field(KnownField::Date);
            let has_id = structure.has_field(KnownField::MessageId);
            submission_fields(
                &mut trace,
                has_date,
                has_id,
                transport.session(),
                hostname,
                now,
            );
        }
        let params = &message.envelope.mail.params;
        let routed = std::mem::take(&mut self.routed);
        Envelope {
            reverse_path: message.envelope.mail.reverse_path.clone(),
            recipients: routed
                .into_iter()
                .map(|routed| EnvelopeRecipient {
                    routed,
                    notify: Notify::Unspecified,
                    orcpt: None,
                })
                .collect(),
            source: self.account.map_or(Source::Relay, Source::Submission),
            body: match params.body {
                BodyType::SevenBit => nightmail_queue::BodyType::SevenBit,
                BodyType::EightBitMime => nightmail_queue::BodyType::EightBitMime,
                BodyType::BinaryMime => nightmail_queue::BodyType::BinaryMime,
            },
            smtputf8: params.smtputf8,
            ret: params.ret.map(|ret| match ret {
                Return::Full => Ret::Full,
                Return::Headers => Ret::Headers,
            }),
            envid: params.envid.as_ref().map(|envid| envid.as_str().to_owned()),
            trace: trace.into(),
            sealed: Bytes::new(),
            demands: nightmail_switch::Demands::default(),
            missing_line_ends: incoming.missing_line_ends,
            policy: match message.facts.role {
                Role::Lmtp => QuotaPolicy::PerRecipient,
                Role::Mta | Role::Msa => QuotaPolicy::Together,
            },
        }
    }
}

/// Whether the address is the postmaster of the host itself, which need not be a mail domain.
fn is_postmaster_of(address: &nightmail_core::Address, services: &Services) -> bool {
    address.local_part().lookup() == "postmaster" && address.domain() == services.hostname()
}

/// Who a message was accepted for, kept beside its bytes: version, reverse-path, recipients.
fn heap_envelope(message: &EndOfMessage) -> Bytes {
    let envelope = &message.envelope;
    let mut row = RowWriter::new(1);
    row.str(&envelope.mail.reverse_path.to_string());
    row.varint(envelope.recipients.len() as u64);
    for rcpt in envelope.recipients.iter() {
        row.str(&rcpt.forward_path.to_string());
    }
    row.finish().into()
}

fn log_receipt(
    session: nightmail_core::SessionId,
    message: &str,
    from: &str,
    size: u64,
    receipt: &Receipt,
    accepted: &EndOfMessage,
) {
    let message = message.get(..16).unwrap_or(message);
    let queue_id = receipt
        .queue_id
        .map(|id| id.to_string())
        .unwrap_or_default();
    info!(%session, message, from, size, copies = receipt.appended.len(), queue_id, "message accepted");
    let rcpts = accepted.envelope.recipients.iter().zip(&receipt.outcomes);
    for (rcpt, outcome) in rcpts {
        debug!(%session, message, recipient = %rcpt.forward_path, ?outcome, "recipient settled");
    }
    for (account, appended) in &receipt.appended {
        debug!(%session, message, %account, uid = %appended.uid, "delivered");
    }
}

/// SMTP has one answer for all recipients: refused only where nobody could take the message.
fn smtp_answer(receipt: &Receipt, transport: &Transport) -> Answer {
    let refused = receipt.outcomes.iter().find_map(|outcome| match outcome {
        Outcome::Refused(refusal) => Some(refusal),
        Outcome::Accepted => None,
    });
    let nobody = receipt.appended.is_empty() && receipt.queue_id.is_none();
    match refused {
        Some(refusal) if nobody => Answer::Reject(refusal_reply(refusal)),
        _ => Answer::Accepted {
            id: receipt
                .queue_id
                .map_or_else(|| transport.session().to_string(), |id| id.to_string())
                .into(),
        },
    }
}

fn lmtp_replies(receipt: &Receipt) -> Vec<Reply> {
    let reply = |outcome: &Outcome| match outcome {
        Outcome::Accepted => replies::OK,
        Outcome::Refused(refusal) => refusal_reply(refusal),
    };
    receipt.outcomes.iter().map(reply).collect()
}

fn refusal_reply(refusal: &Refusal) -> Reply {
    match refusal {
        Refusal::UnknownUser => replies::MAILBOX_UNKNOWN,
        Refusal::RelayDenied => replies::RELAY_DENIED,
        Refusal::Disabled { temporary: true } => replies::MAILBOX_BUSY,
        Refusal::Disabled { temporary: false } => replies::MAILBOX_DISABLED,
        Refusal::Loop => replies::LOOP,
        Refusal::OverQuota => replies::MAILBOX_FULL,
        Refusal::TooLarge => replies::QUOTA_EXCEEDED,
    }
}

/// Local trouble is a 4yz, never a 5yz.
fn failure_reply(error: &SwitchError) -> Reply {
    if error.is_full() {
        replies::OUT_OF_SPACE
    } else {
        replies::LOCAL_ERROR
    }
}
