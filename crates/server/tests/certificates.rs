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
use common::{Echo, SOON, bind, config, options};
use nightmail_server::config::Config;
use nightmail_server::net::Transport;
use nightmail_server::shutdown::shutdown_pair;
use nightmail_server::tls::{TlsContext, TlsError};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

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
    let made = rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap();
    fs::write(dir.join("a.crt"), made.cert.pem()).unwrap();
    fs::write(dir.join("a.key"), made.signing_key.serialize_pem()).unwrap();
}

fn configured(dir: &Path) -> Config {
    let mut config = config(dir, LOOPBACK);
    config.tls.certificate = Some(dir.join("a.crt"));
    config.tls.key = Some(dir.join("a.key"));
    config.tls.authorities = Some(dir.join("a.crt"));
    config
}

#[test]
fn a_self_signed_certificate_is_made_once_and_its_key_is_private() {
    let dir = tempfile::tempdir().unwrap();
    let config = config(dir.path(), LOOPBACK);
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
    let config = config(dir.path(), LOOPBACK);
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
