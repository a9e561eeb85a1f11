//! TLS towards other hosts: unverified where it is opportunistic (RFC 7435), verified towards a smarthost.

use std::sync::Arc;

use nightmail_smtp::TlsFacts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::DeliveryError;
use crate::options::DeliveryOptions;
use crate::route::{Protection, Target};

/// The two ways of doing TLS.
pub(crate) struct Tls {
    unverified: TlsConnector,
    verified: TlsConnector,
}

impl Tls {
    pub fn new(options: &DeliveryOptions) -> Result<Self, DeliveryError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut roots = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        for root in &options.trusted_roots {
            roots.add(root.clone()).map_err(setup)?;
        }
        let verified = builder(&provider)?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let anyone = Arc::new(Anyone {
            schemes: schemes(&provider),
        });
        let unverified = builder(&provider)?
            .dangerous()
            .with_custom_certificate_verifier(anyone)
            .with_no_client_auth();
        Ok(Self {
            unverified: TlsConnector::from(Arc::new(unverified)),
            verified: TlsConnector::from(Arc::new(verified)),
        })
    }

    /// Does the handshake with `target`. The error is for people.
    pub async fn connect(
        &self,
        target: &Target,
        stream: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, TlsFacts), String> {
        let is_verified = matches!(
            target.protection,
            Protection::StartTls | Protection::Implicit
        );
        let connector = if is_verified {
            &self.verified
        } else {
            &self.unverified
        };
        let name = ServerName::try_from(target.host.clone());
        let name = name.unwrap_or_else(|_| ServerName::IpAddress(target.address.ip().into()));
        let stream = connector
            .connect(name, stream)
            .await
            .map_err(|error| error.to_string())?;
        let (_, connection) = stream.get_ref();
        let text = |value: Option<String>| value.unwrap_or_default().into_boxed_str();
        let facts = TlsFacts {
            version: text(
                connection
                    .protocol_version()
                    .map(|version| format!("{version:?}")),
            ),
            cipher: text(
                connection
                    .negotiated_cipher_suite()
                    .map(|suite| format!("{:?}", suite.suite())),
            ),
            server_name: None,
            peer_verified: is_verified,
        };
        Ok((Box::new(stream), facts))
    }
}

fn setup(error: rustls::Error) -> DeliveryError {
    DeliveryError::Setup(format!("TLS: {error}"))
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, DeliveryError> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)
}

fn schemes(provider: &CryptoProvider) -> Vec<SignatureScheme> {
    provider
        .signature_verification_algorithms
        .supported_schemes()
}

/// Takes any certificate: the alternative to such TLS is none at all.
#[derive(Debug)]
struct Anyone {
    schemes: Vec<SignatureScheme>,
}

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}
