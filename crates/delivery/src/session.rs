//! One connection to one address: a driver for the sending session of `nightmail_smtp`.
//!
//! Carries out what the session says, under its timeouts, and sorts the fates of recipients into those that are
//! decided and those for whom another address may do better. Once the whole content has been handed over and no
//! reply came, it is not known whether the peer has the message: that is a temporary failure here, never a reason to
//! send it to another host in the same attempt.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::ReversePath;
use nightmail_queue::QueueMessage;
use nightmail_smtp::TlsFacts;
use nightmail_smtp::client::{
    Client, Config, Failure, FailureKind, Fate, Input, Outcome, Output, Stage,
};
use nightmail_switch::report::header_of;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use crate::attempt::insists_on_tls;
use crate::channel::Channel;
use crate::content::Content;
use crate::envelope::{delivery, seconds_left};
use crate::error::DeliveryError;
use crate::retry::{Ended, TIME_OVER};
use crate::route::{Protection, Target};
use crate::share::Share;

const READ_BYTES: usize = 4096;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// The message needs a host that keeps it under TLS (RFC 8689 §4.2.1).
const TLS_REQUIRED: &str = "5.7.30";
/// The header has UTF-8, which the host does not take (RFC 6531 §3.5).
const UTF8_HEADER: &str = "5.6.9";

/// Why a session ended without deciding everything.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Trouble {
    /// Whether the host said that it will never take this.
    pub permanent: bool,
    /// The enhanced status code.
    pub status: String,
    /// The host's reply, on one line.
    pub reply: Option<String>,
    /// What to tell a person.
    pub text: String,
}

impl Trouble {
    pub fn permanent(status: &str, text: impl Into<String>) -> Self {
        Self {
            permanent: true,
            ..Self::temporary(status, text)
        }
    }

    pub fn temporary(status: &str, text: impl Into<String>) -> Self {
        Self {
            permanent: false,
            status: status.into(),
            reply: None,
            text: text.into(),
        }
    }
}

/// What a session came to.
#[derive(Default)]
pub(crate) struct Sent {
    /// Recipients whose fate is decided, by their places in the message.
    pub decided: Vec<(usize, Fate)>,
    /// The others.
    pub undecided: Vec<usize>,
    /// Why there are others.
    pub trouble: Option<Trouble>,
    /// Whether STARTTLS was taken and the handshake failed.
    pub tls_failed: bool,
    /// Whether the host takes no more in that session, so that the others need another one (RFC 9422).
    pub full: bool,
    /// Whether the message could not be read here, which no other host would mend.
    pub unreadable: bool,
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

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// Taken away for a handshake that failed.
    Gone,
}

struct Session<'a> {
    channel: &'a Channel,
    target: &'a Target,
    message: &'a QueueMessage,
    client: Client,
    stream: Stream,
    /// The peer no longer takes bytes; what it has said may still be read.
    write_failed: bool,
    share: Share,
    current: Vec<usize>,
    content: Option<Content>,
    content_error: Option<DeliveryError>,
    /// The whole content of the current transaction has been handed to the session.
    content_sent: bool,
    tls_error: Option<String>,
    sent: Sent,
}

impl Channel {
    /// Connects to `target` and offers the message to the recipients at `indexes`.
    pub(crate) async fn send(
        &self,
        target: &Target,
        config: Arc<Config>,
        message: &QueueMessage,
        indexes: &[usize],
    ) -> Sent {
        let (stream, tls) = match self.connect(target).await {
            Ok(connected) => connected,
            Err(trouble) => {
                return Sent {
                    undecided: indexes.to_vec(),
                    trouble: Some(trouble),
                    ..Sent::default()
                };
            }
        };
        let session = Session {
            channel: self,
            target,
            message,
            client: Client::new(config, Instant::now(), tls),
            stream,
            write_failed: false,
            share: Share::new(indexes),
            current: Vec::new(),
            content: None,
            content_error: None,
            content_sent: false,
            tls_error: None,
            sent: Sent::default(),
        };
        session.run().await
    }

    async fn connect(&self, target: &Target) -> Result<(Stream, Option<TlsFacts>), Trouble> {
        let limits = &self.options.limits;
        let connecting = TcpStream::connect(target.address);
        let stream = match tokio::time::timeout(limits.connect_timeout, connecting).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                return Err(Trouble::temporary(
                    "4.4.1",
                    format!("connect to {}: {error}", target.address),
                ));
            }
            Err(_) => {
                return Err(Trouble::temporary(
                    "4.4.1",
                    format!("connect to {}: timed out", target.address),
                ));
            }
        };
        // Pieces are sent whole; waiting for more only costs time. A socket that cannot do it works all the same.
        let _ = stream.set_nodelay(true);
        if target.protection != Protection::Implicit {
            return Ok((Stream::Plain(stream), None));
        }
        match tokio::time::timeout(limits.tls_timeout, self.tls.connect(target, stream)).await {
            Ok(Ok((stream, facts))) => Ok((Stream::Tls(stream), Some(facts))),
            Ok(Err(error)) => Err(Trouble::temporary(
                "4.7.5",
                format!("TLS with {}: {error}", target.host),
            )),
            Err(_) => Err(Trouble::temporary(
                "4.4.2",
                format!("TLS with {}: timed out", target.host),
            )),
        }
    }
}

impl Session<'_> {
    async fn run(mut self) -> Sent {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            while let Some(output) = self.client.poll_output() {
                self.carry_out(output).await;
            }
            if self.client.is_closed() {
                return self.finish().await;
            }
            self.receive(&mut buffer).await;
        }
    }

    async fn carry_out(&mut self, output: Output) {
        match output {
            Output::Send(bytes) => self.write(&bytes).await,
            Output::StartTls => self.start_tls().await,
            Output::Ready => self.next_transaction().await,
            Output::WantBody => self.give_content().await,
            Output::Done(outcome) => self.sort(outcome),
            Output::Failed(failure) => self.note(&failure),
            Output::Close => {}
        }
    }

    fn tell(&mut self, input: Input<'_>) {
        self.client.handle(Instant::now(), input);
    }

    async fn next_transaction(&mut self) {
        let offered = self.client.capabilities();
        self.sent.peer = Peer {
            reports: offered.dsn,
            keeps_time: offered.deliver_by.is_some(),
        };
        if self.share.is_empty() {
            return self.tell(Input::Quit);
        }
        if let Some(trouble) = self.unfit().await {
            self.sent.trouble = Some(trouble);
            return self.tell(Input::Quit);
        }
        let usual_max = self.channel.options.limits.recipients_per_transaction_max;
        let offered = self.client.capabilities();
        let Some(batch) = self.share.next(self.message, offered, usual_max) else {
            self.sent.full = true;
            return self.tell(Input::Quit);
        };
        self.content = None;
        self.content_sent = false;
        let mut delivery = delivery(self.message, &batch.indexes, nightmail_commit::now());
        if batch.silent {
            delivery.reverse_path = ReversePath::Null;
        }
        self.current = batch.indexes;
        self.tell(Input::Deliver(Box::new(delivery)));
    }

    /// Why this host cannot be given the message, although another might.
    async fn unfit(&self) -> Option<Trouble> {
        let offered = self.client.capabilities();
        let verified = self.client.tls().is_some_and(|tls| tls.peer_verified);
        let host = &self.target.host;
        if insists_on_tls(self.message) && !(verified && offered.requiretls) {
            let text = format!("{host} does not promise to pass the message on over TLS only");
            return Some(Trouble::permanent(TLS_REQUIRED, text));
        }
        if let Some(by) = self.message.demands.deliver_by.filter(|by| !by.notify) {
            let left = seconds_left(by, nightmail_commit::now());
            match offered.deliver_by {
                None => {
                    let text = format!("{host} does not keep the time in which to deliver");
                    return Some(Trouble::permanent("5.3.3", text));
                }
                Some(least) if left < i64::from(least).max(1) => {
                    let text = format!("{left} seconds are left, too few for {host}");
                    return Some(Trouble::permanent(TIME_OVER, text));
                }
                Some(_) => {}
            }
        }
        if self.message.smtputf8 && !offered.smtputf8 {
            return self.unfit_for_ascii().await;
        }
        None
    }

    /// Whether a message that may use UTF-8 in its header does. Addresses are looked at one by one (RFC 6531 §3.2).
    async fn unfit_for_ascii(&self) -> Option<Trouble> {
        let octets_max = self.channel.options.limits.report_header_octets_max;
        let head = self.channel.head(self.message, octets_max).await;
        match head.map(header_of) {
            Ok(header) if header.is_ascii() => None,
            Ok(_) => {
                let host = &self.target.host;
                let text = format!("{host} does not take UTF-8 in header fields");
                Some(Trouble::permanent(UTF8_HEADER, text))
            }
            Err(error) => Some(Trouble::temporary(
                "4.3.0",
                format!("the message could not be read: {error}"),
            )),
        }
    }

    /// Writes under the session's timeout. A failure is not the session's yet: the peer may have said why.
    async fn write(&mut self, bytes: &[u8]) {
        if self.write_failed {
            return;
        }
        let deadline = self.deadline();
        let written = tokio::time::timeout_at(deadline, async {
            self.stream.write_all(bytes).await?;
            self.stream.flush().await
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

    async fn receive(&mut self, buffer: &mut [u8]) {
        let deadline = self.deadline();
        let read = tokio::time::timeout_at(deadline, self.stream.read(buffer)).await;
        match read {
            Ok(Ok(count)) if count > 0 => {
                let bytes = buffer.get(..count).unwrap_or_default();
                self.client.handle(Instant::now(), Input::Bytes(bytes));
            }
            Ok(_) => self.tell(Input::PeerClosed),
            Err(_) => self.tell(Input::Timeout),
        }
    }

    async fn start_tls(&mut self) {
        let Stream::Plain(stream) = std::mem::replace(&mut self.stream, Stream::Gone) else {
            return self.tell(Input::TlsFailed);
        };
        let limit = self.channel.options.limits.tls_timeout;
        let handshake = self.channel.tls.connect(self.target, stream);
        match tokio::time::timeout(limit, handshake).await {
            Ok(Ok((stream, facts))) => {
                self.stream = Stream::Tls(stream);
                self.tell(Input::TlsEstablished(facts));
            }
            Ok(Err(error)) => self.refuse_tls(error),
            Err(_) => self.refuse_tls("the handshake timed out".into()),
        }
    }

    fn refuse_tls(&mut self, error: String) {
        self.tls_error = Some(error);
        self.tell(Input::TlsFailed);
    }

    async fn give_content(&mut self) {
        // A peer that takes no more bytes has said why, or has gone: content is kept back until that is read.
        if self.write_failed {
            return;
        }
        match self.next_content().await {
            Ok(Some(chunk)) => self.tell(Input::Body(chunk)),
            Ok(None) => {
                self.content_sent = true;
                self.tell(Input::BodyEnd);
            }
            Err(error) => {
                self.content_error = Some(error);
                self.tell(Input::BodyFailed);
            }
        }
    }

    async fn next_content(&mut self) -> Result<Option<Bytes>, DeliveryError> {
        let content = match &mut self.content {
            Some(content) => content,
            None => {
                let opened = Content::open(self.channel.queue.committer(), self.message).await?;
                self.content.insert(opened)
            }
        };
        content.next().await
    }

    /// Sorts the fates of one transaction.
    fn sort(&mut self, outcome: Outcome) {
        let batch = std::mem::take(&mut self.current);
        for (index, fate) in batch.into_iter().zip(outcome.recipients) {
            if is_connection_lost(&fate) && !self.content_sent {
                self.sent.undecided.push(index);
            } else {
                self.sent.decided.push((index, fate));
            }
        }
    }

    fn note(&mut self, failure: &Failure) {
        self.sent.tls_failed = failure.kind == FailureKind::TlsFailed;
        self.sent.unreadable = failure.kind == FailureKind::BodyFailed;
        let trouble = match &self.content_error {
            Some(error) => {
                Trouble::temporary("4.3.0", format!("the message could not be read: {error}"))
            }
            None => {
                let trouble = trouble(failure, self.target, self.tls_error.as_deref());
                self.without_tls(failure.kind, trouble)
            }
        };
        self.sent.trouble = Some(trouble);
    }

    /// A message that needs TLS is not kept until a host has it (RFC 8689 §4.2.1).
    fn without_tls(&self, kind: FailureKind, trouble: Trouble) -> Trouble {
        let lacks_tls = matches!(kind, FailureKind::TlsUnavailable | FailureKind::TlsFailed);
        if !(insists_on_tls(self.message) && lacks_tls) {
            return trouble;
        }
        Trouble {
            permanent: true,
            status: TLS_REQUIRED.into(),
            ..trouble
        }
    }

    async fn finish(mut self) -> Sent {
        self.sent.undecided.extend(self.share.left());
        // All replies have been read: how the connection ends does not matter any more.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, self.stream.shutdown()).await;
        self.sent
    }
}

fn is_connection_lost(fate: &Fate) -> bool {
    matches!(fate, Fate::Temporary(refusal) if refusal.stage == Stage::Connection)
}

/// What a failed session means.
fn trouble(failure: &Failure, target: &Target, tls_error: Option<&str>) -> Trouble {
    let (status, text) = match failure.kind {
        FailureKind::Greeting => ("4.3.2", "greeted with a refusal".to_owned()),
        FailureKind::Hello => ("4.5.0", "refused EHLO".to_owned()),
        FailureKind::TlsUnavailable => {
            ("4.7.4", "TLS is required and was not to be had".to_owned())
        }
        FailureKind::TlsFailed => (
            "4.7.5",
            format!("TLS failed: {}", tls_error.unwrap_or("no reason given")),
        ),
        FailureKind::AuthUnavailable => ("4.7.4", "no way to authenticate".to_owned()),
        FailureKind::AuthRefused => ("4.7.8", "authentication refused".to_owned()),
        FailureKind::TimedOut => ("4.4.2", "did not answer in time".to_owned()),
        FailureKind::ClosedByPeer => ("4.4.2", "closed the connection".to_owned()),
        FailureKind::Malformed(error) => ("4.5.0", error.to_string()),
        FailureKind::Unexpected => ("4.5.0", "gave a reply out of turn".to_owned()),
        FailureKind::BodyFailed => ("4.3.0", "the message could not be read".to_owned()),
    };
    let refuses_all = matches!(failure.kind, FailureKind::Greeting | FailureKind::Hello);
    let reply = failure.reply.as_ref();
    let permanent = refuses_all && reply.is_some_and(|reply| reply.is_permanent());
    let class = if permanent { 5 } else { 4 };
    let said = reply
        .and_then(|reply| reply.enhanced())
        .filter(|enhanced| enhanced.class() == class);
    let status = match said {
        Some(enhanced) => enhanced.to_string(),
        None if permanent => "5.3.2".into(),
        None => status.into(),
    };
    Trouble {
        permanent,
        status,
        reply: reply.map(ToString::to_string),
        text: format!("{}[{}]: {text}", target.host, target.address.ip()),
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Gone => Poll::Ready(Err(io::ErrorKind::NotConnected.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Gone => Poll::Ready(Ok(())),
        }
    }
}
