//! Answers challenges in a TLS handshake (RFC 8737), from the rows.
//!
//! Only who speaks `acme-tls/1` and asks for a name that is being proven gets a certificate: one made for the occasion.

use std::io;
use std::sync::Arc;

use nightmail_engine::Engine;
use rcgen::{CertificateParams, CustomExtension, DistinguishedName, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::Acceptor;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::LazyConfigAcceptor;

use super::http01::serve;
use super::rows::{self, Asked};
use crate::provider;

const PROTOCOL: &[u8] = b"acme-tls/1";
/// Octets of a key authorization's digest (SHA-256).
const DIGEST_OCTETS: usize = 32;

/// Answers on a listener until dropped.
pub async fn answer_tls(listener: TcpListener, rows: Arc<dyn Engine>) {
    serve(listener, rows, |stream, rows| async move {
        converse(stream, rows.as_ref()).await
    })
    .await;
}

async fn converse(stream: TcpStream, rows: &dyn Engine) -> io::Result<()> {
    let start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let hello = start.client_hello();
    let speaks = hello
        .alpn()
        .is_some_and(|mut offered| offered.any(|protocol| protocol == PROTOCOL));
    let name = hello.server_name().map(str::to_ascii_lowercase);
    let Some(name) = name.filter(|_| speaks) else {
        return Err(io::Error::other("this is no question of a challenge"));
    };
    let digest = rows::answer(rows, Asked::Name(&name))
        .await
        .map_err(io::Error::other)?
        .filter(|digest| digest.len() == DIGEST_OCTETS)
        .ok_or_else(|| io::Error::other(format!("{name} is not being proven")))?;
    let config = config(&name, &digest).map_err(io::Error::other)?;
    let mut stream = Box::pin(start.into_stream(Arc::new(config))).await?;
    stream.shutdown().await
}

/// Shows a certificate that names `name` and bears the digest (RFC 8737 §3).
fn config(
    name: &str,
    digest: &[u8],
) -> Result<ServerConfig, Box<dyn std::error::Error + Send + Sync>> {
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.custom_extensions = vec![CustomExtension::new_acme_identifier(digest)];
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    let provider = provider();
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let key = provider.key_provider.load_private_key(key)?;
    // Not looked through again: the extension is critical and means nothing to the TLS library.
    let shown = CertifiedKey::new(vec![certificate.der().clone()], key);
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)));
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acme::rows::ChallengeRow;
    use nightmail_core::Timestamp;
    use nightmail_engine::{Batch, Durability, MemoryEngine};
    use rustls::pki_types::ServerName;
    use rustls::{ClientConfig, RootCertStore};
    use tokio_rustls::TlsConnector;

    /// What a client without any trust is told by a server that proves a.test.
    async fn ask(name: &'static str, protocol: &[u8]) -> String {
        let engine = Arc::new(MemoryEngine::new());
        let row = ChallengeRow {
            answer: vec![7; DIGEST_OCTETS],
            until: Timestamp::from_secs(1),
        };
        let mut batch = Batch::new();
        batch.put(Asked::Name("a.test").key().unwrap(), row.encode());
        engine.commit(batch, Durability::Synced).await.unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(answer_tls(listener, engine));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(RootCertStore {
                roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
            })
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(address).await.unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        let name = ServerName::try_from(name).unwrap();
        let error = connector.connect(name, stream).await.unwrap_err();
        server.abort();
        error.to_string()
    }

    #[tokio::test]
    async fn only_the_right_question_gets_a_certificate() {
        let shown = ask("a.test", PROTOCOL).await;
        assert!(shown.contains("certificate"), "{shown}");
        for (name, protocol) in [("b.test", PROTOCOL), ("a.test", b"h2".as_slice())] {
            let shown = ask(name, protocol).await;
            assert!(!shown.contains("certificate"), "{shown}");
        }
    }

    #[test]
    fn the_certificate_bears_the_digest() {
        let digest = [9; DIGEST_OCTETS];
        config("a.test", &digest).unwrap();
        let extension = CustomExtension::new_acme_identifier(&digest);
        assert!(extension.content().ends_with(&digest));
    }
}
