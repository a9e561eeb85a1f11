//! Answers challenges over HTTP (RFC 8555 §8.3), from the rows.
//!
//! It knows one path and closes after one answer. Anybody may connect: a request has a bound on its time and size, and so
//! has the number of connections.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use nightmail_engine::Engine;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::Rows;
use super::rows::{self, Asked};

const PATH: &str = "/.well-known/acme-challenge/";
/// The longest head of a request, in octets.
const HEAD_OCTETS_MAX: usize = 8 * 1024;
/// The longest that one connection may take.
pub(super) const CONNECTION_MAX: Duration = Duration::from_secs(15);
/// Most connections at once; others wait.
pub(super) const CONNECTIONS_MAX: usize = 64;
/// The wait before accepting again after an error such as too many open files.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Answers on a listener until dropped.
pub async fn answer_http(listener: TcpListener, rows: Arc<dyn Engine>) {
    serve(listener, rows, |stream, rows| async move {
        converse(stream, rows.as_ref()).await
    })
    .await;
}

/// Gives every connection to `converse`, within the bounds.
pub(super) async fn serve<F, C>(listener: TcpListener, rows: Rows, converse: F)
where
    F: Fn(TcpStream, Rows) -> C,
    C: Future<Output = io::Result<()>> + Send + 'static,
{
    let free = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&free).acquire_owned().await else {
            return;
        };
        let (stream, peer) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!(%error, "cannot accept connections for challenges");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let conversation = converse(stream, Arc::clone(&rows));
        tokio::spawn(async move {
            match tokio::time::timeout(CONNECTION_MAX, conversation).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => debug!(%peer, %error, "no challenge was answered"),
                Err(_) => debug!(%peer, "took too long to ask for a challenge"),
            }
            drop(permit);
        });
    }
}

async fn converse(mut stream: TcpStream, rows: &dyn Engine) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.windows(4).any(|octets| octets == b"\r\n\r\n") {
        let room = HEAD_OCTETS_MAX.saturating_sub(head.len());
        if room == 0 || (&mut stream).take(room as u64).read_buf(&mut head).await? == 0 {
            return respond(&mut stream, "400 Bad Request", b"").await;
        }
    }
    let Some(token) = asked(&head) else {
        return respond(&mut stream, "404 Not Found", b"").await;
    };
    match rows::answer(rows, Asked::Token(token)).await {
        Ok(Some(answer)) => respond(&mut stream, "200 OK", &answer).await,
        Ok(None) => respond(&mut stream, "404 Not Found", b"").await,
        Err(error) => {
            warn!(%error, "a challenge cannot be answered");
            respond(&mut stream, "503 Service Unavailable", b"").await
        }
    }
}

/// The token that a request asks for.
fn asked(head: &[u8]) -> Option<&str> {
    let line = head.split(|octet| *octet == b'\r').next()?;
    let line = std::str::from_utf8(line).ok()?;
    let (path, version) = line.strip_prefix("GET ")?.split_once(' ')?;
    version.starts_with("HTTP/1.").then_some(())?;
    path.strip_prefix(PATH)
}

async fn respond(stream: &mut TcpStream, status: &str, body: &[u8]) -> io::Result<()> {
    let mut response = format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/octet-stream\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    )
    .into_bytes();
    response.extend_from_slice(body);
    stream.write_all(&response).await?;
    stream.shutdown().await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::rows::ChallengeRow;
    use nightmail_core::Timestamp;
    use nightmail_engine::{Batch, Durability, MemoryEngine};

    async fn ask(request: &[u8]) -> String {
        let engine = Arc::new(MemoryEngine::new());
        let row = ChallengeRow {
            answer: b"tok.thumb".to_vec(),
            until: Timestamp::from_secs(i64::MAX / 2000),
        };
        let mut batch = Batch::new();
        batch.put(Asked::Token("tok").key().unwrap(), row.encode());
        engine.commit(batch, Durability::Synced).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(answer_http(listener, engine));
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut said = String::new();
        let _ = stream.read_to_string(&mut said).await;
        server.abort();
        said
    }

    #[tokio::test]
    async fn a_known_token_is_answered() {
        let said =
            ask(b"GET /.well-known/acme-challenge/tok HTTP/1.1\r\nHost: a.test\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 200 OK\r\n"), "{said}");
        assert!(said.ends_with("\r\n\r\ntok.thumb"), "{said}");
    }

    #[tokio::test]
    async fn anything_else_is_not_found() {
        for path in [
            "/",
            "/.well-known/acme-challenge/",
            "/.well-known/acme-challenge/toc",
            "/.well-known/acme-challenge/../x",
            "/.well-known/acme-challenge/tok/",
        ] {
            let said = ask(format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes()).await;
            assert!(said.starts_with("HTTP/1.1 404 "), "{path}: {said}");
        }
        let said = ask(b"POST /.well-known/acme-challenge/tok HTTP/1.1\r\n\r\n").await;
        assert!(said.starts_with("HTTP/1.1 404 "), "{said}");
    }

    #[tokio::test]
    async fn a_head_without_end_is_refused() {
        let said = ask(&[b'a'; HEAD_OCTETS_MAX]).await;
        assert!(said.starts_with("HTTP/1.1 400 "), "{said}");
    }
}
