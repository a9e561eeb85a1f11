//! What a login can be bound to (RFC 5929, RFC 9266).

use aws_lc_rs::digest;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

/// `tls-server-end-point` of a certificate in DER (RFC 5929 §4.1): its hash by the algorithm of its signature, but never
/// by a weaker one than SHA-256. None where the signature has no such algorithm, as with Ed25519.
pub(super) fn end_point(der: &[u8]) -> Option<Vec<u8>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let signed_by = certificate.signature_algorithm.algorithm.to_id_string();
    let algorithm = match signed_by.as_str() {
        // MD5 and SHA-1 with RSA, SHA-1 with ECDSA; SHA-256 with either.
        "1.2.840.113549.1.1.4" | "1.2.840.113549.1.1.5" | "1.2.840.10045.4.1" => &digest::SHA256,
        "1.2.840.113549.1.1.11" | "1.2.840.10045.4.3.2" => &digest::SHA256,
        "1.2.840.113549.1.1.12" | "1.2.840.10045.4.3.3" => &digest::SHA384,
        "1.2.840.113549.1.1.13" | "1.2.840.10045.4.3.4" => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, der).as_ref().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};

    #[test]
    fn the_hash_is_that_of_the_signature() {
        for (algorithm, octets) in [(&PKCS_ECDSA_P256_SHA256, 32), (&PKCS_ECDSA_P384_SHA384, 48)] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let params = CertificateParams::new(vec!["x.test".into()]).unwrap();
            let certificate = params.self_signed(&key).unwrap();
            assert_eq!(end_point(certificate.der()).unwrap().len(), octets);
        }
        let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        let params = CertificateParams::new(vec!["x.test".into()]).unwrap();
        let certificate = params.self_signed(&key).unwrap();
        assert_eq!(end_point(certificate.der()), None);
        assert_eq!(end_point(b"no certificate"), None);
    }
}
