//! One connection to one address: a driver for the sending session of `nightmail_smtp`, for one message after another.
//!
//! Carries out what the session says, under its timeouts, and sorts the fates of recipients into those that are
//! decided and those for whom another address may do better. Once the whole content has been handed over and no
//! reply came, it is not known whether the peer has the message: that is a temporary failure here, never a reason to
//! send it to another host in the same attempt.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use nightmail_core::ReversePath;
use nightmail_queue::QueueMessage;
use nightmail_smtp::TlsFacts;
use nightmail_smtp::client::{
    Capabilities, Client, Config, Delivery, Failure, FailureKind, Fate, Input, Outcome, Output,
    Stage,
};
use nightmail_tlspolicy::ResultType;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::OwnedSemaphorePermit;

use crate::attempt::Wanted;
use crate::channel::Channel;
use crate::content::Content;
use crate::envelope::delivery;
use crate::error::DeliveryError;
use crate::retry::Ended;
use crate::route::Target;
use crate::share::{Batch, Share};
use crate::site::Site;
use crate::tls::Tls;
use crate::trouble::Trouble;
use crate::wire::Wire;

const READ_BYTES: usize = 4096;
/// Pieces up to this size are sent together.
const GATHER_BYTES: usize = 16 << 10;
/// Messages up to this size are read as a whole.
const SMALL_OCTETS_MAX: u64 = 64 << 10;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A session that did not come to where mail can be sent.
pub(crate) struct Unopened {
    /// Why.
    pub trouble: Trouble,
    /// Whether STARTTLS was taken and the handshake failed.
    pub tls_failed: bool,
    /// Whether TLS was wanted and not to be had, or failed.
    pub lacks_tls: bool,
    /// What domains are told of that, where TLS failed.
    pub tls_result: Option<ResultType>,
    /// Who has talked with whom.
    pub peering: Peering,
}

/// Who talks with whom, as domains are told of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Peering {
    /// The address that the connection comes from.
    pub local: Option<IpAddr>,
    /// The name by which the host has answered EHLO.
    pub hello: Option<String>,
}

impl Unopened {
    pub fn of(trouble: Trouble) -> Self {
        Self {
            trouble,
            tls_failed: false,
            lacks_tls: false,
            tls_result: None,
            peering: Peering::default(),
        }
    }
}

/// What offering one message came to.
#[derive(Default)]
pub(crate) struct Sent {
    /// Recipients whose fate is decided, by their places in the message.
    pub decided: Vec<(usize, Fate)>,
    /// The others.
    pub undecided: Vec<usize>,
    /// Why there are others.
    pub trouble: Option<Trouble>,
    /// Whether the host takes no more in this session, so that the others need another one (RFC 9422).
    pub full: bool,
    /// Whether the message could not be read here, which no other host would mend.
    pub unreadable: bool,
    /// Whether the connection ended before its time.
    pub ended_early: bool,
    /// What the host does for senders.
    pub peer: Peer,
}

/// What a host does for senders.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) struct Peer {
    /// It sends the reports that were asked for.
    reports: bool,
    /// It keeps the time that was given.
    keeps_time: bool,
}

impl Peer {
    /// How a recipient that the host has taken ended.
    pub const fn delivered(self) -> Ended {
        Ended::Delivered {
            peer_reports: self.reports,
            peer_keeps_time: self.keeps_time,
        }
    }
}

/// One transaction under way.
#[derive(Default)]
struct Transaction {
    content: Option<Content>,
    content_error: Option<DeliveryError>,
    outcome: Option<Outcome>,
}

/// A session with a host that is ready for mail, or over.
pub(crate) struct Connection {
    channel: Arc<Channel>,
    target: Target,
    client: Client,
    wire: Wire,
    local: Option<IpAddr>,
    buffer: Box<[u8]>,
    gathered: BytesMut,
    /// The peer no longer takes bytes; what it has said may still be read.
    write_failed: bool,
    share: Share,
    failure: Option<Failure>,
    tls_error: Option<String>,
    tls_result: Option<ResultType>,
    begun: Instant,
    messages: u32,
    permit: Option<OwnedSemaphorePermit>,
    linked: Option<Linked>,
}

/// Counts a connection among those of its site.
struct Linked(Arc<Site>);

impl Drop for Linked {
    fn drop(&mut self) {
        self.0.disconnected();
    }
}

impl Connection {
    /// Talks over `wire` until the host is ready for mail.
    pub async fn open(
        channel: Arc<Channel>,
        target: Target,
        config: Arc<Config>,
        wire: Wire,
        tls: Option<TlsFacts>,
    ) -> Result<Self, Unopened> {
        let now = Instant::now();
        let mut connection = Self {
            channel,
            target,
            client: Client::new(config, now, tls),
            local: wire.local_ip(),
            wire,
            buffer: vec![0; READ_BYTES].into_boxed_slice(),
            gathered: BytesMut::new(),
            write_failed: false,
            share: Share::default(),
            failure: None,
            tls_error: None,
            tls_result: None,
            begun: now,
            messages: 0,
            permit: None,
            linked: None,
        };
        connection.run(None).await;
        if connection.is_open() {
            return Ok(connection);
        }
        let unopened = connection.unopened();
        connection.close().await;
        Err(unopened)
    }

    fn unopened(&self) -> Unopened {
        let kind = self.failure.as_ref().map(|failure| failure.kind);
        Unopened {
            trouble: self.trouble(),
            tls_failed: kind == Some(FailureKind::TlsFailed),
            lacks_tls: matches!(
                kind,
                Some(FailureKind::TlsUnavailable | FailureKind::TlsFailed)
            ),
            tls_result: match kind {
                Some(FailureKind::TlsUnavailable) => Some(ResultType::StarttlsNotSupported),
                Some(FailureKind::TlsFailed) => {
                    Some(self.tls_result.unwrap_or(ResultType::ValidationFailure))
                }
                _ => None,
            },
            peering: self.peering(),
        }
    }

    /// Who talks with whom.
    pub fn peering(&self) -> Peering {
        let name = &self.offers().name;
        Peering {
            local: self.local,
            hello: (!name.is_empty()).then(|| name.to_string()),
        }
    }

    /// Where it goes.
    pub const fn target(&self) -> &Target {
        &self.target
    }

    /// Whether another message can be sent.
    pub const fn is_open(&self) -> bool {
        self.client.is_ready()
    }

    /// Messages offered so far.
    pub const fn messages(&self) -> u32 {
        self.messages
    }

    /// Since when.
    pub const fn begun(&self) -> Instant {
        self.begun
    }

    /// What the host offers.
    pub const fn offers(&self) -> &Capabilities {
        self.client.capabilities()
    }

    /// TLS, where there is.
    pub const fn tls(&self) -> Option<&TlsFacts> {
        self.client.tls()
    }

    /// Why the session ended.
    pub fn trouble(&self) -> Trouble {
        match &self.failure {
            Some(failure) => Trouble::of(failure, &self.target, self.tls_error.as_deref()),
            None => Trouble::temporary("4.4.2", format!("{} closed", self.target.host)),
        }
    }

    /// Keeps the right to a connection for as long as it lasts.
    pub fn hold(&mut self, permit: OwnedSemaphorePermit) {
        self.permit = Some(permit);
    }

    /// Counts as a connection to `site` for as long as it lasts.
    pub fn link(&mut self, site: &Arc<Site>) {
        site.connected();
        self.linked = Some(Linked(Arc::clone(site)));
    }

    /// Whether a message that wants that may go over it. What was opened without regard to promises is of no use to
    /// others.
    pub fn suits(&self, wanted: Wanted) -> bool {
        match wanted {
            Wanted::Nothing => true,
            Wanted::Usual => !self.target.relaxed,
            Wanted::Proof => !self.target.relaxed && self.target.protection.is_proven(),
        }
    }

    /// The channel that it belongs to.
    pub const fn channel(&self) -> &Arc<Channel> {
        &self.channel
    }

    /// Offers the message to the recipients at `indexes`, in as many transactions as the host wants, at most
    /// `usual_max` of them in each. `content` is all of the message, where it has been read already.
    pub async fn deliver(
        &mut self,
        message: &QueueMessage,
        content: Option<&[Bytes]>,
        indexes: &[usize],
        usual_max: usize,
    ) -> Sent {
        let channel = Arc::clone(&self.channel);
        self.messages = self.messages.saturating_add(1);
        let verp = channel.options.verp.as_ref();
        let verp = verp.filter(|verp| verp.fits(&message.reverse_path));
        let usual_max = if verp.is_some() { 1 } else { usual_max };
        let mut sent = Sent {
            peer: Peer {
                reports: self.offers().dsn,
                keeps_time: self.offers().deliver_by.is_some(),
            },
            ..Sent::default()
        };
        let mut left = indexes.to_vec();
        sent.trouble = self.unfit(message).await;
        let content = match (&sent.trouble, content) {
            (None, Some(content)) => content.to_vec(),
            (None, None) => self.small_content(message, &mut sent).await,
            (Some(_), _) => Vec::new(),
        };
        while !left.is_empty() && sent.trouble.is_none() {
            let offered = self.client.capabilities();
            let Some(batch) = self.share.next(&mut left, message, offered, usual_max) else {
                sent.full = true;
                break;
            };
            let mut delivery = delivery(message, &batch.indexes, nightmail_commit::now());
            delivery.content.clone_from(&content);
            if batch.silent {
                delivery.reverse_path = ReversePath::Null;
            } else if let Some(verp) = verp
                && let Some(recipient) = batch.first(message)
            {
                delivery.reverse_path = verp.path(&message.reverse_path, &recipient.address);
            }
            self.transact(message, batch, delivery, &mut sent).await;
        }
        sent.undecided.extend(left);
        sent
    }

    /// A small message as a whole, so that it goes out together with its envelope.
    async fn small_content(&self, message: &QueueMessage, sent: &mut Sent) -> Vec<Bytes> {
        if message.size() > SMALL_OCTETS_MAX {
            return Vec::new();
        }
        match Content::whole(self.channel.queue.committer(), message).await {
            Ok(content) => content,
            Err(error) => {
                sent.unreadable = true;
                sent.trouble = Some(unreadable(&error));
                Vec::new()
            }
        }
    }

    async fn transact(
        &mut self,
        message: &QueueMessage,
        batch: Batch,
        delivery: Delivery,
        sent: &mut Sent,
    ) {
        self.tell(Input::Deliver(Box::new(delivery)));
        let mut transaction = Transaction::default();
        self.run(Some((&mut transaction, message))).await;
        let (fates, in_doubt) = match transaction.outcome {
            Some(outcome) => (outcome.recipients, outcome.in_doubt),
            None => (Vec::new(), false),
        };
        let mut fates = fates.into_iter();
        for index in batch.indexes {
            match fates.next() {
                Some(fate) if in_doubt || !is_connection_lost(&fate) => {
                    sent.decided.push((index, fate));
                }
                _ => sent.undecided.push(index),
            }
        }
        if self.is_open() {
            return;
        }
        let kind = self.failure.as_ref().map(|failure| failure.kind);
        sent.unreadable = kind == Some(FailureKind::BodyFailed);
        sent.ended_early = !sent.unreadable;
        sent.trouble = Some(match transaction.content_error {
            Some(error) => unreadable(&error),
            None => self.trouble(),
        });
    }

    /// Carries out what the session says until it is ready or over.
    async fn run(&mut self, mut transaction: Option<(&mut Transaction, &QueueMessage)>) {
        loop {
            match self.client.poll_output() {
                Some(Output::Send(bytes)) => self.gather(&bytes).await,
                Some(Output::StartTls) => self.start_tls().await,
                Some(Output::WantBody) => {
                    if let Some((transaction, message)) = &mut transaction {
                        self.give_content(transaction, message).await;
                    }
                }
                Some(Output::Done(outcome)) => {
                    if let Some((transaction, _)) = &mut transaction {
                        transaction.outcome = Some(outcome);
                    }
                }
                Some(Output::Failed(failure)) => self.failure = Some(failure),
                Some(Output::Ready | Output::Close) => {}
                None if !self.gathered.is_empty() => self.flush().await,
                None if self.client.is_ready() || self.client.is_closed() => return,
                None => self.receive().await,
            }
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.client.handle(Instant::now(), input);
    }

    /// Puts small pieces together, so that what belongs together leaves together.
    async fn gather(&mut self, bytes: &[u8]) {
        if self.gathered.len() + bytes.len() > GATHER_BYTES {
            self.flush().await;
        }
        match bytes.len() > GATHER_BYTES {
            true => self.write(bytes).await,
            false => self.gathered.extend_from_slice(bytes),
        }
    }

    async fn flush(&mut self) {
        let mut gathered = std::mem::take(&mut self.gathered);
        if !gathered.is_empty() {
            self.write(&gathered).await;
            gathered.clear();
        }
        self.gathered = gathered;
    }

    /// Writes under the session's timeout. A failure is not the session's yet: the peer may have said why.
    async fn write(&mut self, bytes: &[u8]) {
        if self.write_failed {
            return;
        }
        let deadline = self.deadline();
        let written = tokio::time::timeout_at(deadline, async {
            self.wire.write_all(bytes).await?;
            self.wire.flush().await
        })
        .await;
        match written {
            Ok(Ok(())) => {}
            Ok(Err(_)) => self.write_failed = true,
            Err(_) => {
                self.write_failed = true;
                self.tell(Input::Timeout);
            }
        }
    }

    fn deadline(&self) -> tokio::time::Instant {
        let limit = Instant::now() + self.channel.options.limits.tls_timeout;
        self.client.poll_timeout().unwrap_or(limit).into()
    }

    async fn receive(&mut self) {
        let deadline = self.deadline();
        let read = tokio::time::timeout_at(deadline, self.wire.read(&mut self.buffer)).await;
        match read {
            Ok(Ok(count)) if count > 0 => {
                let bytes = self.buffer.get(..count).unwrap_or_default();
                self.client.handle(Instant::now(), Input::Bytes(bytes));
            }
            Ok(_) => self.tell(Input::PeerClosed),
            Err(_) => self.tell(Input::Timeout),
        }
    }

    async fn start_tls(&mut self) {
        self.flush().await;
        let Wire::Plain(stream) = std::mem::replace(&mut self.wire, Wire::Gone) else {
            return self.tell(Input::TlsFailed);
        };
        let limit = self.channel.options.limits.tls_timeout;
        let handshake = Tls::connect(&self.target, stream);
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok((stream, facts))) => {
                self.wire = Wire::Tls(stream);
                self.tell(Input::TlsEstablished(facts));
            }
            Ok(Err(error)) => {
                self.tls_result = Some(ResultType::of_handshake(&error));
                self.refuse_tls(error.to_string());
            }
            Err(_) => self.refuse_tls("the handshake timed out".into()),
        }
    }

    fn refuse_tls(&mut self, error: String) {
        self.tls_error = Some(error);
        self.tell(Input::TlsFailed);
    }

    async fn give_content(&mut self, transaction: &mut Transaction, message: &QueueMessage) {
        // A peer that takes no more bytes has said why, or has gone: content is kept back until that is read.
        if self.write_failed {
            return;
        }
        match self.next_content(transaction, message).await {
            Ok(Some(chunk)) => self.tell(Input::Body(chunk)),
            Ok(None) => {
                self.tell(Input::BodyEnd);
            }
            Err(error) => {
                transaction.content_error = Some(error);
                self.tell(Input::BodyFailed);
            }
        }
    }

    async fn next_content(
        &self,
        transaction: &mut Transaction,
        message: &QueueMessage,
    ) -> Result<Option<Bytes>, DeliveryError> {
        let content = match &mut transaction.content {
            Some(content) => content,
            None => {
                let opened = Content::open(self.channel.queue.committer(), message).await?;
                transaction.content.insert(opened)
            }
        };
        content.next().await
    }

    /// Waits, ready, for `wake` or for `time` to pass; a word from the host, or its going, ends the wait. Returns
    /// whether it was woken.
    pub async fn rest(&mut self, time: Duration, wake: impl Future<Output = ()>) -> bool {
        tokio::select! {
            () = wake => true,
            () = tokio::time::sleep(time) => false,
            () = self.receive() => {
                self.run(None).await;
                false
            }
        }
    }

    /// Says goodbye, where the session is not over, and closes the connection.
    pub async fn close(mut self) {
        self.tell(Input::Quit);
        self.run(None).await;
        // All replies have been read: how the connection ends does not matter any more.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.wire.shutdown()).await;
    }
}

/// Whether the connection broke before the recipient was decided.
fn is_connection_lost(fate: &Fate) -> bool {
    matches!(fate, Fate::Temporary(refusal) if refusal.stage == Stage::Connection)
}

fn unreadable(error: &DeliveryError) -> Trouble {
    Trouble::temporary("4.3.0", format!("the message could not be read: {error}"))
}
