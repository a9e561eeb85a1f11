//! Drives the POP3 machine: INBOX as it was at login is the maildrop.
//!
//! One session at a time holds an account's maildrop; delivery and IMAP go on meanwhile, and what they change is not
//! seen until the next login.
//!
//! **Invariant:** the octets announced for a message are those that RETR sends.

use std::collections::HashSet;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_cluster::{ClusterError, NodeLock};
use nightmail_core::{AccountId, MailboxId};
use nightmail_pop3::{
    Answer, Ask, Config, DotStuffer, Input, Limits, LoginRefusal, Maildrop, MessageEntry,
    MessageIndex, Output, RetrieveMode, Session as Machine, UniqueId,
};
use nightmail_sasl::{self as sasl, Question};
use nightmail_store::{MessageReader, MessageRow, StoreError};
use parking_lot::Mutex;
use tracing::{debug, warn};

use super::{Flow, Session, Wake, run};
use crate::auth::{Caller, LoggedIn};
use crate::config::{self, Protocol, TlsMode};
use crate::metrics;
use crate::net::{self, Service, Transport};
use crate::services::SharedServices;
use crate::shutdown::Shutdown;

/// Sessions of one POP3 listener.
pub struct Pop3Service {
    services: SharedServices,
    machine: Arc<Config>,
}

impl Pop3Service {
    /// A service for a listener.
    pub fn new(services: SharedServices, listener: &config::Listener) -> Self {
        let settings = &services.config;
        let mut machine = Config::new(services.hostname().as_str());
        machine.starttls = listener.tls_mode() == TlsMode::Starttls;
        machine.plaintext_login = listener.plaintext_auth;
        machine.mechanisms = services.logins.mechanisms();
        machine.login_delay_secs = whole_secs(settings.pop3.login_delay);
        machine.limits = Limits {
            bad_commands_max: u32::try_from(settings.limits.errors_max).unwrap_or(u32::MAX),
            auth_failures_max: u32::try_from(settings.limits.auth_failures_max).unwrap_or(u32::MAX),
            login_timeout: settings.timeouts.login,
            idle_timeout: settings.timeouts.pop3_idle,
            ..Limits::default()
        };
        Self {
            services,
            machine: Arc::new(machine),
        }
    }
}

/// Seconds as CAPA tells them; none where there is nothing to wait for.
fn whole_secs(delay: Duration) -> Option<u32> {
    let secs = u32::try_from(delay.as_secs()).unwrap_or(u32::MAX);
    (secs > 0).then_some(secs)
}

impl Service for Pop3Service {
    fn refusal(&self, _: net::Refusal) -> &'static [u8] {
        b"-ERR [SYS/TEMP] Too many connections\r\n"
    }

    async fn serve(self: Arc<Self>, transport: Box<Transport>, shutdown: Shutdown) {
        let session = transport.session();
        debug!(%session, peer = %transport.peer(), protocol = Protocol::Pop3.as_str(), "connected");
        let machine = Machine::new(
            Arc::clone(&self.machine),
            Instant::now(),
            self.services.channel(&transport),
        );
        let mut driven = Pop3Session {
            machine,
            service: self,
            user: None,
            open: None,
        };
        match run(&mut driven, transport, shutdown).await {
            Ok(()) => debug!(%session, "disconnected"),
            Err(error) => debug!(%session, %error, "connection lost"),
        }
    }
}

/// The accounts whose maildrop a session of this server holds.
#[derive(Default)]
pub struct MaildropLocks(Mutex<HashSet<AccountId>>);

/// Holds a maildrop until dropped, here and on every other node.
struct MaildropLock {
    /// Goes first: the next session here may then take it.
    everywhere: NodeLock,
    here: LocalLock,
}

/// Holds a maildrop within this process.
struct LocalLock {
    services: SharedServices,
    account: AccountId,
}

impl LocalLock {
    fn take(services: &SharedServices, account: AccountId) -> Option<Self> {
        services.maildrops.0.lock().insert(account).then(|| Self {
            services: Arc::clone(services),
            account,
        })
    }
}

impl MaildropLock {
    /// `None` while another session, here or on another node, holds it.
    async fn take(
        services: &SharedServices,
        account: AccountId,
    ) -> Result<Option<Self>, ClusterError> {
        let Some(here) = LocalLock::take(services, account) else {
            return Ok(None);
        };
        let name = format!("maildrop/{account}");
        let everywhere = services.cluster.lock(&name).await?;
        Ok(everywhere.map(|everywhere| Self { everywhere, here }))
    }

    async fn release(self) {
        self.everywhere.release().await;
        drop(self.here);
    }
}

impl Drop for LocalLock {
    fn drop(&mut self) {
        self.services.maildrops.0.lock().remove(&self.account);
    }
}

/// Why a maildrop cannot be opened.
enum NotOpened {
    TooSoon,
    Failed(String),
}

impl From<StoreError> for NotOpened {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

/// A maildrop that is open.
struct Open {
    lock: MaildropLock,
    inbox: MailboxId,
    uids: Vec<u32>,
    /// The rows of the messages that RETR will most likely ask for next, from the number they begin at.
    ahead: (usize, Vec<(u32, MessageRow)>),
}

/// Messages whose rows and places are looked up together.
const AHEAD: usize = 64;

struct Pop3Session {
    machine: Machine,
    service: Arc<Pop3Service>,
    /// Whoever was accepted last, until its maildrop is open.
    user: Option<LoggedIn>,
    open: Option<Box<Open>>,
}

/// The first chunks of a message: what this server put before it, then what was sent. Only the second shows that the
/// message's bytes can be read.
async fn begin(reader: &mut MessageReader) -> Result<[Option<Bytes>; 2], StoreError> {
    Ok([reader.next_chunk().await?, reader.next_chunk().await?])
}

impl Session for Pop3Session {
    async fn advance(&mut self, transport: &mut Transport) -> io::Result<Flow> {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Send(octets) => transport.send(octets),
                Output::SendMessage { index, mode, reply } => {
                    let answer = self.send_message(index, mode, &reply, transport).await?;
                    self.machine.handle(Instant::now(), Input::Answer(answer));
                }
                Output::Ask(ask) => {
                    let answer = self.answer(ask, transport).await;
                    self.machine.handle(Instant::now(), Input::Answer(answer));
                }
                Output::StartTls => {
                    self.service
                        .services
                        .start_tls(transport, Protocol::Pop3)
                        .await?;
                    let channel = self.service.services.channel(transport).unwrap_or_default();
                    self.machine
                        .handle(Instant::now(), Input::TlsEstablished(channel));
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

impl Pop3Session {
    async fn answer(&mut self, ask: Ask, transport: &Transport) -> Answer {
        match ask {
            Ask::Authenticate(question) => {
                Answer::Authentication(self.authenticate(&question, transport).await)
            }
            Ask::Open => match self.open_maildrop(transport).await {
                Ok(maildrop) => Answer::Opened(maildrop),
                Err(refusal) => Answer::Refused(refusal),
            },
            Ask::Update { delete } => self.update(&delete, transport).await,
        }
    }

    async fn authenticate(&mut self, question: &Question, transport: &Transport) -> sasl::Answer {
        let services = &self.service.services;
        let caller = Caller::of(Protocol::Pop3, transport);
        let decided = services.authenticate(caller, question).await;
        self.user = decided.user;
        decided.answer
    }

    /// Locks and lists the maildrop of whoever was accepted last.
    async fn open_maildrop(&mut self, transport: &Transport) -> Result<Maildrop, LoginRefusal> {
        let session = transport.session();
        let user = self.user.take().ok_or(LoginRefusal::TempFail)?;
        let services = &self.service.services;
        let lock = match MaildropLock::take(services, user.account).await {
            Ok(Some(lock)) => lock,
            Ok(None) => return Err(LoginRefusal::InUse),
            Err(error) => {
                warn!(%session, user = %user.address, %error, "a maildrop could not be locked");
                return Err(LoginRefusal::TempFail);
            }
        };
        let opened = self.open_after_delay(&user, lock).await;
        let (open, maildrop) = opened.map_err(|error| match error {
            NotOpened::TooSoon => LoginRefusal::TooSoon,
            NotOpened::Failed(error) => {
                warn!(%session, user = %user.address, %error, "a maildrop could not be opened");
                LoginRefusal::TempFail
            }
        })?;
        debug!(%session, user = %user.address, messages = maildrop.messages.len(), "maildrop opened");
        self.open = Some(Box::new(open));
        Ok(maildrop)
    }

    async fn open_after_delay(
        &self,
        user: &LoggedIn,
        lock: MaildropLock,
    ) -> Result<(Open, Maildrop), NotOpened> {
        let delay = self.login_delay(user).await?;
        if let Some(secs) = delay {
            let delay = Duration::from_secs(secs.into());
            let store = &self.service.services.store;
            let now = nightmail_commit::now();
            if !store.note_pop3_login(user.account, now, delay).await? {
                return Err(NotOpened::TooSoon);
            }
        }
        let (open, mut maildrop) = self.open(user, lock).await?;
        maildrop.login_delay_secs = delay;
        Ok((open, maildrop))
    }

    /// How long this account has to wait between logins, in seconds.
    async fn login_delay(&self, user: &LoggedIn) -> Result<Option<u32>, NotOpened> {
        let services = &self.service.services;
        let record = services.directory.account(user.account).await;
        let record = record.map_err(|error| NotOpened::Failed(error.to_string()))?;
        let own = record.and_then(|record| record.services.login_delay_secs);
        let usual = whole_secs(services.config.pop3.login_delay);
        Ok(own.or(usual).filter(|secs| *secs > 0))
    }

    async fn open(
        &self,
        user: &LoggedIn,
        lock: MaildropLock,
    ) -> Result<(Open, Maildrop), StoreError> {
        let store = &self.service.services.store;
        let inbox = store.inbox(user.account).await?;
        let snapshot = store.snapshot(inbox).await?;
        let mut brought = store.unique_ids(inbox).await?;
        let mut uids = Vec::with_capacity(snapshot.uids.len());
        let mut messages = Vec::with_capacity(snapshot.uids.len());
        for page in snapshot.raw_uids().chunks(1000) {
            for (uid, row) in store.rows(inbox, page).await? {
                let own = || format!("{:08x}{uid:08x}", snapshot.uid_validity.get());
                let unique = brought.remove(&uid).unwrap_or_else(own);
                let Some(uid_text) = UniqueId::parse(&unique) else {
                    continue;
                };
                uids.push(uid);
                messages.push(MessageEntry {
                    uid: uid_text,
                    octets: row.size + row.missing_line_ends,
                });
            }
        }
        let open = Open {
            lock,
            inbox,
            uids,
            ahead: (0, Vec::new()),
        };
        let maildrop = Maildrop {
            messages,
            login_delay_secs: None,
            expire_days: store.folder_settings(inbox).await?.expire_after_days,
        };
        Ok((open, maildrop))
    }

    /// Ends the maildrop: whoever has read the answer finds it free.
    async fn update(&mut self, delete: &[MessageIndex], transport: &Transport) -> Answer {
        let Some(open) = self.open.take() else {
            return Answer::UpdateFailed;
        };
        let answer = self.remove(&open, delete, transport).await;
        open.lock.release().await;
        answer
    }

    async fn remove(&self, open: &Open, delete: &[MessageIndex], transport: &Transport) -> Answer {
        if delete.is_empty() {
            return Answer::Updated;
        }
        let session = transport.session();
        let uids: Vec<u32> = delete
            .iter()
            .filter_map(|index| open.uids.get(index.get()).copied())
            .collect();
        let store = &self.service.services.store;
        match store
            .remove(open.lock.here.account, open.inbox, &uids)
            .await
        {
            Ok(removed) => {
                debug!(%session, messages = removed.len(), "messages removed");
                Answer::Updated
            }
            Err(error) => {
                warn!(%session, %error, "messages could not be removed");
                Answer::UpdateFailed
            }
        }
    }

    /// Sends a message; an error ends the connection, which is all that is left to do once a part of it is out.
    async fn send_message(
        &mut self,
        index: MessageIndex,
        mode: RetrieveMode,
        reply: &[u8],
        transport: &mut Transport,
    ) -> io::Result<Answer> {
        let session = transport.session();
        let mut reader = match self.open_message(index).await {
            Ok(Some(reader)) => reader,
            Ok(None) => return Ok(Answer::Unavailable),
            Err(error) => {
                warn!(%session, %error, "a message could not be opened");
                return Ok(Answer::Unavailable);
            }
        };
        let mut stuffer = DotStuffer::new(mode);
        let mut begin = match begin(&mut reader).await {
            Ok(begin) => begin.into_iter().flatten(),
            Err(error) => {
                warn!(%session, %error, "a message could not be read");
                return Ok(Answer::Unavailable);
            }
        };
        transport.buffer().extend_from_slice(reply);
        loop {
            let octets = match begin.next() {
                Some(octets) => octets,
                None => match reader.next_chunk().await.map_err(io::Error::other)? {
                    Some(octets) => octets,
                    None => break,
                },
            };
            stuffer.push(&octets, transport.buffer());
            if stuffer.is_done() {
                break;
            }
            if transport.is_full() {
                transport.flush().await?;
            }
        }
        stuffer.finish(transport.buffer());
        metrics::plain_counter(metrics::POP3_RETRIEVED).increment(1);
        Ok(Answer::Sent)
    }

    /// The message, unless somebody else has removed it since login.
    async fn open_message(
        &mut self,
        index: MessageIndex,
    ) -> Result<Option<MessageReader>, StoreError> {
        let store = &self.service.services.store;
        let Some(open) = &mut self.open else {
            return Ok(None);
        };
        let Some(&uid) = open.uids.get(index.get()) else {
            return Ok(None);
        };
        let (from, rows) = &open.ahead;
        if !(*from..from + AHEAD).contains(&index.get()) || rows.is_empty() {
            let to = (index.get() + AHEAD).min(open.uids.len());
            let page = open.uids.get(index.get()..to).unwrap_or_default();
            let rows = store.rows(open.inbox, page).await?;
            let blobs: Vec<_> = rows.iter().map(|(_, row)| row.blob).collect();
            store.find_places(&blobs).await?;
            open.ahead = (index.get(), rows);
        }
        let (_, rows) = &open.ahead;
        let row = rows
            .binary_search_by_key(&uid, |(uid, _)| *uid)
            .ok()
            .and_then(|at| rows.get(at));
        Ok(row
            .map(|(_, row)| MessageReader::new(store.clone(), &row.prefix, row.blob, 0..row.size)))
    }
}
