//! One connection as a driver sees it: plain or TLS octets in and out, with deadlines.
//!
//! While a connection waits it owns no buffer: reads go through a buffer of the thread, and what was written is
//! given back. Under TLS the library keeps a buffer of 4 KiB of its own.
//!
//! **Invariant:** [`Transport::start_tls`] begins with an empty read buffer, as there is none; octets that a
//! client sent in clear behind its STARTTLS are with the protocol machine, which drops them.

use std::cell::Cell;
use std::future::{Future, pending};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use nightmail_core::SessionId;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::deflate::Compression;
use super::outgoing::Outgoing;
use super::stream::{Peer, Stream};

/// Octets taken from a socket at once.
const READ_OCTETS: usize = 16 * 1024;
/// A driver should flush once this many octets wait to be written.
pub const OUTGOING_OCTETS_HIGH: usize = 64 * 1024;
/// After the last reply, a peer that still sends is read for this long, lest the reply be lost to a reset.
const LINGER: Duration = Duration::from_secs(2);
/// And for at most this many octets.
const LINGER_OCTETS_MAX: usize = 256 * 1024;

thread_local! {
    /// The buffers of this thread, taken while in use.
    static SCRATCH: Cell<Option<Box<Scratch>>> = const { Cell::new(None) };
}

struct Scratch {
    wire: [u8; READ_OCTETS],
    plain: Vec<u8>,
    inflated: Vec<u8>,
}

impl Scratch {
    fn take() -> Box<Self> {
        SCRATCH.take().unwrap_or_else(|| {
            Box::new(Self {
                wire: [0; READ_OCTETS],
                plain: Vec::new(),
                inflated: Vec::new(),
            })
        })
    }

    fn put(self: Box<Self>) {
        SCRATCH.set(Some(self));
    }
}

/// What [`Transport::try_recv`] found.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Received {
    /// So many octets were handed over.
    Bytes(usize),
    /// The peer will send no more.
    Eof,
    /// Nothing is there yet.
    Nothing,
}

/// How [`Transport::recv`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Recv {
    /// So many octets were handed over.
    Bytes(usize),
    /// The peer will send no more.
    Eof,
    /// The deadline passed.
    Timeout,
}

/// How [`Transport::recv_or`] ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RecvOr<T> {
    /// So many octets were handed over.
    Bytes(usize),
    /// The peer will send no more.
    Eof,
    /// The deadline passed.
    Timeout,
    /// The event came first.
    Event(T),
}

/// Why [`Transport::ready_or`] returned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready<T> {
    /// There may be something to read: call [`Transport::try_recv`].
    Input,
    /// The deadline passed.
    Timeout,
    /// The event came first.
    Event(T),
}

/// Octets of `tls-exporter` (RFC 9266 §2).
const EXPORTER_OCTETS: usize = 32;

/// What was agreed in the TLS handshake.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TlsInfo {
    /// Such as `TLSv1.3`.
    pub version: &'static str,
    /// Such as `TLS13_AES_256_GCM_SHA384`.
    pub cipher: String,
}

/// A connection.
pub struct Transport {
    stream: Stream,
    tls: Option<Box<rustls::Connection>>,
    compression: Option<Box<Compression>>,
    outgoing: Outgoing,
    write_timeout: Duration,
    session: SessionId,
    peer: Peer,
}

impl Transport {
    /// Takes over a connected socket. `write_timeout` bounds each wait for the peer to take something.
    pub fn new(stream: Stream, peer: Peer, session: SessionId, write_timeout: Duration) -> Self {
        Self {
            stream,
            tls: None,
            compression: None,
            outgoing: Outgoing::default(),
            write_timeout,
            session,
            peer,
        }
    }

    /// The connection itself, for waiting, and before anything has been sent through here.
    pub(super) const fn stream(&self) -> &Stream {
        &self.stream
    }

    /// Connects to a server.
    pub async fn connect(
        address: SocketAddr,
        connect_timeout: Duration,
        write_timeout: Duration,
    ) -> io::Result<Self> {
        let stream = timeout(connect_timeout, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        let session = crate::log::next_session();
        Ok(Self::new(
            Stream::Tcp(stream),
            Peer::tcp(address),
            session,
            write_timeout,
        ))
    }

    /// The id that this connection's log lines carry.
    pub const fn session(&self) -> SessionId {
        self.session
    }

    /// Who is at the other end.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// What TLS was agreed; `None` on a plain connection.
    pub fn tls_info(&self) -> Option<TlsInfo> {
        let tls = self.tls.as_deref()?;
        let suite = tls.negotiated_cipher_suite()?;
        let version = match tls.protocol_version() {
            Some(rustls::ProtocolVersion::TLSv1_3) => "TLSv1.3",
            _ => "TLSv1.2",
        };
        Some(TlsInfo {
            version,
            cipher: format!("{:?}", suite.suite()),
        })
    }

    /// The certificates that the client has shown, its own first, as it sent them: nobody has vouched for them yet.
    pub fn client_certificates(&self) -> &[CertificateDer<'static>] {
        let tls = self.tls.as_deref();
        tls.and_then(|tls| tls.peer_certificates())
            .unwrap_or_default()
    }

    /// The name that a client of ours has asked for in its handshake (SNI).
    pub fn asked_name(&self) -> Option<&str> {
        match self.tls.as_deref()? {
            rustls::Connection::Server(server) => server.server_name(),
            rustls::Connection::Client(_) => None,
        }
    }

    /// What `tls-exporter` binds a login to (RFC 9266). None before TLS 1.3, where the handshake need not make it unique.
    pub fn exporter(&self) -> Option<Vec<u8>> {
        let tls = self.tls.as_deref()?;
        if tls.protocol_version() != Some(rustls::ProtocolVersion::TLSv1_3) {
            return None;
        }
        let label = b"EXPORTER-Channel-Binding";
        tls.export_keying_material(vec![0; EXPORTER_OCTETS], label, None)
            .ok()
    }

    /// Whether the connection uses TLS.
    pub const fn is_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Hands what is there to `take`, without waiting. `take` is called at most once.
    pub fn try_recv(&mut self, take: impl FnOnce(&[u8])) -> io::Result<Received> {
        let mut take = Some(take);
        let mut once = |octets: &[u8]| {
            if let Some(take) = take.take() {
                take(octets);
            }
        };
        let mut scratch = Scratch::take();
        let tls = self.tls.as_deref_mut();
        let received = match self.compression.as_deref_mut() {
            None => recv(tls, &self.stream, &mut scratch, &mut once),
            Some(packed) => recv_packed(packed, tls, &self.stream, &mut scratch, &mut once),
        };
        scratch.put();
        received
    }

    /// Waits until there is something to read, a deadline passes or an event comes, whichever is first.
    ///
    /// Call [`Transport::try_recv`] until it finds `Nothing` before waiting.
    pub async fn ready_or<T>(
        &mut self,
        deadline: Option<Instant>,
        event: impl Future<Output = T>,
    ) -> io::Result<Ready<T>> {
        self.outgoing.release();
        if let Some(compression) = &mut self.compression {
            compression.release();
        }
        tokio::select! {
            biased;
            event = event => Ok(Ready::Event(event)),
            ready = self.stream.readable() => ready.map(|()| Ready::Input),
            () = passed(deadline) => Ok(Ready::Timeout),
        }
    }

    /// Waits for octets and hands them to `take`.
    pub async fn recv(
        &mut self,
        deadline: Option<Instant>,
        take: impl FnOnce(&[u8]),
    ) -> io::Result<Recv> {
        let received = self.recv_or(deadline, pending::<()>(), take).await?;
        Ok(match received {
            RecvOr::Bytes(count) => Recv::Bytes(count),
            RecvOr::Eof => Recv::Eof,
            RecvOr::Timeout | RecvOr::Event(()) => Recv::Timeout,
        })
    }

    /// Waits for octets and hands them to `take`, or returns when an event comes first.
    pub async fn recv_or<T>(
        &mut self,
        deadline: Option<Instant>,
        event: impl Future<Output = T>,
        take: impl FnOnce(&[u8]),
    ) -> io::Result<RecvOr<T>> {
        let mut take = Some(take);
        tokio::pin!(event);
        // A peer that sends without pause must not keep the other sessions of this thread from running.
        tokio::task::coop::consume_budget().await;
        loop {
            let received = self.try_recv(|octets| {
                if let Some(take) = take.take() {
                    take(octets);
                }
            })?;
            match received {
                Received::Bytes(count) => return Ok(RecvOr::Bytes(count)),
                Received::Eof => return Ok(RecvOr::Eof),
                Received::Nothing => {}
            }
            match self.ready_or(deadline, event.as_mut()).await? {
                Ready::Input => {}
                Ready::Timeout => return Ok(RecvOr::Timeout),
                Ready::Event(event) => return Ok(RecvOr::Event(event)),
            }
        }
    }

    /// Queues octets behind what waits already.
    pub fn send(&mut self, octets: Bytes) {
        self.outgoing.push(octets);
    }

    /// The buffer that small pieces are appended to, behind what waits already.
    pub fn buffer(&mut self) -> &mut Vec<u8> {
        self.outgoing.tail()
    }

    /// Octets that wait to be written.
    pub fn queued(&self) -> usize {
        let packed = self.compression.as_ref();
        self.outgoing.len() + packed.map_or(0, |compression| compression.packed.len())
    }

    /// Whether so much waits that the driver should flush before it makes more.
    pub fn is_full(&self) -> bool {
        self.queued() >= OUTGOING_OCTETS_HIGH
    }

    /// Writes all that waits. Fails with `TimedOut` when the peer takes nothing for the write timeout.
    pub async fn flush(&mut self) -> io::Result<()> {
        while !self.try_flush()? {
            timeout(self.write_timeout, self.stream.writable()).await??;
        }
        Ok(())
    }

    /// Writes what the socket takes; whether nothing is left.
    pub(super) fn try_flush(&mut self) -> io::Result<bool> {
        let outgoing = match self.compression.as_deref_mut() {
            None => &mut self.outgoing,
            Some(compression) => {
                compression.pack(&mut self.outgoing)?;
                &mut compression.packed
            }
        };
        match self.tls.as_deref_mut() {
            None => flush_plain(outgoing, &self.stream),
            Some(tls) => flush_tls(tls, outgoing, &self.stream),
        }
    }

    /// Compresses what is sent from here on, and inflates what is read from here on; or no longer does so. What waits
    /// is written first, as it was meant.
    pub async fn set_compressed(&mut self, compressed: bool) -> io::Result<()> {
        self.flush().await?;
        self.compression = compressed.then(|| Box::new(Compression::new()));
        Ok(())
    }

    /// Answers the TLS handshake that the client begins.
    pub async fn start_tls(
        &mut self,
        config: &Arc<ServerConfig>,
        handshake_timeout: Duration,
    ) -> io::Result<()> {
        let connection = ServerConnection::new(Arc::clone(config)).map_err(io::Error::other);
        let connection = connection.map(rustls::Connection::from).map(Box::new);
        self.handshake(connection?, handshake_timeout).await
    }

    /// Begins the TLS handshake as the client.
    pub async fn start_tls_as_client(
        &mut self,
        config: &Arc<ClientConfig>,
        name: ServerName<'static>,
        handshake_timeout: Duration,
    ) -> io::Result<()> {
        let connection = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other);
        let connection = connection.map(rustls::Connection::from).map(Box::new);
        self.handshake(connection?, handshake_timeout).await
    }

    async fn handshake(
        &mut self,
        connection: Box<rustls::Connection>,
        handshake_timeout: Duration,
    ) -> io::Result<()> {
        self.flush().await?;
        self.outgoing.release();
        let tls = self.tls.insert(connection);
        timeout(handshake_timeout, shake_hands(tls, &self.stream)).await?
    }

    /// Queues the word that ends TLS, where it is used.
    pub(super) fn close_tls(&mut self) {
        if let Some(tls) = self.tls.as_deref_mut() {
            tls.send_close_notify();
        }
    }

    /// Ends the connection in order: writes what waits, says that there is no more, and hears the peer out for a
    /// moment, so that the last reply is not lost to a reset.
    pub async fn shutdown(&mut self) -> io::Result<()> {
        self.flush().await?;
        if self.is_tls() {
            self.close_tls();
            self.flush().await?;
        }
        self.stream.finish()?;
        match timeout(LINGER, discard(&self.stream)).await {
            Ok(ended) => ended,
            Err(_) => Ok(()),
        }
    }
}

async fn passed(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => pending().await,
    }
}

/// Reads and drops until the end, an error or the limit.
async fn discard(stream: &Stream) -> io::Result<()> {
    let mut left = LINGER_OCTETS_MAX;
    while left > 0 {
        stream.readable().await?;
        let mut scratch = Scratch::take();
        let read = stream.try_read(&mut scratch.wire);
        scratch.put();
        match read {
            Ok(0) => return Ok(()),
            Ok(count) => left = left.saturating_sub(count),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn recv(
    tls: Option<&mut rustls::Connection>,
    stream: &Stream,
    scratch: &mut Scratch,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<Received> {
    match tls {
        None => recv_plain(stream, scratch, take),
        Some(tls) => recv_tls(tls, stream, scratch, take),
    }
}

/// Reads the socket at most once, and only when all that came before is inflated.
fn recv_packed(
    compression: &mut Compression,
    tls: Option<&mut rustls::Connection>,
    stream: &Stream,
    scratch: &mut Scratch,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<Received> {
    let mut reads = Some(tls);
    loop {
        if compression.has_input() {
            scratch.inflated.resize(READ_OCTETS, 0);
            let count = compression.unpack(&mut scratch.inflated)?;
            if count > 0 {
                take(scratch.inflated.get(..count).unwrap_or_default());
                return Ok(Received::Bytes(count));
            }
        }
        if compression.has_ended() {
            return Ok(Received::Eof);
        }
        let Some(tls) = reads.take() else {
            return Ok(Received::Nothing);
        };
        let received = recv(tls, stream, scratch, &mut |octets| compression.push(octets))?;
        if !matches!(received, Received::Bytes(_)) {
            return Ok(received);
        }
    }
}

fn recv_plain(
    stream: &Stream,
    scratch: &mut Scratch,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<Received> {
    match stream.try_read(&mut scratch.wire) {
        Ok(0) => Ok(Received::Eof),
        Ok(count) => {
            take(scratch.wire.get(..count).unwrap_or_default());
            Ok(Received::Bytes(count))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::Nothing),
        Err(error) => Err(error),
    }
}

/// Reads the socket at most once, so that a peer cannot hold the thread and the plaintext is bounded by what one
/// read can complete. `Nothing` may mean that only a part of a record is there.
fn recv_tls(
    tls: &mut rustls::Connection,
    stream: &Stream,
    scratch: &mut Scratch,
    take: &mut dyn FnMut(&[u8]),
) -> io::Result<Received> {
    let Scratch { wire, plain, .. } = scratch;
    plain.clear();
    let mut ended = drain_plaintext(tls, plain)?;
    if plain.is_empty() && !ended {
        match stream.try_read(wire) {
            Ok(0) => ended = true,
            Ok(count) => {
                let octets = wire.get(..count).unwrap_or_default();
                ended = decrypt(tls, stream, octets, plain)?;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    if !plain.is_empty() {
        take(plain);
        Ok(Received::Bytes(plain.len()))
    } else if ended {
        Ok(Received::Eof)
    } else {
        Ok(Received::Nothing)
    }
}

/// Feeds octets of the wire to the TLS library and gathers the plaintext. Whether the peer closed.
fn decrypt(
    tls: &mut rustls::Connection,
    mut stream: &Stream,
    mut octets: &[u8],
    plain: &mut Vec<u8>,
) -> io::Result<bool> {
    let mut ended = false;
    while !octets.is_empty() && !ended {
        tls.read_tls(&mut octets)?;
        let processed = tls.process_new_packets();
        if tls.wants_write() {
            // An alert, or the answer to a key update; what does not fit now goes with the next flush.
            let _ = tls.write_tls(&mut stream);
        }
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        ended = drain_plaintext(tls, plain)?;
    }
    Ok(ended)
}

/// Moves decrypted octets to `plain`. Whether the peer said that it is done.
fn drain_plaintext(tls: &mut rustls::Connection, plain: &mut Vec<u8>) -> io::Result<bool> {
    use std::io::BufRead;
    let mut reader = tls.reader();
    loop {
        let count = match reader.fill_buf() {
            Ok([]) => return Ok(true),
            Ok(octets) => {
                plain.extend_from_slice(octets);
                octets.len()
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(true),
            Err(error) => return Err(error),
        };
        reader.consume(count);
    }
}

fn flush_plain(outgoing: &mut Outgoing, stream: &Stream) -> io::Result<bool> {
    while !outgoing.is_empty() {
        let (slices, count) = outgoing.slices();
        match stream.try_write_vectored(slices.get(..count).unwrap_or_default()) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => outgoing.advance(written),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(true)
}

fn flush_tls(
    tls: &mut rustls::Connection,
    outgoing: &mut Outgoing,
    mut stream: &Stream,
) -> io::Result<bool> {
    use std::io::Write;
    loop {
        while !outgoing.is_empty() {
            let taken = tls.writer().write(outgoing.front())?;
            if taken == 0 {
                break;
            }
            outgoing.advance(taken);
        }
        while tls.wants_write() {
            match tls.write_tls(&mut stream) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            }
        }
        if outgoing.is_empty() {
            return Ok(true);
        }
    }
}

async fn shake_hands(tls: &mut rustls::Connection, mut stream: &Stream) -> io::Result<()> {
    loop {
        while tls.wants_write() {
            match tls.write_tls(&mut stream) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    stream.writable().await?
                }
                Err(error) => return Err(error),
            }
        }
        if !tls.is_handshaking() {
            return Ok(());
        }
        match tls.read_tls(&mut stream) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => process_handshake(tls, stream)?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => stream.readable().await?,
            Err(error) => return Err(error),
        }
    }
}

fn process_handshake(tls: &mut rustls::Connection, mut stream: &Stream) -> io::Result<()> {
    let processed = tls.process_new_packets();
    if let Err(error) = processed {
        let _ = tls.write_tls(&mut stream);
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(())
}
