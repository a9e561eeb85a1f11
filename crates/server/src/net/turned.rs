//! A connection whose session is over, as a plain stream of octets for whoever goes on with it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::transport::{Received, Transport};

/// The stream: under TLS, where the session was.
pub struct Turned {
    transport: Box<Transport>,
    /// What has come and not been read.
    ahead: BytesMut,
}

impl Turned {
    /// Takes over a connection; `early` is what its session has received and not used.
    pub(crate) fn new(transport: Box<Transport>, early: &[u8]) -> Self {
        Self {
            transport,
            ahead: BytesMut::from(early),
        }
    }

    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.transport.try_flush()? {
            ready!(self.transport.stream().poll_writable(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Turned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turned")
            .field("session", &self.transport.session())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Turned {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { transport, ahead } = self.get_mut();
        while ahead.is_empty() {
            match transport.try_recv(|octets| ahead.extend_from_slice(octets))? {
                Received::Bytes(_) => {}
                Received::Eof => return Poll::Ready(Ok(())),
                Received::Nothing => ready!(transport.stream().poll_readable(cx))?,
            }
        }
        let count = ahead.len().min(into.remaining());
        into.put_slice(ahead.get(..count).unwrap_or_default());
        ahead.advance(count);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Turned {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        octets: &[u8],
    ) -> Poll<io::Result<usize>> {
        let turned = self.get_mut();
        if turned.transport.is_full() {
            ready!(turned.poll_written(cx))?;
        }
        turned.transport.send(Bytes::copy_from_slice(octets));
        // What the socket does not take now goes with the next write or flush.
        turned.transport.try_flush()?;
        Poll::Ready(Ok(octets.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_written(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let turned = self.get_mut();
        turned.transport.close_tls();
        ready!(turned.poll_written(cx))?;
        Poll::Ready(turned.transport.stream().finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::{Peer, Stream};
    use std::time::Duration;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpListener, TcpStream};

    async fn pair(early: &[u8]) -> (Turned, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (peer, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (stream, from) = accepted.unwrap();
        let transport = Transport::new(
            Stream::Tcp(stream),
            Peer::tcp(from),
            crate::log::next_session(),
            Duration::from_secs(60),
        );
        (Turned::new(Box::new(transport), early), peer.unwrap())
    }

    #[tokio::test]
    async fn what_came_early_is_read_first() {
        let (mut turned, mut peer) = pair(b"220 ").await;
        peer.write_all(b"c.test\r\n").await.unwrap();
        drop(peer);
        let mut read = String::new();
        turned.read_to_string(&mut read).await.unwrap();
        assert_eq!(read, "220 c.test\r\n");
    }

    #[tokio::test]
    async fn more_than_the_socket_takes_at_once_arrives_whole() {
        let (mut turned, mut peer) = pair(b"").await;
        let sent = vec![7; 8 << 20];
        let writing = async {
            turned.write_all(&sent).await.unwrap();
            turned.flush().await.unwrap();
            turned.shutdown().await.unwrap();
        };
        let mut read = Vec::new();
        let (_, count) = tokio::join!(writing, peer.read_to_end(&mut read));
        assert_eq!(count.unwrap(), sent.len());
        assert_eq!(read, sent);
    }
}
