//! Listening sockets: binding them, and accepting within bounds.
//!
//! A connection beyond a bound is told so in the words of its protocol and closed; it never reaches a session. Behind
//! a proxy the bound of a listener counts connections as they are accepted, and that of an address once the proxy has
//! said which address it is.

use std::collections::HashMap;
use std::future::Future;
use std::io::{self, IoSlice};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use parking_lot::Mutex;
use rustls::ServerConfig;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinSet;
use tracing::{debug, error, warn};

use super::proxy::{self, Origin};
use super::stream::{Peer, Stream};
use super::transport::Transport;
use crate::config::{IpNetwork, ListenAddress, Listener, Protocol};
use crate::log::next_session;
use crate::metrics;
use crate::shutdown::Shutdown;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;
/// The wait before accepting again after an error such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that cannot be bound.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another program listens there.
    #[error(
        "cannot listen on {0}: another program already does. Stop it (`ss -ltnp` shows which it is), or change the address in the configuration"
    )]
    InUse(ListenAddress),
    /// The user may not.
    #[error(
        "cannot listen on {0}: not permitted. Ports below 1024 need the capability CAP_NET_BIND_SERVICE (with systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE), and a socket needs a directory the server's user may write; or change the address in the configuration"
    )]
    NotPermitted(ListenAddress),
    /// The machine does not have the address.
    #[error(
        "cannot listen on {0}: this machine does not have that address. `ip address` shows those it has; change the address in the configuration"
    )]
    NoSuchAddress(ListenAddress),
    /// Anything else.
    #[error("cannot listen on {0}: {1}")]
    Other(ListenAddress, io::Error),
}

impl BindError {
    fn new(address: &ListenAddress, error: io::Error) -> Self {
        let address = address.clone();
        match error.kind() {
            io::ErrorKind::AddrInUse => Self::InUse(address),
            io::ErrorKind::PermissionDenied => Self::NotPermitted(address),
            io::ErrorKind::AddrNotAvailable => Self::NoSuchAddress(address),
            _ => Self::Other(address, error),
        }
    }
}

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

/// A socket that listens, and how many may connect to it.
#[derive(Debug)]
pub struct BoundListener {
    socket: Socketed,
    config: Listener,
}

#[derive(Debug)]
enum Socketed {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a Unix-domain socket, removed when dropped: it would make clients wait for a server that is gone.
#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundListener {
    /// Binds the address of a listener. Needs a tokio runtime.
    pub fn bind(config: &Listener) -> Result<Self, BindError> {
        let socket = match &config.address {
            ListenAddress::Tcp(address) => bind_tcp(*address).map(Socketed::Tcp),
            ListenAddress::Unix(path) => {
                let mode = socket_mode(config.protocol);
                bind_unix(path, mode).map(|it| Socketed::Unix(it, SocketFile(path.clone())))
            }
        };
        Ok(Self {
            socket: socket.map_err(|error| BindError::new(&config.address, error))?,
            config: config.clone(),
        })
    }

    /// The configuration it was bound from.
    pub const fn config(&self) -> &Listener {
        &self.config
    }

    /// The TCP address bound, with the port the kernel chose for port 0.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        match &self.socket {
            Socketed::Tcp(listener) => listener.local_addr().ok(),
            Socketed::Unix(..) => None,
        }
    }

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

    /// Serves a client to its end.
    async fn receive(&self, visitor: Visitor, shutdown: Shutdown) {
        let Visitor {
            mut transport,
            entry: _counted,
        } = visitor;
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

fn bind_tcp(address: SocketAddr) -> io::Result<TcpListener> {
    match listen(address) {
        // A machine without IPv6 still has all its IPv4 addresses.
        Err(error)
            if error.raw_os_error() == Some(NO_SUCH_FAMILY) && address.ip().is_unspecified() =>
        {
            listen((Ipv4Addr::UNSPECIFIED, address.port()).into())
        }
        bound => bound,
    }
}

/// `EAFNOSUPPORT` on Linux.
const NO_SUCH_FAMILY: i32 = 97;

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let family = Domain::for_address(address);
    let socket = Socket::new(family, Type::STREAM, Some(SocketProtocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Only the server's user may administer it; the group may deliver to it.
const fn socket_mode(protocol: Protocol) -> u32 {
    match protocol {
        Protocol::Admin => 0o600,
        _ => 0o660,
    }
}

/// A socket file that nobody listens on any more is removed.
fn bind_unix(path: &Path, mode: u32) -> io::Result<UnixListener> {
    if path.exists() {
        match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => return Err(io::ErrorKind::AddrInUse.into()),
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                std::fs::remove_file(path)?;
            }
            Err(error) => return Err(error),
        }
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))?;
    Ok(listener)
}

/// Says what keeps a listener from being bound, by binding it for a moment. Needs a tokio runtime.
pub fn probe(config: &Listener) -> Result<(), BindError> {
    BoundListener::bind(config).map(drop)
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
