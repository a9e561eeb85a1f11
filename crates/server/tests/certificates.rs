//! Certificates: made, loaded, reloaded, verified.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod common;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use common::client::OutboundContext;
use common::{Echo, SOON, bind, options};
use nightmail_server::config::{self, Config, Protocol};
use nightmail_server::net::{Peer, Stream, Transport};
use nightmail_server::shutdown::shutdown_pair;
use nightmail_server::tls::{TlsContext, TlsError};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};

const LOOPBACK: &str = "address = \"127.0.0.1:0\"";

/// Connects with TLS from the first octet to a server that uses `tls`.
async fn handshake(
    config: &Config,
    tls: &TlsContext,
    client: &Arc<ClientConfig>,
    name: &str,
) -> std::io::Result<()> {
    let listener = bind(config);
    let address = listener.tcp_address().unwrap();
    let mut options = options();
    options.implicit_tls = Some(Arc::clone(tls.server_config()));
    let (_stopper, shutdown) = shutdown_pair();
    let task = tokio::spawn(listener.serve(Echo::new(tls.clone(), SOON), options, shutdown));
    let mut transport = Transport::connect(address, SOON, SOON).await?;
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let result = transport.start_tls_as_client(client, name, SOON).await;
    task.abort();
    result
}

fn write_pair(dir: &Path, name: &str) {
    write_files(dir, "a", name);
}

fn write_files(dir: &Path, file: &str, name: &str) {
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    fs::write(dir.join(format!("{file}.crt")), made.cert.pem()).unwrap();
    fs::write(
        dir.join(format!("{file}.key")),
        made.signing_key.serialize_pem(),
    )
    .unwrap();
}

fn configured(dir: &Path) -> Config {
    let mut config = common::config(dir, LOOPBACK);
    config.tls.certificate = Some(dir.join("a.crt"));
    config.tls.key = Some(dir.join("a.key"));
    config.tls.authorities = Some(dir.join("a.crt"));
    config
}

#[test]
fn a_self_signed_certificate_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(dir.path(), LOOPBACK);
    TlsContext::load(&config).unwrap();
    let key = dir.path().join("self-signed.key");
    let mode = fs::metadata(&key).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let first = fs::read(&key).unwrap();
    TlsContext::load(&config).unwrap();
    assert_eq!(fs::read(&key).unwrap(), first);
}

#[tokio::test]
async fn a_self_signed_certificate_serves_those_who_take_any() {
    let dir = tempfile::tempdir().unwrap();
    let config = common::config(dir.path(), LOOPBACK);
    let tls = TlsContext::load(&config).unwrap();
    let out = OutboundContext::load(&config).unwrap();
    handshake(&config, &tls, &out.opportunistic, "other.test")
        .await
        .unwrap();
    let refused = handshake(&config, &tls, &out.verified, "mx.test")
        .await
        .unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::InvalidData);
}

#[tokio::test]
async fn a_configured_authority_vouches_for_its_names_only() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "relay.test");
    let config = configured(dir.path());
    let tls = TlsContext::load(&config).unwrap();
    let out = OutboundContext::load(&config).unwrap();
    handshake(&config, &tls, &out.verified, "relay.test")
        .await
        .unwrap();
    assert!(
        handshake(&config, &tls, &out.verified, "other.test")
            .await
            .is_err()
    );
}

#[tokio::test]
async fn changed_files_are_served_without_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "old.test");
    let config = configured(dir.path());
    let tls = TlsContext::load(&config).unwrap();
    assert!(!tls.reload_if_changed().unwrap());

    write_pair(dir.path(), "new.test");
    let later = SystemTime::now() + Duration::from_secs(10);
    for file in ["a.crt", "a.key"] {
        let file = fs::File::options()
            .write(true)
            .open(dir.path().join(file))
            .unwrap();
        file.set_modified(later).unwrap();
    }
    assert!(tls.reload_if_changed().unwrap());
    let out = OutboundContext::load(&config).unwrap();
    handshake(&config, &tls, &out.verified, "new.test")
        .await
        .unwrap();
}

#[tokio::test]
async fn broken_files_leave_the_certificate_in_use() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "relay.test");
    let config = configured(dir.path());
    let tls = TlsContext::load(&config).unwrap();
    let out = OutboundContext::load(&config).unwrap();
    fs::write(dir.path().join("a.crt"), "nothing").unwrap();
    assert!(matches!(tls.reload(), Err(TlsError::Pem { .. })));
    handshake(&config, &tls, &out.verified, "relay.test")
        .await
        .unwrap();
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "a.test");
    let other = rcgen::generate_simple_self_signed(vec!["b.test".to_owned()]).unwrap();
    fs::write(dir.path().join("a.key"), other.signing_key.serialize_pem()).unwrap();
    let error = TlsContext::load(&configured(dir.path())).unwrap_err();
    assert!(matches!(error, TlsError::Pair { .. }), "{error}");
}

#[tokio::test]
async fn each_name_gets_its_certificate() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "mx.test");
    write_files(dir.path(), "b", "other.test");
    let mut config = configured(dir.path());
    config.certificates.push(config::Certificate {
        certificate: Some(dir.path().join("b.crt")),
        key: Some(dir.path().join("b.key")),
        names: Vec::new(),
    });
    let tls = TlsContext::load(&config).unwrap();
    for (file, name) in [("a.crt", "mx.test"), ("b.crt", "other.test")] {
        config.tls.authorities = Some(dir.path().join(file));
        let out = OutboundContext::load(&config).unwrap();
        handshake(&config, &tls, &out.verified, name).await.unwrap();
        let other = ["mx.test", "other.test"].into_iter().find(|it| *it != name);
        let refused = handshake(&config, &tls, &out.verified, other.unwrap()).await;
        assert!(refused.is_err(), "{file} is not shown for {other:?}");
    }
}

/// Somebody who vouches for certificates of users.
struct UsersAuthority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl UsersAuthority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            pem,
            issuer: Issuer::new(params, key),
        }
    }

    /// A certificate for ann with its key.
    fn user(&self) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        let address = "ann@mx.test".try_into().unwrap();
        params.subject_alt_names.push(SanType::Rfc822Name(address));
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (certificate.der().clone(), key.into())
    }
}

/// Whom a server on a listener of a protocol takes a client with that certificate for.
async fn taken_for(
    tls: &TlsContext,
    protocol: Protocol,
    trusted: &Path,
    user: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
) -> Vec<String> {
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_file(trusted).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let client = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    let client = Arc::new(match user {
        Some((certificate, key)) => client
            .with_client_auth_cert(vec![certificate], key)
            .unwrap(),
        None => client.with_no_client_auth(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let connecting = async {
        let mut transport = Transport::connect(address, SOON, SOON).await.unwrap();
        let name = ServerName::try_from("mx.test").unwrap();
        let done = transport.start_tls_as_client(&client, name, SOON).await;
        done.unwrap();
        transport
    };
    let accepting = async {
        let (stream, peer) = listener.accept().await.unwrap();
        let session = nightmail_server::log::next_session();
        let mut transport = Transport::new(Stream::Tcp(stream), Peer::tcp(peer), session, SOON);
        let done = transport.start_tls(tls.config_for(protocol), SOON).await;
        done.unwrap();
        assert_eq!(transport.asked_name(), Some("mx.test"));
        transport
    };
    let (_client, server) = tokio::join!(connecting, accepting);
    let verified = tls.verified_client(&server);
    verified.map_or(Vec::new(), |der| nightmail_certs::client_addresses(der))
}

#[tokio::test]
async fn a_certificate_of_a_user_counts_where_users_log_in_and_an_authority_vouches_for_it() {
    let dir = tempfile::tempdir().unwrap();
    write_pair(dir.path(), "mx.test");
    let mut config = configured(dir.path());
    config.tls.client_certificates = config::ClientCertificates::Optional;
    assert!(matches!(
        TlsContext::load(&config),
        Err(TlsError::NoClientAuthorities)
    ));
    let (ours, others) = (UsersAuthority::new(), UsersAuthority::new());
    let authorities = dir.path().join("users.pem");
    fs::write(&authorities, &ours.pem).unwrap();
    config.tls.client_authorities = Some(authorities.clone());
    let tls = TlsContext::load(&config).unwrap();
    let trusted = dir.path().join("a.crt");
    for (protocol, user, addresses) in [
        (Protocol::Imap, Some(ours.user()), &["ann@mx.test"][..]),
        (Protocol::Pop3, Some(ours.user()), &["ann@mx.test"]),
        (Protocol::Submission, Some(ours.user()), &["ann@mx.test"]),
        (Protocol::Smtp, Some(ours.user()), &[]),
        (Protocol::Imap, Some(others.user()), &[]),
        (Protocol::Imap, None, &[]),
    ] {
        let found = taken_for(&tls, protocol, &trusted, user).await;
        assert_eq!(found, addresses, "{protocol}");
    }

    fs::write(&authorities, &others.pem).unwrap();
    tls.reload().unwrap();
    let found = taken_for(&tls, Protocol::Imap, &trusted, Some(ours.user())).await;
    assert!(found.is_empty(), "no longer vouched for: {found:?}");
}
