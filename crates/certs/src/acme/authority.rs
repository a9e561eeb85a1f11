//! Requests to the authority: HTTP/1.1 over TLS, each on a connection of its own, all bounded.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use instant_acme::{BodyWrapper, BytesResponse, HttpClient};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::AcmeError;
use crate::provider;

/// The longest wait for one answer.
const REQUEST_MAX: Duration = Duration::from_secs(60);
/// The largest answer read, in octets.
const ANSWER_OCTETS_MAX: usize = 1 << 20;
const HTTPS_PORT: u16 = 443;

type Failure = Box<dyn Error + Send + Sync>;

/// Makes the requests of the ACME library.
#[derive(Clone)]
pub(super) struct Https(TlsConnector);

impl Https {
    /// Trusts the public authorities and these.
    pub(super) fn new(authorities: &[CertificateDer<'static>]) -> Result<Self, AcmeError> {
        let settings = |error: rustls::Error| AcmeError::Settings(error.to_string());
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for authority in authorities {
            roots.add(authority.clone()).map_err(settings)?;
        }
        let config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(settings)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self(TlsConnector::from(Arc::new(config))))
    }
}

impl HttpClient for Https {
    fn request(
        &self,
        request: Request<BodyWrapper<Bytes>>,
    ) -> Pin<Box<dyn Future<Output = Result<BytesResponse, instant_acme::Error>> + Send>> {
        let connector = self.0.clone();
        Box::pin(async move {
            let uri = request.uri().clone();
            let exchanged = tokio::time::timeout(REQUEST_MAX, exchange(&connector, request)).await;
            let result = exchanged.unwrap_or_else(|_| Err("no answer in time".into()));
            result.map_err(|error| {
                instant_acme::Error::Other(format!("{uri} cannot be asked: {error}").into())
            })
        })
    }
}

async fn exchange(
    connector: &TlsConnector,
    request: Request<BodyWrapper<Bytes>>,
) -> Result<BytesResponse, Failure> {
    let (host, port) = place(request.uri())?;
    let stream = TcpStream::connect((host.as_str(), port)).await?;
    stream.set_nodelay(true)?;
    let stream = connector
        .connect(ServerName::try_from(host)?, stream)
        .await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    // It ends with `sender`.
    tokio::spawn(connection);
    let response = sender.send_request(to_origin(request).await?).await?;
    let (parts, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_OCTETS_MAX).collect().await?;
    let response = Response::from_parts(parts, Full::new(body.to_bytes()));
    Ok(BytesResponse::from(response))
}

/// Host and port of an address, which must be one of https.
fn place(uri: &Uri) -> Result<(String, u16), Failure> {
    if uri.scheme_str() != Some("https") {
        return Err("it does not begin with https://".into());
    }
    let host = uri.host().ok_or("it names no host")?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Ok((host.to_owned(), uri.port_u16().unwrap_or(HTTPS_PORT)))
}

/// The request as the server itself gets it: a path, and the name in a field of its own.
async fn to_origin(request: Request<BodyWrapper<Bytes>>) -> Result<Request<Full<Bytes>>, Failure> {
    let (mut parts, body) = request.into_parts();
    let authority = parts.uri.authority().ok_or("it names no host")?;
    let host = HeaderValue::from_str(authority.as_str())?;
    parts.headers.insert(HOST, host);
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = path.parse()?;
    let body = body.collect().await?.to_bytes();
    Ok(Request::from_parts(parts, Full::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_https_is_spoken_and_its_port_is_known() {
        let place = |text: &str| place(&text.parse().unwrap()).map_err(|error| error.to_string());
        assert_eq!(
            place("https://ca.test/directory"),
            Ok(("ca.test".to_owned(), 443))
        );
        assert_eq!(place("https://[::1]:14000/"), Ok(("::1".to_owned(), 14000)));
        assert!(place("http://ca.test/directory").is_err());
        assert!(place("/directory").is_err());
    }
}
