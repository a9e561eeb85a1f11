//! One client connection: a stream in the clear or encrypted, and a reader of lines, literals and
//! dot-terminated texts over one reused buffer.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use memchr::{memchr, memmem};
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::args::TlsMode;
use crate::error::BenchError;
use crate::tls;

/// Longest line that is kept, in bytes.
const LINE_MAX: usize = 64 * 1024;
/// Room for one read of lines, in bytes.
const READ_SMALL: usize = 4 * 1024;
/// Room for one read of message bytes, in bytes.
const READ_LARGE: usize = 64 * 1024;
/// Longest wait for a connection.
const CONNECT_WAIT: Duration = Duration::from_secs(10);
/// Longest wait for a peer to close as well, where a connection is parted from.
const PART_WAIT: Duration = Duration::from_secs(2);
const END_OF_TEXT: &[u8] = b"\r\n.\r\n";

/// Where to connect, resolved once, and how.
pub(crate) struct Endpoint {
    pub(crate) name: String,
    pub(crate) tls: TlsMode,
    address: SocketAddr,
    connector: Option<TlsConnector>,
}

impl Endpoint {
    /// Resolves `host:port`.
    pub(crate) async fn resolve(name: &str, tls: TlsMode) -> Result<Self, BenchError> {
        let lookup = lookup_host(name).await.map(|mut found| found.next());
        let address = lookup
            .map_err(|source| BenchError::Connect {
                target: name.to_owned(),
                source,
            })?
            .ok_or_else(|| BenchError::Usage(format!("{name} has no address")))?;
        let connector = match tls {
            TlsMode::None => None,
            TlsMode::Starttls | TlsMode::Implicit => Some(tls::connector()?),
        };
        Ok(Self {
            name: name.to_owned(),
            tls,
            address,
            connector,
        })
    }

    /// The address of the server.
    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a connection, encrypted at once where that is the mode.
    pub(crate) async fn connect(&self) -> Result<Wire, BenchError> {
        self.connect_from(None).await
    }

    /// Opens a connection from an address of this machine. One address has ports for some 28,000 connections.
    pub(crate) async fn connect_from(&self, from: Option<IpAddr>) -> Result<Wire, BenchError> {
        let failed = |source| BenchError::Connect {
            target: self.name.clone(),
            source,
        };
        let connecting = async {
            let Some(from) = from else {
                return TcpStream::connect(self.address).await;
            };
            let socket = match self.address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.bind(SocketAddr::new(from, 0))?;
            socket.connect(self.address).await
        };
        let stream = timeout(CONNECT_WAIT, connecting)
            .await
            .map_err(|elapsed| failed(elapsed.into()))?
            .map_err(failed)?;
        stream.set_nodelay(true)?;
        let wire = Wire::new(Stream::Plain(stream));
        match self.tls {
            TlsMode::Implicit => self.encrypt(wire).await,
            TlsMode::None | TlsMode::Starttls => Ok(wire),
        }
    }

    /// Puts TLS on a connection in the clear; what was read before is dropped.
    pub(crate) async fn encrypt(&self, wire: Wire) -> Result<Wire, BenchError> {
        let (Some(connector), Stream::Plain(stream)) = (&self.connector, wire.stream) else {
            return Err(BenchError::Usage("TLS is on already, or not wanted".into()));
        };
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = connector.connect(name, stream).await?;
        Ok(Wire::new(Stream::Tls(Box::new(stream.into()))))
    }
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    /// A handshake on it failed.
    Gone,
}

/// A connection and what has been read from it but not yet taken.
pub(crate) struct Wire {
    stream: Stream,
    input: BytesMut,
    /// Bytes at the front of `input` that the last call handed out.
    taken: usize,
    /// The pause after each byte that is written, where writing is to be slow.
    pace: Option<Duration>,
}

impl Wire {
    fn new(stream: Stream) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            taken: 0,
            pace: None,
        }
    }

    /// A connection in the clear that is open already.
    pub(crate) fn plain(stream: TcpStream) -> Self {
        Self::new(Stream::Plain(stream))
    }

    /// Whether the next line is here already.
    pub(crate) fn has_line(&self) -> bool {
        let rest = self.input.get(self.taken..).unwrap_or_default();
        memchr(b'\n', rest).is_some()
    }

    /// Writes one byte at a time from now on, with this pause after each; or as fast as it goes.
    pub(crate) const fn dawdle(&mut self, pace: Option<Duration>) {
        self.pace = pace;
    }

    /// Whether the connection is encrypted.
    pub(crate) const fn is_encrypted(&self) -> bool {
        matches!(self.stream, Stream::Tls(_))
    }

    /// Puts TLS on a connection in the clear, as its server; what was read before is dropped.
    pub(crate) async fn accept_tls(&mut self, acceptor: &TlsAcceptor) -> Result<(), BenchError> {
        match std::mem::replace(&mut self.stream, Stream::Gone) {
            Stream::Plain(stream) => {
                let stream = acceptor.accept(stream).await?;
                *self = Self::new(Stream::Tls(Box::new(stream.into())));
                Ok(())
            }
            Stream::Tls(_) | Stream::Gone => Err(BenchError::Usage("TLS is on already".into())),
        }
    }

    /// Ends the connection such that the peer reads everything written: what it still sends is taken in until it
    /// closes as well, or for [`PART_WAIT`].
    pub(crate) async fn part(mut self) {
        let closed = match &mut self.stream {
            Stream::Plain(stream) => stream.shutdown().await,
            Stream::Tls(stream) => stream.shutdown().await,
            Stream::Gone => return,
        };
        if closed.is_ok() {
            let rest = async {
                loop {
                    self.input.clear();
                    if self.fill(READ_SMALL).await.is_err() {
                        break;
                    }
                }
            };
            // A peer that does not close is left.
            let _ = timeout(PART_WAIT, rest).await;
        }
    }

    /// Writes all bytes, in one call to the system when they fit its buffer.
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        let Some(pace) = self.pace else {
            return self.write(bytes).await;
        };
        for byte in bytes.chunks(1) {
            self.write(byte).await?;
            sleep(pace).await;
        }
        Ok(())
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), BenchError> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes).await?,
            Stream::Tls(stream) => {
                stream.write_all(bytes).await?;
                stream.flush().await?;
            }
            Stream::Gone => return Err(BenchError::Closed),
        }
        Ok(())
    }

    /// The next line, without its CRLF or LF.
    pub(crate) async fn line(&mut self) -> Result<&[u8], BenchError> {
        self.drop_taken();
        let end = loop {
            if let Some(end) = memchr(b'\n', &self.input) {
                break end;
            }
            if self.input.len() > LINE_MAX {
                return Err(BenchError::LineTooLong { limit: LINE_MAX });
            }
            self.fill(READ_SMALL).await?;
        };
        self.taken = end + 1;
        let line = self.input.get(..end).unwrap_or_default();
        Ok(line.strip_suffix(b"\r").unwrap_or(line))
    }

    /// Passes over `count` bytes.
    pub(crate) async fn skip(&mut self, mut count: u64) -> Result<(), BenchError> {
        self.drop_taken();
        loop {
            let here = count.min(self.input.len() as u64);
            self.input.advance(here as usize);
            count -= here;
            if count == 0 {
                return Ok(());
            }
            self.fill(READ_LARGE).await?;
        }
    }

    /// Passes over a text that ends with a line holding one dot; its length in bytes, that line not counted.
    pub(crate) async fn skip_text(&mut self) -> Result<u64, BenchError> {
        self.drop_taken();
        while self.input.len() < 3 {
            self.fill(READ_LARGE).await?;
        }
        if self.input.starts_with(b".\r\n") {
            self.input.advance(3);
            return Ok(0);
        }
        let mut length = 0;
        loop {
            if let Some(at) = memmem::find(&self.input, END_OF_TEXT) {
                self.input.advance(at + END_OF_TEXT.len());
                return Ok(length + at as u64 + 2);
            }
            let seen = self.input.len().saturating_sub(END_OF_TEXT.len() - 1);
            self.input.advance(seen);
            length += seen as u64;
            self.fill(READ_LARGE).await?;
        }
    }

    fn drop_taken(&mut self) {
        self.input.advance(self.taken);
        self.taken = 0;
    }

    async fn fill(&mut self, room: usize) -> Result<(), BenchError> {
        self.input.reserve(room);
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read_buf(&mut self.input).await?,
            Stream::Tls(stream) => stream.read_buf(&mut self.input).await?,
            Stream::Gone => 0,
        };
        if read == 0 {
            return Err(BenchError::Closed);
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use tokio::net::TcpListener;

    use super::*;

    /// A server that speaks first, then answers each line it reads with the next of `answers`.
    pub(crate) async fn scripted(answers: &'static [&'static [u8]]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let mut wire = Wire::plain(listener.accept().await.unwrap().0);
            for answer in answers {
                wire.send(answer).await.unwrap();
                if wire.line().await.is_err() {
                    return;
                }
            }
        });
        address
    }

    /// A connection whose peer writes `pieces` one after the other and closes.
    async fn fed(pieces: Vec<Vec<u8>>) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut wire = Wire::plain(listener.accept().await.unwrap().0);
            wire_nodelay(&wire);
            for piece in pieces {
                wire.send(&piece).await.unwrap();
                tokio::task::yield_now().await;
            }
        });
        Wire::plain(TcpStream::connect(address).await.unwrap())
    }

    fn wire_nodelay(wire: &Wire) {
        if let Stream::Plain(stream) = &wire.stream {
            stream.set_nodelay(true).unwrap();
        }
    }

    #[tokio::test]
    async fn lines_literals_and_texts_read_alike_however_they_are_split() {
        let whole = b"first\r\nsecond {7}\r\nab\r\nc\r\n rest\r\n.\r\nx\r\n..dot\r\n.\r\nlast\n";
        for step in [1, 2, 3, 5, 7, whole.len()] {
            let mut wire = fed(whole.chunks(step).map(<[u8]>::to_vec).collect()).await;
            assert_eq!(wire.line().await.unwrap(), b"first");
            assert_eq!(wire.line().await.unwrap(), b"second {7}");
            wire.skip(7).await.unwrap();
            assert_eq!(wire.line().await.unwrap(), b" rest");
            assert_eq!(wire.skip_text().await.unwrap(), 0);
            assert_eq!(wire.skip_text().await.unwrap(), 10);
            assert_eq!(wire.line().await.unwrap(), b"last");
            assert!(matches!(wire.line().await, Err(BenchError::Closed)));
        }
    }

    #[tokio::test]
    async fn a_line_without_end_is_refused() {
        let mut wire = fed(vec![vec![b'x'; 4 * LINE_MAX]]).await;
        let limit = LINE_MAX;
        assert!(
            matches!(wire.line().await, Err(BenchError::LineTooLong { limit: l }) if l == limit)
        );
    }
}
