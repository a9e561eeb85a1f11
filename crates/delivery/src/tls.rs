//! TLS towards other hosts: unverified where it is opportunistic (RFC 7435), verified by authorities towards relays and
//! where a domain's policy asks for it (RFC 8461), by TLSA records where a host has them (RFC 7672).

use std::collections::BTreeMap;
use std::sync::Arc;

use nightmail_smtp::TlsFacts;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, ConfigBuilder, DigitallySignedStruct, RootCertStore, SignatureScheme,
    WantsVerifier,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::error::DeliveryError;
use crate::options::{ClientCertificate, DeliveryOptions};
use crate::route::Target;

/// A way of doing TLS.
#[derive(Clone)]
pub(crate) struct Guard {
    connector: TlsConnector,
    /// Whether the host has proven who it is, when the handshake is done.
    pub verified: bool,
}

/// How a connection is protected.
#[derive(Clone)]
pub(crate) enum Protection {
    /// Plain.
    None,
    /// STARTTLS if offered, unverified; plain when that fails.
    Opportunistic(Guard),
    /// STARTTLS or nothing.
    Required(Guard),
    /// TLS from the first byte.
    Implicit(Guard),
}

impl Protection {
    pub const fn guard(&self) -> Option<&Guard> {
        match self {
            Self::None => None,
            Self::Opportunistic(guard) | Self::Required(guard) | Self::Implicit(guard) => {
                Some(guard)
            }
        }
    }

    /// Whether mail goes only to a host that has proven who it is.
    pub const fn is_proven(&self) -> bool {
        match self {
            Self::None | Self::Opportunistic(_) => false,
            Self::Required(guard) | Self::Implicit(guard) => guard.verified,
        }
    }
}

/// A pair of ways: any certificate, or one that authorities vouch for.
struct Pair {
    unverified: Guard,
    verified: Guard,
}

/// The ways of doing TLS.
pub(crate) struct Tls {
    provider: Arc<CryptoProvider>,
    usual: Pair,
    /// Those of relays that are shown a certificate, by their names.
    relays: BTreeMap<String, Pair>,
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
        let roots = Arc::new(roots);
        let mut relays = BTreeMap::new();
        for (name, relay) in &options.relays {
            if let Some(certificate) = &relay.client_certificate {
                let pair = pair(&provider, &roots, Some(certificate))?;
                relays.insert(name.clone(), pair);
            }
        }
        Ok(Self {
            usual: pair(&provider, &roots, None)?,
            relays,
            provider,
        })
    }

    /// Any certificate will do, of the hosts of the relay of that name where there is one.
    pub fn unverified(&self, relay: Option<&str>) -> Guard {
        self.pair(relay).unverified.clone()
    }

    /// The certificate must be valid for the host.
    pub fn verified(&self, relay: Option<&str>) -> Guard {
        self.pair(relay).verified.clone()
    }

    fn pair(&self, relay: Option<&str>) -> &Pair {
        relay
            .and_then(|name| self.relays.get(name))
            .unwrap_or(&self.usual)
    }

    /// The certificate must satisfy `verifier`.
    pub fn verified_by(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
    ) -> Result<Guard, DeliveryError> {
        let config = builder(&self.provider)?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        Ok(guard(config, true))
    }

    /// Does the handshake with `target`. The error is for people.
    pub async fn connect(
        target: &Target,
        stream: TcpStream,
    ) -> Result<(Box<TlsStream<TcpStream>>, TlsFacts), rustls::Error> {
        let Some(guard) = target.protection.guard() else {
            return Err(rustls::Error::General("TLS is not wanted".into()));
        };
        let name = ServerName::try_from(target.server_name.clone());
        let name = name.unwrap_or_else(|_| ServerName::IpAddress(target.address.ip().into()));
        let stream = guard.connector.connect(name, stream).await;
        let stream = stream.map_err(|error| as_tls_error(&error))?;
        let (_, connection) = stream.get_ref();
        let text = |value: Option<String>| value.unwrap_or_default().into_boxed_str();
        let version = connection.protocol_version();
        let suite = connection.negotiated_cipher_suite();
        let facts = TlsFacts {
            version: text(version.map(|version| format!("{version:?}"))),
            cipher: text(suite.map(|suite| format!("{:?}", suite.suite()))),
            server_name: None,
            peer_verified: guard.verified,
        };
        Ok((Box::new(stream), facts))
    }
}

/// What went wrong in a handshake, as far as it is TLS's.
fn as_tls_error(error: &std::io::Error) -> rustls::Error {
    let inner = error.get_ref();
    let known = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
    known
        .cloned()
        .unwrap_or_else(|| rustls::Error::General(error.to_string()))
}

fn setup(error: rustls::Error) -> DeliveryError {
    DeliveryError::Setup(format!("TLS: {error}"))
}

fn builder(
    provider: &Arc<CryptoProvider>,
) -> Result<ConfigBuilder<ClientConfig, WantsVerifier>, DeliveryError> {
    ClientConfig::builder_with_provider(Arc::clone(provider))
        .with_safe_default_protocol_versions()
        .map_err(setup)
}

fn guard(config: ClientConfig, verified: bool) -> Guard {
    Guard {
        connector: TlsConnector::from(Arc::new(config)),
        verified,
    }
}

fn pair(
    provider: &Arc<CryptoProvider>,
    roots: &Arc<RootCertStore>,
    certificate: Option<&ClientCertificate>,
) -> Result<Pair, DeliveryError> {
    let anyone = Arc::new(Anyone {
        schemes: schemes(provider),
    });
    let unverified = builder(provider)?
        .dangerous()
        .with_custom_certificate_verifier(anyone);
    let verified = builder(provider)?.with_root_certificates(Arc::clone(roots));
    let (unverified, verified) = match certificate {
        None => (
            unverified.with_no_client_auth(),
            verified.with_no_client_auth(),
        ),
        Some(shown) => {
            let chain = || shown.chain.clone();
            let unverified = unverified.with_client_auth_cert(chain(), shown.key.clone_key());
            let verified = verified.with_client_auth_cert(chain(), shown.key.clone_key());
            (unverified.map_err(setup)?, verified.map_err(setup)?)
        }
    };
    Ok(Pair {
        unverified: guard(unverified, false),
        verified: guard(verified, true),
    })
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
