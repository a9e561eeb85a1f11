//! Drives the IMAP machine: answers its questions from the store and sends the messages it announces.
//!
//! The machine knows what the client was told; the driver knows up to which change it has told the machine. UIDs are
//! kept once, in the machine. While a connection waits, it holds its machine, the place in the selected mailbox and a
//! subscription to its changes.
//!
//! **Invariant:** octets announced for a message are followed by exactly so many, or the connection is closed.

mod acl;
mod append;
mod copy;
mod failure;
mod fetch;
mod flags;
mod idle;
mod listing;
mod login;
mod mailboxes;
mod metadata;
mod notify;
mod place;
mod quota;
mod resync;
mod search;
mod selected;
mod url;

use std::io;
use std::sync::Arc;
use std::time::Instant;

use ::metrics::Counter;
use nightmail_core::SessionId;
use nightmail_imap::io::Farewell;
use nightmail_imap::{Answer, Ask, Config, Input, Limits, Output, Session as Machine};
use nightmail_store::Store;
use tracing::{debug, warn};

use self::append::Incoming;
use self::failure::Failure;
use self::fetch::Source;
use self::flags::KeywordTable;
use self::idle::Idling;
use self::login::User;
use self::notify::Watching;
use self::selected::Selected;
use super::{Flow, Session, Wake, run};
use crate::config::{self, Literals, Protocol, TlsMode};
use crate::metrics;
use crate::net::{self, Service, Transport};
use crate::services::{Services, SharedServices};
use crate::shutdown::Shutdown;

/// Literals that may come without leave where LITERAL- is announced (RFC 7888 §5).
const LITERAL_MINUS_OCTETS_MAX: u64 = 4096;

/// Sessions of one IMAP listener.
pub struct ImapService {
    services: SharedServices,
    machine: Arc<Config>,
    commands: Counter,
}

impl ImapService {
    /// A service for a listener.
    pub fn new(services: SharedServices, listener: &config::Listener) -> Self {
        let machine = machine_config(&services, listener);
        Self {
            services,
            machine: Arc::new(machine),
            commands: metrics::plain_counter(metrics::IMAP_COMMANDS),
        }
    }
}

fn machine_config(services: &Services, listener: &config::Listener) -> Config {
    let settings = &services.config;
    Config {
        greeting: format!("{} Nightmail ready", services.hostname()),
        starttls: listener.tls_mode() == TlsMode::Starttls,
        plaintext_login: listener.plaintext_auth,
        mechanisms: services.logins.mechanisms(),
        limits: Limits {
            message_octets_max: settings.message_size_max().get(),
            bad_commands_max: count(settings.limits.errors_max),
            login_failures_max: count(settings.limits.auth_failures_max),
            login_time_max: settings.timeouts.login,
            idle_time_max: settings.timeouts.imap_idle,
            messages_max: Some(count(settings.imap.message_limit)).filter(|limit| *limit > 0),
            unasked_octets_max: match settings.imap.literal {
                Literals::Plus => u64::MAX,
                Literals::Minus => LITERAL_MINUS_OCTETS_MAX,
            },
            ..Limits::default()
        },
        hidden: settings.imap.hide_capabilities.clone(),
        clients: settings
            .imap_clients
            .iter()
            .map(config::ImapClient::rule)
            .collect(),
        ..Config::default()
    }
}

fn count(limit: usize) -> u32 {
    u32::try_from(limit).unwrap_or(u32::MAX)
}

impl Service for ImapService {
    fn refusal(&self, _: net::Refusal) -> &'static [u8] {
        b"* BYE [UNAVAILABLE] Too many connections\r\n"
    }

    async fn serve(self: Arc<Self>, transport: Box<Transport>, shutdown: Shutdown) {
        let id = transport.session();
        debug!(session = %id, peer = %transport.peer(), protocol = Protocol::Imap.as_str(), "connected");
        let machine = Machine::new(
            Arc::clone(&self.machine),
            self.services.channel(&transport),
            Instant::now(),
        );
        let mut driven = ImapSession {
            machine,
            service: self,
            id,
            user: None,
            selected: None,
            keywords: None,
            incoming: None,
            sources: Vec::new(),
            idling: None,
            watching: None,
            news: false,
        };
        match run(&mut driven, transport, shutdown).await {
            Ok(()) => debug!(session = %id, "disconnected"),
            Err(error) => debug!(session = %id, %error, "connection lost"),
        }
        Box::pin(driven.leave()).await;
    }
}

struct ImapSession {
    machine: Machine,
    service: Arc<ImapService>,
    id: SessionId,
    user: Option<Box<User>>,
    selected: Option<Box<Selected>>,
    /// The account's keywords, as far as they were needed.
    keywords: Option<Arc<KeywordTable>>,
    incoming: Option<Box<Incoming>>,
    /// Octets that the machine may ask for, by their token.
    sources: Vec<Source>,
    idling: Option<Idling>,
    /// What NOTIFY asked to be told of.
    watching: Option<Box<Watching>>,
    /// Whether the selected mailbox has changed while the session waited.
    news: bool,
}

impl Session for ImapSession {
    async fn advance(&mut self, transport: &mut Transport) -> io::Result<Flow> {
        if std::mem::take(&mut self.news) {
            self.tell_news().await;
            Box::pin(self.tell_notices()).await;
        }
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Ask(ask) => self.reply(ask, transport).await?,
                Output::StartTls => self.start_tls(transport).await?,
                Output::Compress(begins) => transport.set_compressed(begins).await?,
                Output::Close => return Ok(Flow::Close),
                output => self.pass_on(output, transport).await?,
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
            Wake::Timeout => Input::Timeout,
            Wake::PeerClosed => Input::PeerClosed,
            Wake::Shutdown => Input::Shutdown(Farewell::ServerStops),
            Wake::Event => {
                self.news = true;
                return;
            }
        };
        self.machine.handle(now, input);
    }

    fn deadline(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Only in IDLE, and by NOTIFY, is the client told without asking.
    async fn event(&mut self) {
        let told = self.idling.is_some() || self.machine.pushes();
        match (self.selected.as_ref().filter(|_| told), &self.watching) {
            (Some(selected), None) => selected.changed().await,
            (Some(selected), Some(watching)) => {
                let (selected, watching) = (selected.changed(), watching.changed());
                Box::pin(async {
                    tokio::select! {
                        () = selected => {}
                        () = watching => {}
                    }
                })
                .await;
            }
            (None, Some(watching)) => Box::pin(watching.changed()).await,
            (None, None) => std::future::pending().await,
        }
    }
}

impl ImapSession {
    fn store(&self) -> &Store {
        &self.service.services.store
    }

    /// Answers a question.
    async fn reply(&mut self, ask: Ask, transport: &mut Transport) -> io::Result<()> {
        if !matches!(ask, Ask::AppendFinish) {
            self.service.commands.increment(1);
        }
        let answer = match self.answer(ask, transport).await {
            Ok(answer) => answer,
            Err(Failure::Connection(error)) => return Err(error),
            Err(Failure::Gone(farewell)) => {
                self.selected = None;
                self.machine
                    .handle(Instant::now(), Input::Shutdown(farewell));
                return Ok(());
            }
            Err(Failure::Refused(refusal)) => Answer::Refused(refusal),
            Err(Failure::Store(error, missing)) => {
                if error.is_temporary() {
                    warn!(session = %self.id, %error, "an IMAP command failed");
                }
                Answer::Refused(failure::refusal(&error, missing))
            }
        };
        self.machine.handle(Instant::now(), Input::Answer(answer));
        Ok(())
    }

    /// What is seldom asked is boxed, so that the frequent questions do not pay for its room.
    async fn answer(&mut self, ask: Ask, transport: &mut Transport) -> Result<Answer, Failure> {
        match ask {
            Ask::Fetch { uids, plan } => self.fetch(&uids, plan, transport).await,
            Ask::Store {
                uids,
                change,
                telling,
                unchanged_since,
            } => {
                let storing = self.store_flags(&uids, change, telling, unchanged_since, transport);
                Box::pin(storing).await
            }
            Ask::Refresh { checkpoint: false } => {
                self.refresh().await?;
                Ok(Answer::Done)
            }
            ask => Box::pin(self.answer_rare(ask, transport)).await,
        }
    }

    async fn answer_rare(
        &mut self,
        ask: Ask,
        transport: &mut Transport,
    ) -> Result<Answer, Failure> {
        match ask {
            Ask::Authenticate(question) => Ok(self.authenticate(&question, transport).await),
            Ask::Select {
                mailbox,
                read_only,
                resync,
            } => self.select(&mailbox, read_only, resync.as_deref()).await,
            Ask::Close { expunge } => self.close(expunge).await,
            Ask::Mailboxes(scope) => self.list_mailboxes(scope).await,
            Ask::Details {
                mailboxes,
                items,
                metadata,
            } => self.details(&mailboxes, &items, &metadata).await,
            Ask::Notify(plan) => self.notify(plan.map(|plan| *plan)).await,
            Ask::Status { mailbox, items } => self.status(&mailbox, &items).await,
            Ask::Create {
                mailbox,
                special_use,
            } => self.create(&mailbox, special_use).await,
            Ask::Delete(mailbox) => self.delete(&mailbox).await,
            Ask::Rename { from, to } => self.rename(&from, &to).await,
            Ask::Acl(ask) => self.acl(ask).await,
            Ask::Quota(ask) => self.answer_quota(ask).await,
            Ask::Metadata(ask) => self.answer_metadata(ask).await,
            Ask::Subscribe(mailbox) => self.subscribe(&mailbox, true).await,
            Ask::Unsubscribe(mailbox) => self.subscribe(&mailbox, false).await,
            Ask::AppendBegin(begin) => self.begin_append(begin).await,
            Ask::AppendUrl { url, octets_max } => self.append_url(&url, octets_max).await,
            Ask::AppendFinish => self.finish_append().await,
            Ask::AuthorizeUrl(url) => self.authorize_url(&url).await,
            Ask::FetchUrl(url) => self.fetch_url(&url).await,
            Ask::ResetUrlKeys(mailbox) => self.reset_url_keys(mailbox.as_ref()).await,
            Ask::Unauthenticate => Ok(self.unauthenticate(transport)),
            Ask::Copy { uids, target } => self.copy(&uids, &target, transport).await,
            Ask::Move { uids, target } => self.move_messages(&uids, &target, transport).await,
            Ask::Expunge { uids } => self.expunge(uids.as_ref()).await,
            Ask::Search(find) => self.search(*find, transport).await,
            Ask::Thread { key, threading } => self.thread(*key, threading, transport).await,
            Ask::SearchMailboxes {
                sources,
                key,
                modseqs,
            } => {
                self.search_mailboxes(&sources, *key, modseqs, transport)
                    .await
            }
            Ask::Refresh { .. } => self.checkpoint().await,
            Ask::Fetch { .. } | Ask::Store { .. } => Err(Failure::out_of_order()),
        }
    }

    /// Carries out what is no question and does not change the connection.
    async fn pass_on(&mut self, output: Output, transport: &mut Transport) -> io::Result<()> {
        match output {
            Output::Send(octets) => transport.send(octets),
            Output::SendBlob(range) => self.send_source(range, transport).await?,
            Output::Body(octets) => {
                if let Some(incoming) = &mut self.incoming {
                    incoming.push(&octets);
                }
            }
            Output::AbortBody => self.incoming = None,
            Output::Idle(begins) => self.set_idling(begins),
            Output::ClientId(pairs) => debug!(session = %self.id, ?pairs, "client named itself"),
            Output::Ask(_) | Output::StartTls | Output::Compress(_) | Output::Close => {}
        }
        Ok(())
    }

    /// Sends what the machine wrote while one of its questions is still open.
    async fn drain(&mut self, transport: &mut Transport) -> io::Result<()> {
        while let Some(output) = self.machine.poll_output() {
            self.pass_on(output, transport).await?;
        }
        if transport.is_full() {
            transport.flush().await?;
        }
        Ok(())
    }

    async fn start_tls(&mut self, transport: &mut Transport) -> io::Result<()> {
        self.service
            .services
            .start_tls(transport, Protocol::Imap)
            .await?;
        let channel = self.service.services.channel(transport).unwrap_or_default();
        self.machine
            .handle(Instant::now(), Input::TlsEstablished(channel));
        Ok(())
    }
}
