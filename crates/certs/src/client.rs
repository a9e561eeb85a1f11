//! Certificates of clients: asked for, never demanded.
//!
//! The handshake takes any certificate whose key the client holds; whether it counts is looked at when it is used
//! ([`ClientAuthorities::verify`]), also in a session that is resumed, where the handshake shows none.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use parking_lot::{Mutex, RwLock};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

use crate::error::CertificateError;
use crate::files::{changed, read_certificates};
use crate::provider;

/// Those who vouch for the certificates of clients. Cheap to clone; all clones see a reload.
#[derive(Clone, Debug)]
pub struct ClientAuthorities(Arc<Authorities>);

#[derive(Debug)]
struct Authorities {
    path: PathBuf,
    current: RwLock<Arc<dyn ClientCertVerifier>>,
    stamp: Mutex<Option<SystemTime>>,
    /// What clients are told to choose by; as of the start.
    hints: Vec<DistinguishedName>,
}

impl ClientAuthorities {
    /// Reads a PEM file of authorities.
    pub fn load(path: PathBuf) -> Result<Self, CertificateError> {
        let stamp = changed(&path);
        let verifier = verifier(&path)?;
        Ok(Self(Arc::new(Authorities {
            hints: verifier.root_hint_subjects().to_vec(),
            current: RwLock::new(verifier),
            stamp: Mutex::new(stamp),
            path,
        })))
    }

    /// Reads the file again. On failure the authorities in use stay.
    pub fn reload(&self) -> Result<(), CertificateError> {
        let stamp = changed(&self.0.path);
        let loaded = verifier(&self.0.path);
        *self.0.stamp.lock() = stamp;
        *self.0.current.write() = loaded?;
        Ok(())
    }

    /// Whether the file has changed since it was last read.
    pub fn is_stale(&self) -> bool {
        *self.0.stamp.lock() != changed(&self.0.path)
    }

    /// What asks clients for a certificate in the handshake, and lets everybody in.
    pub fn asking(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::new(Asking(Arc::clone(&self.0)))
    }

    /// Whether one of the authorities vouches now for the first certificate of a client's chain.
    pub fn verify(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((leaf, others)) = chain.split_first() else {
            return false;
        };
        let verifier = Arc::clone(&self.0.current.read());
        verifier
            .verify_client_cert(leaf, others, UnixTime::now())
            .is_ok()
    }
}

fn verifier(path: &std::path::Path) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let failed = |reason: String| CertificateError::Pem {
        path: path.to_owned(),
        wanted: "certificates of authorities",
        reason,
    };
    let mut roots = RootCertStore::empty();
    for authority in read_certificates(path)? {
        roots
            .add(authority)
            .map_err(|error| failed(error.to_string()))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| failed(error.to_string()))
}

/// Asks for a certificate and takes any. The client must hold its key.
#[derive(Debug)]
struct Asking(Arc<Authorities>);

impl Asking {
    fn verifier(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.0.current.read())
    }
}

/// A certificate that cannot be read proves nothing and can never be verified: it is as good as none.
fn lenient(
    certificate: &CertificateDer<'_>,
    result: Result<HandshakeSignatureValid, Error>,
) -> Result<HandshakeSignatureValid, Error> {
    match result {
        Err(_) if ParsedCertificate::try_from(certificate).is_err() => {
            Ok(HandshakeSignatureValid::assertion())
        }
        result => result,
    }
}

impl ClientCertVerifier for Asking {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.0.hints
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = self.verifier().verify_tls12_signature(message, cert, dss);
        lenient(cert, result)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let result = self.verifier().verify_tls13_signature(message, cert, dss);
        lenient(cert, result)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier().supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    fn authority() -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        (certificate.pem(), Issuer::new(params, key))
    }

    fn leaf(issuer: &Issuer<'_, KeyPair>) -> CertificateDer<'static> {
        let params = CertificateParams::new(vec!["ann.test".to_owned()]).unwrap();
        let key = KeyPair::generate().unwrap();
        params.signed_by(&key, issuer).unwrap().der().clone()
    }

    #[test]
    fn only_an_authority_in_the_file_vouches_also_after_it_was_changed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let ((first, one), (second, two)) = (authority(), authority());
        std::fs::write(&path, first).unwrap();
        let authorities = ClientAuthorities::load(path.clone()).unwrap();
        let (ours, others) = (leaf(&one), leaf(&two));
        assert!(authorities.verify(std::slice::from_ref(&ours)));
        assert!(!authorities.verify(std::slice::from_ref(&others)));
        assert!(!authorities.verify(&[]));
        assert!(!authorities.verify(&[CertificateDer::from(b"no certificate".to_vec())]));

        std::fs::write(&path, second).unwrap();
        authorities.reload().unwrap();
        assert!(authorities.verify(&[others]));
        std::fs::write(&path, "nothing").unwrap();
        assert!(authorities.reload().is_err());
        assert!(!authorities.verify(&[ours]));
    }
}
