//! Requests to the web servers of other sites: HTTP/1.1 over verified TLS, each on a connection of its own, no redirect
//! followed, all bounded.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::header::{CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use hyper::{Method, Request, Uri};
use hyper_util::rt::TokioIo;
use nightmail_dns::{Dns, Nothing};
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use thiserror::Error;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// The longest wait for one address.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
const HTTPS_PORT: u16 = 443;
const AGENT: &str = "Nightmail";

/// Why there is no client for HTTPS.
#[derive(Debug, Error)]
#[error("TLS: {0}")]
pub struct TlsSetupError(#[from] rustls::Error);

/// A request that got no answer.
#[derive(Debug, Error)]
pub(crate) enum HttpsError {
    #[error("no address: {0}")]
    NoAddress(Nothing),
    #[error("no connection: {0}")]
    Connect(io::Error),
    #[error("its certificate does not hold: {0}")]
    Certificate(String),
    #[error("no answer: {0}")]
    Http(#[from] hyper::Error),
    #[error("its answer has more than {0} octets")]
    TooLong(usize),
    #[error("no answer in time")]
    TimedOut,
    #[error("not an https address that can be asked")]
    Address,
}

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The media type without its parameters, lower-case; empty where there is none.
    pub(crate) media_type: String,
    pub(crate) body: Bytes,
}

/// Makes requests. Trusts the public authorities and those it is given.
#[derive(Clone)]
pub(crate) struct Https {
    dns: Dns,
    connector: TlsConnector,
    timeout: Duration,
}

/// A server by name.
struct Place<'a> {
    host: &'a str,
    port: u16,
}

impl Https {
    pub(crate) fn new(
        dns: Dns,
        roots: &[CertificateDer<'static>],
        timeout: Duration,
    ) -> Result<Self, TlsSetupError> {
        let mut known = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for root in roots {
            known.add(root.clone())?;
        }
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(known)
            .with_no_client_auth();
        // In a session that is resumed no certificate is looked at.
        config.resumption = Resumption::disabled();
        Ok(Self {
            dns,
            connector: TlsConnector::from(Arc::new(config)),
            timeout,
        })
    }

    /// Asks for a path. An answer with more than `octets_max` is an error.
    pub(crate) async fn get(
        &self,
        host: &str,
        port: u16,
        path: &'static str,
        octets_max: usize,
    ) -> Result<Answer, HttpsError> {
        let mut request = Request::new(Full::default());
        *request.uri_mut() = Uri::from_static(path);
        let place = Place { host, port };
        self.exchange(&place, request, octets_max).await
    }

    /// Hands `body` to the server and path that `uri` names; the status of the answer.
    pub(crate) async fn post(
        &self,
        uri: &str,
        media_type: &'static str,
        body: Bytes,
    ) -> Result<u16, HttpsError> {
        let uri: Uri = uri.parse().map_err(|_| HttpsError::Address)?;
        if uri.scheme_str() != Some("https") {
            return Err(HttpsError::Address);
        }
        let place = Place {
            host: uri.host().ok_or(HttpsError::Address)?,
            port: uri.port_u16().unwrap_or(HTTPS_PORT),
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = path.parse().map_err(|_| HttpsError::Address)?;
        let media_type = HeaderValue::from_static(media_type);
        request.headers_mut().insert(CONTENT_TYPE, media_type);
        let answer = self.exchange(&place, request, ANSWER_OCTETS_MAX).await?;
        Ok(answer.status)
    }

    async fn exchange(
        &self,
        place: &Place<'_>,
        request: Request<Full<Bytes>>,
        octets_max: usize,
    ) -> Result<Answer, HttpsError> {
        let exchanged = Box::pin(self.unbounded_exchange(place, request, octets_max));
        let exchanged = tokio::time::timeout(self.timeout, exchanged).await;
        exchanged.unwrap_or(Err(HttpsError::TimedOut))
    }

    async fn unbounded_exchange(
        &self,
        place: &Place<'_>,
        mut request: Request<Full<Bytes>>,
        octets_max: usize,
    ) -> Result<Answer, HttpsError> {
        let host = match place.port {
            HTTPS_PORT => place.host.to_owned(),
            port => format!("{}:{port}", place.host),
        };
        let host = HeaderValue::try_from(host).map_err(|_| HttpsError::Address)?;
        request.headers_mut().insert(HOST, host);
        let agent = HeaderValue::from_static(AGENT);
        request.headers_mut().insert(USER_AGENT, agent);
        let stream = self.connect(place).await?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        // The connection ends with the set, however far it is.
        let mut connections = JoinSet::new();
        connections.spawn(connection);
        let response = sender.send_request(request).await?;
        let status = response.status().as_u16();
        let media_type = response.headers().get(CONTENT_TYPE);
        let media_type = media_type.map(HeaderValue::as_bytes).unwrap_or_default();
        let media_type = media_type_of(&String::from_utf8_lossy(media_type));
        let body = Limited::new(response.into_body(), octets_max).collect();
        let body = body.await.map_err(|error| too_long_or(error, octets_max))?;
        Ok(Answer {
            status,
            media_type,
            body: body.to_bytes(),
        })
    }

    async fn connect(&self, place: &Place<'_>) -> Result<TlsStream<TcpStream>, HttpsError> {
        let host = place.host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host.to_owned()).map_err(|_| HttpsError::Address)?;
        let addresses = self.dns.addresses(host).await;
        let addresses = addresses.map_err(HttpsError::NoAddress)?;
        let mut failure = HttpsError::NoAddress(Nothing::NoRecord);
        for address in addresses.into_iter().take(ADDRESSES_MAX) {
            match reach(address, place.port).await {
                Ok(stream) => {
                    let stream = self.connector.connect(name, stream).await;
                    return stream.map_err(tls_failure);
                }
                Err(error) => failure = HttpsError::Connect(error),
            }
        }
        Err(failure)
    }
}

/// Octets of the answer to a request that hands something in.
const ANSWER_OCTETS_MAX: usize = 64 * 1024;

async fn reach(address: IpAddr, port: u16) -> io::Result<TcpStream> {
    let stream = tokio::time::timeout(CONNECT_MAX, TcpStream::connect((address, port)));
    let stream = stream.await.map_err(io::Error::from)??;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn tls_failure(error: io::Error) -> HttpsError {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
    match inner {
        Some(rustls::Error::InvalidCertificate(why)) => HttpsError::Certificate(why.to_string()),
        _ => HttpsError::Connect(error),
    }
}

fn too_long_or(error: Box<dyn std::error::Error + Send + Sync>, max: usize) -> HttpsError {
    if error.is::<LengthLimitError>() {
        return HttpsError::TooLong(max);
    }
    match error.downcast::<hyper::Error>() {
        Ok(error) => HttpsError::Http(*error),
        Err(other) => HttpsError::Connect(io::Error::other(other)),
    }
}

fn media_type_of(value: &str) -> String {
    let media_type = value.split(';').next().unwrap_or_default();
    media_type.trim().to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_read_without_its_parameters() {
        assert_eq!(media_type_of("Text/Plain ; charset=utf-8"), "text/plain");
        assert_eq!(media_type_of(""), "");
    }
}
