//! The PROXY protocol, versions 1 and 2 (HAProxy's `proxy-protocol.txt`): who a proxy in front of a listener
//! speaks for.
//!
//! Owns the header alone. It is taken from the socket to its last octet and not further, so that what the client
//! sent behind it, be it a command or the first record of a TLS handshake, is still there for the session.
//!
//! **Invariant:** nothing here decides whether a header is believed: only connections from proxies that the
//! configuration names are ever read for one.

mod v1;
mod v2;

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

pub use v1::LINE_OCTETS_MAX;
pub use v2::BODY_OCTETS_MAX;

/// Octets looked at in one go: most headers are shorter.
const PIECE_OCTETS: usize = 256;

/// Whom a connection comes from, as the proxy says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A client with that address.
    Client(SocketAddr),
    /// The proxy itself, as for a health check, or someone whose address it does not know.
    Proxy,
}

/// Octets that are no PROXY header.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HeaderError {
    /// Something else was sent.
    #[error("the connection does not begin with a PROXY header")]
    Missing,
    /// A header that goes on for too long.
    #[error("the PROXY header is longer than {limit} octets")]
    TooLong {
        /// What it may have, at most.
        limit: usize,
    },
    /// A header that breaks the grammar.
    #[error("the PROXY header is wrong: {0}")]
    Malformed(&'static str),
}

/// What the first octets of a connection hold.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scan {
    /// The beginning of a header.
    Partial,
    /// A header, and perhaps more behind it.
    Whole {
        /// The length of the header.
        octets: usize,
        /// Whom the connection comes from.
        origin: Origin,
    },
}

/// Looks for a header at the beginning of `octets`. A result other than `Partial` is final: further octets do not
/// change it.
pub fn scan(octets: &[u8]) -> Result<Scan, HeaderError> {
    if agree(octets, v2::SIGNATURE) {
        v2::scan(octets)
    } else if agree(octets, v1::SIGNATURE) {
        v1::scan(octets)
    } else {
        Err(HeaderError::Missing)
    }
}

/// Whether the octets begin with the signature, or could once there are more of them.
fn agree(octets: &[u8], signature: &[u8]) -> bool {
    octets
        .iter()
        .zip(signature)
        .all(|(left, right)| left == right)
}

/// Why no header was read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The peer sent something else.
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// The peer closed the connection first.
    #[error("the connection was closed before its PROXY header was complete")]
    Closed,
    /// The peer took too long.
    #[error("no whole PROXY header came within {0:?}")]
    Late(Duration),
    /// The connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Reads the header that a connection begins with, and not an octet more, within `limit`.
pub async fn read_header(stream: &TcpStream, limit: Duration) -> Result<Origin, ReadError> {
    match timeout(limit, read(stream)).await {
        Ok(read) => read,
        Err(_) => Err(ReadError::Late(limit)),
    }
}

/// Every look takes what it found off the socket, up to the end of the header: the next one waits for more.
async fn read(stream: &TcpStream) -> Result<Origin, ReadError> {
    let mut piece = vec![0; PIECE_OCTETS];
    let mut header = Vec::new();
    loop {
        let count = stream.peek(&mut piece).await?;
        if count == 0 {
            return Err(ReadError::Closed);
        }
        let taken = header.len();
        header.extend_from_slice(piece.get(..count).unwrap_or_default());
        match scan(&header)? {
            Scan::Partial => take(stream, &mut piece, count).await?,
            Scan::Whole { octets, origin } => {
                take(stream, &mut piece, octets.saturating_sub(taken)).await?;
                return Ok(origin);
            }
        }
    }
}

/// Takes `count` octets off the socket, which were seen there.
async fn take(stream: &TcpStream, into: &mut [u8], count: usize) -> io::Result<()> {
    let mut left = into.get_mut(..count).unwrap_or_default();
    while !left.is_empty() {
        stream.readable().await?;
        match stream.try_read(left) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => left = left.get_mut(count..).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
