//! The client of the admin API: one connection for each request.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use thiserror::Error;
use tokio::net::UnixStream;

use crate::error::AdminError;
use crate::request::AdminRequest;
use crate::response::AdminResponse;

/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// How long a request may take; a check reads the whole store.
const ANSWER_WAIT: Duration = Duration::from_secs(6 * 3600);

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum ClientError {
    /// No server listens at the socket.
    #[error("no server listens at {path}: {source}", path = path.display())]
    NotRunning {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The socket cannot be opened.
    #[error("cannot open {path}: {source}. Only the server's user and root may: use sudo or su", path = path.display())]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The server answered that it did not do as asked.
    #[error(transparent)]
    Answered(#[from] AdminError),
    /// The connection broke, or what came back is no answer.
    #[error("no answer from the server: {0}")]
    Broken(String),
}

/// Sends requests to the server that listens at a socket.
#[derive(Clone, Debug)]
pub struct AdminClient {
    socket: PathBuf,
}

impl AdminClient {
    /// A client of the server at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
        }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Sends a request and waits for its answer.
    pub async fn execute(&self, request: &AdminRequest) -> Result<AdminResponse, ClientError> {
        let stream = self.connect().await?;
        let exchange = exchange(stream, request);
        let (status, body) = tokio::time::timeout(ANSWER_WAIT, exchange)
            .await
            .map_err(|_| ClientError::Broken("it takes too long".to_owned()))??;
        if status == StatusCode::OK {
            return serde_json::from_slice(&body).map_err(broken);
        }
        match serde_json::from_slice::<AdminError>(&body) {
            Ok(error) => Err(ClientError::Answered(error)),
            Err(_) => Err(ClientError::Broken(format!("HTTP status {status}"))),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).await.map_err(|source| {
            let path = self.socket.clone();
            match source.kind() {
                io::ErrorKind::PermissionDenied => ClientError::Denied { path, source },
                _ => ClientError::NotRunning { path, source },
            }
        })
    }
}

async fn exchange(
    stream: UnixStream,
    request: &AdminRequest,
) -> Result<(StatusCode, Bytes), ClientError> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(broken)?;
    let driver = tokio::spawn(connection);
    let answered = send(&mut sender, request).await;
    driver.abort();
    answered
}

async fn send(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    request: &AdminRequest,
) -> Result<(StatusCode, Bytes), ClientError> {
    let body = serde_json::to_value(request).map_err(broken)?;
    let command = body
        .get("command")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let post = Request::post(format!("/v1/{command}"))
        .header("host", "localhost")
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body.to_string())))
        .map_err(broken)?;
    let response = sender.send_request(post).await.map_err(broken)?;
    let status = response.status();
    let limited = Limited::new(response.into_body(), ANSWER_BYTES_MAX);
    let body = limited.collect().await.map_err(broken)?.to_bytes();
    Ok((status, body))
}

fn broken(error: impl ToString) -> ClientError {
    ClientError::Broken(error.to_string())
}
