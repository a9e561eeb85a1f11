//! Accepting connections within bounds.
//!
//! A connection beyond a bound is told so in the words of its protocol and closed; it never reaches a session. Behind
//! a proxy the bound of a listener counts connections as they are accepted, and that of an address once the proxy has
//! said which address it is. Where only some may be served at once, the others wait for their turn, first come, first
//! served.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use rustls::ServerConfig;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::proxy::{self, Origin};
use super::sockets::{BoundListener, Socketed};
use super::stream::{Peer, Stream};
use super::transport::Transport;
use crate::config::{IpNetwork, Listener};
use crate::log::next_session;
use crate::metrics;
use crate::shutdown::Shutdown;

/// The wait before accepting again after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a connection is turned away.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The listener has as many connections as it may.
    TooMany,
    /// The client's address has as many connections as it may.
    TooManyFromAddress,
}

/// What is spoken on a listener.
pub trait Service: Send + Sync + 'static {
    /// What a client that is turned away is told; nothing when empty. Not sent where TLS comes first.
    fn refusal(&self, refusal: Refusal) -> &'static [u8];

    /// Serves one connection until it ends.
    fn serve(
        self: Arc<Self>,
        transport: Box<Transport>,
        shutdown: Shutdown,
    ) -> impl Future<Output = ()> + Send;
}

/// What [`BoundListener::serve`] needs besides the service.
#[derive(Clone)]
pub struct ServiceOptions {
    /// Where TLS comes first.
    pub implicit_tls: Option<Arc<ServerConfig>>,
    /// Bound of the TLS handshake, and of the wait for the header that a proxy sends.
    pub handshake_timeout: Duration,
    /// Bound of each wait for a client to take something.
    pub write_timeout: Duration,
}

impl BoundListener {
    /// Accepts connections until draining begins, then waits for the sessions until aborting begins.
    pub async fn serve<S: Service>(
        self,
        service: Arc<S>,
        options: ServiceOptions,
        mut shutdown: Shutdown,
    ) {
        let lobby = Lobby {
            census: Arc::new(Census::new(&self.config)),
            service,
            options,
            proxies: self.config.proxy_protocol_from.clone(),
            turns: Turns::new(&self.config),
        };
        let mut door = Door {
            lobby: Arc::new(lobby),
            shutdown: shutdown.clone(),
            sessions: JoinSet::new(),
        };
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.draining() => break,
                Some(ended) = door.sessions.join_next() => {
                    report_panic(ended);
                    continue;
                }
                accepted = self.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => door.open(stream, peer),
                Err(error) => {
                    warn!(listener = %self.config.address, %error, "cannot accept connections");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(self);
        let mut sessions = door.sessions;
        tokio::select! {
            () = finish(&mut sessions) => {}
            () = shutdown.aborting() => sessions.abort_all(),
        }
    }

    /// Serves HTTP until aborting begins, so that a server that is stopping can still be watched and told.
    pub async fn serve_http(self, routes: Router, mut shutdown: Shutdown) -> io::Result<()> {
        let stop = async move { shutdown.aborting().await };
        match self.socket {
            Socketed::Tcp(socket) => {
                let server = axum::serve(socket, routes);
                server.with_graceful_shutdown(stop).await
            }
            Socketed::Unix(socket, _file) => {
                let server = axum::serve(socket, routes);
                server.with_graceful_shutdown(stop).await
            }
        }
    }

    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match &self.socket {
            Socketed::Tcp(listener) => {
                let (stream, address) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Peer::tcp(address)))
            }
            Socketed::Unix(listener, _) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), Peer::Unix))
            }
        }
    }
}

/// Lets connections in, or turns them away.
struct Door<S> {
    lobby: Arc<Lobby<S>>,
    shutdown: Shutdown,
    sessions: JoinSet<()>,
}

/// What the connections of one listener share.
struct Lobby<S> {
    census: Arc<Census>,
    service: Arc<S>,
    options: ServiceOptions,
    /// Connections from there begin with a PROXY header.
    proxies: Vec<IpNetwork>,
    turns: Option<Turns>,
}

/// How many connections are served at once, where that is fewer than may be open.
struct Turns {
    free: Semaphore,
    /// How long one waits.
    patience: Duration,
}

impl Turns {
    fn new(config: &Listener) -> Option<Self> {
        let active = config.active_max;
        (active > 0 && active < config.connections_max).then(|| Self {
            free: Semaphore::new(active),
            patience: config.active_wait,
        })
    }
}

/// A connection that has been let in.
struct Visitor {
    transport: Box<Transport>,
    /// Counted for as long as the visitor is there.
    entry: Entry,
}

impl<S: Service> Door<S> {
    fn open(&mut self, stream: Stream, peer: Peer) {
        let (lobby, shutdown) = (Arc::clone(&self.lobby), self.shutdown.clone());
        let entry = match lobby.census.enter() {
            Ok(entry) => entry,
            Err(refusal) => return lobby.turn_away(&stream, peer, refusal),
        };
        if lobby.is_proxy(peer) {
            self.sessions.spawn(async move {
                // Boxed, so that it takes no room in a session that has long been introduced.
                let introduced = Box::pin(lobby.introduce(stream, peer, entry)).await;
                if let Some(visitor) = introduced {
                    lobby.receive(visitor, shutdown).await;
                }
            });
        } else if let Some(visitor) = lobby.admit(stream, peer, entry) {
            self.sessions
                .spawn(async move { lobby.receive(visitor, shutdown).await });
        }
    }
}

impl<S: Service> Lobby<S> {
    fn is_proxy(&self, peer: Peer) -> bool {
        let ip = peer.ip();
        ip.is_some_and(|ip| self.proxies.iter().any(|network| network.contains(ip)))
    }

    /// Hears from a proxy whom it speaks for. What the client sent behind the header stays in the socket.
    async fn introduce(&self, stream: Stream, proxy: Peer, entry: Entry) -> Option<Visitor> {
        let protocol = self.census.protocol;
        let limit = self.options.handshake_timeout;
        let read = match &stream {
            Stream::Tcp(socket) => proxy::read_header(socket, limit).await,
            Stream::Unix(_) => Ok(Origin::Proxy),
        };
        match read {
            Ok(Origin::Client(client)) => {
                debug!(%proxy, %client, protocol, "connection through a proxy");
                self.admit(stream, Peer::tcp(client), entry)
            }
            Ok(Origin::Proxy) => self.admit(stream, proxy, entry),
            Err(error) => {
                metrics::counter(metrics::PROXY_HEADERS_REFUSED, protocol).increment(1);
                warn!(%proxy, protocol, %error, "connection from a proxy closed");
                None
            }
        }
    }

    /// Lets a client in whose address is known.
    fn admit(&self, stream: Stream, client: Peer, mut entry: Entry) -> Option<Visitor> {
        if let Err(refusal) = entry.settle(client) {
            self.turn_away(&stream, client, refusal);
            return None;
        }
        metrics::counter(metrics::CONNECTIONS, self.census.protocol).increment(1);
        let write_timeout = self.options.write_timeout;
        let transport = Transport::new(stream, client, next_session(), write_timeout);
        Some(Visitor {
            transport: Box::new(transport),
            entry,
        })
    }

    fn turn_away(&self, stream: &Stream, peer: Peer, refusal: Refusal) {
        let protocol = self.census.protocol;
        metrics::counter(metrics::CONNECTIONS_REFUSED, protocol).increment(1);
        debug!(%peer, protocol, ?refusal, "connection turned away");
        if self.options.implicit_tls.is_none() {
            // A socket this young takes a line at once; if not, the client learns from the close.
            let text = IoSlice::new(self.service.refusal(refusal));
            let _ = stream.try_write_vectored(&[text]);
            let _ = stream.finish();
        }
    }

    /// Serves a client to its end, once it is its turn.
    async fn receive(&self, visitor: Visitor, mut shutdown: Shutdown) {
        let Visitor {
            mut transport,
            entry: _counted,
        } = visitor;
        let _turn = match &self.turns {
            None => None,
            Some(turns) => {
                let turn = tokio::select! {
                    turn = tokio::time::timeout(turns.patience, turns.free.acquire()) => turn.ok(),
                    () = shutdown.draining() => None,
                };
                let Some(Ok(turn)) = turn else {
                    let peer = transport.peer();
                    return self.turn_away(transport.stream(), peer, Refusal::TooMany);
                };
                Some(turn)
            }
        };
        if let Some(tls) = &self.options.implicit_tls {
            let limit = self.options.handshake_timeout;
            if let Err(error) = Box::pin(transport.start_tls(tls, limit)).await {
                let (session, peer) = (transport.session(), transport.peer());
                metrics::plain_counter(metrics::TLS_HANDSHAKES_FAILED).increment(1);
                debug!(%session, %peer, %error, "TLS handshake failed");
                return;
            }
        }
        Arc::clone(&self.service).serve(transport, shutdown).await;
    }
}

async fn finish(sessions: &mut JoinSet<()>) {
    while let Some(ended) = sessions.join_next().await {
        report_panic(ended);
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        error!(%error, "a session failed");
    }
}

/// Counts the connections of one listener.
#[derive(Debug)]
struct Census {
    counts: Mutex<Counts>,
    connections_max: usize,
    per_address_max: usize,
    protocol: &'static str,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    by_address: HashMap<IpAddr, usize>,
}

impl Census {
    fn new(config: &Listener) -> Self {
        Self {
            counts: Mutex::default(),
            connections_max: config.connections_max,
            per_address_max: config.connections_per_address_max,
            protocol: config.protocol.as_str(),
        }
    }

    /// Counts a connection whose client need not be known yet.
    fn enter(self: &Arc<Self>) -> Result<Entry, Refusal> {
        let mut counts = self.counts.lock();
        if counts.total >= self.connections_max {
            return Err(Refusal::TooMany);
        }
        counts.total += 1;
        metrics::gauge(metrics::CONNECTIONS_OPEN, self.protocol).increment(1.0);
        Ok(Entry {
            census: Arc::clone(self),
            ip: None,
        })
    }
}

/// One counted connection; leaves the census when dropped.
struct Entry {
    census: Arc<Census>,
    /// The address that it is counted for, once that is known.
    ip: Option<IpAddr>,
}

impl Entry {
    /// Counts the connection for the address of its client.
    fn settle(&mut self, client: Peer) -> Result<(), Refusal> {
        let Some(ip) = client.ip() else {
            return Ok(());
        };
        let mut counts = self.census.counts.lock();
        let here = counts.by_address.entry(ip).or_default();
        if *here >= self.census.per_address_max {
            return Err(Refusal::TooManyFromAddress);
        }
        *here += 1;
        self.ip = Some(ip);
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        metrics::gauge(metrics::CONNECTIONS_OPEN, self.census.protocol).decrement(1.0);
        let mut counts = self.census.counts.lock();
        counts.total -= 1;
        if let Some(ip) = self.ip
            && let Some(here) = counts.by_address.get_mut(&ip)
        {
            *here -= 1;
            if *here == 0 {
                counts.by_address.remove(&ip);
            }
        }
    }
}
