//! Listening sockets: bound here, or passed by systemd.
//!
//! All of them are there before the process gives up what it needed to get them.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use listenfd::ListenFd;
use socket2::{Domain, Protocol as SocketProtocol, Socket, Type};
use tokio::net::{TcpListener, UnixListener};

use crate::config::{AcmeChallenge, Config, ListenAddress, Listener, Protocol, TlsMode};
use crate::system::Identity;

/// Connections that the kernel keeps until they are accepted.
const BACKLOG: i32 = 4096;

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
        "cannot listen on {0}: not permitted. Ports below 1024 need the capability CAP_NET_BIND_SERVICE (with systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE) or a start as root with `user` in [system], and a socket needs a directory the server's user may write; or change the address in the configuration"
    )]
    NotPermitted(ListenAddress),
    /// The machine does not have the address.
    #[error(
        "cannot listen on {0}: this machine does not have that address. `ip address` shows those it has; change the address in the configuration"
    )]
    NoSuchAddress(ListenAddress),
    /// systemd has passed no socket of that name.
    #[error(
        "cannot listen on {0}: systemd has passed no socket of that name. Give a .socket unit FileDescriptorName={1}, and start the server by it"
    )]
    NotPassed(ListenAddress, String),
    /// systemd has passed something else under that name.
    #[error("cannot listen on {0}: what systemd has passed is no listening stream socket")]
    NotASocket(ListenAddress),
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

/// Every socket of a server.
#[derive(Debug)]
pub struct Sockets {
    /// Those of the listeners that this node's roles have.
    pub listeners: Vec<BoundListener>,
    /// Metrics and health.
    pub watch: Option<BoundListener>,
    /// Where the authority of `[acme]` asks for the answers to its challenges.
    pub challenges: Option<TcpListener>,
}

impl Sockets {
    /// Binds what a configuration names. Socket files are made over to `owner`. Needs a tokio runtime.
    pub fn bind(config: &Config, owner: Option<&Identity>) -> Result<Self, BindError> {
        let mut passed = Passed::from_env();
        let mut listeners = Vec::new();
        let here = config.listeners.iter();
        for listener in here.filter(|listener| config.has_role(listener.protocol.role())) {
            match &listener.address {
                ListenAddress::Systemd(name) => listeners.extend(passed.take(name, listener)?),
                _ => listeners.push(BoundListener::bind(listener)?),
            }
        }
        if let Some(owner) = owner {
            for listener in &listeners {
                listener.give_to(owner)?;
            }
        }
        let watch = config.watch_listener();
        Ok(Self {
            listeners,
            watch: watch
                .map(|listener| BoundListener::bind(&listener))
                .transpose()?,
            challenges: challenge_address(config).map(bind_plain).transpose()?,
        })
    }
}

/// Where challenges are answered; `None` where none are, or in the DNS.
fn challenge_address(config: &Config) -> Option<SocketAddr> {
    config.acme.directory.as_ref()?;
    match config.acme.challenge {
        AcmeChallenge::Http => Some(config.acme.http),
        AcmeChallenge::TlsAlpn => Some(config.acme.tls_alpn),
        AcmeChallenge::Dns => None,
    }
}

fn bind_plain(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_tcp(address).map_err(|error| BindError::new(&ListenAddress::Tcp(address), error))
}

/// A socket that listens, and how many may connect to it.
#[derive(Debug)]
pub struct BoundListener {
    pub(super) socket: Socketed,
    pub(super) config: Listener,
}

#[derive(Debug)]
pub(super) enum Socketed {
    Tcp(TcpListener),
    /// With the file to remove at the end, where it was made here.
    Unix(UnixListener, Option<SocketFile>),
}

/// The file of a Unix-domain socket, removed when dropped: it would make clients wait for a server that is gone.
#[derive(Debug)]
pub(super) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl BoundListener {
    /// Binds the address of a listener, which is none of systemd's. Needs a tokio runtime.
    pub fn bind(config: &Listener) -> Result<Self, BindError> {
        let socket = match &config.address {
            ListenAddress::Tcp(address) => bind_tcp(*address).map(Socketed::Tcp),
            ListenAddress::Unix(path) => {
                let mode = socket_mode(config.protocol);
                bind_unix(path, mode).map(|it| Socketed::Unix(it, Some(SocketFile(path.clone()))))
            }
            ListenAddress::Systemd(name) => {
                return Err(BindError::NotPassed(config.address.clone(), name.clone()));
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

    fn give_to(&self, owner: &Identity) -> Result<(), BindError> {
        match &self.socket {
            Socketed::Unix(_, Some(SocketFile(path))) => owner
                .own(path)
                .map_err(|error| BindError::new(&self.config.address, error)),
            _ => Ok(()),
        }
    }
}

/// The sockets that systemd has passed (`sd_listen_fds`), by their names.
struct Passed {
    sockets: ListenFd,
    names: Vec<String>,
}

impl Passed {
    fn from_env() -> Self {
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self {
            sockets: ListenFd::from_env(),
            names: names.split(':').map(str::to_owned).collect(),
        }
    }

    /// Every socket of a name.
    fn take(&mut self, name: &str, config: &Listener) -> Result<Vec<BoundListener>, BindError> {
        let mut found = Vec::new();
        for (index, known) in self.names.iter().enumerate() {
            if known == name
                && let Some(listener) = listener(&mut self.sockets, index, config)?
            {
                found.push(listener);
            }
        }
        if found.is_empty() {
            let address = config.address.clone();
            return Err(BindError::NotPassed(address, name.to_owned()));
        }
        Ok(found)
    }
}

/// The socket of that index; `None` where another listener has it.
fn listener(
    sockets: &mut ListenFd,
    index: usize,
    config: &Listener,
) -> Result<Option<BoundListener>, BindError> {
    let address = &config.address;
    let other = |error| BindError::Other(address.clone(), error);
    let mut config = config.clone();
    let socket = match sockets.take_tcp_listener(index) {
        Ok(None) => return Ok(None),
        Ok(Some(socket)) => {
            socket.set_nonblocking(true).map_err(other)?;
            Socketed::Tcp(TcpListener::from_std(socket).map_err(other)?)
        }
        Err(_) => match sockets.take_unix_listener(index) {
            Ok(None) => return Ok(None),
            Ok(Some(socket)) => {
                config.tls = TlsMode::None;
                socket.set_nonblocking(true).map_err(other)?;
                Socketed::Unix(UnixListener::from_std(socket).map_err(other)?, None)
            }
            Err(_) => return Err(BindError::NotASocket(address.clone())),
        },
    };
    Ok(Some(BoundListener { socket, config }))
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
